# A Nomad agent, client or server or both. It finds the others through Consul.
name                 = ${name}
region               = ${region}
datacenter           = ${datacenter}
data_dir             = ${data_dir}
bind_addr            = ${bind_addr}
disable_update_check = true

advertise {
  http = ${advertise_addr}
  rpc  = ${advertise_addr}
  serf = ${advertise_addr}
}

ports {
  http = ${http_port}
  rpc  = ${rpc_port}
  serf = ${serf_port}
}

consul {
  address = ${consul_addr}
}

# A Consul agent, client or server. DNS is for this machine and its containers: see docs/cluster.md.
datacenter           = ${datacenter}
node_name            = ${node_name}
data_dir             = ${data_dir}
bind_addr            = ${bind_addr}
client_addr          = ${client_addr}
disable_update_check = true

ports {
  http     = ${http_port}
  dns      = ${dns_port}
  grpc     = -1
  server   = ${server_port}
  serf_lan = ${serf_port}
  serf_wan = -1
}

# Each template of each task on this machine keeps a connection open; the default is 200.
limits {
  http_max_conns_per_client = 4096
}

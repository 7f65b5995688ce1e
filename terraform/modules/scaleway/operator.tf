# Addresses, and what the person at the shell gets of them.

locals {
  scheme         = var.tls_enabled ? "https" : "http"
  server         = scaleway_instance_ip.machine[module.config.first_server].address
  nomad_addr     = "${local.scheme}://${local.server}:${module.config.ports.nomad}"
  consul_addr    = "${local.scheme}://${local.server}:${module.config.ports.consul}"
  fabio          = "${scaleway_lb_ip.queries.ip_address}:${module.config.ports.fabio_http}"
  fabio_tcp_addr = "fabio.service.consul:${module.config.ports.fabio_tcp}"
}

module "operator" {
  source = "../operator"

  folder = coalesce(var.operator_dir, "clipper-${var.name}")
  over_ssh = {
    for name, machine in module.config.machines : name => { id = scaleway_instance_server.machine[name].id, role = machine.role, index = machine.index, host = "root@${scaleway_instance_ip.machine[name].address}" }
  }
  nomad_addr     = local.nomad_addr
  consul_addr    = local.consul_addr
  fabio          = local.fabio
  fabio_tcp_addr = local.fabio_tcp_addr
  operator_env   = module.config.operator_env

  depends_on = [scaleway_instance_private_nic.machine] # without it servers do not find each other
}

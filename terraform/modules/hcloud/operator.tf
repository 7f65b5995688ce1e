# Addresses, and what the person at the shell gets of them.

locals {
  scheme         = var.tls_enabled ? "https" : "http"
  server         = hcloud_server.machine[module.config.first_server].ipv4_address
  nomad_addr     = "${local.scheme}://${local.server}:${module.config.ports.nomad}"
  consul_addr    = "${local.scheme}://${local.server}:${module.config.ports.consul}"
  fabio          = "${var.balancer_type == null ? hcloud_server.machine["${var.name}-lb-0"].ipv4_address : hcloud_load_balancer.queries[0].ipv4}:${module.config.ports.fabio_http}"
  fabio_tcp_addr = "fabio.service.consul:${module.config.ports.fabio_tcp}"
}

module "operator" {
  source = "../operator"

  folder = coalesce(var.operator_dir, "clipper-${var.name}")
  over_ssh = {
    for name, machine in module.config.machines : name => { id = hcloud_server.machine[name].id, role = machine.role, index = machine.index, host = "root@${hcloud_server.machine[name].ipv4_address}" }
  }
  nomad_addr     = local.nomad_addr
  consul_addr    = local.consul_addr
  fabio          = local.fabio
  fabio_tcp_addr = local.fabio_tcp_addr
  operator_env   = module.config.operator_env
}

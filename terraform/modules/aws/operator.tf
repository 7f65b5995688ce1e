# Addresses, and what the person at the shell gets of them.

locals {
  scheme         = var.tls_enabled ? "https" : "http"
  server         = var.public ? aws_instance.machine[module.config.first_server].public_ip : aws_instance.machine[module.config.first_server].private_ip
  nomad_addr     = "${local.scheme}://${local.server}:${module.config.ports.nomad}"
  consul_addr    = "${local.scheme}://${local.server}:${module.config.ports.consul}"
  fabio          = "${aws_lb.queries.dns_name}:${module.config.ports.fabio_http}"
  fabio_tcp_addr = "fabio.service.consul:${module.config.ports.fabio_tcp}"
}

module "operator" {
  source = "../operator"

  folder         = coalesce(var.operator_dir, "clipper-${var.name}")
  receive        = "sh '${abspath("${path.module}/files/receive")}' '${abspath(coalesce(var.operator_dir, "clipper-${var.name}"))}' ${local.receive_command}"
  nomad_addr     = local.nomad_addr
  consul_addr    = local.consul_addr
  fabio          = local.fabio
  fabio_tcp_addr = local.fabio_tcp_addr
  operator_env   = module.config.operator_env
}

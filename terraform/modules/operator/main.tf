# What the person at the shell gets: the secrets handed on over SSH where machines have no store for them, the operator's
# in a folder of this machine, and the variables that `clipper-nomad`, `nomad` and `consul` read. No secret reaches
# Terraform: scripts carry them.

terraform {
  required_version = ">= 1.7"
}

locals {
  distribute = "${path.module}/../cluster-config/scripts/distribute"
  first      = var.over_ssh == null ? null : one([for machine in values(var.over_ssh) : machine if machine.role == "server" && machine.index == 0])
  others     = var.over_ssh == null ? [] : [for machine in values(var.over_ssh) : machine if !(machine.role == "server" && machine.index == 0)]
  folder     = abspath(var.folder)
  # Fills the folder where it is not filled yet: with the state in another place, or by somebody else.
  receive = var.over_ssh == null ? var.receive : "sh '${abspath(local.distribute)}' '${local.first.host}' operator='${local.folder}'"

  env = merge(
    {
      NOMAD_ADDR        = var.nomad_addr
      CONSUL_HTTP_ADDR  = var.consul_addr
      CLIPPER_FABIO     = var.fabio
      CLIPPER_FABIO_TCP = var.fabio_tcp_addr
    },
    var.operator_env,
    startswith(var.nomad_addr, "https:") ? { NOMAD_CACERT = "${local.folder}/ca.pem", CONSUL_CACERT = "${local.folder}/ca.pem" } : {},
  )
}

resource "terraform_data" "secrets" { # again when a machine is new
  count            = var.over_ssh == null ? 0 : 1
  triggers_replace = { for name, machine in var.over_ssh : name => machine.id }

  provisioner "local-exec" {
    command = join(" ", concat(
      ["sh '${local.distribute}' '${local.first.host}'"],
      [for machine in local.others : "'${machine.role}=${machine.host}'"],
      ["operator='${local.folder}'"],
    ))
  }
}

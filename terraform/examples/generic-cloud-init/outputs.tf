output "user_data" {
  description = "What each machine is to be started with, by its name."
  value       = { for name, machine in module.config.machines : name => machine.user_data }
}

output "firewall_rules" {
  description = "What must be let in, all else being closed."
  value       = module.config.firewall_rules
}

output "env" {
  description = "For a shell: `eval \"$(terraform output -raw env)\"`, then `clipper-nomad doctor`."
  value = join("\n", concat(
    [
      "export NOMAD_ADDR=https://${var.server_addresses[0]}:${module.config.ports.nomad}",
      "export CONSUL_HTTP_ADDR=${var.server_addresses[0]}:${module.config.ports.consul}",
      "export CLIPPER_FABIO=${var.load_balancer_address}:${module.config.ports.fabio_http}",
      "export CLIPPER_FABIO_TCP=fabio.service.consul:${module.config.ports.fabio_tcp}",
      "export NOMAD_CACERT=${local.secrets_folder}/ca.pem CONSUL_CACERT=${local.secrets_folder}/ca.pem",
    ],
    [for name, value in module.config.operator_env : "export ${name}=${value}"],
    [". ${local.secrets_folder}/env", ""],
  ))
}

locals {
  secrets_folder = pathexpand(var.secrets_folder)
}

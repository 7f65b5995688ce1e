output "nomad_addr" {
  description = "URL of Nomad's API, at the first server."
  value       = local.nomad_addr
}

output "consul_addr" {
  description = "URL of Consul's API, at the first server."
  value       = local.consul_addr
}

output "fabio_http_url" {
  description = "What URLs of queries begin with."
  value       = "http://${local.fabio}"
}

output "fabio_tcp_addr" {
  description = "Where replicas reach Fabio's TCP port: its name in Consul, which only the machines know."
  value       = local.fabio_tcp_addr
}

output "env" {
  description = "For the shell: eval \"$(terraform output -raw env)\", then clipper-nomad doctor. No secret is in it; it reads the operator's from `operator_dir`."
  value       = module.operator.env
}

output "machines" {
  description = "Each machine by its name: role, private and public address."
  value = {
    for name, machine in module.config.machines : name => {
      role       = machine.role
      private_ip = local.addresses[name]
      public_ip  = scaleway_instance_ip.machine[name].address
    }
  }
}

output "summary" {
  description = "The cluster in a few lines, the last ones of `terraform plan`."
  value = [
    "${var.name}: ${join(", ", [for role, count in { server = var.servers, client = var.clients, load_balancer = var.load_balancers } : "${count} ${replace(role, "_", " ")}${count == 1 ? "" : "s"} (${var.instance_types[role]})"])}",
    "${join(", ", var.allowed_cidrs)} reach SSH, Nomad (${module.config.ports.nomad}) and Consul (${module.config.ports.consul})",
    "${join(", ", var.query_cidrs)} reach Fabio (${module.config.ports.fabio_http})",
    "${join(", ", [for name, release in var.releases : "${name} ${release.version}"])}; TLS ${var.tls_enabled ? "on" : "off"}, ACLs ${var.acl_enabled ? "on" : "off"}",
  ]
}

output "nomad_policies" {
  description = "Nomad's policies: cluster → name. A token: nomad acl token create -type client -policy NAME."
  value       = { for cluster, policy in nomad_acl_policy.toolkit : cluster => policy.name }
}

output "consul_policies" {
  description = "Consul's policies: toolkit and fabio. A token: consul acl token create -policy-name NAME."
  value       = var.consul_acl ? { toolkit = consul_acl_policy.toolkit[0].name, fabio = consul_acl_policy.fabio[0].name } : {}
}

output "fabio_job" {
  description = "Nomad's job of Fabio, null without."
  value       = one(nomad_job.fabio[*].id)
}

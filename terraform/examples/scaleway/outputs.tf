output "nomad_addr" {
  description = "URL of Nomad's API."
  value       = module.clipper.nomad_addr
}

output "consul_addr" {
  description = "URL of Consul's API."
  value       = module.clipper.consul_addr
}

output "fabio_http_url" {
  description = "What URLs of queries begin with."
  value       = module.clipper.fabio_http_url
}

output "fabio_tcp_addr" {
  description = "Where replicas reach Fabio's TCP port."
  value       = module.clipper.fabio_tcp_addr
}

output "env" {
  description = "For the shell: eval \"$(terraform output -raw env)\""
  value       = module.clipper.env
}

output "summary" {
  description = "The cluster in a few lines, the last ones of `terraform plan`."
  value       = module.clipper.summary
}

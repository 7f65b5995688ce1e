output "nomad_addr" {
  description = "URL of Nomad's API."
  value       = var.nomad_addr
}

output "consul_addr" {
  description = "URL of Consul's API."
  value       = var.consul_addr
}

output "fabio_http_url" {
  description = "What URLs of queries begin with."
  value       = "http://${var.fabio_host}:9999"
}

output "fabio_tcp_addr" {
  description = "Where replicas reach Fabio's TCP port."
  value       = "${var.fabio_host}:7000"
}

output "env" {
  description = "For the shell: eval \"$(terraform output -raw env)\". Tokens are yours to set: NOMAD_TOKEN, CONSUL_HTTP_TOKEN."
  value = join("\n", [
    "export NOMAD_ADDR='${var.nomad_addr}'",
    "export CONSUL_HTTP_ADDR='${var.consul_addr}'",
    "export CLIPPER_FABIO='${var.fabio_host}'",
    "",
  ])
}

output "nomad_policies" {
  description = "Nomad's policies: cluster → name."
  value       = module.clipper.nomad_policies
}

output "consul_policies" {
  description = "Consul's policies: of who runs a cluster, and of Fabio."
  value       = module.clipper.consul_policies
}

# What clipper-nomad needs of a Nomad and a Consul that are there: policies for whoever has a token, and a Fabio where
# there is none. The policies are the files of cluster-config, the same that new clusters get. No token is made here:
# Terraform would keep it in its state.

locals {
  policies  = "${path.module}/../cluster-config/policies"
  anonymous = "00000000-0000-0000-0000-000000000002" # Consul's own name for whoever has no token
}

resource "nomad_acl_policy" "toolkit" {
  for_each    = var.nomad_acl ? var.clusters : []
  name        = "clipper-${each.key}"
  description = "clipper-nomad: to run the cluster ${each.key}"
  rules_hcl   = templatefile("${local.policies}/nomad-toolkit.hcl", { cluster = each.key, namespace = var.namespace })
}

resource "consul_acl_policy" "toolkit" {
  count       = var.consul_acl ? 1 : 0
  name        = "clipper-toolkit"
  description = "clipper-nomad: to run a cluster"
  rules       = file("${local.policies}/consul-toolkit.hcl")
}

resource "consul_acl_policy" "fabio" {
  count       = var.consul_acl ? 1 : 0
  name        = "clipper-fabio"
  description = "clipper-nomad: of Fabio"
  rules       = file("${local.policies}/consul-fabio.hcl")
}

resource "consul_acl_policy" "anonymous" {
  count       = var.consul_acl && var.anonymous_reads ? 1 : 0
  name        = "clipper-anonymous"
  description = "clipper-nomad: what Nomad's templates and Consul's DNS read without a token"
  rules       = file("${local.policies}/consul-anonymous.hcl")
}

resource "consul_acl_token_policy_attachment" "anonymous" {
  count    = var.consul_acl && var.anonymous_reads ? 1 : 0
  token_id = local.anonymous
  policy   = consul_acl_policy.anonymous[0].name
}

resource "nomad_job" "fabio" {
  count = var.fabio == null ? 0 : 1
  jobspec = var.fabio == null ? "" : templatefile("${path.module}/files/fabio.nomad.hcl", {
    job         = jsonencode(var.fabio.job)
    namespace   = jsonencode(var.namespace)
    datacenters = jsonencode(var.fabio.datacenters)
    node_pool   = jsonencode(var.fabio.node_pool)
    image       = jsonencode(var.fabio.image)
    http_port   = var.fabio.http_port
    tcp_port    = var.fabio.tcp_port
    open_files  = jsonencode("${var.fabio.open_files}:${var.fabio.open_files}")
    properties  = jsonencode(local.fabio_properties)
  })
}

locals {
  fabio_properties = var.fabio == null ? "" : join("", [
    templatefile("${path.module}/../cluster-config/templates/fabio/fabio.properties", {
      listeners   = ":${var.fabio.http_port};rt=30s;it=75s,:${var.fabio.tcp_port};proto=tcp"
      admin_addr  = "127.0.0.1:${var.fabio.admin_port}"
      consul_addr = var.fabio.consul_address
    }),
    # A token comes from the job's Variable, where somebody put it; Terraform never sees it.
    var.fabio.has_consul_token ? "registry.consul.token = {{ with nomadVar \"nomad/jobs/${var.fabio.job}\" }}{{ .consul_token }}{{ end }}\n" : "",
  ])
}

# A cluster of Nomad, Consul and Fabio on AWS. What runs on a machine is cluster-config's; here is what AWS adds:
# network.tf, firewall.tf, machines.tf, secrets.tf (SSM and the machines' rights), balancer.tf.

data "aws_region" "here" {}
data "aws_partition" "here" {}

locals {
  tags = merge(var.tags, { "clipper-cluster" = var.name })
  # Which machines are servers; those that join look for this tag.
  join_tag = { key = "clipper-join", value = "${var.name}-server" }
}

module "config" {
  source = "../cluster-config"

  name              = var.name
  datacenter        = var.datacenter
  region            = var.region
  servers           = var.servers
  clients           = var.clients
  load_balancers    = var.load_balancers
  releases          = var.releases
  release_mirror    = var.release_mirror
  allowed_cidrs     = var.allowed_cidrs
  query_cidrs       = var.query_cidrs
  tls_enabled       = var.tls_enabled
  acl_enabled       = var.acl_enabled
  docker_registries = var.docker_registries
  docker_bridge     = var.docker_bridge
  host_volumes      = var.host_volumes
  node_pools        = var.node_pools
  private_cidr      = local.private_cidr
  retry_join = [join(" ", [
    "provider=aws addr_type=private_v4 region=${data.aws_region.here.id}",
    "tag_key=${local.join_tag.key} tag_value=${local.join_tag.value}",
  ])]
  secrets = local.secret_commands
}

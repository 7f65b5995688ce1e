# A Nomad and a Consul that are there: the policies that clipper-nomad needs, and a Fabio if there is none. Nothing else of
# the cluster is touched.

terraform {
  required_version = ">= 1.7"

  required_providers {
    consul = {
      source  = "hashicorp/consul"
      version = ">= 2.20, < 3.0"
    }
    nomad = {
      source  = "hashicorp/nomad"
      version = ">= 2.0, < 3.0"
    }
  }
}

provider "nomad" { # its token: NOMAD_TOKEN, of who may make policies
  address = var.nomad_addr
}

provider "consul" { # its token: CONSUL_HTTP_TOKEN, of who may make policies
  address = var.consul_addr
}

module "clipper" {
  source = "../../modules/existing-cluster"

  clusters   = var.clusters
  nomad_acl  = var.nomad_acl
  consul_acl = var.consul_acl

  # Without a Fabio, start one on every client:
  # fabio = { image = "fabiolb/fabio:1.7.3", has_consul_token = true }
}

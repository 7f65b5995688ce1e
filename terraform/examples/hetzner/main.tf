# A cluster on Hetzner Cloud, with three servers, three clients and two machines with Fabio.

terraform {
  required_version = ">= 1.7"

  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = ">= 1.50, < 2.0"
    }
  }
}

provider "hcloud" {} # HCLOUD_TOKEN

module "clipper" {
  source = "../../modules/hcloud"

  name           = var.name
  servers        = 3
  clients        = 3
  load_balancers = 2
  allowed_cidrs  = var.allowed_cidrs
  query_cidrs    = var.query_cidrs
  releases       = var.releases
  location       = var.location
  network_zone   = var.network_zone
  ssh_keys       = var.ssh_keys

  server_types = { server = "cx23", client = "ccx23", load_balancer = "cx23" }

  host_volumes = [ # of every client; clipper-nomad up --redis-volume clipper-redis --bundle-volume clipper-bundles
    { name = "clipper-redis", path = "/var/lib/clipper/redis" },
    { name = "clipper-bundles", path = "/var/lib/clipper/bundles" },
  ]
}

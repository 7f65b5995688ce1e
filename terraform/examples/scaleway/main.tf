# A cluster on Scaleway, with three servers, three clients and two machines with Fabio.

terraform {
  required_version = ">= 1.7"

  required_providers {
    scaleway = {
      source  = "scaleway/scaleway"
      version = ">= 2.48, < 3.0"
    }
  }
}

provider "scaleway" {
  region = var.region
  zone   = var.zone
}

module "clipper" {
  source = "../../modules/scaleway"

  name           = var.name
  servers        = 3
  clients        = 3
  load_balancers = 2
  allowed_cidrs  = var.allowed_cidrs
  query_cidrs    = var.query_cidrs
  releases       = var.releases

  instance_types = { server = "PLAY2-NANO", client = "POP2-4C-16G", load_balancer = "PLAY2-NANO" }

  host_volumes = [ # of every client; clipper-nomad up --redis-volume clipper-redis --bundle-volume clipper-bundles
    { name = "clipper-redis", path = "/var/lib/clipper/redis" },
    { name = "clipper-bundles", path = "/var/lib/clipper/bundles" },
  ]
}

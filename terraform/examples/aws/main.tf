# A cluster on AWS, with three servers, three clients and two machines with Fabio.

terraform {
  required_version = ">= 1.7"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7.0"
    }
  }
}

provider "aws" {
  region = var.aws_region
}

module "clipper" {
  source = "../../modules/aws"

  name           = var.name
  servers        = 3
  clients        = 3
  load_balancers = 2
  allowed_cidrs  = var.allowed_cidrs
  query_cidrs    = var.query_cidrs
  releases       = var.releases
  key_name       = var.key_name

  instance_types = { server = "t3.small", client = "m6i.xlarge", load_balancer = "t3.small" }

  host_volumes = [ # of every client; clipper-nomad up --redis-volume clipper-redis --bundle-volume clipper-bundles
    { name = "clipper-redis", path = "/var/lib/clipper/redis" },
    { name = "clipper-bundles", path = "/var/lib/clipper/bundles" },
  ]
}

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

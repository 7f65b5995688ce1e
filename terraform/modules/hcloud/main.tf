# A cluster of Nomad, Consul and Fabio on Hetzner Cloud. What runs on a machine is cluster-config's; here is what Hetzner
# adds: machines in a private network with addresses known beforehand, firewalls, and secrets handed out over SSH.

locals {
  labels = merge(var.labels, { "clipper-cluster" = var.name })
  # Hetzner keeps .1 for its gateway; each role has a range of its own, so that a machine more moves no other.
  first_host = { server = 10, load_balancer = 20, client = 50 }
  addresses  = { for name, machine in module.config.machines : name => cidrhost(var.network_cidr, local.first_host[machine.role] + machine.index) }
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
  private_cidr      = var.network_cidr
  retry_join        = [for index in range(var.servers) : cidrhost(var.network_cidr, local.first_host.server + index)]
}

resource "hcloud_network" "cluster" {
  name     = var.name
  ip_range = var.network_cidr
  labels   = local.labels
}

resource "hcloud_network_subnet" "cluster" {
  network_id   = hcloud_network.cluster.id
  type         = "cloud"
  network_zone = var.network_zone
  ip_range     = var.network_cidr
}

# What comes in from the internet; Hetzner filters nothing in a private network.
resource "hcloud_firewall" "role" {
  for_each = toset([for machine in values(module.config.machines) : machine.role])
  name     = "${var.name}-${replace(each.key, "_", "-")}"
  labels   = local.labels

  dynamic "rule" {
    for_each = [for rule in module.config.firewall_rules : rule if rule.role == each.key]

    content {
      direction   = "in"
      description = rule.value.description
      protocol    = rule.value.protocol
      port        = rule.value.protocol == "icmp" ? null : rule.value.from_port == rule.value.to_port ? tostring(rule.value.from_port) : "${rule.value.from_port}-${rule.value.to_port}"
      source_ips  = rule.value.cidrs
    }
  }
}

resource "hcloud_placement_group" "role" { # no two of a role on one host, up to Hetzner's limit of ten
  for_each = toset([for machine in values(module.config.machines) : machine.role if machine.role != "client"])
  name     = "${var.name}-${replace(each.key, "_", "-")}"
  type     = "spread"
  labels   = local.labels
}

resource "hcloud_server" "machine" {
  for_each           = module.config.machines
  name               = each.key
  server_type        = var.server_types[each.value.role]
  image              = var.image
  location           = var.location
  ssh_keys           = var.ssh_keys
  firewall_ids       = [hcloud_firewall.role[each.value.role].id]
  placement_group_id = each.value.role == "client" ? null : hcloud_placement_group.role[each.value.role].id
  labels             = merge(local.labels, { "clipper-role" = replace(each.value.role, "_", "-") })
  user_data          = each.value.user_data_gzip # cloud-init decodes it on Hetzner

  public_net {
    ipv4_enabled = true
    ipv6_enabled = false
  }

  network {
    subnet_id = hcloud_network_subnet.cluster.id
    ip        = local.addresses[each.key]
    alias_ips = [] # or each apply would detach the network
  }

  lifecycle {
    # Another image, key or configuration would replace all machines at once, servers and their data among them.
    # README.md, "Changing a machine", says how to do it one by one.
    ignore_changes = [image, ssh_keys, user_data]

    precondition {
      condition     = length(each.value.user_data_gzip) <= 32768
      error_message = "The user data of ${each.key} has ${length(each.value.user_data_gzip)} bytes; Hetzner takes 32768. Shorten what varies: docker_registries, host_volumes, allowed_cidrs."
    }
  }
}

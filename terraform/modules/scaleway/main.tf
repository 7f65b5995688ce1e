# A cluster of Nomad, Consul and Fabio on Scaleway. What runs on a machine is cluster-config's; here is what Scaleway
# adds: machines in a private network with addresses known beforehand, security groups, and secrets handed out over SSH.

locals {
  tags = concat(var.tags, ["clipper-cluster=${var.name}"])
  # Each role has a range of addresses of its own, so that a machine more moves no other.
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

resource "scaleway_vpc" "cluster" {
  name = var.name
  tags = local.tags
}

resource "scaleway_vpc_private_network" "cluster" {
  name   = var.name
  vpc_id = scaleway_vpc.cluster.id
  tags   = local.tags

  ipv4_subnet {
    subnet = var.network_cidr
  }
}

# What comes in from the internet; Scaleway filters nothing in a private network.
resource "scaleway_instance_security_group" "role" {
  for_each                = toset([for machine in values(module.config.machines) : machine.role])
  name                    = "${var.name}-${replace(each.key, "_", "-")}"
  description             = "${var.name}: ${replace(each.key, "_", " ")}s"
  inbound_default_policy  = "drop"
  outbound_default_policy = "accept"
  stateful                = true
  tags                    = local.tags

  dynamic "inbound_rule" {
    for_each = flatten([
      for rule in module.config.firewall_rules : [for cidr in rule.cidrs : merge(rule, { cidr = cidr })] if rule.role == each.key
    ])

    content {
      action     = "accept"
      protocol   = upper(inbound_rule.value.protocol)
      port_range = inbound_rule.value.protocol == "icmp" ? null : "${inbound_rule.value.from_port}-${inbound_rule.value.to_port}"
      ip_range   = inbound_rule.value.cidr
    }
  }
}

resource "scaleway_instance_placement_group" "role" { # no two of a role on one host, where there is room for it
  for_each    = toset([for machine in values(module.config.machines) : machine.role if machine.role != "client"])
  name        = "${var.name}-${replace(each.key, "_", "-")}"
  policy_type = "max_availability"
  tags        = local.tags
}

resource "scaleway_instance_ip" "machine" {
  for_each = module.config.machines
  type     = "routed_ipv4"
  tags     = concat(local.tags, [each.key])
}

resource "scaleway_ipam_ip" "machine" {
  for_each = module.config.machines
  address  = local.addresses[each.key]
  tags     = concat(local.tags, [each.key])

  source {
    private_network_id = scaleway_vpc_private_network.cluster.id
  }
}

resource "scaleway_instance_server" "machine" {
  for_each           = module.config.machines
  name               = each.key
  type               = var.instance_types[each.value.role]
  image              = var.image
  ip_ids             = [scaleway_instance_ip.machine[each.key].id]
  security_group_id  = scaleway_instance_security_group.role[each.value.role].id
  placement_group_id = each.value.role == "client" ? null : scaleway_instance_placement_group.role[each.value.role].id
  tags               = concat(local.tags, ["clipper-role=${each.value.role}"])
  user_data          = { cloud-init = sensitive(each.value.user_data) } # no secret; so that a plan can be read

  root_volume {
    size_in_gb            = var.disk_gb[each.value.role]
    volume_type           = "sbs_volume"
    delete_on_termination = true
  }

  lifecycle {
    # Another image would replace all machines at once, servers and their data among them; another configuration would
    # have no effect, since cloud-init runs once. README.md, "Changing a machine", says how to do it one by one.
    ignore_changes = [image, user_data]
  }
}

resource "scaleway_instance_private_nic" "machine" {
  for_each           = module.config.machines
  server_id          = scaleway_instance_server.machine[each.key].id
  private_network_id = scaleway_vpc_private_network.cluster.id
  ipam_ip_ids        = [scaleway_ipam_ip.machine[each.key].id]
}

# What must hold of everything that is made on Scaleway. Plans only: an apply would hand out secrets over SSH.

mock_provider "scaleway" {}

variables {
  name           = "ml"
  clients        = 2
  load_balancers = 2
  allowed_cidrs  = ["198.51.100.0/24"]
  query_cidrs    = ["203.0.113.0/24"]
  releases = {
    consul = { version = "1.22.7", sha256 = { amd64 = "1111111111111111111111111111111111111111111111111111111111111111" } }
    nomad  = { version = "1.11.3", sha256 = { amd64 = "2222222222222222222222222222222222222222222222222222222222222222" } }
    fabio  = { version = "1.7.3", sha256 = { amd64 = "3333333333333333333333333333333333333333333333333333333333333333" } }
  }
}

run "what_is_not_allowed_is_dropped" {
  command = plan

  assert {
    condition     = alltrue([for group in scaleway_instance_security_group.role : group.inbound_default_policy == "drop" && group.stateful])
    error_message = "What no rule lets in must be dropped."
  }
  assert {
    condition     = toset([for rule in scaleway_instance_security_group.role["server"].inbound_rule : rule.port_range if rule.ip_range == "198.51.100.0/24"]) == toset(["22-22", "4646-4646", "8501-8501"])
    error_message = "allowed_cidrs must reach SSH, Nomad and Consul."
  }
  assert {
    condition = alltrue(flatten([
      for group in scaleway_instance_security_group.role : [for rule in group.inbound_rule : rule.ip_range != null && rule.ip_range != "" && rule.action == "accept"]
    ]))
    error_message = "A rule without an address range lets everybody in."
  }
  assert {
    condition     = toset([for rule in scaleway_instance_security_group.role["load_balancer"].inbound_rule : rule.port_range if rule.ip_range == "203.0.113.0/24"]) == toset(["9999-9999"])
    error_message = "query_cidrs must reach Fabio's HTTP port and nothing else."
  }
}

run "the_load_balancer_keeps_to_query_cidrs" {
  command = plan

  assert {
    condition     = join("; ", [for rule in scaleway_lb_frontend.queries.acl : "${rule.action[0].type} ${join(",", rule.match[0].ip_subnet)}"]) == "allow 203.0.113.0/24; deny 0.0.0.0/0,::/0"
    error_message = join("; ", [for rule in scaleway_lb_frontend.queries.acl : "${rule.action[0].type} ${join(",", rule.match[0].ip_subnet)}"])
  }
  assert {
    condition     = toset(scaleway_lb_backend.queries.server_ips) == toset(["10.65.0.20", "10.65.0.21"]) && scaleway_lb_backend.queries.forward_port == 9999
    error_message = "It leads to the machines with Fabio on their private addresses."
  }
}

run "machines_have_addresses_that_are_known_before" {
  command = plan

  assert {
    condition     = join(" ", [for name, each in scaleway_ipam_ip.machine : "${name}=${each.address}"]) == "ml-client-0=10.65.0.50 ml-client-1=10.65.0.51 ml-lb-0=10.65.0.20 ml-lb-1=10.65.0.21 ml-server-0=10.65.0.10 ml-server-1=10.65.0.11 ml-server-2=10.65.0.12"
    error_message = join(" ", [for name, each in scaleway_ipam_ip.machine : "${name}=${each.address}"])
  }
  assert {
    condition     = alltrue([for name, each in scaleway_instance_server.machine : nonsensitive(startswith(each.user_data["cloud-init"], "#cloud-config"))])
    error_message = "Each machine has its cloud-init."
  }
}

# What must hold of everything that is made on Hetzner Cloud. Plans only: an apply would hand out secrets over SSH.

mock_provider "hcloud" {
  mock_resource "hcloud_network" {
    defaults = { id = "101" }
  }
  mock_resource "hcloud_load_balancer" {
    defaults = { id = "103" }
  }
}

variables {
  name           = "ml"
  clients        = 2
  load_balancers = 2
  ssh_keys       = ["me"]
  allowed_cidrs  = ["198.51.100.0/24"]
  query_cidrs    = ["0.0.0.0/0"]
  releases = {
    consul = { version = "1.22.7", sha256 = { amd64 = "1111111111111111111111111111111111111111111111111111111111111111" } }
    nomad  = { version = "1.11.3", sha256 = { amd64 = "2222222222222222222222222222222222222222222222222222222222222222" } }
    fabio  = { version = "1.7.3", sha256 = { amd64 = "3333333333333333333333333333333333333333333333333333333333333333" } }
  }
}

run "everybody_reaches_the_port_of_queries_and_no_other" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for role, firewall in hcloud_firewall.role : [
        for rule in firewall.rule : !contains(rule.source_ips, "0.0.0.0/0") || (role == "load_balancer" && rule.port == "9999")
      ]
    ]))
    error_message = "A port other than 9999 is open to the world."
  }
  assert {
    condition     = toset([for rule in hcloud_firewall.role["server"].rule : rule.port if contains(rule.source_ips, "198.51.100.0/24")]) == toset(["22", "4646", "8501"])
    error_message = "allowed_cidrs must reach SSH, Nomad and Consul."
  }
  assert {
    condition     = alltrue([for rule in hcloud_firewall.role["load_balancer"].rule : rule.direction == "in"])
    error_message = "Rules are of what comes in."
  }
}

run "machines_have_addresses_that_are_known_before" {
  command = plan

  assert {
    condition     = join(" ", [for name, each in hcloud_server.machine : "${name}=${one(each.network).ip}"]) == "ml-client-0=10.65.0.50 ml-client-1=10.65.0.51 ml-lb-0=10.65.0.20 ml-lb-1=10.65.0.21 ml-server-0=10.65.0.10 ml-server-1=10.65.0.11 ml-server-2=10.65.0.12"
    error_message = join(" ", [for name, each in hcloud_server.machine : "${name}=${one(each.network).ip}"])
  }
  assert {
    condition     = strcontains(module.config.machines["ml-client-0"].user_data, "\"10.65.0.10\",\"10.65.0.11\",\"10.65.0.12\"") || strcontains(module.config.machines["ml-client-0"].user_data, "10.65.0.10\\\",\\\"10.65.0.11")
    error_message = "Who joins must look for the servers at their addresses."
  }
  assert {
    condition     = alltrue([for name, machine in module.config.machines : length(machine.user_data_gzip) <= 32768])
    error_message = "Hetzner takes 32 KiB of user data."
  }
}

run "without_a_load_balancer_of_hetzners_none_is_made" {
  command = plan

  assert {
    condition     = length(hcloud_load_balancer.queries) == 0 && length(hcloud_load_balancer_target.queries) == 0
    error_message = "A load balancer was made."
  }
}

run "a_load_balancer_leads_to_the_machines_with_fabio_on_their_private_addresses" {
  command = plan

  variables {
    balancer_type = "lb11"
  }

  assert {
    condition     = join(" ", keys(hcloud_load_balancer_target.queries)) == "ml-lb-0 ml-lb-1" && alltrue([for each in hcloud_load_balancer_target.queries : each.use_private_ip])
    error_message = "It leads to the machines with Fabio."
  }
  assert {
    condition     = hcloud_load_balancer_service.queries[0].listen_port == 9999 && hcloud_load_balancer_service.queries[0].protocol == "tcp"
    error_message = "It listens on 9999."
  }
}

run "a_load_balancer_that_lets_everybody_in_is_refused_where_not_everybody_may_ask" {
  command = plan

  variables {
    balancer_type = "lb11"
    query_cidrs   = ["198.51.100.0/24"]
  }

  expect_failures = [hcloud_load_balancer.queries]
}

run "without_an_ssh_key_nobody_could_hand_out_secrets" {
  command = plan

  variables {
    ssh_keys = []
  }

  expect_failures = [var.ssh_keys]
}

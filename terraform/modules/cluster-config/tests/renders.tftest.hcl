# What comes out, without a provider, without a network, in seconds.

variables {
  name          = "ml"
  clients       = 2
  retry_join    = ["10.0.0.10", "10.0.0.11", "10.0.0.12"]
  allowed_cidrs = ["203.0.113.0/24"]
  query_cidrs   = ["0.0.0.0/0"]
  private_cidr  = "10.0.0.0/16"
  releases = {
    consul = { version = "1.22.1", sha256 = { amd64 = "aa00000000000000000000000000000000000000000000000000000000000000", arm64 = "ab00000000000000000000000000000000000000000000000000000000000000" } }
    nomad  = { version = "1.11.3", sha256 = { amd64 = "bb00000000000000000000000000000000000000000000000000000000000000" } }
    fabio  = { version = "1.7.3", sha256 = { amd64 = "cc00000000000000000000000000000000000000000000000000000000000000" } }
  }
}

run "machines" {
  assert {
    condition     = join(" ", keys(output.machines)) == "ml-client-0 ml-client-1 ml-lb-0 ml-server-0 ml-server-1 ml-server-2"
    error_message = "3 servers, 2 clients and a load balancer were asked for"
  }

  assert {
    condition     = alltrue([for each in values(output.machines) : length(each.user_data_gzip) * 3 / 4 <= 16384])
    error_message = "user data must be 16 KiB at most when compressed, for AWS"
  }

  assert {
    condition     = alltrue([for each in values(output.machines) : startswith(each.user_data, "#cloud-config\n") && can(yamldecode(each.user_data).runcmd)])
    error_message = "user data must be a cloud-config"
  }

  assert {
    condition     = alltrue([for each in values(output.machines) : each.node_pool == (each.role == "client" ? "default" : "")])
    error_message = "without node_pools clients are in the pool default"
  }

  assert {
    condition     = output.first_server == "ml-server-0"
    error_message = "the first server is that with index 0"
  }
}

run "no_secret_is_rendered" {
  assert {
    condition = alltrue(flatten([for files in values(output.files) : [
      for path, file in files : !can(regex("BEGIN [A-Z ]*PRIVATE KEY|encrypt *= *\"|master *= *\"", file.content)) if !strcontains(path, "/sbin/")
    ]]))
    error_message = "secrets are made on the machines; user data and the state must have none"
  }
}

run "safe_by_default" {
  assert {
    condition     = alltrue([for rule in output.firewall_rules : !contains(rule.cidrs, "0.0.0.0/0") || (rule.role == "load_balancer" && rule.from_port == 9999 && rule.to_port == 9999)])
    error_message = "everybody must reach Fabio's HTTP port and nothing else"
  }

  assert {
    condition = alltrue([for name, files in output.files :
      strcontains(files["/etc/consul.d/acl.hcl"].content, "default_policy = \"deny\"") && strcontains(files["/etc/consul.d/tls.hcl"].content, "tls {")
    ])
    error_message = "ACLs and TLS must be on in each Consul"
  }

  assert {
    condition     = strcontains(output.files["ml-lb-0"]["/etc/fabio/fabio.properties"].content, "ui.addr = 127.0.0.1:9998")
    error_message = "Fabio's admin page must be on loopback: it shows Consul's token"
  }

  assert {
    condition     = output.ports.consul == 8501 && output.operator_env.CONSUL_HTTP_SSL == "true"
    error_message = "with TLS Consul's API for operators is HTTPS"
  }
}

run "each_role_has_what_is_its_own" {
  assert {
    condition = join(" ", [for path in keys(output.files["ml-client-0"]) : path if startswith(path, "/etc/nomad.d")]) == join(" ", [
      for each in ["acl", "agent", "client", "docker", "tls"] : "/etc/nomad.d/${each}.hcl"
    ])
    error_message = "a client must have these fragments: ${join(" ", keys(output.files["ml-client-0"]))}"
  }

  assert {
    condition     = can(output.files["ml-server-0"]["/etc/clipper/policies/nomad-toolkit.hcl"]) && !can(output.files["ml-server-1"]["/etc/clipper/policies/nomad-toolkit.hcl"])
    error_message = "the ACLs are set up on the first server alone"
  }

  assert {
    condition     = !can(output.files["ml-lb-0"]["/etc/nomad.d/agent.hcl"]) && !can(output.files["ml-client-0"]["/etc/fabio/fabio.properties"])
    error_message = "a load balancer has no Nomad, and a client no Fabio"
  }

  assert {
    condition     = output.files["ml-lb-0"]["/etc/clipper/releases"].content == "consul 1.22.1 aa00000000000000000000000000000000000000000000000000000000000000 ab00000000000000000000000000000000000000000000000000000000000000\nfabio 1.7.3 cc00000000000000000000000000000000000000000000000000000000000000 -\n"
    error_message = "a load balancer installs Consul and Fabio"
  }
}

run "an_old_consul_has_its_own_names" {
  variables {
    releases = {
      consul = { version = "1.8.7", sha256 = { amd64 = "aa00000000000000000000000000000000000000000000000000000000000000" } }
      nomad  = { version = "1.11.3", sha256 = { amd64 = "bb00000000000000000000000000000000000000000000000000000000000000" } }
      fabio  = { version = "1.7.3", sha256 = { amd64 = "cc00000000000000000000000000000000000000000000000000000000000000" } }
    }
  }

  assert {
    condition     = strcontains(output.files["ml-server-0"]["/etc/consul.d/tls.hcl"].content, "verify_incoming_rpc    = true") && !can(output.files["ml-server-0"]["/etc/consul.d/no-grpc.hcl"])
    error_message = "Consul 1.8.7 knows neither tls {} nor grpc_tls"
  }

  assert {
    condition     = strcontains(output.files["ml-server-0"]["/etc/clipper/machine.env"].content, "CONSUL_MANAGEMENT_KEY='master'\n")
    error_message = "Consul 1.8.7 calls the initial management token master"
  }
}

run "without_acl_and_tls" {
  variables {
    acl_enabled = false
    tls_enabled = false
  }

  assert {
    condition     = output.ports.consul == 8500 && !can(output.operator_env.CONSUL_HTTP_SSL) && can(output.files["ml-server-0"]["/etc/consul.d/public-http.hcl"])
    error_message = "without TLS Consul's API is HTTP on 8500"
  }

  assert {
    condition     = length([for path in keys(output.files["ml-server-0"]) : path if can(regex("(acl|tls)\\.hcl$|policies", path))]) == 0
    error_message = "without ACLs and TLS there must be no fragment and no policy of theirs"
  }
}

run "options_of_clients" {
  variables {
    clients           = 3
    node_pools        = { gpu = 1, default = 2 }
    docker_registries = [{ host = "registry.example.org:5000", insecure = true }, { host = "other.example.org" }]
    docker_bridge     = "192.168.77.1/24"
    host_volumes      = [{ name = "clipper-bundles", path = "/var/lib/clipper/bundles" }, { name = "weights", path = "/srv/weights", owner = 0, read_only = true }]
    secrets           = { fetch = "get 'it'", store = "put it" }
  }

  assert {
    condition     = join(" ", [for each in range(3) : output.machines["ml-client-${each}"].node_pool]) == "default default gpu"
    error_message = "clients must be spread over the pools"
  }

  assert {
    condition     = join(" ", jsondecode(output.files["ml-client-0"]["/etc/docker/daemon.json"].content)["insecure-registries"]) == "registry.example.org:5000"
    error_message = "Docker must know the registries without TLS"
  }

  assert {
    condition     = join(" ", jsondecode(output.files["ml-client-0"]["/etc/docker/daemon.json"].content).dns) == "192.168.77.1"
    error_message = "containers must ask the address of Docker's bridge"
  }

  assert {
    condition     = strcontains(output.files["ml-client-0"]["/etc/nomad.d/host-volume-weights.hcl"].content, "read_only = true") && output.files["ml-client-0"]["/etc/clipper/host-volumes"].content == "10001 /var/lib/clipper/bundles\n0 /srv/weights\n"
    error_message = "each host volume must be a fragment, and its folder be made"
  }

  assert {
    condition     = strcontains(output.files["ml-client-0"]["/etc/clipper/machine.env"].content, "SECRETS_FETCH='get '\\''it'\\'''\nSECRETS_STORE=''\n")
    error_message = "commands must be quoted for a shell, and only servers store"
  }
}

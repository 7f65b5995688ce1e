# Every validation refuses what it is for.

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

run "name_with_capitals" {
  command = plan

  variables {
    name = "ML"
  }

  expect_failures = [var.name]
}

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "a12345678901234567890123456789012"
  }

  expect_failures = [var.name]
}

run "a_datacenter_with_a_dot" {
  command = plan

  variables {
    datacenter = "dc.1"
  }

  expect_failures = [var.datacenter]
}

run "a_region_with_a_space" {
  command = plan

  variables {
    region = "my region"
  }

  expect_failures = [var.region]
}

run "two_servers" {
  command = plan

  variables {
    servers = 2
  }

  expect_failures = [var.servers]
}

run "no_clients" {
  command = plan

  variables {
    clients = 0
  }

  expect_failures = [var.clients]
}

run "half_a_client" {
  command = plan

  variables {
    clients = 1.5
  }

  expect_failures = [var.clients]
}

run "no_load_balancer" {
  command = plan

  variables {
    load_balancers = 0
  }

  expect_failures = [var.load_balancers]
}

run "nowhere_to_join" {
  command = plan

  variables {
    retry_join = []
  }

  expect_failures = [var.retry_join]
}

run "retry_join_of_two_lines" {
  command = plan

  variables {
    retry_join = ["10.0.0.1\n10.0.0.2"]
  }

  expect_failures = [var.retry_join]
}

run "everybody_on_control_ports" {
  command = plan

  variables {
    allowed_cidrs = ["10.0.0.0/8", "0.0.0.0/0"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "everybody_on_control_ports_by_ipv6" {
  command = plan

  variables {
    allowed_cidrs = ["::/0"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "nobody_on_control_ports" {
  command = plan

  variables {
    allowed_cidrs = []
  }

  expect_failures = [var.allowed_cidrs]
}

run "an_address_that_is_no_network" {
  command = plan

  variables {
    allowed_cidrs = ["10.0.0.1"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "queries_from_no_network" {
  command = plan

  variables {
    query_cidrs = ["all"]
  }

  expect_failures = [var.query_cidrs]
}

run "a_private_network_of_everybody" {
  command = plan

  variables {
    private_cidr = "0.0.0.0/0"
  }

  expect_failures = [var.private_cidr]
}

run "a_private_network_of_ipv6" {
  command = plan

  variables {
    private_cidr = "fd00::/8"
  }

  expect_failures = [var.private_cidr]
}

run "a_registry_with_a_scheme" {
  command = plan

  variables {
    docker_registries = [{ host = "https://registry.example.org" }]
  }

  expect_failures = [var.docker_registries]
}

run "a_bridge_that_is_a_network" {
  command = plan

  variables {
    docker_bridge = "172.17.0.0/16"
  }

  expect_failures = [var.docker_bridge]
}

run "a_host_volume_with_a_space" {
  command = plan

  variables {
    host_volumes = [{ name = "a b", path = "/srv/a" }]
  }

  expect_failures = [var.host_volumes]
}

run "two_host_volumes_of_one_name" {
  command = plan

  variables {
    host_volumes = [{ name = "a", path = "/srv/a" }, { name = "a", path = "/srv/b" }]
  }

  expect_failures = [var.host_volumes]
}

run "a_host_volume_of_the_root" {
  command = plan

  variables {
    host_volumes = [{ name = "a", path = "/" }]
  }

  expect_failures = [var.host_volumes]
}

run "a_host_volume_with_dots" {
  command = plan

  variables {
    host_volumes = [{ name = "a", path = "/srv/../etc" }]
  }

  expect_failures = [var.host_volumes]
}

run "a_host_volume_of_nobody" {
  command = plan

  variables {
    host_volumes = [{ name = "a", path = "/srv/a", owner = -1 }]
  }

  expect_failures = [var.host_volumes]
}

run "a_pool_called_all" {
  command = plan

  variables {
    node_pools = { all = 2 }
  }

  expect_failures = [var.node_pools]
}

run "pools_of_more_clients" {
  command = plan

  variables {
    node_pools = { gpu = 3 }
  }

  expect_failures = [output.machines]
}

run "a_mirror_without_a_scheme" {
  command = plan

  variables {
    release_mirror = "mirror.example.org"
  }

  expect_failures = [var.release_mirror]
}

run "a_mirror_with_a_slash_at_its_end" {
  command = plan

  variables {
    release_mirror = "https://mirror.example.org/"
  }

  expect_failures = [var.release_mirror]
}

run "secrets_without_a_command" {
  command = plan

  variables {
    secrets = { fetch = "get", store = " " }
  }

  expect_failures = [var.secrets]
}

run "a_range_of_versions" {
  command = plan

  variables {
    releases = {
      consul = { version = "~> 1.22", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      nomad  = { version = "1.11.3", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      fabio  = { version = "1.7.3", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
    }
  }

  expect_failures = [var.releases]
}

run "a_fabio_that_is_too_old" {
  command = plan

  variables {
    releases = {
      consul = { version = "1.22.1", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      nomad  = { version = "1.11.3", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      fabio  = { version = "1.7.2", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
    }
  }

  expect_failures = [var.releases]
}

run "a_nomad_that_is_too_old" {
  command = plan

  variables {
    releases = {
      consul = { version = "1.22.1", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      nomad  = { version = "1.9.7", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      fabio  = { version = "1.7.3", sha256 = { amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
    }
  }

  expect_failures = [var.releases]
}

run "a_checksum_that_is_cut_off" {
  command = plan

  variables {
    releases = {
      consul = { version = "1.22.1", sha256 = { amd64 = "abc" } }
      nomad  = { version = "1.11.3", sha256 = { amd64 = "abc" } }
      fabio  = { version = "1.7.3", sha256 = { amd64 = "abc" } }
    }
  }

  expect_failures = [var.releases]
}

run "an_architecture_that_nobody_has" {
  command = plan

  variables {
    releases = {
      consul = { version = "1.22.1", sha256 = { mips = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      nomad  = { version = "1.11.3", sha256 = { mips = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
      fabio  = { version = "1.7.3", sha256 = { mips = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }
    }
  }

  expect_failures = [var.releases]
}

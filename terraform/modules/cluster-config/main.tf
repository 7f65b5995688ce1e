locals {
  ports = {
    consul      = var.tls_enabled ? 8501 : 8500 # of the API, for operators
    consul_http = 8500                          # on loopback where there is TLS
    consul_dns  = 8600                          # on loopback
    consul_rpc  = 8300
    consul_serf = 8301
    nomad       = 4646
    nomad_rpc   = 4647
    nomad_serf  = 4648
    fabio_http  = 9999
    fabio_tcp   = 7000
    fabio_admin = 9998 # on loopback, as it shows Consul's token
  }

  # Consul 1.12 has other names for TLS and for the token that may do anything; 1.14 a second gRPC port.
  consul_version = [for part in split(".", var.releases.consul.version) : tonumber(part)]
  consul_minor   = local.consul_version[0] > 1 ? 1000 : local.consul_version[1]

  clients_in_pools = length(var.node_pools) == 0 ? [for _ in range(var.clients) : "default"] : flatten([
    for pool, count in var.node_pools : [for _ in range(count) : pool]
  ])

  machine_list = concat(
    [for index in range(var.servers) : { name = "${var.name}-server-${index}", role = "server", index = index, node_pool = "" }],
    [for index, pool in local.clients_in_pools : { name = "${var.name}-client-${index}", role = "client", index = index, node_pool = pool }],
    [for index in range(var.load_balancers) : { name = "${var.name}-lb-${index}", role = "load_balancer", index = index, node_pool = "" }],
  )
  machines = { for machine in local.machine_list : machine.name => machine }

  templates = "${path.module}/templates"
  tls_files = {
    ca_file   = jsonencode("/etc/clipper/tls/ca.pem")
    cert_file = jsonencode("/etc/clipper/tls/cert.pem")
    key_file  = jsonencode("/etc/clipper/tls/key.pem")
  }

  # What agents find out on their machine: the interface in the network that all share, which is none of Docker's.
  private_interface = "GetAllInterfaces | include \"network\" \"${cidrsubnet(var.private_cidr, 0, 0)}\" | exclude \"name\" \"^(docker|br-|nomad)\" | limit 1"
  private_address   = "{{ ${local.private_interface} | attr \"address\" }}"

  releases_of = { server = ["consul", "nomad"], client = ["consul", "nomad"], load_balancer = ["consul", "fabio"] }
}

# One fragment of configuration each, by its path on the machine.
locals {
  consul_files = {
    for name, machine in local.machines : name => merge(
      {
        "/etc/consul.d/agent.hcl" = templatefile("${local.templates}/consul/agent.hcl", {
          datacenter  = jsonencode(var.datacenter)
          node_name   = jsonencode(name)
          data_dir    = jsonencode("/var/lib/consul")
          bind_addr   = jsonencode(local.private_address)
          client_addr = jsonencode("127.0.0.1")
          http_port   = local.ports.consul_http
          dns_port    = local.ports.consul_dns
          server_port = local.ports.consul_rpc
          serf_port   = local.ports.consul_serf
        })
        "/etc/consul.d/retry-join.hcl" = templatefile("${local.templates}/consul/retry-join.hcl", { retry_join = jsonencode(var.retry_join) })
      },
      machine.role != "server" ? {} : {
        "/etc/consul.d/server.hcl" = templatefile("${local.templates}/consul/server.hcl", { bootstrap_expect = var.servers })
      },
      local.consul_minor < 14 ? {} : { "/etc/consul.d/no-grpc.hcl" = templatefile("${local.templates}/consul/no-grpc.hcl", {}) },
      !var.acl_enabled ? {} : { "/etc/consul.d/acl.hcl" = templatefile("${local.templates}/consul/acl.hcl", {}) },
      !var.tls_enabled ? {} : {
        "/etc/consul.d/tls.hcl" = templatefile("${local.templates}/consul/${local.consul_minor < 12 ? "tls-before-1.12" : "tls"}.hcl", local.tls_files)
      },
      machine.role != "server" ? {} : var.tls_enabled ? {
        "/etc/consul.d/public-https.hcl" = templatefile("${local.templates}/consul/public-https.hcl", { https_port = local.ports.consul })
        } : {
        "/etc/consul.d/public-http.hcl" = templatefile("${local.templates}/consul/public-http.hcl", {})
      },
      machine.role != "load_balancer" ? {} : {
        "/etc/consul.d/fabio-service.hcl" = templatefile("${local.templates}/consul/fabio-service.hcl", {
          http_port  = local.ports.fabio_http
          check_addr = jsonencode("127.0.0.1:${local.ports.fabio_http}")
        })
      },
    )
  }

  nomad_files = {
    for name, machine in local.machines : name => machine.role == "load_balancer" ? {} : merge(
      {
        "/etc/nomad.d/agent.hcl" = templatefile("${local.templates}/nomad/agent.hcl", {
          name           = jsonencode(name)
          region         = jsonencode(var.region)
          datacenter     = jsonencode(var.datacenter)
          data_dir       = jsonencode("/var/lib/nomad")
          bind_addr      = jsonencode("0.0.0.0")
          advertise_addr = jsonencode(local.private_address)
          http_port      = local.ports.nomad
          rpc_port       = local.ports.nomad_rpc
          serf_port      = local.ports.nomad_serf
          consul_addr    = jsonencode("127.0.0.1:${local.ports.consul_http}")
        })
      },
      machine.role != "server" ? {} : {
        "/etc/nomad.d/server.hcl" = templatefile("${local.templates}/nomad/server.hcl", { bootstrap_expect = var.servers })
      },
      machine.role != "client" ? {} : merge(
        {
          "/etc/nomad.d/client.hcl" = templatefile("${local.templates}/nomad/client.hcl", {
            node_pool         = jsonencode(machine.node_pool)
            network_interface = jsonencode("{{ ${local.private_interface} | attr \"name\" }}")
          })
          "/etc/nomad.d/docker.hcl" = templatefile("${local.templates}/nomad/docker.hcl", {
            login_file  = jsonencode("/etc/clipper/docker-login.json")
            owns_docker = true
          })
        },
        {
          for volume in var.host_volumes : "/etc/nomad.d/host-volume-${volume.name}.hcl" => templatefile("${local.templates}/nomad/host-volume.hcl", {
            name      = jsonencode(volume.name)
            path      = jsonencode(volume.path)
            read_only = volume.read_only
          })
        },
      ),
      !var.acl_enabled ? {} : { "/etc/nomad.d/acl.hcl" = templatefile("${local.templates}/nomad/acl.hcl", {}) },
      !var.tls_enabled ? {} : { "/etc/nomad.d/tls.hcl" = templatefile("${local.templates}/nomad/tls.hcl", local.tls_files) },
    )
  }

  # Policies are needed where they are set up: on the first server.
  policy_files = {
    for each in fileset("${path.module}/policies", "*.hcl") : "/etc/clipper/policies/${each}" => templatefile(
      "${path.module}/policies/${each}", { cluster = "*", namespace = "default" }
    )
  }
}

# The machine beside that: settings, scripts, systemd's units.
locals {
  quoted = "'%s'" # for a shell; values are checked, or have their quotes replaced
  machine_env = {
    for name, machine in local.machines : name => join("", [
      for key, value in {
        CLUSTER_NAME          = var.name
        MACHINE_NAME          = name
        MACHINE_INDEX         = machine.index
        ROLE                  = machine.role
        DATACENTER            = var.datacenter
        REGION                = var.region
        SERVERS               = var.servers
        TLS_ENABLED           = var.tls_enabled
        ACL_ENABLED           = var.acl_enabled
        RELEASE_MIRROR        = var.release_mirror
        CONSUL_HTTP_PORT      = local.ports.consul_http
        CONSUL_DNS_PORT       = local.ports.consul_dns
        CONSUL_MANAGEMENT_KEY = local.consul_minor < 12 ? "master" : "initial_management"
        NOMAD_HTTP_PORT       = local.ports.nomad
        DOCKER_BRIDGE_ADDRESS = split("/", var.docker_bridge)[0]
        SECRETS_FETCH         = var.secrets == null ? "" : var.secrets.fetch
        SECRETS_STORE         = var.secrets == null || machine.role != "server" ? "" : var.secrets.store
      } : "${key}=${format(local.quoted, replace(value, "'", "'\\''"))}\n"
    ])
  }

  daemon_json = jsonencode({
    bip                 = var.docker_bridge
    dns                 = [split("/", var.docker_bridge)[0]]
    insecure-registries = [for each in var.docker_registries : each.host if each.insecure]
    live-restore        = true
    log-driver          = "json-file"
    log-opts            = { max-size = "10m", max-file = "3" }
  })

  plain_files = {
    for name, machine in local.machines : name => merge(
      local.consul_files[name],
      local.nomad_files[name],
      {
        "/etc/clipper/machine.env" = local.machine_env[name]
        "/etc/clipper/releases" = join("", [
          for each in local.releases_of[machine.role] : "${each} ${var.releases[each].version} ${lookup(var.releases[each].sha256, "amd64", "-")} ${lookup(var.releases[each].sha256, "arm64", "-")}\n"
        ])
        "/etc/clipper/host-volumes"                 = machine.role != "client" ? "" : join("", [for each in var.host_volumes : "${each.owner} ${each.path}\n"])
        "/etc/systemd/system/clipper-setup.service" = file("${path.module}/machine/systemd/clipper-setup.service")
        "/etc/systemd/system/consul.service"        = file("${path.module}/machine/systemd/consul.service")
      },
      machine.role == "load_balancer" ? {
        "/etc/systemd/system/fabio.service" = file("${path.module}/machine/systemd/fabio.service")
        "/etc/fabio/fabio.properties" = templatefile("${local.templates}/fabio/fabio.properties", {
          listeners   = ":${local.ports.fabio_http};rt=30s;it=75s,:${local.ports.fabio_tcp};proto=tcp"
          admin_addr  = "127.0.0.1:${local.ports.fabio_admin}"
          consul_addr = "127.0.0.1:${local.ports.consul_http}"
        })
        } : {
        "/etc/systemd/system/nomad.service" = file("${path.module}/machine/systemd/nomad-${machine.role}.service")
      },
      machine.role != "client" ? {} : { "/etc/docker/daemon.json" = "${local.daemon_json}\n" },
      machine.role != "server" || machine.index != 0 || !var.acl_enabled ? {} : local.policy_files,
    )
  }

  scripts = {
    for each in fileset("${path.module}/machine/bin", "*") : "/usr/local/sbin/${each}" => file("${path.module}/machine/bin/${each}")
  }

  files = {
    for name, machine in local.machines : name => merge(
      { for path, content in local.plain_files[name] : path => { content = content, permissions = "0644" } },
      {
        for path, content in local.scripts : path => { content = content, permissions = "0755" }
        if lookup({ clipper-acl = "server", clipper-metadata = "client" }, basename(path), machine.role) == machine.role
      },
    )
  }

  user_data = {
    for name, files in local.files : name => join("\n", ["#cloud-config", yamlencode({
      write_files = [for path, file in files : { path = path, permissions = file.permissions, content = file.content }]
      runcmd = [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", "--no-block", "clipper-setup.service"],
      ]
    })])
  }
}

job ${job} {
  type        = "system"
  namespace   = ${namespace}
  datacenters = ${datacenters}
  node_pool   = ${node_pool}

  group "fabio" {
    # One node at a time, so that the others go on leading queries.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "3s"
      healthy_deadline  = "5m"
      progress_deadline = "10m"
    }

    # Always back on its node: a system job has no other place to go.
    restart {
      delay    = "1s"
      attempts = 10
      interval = "5m"
      mode     = "delay"
    }

    # Out of Consul first: who finds it there goes elsewhere while it still leads on.
    shutdown_delay = "3s"

    network {
      mode = "host"

      port "http" {
        static = ${http_port}
      }

      port "rpc" {
        static = ${tcp_port}
      }
    }

    # Registered by Nomad: Fabio would register the address of its admin port, which is loopback here.
    service {
      name = "fabio"
      port = "http"

      # By connection: a GET would be a request to somebody's route.
      check {
        name     = "http"
        type     = "tcp"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "fabio" {
      driver       = "docker"
      kill_timeout = "15s"

      config {
        image        = ${image}
        network_mode = "host"
        args         = ["-cfg", "/secrets/fabio.properties"]

        # Fabio ends when it has no file left for a TCP connection.
        ulimit {
          nofile = ${open_files}
        }
      }

      # Settings in a file: on the command line a token of Consul's would be seen by everybody.
      template {
        destination = "secrets/fabio.properties"
        data        = ${properties}
        perms       = "0444" # whatever user the image runs as
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}

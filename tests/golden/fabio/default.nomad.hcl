job "clipper-default-cluster-fabio" {
  type        = "system"
  datacenters = ["dc1"]
  priority    = 50

  # Whose job this is. Together with the id it decides what may be changed and removed: leave it as it is.
  meta {
    clipper_cluster = "default-cluster"
    clipper_kind    = "fabio"
    clipper_toolkit = "0.1.0"
  }

  ui {
    description = "Fabio: leads queries and model channels to the query frontends that are ready."
  }

  group "clipper-default-cluster" {
    # One node at a time, so that the others go on leading queries.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "3s"
      healthy_deadline  = "15m"
      progress_deadline = "20m"
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
      port "http" {
        static = 9999
      }

      port "rpc-7000" {
        static = 7000
      }
    }

    # Registered by Nomad: Fabio would register the address of its admin port, which is loopback here, and fail its check.
    service {
      name = "fabio"
      port = "http"
      tags = ["clipper"]

      # By connection: a GET would be a request to somebody's route.
      check {
        name     = "http"
        type     = "tcp"
        interval = "1s"
        timeout  = "1s"
      }
    }

    task "clipper-default-cluster-fabio" {
      driver = "docker"

      # Above Fabio's own wait for what is in flight (proxy.shutdownwait).
      kill_timeout = "15s"

      config {
        image        = "registry.example.org/clipper/fabio@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        ulimit       = [{ "nofile" = "1048576:1048576" }]
        args         = ["-cfg", "/secrets/fabio.properties"]
        network_mode = "host"
      }

      # Settings in a file: on the command line a token of Consul's would be seen by everybody.
      template {
        data                 = "proxy.addr = :9999;rt=30s;it=75s,:7000;proto=tcp\nproxy.strategy = rr\nproxy.dialtimeout = 1s\nproxy.noroutestatus = 503\nproxy.shutdownwait = 2s\nui.addr = 127.0.0.1:9998\nui.access = ro\nregistry.consul.addr = 127.0.0.1:8500\nregistry.consul.checksRequired = all\nregistry.consul.register.enabled = false\n"
        destination          = "secrets/fabio.properties"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}

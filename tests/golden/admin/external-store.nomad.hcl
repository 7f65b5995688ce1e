job "clipper-b-mgmt" {
  type        = "service"
  datacenters = ["dc1"]
  priority    = 50

  # Whose job this is. Together with the id it decides what may be changed and removed: leave it as it is.
  meta {
    clipper_cluster = "b"
    clipper_kind    = "admin"
    clipper_toolkit = "0.1.0"
  }

  ui {
    description = "Admin service of the cluster b: the only writer of its store."
  }

  group "clipper-b" {
    count = 1

    # Pulling an image counts against both deadlines. A version that does not become ready gives way to the one before.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "1s"
      healthy_deadline  = "15m"
      progress_deadline = "20m"
      auto_revert       = true
    }

    # Three tries in place, 1 s apart (Nomad's own delay is 15 s), then elsewhere: the node may be what is wrong.
    restart {
      delay    = "1s"
      attempts = 3
      interval = "1m"
      mode     = "fail"
    }

    # The shortest delay that Nomad takes is 5 s.
    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }

    # Fabio forgets it 0.1 s after the deregistration; calls that were on their way get their answer.
    shutdown_delay = "3s"

    # The bundles go along to the next allocation, from another node too if that one still answers. They end with the node.
    ephemeral_disk {
      size    = 1024
      sticky  = true
      migrate = true
    }

    network {
      port "http" {}

      dns {
        servers = ["172.17.0.1"]
      }
    }

    service {
      name = "clipper-b-mgmt"
      port = "http"
      tags = ["clipper", "mgmt"]

      # Healthy while it answers, with or without the store: without it, it says so to who asks.
      check {
        name     = "alive"
        type     = "http"
        path     = "/health"
        interval = "1s"
        timeout  = "1s"
      }
    }

    task "clipper-b-mgmt" {
      driver = "docker"

      # Above the 20 s in which admin answers every call.
      kill_timeout = "30s"

      config {
        image = "registry.example.org/clipper/model@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        ports = ["http"]

        auth {
          username       = "puller"
          password       = "${CLIPPER_REGISTRY_PASSWORD}"
          server_address = "https://registry.example.org"
        }
      }

      env {
        CLIPPER_CLUSTER          = "b"
        CLIPPER_ADMIN_ADDRESS    = "0.0.0.0:${NOMAD_PORT_http}"
        CLIPPER_STORE_URL_FILE   = "/secrets/store.url"
        CLIPPER_TOKEN_FILE       = "/secrets/admin-token"
        CLIPPER_BUNDLES          = "/alloc/data/bundles"
        CLIPPER_BUNDLE_MAX_BYTES = "2147483648"
      }

      # The driver needs the password before the container is there; the container can read it too.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-mgmt\" }}CLIPPER_REGISTRY_PASSWORD={{ .registry_password }}{{ end }}"
        destination          = "secrets/registry.env"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
        env                  = true
      }

      # The URL of the store, which somebody else runs.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-mgmt\" }}{{ with $password := .store_password }}redis://:{{ $password }}@redis.example.org:6380/0{{ end }}{{ end }}"
        destination          = "secrets/store.url"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true

        # Nomad's own wait of 5 s is as long as an outage; with this one a change arrived after 0.23 s.
        wait {
          min = "200ms"
          max = "2s"
        }
      }

      # What every call must bring.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-mgmt\" }}{{ .admin_token }}{{ end }}"
        destination          = "secrets/admin-token"
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

job "clipper-default-cluster-mgmt" {
  type        = "service"
  datacenters = ["dc1"]
  priority    = 50

  # Whose job this is. Together with the id it decides what may be changed and removed: leave it as it is.
  meta {
    clipper_cluster = "default-cluster"
    clipper_kind    = "admin"
    clipper_toolkit = "0.1.0"
  }

  ui {
    description = "Admin service of the cluster default-cluster: the only writer of its store."
  }

  group "clipper-default-cluster" {
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

    network {
      port "http" {}
    }

    volume "volume-0" {
      type      = "host"
      source    = "bundles"
      read_only = false
    }

    service {
      name = "clipper-default-cluster-mgmt"
      port = "http"
      tags = ["clipper", "mgmt", "urlprefix-/clipper-admin/ strip=/clipper-admin"]

      # Healthy while it answers, with or without the store: without it, it says so to who asks.
      check {
        name     = "alive"
        type     = "http"
        path     = "/health"
        interval = "1s"
        timeout  = "1s"
      }
    }

    task "clipper-default-cluster-mgmt" {
      driver = "docker"

      # Above the 20 s in which admin answers every call.
      kill_timeout = "30s"

      config {
        image        = "registry.example.org/clipper/admin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        network_mode = "host"
      }

      env {
        CLIPPER_CLUSTER             = "default-cluster"
        CLIPPER_ADMIN_ADDRESS       = "${NOMAD_ADDR_http}"
        CLIPPER_STORE_URL_FILE      = "/secrets/store.url"
        CLIPPER_TOKEN_FILE          = "/secrets/admin-token"
        CLIPPER_BUNDLES             = "/bundles"
        CLIPPER_BUNDLE_MAX_BYTES    = "536870912"
        CLIPPER_RUNTIME_IMAGE       = "registry.example.org/clipper/runtime-py311@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        CLIPPER_BUNDLE_CACHE_VOLUME = "bundle-cache"
      }

      # The store moves: its address is Consul's, read again by the process whenever it connects.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-default-cluster-mgmt\" }}{{ with $password := .store_password }}{{ with service \"clipper-default-cluster-redis\" }}{{ with index . 0 }}redis://:{{ $password }}@{{ .Address }}:{{ .Port }}/0{{ end }}{{ end }}{{ end }}{{ end }}"
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
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-default-cluster-mgmt\" }}{{ .admin_token }}{{ end }}"
        destination          = "secrets/admin-token"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
      }

      volume_mount {
        volume      = "volume-0"
        destination = "/bundles"
        read_only   = false
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}

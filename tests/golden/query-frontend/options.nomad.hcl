job "clipper-b-query-frontend" {
  type        = "service"
  datacenters = ["eu-1", "eu-2"]
  priority    = 50

  constraint {
    attribute = "$${attr.kernel.name}"
    operator  = "="
    value     = "linux"
  }

  # Whose job this is. Together with the id it decides what may be changed and removed: leave it as it is.
  meta {
    clipper_cluster = "b"
    clipper_kind    = "query-frontend"
    clipper_toolkit = "0.1.0"
    clipper_options = "{\"cpu_mhz\": 2000, \"datacenters\": [\"eu-1\", \"eu-2\"], \"env\": {\"CLIPPER_ACCESS_LOG\": \"a \\\"quote\\\", $${NOMAD_ADDR_http} and \\\\n\"}}"
  }

  ui {
    description = "Query frontends of the cluster b: they take queries and batch them to models."
  }

  group "clipper-b" {
    count = 1

    # All new ones beside all old ones, then over at once: nobody is missing meanwhile. One by one, each old one would end
    # before its successor starts. Needs room for twice as many. Pulling an image counts against both deadlines.
    update {
      max_parallel      = 1
      canary            = 1
      auto_promote      = true
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "1s"
      healthy_deadline  = "15m"
      progress_deadline = "20m"
    }

    # Three tries in place, 1 s apart (Nomad's own delay is 15 s), then elsewhere: the node may be what is wrong. In place it
    # serves again after 3 s, and costs no more queries than elsewhere: see the services below.
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

    # Not all on one node, as far as there are others.
    spread {
      attribute = "${node.unique.id}"
    }

    # The mirror of the catalog: what it starts from when the store and all other frontends are away.
    ephemeral_disk {
      size    = 300
      sticky  = true
      migrate = true
    }

    network {
      port "http" {}
      port "rpc" {}
      port "internal" {}
    }

    task "clipper-b-query-frontend" {
      driver = "docker"

      # Above the drain (CLIPPER_DRAIN_S), in which what is in flight is answered; below the progress deadline.
      kill_timeout = "30s"

      # Deregistered first, and serving for 3 s more: Fabio leaves it after 0.1 s, other callers a little later.
      shutdown_delay = "3s"

      # Services of the task, not of its group: when the task dies, Nomad takes them out of Consul at once. Those of a group
      # stay while the task is restarted, until their check has looked. Lost by kill -9 of one of two at 200 queries a second,
      # and when it served again: 29 to 104 with services of the group, 3 to 8 s; 14 to 39 without restarts in place, 8 to
      # over 40 s; so: 8 to 13, once 77, and 3 to 7 s (docs/decisions/0016).
      service {
        name = "clipper-b-query-frontend-service"
        port = "http"
        tags = ["clipper", "query-frontend", "urlprefix-/clipper-b/ strip=/clipper-b"]

        # Next to nothing until it is promoted, and all that comes while Nomad takes the old ones out of Consul and has not
        # yet given the new ones their tags: that took up to 25 ms, and then nobody had the route (docs/decisions/0025).
        canary_tags = ["clipper", "query-frontend", "canary", "urlprefix-/clipper-b/ strip=/clipper-b weight=0.0001"]

        # Ready: it listens and has a catalog. Three in a row must fail: on a machine that is overloaded single looks time
        # out, at all frontends at once, and then nobody had a route. One that hangs is left after 3 s.
        check {
          name                     = "ready"
          type                     = "http"
          path                     = "/health/ready"
          interval                 = "1s"
          timeout                  = "1s"
          failures_before_critical = 3
        }
      }

      service {
        name        = "clipper-b-query-frontend-rpc"
        port        = "rpc"
        tags        = ["clipper", "query-frontend", "urlprefix-:7001 proto=tcp"]
        canary_tags = ["clipper", "query-frontend", "canary", "urlprefix-:7001 proto=tcp weight=0.0001"]

        # By the HTTP port: one that has no catalog yet has nothing to tell a replica.
        check {
          name                     = "ready"
          type                     = "http"
          port                     = "http"
          path                     = "/health/ready"
          interval                 = "1s"
          timeout                  = "1s"
          failures_before_critical = 3
        }
      }

      config {
        image        = "registry.example.org/clipper/query-frontend@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        network_mode = "host"
      }

      env {
        CLIPPER_CLUSTER                     = "b"
        CLIPPER_FRONTEND_ID                 = "frontend-${NOMAD_SHORT_ALLOC_ID}"
        CLIPPER_HTTP_ADDRESS                = "${NOMAD_ADDR_http}"
        CLIPPER_RPC_ADDRESS                 = "tcp://${NOMAD_ADDR_rpc}"
        CLIPPER_ADVERTISED_RPC_ADDRESS      = "tcp://${NOMAD_ADDR_rpc}"
        CLIPPER_INTERNAL_ADDRESS            = "${NOMAD_ADDR_internal}"
        CLIPPER_ADVERTISED_INTERNAL_ADDRESS = "${NOMAD_ADDR_internal}"
        CLIPPER_PATH_PREFIX                 = "/clipper-b"
        CLIPPER_STORE_URL_FILE              = "/secrets/store.url"
        CLIPPER_TOKEN_FILE                  = "/secrets/admin-token"
        CLIPPER_MIRROR_PATH                 = "/alloc/data/catalog.json"
        CLIPPER_DRAIN_S                     = "15"
        CLIPPER_CURVE_SECRET_FILE           = "/secrets/curve-secret"
        CLIPPER_CURVE_SERVER_KEYS_FILE      = "/local/curve-server-keys"
        CLIPPER_ACCESS_LOG                  = "a \"quote\", $${NOMAD_ADDR_http} and \\n"
      }

      # The store moves: its address is Consul's, read again by the process whenever it connects.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-query-frontend\" }}{{ with $password := .store_password }}{{ with service \"clipper-b-redis\" }}{{ with index . 0 }}redis://:{{ $password }}@{{ .Address }}:{{ .Port }}/0{{ end }}{{ end }}{{ end }}{{ end }}"
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

      # What admin brings to ask for reports.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-query-frontend\" }}{{ .admin_token }}{{ end }}"
        destination          = "secrets/admin-token"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
      }

      # The key that all frontends of the cluster share: a replica cannot know which one it will meet.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-query-frontend\" }}{{ .curve_secret }}{{ end }}"
        destination          = "secrets/curve-secret"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
      }

      # The frontends' public key, or two while it is changed (clipper-nomad keys rotate). Read at each dial.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-query-frontend\" }}{{ .curve_server_keys }}{{ end }}"
        destination          = "local/curve-server-keys"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true

        # Nomad's own wait of 5 s is as long as an outage; with this one a change arrived after 0.23 s.
        wait {
          min = "200ms"
          max = "2s"
        }
      }

      resources {
        cpu    = 2000
        memory = 256
      }
    }
  }
}

job "clipper-b-redis" {
  type        = "service"
  datacenters = ["eu-1"]
  priority    = 50

  constraint {
    attribute = "$${attr.kernel.name}"
    operator  = "="
    value     = "linux"
  }

  constraint {
    attribute = "$${meta.ssd}"
    operator  = "is_set"
  }

  # Whose job this is. Together with the id it decides what may be changed and removed: leave it as it is.
  meta {
    clipper_cluster = "b"
    clipper_kind    = "redis"
    clipper_toolkit = "0.1.0"
    clipper_options = "{\"constraints\": [{\"attribute\": \"$${meta.ssd}\", \"operator\": \"is_set\", \"value\": \"\"}], \"memory_mb\": 1024}"
  }

  ui {
    description = "Store of the cluster b: the catalog of its apps and models."
  }

  group "clipper-b" {
    count = 1

    # One at a time, and the old one ends before the new one starts: two of them would be two truths. No way back to an
    # older version by itself: it may not read what the newer one wrote.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "1s"
      healthy_deadline  = "15m"
      progress_deadline = "20m"
      auto_revert       = false
    }

    # Back on the same node, with its data, after 1 s (plus up to a quarter); Nomad's own delay is 15 s.
    restart {
      delay    = "1s"
      attempts = 10
      interval = "5m"
      mode     = "delay"
    }

    # The shortest delay that Nomad takes is 5 s.
    reschedule {
      delay          = "5s"
      delay_function = "constant"
      unlimited      = true
    }

    # A node that is out of reach may be alive, with Redis on it: never start a second one beside it for that.
    disconnect {
      lost_after = "6h"
      replace    = false
    }

    # The data goes along to the next allocation, from another node too if that one still answers. It ends with the node.
    ephemeral_disk {
      size    = 1024
      sticky  = true
      migrate = true
    }

    network {
      port "db" {}
    }

    service {
      name = "clipper-b-redis"
      port = "db"
      tags = ["clipper", "redis"]

      # A crash is seen only by a check: the interval is how long a dead address is handed out.
      check {
        name     = "alive"
        type     = "tcp"
        interval = "1s"
        timeout  = "1s"
      }
    }

    task "clipper-b-redis" {
      driver = "docker"

      # What is in memory is on disk already; this is for closing the file in order.
      kill_timeout = "30s"

      config {
        image        = "redis:7-alpine"
        args         = ["/secrets/redis.conf"]
        network_mode = "host"
      }

      # Every write is on disk before it is answered. The password is in no jobspec.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-redis\" }}bind {{ env \"NOMAD_IP_db\" }}\nport {{ env \"NOMAD_PORT_db\" }}\ndir /alloc/data\nappendonly yes\nappendfsync always\nsave \"\"\nmaxmemory-policy noeviction\ntcp-keepalive 5\nrequirepass {{ .store_password }}\n{{ end }}"
        destination          = "secrets/redis.conf"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }
}

job "clipper-b-model-diabetes-1" {
  type        = "service"
  datacenters = ["eu-2"]
  node_pool   = "gpu"
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
    clipper_cluster       = "b"
    clipper_kind          = "model"
    clipper_toolkit       = "0.1.0"
    clipper_model         = "diabetes"
    clipper_model_version = "1"
    clipper_model_uid     = "5f2b9c0e7d1a4c33a8f0e6d2b1c47790"
  }

  ui {
    description = "Replicas of the model diabetes, version 1, of the cluster b."
  }

  group "clipper-b" {
    count = 2

    # What people and tools may set the count to; a redeploy keeps what they set. No autoscaler acts on it by itself.
    scaling {
      enabled = false
      min     = 0
      max     = 1000
    }

    # One job for each version: there is nothing to try beside (no canary) and nothing to go back to (no auto_revert).
    # Pulling an image counts against both deadlines.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "1s"
      healthy_deadline  = "15m"
      progress_deadline = "20m"
      auto_revert       = false
    }

    # A replica that its model killed is back as fast as it loads: Nomad's own delay would be 15 to 19 s. After five in a
    # minute elsewhere: the node may be what is wrong.
    restart {
      delay    = "500ms"
      attempts = 5
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

    network {
      mode = "bridge"

      port "metrics" {}
    }

    volume "volume-0" {
      type      = "host"
      source    = "weights"
      read_only = true
    }

    # The port is that of its metrics: replicas dial the frontends and listen for nothing else. No shutdown_delay, as
    # nobody is led here by Consul: the frontends stop sending when the replica says that it drains.
    service {
      name = "clipper-b-model-diabetes-1"
      port = "metrics"
      tags = ["clipper", "model", "metrics", "diabetes"]

      # Loaded and warm. Every 2 s: each look starts a process in the container, and no route depends on it.
      check {
        name     = "ready"
        type     = "script"
        task     = "clipper-b-model-diabetes-1"
        command  = "test"
        args     = ["-f", "/local/ready"]
        interval = "2s"
        timeout  = "2s"
      }
    }

    task "clipper-b-model-diabetes-1" {
      driver = "docker"

      # Above the drain (CLIPPER_DRAIN_S), in which it finishes its batches; below the progress deadline.
      kill_timeout = "45s"

      config {
        image    = "registry.example.org/clipper/diabetes@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        shm_size = 1073741824
      }

      env {
        CLIPPER_MODEL_NAME             = "diabetes"
        CLIPPER_MODEL_VERSION          = "1"
        CLIPPER_MODEL_UID              = "5f2b9c0e7d1a4c33a8f0e6d2b1c47790"
        CLIPPER_INPUT_TYPE             = "doubles"
        CLIPPER_REPLICA_ID             = "${NOMAD_SHORT_ALLOC_ID}"
        CLIPPER_RPC_MODE               = "auto"
        CLIPPER_METRICS_ADDRESS        = "0.0.0.0:${NOMAD_PORT_metrics}"
        CLIPPER_READY_FILE             = "/local/ready"
        CLIPPER_DRAIN_S                = "30"
        CLIPPER_RPC_ADDRESSES_FILE     = "/local/rpc-addresses"
        CLIPPER_CURVE_SECRET_FILE      = "/secrets/curve-secret"
        CLIPPER_CURVE_SERVER_KEYS_FILE = "/local/curve-server-keys"
        OMP_NUM_THREADS                = "2"
      }

      # Frontends move: where to meet the first ones comes from Consul, read again at each dial.
      template {
        data                 = "{{ range $index, $instance := service \"clipper-b-query-frontend-rpc\" }}{{ if $index }},{{ end }}tcp://{{ $instance.Address }}:{{ $instance.Port }}{{ end }}"
        destination          = "local/rpc-addresses"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true

        # Nomad's own wait of 5 s is as long as an outage; with this one a change arrived after 0.23 s.
        wait {
          min = "200ms"
          max = "2s"
        }
      }

      # This version's own key: the frontends know its public half, and give it this version's queries only.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-model-diabetes-1\" }}{{ .curve_secret }}{{ end }}"
        destination          = "secrets/curve-secret"
        perms                = "0444"
        change_mode          = "noop"
        error_on_missing_key = true
      }

      # The frontends' public key, or two while it is changed (clipper-nomad keys rotate). Read at each dial.
      template {
        data                 = "{{ with nomadVar \"nomad/jobs/clipper-b-model-diabetes-1\" }}{{ .curve_server_keys }}{{ end }}"
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

      volume_mount {
        volume      = "volume-0"
        destination = "/weights"
        read_only   = true
      }

      resources {
        cores      = 2
        memory     = 1024
        memory_max = 2048

        device "nvidia/gpu" {
          count = 1
        }
      }
    }
  }
}

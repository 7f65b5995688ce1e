job "clipper-default-cluster-model-diabetes-1" {
  type        = "service"
  datacenters = ["dc1"]
  priority    = 50

  # Whose job this is. Together with the id it decides what may be changed and removed: leave it as it is.
  meta {
    clipper_cluster       = "default-cluster"
    clipper_kind          = "model"
    clipper_toolkit       = "0.1.0"
    clipper_model         = "diabetes"
    clipper_model_version = "1"
    clipper_model_uid     = ""
  }

  ui {
    description = "Replicas of the model diabetes, version 1, of the cluster default-cluster."
  }

  group "clipper-default-cluster" {
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
      health_check      = "task_states"
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
    }

    # By Clipper's name. No port and no check: containers of RPC version 3 tell the frontends that they are ready.
    service {
      name = "clipper-default-cluster-model-diabetes-1"
      tags = ["clipper", "model", "diabetes"]
    }

    task "clipper-default-cluster-model-diabetes-1" {
      driver = "docker"

      # It does not drain: what it has in hand is sent to another one.
      kill_timeout = "5s"

      config {
        image        = "registry.example.org/clipper/diabetes@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        network_mode = "host"
      }

      env {
        CLIPPER_MODEL_NAME    = "diabetes"
        CLIPPER_MODEL_VERSION = "1"
        CLIPPER_INPUT_TYPE    = "doubles"
      }

      # A container of Clipper's knows one address, and reads it once: it is started anew where that moves.
      template {
        data                 = "{{ with service \"fabio\" }}{{ with index . 0 }}CLIPPER_IP={{ .Address }}\nCLIPPER_PORT=7001\n{{ end }}{{ end }}"
        destination          = "local/rpc-address.env"
        perms                = "0444"
        change_mode          = "restart"
        error_on_missing_key = true
        env                  = true

        # Nomad's own wait of 5 s is as long as an outage; with this one a change arrived after 0.23 s.
        wait {
          min = "200ms"
          max = "2s"
        }
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}

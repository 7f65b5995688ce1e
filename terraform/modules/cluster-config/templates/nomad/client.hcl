client {
  enabled           = true
  node_pool         = ${node_pool}
  network_interface = ${network_interface}

  # Never give up: after a longer outage of Consul tasks would not reach their files until they are started anew.
  template {
    consul_retry {
      attempts = 0
    }

    nomad_retry {
      attempts = 0
    }
  }
}

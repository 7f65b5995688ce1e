# Where Docker is not Nomad's alone: images stay, and containers that another Nomad started are left alone.
plugin "docker" {
  config {
    gc {
      image = false

      dangling_containers {
        enabled = false
      }
    }
  }
}

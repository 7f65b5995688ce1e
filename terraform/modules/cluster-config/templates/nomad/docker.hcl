# All of Docker's driver in one block: a second `plugin "docker"` would not add to this, it would replace it.
plugin "docker" {
  config {
    # Jobs get no folders of the machine but host volumes.
    volumes {
      enabled = false
    }

    # Logins to registries, as `docker login` writes them; "" for none.
    auth {
      config = ${login_file}
    }

    # Whether Nomad removes images that no job uses, and containers that another Nomad started.
    gc {
      image = ${owns_docker}

      dangling_containers {
        enabled = ${owns_docker}
      }
    }
  }
}

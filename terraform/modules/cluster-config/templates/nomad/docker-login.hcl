# In place of docker.hcl: with logins of this machine to registries, as `docker login` writes them.
plugin "docker" {
  config {
    volumes {
      enabled = false
    }

    auth {
      config = ${config_file}
    }
  }
}

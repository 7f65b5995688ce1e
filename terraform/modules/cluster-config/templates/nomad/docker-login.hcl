# Logins of this machine to registries, as `docker login` writes them.
plugin "docker" {
  config {
    auth {
      config = ${config_file}
    }
  }
}

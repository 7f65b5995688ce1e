# Jobs get no folders of the machine but host volumes.
plugin "docker" {
  config {
    volumes {
      enabled = false
    }
  }
}

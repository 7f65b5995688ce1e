# Jobs get no folders of the machine but host volumes. A second `plugin "docker"` would not add to this: it would replace it.
plugin "docker" {
  config {
    volumes {
      enabled = false
    }
  }
}

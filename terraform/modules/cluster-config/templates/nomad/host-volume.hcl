client {
  host_volume ${name} {
    path      = ${path}
    read_only = ${read_only}
  }
}

# So that others find Fabio in Consul. Fabio itself would register the address of its admin port, which is loopback here.
service {
  name = "fabio"
  port = ${http_port}

  check {
    name     = "http"
    tcp      = ${check_addr}
    interval = "2s"
    timeout  = "1s"
  }
}

# Queries come in at one address, on port 9999; its rules keep to query_cidrs. Replicas dial port 7000 of the machines
# that run Fabio directly, by their name in Consul.

resource "scaleway_lb_ip" "queries" {}

resource "scaleway_lb" "queries" {
  name   = var.name
  type   = var.balancer_type
  ip_ids = [scaleway_lb_ip.queries.id]
  tags   = local.tags

  private_network {
    private_network_id = scaleway_vpc_private_network.cluster.id
  }
}

resource "scaleway_lb_backend" "queries" {
  lb_id            = scaleway_lb.queries.id
  name             = "fabio"
  forward_protocol = "tcp"
  forward_port     = module.config.ports.fabio_http
  server_ips       = [for name, machine in module.config.machines : local.addresses[name] if machine.role == "load_balancer"]

  health_check_delay       = "10s"
  health_check_timeout     = "5s"
  health_check_max_retries = 2

  health_check_tcp {} # Fabio answers 503 where nothing is deployed yet, and is well

  depends_on = [scaleway_instance_private_nic.machine]
}

resource "scaleway_lb_frontend" "queries" {
  lb_id        = scaleway_lb.queries.id
  backend_id   = scaleway_lb_backend.queries.id
  name         = "queries"
  inbound_port = module.config.ports.fabio_http

  acl {
    name = "query_cidrs"

    action {
      type = "allow"
    }

    match {
      ip_subnet = var.query_cidrs
    }
  }

  acl {
    name = "nobody-else"

    action {
      type = "deny"
    }

    match {
      ip_subnet = ["0.0.0.0/0", "::/0"]
    }
  }
}

# A load balancer of Hetzner's, where one is wanted.

resource "hcloud_load_balancer" "queries" {
  count              = var.balancer_type == null ? 0 : 1
  name               = var.name
  load_balancer_type = var.balancer_type
  location           = var.location
  labels             = local.labels

  lifecycle {
    precondition {
      condition     = contains(var.query_cidrs, "0.0.0.0/0")
      error_message = "Hetzner's load balancers have no firewall: with balancer_type everybody may send queries, and query_cidrs (${join(", ", var.query_cidrs)}) says otherwise. Add 0.0.0.0/0 to query_cidrs, or leave out balancer_type: the firewall of the machines that run Fabio keeps to query_cidrs."
    }
  }
}

resource "hcloud_load_balancer_network" "queries" {
  count            = var.balancer_type == null ? 0 : 1
  load_balancer_id = hcloud_load_balancer.queries[0].id
  subnet_id        = hcloud_network_subnet.cluster.id
}

resource "hcloud_load_balancer_target" "queries" {
  for_each         = var.balancer_type == null ? {} : { for name, machine in module.config.machines : name => machine if machine.role == "load_balancer" }
  load_balancer_id = hcloud_load_balancer.queries[0].id
  type             = "server"
  server_id        = hcloud_server.machine[each.key].id
  use_private_ip   = true

  depends_on = [hcloud_load_balancer_network.queries]
}

resource "hcloud_load_balancer_service" "queries" {
  count            = var.balancer_type == null ? 0 : 1
  load_balancer_id = hcloud_load_balancer.queries[0].id
  protocol         = "tcp"
  listen_port      = module.config.ports.fabio_http
  destination_port = module.config.ports.fabio_http

  health_check {
    protocol = "tcp" # Fabio answers 503 where nothing is deployed yet, and is well
    port     = module.config.ports.fabio_http
    interval = 10
    timeout  = 5
    retries  = 2
  }
}

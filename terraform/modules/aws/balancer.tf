# Queries come in at one name, on port 9999. A network load balancer leaves the caller's address as it is, so that the
# security group of the load balancers' machines decides who may ask (query_cidrs). Replicas dial port 7000 of those
# machines directly, by their name in Consul.

resource "aws_lb" "queries" {
  name               = var.name
  load_balancer_type = "network"
  internal           = !var.public
  subnets            = local.subnet_ids
  tags               = local.tags

  enable_cross_zone_load_balancing = true

  lifecycle {
    precondition {
      condition     = var.public || var.subnet_ids != null
      error_message = "public = false needs subnets from which machines reach the internet without public addresses (by a NAT gateway): give subnet_ids, or leave public at true; who gets in is decided by allowed_cidrs and query_cidrs either way."
    }
  }
}

resource "aws_lb_target_group" "queries" {
  name                 = var.name
  vpc_id               = local.vpc_id
  protocol             = "TCP"
  port                 = module.config.ports.fabio_http
  preserve_client_ip   = true
  deregistration_delay = 30
  tags                 = local.tags

  health_check {
    protocol            = "TCP" # Fabio answers 503 where nothing is deployed yet, and is well
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group_attachment" "queries" {
  for_each         = { for name, machine in module.config.machines : name => machine if machine.role == "load_balancer" }
  target_group_arn = aws_lb_target_group.queries.arn
  target_id        = aws_instance.machine[each.key].id
}

resource "aws_lb_listener" "queries" {
  load_balancer_arn = aws_lb.queries.arn
  protocol          = "TCP"
  port              = module.config.ports.fabio_http
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.queries.arn
  }
}

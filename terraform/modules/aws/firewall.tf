# A security group for each role, with the rules that cluster-config gives as data: one of AWS's for each address range.

locals {
  roles = toset([for machine in values(module.config.machines) : machine.role])
  ingress = merge([
    for rule in module.config.firewall_rules : {
      for cidr in rule.cidrs :
      "${rule.role} ${rule.protocol} ${rule.from_port}-${rule.to_port} ${cidr}" => merge(rule, { cidr = cidr })...
    }
  ]...)
}

resource "aws_security_group" "role" {
  for_each    = local.roles
  name_prefix = "${var.name}-${replace(each.key, "_", "-")}-"
  description = "${var.name}: ${replace(each.key, "_", " ")}s"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-${replace(each.key, "_", "-")}" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "role" {
  for_each          = local.ingress
  security_group_id = aws_security_group.role[each.value[0].role].id
  description       = each.value[0].description
  ip_protocol       = each.value[0].protocol
  from_port         = each.value[0].from_port
  to_port           = each.value[0].to_port
  cidr_ipv4         = strcontains(each.value[0].cidr, ":") ? null : each.value[0].cidr
  cidr_ipv6         = strcontains(each.value[0].cidr, ":") ? each.value[0].cidr : null
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "role" {
  for_each          = local.roles
  security_group_id = aws_security_group.role[each.key].id
  description       = "releases, images, packages; AWS"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
  tags              = local.tags
}

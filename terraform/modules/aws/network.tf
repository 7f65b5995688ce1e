# A VPC with a public subnet in each of up to three availability zones, or the subnets that were given.

locals {
  makes_network = var.subnet_ids == null
  zones         = local.makes_network ? slice(data.aws_availability_zones.up[0].names, 0, min(3, length(data.aws_availability_zones.up[0].names))) : []
  vpc_id        = local.makes_network ? aws_vpc.cluster[0].id : data.aws_subnet.given[0].vpc_id
  private_cidr  = local.makes_network ? var.vpc_cidr : data.aws_vpc.given[0].cidr_block
  subnet_ids    = local.makes_network ? aws_subnet.cluster[*].id : var.subnet_ids
}

data "aws_availability_zones" "up" {
  count = local.makes_network ? 1 : 0
  state = "available"

  filter { # no local zones: not every type of machine is there
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_subnet" "given" {
  count = local.makes_network ? 0 : 1
  id    = var.subnet_ids[0]
}

data "aws_vpc" "given" {
  count = local.makes_network ? 0 : 1
  id    = data.aws_subnet.given[0].vpc_id
}

resource "aws_vpc" "cluster" {
  count                = local.makes_network ? 1 : 0
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

resource "aws_internet_gateway" "cluster" {
  count  = local.makes_network ? 1 : 0
  vpc_id = aws_vpc.cluster[0].id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_subnet" "cluster" {
  count             = length(local.zones)
  vpc_id            = aws_vpc.cluster[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, count.index)
  tags              = merge(local.tags, { Name = "${var.name}-${local.zones[count.index]}" })
}

resource "aws_route_table" "cluster" {
  count  = local.makes_network ? 1 : 0
  vpc_id = aws_vpc.cluster[0].id
  tags   = merge(local.tags, { Name = var.name })

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.cluster[0].id
  }
}

resource "aws_route_table_association" "cluster" {
  count          = length(local.zones)
  subnet_id      = aws_subnet.cluster[count.index].id
  route_table_id = aws_route_table.cluster[0].id
}

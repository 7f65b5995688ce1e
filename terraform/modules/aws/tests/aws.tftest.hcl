# What must hold of everything that is made on AWS. No account and no network: terraform init -plugin-dir=…, terraform test.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-west-3" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-3a", "eu-west-3b", "eu-west-3c", "eu-west-3d"] }
  }
  mock_data "aws_ami" {
    defaults = { id = "ami-0123456789abcdef0" }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-0a" }
  }
  mock_data "aws_vpc" {
    defaults = { cidr_block = "172.31.0.0/16" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-3:123456789012:loadbalancer/net/ml/1", dns_name = "ml.elb.eu-west-3.amazonaws.com" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-3:123456789012:targetgroup/ml/1" }
  }
  mock_resource "aws_instance" {
    defaults = { public_ip = "203.0.113.9", private_ip = "10.65.0.9" }
  }
}

variables {
  name          = "ml"
  servers       = 3
  clients       = 2
  allowed_cidrs = ["198.51.100.0/24", "2001:db8::/32"]
  query_cidrs   = ["0.0.0.0/0", "::/0"]
  releases = {
    consul = { version = "1.22.7", sha256 = { amd64 = "1111111111111111111111111111111111111111111111111111111111111111", arm64 = "1111111111111111111111111111111111111111111111111111111111111111" } }
    nomad  = { version = "1.11.3", sha256 = { amd64 = "2222222222222222222222222222222222222222222222222222222222222222", arm64 = "2222222222222222222222222222222222222222222222222222222222222222" } }
    fabio  = { version = "1.7.3", sha256 = { amd64 = "3333333333333333333333333333333333333333333333333333333333333333", arm64 = "3333333333333333333333333333333333333333333333333333333333333333" } }
  }
}

run "everybody_reaches_the_port_of_queries_and_no_other" {
  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.role : rule.from_port == 9999 && rule.to_port == 9999
      if rule.cidr_ipv4 == "0.0.0.0/0" || rule.cidr_ipv6 == "::/0"
    ])
    error_message = "A port other than 9999 is open to the world."
  }
  assert {
    condition     = length([for rule in aws_vpc_security_group_ingress_rule.role : rule if rule.cidr_ipv4 == "0.0.0.0/0" || rule.cidr_ipv6 == "::/0"]) == 2
    error_message = "Queries must come in at 9999 over IPv4 and IPv6, at the load balancers only."
  }
  assert {
    condition = sort(distinct([
      for key, rule in aws_vpc_security_group_ingress_rule.role : "${rule.from_port}" if rule.cidr_ipv4 == "198.51.100.0/24"
    ])) == sort(["22", "4646", "8501"])
    error_message = "allowed_cidrs must reach SSH, Nomad and Consul."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.role : (rule.cidr_ipv4 == null) != (rule.cidr_ipv6 == null)])
    error_message = "A rule has one address range."
  }
}

run "machines_keep_their_role_to_themselves" {
  assert {
    condition     = length(aws_instance.machine) == 3 + 2 + 1
    error_message = "Three servers, two clients and a load balancer are wanted."
  }
  assert {
    condition     = alltrue([for each in aws_instance.machine : each.metadata_options[0].http_tokens == "required" && each.metadata_options[0].http_put_response_hop_limit == 1])
    error_message = "Metadata must want a session token (IMDSv2), and go no further than the machine."
  }
  assert {
    condition     = alltrue([for each in aws_instance.machine : each.root_block_device[0].encrypted])
    error_message = "Root disks must be encrypted."
  }
  assert {
    condition     = alltrue([for each in aws_instance.machine : nonsensitive(length(each.user_data_base64)) * 3 / 4 <= 16384])
    error_message = "AWS takes 16 KiB of user data."
  }
  assert {
    condition     = length(distinct([for each in aws_instance.machine : each.subnet_id if each.tags["clipper-role"] == "server"])) == 3
    error_message = "Servers must be in availability zones of their own."
  }
  assert {
    condition     = alltrue([for each in aws_instance.machine : (lookup(each.tags, "clipper-join", "") == "ml-server") == (each.tags["clipper-role"] == "server")])
    error_message = "Who joins looks for servers by their tag, and only servers have it."
  }
}

run "each_role_reads_its_own_secrets_and_servers_write_them" {
  assert {
    condition = jsonencode({
      for role, policy in aws_iam_role_policy.role : role => sort(flatten([
        for statement in jsondecode(policy.policy).Statement : statement.Resource if contains(statement.Action, "ssm:GetParameter")
      ]))
      }) == jsonencode({
      client        = ["arn:aws:ssm:eu-west-3:123456789012:parameter/clipper/ml/client"]
      load_balancer = ["arn:aws:ssm:eu-west-3:123456789012:parameter/clipper/ml/load_balancer"]
      server        = [for role in ["client", "load_balancer", "operator", "server"] : "arn:aws:ssm:eu-west-3:123456789012:parameter/clipper/ml/${role}"]
    })
    error_message = "A role reads the secrets of others."
  }
  assert {
    condition = join(" ", [
      for role, policy in aws_iam_role_policy.role : role
      if anytrue([for statement in jsondecode(policy.policy).Statement : contains(statement.Action, "ssm:PutParameter")])
    ]) == "server"
    error_message = "Only servers write secrets."
  }
  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.role : [
        for statement in jsondecode(policy.policy).Statement : join(" ", statement.Action) == "ec2:DescribeInstances" || !contains(statement.Resource, "*")
      ]
    ]))
    error_message = "Rights on everything are for finding servers only."
  }
}

run "queries_come_in_at_the_load_balancer_with_their_own_address" {
  assert {
    condition     = aws_lb.queries.load_balancer_type == "network" && !aws_lb.queries.internal && aws_lb_listener.queries.port == 9999
    error_message = "A public network load balancer on 9999 is wanted."
  }
  assert {
    condition     = aws_lb_target_group.queries.preserve_client_ip == "true"
    error_message = "Without the caller's address the security group cannot tell who may ask."
  }
  assert {
    condition     = join(" ", keys(aws_lb_target_group_attachment.queries)) == "ml-lb-0"
    error_message = "It leads to the machines with Fabio."
  }
}

run "the_outputs_lead_the_toolkit_there" {
  assert {
    condition     = output.nomad_addr == "https://203.0.113.9:4646" && output.consul_addr == "https://203.0.113.9:8501"
    error_message = "${output.nomad_addr} ${output.consul_addr}"
  }
  assert {
    condition     = output.fabio_http_url == "http://ml.elb.eu-west-3.amazonaws.com:9999" && output.fabio_tcp_addr == "fabio.service.consul:7000"
    error_message = "${output.fabio_http_url} ${output.fabio_tcp_addr}"
  }
  assert {
    condition = alltrue([
      for line in ["export NOMAD_ADDR='https://203.0.113.9:4646'", "export CLIPPER_FABIO='ml.elb.eu-west-3.amazonaws.com:9999'", "export NOMAD_TLS_SERVER_NAME='server.global.nomad'"] :
      strcontains(output.env, line)
    ])
    error_message = output.env
  }
}

run "given_subnets_are_used_and_nothing_of_a_network_is_made" {
  variables {
    subnet_ids = ["subnet-a", "subnet-b"]
    public     = false
  }

  assert {
    condition     = length(aws_vpc.cluster) == 0 && length(aws_subnet.cluster) == 0 && aws_lb.queries.internal
    error_message = "A network was made."
  }
  assert {
    condition     = toset([for each in aws_instance.machine : each.subnet_id]) == toset(["subnet-a", "subnet-b"])
    error_message = "The given subnets were not used."
  }
  assert {
    condition     = output.nomad_addr == "https://10.65.0.9:4646"
    error_message = output.nomad_addr
  }
}

run "machines_without_public_addresses_need_subnets_with_a_way_out" {
  command = plan

  variables {
    public = false
  }

  expect_failures = [aws_lb.queries]
}

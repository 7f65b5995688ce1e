# The first server makes the secrets and puts one bundle for each role into a SecureString parameter of SSM, from where
# the machines of that role fetch theirs. Terraform never sees one: neither the state nor the user data has a secret.

locals {
  parameter_path = "/clipper/${var.name}"
  arn_prefix     = "arn:${data.aws_partition.here.partition}:ssm:${data.aws_region.here.id}:${data.aws_caller_identity.here.account_id}:parameter${local.parameter_path}"
  bundles        = ["server", "client", "load_balancer", "operator"]
  readable       = { server = local.bundles, client = ["client"], load_balancer = ["load_balancer"] }

  secret_commands = {
    for action in ["fetch", "store"] : action => templatefile("${path.module}/files/ssm.sh", {
      action   = action
      endpoint = "https://ssm.${data.aws_region.here.id}.${data.aws_partition.here.dns_suffix}/"
      region   = data.aws_region.here.id
      path     = local.parameter_path
      key      = var.kms_key_arn == null ? "alias/aws/ssm" : var.kms_key_arn
    })
  }
}

data "aws_caller_identity" "here" {}

resource "aws_iam_role" "role" {
  for_each    = local.roles
  name_prefix = "${substr(var.name, 0, 20)}-${replace(each.key, "_", "-")}-" # AWS takes 38 characters
  description = "${var.name}: ${replace(each.key, "_", " ")}s"
  tags        = local.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.${data.aws_partition.here.dns_suffix}" }
    }]
  })
}

resource "aws_iam_role_policy" "role" {
  for_each = local.roles
  name     = "cluster"
  role     = aws_iam_role.role[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        { # Consul and Nomad find the servers by their tag; AWS has no narrower right for it
          Sid      = "FindServers"
          Effect   = "Allow"
          Action   = ["ec2:DescribeInstances"]
          Resource = ["*"]
        },
        {
          Sid      = "ReadOwnSecrets"
          Effect   = "Allow"
          Action   = ["ssm:GetParameter"]
          Resource = [for bundle in local.readable[each.key] : "${local.arn_prefix}/${bundle}"]
        },
      ],
      each.key != "server" ? [] : [{
        Sid      = "WriteSecrets"
        Effect   = "Allow"
        Action   = ["ssm:PutParameter"]
        Resource = [for bundle in local.bundles : "${local.arn_prefix}/${bundle}"]
      }],
      var.kms_key_arn == null ? [] : [{
        Sid       = "UseKeyThroughSsm"
        Effect    = "Allow"
        Action    = each.key == "server" ? ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
        Resource  = [var.kms_key_arn]
        Condition = { StringEquals = { "kms:ViaService" = "ssm.${data.aws_region.here.id}.${data.aws_partition.here.dns_suffix}" } }
      }],
    )
  })
}

resource "aws_iam_instance_profile" "role" {
  for_each    = local.roles
  name_prefix = "${substr(var.name, 0, 20)}-${replace(each.key, "_", "-")}-" # AWS takes 38 characters
  role        = aws_iam_role.role[each.key].name
  tags        = local.tags
}

locals {
  # How whoever applies this gets the operator's secrets: with the rights that AWS's own command line has here.
  receive_command = "aws ssm get-parameter --region ${data.aws_region.here.id} --name ${local.parameter_path}/operator --with-decryption --query Parameter.Value --output text"
}

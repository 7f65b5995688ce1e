data "aws_ami" "debian" {
  count       = var.image_id == null ? 1 : 0
  most_recent = true
  owners      = ["136693071363"] # Debian's own account

  filter {
    name   = "name"
    values = ["debian-12-${var.architecture}-*"]
  }
  filter {
    name   = "virtualization-type"
    values = ["hvm"]
  }
}

locals {
  image_id = var.image_id == null ? data.aws_ami.debian[0].id : var.image_id
}

resource "aws_instance" "machine" {
  for_each                    = module.config.machines
  ami                         = local.image_id
  instance_type               = var.instance_types[each.value.role]
  subnet_id                   = local.subnet_ids[each.value.index % length(local.subnet_ids)]
  vpc_security_group_ids      = [aws_security_group.role[each.value.role].id]
  associate_public_ip_address = var.public
  iam_instance_profile        = aws_iam_instance_profile.role[each.value.role].name
  key_name                    = var.key_name
  user_data_base64            = sensitive(each.value.user_data_gzip) # no secret; so that a plan can be read

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # not from containers that have a network of their own
    instance_metadata_tags      = "disabled"
  }

  root_block_device {
    encrypted             = true
    kms_key_id            = var.kms_key_arn
    volume_type           = "gp3"
    volume_size           = var.disk_gb[each.value.role]
    delete_on_termination = true
    tags                  = merge(local.tags, { Name = each.key })
  }

  tags = merge(
    local.tags,
    { Name = each.key, "clipper-role" = each.value.role },
    each.value.role == "server" ? { (local.join_tag.key) = local.join_tag.value } : {},
  )

  lifecycle {
    # Another image or configuration would replace or stop all machines at once, servers and their data among them.
    # README.md, "Changing a machine", says how to do it one by one.
    ignore_changes = [ami, user_data_base64]

    precondition {
      condition     = length(each.value.user_data_gzip) * 3 / 4 <= 16384
      error_message = "The user data of ${each.key} has ${length(each.value.user_data_gzip) * 3 / 4} bytes gzipped; AWS takes 16384. Shorten what varies: docker_registries, host_volumes, allowed_cidrs."
    }
  }

  depends_on = [aws_iam_role_policy.role, aws_route_table_association.cluster]
}

# Tasks call AWS's services, and whatever the business logic calls, by HTTPS; nothing calls them. Their
# route out depends on the subnets: a NAT gateway or VPC endpoints (AWS charges for both by the hour;
# they are not created here), or assign_public_ip in public subnets.

locals {
  own_security_group = length(var.security_group_ids) == 0
  security_group_ids = local.own_security_group ? aws_security_group.this[*].id : var.security_group_ids
}

data "aws_subnet" "first" {
  count = local.own_security_group ? min(1, length(var.subnet_ids)) : 0

  id = var.subnet_ids[0]
}

resource "aws_security_group" "this" {
  count = local.own_security_group ? 1 : 0

  name        = "ecs-${local.name}" # AWS refuses names that begin with sg-, as a service's may
  description = "Tasks of ${local.name}: HTTPS out, nothing in."
  vpc_id      = data.aws_subnet.first[0].vpc_id

  # AWS deletes no security group that tasks still use, so the service gets the other one first. The rules
  # follow: without them, the running tasks would reach nothing.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  count = local.own_security_group ? 1 : 0

  security_group_id = aws_security_group.this[0].id
  description       = "AWS services"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "https_ipv6" {
  count = local.own_security_group && var.ipv6 ? 1 : 0

  security_group_id = aws_security_group.this[0].id
  description       = "AWS services, by IPv6"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv6         = "::/0"

  lifecycle {
    create_before_destroy = true
  }
}

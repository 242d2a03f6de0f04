{% if cookiecutter.compute == "lambda" %}
# What the function may do: take messages from its queue, write its log, and what service.tf adds for
# the business logic. Nothing else.

resource "aws_iam_role" "code" {
  name                 = local.name
  description          = "Role that ${local.name} runs in."
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = "lambda.amazonaws.com" }
        Action    = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy" "code" {
  name = "code"
  role = aws_iam_role.code.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "TakeMessages"
          Effect   = "Allow"
          Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
          Resource = aws_sqs_queue.main.arn
        },
        {
          Sid      = "WriteLog"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.code.arn}:*" # the log group's streams
        },
      ],
      var.tracing_mode != "Active" ? [] : [
        {
          Sid      = "Trace"
          Effect   = "Allow"
          Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
          Resource = "*" # these actions have no resource level
        },
      ],
      !local.in_vpc ? [] : [
        {
          Sid    = "Network"
          Effect = "Allow"
          Action = [
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
          ]
          Resource = "*" # Describe has no resource level, and Lambda names the network interfaces
        },
      ],
    )
  })
}
{% else %}
# Two roles: the worker's, which the code runs in, and the execution role, in which ECS starts a task.

# What the worker may do: take messages from its queue, keep its task from being stopped while it has
# one, and what service.tf adds for the business logic. Nothing else.
resource "aws_iam_role" "code" {
  name                 = local.name
  description          = "Role that the tasks of ${local.name} run in."
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
        Action    = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy" "code" {
  name = "code"
  role = aws_iam_role.code.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "TakeMessages"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
        Resource = aws_sqs_queue.main.arn
      },
      {
        # Keeps a message hidden from other tasks for as long as it is being processed.
        Sid      = "KeepMessages"
        Effect   = "Allow"
        Action   = ["sqs:ChangeMessageVisibility"]
        Resource = aws_sqs_queue.main.arn
      },
      {
        # Keeps ECS from choosing this task to stop while it is processing a message.
        Sid      = "ProtectTask"
        Effect   = "Allow"
        Action   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
        Resource = "${replace(local.cluster_arn, ":cluster/", ":task/")}/*" # tasks of this cluster
      },
    ]
  })
}

# What ECS may do to start a task: pull the image and write the log.
resource "aws_iam_role" "execution" {
  name                 = "${local.name}-execution"
  description          = "Role that ECS starts the tasks of ${local.name} in."
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
        Action    = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy" "execution" {
  name = "execution"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.code.arn}:*" # the log group's streams
      },
      {
        Sid      = "PullImage"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = aws_ecr_repository.this.arn
      },
      {
        Sid      = "LogInToRegistry"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = "*" # this action has no resource level
      },
    ]
  })
}
{% endif %}

# What service.tf adds for the business logic.
resource "aws_iam_role_policy" "added" {
  count = length(local.added_permissions) > 0 ? 1 : 0

  name = "added"
  role = aws_iam_role.code.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.added_permissions
  })
}

# What a task needs to run. Its code's role is the one in iam.tf; the execution role is ECS's own, to
# fetch the image and to write the log.

locals {
  runs_on = "ecs-tasks.amazonaws.com"

  permissions_to_run = [
    {
      # A message in hand stays hidden from others for as long as it takes.
      Sid      = "KeepMessages"
      Effect   = "Allow"
      Action   = ["sqs:ChangeMessageVisibility"]
      Resource = aws_sqs_queue.main.arn
    },
    {
      # With a message in hand a task is not chosen to be stopped.
      Sid      = "ProtectTask"
      Effect   = "Allow"
      Action   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
      Resource = "${replace(local.cluster_arn, ":cluster/", ":task/")}/*" # tasks of this cluster
    },
  ]
}

resource "aws_iam_role" "execution" {
  name                 = "${local.name}-execution"
  description          = "Role in which ECS starts the tasks of ${local.name}."
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = local.runs_on }
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
        Resource = "${aws_cloudwatch_log_group.function.arn}:*" # the log group's streams
      },
      {
        Sid      = "FetchImage"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = aws_ecr_repository.this.arn
      },
      {
        Sid      = "SignInToRegistry"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = "*" # AWS has no resource level here
      },
    ]
  })
}

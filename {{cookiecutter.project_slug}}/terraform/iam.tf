# What the code may do: take messages from its queue, what it needs to run, and what service.tf adds
# for the business logic.

resource "aws_iam_role" "function" {
  name                 = local.name
  description          = "Role of the code of ${local.name}."
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

resource "aws_iam_role_policy" "function" {
  name = "function"
  role = aws_iam_role.function.id

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
      ],
      local.permissions_to_run,
      local.added_permissions,
    )
  })
}

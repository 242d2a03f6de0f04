# Created before anything is written to it: a log group that AWS creates keeps the log forever.
resource "aws_cloudwatch_log_group" "code" {
  #checkov:skip=CKV_AWS_158:AWS's own key encrypts the log, which never contains the payload of a message.
  #checkov:skip=CKV_AWS_338:log_retention_in_days sets how long the log is kept; its readers need weeks, not a year.
  name              = local.log_group_name
  retention_in_days = var.log_retention_in_days
}

# With log_destination_arn, the log is also sent to a central system.

locals {
  # kinesis, firehose, lambda or logs; empty without a destination.
  log_destination_service = try(split(":", var.log_destination_arn)[2], "")

  # CloudWatch Logs writes to a stream in a role. A function needs a permission instead, and a CloudWatch
  # Logs destination has a role of its own.
  log_destination_actions = {
    kinesis  = ["kinesis:PutRecord", "kinesis:PutRecords"]
    firehose = ["firehose:PutRecord", "firehose:PutRecordBatch"]
  }
  log_destination_is_stream = contains(keys(local.log_destination_actions), local.log_destination_service)
}

resource "aws_cloudwatch_log_subscription_filter" "central" {
  count = var.log_destination_arn == null ? 0 : 1

  name            = local.name
  log_group_name  = aws_cloudwatch_log_group.code.name
  filter_pattern  = "" # everything
  destination_arn = var.log_destination_arn
  role_arn        = one(aws_iam_role.log_subscription[*].arn)

  depends_on = [aws_iam_role_policy.log_subscription, aws_lambda_permission.log_subscription]
}

resource "aws_iam_role" "log_subscription" {
  count = local.log_destination_is_stream ? 1 : 0

  name                 = "${local.name}-log"
  description          = "Role that CloudWatch Logs forwards the log of ${local.name} in."
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = "logs.amazonaws.com" }
        Action    = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy" "log_subscription" {
  count = local.log_destination_is_stream ? 1 : 0

  name = "log-subscription"
  role = aws_iam_role.log_subscription[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "SendLog"
        Effect   = "Allow"
        Action   = local.log_destination_actions[local.log_destination_service]
        Resource = var.log_destination_arn
      },
    ]
  })
}

resource "aws_lambda_permission" "log_subscription" {
  count = local.log_destination_service == "lambda" ? 1 : 0

  statement_id  = local.name
  function_name = var.log_destination_arn
  action        = "lambda:InvokeFunction"
  principal     = "logs.amazonaws.com"
  source_arn    = "${aws_cloudwatch_log_group.code.arn}:*"
}

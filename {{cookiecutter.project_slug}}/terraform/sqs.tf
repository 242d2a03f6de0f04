# Three queues: what is to be done, what failed too often, and what SNS could not deliver.

locals {
  seven_days    = 7 * 24 * 60 * 60
  fourteen_days = 14 * 24 * 60 * 60 # the longest that SQS keeps messages

  queues = {
    main        = aws_sqs_queue.main
    dead_letter = aws_sqs_queue.dead_letter
    undelivered = aws_sqs_queue.undelivered
  }
}

resource "aws_sqs_queue" "main" {
  name                       = local.name
  visibility_timeout_seconds = local.visibility_timeout
  message_retention_seconds  = local.seven_days
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
}

# Messages that failed max_receive_count times. A message's age counts on from when it was sent, so
# this queue keeps them for longer than the first: at least seven days remain to look at them.
resource "aws_sqs_queue" "dead_letter" {
  name                      = "${local.name}-dlq"
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true
}

# Messages that SNS could not put into the first queue, for example because of a wrong policy.
resource "aws_sqs_queue" "undelivered" {
  name                      = "${local.name}-undelivered"
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true
}

# In a resource of its own, so that both queues are made at the same time.
resource "aws_sqs_queue_redrive_policy" "main" {
  queue_url = aws_sqs_queue.main.id

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letter.arn
    maxReceiveCount     = var.max_receive_count
  })
}

# No other queue may use this dead-letter queue.
resource "aws_sqs_queue_redrive_allow_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.main.arn]
  })
}

# Who may do what: SNS may send to the two queues that it fills, for this topic only, and nobody gets
# in without TLS. What people and roles of this account may do is for their own policies to say.
resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  queue_url = each.value.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "TLSOnly"
          Effect    = "Deny"
          Principal = "*"
          Action    = "sqs:*"
          Resource  = each.value.arn
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        },
      ],
      each.key == "dead_letter" ? [] : [
        {
          Sid       = "FromTopic"
          Effect    = "Allow"
          Principal = { Service = "sns.amazonaws.com" }
          Action    = "sqs:SendMessage"
          Resource  = each.value.arn
          Condition = { ArnEquals = { "aws:SourceArn" = local.topic_arn } }
        },
      ],
    )
  })
}

# prevent_destroy takes no variable, so it guards a marker that falls with the queues: a plan that
# destroys, renames or replaces one of them would replace the marker, and Terraform refuses it.
resource "terraform_data" "queues_are_protected" {
  count = var.deletion_protection ? 1 : 0

  triggers_replace = [for queue in local.queues : queue.arn]

  lifecycle {
    prevent_destroy = true
  }
}

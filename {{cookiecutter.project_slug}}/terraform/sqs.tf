# Three queues: for the messages to process, for those that failed too often (the dead-letter queue), and
# for those that SNS could not deliver.

locals {
{% if not cookiecutter.__fifo %}
  seven_days    = 7 * 24 * 60 * 60
{% endif %}
  fourteen_days = 14 * 24 * 60 * 60 # SQS's maximum

  queues = {
    main        = aws_sqs_queue.main
    dead_letter = aws_sqs_queue.dead_letter
    undelivered = aws_sqs_queue.undelivered
  }
}

resource "aws_sqs_queue" "main" {
{% if cookiecutter.__fifo %}
  name                       = "${local.name}.fifo"
  visibility_timeout_seconds = local.visibility_timeout
  message_retention_seconds  = local.fourteen_days
{% else %}
  name                       = local.name
  visibility_timeout_seconds = local.visibility_timeout
  message_retention_seconds  = local.seven_days
{% endif %}
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
{% if cookiecutter.__fifo %}

  fifo_queue            = true
  fifo_throughput_limit = var.high_throughput ? "perMessageGroupId" : "perQueue"

  # With scope "queue", SQS would drop a message whose deduplication ID another group has used, although
  # the topic may have let both through.
  deduplication_scope = "messageGroup"
{% endif %}
}

{% if cookiecutter.__fifo %}
# Messages that failed max_receive_count times. A message that moves here lets its group go on. In a FIFO
# queue its age starts anew: 14 days remain to look at it.
{% else %}
# Messages that failed max_receive_count times. A message keeps its age when it moves here, so this queue
# keeps messages for longer than the main queue: at least seven days remain to look at them.
{% endif %}
resource "aws_sqs_queue" "dead_letter" {
  name                      = "${local.name}-dlq{{ cookiecutter.__fifo }}"
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true
{% if cookiecutter.__fifo %}
  fifo_queue                = true # as SQS demands of a FIFO queue's dead-letter queue
{% endif %}
}

# Messages that SNS could not send to the main queue, for example because of a wrong policy.
resource "aws_sqs_queue" "undelivered" {
  name                      = "${local.name}-undelivered{{ cookiecutter.__fifo }}"
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true
{% if cookiecutter.__fifo %}
  fifo_queue                = true # as SNS demands of a FIFO topic's dead-letter queue
  deduplication_scope       = "messageGroup"
{% endif %}
}

# A resource of its own, so that both queues are created at the same time.
resource "aws_sqs_queue_redrive_policy" "main" {
{% if cookiecutter.__fifo %}
  count = var.hold_failed_groups ? 0 : 1

{% endif %}
  queue_url = aws_sqs_queue.main.id

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letter.arn
    maxReceiveCount     = var.max_receive_count
  })
}

# No other queue can use this dead-letter queue.
resource "aws_sqs_queue_redrive_allow_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.main.arn]
  })
}

# SNS can send to two of the queues, for this topic only, and nobody can do anything without TLS. What
# the people and roles of this account can do is up to their own policies.
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

# prevent_destroy can't depend on a variable, so it protects this marker instead: a plan that destroys,
# renames or replaces a queue would also replace the marker, and Terraform refuses that.
resource "terraform_data" "queues_are_protected" {
  count = var.deletion_protection ? 1 : 0

  triggers_replace = [for queue in local.queues : queue.arn]

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  topic_name = coalesce(var.sns_topic_name, "{{ cookiecutter.__topic }}-${local.environment}{{ cookiecutter.__fifo }}")
  topic_arn  = var.sns_topic_arn != null ? var.sns_topic_arn : one(data.aws_sns_topic.this[*].arn)
}

# The topic belongs to somebody else: it is looked up, not created.
data "aws_sns_topic" "this" {
  count = var.sns_topic_arn == null ? 1 : 0

  name = local.topic_name
}

# AWS can take up to 15 minutes to apply a changed filter policy.
resource "aws_sns_topic_subscription" "queue" {
  topic_arn = local.topic_arn
  protocol  = "sqs"
  endpoint  = aws_sqs_queue.main.arn

  # Delivers the message as it was published, with its attributes as SQS message attributes. SNS discards
  # a message with more than ten attributes.
  raw_message_delivery = true

  filter_policy_scope = "MessageAttributes"
  filter_policy = jsonencode(merge(local.added_filters, {
    event_type = concat(
      [for event_type in var.event_types : event_type if !endswith(event_type, "*")],
      [for event_type in var.event_types : { prefix = trimsuffix(event_type, "*") } if endswith(event_type, "*") && event_type != "*"],
      [for event_type in var.event_types : { exists = true } if event_type == "*"],
    )
  }))

  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.undelivered.arn })

  # SNS must be allowed to send before it delivers the first message.
  depends_on = [aws_sqs_queue_policy.this]
}

# First topics, for a team that has none yet. They belong to whoever publishes: move them there when
# there is such a place.

resource "aws_sns_topic" "this" {
  for_each = toset(flatten([for topic in var.topics : [
    for environment in var.environments : replace(topic, "/^([^.]*)/", "$1-${environment}")
  ]]))

  name              = each.value
  fifo_topic        = endswith(each.value, ".fifo")
  kms_master_key_id = var.topic_kms_key_id
}

resource "aws_sns_topic_policy" "this" {
  for_each = aws_sns_topic.this

  arn = each.value.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TLSOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = each.value.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "ThisAccount"
        Effect    = "Allow"
        Principal = { AWS = "arn:${data.aws_partition.this.partition}:iam::${data.aws_caller_identity.this.account_id}:root" }
        Action    = ["sns:Publish", "sns:Subscribe", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"]
        Resource  = each.value.arn
      },
    ]
  })
}

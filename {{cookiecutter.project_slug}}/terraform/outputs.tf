output "role_arn" {
  description = "ARN of the role that the code runs in."
  value       = aws_iam_role.function.arn
}

output "role_name" {
  description = "Name of the role that the code runs in."
  value       = aws_iam_role.function.name
}

output "queue_name" {
  description = "Name of the queue."
  value       = aws_sqs_queue.main.name
}

output "queue_url" {
  description = "URL of the queue."
  value       = aws_sqs_queue.main.url
}

output "queue_arn" {
  description = "ARN of the queue."
  value       = aws_sqs_queue.main.arn
}

output "dead_letter_queue_url" {
  description = "URL of the queue for messages that failed too often."
  value       = aws_sqs_queue.dead_letter.url
}

output "dead_letter_queue_arn" {
  description = "ARN of the queue for messages that failed too often."
  value       = aws_sqs_queue.dead_letter.arn
}

output "undelivered_queue_url" {
  description = "URL of the queue for messages that SNS could not deliver."
  value       = aws_sqs_queue.undelivered.url
}

output "log_group_name" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.function.name
}

output "topic_arn" {
  description = "ARN of the topic that the service listens to."
  value       = local.topic_arn
}

output "subscription_arn" {
  description = "ARN of the queue's subscription to the topic."
  value       = aws_sns_topic_subscription.queue.arn
}

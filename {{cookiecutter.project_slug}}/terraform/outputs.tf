output "function_name" {
  description = "Name of the Lambda function."
  value       = aws_lambda_function.this.function_name
}

output "function_arn" {
  description = "ARN of the Lambda function, without a version."
  value       = aws_lambda_function.this.arn
}

output "package_hash" {
  description = "SHA-256 of the deployed package, in Base64."
  value       = aws_lambda_function.this.source_code_hash
}

output "event_source_mapping_uuid" {
  description = "Id of what takes messages from the queue to the function."
  value       = aws_lambda_event_source_mapping.queue.uuid
}

output "role_arn" {
  description = "ARN of the function's role."
  value       = aws_iam_role.function.arn
}

output "role_name" {
  description = "Name of the function's role."
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
  description = "Name of the function's log group."
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

{% if cookiecutter.compute == "lambda" %}
output "service_name" {
  description = "Name of the Lambda function. The service's other AWS names start with it."
  value       = aws_lambda_function.this.function_name
}

output "service_arn" {
  description = "ARN of the Lambda function, without a version."
  value       = aws_lambda_function.this.arn
}

output "package_hash" {
  description = "SHA-256 of the deployed package, in Base64."
  value       = aws_lambda_function.this.source_code_hash
}

output "event_source_mapping_uuid" {
  description = "ID of the event source mapping, which passes messages from the queue to the function."
  value       = aws_lambda_event_source_mapping.queue.uuid
}
{% else %}
output "service_name" {
  description = "Name of the ECS service. The service's other AWS names start with it."
  value       = aws_ecs_service.this.name
}

output "service_arn" {
  description = "ARN of the ECS service."
  value       = aws_ecs_service.this.id
}

output "cluster_name" {
  description = "Name of the ECS cluster that the service runs in."
  value       = local.cluster_name
}

output "task_definition_family" {
  description = "Name of the task definition. Its revisions are the service's versions."
  value       = aws_ecs_task_definition.this.family
}

output "repository_url" {
  description = "URL of the ECR repository that holds the images."
  value       = aws_ecr_repository.this.repository_url
}

output "image_digest" {
  description = "Digest of the newest image that was deployed."
  value       = var.image_digest
}
{% endif %}

output "role_arn" {
  description = "ARN of the role that the code runs in."
  value       = aws_iam_role.code.arn
}

output "role_name" {
  description = "Name of the role that the code runs in."
  value       = aws_iam_role.code.name
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
  description = "URL of the dead-letter queue, for messages that failed too often."
  value       = aws_sqs_queue.dead_letter.url
}

output "dead_letter_queue_arn" {
  description = "ARN of the dead-letter queue."
  value       = aws_sqs_queue.dead_letter.arn
}

output "undelivered_queue_url" {
  description = "URL of the queue for messages that SNS could not deliver."
  value       = aws_sqs_queue.undelivered.url
}

output "log_group_name" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.code.name
}

output "topic_arn" {
  description = "ARN of the topic that the service subscribes to."
  value       = local.topic_arn
}

output "subscription_arn" {
  description = "ARN of the queue's subscription to the topic."
  value       = aws_sns_topic_subscription.queue.arn
}

# What was deployed last, written into the state once the rest has succeeded: rollback, pause and resume
# start from it.
resource "terraform_data" "deployed" {
  input = {
    commit = var.commit
    settings = { for name, value in {
{% if cookiecutter.compute == "lambda" %}
      canary_weight = var.canary_weight > 0 ? var.canary_weight : null

{% endif %}
      live_version = var.live_version
      paused       = var.paused ? true : null
    } : name => value if value != null }
  }

{% if cookiecutter.compute == "lambda" %}
  depends_on = [aws_lambda_event_source_mapping.queue]
{% else %}
  depends_on = [aws_appautoscaling_target.this]
{% endif %}
}

output "commit" {
  description = "Git commit that was deployed last. Empty: its folder had changes that were not committed."
  value       = terraform_data.deployed.output.commit
}

output "settings" {
  description = "What make rollback and make pause have set, as it was deployed last."
  value       = terraform_data.deployed.output.settings
}

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

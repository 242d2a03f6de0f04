output "function_name" {
  description = "Name of the ECS service, and what the names of everything begin with."
  value       = aws_ecs_service.this.name
}

output "function_arn" {
  description = "ARN of the ECS service."
  value       = aws_ecs_service.this.id
}

output "cluster_name" {
  description = "Name of the ECS cluster that the service is in."
  value       = local.cluster_name
}

output "task_definition_family" {
  description = "Name of the task definition, whose revisions are the versions."
  value       = aws_ecs_task_definition.this.family
}

output "repository_url" {
  description = "Where the images are: the ECR repository."
  value       = aws_ecr_repository.this.repository_url
}

output "image_digest" {
  description = "Digest of the newest image that was deployed."
  value       = var.image_digest
}

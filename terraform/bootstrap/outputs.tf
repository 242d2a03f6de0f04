output "state_bucket" {
  description = "Name of the bucket for Terraform's state: bucket in environments/*.s3.tfbackend."
  value       = aws_s3_bucket.state.id
}

output "permissions_boundaries" {
  description = "Per environment the policy that limits the roles of services: permissions_boundary in environments/*.tfvars."
  value       = { for environment, policy in aws_iam_policy.boundary : environment => policy.arn }
}

output "operate_policies" {
  description = "Per environment the policy for people who operate services: attach it to the role that they sign in to."
  value       = { for environment, policy in aws_iam_policy.operate : environment => policy.arn }
}

output "role_arns" {
  description = "Roles for GitHub's workflows."
  value       = { for role, resource in aws_iam_role.github : role => resource.arn }
}

output "topic_arns" {
  description = "Topics that were made here."
  value       = { for name, topic in aws_sns_topic.this : name => topic.arn }
}

output "github_commands" {
  description = "Commands that tell a repository of the roles, for GitHub's command line program."
  value = join("\n", flatten([
    for repository in var.repositories : [
      for role, resource in aws_iam_role.github :
      startswith(role, "deploy-") && var.github_environments
      ? "gh variable set AWS_DEPLOY_ROLE --repo ${repository.name} --env ${local.roles[role].environment} --body ${resource.arn}"
      : "gh variable set AWS_${upper(replace(trimsuffix(role, "-${local.roles[role].environment}"), "-", "_"))}_ROLE_${upper(local.roles[role].environment)} --repo ${repository.name} --body ${resource.arn}"
    ]
  ]))
}

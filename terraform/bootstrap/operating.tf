# What the operating workflow may do beside reading: write the state and its lock, and change the one
# resource that a rollback or a pause changes. Nothing is made or deleted, and no code, setting or role is
# changed. For people there is the policy in people.tf.

locals {
  change = {
    for environment, resource in local.resources : environment => {
      settings = [
        {
          Sid      = "WriteState"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:DeleteObject"]
          Resource = resource.state
        },
        {
          # rollback, on Lambda
          Sid      = "Versions"
          Effect   = "Allow"
          Action   = ["lambda:UpdateAlias"]
          Resource = resource.functions
        },
        {
          # pause and resume, on Lambda
          Sid      = "EventSourceMappings"
          Effect   = "Allow"
          Action   = ["lambda:UpdateEventSourceMapping"]
          Resource = ["*"] # their ids are random: the function that they feed limits them
          Condition = {
            ArnLike = { "lambda:FunctionArn" = resource.functions }
          }
        },
        {
          # rollback, on Fargate; Application Auto Scaling asks for it too
          Sid      = "Services"
          Effect   = "Allow"
          Action   = ["ecs:UpdateService"]
          Resource = resource.ecs_services
        },
        {
          # From version 6 on, the provider waits for a deployment by asking how it went.
          Sid      = "Deployments"
          Effect   = "Allow"
          Action   = ["ecs:DescribeServiceDeployments", "ecs:ListServiceDeployments"]
          Resource = concat(resource.ecs_services, resource.deployments)
        },
        {
          # Is the image of the earlier version still there?
          Sid      = "Images"
          Effect   = "Allow"
          Action   = ["ecr:BatchGetImage"]
          Resource = resource.repositories
        },
        {
          Sid      = "WithoutResource"
          Effect   = "Allow"
          Action   = ["ecs:ListTaskDefinitions"]
          Resource = ["*"] # AWS has no resource level here
        },
        {
          # pause and resume, on Fargate
          Sid      = "Scale"
          Effect   = "Allow"
          Action   = ["application-autoscaling:RegisterScalableTarget"]
          Resource = ["arn:${local.partition}:application-autoscaling:${local.here}:scalable-target/*"]
          Condition = {
            StringEquals = { "aws:ResourceTag/Environment" = environment }
            StringLike   = { "aws:ResourceTag/Service" = var.services }
          }
        },
      ]
    }
  }
}

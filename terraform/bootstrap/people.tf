# For the people who operate the services: attach the policy to the role that they sign in to. It covers
# every make target that changes no settings; those that do (plan and apply, pause, rollback) are for the
# workflow, or need a deploy role's policies.

locals {
  operate = {
    for environment, resource in local.resources : environment => concat([
      {
        Sid      = "ReadState"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = concat(resource.state, resource.unselected_state)
      },
      {
        Sid      = "ListState"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = [local.bucket]
      },
      {
        # Peek, redrive and replay receive, give back, delete and send. -* is -dlq and -undelivered, FIFO or not, in one.
        Sid    = "Queues"
        Effect = "Allow"
        Action = [
          "sqs:CancelMessageMoveTask", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage",
          "sqs:GetQueueAttributes", "sqs:ListMessageMoveTasks", "sqs:ReceiveMessage", "sqs:SendMessage",
          "sqs:StartMessageMoveTask",
        ]
        Resource = flatten([for service in var.services : [for suffix in ["", ".fifo", "-*"] :
          "arn:${local.partition}:sqs:${local.here}:${service}-${environment}${suffix}"
        ]])
      },
      {
        # /aws/lambda/ or /ecs/, in one, so that the policy stays short
        Sid    = "Logs"
        Effect = "Allow"
        Action = ["logs:FilterLogEvents"]
        Resource = [for service in var.services :
          "arn:${local.partition}:logs:${local.here}:log-group:/*/${service}-${environment}:*"
        ]
      },
      {
        Sid      = "Functions"
        Effect   = "Allow"
        Action   = ["lambda:GetAlias", "lambda:GetFunctionConfiguration", "lambda:ListVersionsByFunction"]
        Resource = resource.functions
      },
      {
        Sid      = "EventSourceMappings"
        Effect   = "Allow"
        Action   = ["lambda:GetEventSourceMapping"]
        Resource = ["arn:${local.partition}:lambda:${local.here}:event-source-mapping:*"] # their ids are random
      },
      {
        Sid      = "Services"
        Effect   = "Allow"
        Action   = ["ecs:DescribeServices"]
        Resource = resource.ecs_services
      },
      {
        Sid      = "Tasks"
        Effect   = "Allow"
        Action   = ["ecs:DescribeTasks"]
        Resource = ["arn:${local.partition}:ecs:${local.here}:task/*"] # their ids are random
      },
      {
        Sid    = "WithoutResource"
        Effect = "Allow"
        Action = [
          "application-autoscaling:DescribeScalableTargets", "cloudwatch:DescribeAlarms",
          "cloudwatch:GetMetricStatistics", "ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions", "ecs:ListTasks",
          "sns:GetSubscriptionAttributes",
        ]
        Resource = ["*"] # AWS has no resource level here
      },
      ], environment == "prod" ? [] : [
      {
        # make publish: everything that subscribes to the topic gets the message, so not in prod.
        Sid      = "Publish"
        Effect   = "Allow"
        Action   = ["sns:Publish"]
        Resource = [for suffix in ["", ".fifo"] : "arn:${local.partition}:sns:${local.here}:*-${environment}${suffix}"]
      },
    ])
  }

  operate_policies = {
    for environment, statements in local.operate :
    environment => jsonencode({ Version = "2012-10-17", Statement = statements })
  }
}

resource "aws_iam_policy" "operate" {
  #checkov:skip=CKV_AWS_355:Resource * stands only where AWS has no resource level.
  for_each = local.operate

  name        = "operate-${each.key}"
  path        = "/delivery/"
  description = "For people: watch and repair services in ${each.key}."
  policy      = local.operate_policies[each.key]

  lifecycle {
    precondition {
      condition     = length(local.operate_policies[each.key]) <= 6144
      error_message = "The policy operate-${each.key} has ${length(local.operate_policies[each.key])} characters, and IAM takes 6,144: name fewer services, and use * for several."
    }
  }
}

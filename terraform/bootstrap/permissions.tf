# What the roles may do: what services made by this template need, for the names that they give.

locals {
  partition = data.aws_partition.this.partition
  account   = data.aws_caller_identity.this.account_id
  here      = "${var.aws_region}:${local.account}"

  # ARNs of what the services have in an environment.
  resources = {
    for environment in var.environments : environment => {
      functions = flatten([for service in var.services : [
        "arn:${local.partition}:lambda:${local.here}:function:${service}-${environment}",
        "arn:${local.partition}:lambda:${local.here}:function:${service}-${environment}:*",
      ]])
      queues = flatten([for service in var.services : [
        for suffix in ["", "-dlq", "-undelivered"] :
        "arn:${local.partition}:sqs:${local.here}:${service}-${environment}${suffix}"
      ]])
      log_groups = flatten([for service in var.services : [
        "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${service}-${environment}",
        "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${service}-${environment}:*",
      ]])
      alarms = [for service in var.services :
        "arn:${local.partition}:cloudwatch:${local.here}:alarm:${service}-${environment}-*"
      ]
      dashboards = [for service in var.services :
        "arn:${local.partition}:cloudwatch::${local.account}:dashboard/${service}-${environment}"
      ]
      tables = [for service in var.services :
        "arn:${local.partition}:dynamodb:${local.here}:table/${service}-${environment}*"
      ]
      roles = [for service in var.services :
        "arn:${local.partition}:iam::${local.account}:role/services/${service}-${environment}*"
      ]
      # The state, what is read of it before the workspace is selected, and packages that go through S3.
      state = [
        "${aws_s3_bucket.state.arn}/env:/${environment}/services/*",
        "${aws_s3_bucket.state.arn}/services/*/terraform.tfstate",
      ]
      packages = ["${aws_s3_bucket.state.arn}/services/*/${environment}/*"]
      plans    = ["${aws_s3_bucket.state.arn}/plans/*/${environment}/*"]
    }
  }

  # What Terraform reads to compare the configuration with what is there. No message, log line or
  # table item is among it.
  read = {
    for environment, resource in local.resources : environment => [
      {
        Sid      = "ReadState"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectTagging"]
        Resource = concat(resource.state, resource.packages)
      },
      {
        Sid      = "ListState"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = [aws_s3_bucket.state.arn]
      },
      {
        Sid    = "Read"
        Effect = "Allow"
        Action = [
          "lambda:GetAlias", "lambda:GetFunction", "lambda:GetFunctionCodeSigningConfig",
          "lambda:GetFunctionConfiguration", "lambda:GetPolicy", "lambda:ListAliases", "lambda:ListTags",
          "lambda:ListVersionsByFunction",
          "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags",
          "logs:DescribeSubscriptionFilters", "logs:ListTagsForResource",
          "cloudwatch:GetDashboard", "cloudwatch:ListTagsForResource",
          "dynamodb:DescribeContinuousBackups", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive",
          "dynamodb:ListTagsOfResource",
          "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies",
          "iam:ListRoleTags",
        ]
        Resource = concat(
          resource.functions, resource.queues, resource.log_groups, resource.alarms, resource.dashboards,
          resource.tables, resource.roles,
        )
      },
      {
        # These know no resources, or only such as can't be named beforehand: subscriptions and event
        # source mappings have random ids, and topics belong to somebody else.
        Sid    = "ReadWithoutResource"
        Effect = "Allow"
        Action = [
          "cloudwatch:DescribeAlarms",
          "lambda:GetEventSourceMapping", "lambda:ListEventSourceMappings",
          "logs:DescribeLogGroups",
          "sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic",
          "sns:ListTagsForResource", "sns:ListTopics",
        ]
        Resource = ["*"]
      },
    ]
  }

  deploy = {
    for environment, resource in local.resources : environment => [
      {
        Sid      = "WriteState"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:DeleteObject"]
        Resource = [resource.state[0]]
      },
      {
        Sid      = "Packages"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:DeleteObject", "s3:PutObjectTagging"]
        Resource = resource.packages
      },
      {
        Sid      = "ApprovedPlans"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:DeleteObject"]
        Resource = resource.plans
      },
      {
        Sid    = "Functions"
        Effect = "Allow"
        Action = [
          "lambda:CreateAlias", "lambda:CreateFunction", "lambda:DeleteAlias", "lambda:DeleteFunction",
          "lambda:PublishVersion", "lambda:TagResource", "lambda:UntagResource", "lambda:UpdateAlias",
          "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration",
        ]
        Resource = resource.functions
      },
      {
        Sid      = "EventSourceMappings"
        Effect   = "Allow"
        Action   = ["lambda:CreateEventSourceMapping", "lambda:DeleteEventSourceMapping", "lambda:UpdateEventSourceMapping"]
        Resource = ["*"] # their ids are random: the function that they feed limits them
        Condition = {
          ArnLike = { "lambda:FunctionArn" = resource.functions }
        }
      },
      {
        Sid      = "EventSourceMappingTags"
        Effect   = "Allow"
        Action   = ["lambda:ListTags", "lambda:TagResource", "lambda:UntagResource"]
        Resource = ["arn:${local.partition}:lambda:${local.here}:event-source-mapping:*"]
      },
      {
        Sid    = "Queues"
        Effect = "Allow"
        Action = [
          "sqs:CreateQueue", "sqs:DeleteQueue", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:UntagQueue",
          "sqs:SendMessage", # the smoke test
        ]
        Resource = resource.queues
      },
      {
        Sid      = "Subscribe"
        Effect   = "Allow"
        Action   = ["sns:Subscribe"]
        Resource = ["arn:${local.partition}:sns:${var.aws_region}:*:*"]
        Condition = {
          StringEquals = { "sns:Protocol" = "sqs" }
          StringLike   = { "sns:Endpoint" = resource.queues }
        }
      },
      {
        Sid      = "Subscriptions"
        Effect   = "Allow"
        Action   = ["sns:SetSubscriptionAttributes", "sns:Unsubscribe"]
        Resource = ["*"] # AWS has no resource level here
      },
      {
        Sid    = "LogGroups"
        Effect = "Allow"
        Action = [
          "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteRetentionPolicy",
          "logs:DeleteSubscriptionFilter", "logs:PutRetentionPolicy", "logs:PutSubscriptionFilter",
          "logs:TagResource", "logs:UntagResource",
          "logs:FilterLogEvents", # the smoke test
        ]
        Resource = resource.log_groups
      },
      {
        Sid    = "Monitoring"
        Effect = "Allow"
        Action = [
          "cloudwatch:DeleteAlarms", "cloudwatch:DeleteDashboards", "cloudwatch:PutDashboard",
          "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource",
        ]
        Resource = concat(resource.alarms, resource.dashboards)
      },
      {
        Sid    = "Tables"
        Effect = "Allow"
        Action = [
          "dynamodb:CreateTable", "dynamodb:DeleteTable", "dynamodb:TagResource", "dynamodb:UntagResource",
          "dynamodb:UpdateContinuousBackups", "dynamodb:UpdateTable", "dynamodb:UpdateTimeToLive",
        ]
        Resource = resource.tables
      },
      {
        # A function in a VPC: Lambda asks whether its creator may see the subnets.
        Sid      = "Network"
        Effect   = "Allow"
        Action   = ["ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"]
        Resource = ["*"] # AWS has no resource level here
      },
      {
        # Only roles inside the boundary can be made or be given more.
        Sid    = "RolesInsideTheBoundary"
        Effect = "Allow"
        Action = [
          "iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
        ]
        Resource = resource.roles
        Condition = {
          StringEquals = { "iam:PermissionsBoundary" = aws_iam_policy.boundary[environment].arn }
        }
      },
      {
        Sid    = "Roles"
        Effect = "Allow"
        Action = [
          "iam:DeleteRole", "iam:ListInstanceProfilesForRole", "iam:TagRole", "iam:UntagRole",
          "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription",
        ]
        Resource = resource.roles
      },
      {
        Sid      = "PassRoles"
        Effect   = "Allow"
        Action   = ["iam:PassRole"]
        Resource = resource.roles
        Condition = {
          StringEquals = { "iam:PassedToService" = ["lambda.amazonaws.com", "logs.amazonaws.com"] }
        }
      },
    ]
  }
}

# The most that a role of a service can ever be allowed, whatever its own policy says.
resource "aws_iam_policy" "boundary" {
  #checkov:skip=CKV_AWS_289:A boundary allows nothing by itself; it names actions, and the services' own policies the resources.
  #checkov:skip=CKV_AWS_290:A boundary allows nothing by itself; it names actions, and the services' own policies the resources.
  #checkov:skip=CKV_AWS_355:A boundary allows nothing by itself; it names actions, and the services' own policies the resources.
  for_each = local.resources

  name        = "services-${each.key}"
  path        = "/delivery/"
  description = "The most that roles of services in ${each.key} can be allowed."

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid    = "OwnResources"
          Effect = "Allow"
          Action = [
            "logs:CreateLogStream", "logs:PutLogEvents",
            "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
            "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem",
          ]
          Resource = concat(each.value.log_groups, each.value.queues, each.value.tables)
        },
        {
          # Traces and network interfaces have no resource level; the log may go to any stream.
          Sid    = "WithoutResource"
          Effect = "Allow"
          Action = [
            "xray:PutTelemetryRecords", "xray:PutTraceSegments",
            "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
            "firehose:PutRecord", "firehose:PutRecordBatch", "kinesis:PutRecord", "kinesis:PutRecords",
          ]
          Resource = ["*"]
        },
      ],
      length(var.boundary_actions) == 0 ? [] : [
        {
          Sid      = "BusinessLogic"
          Effect   = "Allow"
          Action   = var.boundary_actions
          Resource = ["*"]
        },
      ],
    )
  })
}

resource "aws_iam_policy" "read" {
  #checkov:skip=CKV_AWS_355:ReadWithoutResource has Resource * because AWS has no resource level there, or the ids are random.
  for_each = local.resources

  name        = "github-plan-${each.key}"
  path        = "/delivery/"
  description = "Reads what services have in ${each.key}."

  policy = jsonencode({ Version = "2012-10-17", Statement = local.read[each.key] })

  lifecycle {
    precondition {
      condition     = length(jsonencode(local.read[each.key])) < 6100
      error_message = "The policy is longer than the 6,144 characters that IAM takes: name fewer services, and use * for several."
    }
  }
}

resource "aws_iam_policy" "deploy" {
  #checkov:skip=CKV_AWS_287:It hands out no credentials; sns:SetSubscriptionAttributes and the like are no secrets.
  #checkov:skip=CKV_AWS_289:Roles can be made and changed only inside the boundary, under /services/, for the services that are named.
  #checkov:skip=CKV_AWS_290:Resource * stands only where AWS has no resource level or ids are random; conditions limit it where there are any.
  #checkov:skip=CKV_AWS_355:Resource * stands only where AWS has no resource level or ids are random; conditions limit it where there are any.
  for_each = local.resources

  name        = "github-deploy-${each.key}"
  path        = "/delivery/"
  description = "Deploys services to ${each.key}, beside what github-plan-${each.key} reads."

  policy = jsonencode({ Version = "2012-10-17", Statement = local.deploy[each.key] })

  lifecycle {
    precondition {
      condition     = length(jsonencode(local.deploy[each.key])) < 6100
      error_message = "The policy is longer than the 6,144 characters that IAM takes: name fewer services, and use * for several."
    }
  }
}

resource "aws_iam_role_policy_attachment" "read" {
  for_each = local.roles

  role       = aws_iam_role.github[each.key].name
  policy_arn = aws_iam_policy.read[each.value.environment].arn
}

resource "aws_iam_role_policy_attachment" "deploy" {
  for_each = local.resources

  role       = aws_iam_role.github["deploy-${each.key}"].name
  policy_arn = aws_iam_policy.deploy[each.key].arn
}

# Saved plans: main's plan role writes them, the deploy role reads them, and the code of a pull request
# comes near neither, whatever else is granted.
resource "aws_iam_role_policy" "save_plans" {
  for_each = { for role, about in local.roles : role => about if startswith(role, "main-plan-") }

  name = "save-plans"
  role = aws_iam_role.github[each.key].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = local.resources[each.value.environment].plans
      },
    ]
  })
}

resource "aws_iam_role_policy" "no_plans" {
  for_each = local.resources

  name = "no-plans"
  role = aws_iam_role.github["plan-${each.key}"].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Deny"
        Action   = ["s3:*"]
        Resource = ["${aws_s3_bucket.state.arn}/plans/*"]
      },
    ]
  })
}

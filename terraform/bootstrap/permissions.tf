# What the roles may do: what services made by this template need, for the names that they give.

locals {
  partition = data.aws_partition.this.partition
  account   = data.aws_caller_identity.this.account_id
  here      = "${var.aws_region}:${local.account}"

  # Written out, so that every policy is known, and checked, before anything is made.
  bucket = "arn:${local.partition}:s3:::${var.state_bucket}"
  boundary = {
    for environment in var.environments : environment => "arn:${local.partition}:iam::${local.account}:policy/delivery/services-${environment}"
  }

  # Where logs may be forwarded to, by service: kinesis, firehose, lambda, logs.
  log_destinations = { for arn in var.log_destinations : split(":", arn)[2] => arn... }
  log_streams      = concat(lookup(local.log_destinations, "kinesis", []), lookup(local.log_destinations, "firehose", []))
  log_functions    = lookup(local.log_destinations, "lambda", [])
  log_accounts     = lookup(local.log_destinations, "logs", [])

  # ARNs of what the services have in an environment.
  resources = {
    for environment in var.environments : environment => {
      functions = flatten([for service in var.services : [
        "arn:${local.partition}:lambda:${local.here}:function:${service}-${environment}",
        "arn:${local.partition}:lambda:${local.here}:function:${service}-${environment}:*",
      ]])
      # A FIFO queue has .fifo at the end of its name; * stands for that, too, as policies must be short.
      queues = flatten([for service in var.services : [
        for suffix in ["", ".fifo", "-dlq*", "-undelivered*"] :
        "arn:${local.partition}:sqs:${local.here}:${service}-${environment}${suffix}"
      ]])
      main_queues = flatten([for service in var.services : [
        for suffix in ["", ".fifo"] :
        "arn:${local.partition}:sqs:${local.here}:${service}-${environment}${suffix}"
      ]])
      log_groups = flatten([for service in var.services : [for place in ["aws/lambda", "ecs"] : [
        "arn:${local.partition}:logs:${local.here}:log-group:/${place}/${service}-${environment}",
        "arn:${local.partition}:logs:${local.here}:log-group:/${place}/${service}-${environment}:*",
      ]]])
      log_streams = flatten([for service in var.services : [for place in ["aws/lambda", "ecs"] :
        "arn:${local.partition}:logs:${local.here}:log-group:/${place}/${service}-${environment}:*"
      ]])
      alarms = flatten([for service in var.services : [
        for prefix in ["", "scaling-"] :
        "arn:${local.partition}:cloudwatch:${local.here}:alarm:${prefix}${service}-${environment}-*"
      ]])
      # Target tracking makes its own alarms.
      tracking_alarms = [for service in var.services :
        "arn:${local.partition}:cloudwatch:${local.here}:alarm:TargetTracking-service/*/${service}-${environment}-Alarm*"
      ]
      # Of services on Fargate. The cluster may be one that several share.
      clusters = [for service in var.services :
        "arn:${local.partition}:ecs:${local.here}:cluster/${service}-${environment}"
      ]
      ecs_services = [for service in var.services :
        "arn:${local.partition}:ecs:${local.here}:service/*/${service}-${environment}"
      ]
      deployments = [for service in var.services :
        "arn:${local.partition}:ecs:${local.here}:service-deployment/*/${service}-${environment}/*"
      ]
      task_definitions = [for service in var.services :
        "arn:${local.partition}:ecs:${local.here}:task-definition/${service}-${environment}:*"
      ]
      repositories = [for service in var.services :
        "arn:${local.partition}:ecr:${local.here}:repository/${service}-${environment}"
      ]
      dashboards = [for service in var.services :
        "arn:${local.partition}:cloudwatch::${local.account}:dashboard/${service}-${environment}"
      ]
      # With the hyphen, since order-dev* would be order-devices-prod, too.
      tables = flatten([for service in var.services : [for suffix in ["", "-*"] :
        "arn:${local.partition}:dynamodb:${local.here}:table/${service}-${environment}${suffix}"
      ]])
      roles = flatten([for service in var.services : [for suffix in ["", "-*"] :
        "arn:${local.partition}:iam::${local.account}:role/services/${service}-${environment}${suffix}"
      ]])
      # Where the boundary is asked for, which is the environment's, in one, as policies must be short.
      bounded_roles = [for service in var.services :
        "arn:${local.partition}:iam::${local.account}:role/services/${service}-${environment}*"
      ]
      # The state with its lock, what is read of it before the workspace is selected, and packages that
      # go through S3 (artifact_bucket).
      state = [for service in var.services :
        "${local.bucket}/env:/${environment}/services/${service}/terraform.tfstate*"
      ]
      unselected_state = [for service in var.services : "${local.bucket}/services/${service}/terraform.tfstate"]
      packages         = [for service in var.services : "${local.bucket}/services/${service}/${environment}/*"]
      plans            = [for service in var.services : "${local.bucket}/plans/${service}/${environment}/*"]
    }
  }

  # What Terraform reads to compare the configuration with what is there. No message, log line or
  # table item is among it. By concern: each becomes a policy, since IAM limits how long one is.
  read = {
    for environment, resource in local.resources : environment => {
      compute = [
        {
          Sid    = "Functions"
          Effect = "Allow"
          Action = [
            "lambda:GetAlias", "lambda:GetFunction", "lambda:GetFunctionCodeSigningConfig", "lambda:ListTags",
            "lambda:ListVersionsByFunction",
          ]
          Resource = resource.functions
        },
        {
          Sid      = "EventSourceMappings"
          Effect   = "Allow"
          Action   = ["lambda:GetEventSourceMapping", "lambda:ListTags"]
          Resource = ["arn:${local.partition}:lambda:${local.here}:event-source-mapping:*"] # their ids are random
        },
        {
          Sid    = "Roles"
          Effect = "Allow"
          Action = [
            "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies",
            "iam:ListRoleTags",
          ]
          Resource = resource.roles
        },
        {
          Sid    = "ServicesImages"
          Effect = "Allow"
          Action = [
            "ecs:DescribeClusters", "ecs:DescribeServices", "ecs:ListTagsForResource",
            "ecr:DescribeRepositories", "ecr:GetLifecyclePolicy", "ecr:ListTagsForResource",
          ]
          Resource = concat(resource.clusters, resource.ecs_services, resource.repositories)
        },
        {
          Sid    = "WithoutResource"
          Effect = "Allow"
          Action = [
            "application-autoscaling:DescribeScalableTargets", "application-autoscaling:DescribeScalingPolicies",
            "application-autoscaling:ListTagsForResource",
            "ec2:DescribeSecurityGroupRules", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets",
            "ecs:DescribeTaskDefinition",
          ]
          Resource = ["*"] # AWS has no resource level here, or the ids are random
        },
      ]
      data = [
        {
          Sid      = "ReadState"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:GetObjectTagging"]
          Resource = concat(resource.state, resource.unselected_state, resource.packages)
        },
        {
          Sid      = "ListState"
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = [local.bucket]
        },
        {
          Sid      = "Queues"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueAttributes", "sqs:ListQueueTags"]
          Resource = resource.queues
        },
        {
          # Subscriptions have random ids, and topics belong to somebody else.
          Sid    = "Topics"
          Effect = "Allow"
          Action = [
            "sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic",
            "sns:ListTagsForResource", "sns:ListTopics",
          ]
          Resource = ["*"]
        },
        {
          Sid    = "Tables"
          Effect = "Allow"
          Action = [
            "dynamodb:DescribeContinuousBackups", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive",
            "dynamodb:ListTagsOfResource",
          ]
          Resource = resource.tables
        },
      ]
      monitoring = concat([
        {
          Sid    = "LogsAlarmsDashboards"
          Effect = "Allow"
          Action = [
            "logs:DescribeSubscriptionFilters", "logs:ListTagsForResource",
            "cloudwatch:GetDashboard", "cloudwatch:ListTagsForResource",
          ]
          Resource = concat(resource.log_groups, resource.alarms, resource.dashboards)
        },
        {
          Sid      = "WithoutResource"
          Effect   = "Allow"
          Action   = ["cloudwatch:DescribeAlarms", "logs:DescribeLogGroups"]
          Resource = ["*"] # AWS has no resource level to list them
        },
        ], length(local.log_functions) == 0 ? [] : [
        {
          Sid      = "LogFunctions"
          Effect   = "Allow"
          Action   = ["lambda:GetPolicy"]
          Resource = local.log_functions
        },
      ])
    }
  }

  deploy = {
    for environment, resource in local.resources : environment => {
      compute = concat([
        {
          Sid    = "Functions"
          Effect = "Allow"
          Action = [
            "lambda:CreateAlias", "lambda:CreateFunction", "lambda:DeleteAlias", "lambda:DeleteFunction",
            "lambda:PublishVersion", "lambda:TagResource", "lambda:UntagResource", "lambda:UpdateAlias",
            "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration",
            "lambda:GetFunctionConfiguration", # the smoke test
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
          Action   = ["lambda:TagResource", "lambda:UntagResource"]
          Resource = ["arn:${local.partition}:lambda:${local.here}:event-source-mapping:*"]
        },
        {
          # A function in a VPC: Lambda asks whether its creator may see the subnets. Terraform looks for
          # what still uses a security group that cannot be deleted.
          Sid    = "Network"
          Effect = "Allow"
          Action = [
            "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
          ]
          Resource = ["*"] # AWS has no resource level here
        },
        {
          # Only roles inside the boundary can be made or be given more.
          Sid    = "RolesInsideTheBoundary"
          Effect = "Allow"
          Action = [
            "iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
          ]
          Resource = resource.bounded_roles
          Condition = {
            StringEquals = { "iam:PermissionsBoundary" = local.boundary[environment] }
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
            StringEquals = { "iam:PassedToService" = ["ecs-tasks.amazonaws.com", "lambda.amazonaws.com", "logs.amazonaws.com"] }
          }
        },
        ], length(var.layers) == 0 ? [] : [
        {
          Sid      = "Layers"
          Effect   = "Allow"
          Action   = ["lambda:GetLayerVersion"]
          Resource = var.layers
        },
      ])
      containers = [
        {
          Sid    = "ServicesImages"
          Effect = "Allow"
          Action = [
            "ecs:CreateCluster", "ecs:CreateService", "ecs:DeleteCluster", "ecs:DeleteService",
            "ecs:PutClusterCapacityProviders", "ecs:RegisterTaskDefinition", "ecs:TagResource", "ecs:UntagResource",
            "ecs:UpdateCluster", "ecs:UpdateService",
            "ecr:CreateRepository", "ecr:DeleteLifecyclePolicy", "ecr:DeleteRepository", "ecr:PutImageScanningConfiguration",
            "ecr:PutImageTagMutability", "ecr:PutLifecyclePolicy", "ecr:TagResource", "ecr:UntagResource",
            # to push
            "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
          ]
          Resource = concat(resource.clusters, resource.ecs_services, resource.task_definitions, resource.repositories)
        },
        {
          # From version 6 on, the provider waits for a deployment by asking how it went.
          Sid      = "Deployments"
          Effect   = "Allow"
          Action   = ["ecs:DescribeServiceDeployments", "ecs:ListServiceDeployments"]
          Resource = concat(resource.ecs_services, resource.deployments)
        },
        {
          # To sign in to the registry, and to find the revision to roll back to.
          Sid      = "WithoutResource"
          Effect   = "Allow"
          Action   = ["ecr:GetAuthorizationToken", "ecs:ListTaskDefinitions"]
          Resource = ["*"] # AWS has no resource level here
        },
        {
          # Once in an account: the roles in which ECS and its scaling work. AWS says what they may do.
          Sid    = "ServiceLinkedRoles"
          Effect = "Allow"
          Action = ["iam:CreateServiceLinkedRole"]
          Resource = [
            "arn:${local.partition}:iam::${local.account}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
            "arn:${local.partition}:iam::${local.account}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService",
          ]
        },
      ]
      network = [
        {
          # The ids of security groups are random: their tags limit them.
          Sid      = "MakeTagged"
          Effect   = "Allow"
          Action   = ["ec2:CreateSecurityGroup"]
          Resource = ["arn:${local.partition}:ec2:${local.here}:security-group/*"]
          Condition = {
            StringEquals = { "aws:RequestTag/Environment" = environment }
            StringLike   = { "aws:RequestTag/Service" = var.services }
          }
        },
        {
          # AWS asks about the VPC of a new security group too, which another account may share with this
          # one, and about a new rule beside its group.
          Sid    = "InVpc"
          Effect = "Allow"
          Action = ["ec2:AuthorizeSecurityGroupEgress", "ec2:CreateSecurityGroup"]
          Resource = [
            "arn:${local.partition}:ec2:${local.here}:security-group-rule/*",
            "arn:${local.partition}:ec2:${var.aws_region}:*:vpc/*",
          ]
        },
        {
          # Tags are given to what is being made: with others' security groups this does nothing.
          Sid      = "TagWhatIsMade"
          Effect   = "Allow"
          Action   = ["ec2:CreateTags"]
          Resource = ["arn:${local.partition}:ec2:${local.here}:security-group*/*"]
          Condition = {
            StringEquals = { "ec2:CreateAction" = ["AuthorizeSecurityGroupEgress", "CreateSecurityGroup"] }
          }
        },
        {
          Sid    = "OwnSecurityGroups"
          Effect = "Allow"
          Action = [
            "ec2:AuthorizeSecurityGroupEgress", "ec2:CreateTags", "ec2:DeleteSecurityGroup", "ec2:DeleteTags",
            "ec2:ModifySecurityGroupRules", "ec2:RevokeSecurityGroupEgress",
          ]
          Resource = ["arn:${local.partition}:ec2:${local.here}:security-group*/*"]
          Condition = {
            StringEquals = { "aws:ResourceTag/Environment" = environment }
            StringLike   = { "aws:ResourceTag/Service" = var.services }
          }
        },
        {
          # The ids of scalable targets are random: their tags limit them, and what scales is an ECS service.
          Sid      = "MakeScalable"
          Effect   = "Allow"
          Action   = ["application-autoscaling:RegisterScalableTarget", "application-autoscaling:TagResource"]
          Resource = ["arn:${local.partition}:application-autoscaling:${local.here}:scalable-target/*"]
          Condition = {
            StringEquals = { "aws:RequestTag/Environment" = environment }
            StringLike   = { "aws:RequestTag/Service" = var.services }
          }
        },
        {
          Sid    = "Scale"
          Effect = "Allow"
          Action = [
            "application-autoscaling:DeleteScalingPolicy", "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:PutScalingPolicy", "application-autoscaling:RegisterScalableTarget",
            "application-autoscaling:TagResource", "application-autoscaling:UntagResource",
          ]
          Resource = ["arn:${local.partition}:application-autoscaling:${local.here}:scalable-target/*"]
          Condition = {
            StringEquals = { "aws:ResourceTag/Environment" = environment }
            StringLike   = { "aws:ResourceTag/Service" = var.services }
          }
        },
        {
          # Target tracking makes its alarms in the name of whoever asks for it.
          Sid      = "TargetTracking"
          Effect   = "Allow"
          Action   = ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm"]
          Resource = resource.tracking_alarms
        },
        {
          # Here, since the policy for data is full.
          Sid    = "Tables"
          Effect = "Allow"
          Action = [
            "dynamodb:CreateTable", "dynamodb:DeleteTable", "dynamodb:TagResource", "dynamodb:UntagResource",
            "dynamodb:UpdateContinuousBackups", "dynamodb:UpdateTable", "dynamodb:UpdateTimeToLive",
          ]
          Resource = resource.tables
        },
      ]
      data = [
        {
          Sid      = "WriteState"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:DeleteObject"]
          Resource = resource.state
        },
        {
          # The bucket is versioned: a package that is no longer used goes with all its versions.
          Sid      = "Packages"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObjectVersion"]
          Resource = resource.packages
        },
        {
          Sid      = "PackageVersions"
          Effect   = "Allow"
          Action   = ["s3:ListBucketVersions"]
          Resource = [local.bucket]
        },
        {
          Sid      = "ApprovedPlans"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
          Resource = resource.plans
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
            StringLike   = { "sns:Endpoint" = resource.main_queues }
          }
        },
        {
          Sid      = "Subscriptions"
          Effect   = "Allow"
          Action   = ["sns:SetSubscriptionAttributes", "sns:Unsubscribe"]
          Resource = ["*"] # AWS has no resource level here
        },
      ]
      monitoring = concat([
        {
          Sid    = "LogGroups"
          Effect = "Allow"
          Action = [
            "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteSubscriptionFilter",
            "logs:PutRetentionPolicy", "logs:PutSubscriptionFilter",
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
        ], length(local.log_functions) == 0 ? [] : [
        {
          # Lets CloudWatch Logs, and nobody else, invoke them.
          Sid      = "LogFunctions"
          Effect   = "Allow"
          Action   = ["lambda:AddPermission", "lambda:RemovePermission"]
          Resource = local.log_functions
          Condition = {
            StringEquals = { "lambda:Principal" = "logs.amazonaws.com" }
          }
        },
        ], length(local.log_accounts) == 0 ? [] : [
        {
          # AWS asks about the destination beside the log group.
          Sid      = "LogDestinations"
          Effect   = "Allow"
          Action   = ["logs:PutSubscriptionFilter"]
          Resource = local.log_accounts
        },
      ])
    }
  }

  # The most that a role of a service can be allowed.
  boundaries = {
    for environment, resource in local.resources : environment => jsonencode({
      Version = "2012-10-17"
      Statement = concat(
        [
          {
            Sid    = "OwnResources"
            Effect = "Allow"
            Action = [
              "logs:CreateLogStream", "logs:PutLogEvents",
              "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
              "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem",
              "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
            ]
            Resource = concat(
              resource.log_streams, resource.queues, resource.tables, resource.repositories,
            )
          },
          {
            # Traces, network interfaces and the registry's sign-in have no resource level; a task says of
            # itself that it is at work, in whichever cluster it is.
            Sid    = "WithoutResource"
            Effect = "Allow"
            Action = [
              "xray:PutTelemetryRecords", "xray:PutTraceSegments",
              "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
              "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
              "ecr:GetAuthorizationToken", "ecs:GetTaskProtection", "ecs:UpdateTaskProtection",
            ]
            Resource = ["*"]
          },
        ],
        length(local.log_streams) == 0 ? [] : [
          {
            Sid      = "ForwardLogs"
            Effect   = "Allow"
            Action   = ["firehose:PutRecord", "firehose:PutRecordBatch", "kinesis:PutRecord", "kinesis:PutRecords"]
            Resource = local.log_streams
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

  policies = merge(flatten([
    for kind, environments in { plan = local.read, deploy = local.deploy, operate = local.change } : [
      for environment, concerns in environments : {
        for concern, statements in concerns : "github-${kind}-${environment}-${concern}" => {
          kind        = kind
          environment = environment
          description = "${title(kind)}, ${concern}: services in ${environment}."
          document    = jsonencode({ Version = "2012-10-17", Statement = statements })
        }
      }
    ]
  ])...)

  # All plan, so all read; who deploys or operates does so beside it.
  attachments = merge([
    for role, about in local.roles : {
      for name, policy in local.policies : "${role}/${name}" => { role = role, policy = name }
      if policy.environment == about.environment && (policy.kind == "plan" || startswith(role, "${policy.kind}-"))
    }
  ]...)
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
  policy      = local.boundaries[each.key]

  lifecycle {
    precondition {
      condition     = length(local.boundaries[each.key]) <= 6144
      error_message = "The policy services-${each.key} has ${length(local.boundaries[each.key])} characters, and IAM takes 6,144: name fewer services, and use * for several, or fewer boundary_actions."
    }
  }
}

resource "aws_iam_policy" "github" {
  #checkov:skip=CKV_AWS_287:It hands out no credentials; sns:SetSubscriptionAttributes and the like are no secrets.
  #checkov:skip=CKV_AWS_289:Roles can be made and changed only inside the boundary, under /services/, for the services that are named.
  #checkov:skip=CKV_AWS_290:Resource * stands only where AWS has no resource level or ids are random; conditions limit it where there are any.
  #checkov:skip=CKV_AWS_355:Resource * stands only where AWS has no resource level or ids are random; conditions limit it where there are any.
  for_each = local.policies

  name        = each.key
  path        = "/delivery/"
  description = each.value.description
  policy      = each.value.document

  lifecycle {
    precondition {
      condition     = length(each.value.document) <= 6144
      error_message = "The policy ${each.key} has ${length(each.value.document)} characters, and IAM takes 6,144: name fewer services, and use * for several."
    }
  }
}

resource "aws_iam_role_policy_attachment" "github" {
  for_each = local.attachments

  role       = aws_iam_role.github[each.value.role].name
  policy_arn = aws_iam_policy.github[each.value.policy].arn
}

# Saved plans: main's plan role writes them and reads how far an earlier attempt came, the deploy role reads
# them and notes that, and the code of a pull request comes near neither, whatever else is granted.
resource "aws_iam_role_policy" "save_plans" {
  for_each = { for role, about in local.roles : role => about if startswith(role, "main-plan-") }

  name = "save-plans"
  role = aws_iam_role.github[each.key].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
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
        Resource = ["${local.bucket}/plans/*"]
      },
    ]
  })
}

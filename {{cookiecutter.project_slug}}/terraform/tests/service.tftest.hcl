# Decisions that a later change must not undo by accident. They run without AWS: make validate

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  aws_region   = "us-east-1"
  architecture = "arm64"
  event_types  = ["order.created"]

{% if cookiecutter.compute == "lambda" %}
  python_version = "3.13"
  package_file   = "tests/service.tftest.hcl" # any file will do
{% else %}
  subnet_ids   = ["subnet-1", "subnet-2"]
  image_digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
{% endif %}
}

# Queues, topic and subscription

run "queues" {
  command = plan

  variables {
    max_receive_count = 6
  }

  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_policy.main{{ '[0]' if cookiecutter.__fifo }}.redrive_policy) == { deadLetterTargetArn = aws_sqs_queue.dead_letter.arn, maxReceiveCount = 6 }
    error_message = "After max_receive_count attempts a message must go to the dead-letter queue."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_allow_policy.dead_letter.redrive_allow_policy) == { redrivePermission = "byQueue", sourceQueueArns = [aws_sqs_queue.main.arn] }
    error_message = "Only the main queue may use the dead-letter queue."
  }
{% if not cookiecutter.__fifo %}
  assert {
    condition     = aws_sqs_queue.dead_letter.message_retention_seconds > aws_sqs_queue.main.message_retention_seconds
    error_message = "The dead-letter queue must keep messages for longer than the main queue: they keep their age."
  }
{% endif %}
  assert {
    condition     = alltrue([for queue in local.queues : queue.sqs_managed_sse_enabled])
    error_message = "Every queue must be encrypted."
  }
  assert {
    condition     = [for name, policy in aws_sqs_queue_policy.this : name if length([for s in jsondecode(policy.policy).Statement : s if s.Effect == "Deny" && s.Principal == "*" && s.Action == "sqs:*" && s.Condition == { Bool = { "aws:SecureTransport" = "false" } }]) == 1] == keys(local.queues)
    error_message = "Every queue must refuse access without TLS."
  }
  assert {
    condition = {
      for name, policy in aws_sqs_queue_policy.this : name => [
        for s in jsondecode(policy.policy).Statement : [s.Principal, s.Action, s.Resource, s.Condition] if s.Effect == "Allow"
      ]
      } == {
      main        = [[{ Service = "sns.amazonaws.com" }, "sqs:SendMessage", aws_sqs_queue.main.arn, { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:us-east-1:123456789012:found-by-name" } }]]
      undelivered = [[{ Service = "sns.amazonaws.com" }, "sqs:SendMessage", aws_sqs_queue.undelivered.arn, { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:us-east-1:123456789012:found-by-name" } }]]
      dead_letter = []
    }
    error_message = "Only SNS, and only for this topic, may send to the main queue and the undelivered queue."
  }
}

run "visibility_timeout" {
  command = plan

{% if cookiecutter.compute == "lambda" %}
{% if cookiecutter.__fifo %}
  variables {
    timeout = 30
  }

  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds >= 6 * 30
    error_message = "The visibility timeout must be six times the function's timeout."
  }
{% else %}
  variables {
    timeout                            = 30
    maximum_batching_window_in_seconds = 5
  }

  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds >= 6 * 30 + 5
    error_message = "The visibility timeout must be six times the function's timeout plus the batching window."
  }
{% endif %}
{% else %}
  variables {
    timeout = 42600
  }

  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds == var.visibility_timeout_seconds && var.visibility_timeout_seconds < 300
    error_message = "The message of a task that died must become visible again soon, however long a batch may take."
  }
  assert {
    condition     = !aws_ecs_service.this.wait_for_steady_state
    error_message = "An apply must not wait for batches that take hours."
  }
{% endif %}
}

run "subscription" {
  command = plan

  variables {
    event_types = ["order.created", "payment.*", "*"]
  }

  assert {
    condition     = jsondecode(aws_sns_topic_subscription.queue.filter_policy).event_type == ["order.created", { prefix = "payment." }, { exists = true }]
    error_message = "The filter policy must match exactly what event_types says."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_subscription.queue.filter_policy) == merge(local.added_filters, { event_type = jsondecode(aws_sns_topic_subscription.queue.filter_policy).event_type })
    error_message = "The filter policy must have service.tf's conditions, and no others."
  }
  assert {
    condition     = aws_sns_topic_subscription.queue.filter_policy_scope == "MessageAttributes" && aws_sns_topic_subscription.queue.raw_message_delivery
    error_message = "The filter must look at the message attributes, and the attributes must reach the queue."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_subscription.queue.redrive_policy).deadLetterTargetArn == aws_sqs_queue.undelivered.arn
    error_message = "Messages that SNS can't deliver must go to the undelivered queue."
  }
  assert {
    condition     = endswith(data.aws_sns_topic.this[0].name, "-${terraform.workspace}{{ cookiecutter.__fifo }}")
    error_message = "By default the topic must be the workspace's."
  }
}

run "topic_of_another_account" {
  command = plan

  variables {
    sns_topic_arn = "arn:aws:sns:us-east-1:999999999999:theirs{{ cookiecutter.__fifo }}"
  }

  assert {
    condition     = length(data.aws_sns_topic.this) == 0 && aws_sns_topic_subscription.queue.topic_arn == "arn:aws:sns:us-east-1:999999999999:theirs{{ cookiecutter.__fifo }}"
    error_message = "A topic that is given by its ARN must be used as it is."
  }
}

run "protection" {
  command = plan

  variables {
    deletion_protection = true
  }

  assert {
    condition     = length(terraform_data.queues_are_protected) == 1 && length(terraform_data.queues_are_protected[0].triggers_replace) == length(local.queues)
    error_message = "With deletion_protection, the marker that can't be destroyed must depend on every queue."
  }
{% if cookiecutter.compute == "fargate" %}
  assert {
    condition     = !aws_ecr_repository.this.force_delete
    error_message = "With deletion_protection, the images to roll back to must stay."
  }
{% endif %}
}

# Names, roles and log

run "longest_names_and_log_to_a_stream" {
  command = plan

  variables {
    service             = "a234567890-234567890-234567890-234567890"
    log_destination_arn = "arn:aws:firehose:us-east-1:123456789012:deliverystream/central"
  }

  assert {
    condition     = length(local.name) <= 64 && length(aws_iam_role.code.name) <= 64 && length(aws_iam_role.log_subscription[0].name) <= 64
    error_message = "Names of functions and roles must have at most 64 characters."
  }
{% if cookiecutter.compute == "fargate" %}
  assert {
    condition     = length(aws_iam_role.execution.name) <= 64
    error_message = "Names of roles must have at most 64 characters."
  }
{% endif %}
  assert {
    condition     = alltrue([for queue in local.queues : length(queue.name) <= 80])
    error_message = "Names of queues must have at most 80 characters."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.log_subscription[0].policy).Statement : [s.Action, s.Resource]] == [[["firehose:PutRecord", "firehose:PutRecordBatch"], var.log_destination_arn]]
    error_message = "CloudWatch Logs must be allowed to write to the stream, and nothing else."
  }
  assert {
    condition     = aws_cloudwatch_log_subscription_filter.central[0].role_arn == aws_iam_role.log_subscription[0].arn && length(aws_lambda_permission.log_subscription) == 0
    error_message = "CloudWatch Logs must write to a stream in a role."
  }
}

run "log_to_a_function" {
  command = plan

  variables {
    log_destination_arn = "arn:aws:lambda:us-east-1:123456789012:function:central"
  }

  assert {
    condition     = aws_lambda_permission.log_subscription[0].principal == "logs.amazonaws.com" && aws_lambda_permission.log_subscription[0].source_arn == "${aws_cloudwatch_log_group.code.arn}:*"
    error_message = "CloudWatch Logs must be allowed to invoke the function, for this log only."
  }
  assert {
    condition     = length(aws_cloudwatch_log_subscription_filter.central) == 1 && length(aws_iam_role.log_subscription) == 0
    error_message = "A function needs a permission, not a role."
  }
}

run "roles" {
  command = plan

  variables {
    iam_path             = "/teams/"
    permissions_boundary = "arn:aws:iam::123456789012:policy/limit"
  }

  assert {
    condition     = aws_cloudwatch_log_group.code.retention_in_days > 0
    error_message = "The log must not be kept forever."
  }
  assert {
    condition     = local.environment_variables.ENVIRONMENT == "${var.product}-${terraform.workspace}"
    error_message = "ENVIRONMENT must be the product and the workspace."
  }
{% if cookiecutter.compute == "lambda" %}
  assert {
    condition     = aws_iam_role.code.path == "/teams/" && aws_iam_role.code.permissions_boundary == "arn:aws:iam::123456789012:policy/limit"
    error_message = "The role must have the path and the boundary that a deploy role is limited to."
  }
  assert {
    condition     = jsondecode(aws_iam_role.code.assume_role_policy).Statement[*].Principal == [{ Service = "lambda.amazonaws.com" }]
    error_message = "Only Lambda may assume the role."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.code.policy).Statement : [s.Action, s.Resource]] == [
      [["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], aws_sqs_queue.main.arn],
      [["logs:CreateLogStream", "logs:PutLogEvents"], "${aws_cloudwatch_log_group.code.arn}:*"],
      [["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"],
    ]
    error_message = "The role's own policy must allow what every service does, and nothing else."
  }
{% else %}
  assert {
    condition     = alltrue([for role in [aws_iam_role.code, aws_iam_role.execution] : role.path == "/teams/" && role.permissions_boundary == "arn:aws:iam::123456789012:policy/limit"])
    error_message = "Both roles must have the path and the boundary that a deploy role is limited to."
  }
  assert {
    condition     = alltrue([for role in [aws_iam_role.code, aws_iam_role.execution] : jsondecode(role.assume_role_policy).Statement[*].Principal == [{ Service = "ecs-tasks.amazonaws.com" }]])
    error_message = "Only tasks may assume the roles."
  }
  assert {
    condition     = aws_ecs_task_definition.this.task_role_arn != null && aws_iam_role.execution.name == "${local.name}-execution" && aws_iam_role.code.name == local.name
    error_message = "The code must have another role than ECS."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.code.policy).Statement : [s.Action, s.Resource]] == [
      [["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], aws_sqs_queue.main.arn],
      [["sqs:ChangeMessageVisibility"], aws_sqs_queue.main.arn],
      [["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"], "arn:aws:ecs:us-east-1:123456789012:task/own/*"],
    ]
    error_message = "The role's own policy must allow what every service does, and nothing else."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : [s.Action, s.Resource]] == [
      [["logs:CreateLogStream", "logs:PutLogEvents"], "${aws_cloudwatch_log_group.code.arn}:*"],
      [["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], aws_ecr_repository.this.arn],
      [["ecr:GetAuthorizationToken"], "*"],
    ]
    error_message = "ECS must be allowed to pull the image and write the log, and nothing else."
  }
{% endif %}
}

# Alarms and dashboard

run "alarms" {
  command = plan

  variables {
    service       = "a234567890-234567890-234567890-234567890"
    alarm_actions = ["arn:aws:sns:us-east-1:123456789012:on-call"]
{% if cookiecutter.compute == "lambda" %}
    timeout       = 10
{% endif %}
  }

  assert {
    condition = alltrue([
      for alarm in concat(
        values(aws_cloudwatch_metric_alarm.this),
{% if cookiecutter.compute == "lambda" %}
        [aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.duration],
{% else %}
        [aws_cloudwatch_metric_alarm.no_task_running],
{% endif %}
      ) :
      alarm.treat_missing_data == "notBreaching" && alarm.alarm_actions == toset(var.alarm_actions) && alarm.ok_actions == toset(var.alarm_actions) && length(alarm.alarm_description) <= 1024
    ])
    error_message = "Every alarm must notify alarm_actions, and must stay silent while there is nothing to do."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["dead-letter-queue-not-empty"].metric_name == "ApproximateNumberOfMessagesVisible"
    error_message = "The alarm must not use NumberOfMessagesSent, which omits what SQS moves to a dead-letter queue."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["messages-failed"].namespace == var.product && aws_cloudwatch_metric_alarm.this["messages-failed"].dimensions == tomap({ service = var.service, environment = "${var.product}-${terraform.workspace}" })
    error_message = "The alarm must use the metric that the handler writes, of this environment."
  }
  assert {
    condition     = alltrue([for queue in local.queues : strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "\"${queue.name}\"")]) && strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "\"found-by-name\"")
    error_message = "The dashboard must show the chain from the topic to the dead-letter queue."
  }
{% if cookiecutter.compute == "lambda" %}
  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["dead-letter-queue-not-empty", "message-too-old", "messages-failed", "throttled", "undelivered-queue-not-empty"]
    error_message = "Every alarm must be listed here: one is missing or new."
  }
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "record.status != 'success'")
    error_message = "The dashboard's errors must include invocations that timed out or ran out of memory, which have no level."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.duration.threshold == 8000
    error_message = "The duration alarm must be raised at 80 % of the timeout."
  }
{% else %}
  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["dead-letter-queue-not-empty", "memory-high", "message-too-old", "messages-failed", "undelivered-queue-not-empty"]
    error_message = "Every alarm must be listed here: one is missing or new."
  }
{% endif %}
}

{% if cookiecutter.compute == "lambda" %}
# Function

run "function" {
  command = plan

  assert {
    condition     = aws_lambda_function.this.runtime == "python3.13" && aws_lambda_function.this.architectures == tolist(["arm64"]) && aws_lambda_function.this.handler == "handler.handler"
    error_message = "The function must run what the package was built for."
  }
  assert {
    condition     = aws_lambda_function.this.source_code_hash == filebase64sha256(var.package_file) && aws_lambda_function.this.filename == var.package_file
    error_message = "A changed package must be deployed."
  }
  assert {
    condition     = aws_lambda_function.this.logging_config[0].log_format == "JSON" && aws_lambda_function.this.logging_config[0].log_group == aws_cloudwatch_log_group.code.name
    error_message = "The function must log as JSON to its own log group."
  }
  assert {
    condition     = aws_lambda_function.this.logging_config[0].system_log_level != null
    error_message = "system_log_level must be set: without it every plan shows a new version."
  }
  assert {
    condition     = aws_lambda_function.this.logging_config[0].system_log_level == "INFO" && aws_lambda_function.this.logging_config[0].application_log_level == "INFO"
    error_message = "Reports of invocations, and lines without a level, must get through Lambda's filter."
  }
  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "Active"
    error_message = "Tracing must be on by default."
  }
  assert {
    condition     = toset(keys(aws_lambda_function.this.environment[0].variables)) == toset(keys(local.environment_variables))
    error_message = "The function must get the variables that the code reads."
  }
  assert {
    condition     = aws_lambda_function.this.publish && aws_lambda_alias.live.function_version == "7"
    error_message = "The newest version must get the messages."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.event_source_arn == aws_sqs_queue.main.arn && aws_lambda_event_source_mapping.queue.function_name == aws_lambda_alias.live.arn
    error_message = "The queue must feed the alias, so that a version can be rolled back."
  }
  assert {
    condition     = contains(aws_lambda_event_source_mapping.queue.function_response_types, "ReportBatchItemFailures")
    error_message = "Partial batch responses must be on: without them one failed message fails its whole batch, or is lost."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.enabled && length(aws_lambda_event_source_mapping.queue.filter_criteria) == 0
    error_message = "The mapping must be enabled and must not filter: a filter deletes what it does not match."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.scaling_config[0].maximum_concurrency == var.maximum_concurrency && coalesce(aws_lambda_function.this.reserved_concurrent_executions, -1) == -1
    error_message = "The mapping, not the function, must limit concurrency: a throttled message counts as an attempt."
  }
}

run "role_without_tracing_and_log_of_errors" {
  command = plan

  variables {
    log_level    = "ERROR"
    tracing_mode = "PassThrough"
  }

  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.code.policy).Statement : s.Sid if s.Resource == "*"] == []
    error_message = "Without tracing, no permission may be for all resources."
  }
  assert {
    condition     = local.environment_variables.LOG_LEVEL == "ERROR" && aws_lambda_function.this.logging_config[0].application_log_level == "INFO"
    error_message = "Above INFO the code alone must decide what is logged: Lambda would drop the metrics, as they have no level."
  }
}

run "role_in_a_vpc" {
  command = plan

  variables {
    subnet_ids         = ["subnet-1"]
    security_group_ids = ["sg-1"]
  }

  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.code.policy).Statement : alltrue([for action in flatten([s.Action]) : !strcontains(action, "*")])])
    error_message = "Actions must be named one by one."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.code.policy).Statement : s.Sid if s.Resource == "*"] == ["Trace", "Network"]
    error_message = "Only traces and network interfaces may be for all resources."
  }
}

run "provisioned_pollers_metrics_and_ipv6" {
  command = plan

  variables {
    provisioned_pollers = { minimum = 2, maximum = 20 }
    event_count_metrics = true
    ipv6                = true
    subnet_ids          = ["subnet-1"]
    security_group_ids  = ["sg-1"]
  }

  assert {
    condition     = length(aws_lambda_event_source_mapping.queue.scaling_config) == 0 && aws_lambda_event_source_mapping.queue.provisioned_poller_config[0].minimum_pollers == 2 && aws_lambda_event_source_mapping.queue.provisioned_poller_config[0].maximum_pollers == 20
    error_message = "Provisioned pollers must take the place of the limit on concurrency: AWS refuses both."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.metrics_config[0].metrics == toset(["EventCount"])
    error_message = "event_count_metrics must turn the mapping's metrics on."
  }
  assert {
    condition     = aws_lambda_function.this.vpc_config[0].ipv6_allowed_for_dual_stack
    error_message = "ipv6 must let the function use IPv6."
  }
}

run "paused_and_rolled_back" {
  command = plan

  variables {
    paused       = true
    live_version = "3"
  }

  assert {
    condition     = !aws_lambda_event_source_mapping.queue.enabled
    error_message = "While paused, Lambda must take no messages."
  }
  assert {
    condition     = aws_lambda_alias.live.function_version == "3"
    error_message = "live_version must decide which version gets the messages."
  }
  assert {
    condition     = jsonencode(terraform_data.deployed.input.settings) == jsonencode({ live_version = "3", paused = true })
    error_message = "The state must keep what make rollback and make pause have set."
  }
}

run "gradual_release" {
  command = plan

  variables {
    live_version  = "6"
    canary_weight = 0.1
  }

  assert {
    condition     = aws_lambda_alias.live.function_version == "6" && aws_lambda_alias.live.routing_config[0].additional_version_weights["7"] == 0.1
    error_message = "The newest version must get canary_weight of the batches, and live_version the others."
  }
}

run "gradual_release_of_the_version_that_is_live" {
  command = plan

  variables {
    live_version  = "7" # the newest
    canary_weight = 0.1
  }

  expect_failures = [aws_lambda_alias.live]
}

run "package_through_s3_and_snap_start" {
  command = plan

  variables {
    artifact_bucket = "artifacts"
    snap_start      = true
    log_level       = "DEBUG"
  }

  assert {
    condition     = aws_lambda_function.this.logging_config[0].application_log_level == "DEBUG"
    error_message = "Lambda must let through what the code logs."
  }

  assert {
    condition     = aws_lambda_function.this.filename == null && aws_lambda_function.this.s3_bucket == "artifacts" && aws_lambda_function.this.s3_key == aws_s3_object.package[0].key
    error_message = "With artifact_bucket, the function's code must come from it."
  }
  assert {
    condition     = strcontains(aws_s3_object.package[0].key, replace(replace(filebase64sha256(var.package_file), "/", "_"), "+", "-"))
    error_message = "The key must depend on the content, so that an unchanged package is not uploaded again."
  }
  assert {
    condition     = aws_lambda_function.this.snap_start[0].apply_on == "PublishedVersions"
    error_message = "SnapStart must be for published versions, the only ones it works on."
  }
}

run "settings_only" {
  command = plan

  variables {
    package_file = "there-is-none.zip"
    package_hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
  }

  assert {
    condition     = aws_lambda_function.this.source_code_hash == var.package_hash
    error_message = "With package_hash, the deployed package must stay."
  }
}
{% else %}
# Tasks

run "task" {
  command = plan

  assert {
    condition     = aws_ecs_task_definition.this.requires_compatibilities == toset(["FARGATE"]) && aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64"
    error_message = "The task must run what the image is built for."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/this-one@${var.image_digest}"
    error_message = "The image must come from the service's own repository, by its digest."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].mountPoints == [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    error_message = "Only /tmp may be writable."
  }
  assert {
    condition     = strcontains(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command[3], "/worker-health") && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 120
    error_message = "ECS must check the worker's health, and give it time to stop."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].logConfiguration.options["awslogs-group"] == aws_cloudwatch_log_group.code.name && aws_cloudwatch_log_group.code.name == "/ecs/${local.name}"
    error_message = "The log must go to the service's own log group."
  }
  assert {
    condition = {
      for variable in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : variable.name => variable.value if variable.name != "QUEUE_URL"
      } == merge(local.environment_variables, {
        BATCH_SIZE         = "1"
        POLLERS            = "1"
        VISIBILITY_TIMEOUT = "120"
        TIMEOUT            = "1800"
        STOP_TIMEOUT       = "120"
        AWS_DEFAULT_REGION = "us-east-1"
    })
    error_message = "The worker must get its settings, and the code the variables that it reads."
  }
  assert {
    condition     = aws_ecs_task_definition.this.skip_destroy
    error_message = "Earlier revisions must stay, to roll back to."
  }
}

run "service" {
  command = plan

  assert {
    condition     = aws_ecs_service.this.task_definition == aws_ecs_task_definition.this.arn && aws_ecs_service.this.desired_count == 0
    error_message = "The newest release must be the one that runs, and no task may run while there is nothing to do."
  }
  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback && aws_ecs_service.this.wait_for_steady_state
    error_message = "A release whose tasks do not start must be rolled back, and the apply must fail."
  }
  assert {
    condition     = aws_ecs_service.this.force_new_deployment && one(aws_ecs_service.this.capacity_provider_strategy).capacity_provider == "FARGATE"
    error_message = "A change of fargate_spot must not replace the service."
  }
  assert {
    condition     = aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-own"]) && aws_ecs_service.this.network_configuration[0].subnets == toset(var.subnet_ids) && !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Tasks must run in the given subnets, without a public IP address."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.https[0].from_port == 443 && aws_vpc_security_group_egress_rule.https[0].to_port == 443 && length(aws_vpc_security_group_egress_rule.https_ipv6) == 0 && aws_security_group.this[0].vpc_id == "vpc-1"
    error_message = "Only HTTPS may go out."
  }
  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "Images must be immutable, and scanned."
  }
}

run "given_cluster_and_security_group" {
  command = plan

  variables {
    cluster_arn        = "arn:aws:ecs:us-east-1:123456789012:cluster/shared"
    security_group_ids = ["sg-1"]
    architecture       = "x86_64"
  }

  assert {
    condition     = length(aws_ecs_cluster.this) + length(aws_security_group.this) + length(data.aws_subnet.first) == 0
    error_message = "What is given must not be created."
  }
  assert {
    condition     = aws_ecs_service.this.cluster == var.cluster_arn && output.cluster_name == "shared" && aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-1"])
    error_message = "The given cluster and security group must be used."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.code.policy).Statement[2].Resource == "arn:aws:ecs:us-east-1:123456789012:task/shared/*"
    error_message = "Tasks must be able to protect themselves in the given cluster."
  }
  assert {
    condition     = aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "X86_64"
    error_message = "The task must run what the image is built for."
  }
}

run "scaling" {
  command = plan

  variables {
    max_capacity     = 7
    backlog_per_task = 4
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && aws_appautoscaling_target.this.max_capacity == 7 && aws_appautoscaling_target.this.resource_id == "service/own/${local.name}"
    error_message = "The service must scale within min_capacity and max_capacity."
  }
  assert {
    condition     = aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].target_value == 4
    error_message = "The scaling must keep the backlog per task at backlog_per_task."
  }
  assert {
    condition     = aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].scale_out_cooldown >= 300
    error_message = "Before more tasks are added, those added before must run and be counted."
  }
  assert {
    condition = {
      for metric in aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metrics :
      metric.id => try([metric.metric_stat[0].metric[0].metric_name, metric.metric_stat[0].stat], metric.expression)
      } == {
      backlog_per_task = "(waiting + in_flight) / running"
      waiting          = ["ApproximateNumberOfMessagesVisible", "Maximum"]
      in_flight        = ["ApproximateNumberOfMessagesNotVisible", "Maximum"]
      running          = ["CPUUtilization", "SampleCount"]
    }
    error_message = "The backlog must include messages in flight, per running task."
  }
  assert {
    condition     = aws_appautoscaling_policy.from_zero[0].step_scaling_policy_configuration[0].adjustment_type == "ChangeInCapacity" && one(aws_appautoscaling_policy.from_zero[0].step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment == 1
    error_message = "Scaling from zero must add one task, and never remove one."
  }
  assert {
    condition     = aws_appautoscaling_policy.to_zero[0].step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity" && one(aws_appautoscaling_policy.to_zero[0].step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment == 0
    error_message = "With nothing to do, no task may run."
  }
  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.scaling["to-zero"].metric_query : query.expression if query.id == "messages"] == ["waiting + in_flight"]
    error_message = "While a message is in flight, the last task must stay."
  }
  assert {
    condition = alltrue([
      for alarm in [aws_cloudwatch_metric_alarm.scaling["from-zero"], aws_cloudwatch_metric_alarm.no_task_running] :
      { for query in alarm.metric_query : query.id => try(query.metric[0].namespace, query.expression) } == {
        messages  = "IF(in_flight > 0, 0, waiting)"
        waiting   = "AWS/SQS"
        in_flight = "AWS/SQS"
      }
    ])
    error_message = "Whether messages wait for nothing must not depend on metrics that are missing while no task runs."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.scaling : startswith(alarm.alarm_name, "scaling-") && alarm.treat_missing_data == "notBreaching" && length(alarm.alarm_actions) == 1])
    error_message = "The scaling's alarms must not look like the service's."
  }
}

run "at_least_one_task_on_spot_with_ipv6" {
  command = plan

  variables {
    service      = "sg-orders" # no security group may have a name that begins with sg-
    min_capacity = 1
    fargate_spot = true
    ipv6         = true
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 1 && length(aws_appautoscaling_policy.from_zero) + length(aws_appautoscaling_policy.to_zero) + length(aws_cloudwatch_metric_alarm.scaling) == 0
    error_message = "With a task that always runs, nothing may scale from or to zero."
  }
  assert {
    condition     = one(aws_ecs_service.this.capacity_provider_strategy).capacity_provider == "FARGATE_SPOT"
    error_message = "With fargate_spot, tasks must run on Fargate Spot."
  }
  assert {
    condition     = [for rule in [aws_vpc_security_group_egress_rule.https_ipv6[0]] : [rule.cidr_ipv6, rule.from_port, rule.to_port]] == [["::/0", 443, 443]]
    error_message = "With ipv6, HTTPS must go out by IPv6 too."
  }
  assert {
    condition = alltrue([
      for resource in [aws_security_group.this[0], aws_vpc_security_group_egress_rule.https[0], aws_vpc_security_group_egress_rule.https_ipv6[0]] :
      can(regex("^[A-Za-z0-9 ._:/()#,@\\[\\]+=&;{}!$*-]{1,255}$", resource.description))
    ])
    error_message = "Descriptions must have only the characters that AWS takes here: no apostrophe, for example."
  }
}

run "paused_and_rolled_back" {
  command = plan

  variables {
    min_capacity = 1
    paused       = true
    live_version = "3"
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && aws_appautoscaling_target.this.max_capacity == 0
    error_message = "While paused, no task may run."
  }
  assert {
    condition     = aws_ecs_service.this.task_definition == "arn:aws:ecs:us-east-1:123456789012:task-definition/this-one:3"
    error_message = "live_version must decide which revision runs."
  }
  assert {
    condition     = jsonencode(terraform_data.deployed.input.settings) == jsonencode({ live_version = "3", paused = true })
    error_message = "The state must keep what make rollback and make pause have set."
  }
}
{% endif %}

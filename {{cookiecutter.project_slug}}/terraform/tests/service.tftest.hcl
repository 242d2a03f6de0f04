# The decisions that must not get lost by accident. These run without AWS: make validate

mock_provider "aws" {
  # What AWS would answer is known in the plan, so that policies can be read there.
  override_during = plan

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:this-one" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/services/this-one" }
  }
  mock_resource "aws_lambda_function" {
    defaults = {
      arn     = "arn:aws:lambda:us-east-1:123456789012:function:this-one"
      version = "7"
    }
  }
  mock_resource "aws_lambda_alias" {
    defaults = { arn = "arn:aws:lambda:us-east-1:123456789012:function:this-one:live" }
  }
  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:one" }
  }
  mock_data "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:found-by-name" }
  }
  override_resource {
    target = aws_sqs_queue.main
    values = { arn = "arn:aws:sqs:us-east-1:123456789012:main" }
  }
  override_resource {
    target = aws_sqs_queue.dead_letter
    values = { arn = "arn:aws:sqs:us-east-1:123456789012:dead-letter" }
  }
  override_resource {
    target = aws_sqs_queue.undelivered
    values = { arn = "arn:aws:sqs:us-east-1:123456789012:undelivered" }
  }
}

variables {
  aws_region     = "us-east-1"
  python_version = "3.13"
  architecture   = "arm64"
  package_file   = "tests/service.tftest.hcl" # any file will do
}

run "queues" {
  command = plan

  variables {
    timeout                            = 30
    maximum_batching_window_in_seconds = 5
    max_receive_count                  = 6
  }

  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds >= 6 * 30 + 5
    error_message = "The visibility time-out must be six times the function's time-out plus the batching window."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_policy.main.redrive_policy) == { deadLetterTargetArn = aws_sqs_queue.dead_letter.arn, maxReceiveCount = 6 }
    error_message = "After max_receive_count tries a message must go to the dead-letter queue."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_allow_policy.dead_letter.redrive_allow_policy) == { redrivePermission = "byQueue", sourceQueueArns = [aws_sqs_queue.main.arn] }
    error_message = "Only the queue may use the dead-letter queue."
  }
  assert {
    condition     = aws_sqs_queue.dead_letter.message_retention_seconds > aws_sqs_queue.main.message_retention_seconds
    error_message = "The dead-letter queue must keep messages for longer than the queue: their age counts on."
  }
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
    error_message = "SNS, for this topic, and nobody else may send to the queue and to the undelivered queue."
  }
}

run "subscription" {
  command = plan

  variables {
    event_types = ["order.created", "payment.*", "*"]
  }

  assert {
    condition     = jsondecode(aws_sns_topic_subscription.queue.filter_policy) == { event_type = ["order.created", { prefix = "payment." }, { exists = true }] }
    error_message = "The filter policy must say exactly what event_types says."
  }
  assert {
    condition     = aws_sns_topic_subscription.queue.filter_policy_scope == "MessageAttributes" && aws_sns_topic_subscription.queue.raw_message_delivery
    error_message = "The filter must look at the attributes, and the attributes must arrive."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_subscription.queue.redrive_policy).deadLetterTargetArn == aws_sqs_queue.undelivered.arn
    error_message = "What SNS cannot deliver must go to the undelivered queue."
  }
  assert {
    condition     = aws_lambda_function.this.environment[0].variables.EVENT_TYPES == "order.created,payment.*,*"
    error_message = "The function must expect the event types that the filter lets through."
  }
  assert {
    condition     = endswith(data.aws_sns_topic.this[0].name, "-${terraform.workspace}")
    error_message = "Without other settings the topic is the workspace's."
  }
}

run "topic_of_another_account" {
  command = plan

  variables {
    sns_topic_arn = "arn:aws:sns:us-east-1:999999999999:theirs"
  }

  assert {
    condition     = length(data.aws_sns_topic.this) == 0 && aws_sns_topic_subscription.queue.topic_arn == "arn:aws:sns:us-east-1:999999999999:theirs"
    error_message = "A topic that is given by its ARN must be used as it is."
  }
}

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
    condition     = aws_lambda_function.this.logging_config[0].log_format == "JSON" && aws_lambda_function.this.logging_config[0].log_group == aws_cloudwatch_log_group.function.name
    error_message = "The function must log as JSON to its own log group."
  }
  assert {
    condition     = aws_lambda_function.this.logging_config[0].system_log_level != null
    error_message = "Without system_log_level every plan shows a new version."
  }
  assert {
    condition     = aws_cloudwatch_log_group.function.retention_in_days > 0
    error_message = "The log must not be kept for ever."
  }
  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "Active"
    error_message = "Traces are on by default."
  }
  assert {
    condition     = aws_lambda_function.this.environment[0].variables.ENVIRONMENT == "${var.product}-${terraform.workspace}"
    error_message = "ENVIRONMENT is the product and the workspace."
  }
  assert {
    condition     = aws_lambda_function.this.publish && aws_lambda_alias.live.function_version == "7"
    error_message = "The newest version must get the messages."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.event_source_arn == aws_sqs_queue.main.arn && aws_lambda_event_source_mapping.queue.function_name == aws_lambda_alias.live.arn
    error_message = "The queue must feed the alias, so that a version can be put back."
  }
  assert {
    condition     = contains(aws_lambda_event_source_mapping.queue.function_response_types, "ReportBatchItemFailures")
    error_message = "Partial batch responses must be on: without them a failed message takes its neighbours along, or is lost."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.enabled && length(aws_lambda_event_source_mapping.queue.filter_criteria) == 0
    error_message = "The mapping must be on, and must not filter: it would delete what does not match."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue.scaling_config[0].maximum_concurrency == var.maximum_concurrency && coalesce(aws_lambda_function.this.reserved_concurrent_executions, -1) == -1
    error_message = "The mapping must limit concurrency, not the function: throttled messages count as tried."
  }
}

run "role" {
  command = plan

  assert {
    condition     = jsondecode(aws_iam_role.function.assume_role_policy).Statement[*].Principal == [{ Service = "lambda.amazonaws.com" }]
    error_message = "Lambda and nobody else may take the role."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : [s.Action, s.Resource]] == [
      [["logs:CreateLogStream", "logs:PutLogEvents"], "${aws_cloudwatch_log_group.function.arn}:*"],
      [["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], aws_sqs_queue.main.arn],
      [["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"],
    ]
    error_message = "The role's policy holds what the service does and nothing else. Add a new permission here too."
  }
}

run "role_without_tracing" {
  command = plan

  variables {
    tracing_mode = "PassThrough"
  }

  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : s.Sid if s.Resource == "*"] == []
    error_message = "Without traces no permission may be for every resource."
  }
}

run "role_in_a_vpc_with_a_boundary" {
  command = plan

  variables {
    subnet_ids           = ["subnet-1"]
    security_group_ids   = ["sg-1"]
    iam_path             = "/teams/"
    permissions_boundary = "arn:aws:iam::123456789012:policy/limit"
  }

  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.function.policy).Statement : alltrue([for action in s.Action : !strcontains(action, "*")])])
    error_message = "Actions are named one by one."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : s.Sid if s.Resource == "*"] == ["Trace", "Network"]
    error_message = "Only traces and network interfaces have no resource level."
  }
  assert {
    condition     = aws_iam_role.function.path == "/teams/" && aws_iam_role.function.permissions_boundary == "arn:aws:iam::123456789012:policy/limit"
    error_message = "Path and boundary limit what a deploy role can make."
  }
}

run "longest_names_and_log_to_a_stream" {
  command = plan

  variables {
    service             = "a234567890-234567890-234567890-234567890"
    log_destination_arn = "arn:aws:firehose:us-east-1:123456789012:deliverystream/central"
  }

  assert {
    condition     = length(aws_lambda_function.this.function_name) <= 64 && length(aws_iam_role.function.name) <= 64 && length(aws_iam_role.log_subscription[0].name) <= 64
    error_message = "Names of functions and roles have 64 characters at most."
  }
  assert {
    condition     = alltrue([for queue in local.queues : length(queue.name) <= 80])
    error_message = "Names of queues have 80 characters at most."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.log_subscription[0].policy).Statement : [s.Action, s.Resource]] == [[["firehose:PutRecord", "firehose:PutRecordBatch"], var.log_destination_arn]]
    error_message = "CloudWatch Logs must be allowed to write to the stream, and to nothing else."
  }
  assert {
    condition     = aws_cloudwatch_log_subscription_filter.central[0].role_arn == aws_iam_role.log_subscription[0].arn && length(aws_lambda_permission.log_subscription) == 0
    error_message = "A stream is written to in a role."
  }
}

run "alarms" {
  command = plan

  variables {
    timeout       = 10
    alarm_actions = ["arn:aws:sns:us-east-1:123456789012:on-call"]
  }

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["dead-letter-queue-not-empty", "message-too-old", "messages-failed", "throttled", "undelivered-queue-not-empty"]
    error_message = "An alarm is missing, or is new: name it here too."
  }
  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.this), [aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.duration]) :
      alarm.treat_missing_data == "notBreaching" && alarm.alarm_actions == toset(var.alarm_actions) && alarm.ok_actions == toset(var.alarm_actions) && length(alarm.alarm_description) <= 1024
    ])
    error_message = "Every alarm must tell alarm_actions, and must not go off while there is nothing to do."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["dead-letter-queue-not-empty"].metric_name == "ApproximateNumberOfMessagesVisible"
    error_message = "NumberOfMessagesSent does not count what SQS moves to a dead-letter queue."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["messages-failed"].namespace == var.product && aws_cloudwatch_metric_alarm.this["messages-failed"].dimensions == tomap({ service = var.service, environment = "${var.product}-${terraform.workspace}" })
    error_message = "The service's own metric is the one that the handler writes, of this environment."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.duration.threshold == 8000
    error_message = "The duration's alarm goes off at 80 % of the time-out."
  }
  assert {
    condition     = alltrue([for queue in local.queues : strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "\"${queue.name}\"")]) && strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "\"found-by-name\"")
    error_message = "The dashboard must show the chain from the topic to the dead-letter queue."
  }
}

run "log_to_a_function" {
  command = plan

  variables {
    log_destination_arn = "arn:aws:lambda:us-east-1:123456789012:function:central"
  }

  assert {
    condition     = aws_lambda_permission.log_subscription[0].principal == "logs.amazonaws.com" && aws_lambda_permission.log_subscription[0].source_arn == "${aws_cloudwatch_log_group.function.arn}:*"
    error_message = "CloudWatch Logs must be allowed to invoke the function, for this log only."
  }
  assert {
    condition     = length(aws_cloudwatch_log_subscription_filter.central) == 1 && length(aws_iam_role.log_subscription) == 0
    error_message = "A function needs a permission, no role."
  }
}

run "options" {
  command = plan

  variables {
    live_version        = "3"
    artifact_bucket     = "artifacts"
    snap_start          = true
    deletion_protection = true
  }

  assert {
    condition     = aws_lambda_alias.live.function_version == "3"
    error_message = "live_version must decide which version gets the messages."
  }
  assert {
    condition     = aws_lambda_function.this.filename == null && aws_lambda_function.this.s3_bucket == "artifacts" && aws_lambda_function.this.s3_key == aws_s3_object.package[0].key
    error_message = "With artifact_bucket the function must come from it."
  }
  assert {
    condition     = strcontains(aws_s3_object.package[0].key, replace(replace(filebase64sha256(var.package_file), "/", "_"), "+", "-"))
    error_message = "The key must follow the content: an unchanged package is not sent again."
  }
  assert {
    condition     = aws_lambda_function.this.snap_start[0].apply_on == "PublishedVersions"
    error_message = "SnapStart works on published versions only."
  }
  assert {
    condition     = length(terraform_data.queues_are_protected) == 1 && length(terraform_data.queues_are_protected[0].triggers_replace) == length(local.queues)
    error_message = "With deletion_protection the marker that must not be destroyed has to follow every queue."
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
    error_message = "The newest version must get canary_weight of the batches, live_version the others."
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
    error_message = "With package_hash the deployed package must stay."
  }
}

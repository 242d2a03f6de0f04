# The decisions that must not get lost by accident. These run without AWS: make validate

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  aws_region   = "us-east-1"
  architecture = "arm64"
{% if cookiecutter.compute == "fargate" %}
  subnet_ids   = ["subnet-1"]
  image_digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
{% else %}

  python_version = "3.13"
  package_file   = "tests/service.tftest.hcl" # any file will do
{% endif %}
}

run "queues" {
  command = plan

  variables {
    max_receive_count = 6
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
    condition     = local.environment_variables.EVENT_TYPES == "order.created,payment.*,*"
    error_message = "The code must expect the event types that the filter lets through."
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

run "log_and_names" {
  command = plan

  assert {
    condition     = aws_cloudwatch_log_group.function.retention_in_days > 0
    error_message = "The log must not be kept for ever."
  }
  assert {
    condition     = local.environment_variables.ENVIRONMENT == "${var.product}-${terraform.workspace}"
    error_message = "ENVIRONMENT is the product and the workspace."
  }
}

run "role_with_a_path_and_a_boundary" {
  command = plan

  variables {
    iam_path             = "/teams/"
    permissions_boundary = "arn:aws:iam::123456789012:policy/limit"
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
    condition     = length(local.name) <= 64 && length(aws_iam_role.function.name) <= 64 && length(aws_iam_role.log_subscription[0].name) <= 64
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
    alarm_actions = ["arn:aws:sns:us-east-1:123456789012:on-call"]
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
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

run "protection" {
  command = plan

  variables {
    deletion_protection = true
  }

  assert {
    condition     = length(terraform_data.queues_are_protected) == 1 && length(terraform_data.queues_are_protected[0].triggers_replace) == length(local.queues)
    error_message = "With deletion_protection the marker that must not be destroyed has to follow every queue."
  }
}

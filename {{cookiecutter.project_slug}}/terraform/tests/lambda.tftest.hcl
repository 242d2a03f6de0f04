# What only a function has: see service.tftest.hcl. These run without AWS: make validate

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  aws_region     = "us-east-1"
  python_version = "3.13"
  architecture   = "arm64"
  package_file   = "tests/lambda.tftest.hcl" # any file will do
}

run "visibility_time_out" {
  command = plan

  variables {
    timeout                            = 30
    maximum_batching_window_in_seconds = 5
  }

  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds >= 6 * 30 + 5
    error_message = "The visibility time-out must be six times the function's time-out plus the batching window."
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
    condition     = aws_lambda_function.this.tracing_config[0].mode == "Active"
    error_message = "Traces are on by default."
  }
  assert {
    condition     = aws_lambda_function.this.environment[0].variables == tomap(local.environment_variables)
    error_message = "The function must get what the handler reads."
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
    condition = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : [s.Action, s.Resource]] == concat(
      [
        [["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], aws_sqs_queue.main.arn],
        [["logs:CreateLogStream", "logs:PutLogEvents"], "${aws_cloudwatch_log_group.function.arn}:*"],
        [["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"],
      ],
      [for s in local.added_permissions : [s.Action, s.Resource]],
    )
    error_message = "The role's policy holds what every service does, what service.tf adds, and nothing else."
  }
}

run "role_without_tracing" {
  command = plan

  variables {
    tracing_mode = "PassThrough"
  }

  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : s.Sid if s.Resource == "*"] == [for s in local.added_permissions : s.Sid if s.Resource == "*"]
    error_message = "Without traces no permission may be for every resource."
  }
}

run "role_in_a_vpc" {
  command = plan

  variables {
    subnet_ids         = ["subnet-1"]
    security_group_ids = ["sg-1"]
  }

  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.function.policy).Statement : alltrue([for action in flatten([s.Action]) : !strcontains(action, "*")])])
    error_message = "Actions are named one by one."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : s.Sid if s.Resource == "*"] == concat(["Trace", "Network"], [for s in local.added_permissions : s.Sid if s.Resource == "*"])
    error_message = "Only traces and network interfaces have no resource level, and what service.tf adds."
  }
}

run "alarms_of_the_function" {
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
      for alarm in [aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.duration] :
      alarm.treat_missing_data == "notBreaching" && alarm.alarm_actions == toset(var.alarm_actions) && alarm.ok_actions == toset(var.alarm_actions) && length(alarm.alarm_description) <= 1024
    ])
    error_message = "Every alarm must tell alarm_actions, and must not go off while there is nothing to do."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.duration.threshold == 8000
    error_message = "The duration's alarm goes off at 80 % of the time-out."
  }
}

run "options" {
  command = plan

  variables {
    live_version    = "3"
    artifact_bucket = "artifacts"
    snap_start      = true
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

# What keeps the messages of a group in order. The tests run without AWS: make validate

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  aws_region   = "us-east-1"
  architecture = "arm64"
  event_types  = ["order.created"]

{% if cookiecutter.compute == "fargate" %}
  subnet_ids   = ["subnet-1"]
  image_digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
{% else %}
  python_version = "3.13"
  package_file   = "tests/fifo.tftest.hcl" # any file will do
{% endif %}
}

run "failed_messages_let_their_groups_go_on" {
  command = plan

  variables {
    max_receive_count = 6
  }

  assert {
    condition     = alltrue([for queue in local.queues : queue.fifo_queue && endswith(queue.name, ".fifo")])
    error_message = "Every queue must be FIFO: AWS takes no other as a dead-letter queue of a FIFO queue or topic."
  }
  assert {
    condition     = aws_sqs_queue.main.deduplication_scope == "messageGroup" && aws_sqs_queue.undelivered.deduplication_scope == "messageGroup"
    error_message = "Deduplication must be per group: otherwise SQS drops a message that the topic let through."
  }
  assert {
    condition     = alltrue([for queue in local.queues : queue.message_retention_seconds == 14 * 24 * 60 * 60])
    error_message = "Every queue must keep messages for as long as SQS can, with and without hold_failed_groups: releasing a group that has waited for long must not shorten it."
  }
  assert {
    condition     = alltrue([for queue in local.queues : queue.content_based_deduplication != true])
    error_message = "Messages must keep the deduplication ID of the topic: two with the same content may be two events."
  }
  assert {
    condition     = aws_sqs_queue.main.fifo_throughput_limit == "perMessageGroupId"
    error_message = "By default the queue must be in high throughput mode, which costs no more."
  }
  assert {
    condition     = length(aws_sqs_queue_redrive_policy.main) == 1 && local.environment_variables.MAX_RECEIVE_COUNT == "6"
    error_message = "The code must know how often SQS delivers a message: after the last time, its group goes on."
  }
  assert {
    condition     = alltrue([for metric in ["ApproximateNumberOfGroupsWithInflightMessages", "MessagesHeldBack"] : strcontains(aws_cloudwatch_dashboard.this.dashboard_body, metric)])
    error_message = "The dashboard must show how many groups are in progress, and what waits behind a failed message."
  }
  assert {
    condition     = strcontains(aws_cloudwatch_metric_alarm.this["message-too-old"].alarm_description, "its group waits")
    error_message = "The alarm must name the first reason of an old message: its group is blocked."
  }
{% if cookiecutter.compute == "lambda" %}
  assert {
    condition     = aws_lambda_event_source_mapping.queue.batch_size == 1 && aws_lambda_event_source_mapping.queue.maximum_batching_window_in_seconds == null
    error_message = "A batch must be one message by default, and there must be no batching window: Lambda refuses one for a FIFO queue."
  }
{% endif %}
}

run "groups_are_held" {
  command = plan

  variables {
    hold_failed_groups = true
    high_throughput    = false
  }

  assert {
    condition     = length(aws_sqs_queue_redrive_policy.main) == 0 && !contains(keys(local.environment_variables), "MAX_RECEIVE_COUNT")
    error_message = "With hold_failed_groups, no message may be dead-lettered, and for the code no try may be the last."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["messages-failed"].threshold == 0
    error_message = "With hold_failed_groups, a single failed try must raise the alarm: a message may be tried only twice in five minutes, and is deleted after 14 days."
  }
  assert {
    condition     = aws_sqs_queue.main.fifo_throughput_limit == "perQueue" && aws_sqs_queue.main.deduplication_scope == "messageGroup"
    error_message = "Without high_throughput, the limit must be the queue's, and deduplication still per group."
  }
}

# Alarms. Each says what it means and what to do first; RUNBOOK.md has the rest. Missing data raises no
# alarm: a service with nothing to do has no metrics.

locals {
  # The service's own metrics have the environment as a dimension, so that dev can't set off prod's alarm.
  own_metric_dimensions = {
    service     = var.service
    environment = "${var.product}-${local.environment}"
  }

  message_age_alarm = coalesce(var.message_age_alarm_in_seconds, max(900, 4 * local.visibility_timeout))

  alarms = {
    dead-letter-queue-not-empty = {
{% if cookiecutter.__fifo %}
      description = "Messages failed ${var.max_receive_count} times and are now in ${aws_sqs_queue.dead_letter.name}; their groups went on without them. First look at them (make dlq-peek) and at the log; fix the cause, then send them back (make dlq-redrive): they come after the messages of their groups that went on. They are deleted after 14 days."
{% else %}
      description = "Messages failed ${var.max_receive_count} times and are now in ${aws_sqs_queue.dead_letter.name}. First look at them (make dlq-peek) and at the log; fix the cause, then send them back (make dlq-redrive). They are deleted 14 days after they were sent."
{% endif %}
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead_letter.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = 0
    }

    undelivered-queue-not-empty = {
      description = "SNS could not deliver messages to ${aws_sqs_queue.main.name}; they are now in ${aws_sqs_queue.undelivered.name}. First check whether somebody changed the policy of ${aws_sqs_queue.main.name} by hand (make plan). They are deleted after 14 days."
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.undelivered.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = 0
    }

    messages-failed = {
{% if cookiecutter.__fifo %}
      description = "${var.hold_failed_groups ? "An attempt" : "More than 5 attempts"} to process a message failed within 5 minutes. ${var.hold_failed_groups ? "A failed message is retried until it succeeds" : "A failed message is retried until it has been tried ${var.max_receive_count} times"}; its group waits. First look at the log: its ERROR lines name the message, its group and the error."
{% else %}
      description = "More than 5 attempts to process a message failed within 5 minutes. A failed message is retried until it has been tried ${var.max_receive_count} times. First look at the log: its ERROR lines name the message and the error."
{% endif %}
      namespace   = var.product
      metric_name = "MessagesFailed"
      dimensions  = local.own_metric_dimensions
      statistic   = "Sum"
      period      = 300
{% if cookiecutter.__fifo %}
      threshold   = var.hold_failed_groups ? 0 : 5 # one message may be tried only twice in this time
{% else %}
      threshold   = 5
{% endif %}
    }

{% if cookiecutter.compute == "lambda" %}
    message-too-old = {
{% if cookiecutter.__fifo %}
      description = "The oldest message in ${aws_sqs_queue.main.name} is more than ${local.message_age_alarm} seconds old: a message fails and its group waits behind it, or the service can't keep up or gets no messages. First check which groups are blocked and whether the event source mapping is enabled (make status), then the errors in the log, then maximum_concurrency. Messages are deleted after 14 days."
{% else %}
      description = "The oldest message in ${aws_sqs_queue.main.name} is more than ${local.message_age_alarm} seconds old: the service can't keep up, or gets no messages. First check that the event source mapping is enabled (make status), then the errors in the log, then maximum_concurrency. Messages are deleted after 7 days."
{% endif %}
      namespace   = "AWS/SQS"
      metric_name = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = aws_sqs_queue.main.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = local.message_age_alarm
    }

    throttled = {
      description = "Lambda refused to run ${local.name} because too many functions are running in this account and region. First compare the account's concurrency limit with what is in use; lower maximum_concurrency or request a higher limit."
      namespace   = "AWS/Lambda"
      metric_name = "Throttles"
      dimensions  = { FunctionName = aws_lambda_function.this.function_name }
      statistic   = "Sum"
      period      = 300
      threshold   = 0
    }
{% else %}
    message-too-old = {
{% if cookiecutter.__fifo %}
      description = "The oldest message in ${aws_sqs_queue.main.name} is more than ${local.message_age_alarm} seconds old: a message fails and its group waits behind it, or the service can't keep up, or no task is running. First check which groups are blocked, whether tasks are running and why others stopped (make status), then the errors in the log, then max_capacity and backlog_per_task. Messages are deleted after 14 days."
{% else %}
      description = "The oldest message in ${aws_sqs_queue.main.name} is more than ${local.message_age_alarm} seconds old: the service can't keep up, or no task is running. First check whether tasks are running and why others stopped (make status), then the errors in the log, then max_capacity and backlog_per_task. Messages are deleted after 7 days."
{% endif %}
      namespace   = "AWS/SQS"
      metric_name = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = aws_sqs_queue.main.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = local.message_age_alarm
    }

    memory-high = {
      description = "A task of ${local.name} uses more than 90 % of its ${var.memory} MB of memory; at 100 % it is killed, and its messages are retried. First find out from the log which messages it was processing; then raise memory, or lower pollers or batch_size."
      namespace   = "AWS/ECS"
      metric_name = "MemoryUtilization"
      dimensions  = { ClusterName = local.cluster_name, ServiceName = aws_ecs_service.this.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = 90 # percent
    }
{% endif %}
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = "${each.value.description} ${var.runbook_url}#${each.key}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric_name
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}

{% if cookiecutter.compute == "lambda" %}
# A rate, which takes two metrics.
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${local.name}-errors"
  alarm_description   = "More than 5 % of the invocations of ${local.name} failed as a whole: the function could not start, timed out or ran out of memory. Its messages are retried. First look at the log's last lines; if this started with a release, roll back (make rollback). ${var.runbook_url}#errors"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5 # percent
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions

  metric_query {
    id          = "rate"
    label       = "Errors (%)"
    expression  = "100 * errors / invocations"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { errors = "Errors", invocations = "Invocations" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value
        dimensions  = { FunctionName = aws_lambda_function.this.function_name }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

# A percentile, which takes extended_statistic.
resource "aws_cloudwatch_metric_alarm" "duration" {
  alarm_name          = "${local.name}-duration"
  alarm_description   = "The slowest batches take more than 80 % of the timeout of ${var.timeout} seconds; a batch that times out is retried as a whole. First find out from the log and the traces what takes so long; then lower batch_size or raise memory_size or timeout. ${var.runbook_url}#duration"
  namespace           = "AWS/Lambda"
  metric_name         = "Duration"
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  extended_statistic  = "p99"
  period              = 300
  comparison_operator = "GreaterThanThreshold"
  threshold           = floor(1000 * var.timeout * 0.8) # milliseconds
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}
{% else %}
# From two metrics: see waiting_unattended in autoscaling.tf.
resource "aws_cloudwatch_metric_alarm" "no_task_running" {
  alarm_name          = "${local.name}-no-task-running"
  alarm_description   = "Messages have been waiting in ${aws_sqs_queue.main.name} for 15 minutes, and no task of ${local.name} receives them. First find out why tasks stopped (make status): the image is missing, the subnets have no route to AWS's services, the worker exits at once; or the service is paused (make resume). ${var.runbook_url}#no-task-running"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 15
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions

  metric_query {
    id          = "messages"
    label       = "Messages waiting while none is in flight"
    expression  = local.waiting_unattended
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for name, metric in local.scaling_metrics : name => metric if name != "running" }

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.metric_name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = 60
      }
    }
  }
}
{% endif %}

# Dashboard: the chain from left to right and top to bottom, from the topic to the dead-letter queue.

locals {
  topic = ["TopicName", element(split(":", local.topic_arn), 5)]
  queue = ["QueueName", aws_sqs_queue.main.name]
{% if cookiecutter.compute == "lambda" %}
  code  = ["FunctionName", aws_lambda_function.this.function_name]
{% else %}
  code  = ["ClusterName", local.cluster_name, "ServiceName", aws_ecs_service.this.name]
{% endif %}
  own   = flatten([for name, value in local.own_metric_dimensions : [name, value]])

  # Three to a row. stat is the statistic of every metric of a graph that names none of its own.
  graphs = [
    {
      title = "1 · Topic: published (all of its events)"
      stat  = "Sum"
      metrics = [
        concat(["AWS/SNS", "NumberOfMessagesPublished"], local.topic),
        concat(["AWS/SNS", "NumberOfNotificationsFailed"], local.topic),
      ]
    },
    {
      title = "2 · Queue: sent, received, deleted"
      stat  = "Sum"
      metrics = [
        concat(["AWS/SQS", "NumberOfMessagesSent"], local.queue),
        concat(["AWS/SQS", "NumberOfMessagesReceived"], local.queue),
        concat(["AWS/SQS", "NumberOfMessagesDeleted"], local.queue),
      ]
    },
    {
      title = "3 · Queue: waiting, in flight{{ ', groups in flight' if cookiecutter.__fifo }}"
      stat  = "Maximum"
      metrics = [
        concat(["AWS/SQS", "ApproximateNumberOfMessagesVisible"], local.queue),
        concat(["AWS/SQS", "ApproximateNumberOfMessagesNotVisible"], local.queue),
{% if cookiecutter.__fifo %}
        concat(["AWS/SQS", "ApproximateNumberOfGroupsWithInflightMessages"], local.queue),
{% endif %}
      ]
    },
    {
      title = "4 · Queue: age of the oldest message (s)"
      stat  = "Maximum"
      metrics = [
        concat(["AWS/SQS", "ApproximateAgeOfOldestMessage"], local.queue),
      ]
    },
{% if cookiecutter.compute == "lambda" %}
    {
      title = "5 · Function: invocations, errors, throttles"
      stat  = "Sum"
      metrics = [
        concat(["AWS/Lambda", "Invocations"], local.code),
        concat(["AWS/Lambda", "Errors"], local.code),
        concat(["AWS/Lambda", "Throttles"], local.code),
      ]
    },
    {
      title = "6 · Function: duration (ms)"
      stat  = "p50"
      metrics = [
        concat(["AWS/Lambda", "Duration"], local.code),
        concat(["AWS/Lambda", "Duration"], local.code, [{ stat = "p99" }]),
      ]
    },
    {
      title = "7 · Function: concurrent executions"
      stat  = "Maximum"
      metrics = [
        concat(["AWS/Lambda", "ConcurrentExecutions"], local.code),
      ]
    },
{% else %}
    {
      title = "5 · Tasks: running"
      stat  = "SampleCount"
      metrics = [
        concat(["AWS/ECS", "CPUUtilization"], local.code, [{ label = "running" }]),
      ]
    },
    {
      title = "6 · Tasks: CPU (%)"
      stat  = "Average"
      metrics = [
        concat(["AWS/ECS", "CPUUtilization"], local.code),
        concat(["AWS/ECS", "CPUUtilization"], local.code, [{ stat = "Maximum" }]),
      ]
    },
    {
      title = "7 · Tasks: memory (%)"
      stat  = "Average"
      metrics = [
        concat(["AWS/ECS", "MemoryUtilization"], local.code),
        concat(["AWS/ECS", "MemoryUtilization"], local.code, [{ stat = "Maximum" }]),
      ]
    },
{% endif %}
    {
      title = "8 · Messages: processed, failed{{ ', held back' if cookiecutter.__fifo }}"
      stat  = "Sum"
      metrics = [
        concat([var.product, "MessagesProcessed"], local.own),
        concat([var.product, "MessagesFailed"], local.own),
{% if cookiecutter.__fifo %}
        concat([var.product, "MessagesHeldBack"], local.own),
{% endif %}
      ]
    },
    {
      title = "9 · Left over: dead-letter queue, undelivered queue"
      stat  = "Maximum"
      metrics = [
        ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.dead_letter.name],
        ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.undelivered.name],
      ]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = local.name

  dashboard_body = jsonencode({
    widgets = concat(
      [
        {
          type   = "alarm"
          x      = 0
          y      = 0
          width  = 24
          height = 3
          properties = {
            title = "${local.name}: alarms"
            alarms = concat(
              [for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn],
{% if cookiecutter.compute == "lambda" %}
              [aws_cloudwatch_metric_alarm.errors.arn, aws_cloudwatch_metric_alarm.duration.arn],
{% else %}
              [aws_cloudwatch_metric_alarm.no_task_running.arn],
{% endif %}
            )
          }
        },
      ],
      [
        for index, graph in local.graphs : {
          type   = "metric"
          x      = 8 * (index % 3)
          y      = 3 + 6 * floor(index / 3)
          width  = 8
          height = 6
          properties = {
            title   = graph.title
            stat    = graph.stat
            metrics = graph.metrics
            region  = var.aws_region
            period  = 60
            view    = "timeSeries"
            yAxis   = { left = { min = 0 } }
          }
        }
      ],
      [
        {
          type   = "log"
          x      = 0
          y      = 21
          width  = 24
          height = 6
          properties = {
            title  = "Last errors"
            region = var.aws_region
{% if cookiecutter.compute == "lambda" %}
            # What the handler logs as errors, failed imports, and Lambda's reports of timeouts and lack of memory.
            query = "SOURCE '${aws_cloudwatch_log_group.code.name}' | fields @timestamp, message_id, {{ 'message_group_id, ' if cookiecutter.__fifo }}event_type, coalesce(message, errorMessage, record.status) as what, coalesce(error, errorType, record.errorType) as why, causes | filter level = 'ERROR' or (type = 'platform.report' and record.status != 'success') | sort @timestamp desc | limit 20"
            view  = "table"
{% else %}
            query  = "SOURCE '${aws_cloudwatch_log_group.code.name}' | fields @timestamp, message_id, {{ 'message_group_id, ' if cookiecutter.__fifo }}event_type, message, error, causes | filter level = 'ERROR' | sort @timestamp desc | limit 20"
            view   = "table"
{% endif %}
          }
        },
      ],
    )
  })
}

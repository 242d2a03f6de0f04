# Alarms: each says what it means and what to do first. No data is good news: metrics of what
# has nothing to do are missing.

locals {
  # The service's own metrics; the environment is a dimension, or dev would set off prod's alarm.
  own_metric_dimensions = {
    service     = var.service
    environment = "${var.product}-${local.environment}"
  }

  message_age_alarm = coalesce(var.message_age_alarm_in_seconds, max(900, 4 * local.visibility_timeout))

  alarms = merge(local.alarms_of_compute, {
    dead-letter-queue-not-empty = {
      description = "Messages failed ${var.max_receive_count} times and wait in ${aws_sqs_queue.dead_letter.name}. First look at them (make dlq-peek) and at the log; mend the cause, then send them back (make dlq-redrive). They are deleted after 14 days."
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead_letter.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = 0
    }

    undelivered-queue-not-empty = {
      description = "SNS could not deliver messages to ${aws_sqs_queue.main.name}; they wait in ${aws_sqs_queue.undelivered.name}. First check the policy of ${aws_sqs_queue.main.name} for a change by hand (make plan). They are deleted after 14 days."
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.undelivered.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = 0
    }

    message-too-old = {
      description = "The oldest message in ${aws_sqs_queue.main.name} waits for longer than ${local.message_age_alarm} seconds: the service does not keep up, or gets no messages. ${local.if_messages_wait} Messages are deleted after 7 days."
      namespace   = "AWS/SQS"
      metric_name = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = aws_sqs_queue.main.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = local.message_age_alarm
    }

    messages-failed = {
      description = "More than 5 attempts to process a message failed within 5 minutes. They come back and are tried again, ${var.max_receive_count} times in all. First look at the log: lines of level ERROR name the message and the error."
      namespace   = var.product
      metric_name = "MessagesFailed"
      dimensions  = local.own_metric_dimensions
      statistic   = "Sum"
      period      = 300
      threshold   = 5
    }
  })
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

# Dashboard: the chain from left to right and top to bottom, from the topic to the dead-letter queue.

locals {
  topic = ["TopicName", element(split(":", local.topic_arn), 5)]
  queue = ["QueueName", aws_sqs_queue.main.name]
  own   = flatten([for name, value in local.own_metric_dimensions : [name, value]])

  # Three to a row. stat is the statistic of all metrics of a graph that name none of their own.
  graphs = concat(local.graphs_of_queue, local.graphs_of_compute, local.graphs_of_messages)

  graphs_of_queue = [
    {
      title = "1 · Topic: published (all events of the topic)"
      stat  = "Sum"
      metrics = [
        concat(["AWS/SNS", "NumberOfMessagesPublished"], local.topic),
        concat(["AWS/SNS", "NumberOfNotificationsFailed"], local.topic),
      ]
    },
    {
      title = "2 · Queue: sent, taken, done with"
      stat  = "Sum"
      metrics = [
        concat(["AWS/SQS", "NumberOfMessagesSent"], local.queue),
        concat(["AWS/SQS", "NumberOfMessagesReceived"], local.queue),
        concat(["AWS/SQS", "NumberOfMessagesDeleted"], local.queue),
      ]
    },
    {
      title = "3 · Queue: waiting, being worked on"
      stat  = "Maximum"
      metrics = [
        concat(["AWS/SQS", "ApproximateNumberOfMessagesVisible"], local.queue),
        concat(["AWS/SQS", "ApproximateNumberOfMessagesNotVisible"], local.queue),
      ]
    },
    {
      title = "4 · Queue: age of the oldest message (s)"
      stat  = "Maximum"
      metrics = [
        concat(["AWS/SQS", "ApproximateAgeOfOldestMessage"], local.queue),
      ]
    },
  ]

  graphs_of_messages = [
    {
      title = "8 · Messages: processed, failed"
      stat  = "Sum"
      metrics = [
        concat([var.product, "MessagesProcessed"], local.own),
        concat([var.product, "MessagesFailed"], local.own),
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
            title  = "${local.name}: alarms"
            alarms = concat(local.alarm_arns_of_compute, [for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn])
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
            query  = "SOURCE '${aws_cloudwatch_log_group.function.name}' | fields @timestamp, message_id, event_type, message, error | filter level = 'ERROR' | sort @timestamp desc | limit 20"
            view   = "table"
          }
        },
      ],
    )
  })
}

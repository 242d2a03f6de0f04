# The function's part of the alarms and of the dashboard: see monitoring.tf.

locals {
  duration_alarm = floor(1000 * var.timeout * 0.8) # milliseconds

  if_messages_wait = "First check that the event source mapping is enabled, then the errors in the log, then maximum_concurrency."

  alarms_of_compute = {
    throttled = {
      description = "Lambda refused to run ${local.name} because too many functions run at once in this account and region. First compare the account's concurrency limit with what is in use; lower maximum_concurrency or have the limit raised."
      namespace   = "AWS/Lambda"
      metric_name = "Throttles"
      dimensions  = { FunctionName = aws_lambda_function.this.function_name }
      statistic   = "Sum"
      period      = 300
      threshold   = 0
    }
  }

  alarm_arns_of_compute = [aws_cloudwatch_metric_alarm.errors.arn, aws_cloudwatch_metric_alarm.duration.arn]

  function = ["FunctionName", aws_lambda_function.this.function_name]

  graphs_of_compute = [
    {
      title = "5 · Function: invocations, errors, throttles"
      stat  = "Sum"
      metrics = [
        concat(["AWS/Lambda", "Invocations"], local.function),
        concat(["AWS/Lambda", "Errors"], local.function),
        concat(["AWS/Lambda", "Throttles"], local.function),
      ]
    },
    {
      title = "6 · Function: duration (ms)"
      stat  = "p50"
      metrics = [
        concat(["AWS/Lambda", "Duration"], local.function),
        concat(["AWS/Lambda", "Duration"], local.function, [{ stat = "p99" }]),
      ]
    },
    {
      title = "7 · Function: running at once"
      stat  = "Maximum"
      metrics = [
        concat(["AWS/Lambda", "ConcurrentExecutions"], local.function),
      ]
    },
  ]
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${local.name}-errors"
  alarm_description   = "More than 5 % of the invocations of ${local.name} failed as a whole: it could not be started, ran into its time-out or out of memory. Its messages come back. First look at the log's last lines; if it began with a release, go back to the version before (make rollback). ${var.runbook_url}#errors"
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

resource "aws_cloudwatch_metric_alarm" "duration" {
  alarm_name          = "${local.name}-duration"
  alarm_description   = "The slowest batches take more than 80 % of the time-out of ${var.timeout} seconds; at the time-out a batch is cut off and comes back. First find out from the log and the traces what takes so long; then lower batch_size or raise memory_size or timeout. ${var.runbook_url}#duration"
  namespace           = "AWS/Lambda"
  metric_name         = "Duration"
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  extended_statistic  = "p99"
  period              = 300
  comparison_operator = "GreaterThanThreshold"
  threshold           = local.duration_alarm
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}

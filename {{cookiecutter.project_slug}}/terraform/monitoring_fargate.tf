# The tasks' part of the alarms and of the dashboard: see monitoring.tf.

locals {
  if_messages_wait = "First see whether tasks run and why others stopped (make status), then the errors in the log, then max_capacity and backlog_per_task."

  alarms_of_compute = {
    memory-high = {
      description = "A task of ${local.name} uses more than 90 % of its ${var.memory} MB of memory; at 100 % it is killed, and its messages come back. First find out from the log which messages it had; then raise memory, or lower pollers or batch_size."
      namespace   = "AWS/ECS"
      metric_name = "MemoryUtilization"
      dimensions  = { ClusterName = local.cluster_name, ServiceName = aws_ecs_service.this.name }
      statistic   = "Maximum"
      period      = 60
      threshold   = 90 # percent
    }
  }

  alarm_arns_of_compute = [aws_cloudwatch_metric_alarm.no_task_running.arn]

  tasks = ["ClusterName", local.cluster_name, "ServiceName", aws_ecs_service.this.name]

  graphs_of_compute = [
    {
      title = "5 · Tasks: running"
      stat  = "SampleCount"
      metrics = [
        concat(["AWS/ECS", "CPUUtilization"], local.tasks, [{ label = "running" }]),
      ]
    },
    {
      title = "6 · Tasks: processor (%)"
      stat  = "Average"
      metrics = [
        concat(["AWS/ECS", "CPUUtilization"], local.tasks),
        concat(["AWS/ECS", "CPUUtilization"], local.tasks, [{ stat = "Maximum" }]),
      ]
    },
    {
      title = "7 · Tasks: memory (%)"
      stat  = "Average"
      metrics = [
        concat(["AWS/ECS", "MemoryUtilization"], local.tasks),
        concat(["AWS/ECS", "MemoryUtilization"], local.tasks, [{ stat = "Maximum" }]),
      ]
    },
  ]
}

resource "aws_cloudwatch_metric_alarm" "no_task_running" {
  alarm_name          = "${local.name}-no-task-running"
  alarm_description   = "Messages have waited in ${aws_sqs_queue.main.name} for 15 minutes, and no task of ${local.name} runs. First see why tasks stopped (make status): no image, no way to AWS's services from the subnets, a worker that ends at once; or it is paused (make resume). ${var.runbook_url}#no-task-running"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 15
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions

  metric_query {
    id          = "messages"
    label       = "Messages that wait while no task runs"
    expression  = local.waiting_unattended
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for name, metric in local.scaling_metrics : name => metric if name != "in_flight" }

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

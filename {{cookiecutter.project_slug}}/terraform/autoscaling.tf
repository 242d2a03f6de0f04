# As many tasks as the backlog asks for. A task costs money while it runs; with nothing to do, and
# min_capacity 0, none does.
#
#   none → 1    messages wait and no task runs for three minutes: step scaling
#   1 → many    (waiting + in flight) / running tasks is held at backlog_per_task: target tracking
#   1 → none    nothing waits and nothing is in flight for ten minutes: step scaling
#
# Messages in flight count: with those that wait alone, the last task would be stopped at work.

locals {
  # Paused: no task at all. Application Auto Scaling brings the service into the new bounds at once.
  min_capacity = var.paused ? 0 : var.min_capacity
  max_capacity = var.paused ? 0 : var.max_capacity

  to_and_from_zero = var.min_capacity == 0

  # For metric math. Every running task reports its CPU once a minute, so the number of these reports is
  # the number of running tasks. ECS's own RunningTaskCount would need Container Insights, which cost
  # money. While no task runs, or a report is late, there is none.
  scaling_metrics = {
    waiting = {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.main.name }
      stat        = "Maximum"
    }
    in_flight = {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesNotVisible"
      dimensions  = { QueueName = aws_sqs_queue.main.name }
      stat        = "Maximum"
    }
    running = {
      namespace   = "AWS/ECS"
      metric_name = "CPUUtilization"
      dimensions  = { ClusterName = local.cluster_name, ServiceName = aws_ecs_service.this.name }
      stat        = "SampleCount"
    }
  }
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.this.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = local.min_capacity
  max_capacity       = local.max_capacity
}

resource "aws_appautoscaling_policy" "backlog" {
  name               = "${local.name}-backlog"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  resource_id        = aws_appautoscaling_target.this.resource_id
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.backlog_per_task
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    customized_metric_specification {
      metrics {
        id          = "backlog_per_task"
        label       = "Messages per running task"
        expression  = "(waiting + in_flight) / running" # no value, so no scaling, while none runs
        return_data = true
      }

      dynamic "metrics" {
        for_each = local.scaling_metrics

        content {
          id          = metrics.key
          return_data = false

          metric_stat {
            stat = metrics.value.stat

            metric {
              namespace   = metrics.value.namespace
              metric_name = metrics.value.metric_name

              dynamic "dimensions" {
                for_each = metrics.value.dimensions

                content {
                  name  = dimensions.key
                  value = dimensions.value
                }
              }
            }
          }
        }
      }
    }
  }
}

# One more rather than exactly one, which would take tasks away where there are several already. The
# cool-down is the time that a task takes to start and to be counted.
resource "aws_appautoscaling_policy" "from_zero" {
  count = local.to_and_from_zero ? 1 : 0

  name               = "${local.name}-from-zero"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  resource_id        = aws_appautoscaling_target.this.resource_id
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 300

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 1
    }
  }
}

resource "aws_appautoscaling_policy" "to_zero" {
  count = local.to_and_from_zero ? 1 : 0

  name               = "${local.name}-to-zero"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  resource_id        = aws_appautoscaling_target.this.resource_id
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 60

    step_adjustment {
      metric_interval_upper_bound = 0
      scaling_adjustment          = 0
    }
  }
}

# These two tell the autoscaling, and nobody else. Their names begin with "scaling-", so that they are
# not among the service's alarms: to be in alarm is their daily work.

locals {
  waiting_unattended = "IF(FILL(running, 0) > 0, 0, waiting)"

  scaling_alarms = {
    from-zero = {
      description = "Messages wait and no task runs."
      expression  = local.waiting_unattended
      metrics     = ["waiting", "running"]
      operator    = "GreaterThanThreshold"
      minutes     = 3 # reports of running tasks may be late by one or two
      policies    = aws_appautoscaling_policy.from_zero[*].arn
    }
    to-zero = {
      description = "No message waits, and none is in flight."
      expression  = "waiting + in_flight"
      metrics     = ["waiting", "in_flight"]
      operator    = "LessThanOrEqualToThreshold"
      minutes     = 10
      policies    = aws_appautoscaling_policy.to_zero[*].arn
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "scaling" {
  for_each = { for name, alarm in local.scaling_alarms : name => alarm if local.to_and_from_zero }

  alarm_name          = "scaling-${local.name}-${each.key}"
  alarm_description   = "${each.value.description} Scales ${local.name}; nothing to do."
  comparison_operator = each.value.operator
  threshold           = 0
  evaluation_periods  = each.value.minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = each.value.policies

  metric_query {
    id          = "messages"
    label       = each.value.description
    expression  = each.value.expression
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for name, metric in local.scaling_metrics : name => metric if contains(each.value.metrics, name) }

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

# As many tasks as the backlog needs. A task costs money while it runs; with min_capacity 0, none runs
# while there is nothing to do.
#
#   0 → 1       messages wait and none is in flight for three minutes: step scaling
#   1 → many    keeps (waiting + in flight) / running tasks at backlog_per_task: target tracking
#   many → 0    nothing waits and nothing is in flight for ten minutes: step scaling
#
# Messages in flight count too; otherwise the last task would be stopped while it processes one.

locals {
  # Paused: no tasks. Application Auto Scaling applies new limits at once.
  min_capacity = var.paused ? 0 : var.min_capacity
  max_capacity = var.paused ? 0 : var.max_capacity

  to_and_from_zero = var.min_capacity == 0

  # For metric math. Every running task reports its CPU once a minute, so the number of reports is the
  # number of running tasks; it is missing while no task runs or a report is late. ECS's own
  # RunningTaskCount needs Container Insights, which costs money.
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
    target_value      = var.backlog_per_task
    scale_in_cooldown = 300

    # Until new tasks run and are counted, the metric stays as high as it was, and with a shorter cooldown
    # it would multiply the number of tasks every minute, up to max_capacity.
    scale_out_cooldown = 300

    customized_metric_specification {
      metrics {
        id          = "backlog_per_task"
        label       = "Messages per running task"
        expression  = "(waiting + in_flight) / running" # no value, and so no scaling, while none runs
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

# Adds one task. Setting the number to exactly one would remove tasks if several were running already.
# The cooldown is the time that a task takes to start and to be counted.
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

# These two alarms trigger the scaling and notify nobody. Their names start with "scaling-" to keep them
# apart from the service's alarms: being in alarm is normal for them.

locals {
  # Nobody receives messages. SQS reports both metrics at the same time. ECS's, of which running is made,
  # come later and not at all while no task runs, and AWS advises against FILL in alarms on such metrics.
  # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
  waiting_unattended = "IF(in_flight > 0, 0, waiting)"

  scaling_alarms = {
    from-zero = {
      description = "Messages are waiting and none is in flight."
      expression  = local.waiting_unattended
      metrics     = ["waiting", "in_flight"]
      operator    = "GreaterThanThreshold"
      minutes     = 3 # figures of SQS can be a minute old
      policies    = aws_appautoscaling_policy.from_zero[*].arn
    }
    to-zero = {
      description = "No message is waiting or in flight."
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
  alarm_description   = "${each.value.description} It scales ${local.name}; no action is needed."
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

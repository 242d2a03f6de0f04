# What only tasks on Fargate have: see service.tftest.hcl. These run without AWS: make validate

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  aws_region   = "us-east-1"
  architecture = "arm64"
  subnet_ids   = ["subnet-1", "subnet-2"]
  image_digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
}

run "visibility_time_out" {
  command = plan

  variables {
    timeout = 42600
  }

  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds == var.visibility_timeout_seconds && var.visibility_timeout_seconds < 300
    error_message = "A message whose task is gone must come back soon, however long a batch may take."
  }
  assert {
    condition     = !aws_ecs_service.this.wait_for_steady_state
    error_message = "An apply must not wait for batches that take hours."
  }
}

run "task" {
  command = plan

  assert {
    condition     = aws_ecs_task_definition.this.requires_compatibilities == toset(["FARGATE"]) && aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64"
    error_message = "The task must run what the image is built for."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/this-one@${var.image_digest}"
    error_message = "The image must be the one with the digest, from the repository of its own."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].mountPoints == [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    error_message = "Only /tmp can be written to."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command == ["CMD", "python", "worker.py", "health"] && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 120
    error_message = "ECS must ask the worker how it is, and give it time to stop."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].logConfiguration.options["awslogs-group"] == aws_cloudwatch_log_group.function.name && aws_cloudwatch_log_group.function.name == "/ecs/order-events-dev"
    error_message = "The log must go to the log group of its own."
  }
  assert {
    condition = {
      for variable in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : variable.name => variable.value if variable.name != "QUEUE_URL"
      } == merge(local.environment_variables, {
        BATCH_SIZE         = "1"
        POLLERS            = "1"
        VISIBILITY_TIMEOUT = "120"
        TIMEOUT            = "1800"
        STOP_TIMEOUT       = "120"
        AWS_DEFAULT_REGION = "us-east-1"
    })
    error_message = "The worker must get its settings, and the handler what it reads."
  }
  assert {
    condition     = aws_ecs_task_definition.this.skip_destroy
    error_message = "Earlier revisions must stay, to roll back to."
  }
}

run "service" {
  command = plan

  assert {
    condition     = aws_ecs_service.this.task_definition == aws_ecs_task_definition.this.arn && aws_ecs_service.this.desired_count == 0
    error_message = "The newest release must be in place, and no task run while there is nothing to do."
  }
  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback && aws_ecs_service.this.wait_for_steady_state
    error_message = "A release whose tasks do not start must be taken back, and fail the apply."
  }
  assert {
    condition     = aws_ecs_service.this.force_new_deployment && one(aws_ecs_service.this.capacity_provider_strategy).capacity_provider == "FARGATE"
    error_message = "A change of fargate_spot must not replace the service."
  }
  assert {
    condition     = aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-own"]) && aws_ecs_service.this.network_configuration[0].subnets == toset(var.subnet_ids) && !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Tasks must run in the given subnets, without a public address."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.https[0].from_port == 443 && aws_vpc_security_group_egress_rule.https[0].to_port == 443 && aws_security_group.this[0].vpc_id == "vpc-1"
    error_message = "Nothing but HTTPS may go out."
  }
  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "Images must not be replaced, and must be scanned."
  }
}

run "roles" {
  command = plan

  assert {
    condition     = jsondecode(aws_iam_role.function.assume_role_policy).Statement[*].Principal == [{ Service = "ecs-tasks.amazonaws.com" }] && aws_iam_role.execution.assume_role_policy == aws_iam_role.function.assume_role_policy
    error_message = "Tasks and nobody else may take the roles."
  }
  assert {
    condition     = aws_ecs_task_definition.this.task_role_arn != null && aws_iam_role.execution.name == "order-events-dev-execution" && aws_iam_role.function.name == "order-events-dev"
    error_message = "The code's role and ECS's own are two."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.function.policy).Statement : [s.Action, s.Resource]] == concat(
      [
        [["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], aws_sqs_queue.main.arn],
        [["sqs:ChangeMessageVisibility"], aws_sqs_queue.main.arn],
        [["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"], "arn:aws:ecs:us-east-1:123456789012:task/own/*"],
      ],
      [for s in local.added_permissions : [s.Action, s.Resource]],
    )
    error_message = "The role's policy holds what every service does, what service.tf adds, and nothing else."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : [s.Action, s.Resource]] == [
      [["logs:CreateLogStream", "logs:PutLogEvents"], "${aws_cloudwatch_log_group.function.arn}:*"],
      [["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], aws_ecr_repository.this.arn],
      [["ecr:GetAuthorizationToken"], "*"],
    ]
    error_message = "ECS may fetch the image and write the log, and nothing else."
  }
}

run "scaling" {
  command = plan

  variables {
    max_capacity     = 7
    backlog_per_task = 4
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && aws_appautoscaling_target.this.max_capacity == 7 && aws_appautoscaling_target.this.resource_id == "service/own/order-events-dev"
    error_message = "The service must scale within its bounds."
  }
  assert {
    condition     = aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].target_value == 4
    error_message = "backlog_per_task is what is held."
  }
  assert {
    condition = {
      for metric in aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metrics :
      metric.id => try([metric.metric_stat[0].metric[0].metric_name, metric.metric_stat[0].stat], metric.expression)
      } == {
      backlog_per_task = "(waiting + in_flight) / running"
      waiting          = ["ApproximateNumberOfMessagesVisible", "Maximum"]
      in_flight        = ["ApproximateNumberOfMessagesNotVisible", "Maximum"]
      running          = ["CPUUtilization", "SampleCount"]
    }
    error_message = "Messages in flight must count, per running task."
  }
  assert {
    condition     = aws_appautoscaling_policy.from_zero[0].step_scaling_policy_configuration[0].adjustment_type == "ChangeInCapacity" && one(aws_appautoscaling_policy.from_zero[0].step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment == 1
    error_message = "From zero one task is added, and never one taken away."
  }
  assert {
    condition     = aws_appautoscaling_policy.to_zero[0].step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity" && one(aws_appautoscaling_policy.to_zero[0].step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment == 0
    error_message = "With nothing to do no task runs."
  }
  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.scaling["to-zero"].metric_query : query.expression if query.id == "messages"] == ["waiting + in_flight"]
    error_message = "With a message in flight the last task must stay."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.scaling : startswith(alarm.alarm_name, "scaling-") && alarm.treat_missing_data == "notBreaching" && length(alarm.alarm_actions) == 1])
    error_message = "The scaling's alarms must not look like the service's."
  }
}

run "at_least_one_task" {
  command = plan

  variables {
    min_capacity = 1
    fargate_spot = true
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 1 && length(aws_appautoscaling_policy.from_zero) + length(aws_appautoscaling_policy.to_zero) + length(aws_cloudwatch_metric_alarm.scaling) == 0
    error_message = "With a task that always runs nothing scales from or to zero."
  }
  assert {
    condition     = one(aws_ecs_service.this.capacity_provider_strategy).capacity_provider == "FARGATE_SPOT"
    error_message = "fargate_spot must be heeded."
  }
}

run "paused_rolled_back_and_protected" {
  command = plan

  variables {
    min_capacity        = 1
    paused              = true
    live_version        = "3"
    deletion_protection = true
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && aws_appautoscaling_target.this.max_capacity == 0
    error_message = "Paused, no task may run."
  }
  assert {
    condition     = aws_ecs_service.this.task_definition == "arn:aws:ecs:us-east-1:123456789012:task-definition/this-one:3"
    error_message = "live_version must decide which revision is in place."
  }
  assert {
    condition     = !aws_ecr_repository.this.force_delete
    error_message = "deletion_protection must keep the images that can be rolled back to."
  }
}

run "given_cluster_and_security_group" {
  command = plan

  variables {
    cluster_arn        = "arn:aws:ecs:us-east-1:123456789012:cluster/shared"
    security_group_ids = ["sg-1"]
    architecture       = "x86_64"
  }

  assert {
    condition     = length(aws_ecs_cluster.this) + length(aws_security_group.this) + length(data.aws_subnet.first) == 0
    error_message = "What is given is not made."
  }
  assert {
    condition     = aws_ecs_service.this.cluster == var.cluster_arn && output.cluster_name == "shared" && aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-1"])
    error_message = "The given cluster and security group must be used."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.function.policy).Statement[2].Resource == "arn:aws:ecs:us-east-1:123456789012:task/shared/*"
    error_message = "Tasks protect themselves in the cluster that they are in."
  }
  assert {
    condition     = aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "X86_64"
    error_message = "The task must run what the image is built for."
  }
}

run "alarms_of_the_tasks" {
  command = plan

  variables {
    service       = "a234567890-234567890-234567890-234567890"
    alarm_actions = ["arn:aws:sns:us-east-1:123456789012:on-call"]
  }

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["dead-letter-queue-not-empty", "memory-high", "message-too-old", "messages-failed", "undelivered-queue-not-empty"]
    error_message = "An alarm is missing, or is new: name it here too."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.no_task_running.treat_missing_data == "notBreaching" && aws_cloudwatch_metric_alarm.no_task_running.alarm_actions == toset(var.alarm_actions) && length(aws_cloudwatch_metric_alarm.no_task_running.alarm_description) <= 1024
    error_message = "Every alarm must tell alarm_actions, and must not go off while there is nothing to do."
  }
  assert {
    condition     = length(aws_iam_role.execution.name) <= 64
    error_message = "Names of roles have 64 characters at most."
  }
}

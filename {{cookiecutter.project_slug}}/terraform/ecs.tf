locals {
  log_group_name     = "/ecs/${local.name}"
  visibility_timeout = var.visibility_timeout_seconds

  # The cluster's name is the last part of its ARN.
  cluster_arn  = var.cluster_arn != null ? var.cluster_arn : aws_ecs_cluster.this[0].arn
  cluster_name = element(split("/", local.cluster_arn), 1)

  # A cluster that is given by cluster_arn must have this capacity provider too.
  capacity_provider = var.fargate_spot ? "FARGATE_SPOT" : "FARGATE"
}

# A cluster is only a name and costs nothing.
resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:Container Insights charges per metric; the alarms, the dashboard and the scaling need only free ones.
  count = var.cluster_arn == null ? 1 : 0

  name = local.name

  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  count = var.cluster_arn == null ? 1 : 0

  cluster_name       = aws_ecs_cluster.this[0].name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_ecs_task_definition" "this" {
  family                   = local.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.code.arn
  execution_role_arn       = aws_iam_role.execution.arn

  # Every release is a new revision. Earlier ones stay, to roll back to; they cost nothing.
  skip_destroy = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.architecture)
  }

  # The only writable directory. It is lost when the task stops.
  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([
    {
      name      = "worker"
      image     = "${aws_ecr_repository.this.repository_url}@${coalesce(var.image_digest, "unknown")}"
      essential = true

      environment = [
        for name, value in merge(local.environment_variables, local.worker_variables) : { name = name, value = value }
      ]

      readonlyRootFilesystem = true
      mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]

      # The worker waits for its own child processes, but a library may leave orphans.
      linuxParameters = { initProcessEnabled = true }

      # Whether the worker wrote its file within a minute. It imports nothing else, since it competes with
      # the handlers for the CPU: a task that is only busy must not be stopped.
      healthCheck = {
        command     = ["CMD", "python", "-c", "import os, time; raise SystemExit(time.time() - os.stat(os.getenv('TMPDIR', '/tmp') + '/worker-health').st_mtime > 60)"]
        interval    = 30
        timeout     = 10
        retries     = 3
        startPeriod = 60
      }

      # Seconds from SIGTERM to SIGKILL, for the worker to finish its messages or return them.
      stopTimeout = var.stop_timeout

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.code.name
          "awslogs-region"        = var.aws_region
          "awslogs-stream-prefix" = "task"
          # The worker keeps working while the log can't be delivered.
          "mode"            = "non-blocking"
          "max-buffer-size" = "25m"
        }
      }
    },
  ])

  lifecycle {
    precondition {
      condition     = var.image_digest != null
      error_message = "image_digest must be set, and is null, so there is no image to run: make image builds one, and make plan passes on its digest."
    }
  }
}

locals {
  worker_variables = {
    QUEUE_URL          = aws_sqs_queue.main.url
    BATCH_SIZE         = tostring(var.batch_size)
    POLLERS            = tostring(var.pollers)
    VISIBILITY_TIMEOUT = tostring(local.visibility_timeout)
    TIMEOUT            = tostring(var.timeout)
    STOP_TIMEOUT       = tostring(var.stop_timeout)
    AWS_DEFAULT_REGION = var.aws_region
  }

  # What runs: this release, or an earlier one.
  live_task_definition = (
    var.live_version == null
    ? aws_ecs_task_definition.this.arn
    : "${aws_ecs_task_definition.this.arn_without_revision}:${var.live_version}"
  )

  # What a deployment takes at most: ten minutes until the new tasks run, a quarter of an hour until a task
  # under constant load takes no more messages (see RELEASE_AFTER in worker.py), and its last batch.
  deployment_time = "${var.timeout + 25 * 60}s"
}

resource "aws_ecs_service" "this" {
  name            = local.name
  cluster         = local.cluster_arn
  task_definition = local.live_task_definition
  propagate_tags  = "SERVICE"

  # Only the initial number of tasks: autoscaling.tf decides from then on.
  desired_count = local.min_capacity

  capacity_provider_strategy {
    capacity_provider = local.capacity_provider
    weight            = 1
  }

  # Without this, a change of fargate_spot would replace the service. It does not add deployments: there
  # is one only when something changes.
  force_new_deployment = true

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = local.security_group_ids
    assign_public_ip = var.assign_public_ip
  }

  # New tasks start before old ones stop; a task that is processing a message is protected until it is done.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "DISABLED" # it would stop tasks, which start and stop with the backlog anyway

  # A release whose tasks do not start is rolled back, and the apply fails (see postcondition).
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  # Don't wait where a single batch may take longer than the wait: its task runs until the batch is done.
  # A bad release is rolled back all the same, and make status shows it. With no task running there is
  # nothing to wait for: make smoke starts one.
  wait_for_steady_state = var.timeout <= 1800

  timeouts {
    create = local.deployment_time
    update = local.deployment_time
    delete = local.deployment_time
  }

  lifecycle {
    ignore_changes = [desired_count]

    # Version 6 of the provider reports a rollback itself; version 5 takes it for a success.
    postcondition {
      condition     = self.task_definition == local.live_task_definition
      error_message = "ECS rolled the release back, because its tasks did not start: it runs ${self.task_definition} again, not ${local.live_task_definition}. make status shows why they stopped."
    }
  }

  # The permissions and the way out must exist before the first task starts, and until the last one stops.
  depends_on = [
    aws_ecs_cluster_capacity_providers.this,
    aws_iam_role_policy.execution,
    aws_iam_role_policy.added,
    aws_iam_role_policy.code,
{% if cookiecutter.idempotency == "yes" %}
    aws_iam_role_policy.idempotency,
{% endif %}
    aws_vpc_security_group_egress_rule.https,
    aws_vpc_security_group_egress_rule.https_ipv6,
  ]
}

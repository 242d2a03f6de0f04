locals {
  # With var.package_hash the deployed package is kept, and no package file is needed.
  package_hash = var.package_hash != null ? var.package_hash : filebase64sha256(var.package_file)
  in_vpc       = length(var.subnet_ids) > 0

  log_group_name = "/aws/lambda/${local.name}"

{% if cookiecutter.__fifo %}
  # AWS's rule for a queue that feeds Lambda: six times the function's timeout. A message that is being
  # processed, or waits for a throttled function, does not reappear too early.
  visibility_timeout = 6 * var.timeout
{% else %}
  # AWS's rule for a queue that feeds Lambda: six times the function's timeout plus the batching window.
  # A message that is being processed, or waits for a throttled function, does not reappear too early.
  visibility_timeout = 6 * var.timeout + var.maximum_batching_window_in_seconds
{% endif %}
}

# The package goes through S3 only with artifact_bucket. The hash of its content is in the key, so an
# unchanged package is not uploaded again.
resource "aws_s3_object" "package" {
  #checkov:skip=CKV_AWS_186:The bucket's own encryption applies.
  count = var.artifact_bucket == null ? 0 : 1

  bucket = var.artifact_bucket
  key    = "services/${var.service}/${local.environment}/${replace(replace(local.package_hash, "/", "_"), "+", "-")}.zip"
  source = var.package_file

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_115:The event source mapping's maximum_concurrency limits it; reserved concurrency would throttle, and throttled messages would go to the dead-letter queue unprocessed.
  #checkov:skip=CKV_AWS_116:The dead-letter queue belongs to the queue; a function's own is for asynchronous invocations only.
  #checkov:skip=CKV_AWS_173:The environment variables hold no secrets; AWS's own key encrypts them.
  #checkov:skip=CKV_AWS_272:The package is built, hashed and deployed by one workflow; code signing protects packages that come from elsewhere.
  function_name = local.name
  description   = var.description
  role          = aws_iam_role.code.arn

  runtime       = "python${var.python_version}"
  architectures = [var.architecture]
  handler       = "handler.handler"
  layers        = var.layers
  memory_size   = var.memory_size
  timeout       = var.timeout

  filename         = var.artifact_bucket == null ? var.package_file : null
  s3_bucket        = one(aws_s3_object.package[*].bucket)
  s3_key           = one(aws_s3_object.package[*].key)
  source_code_hash = local.package_hash

  # Every change of code or configuration becomes a new version, to roll back to.
  publish = true

  environment {
    variables = local.environment_variables
  }

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.code.name

    # Never above INFO: Lambda takes lines without a level for INFO, such as those that carry the metrics,
    # and drops what is below this. Above INFO, the code's LOG_LEVEL alone decides what is logged.
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
    application_log_level = var.log_level == "DEBUG" ? "DEBUG" : "INFO"

    # AWS's default, set explicitly: otherwise every plan would show a new version. make status needs INFO:
    # the reports of invocations that ended badly.
    system_log_level = "INFO"
  }

  tracing_config {
    mode = var.tracing_mode
  }

  dynamic "snap_start" {
    for_each = var.snap_start ? ["on"] : []

    content {
      apply_on = "PublishedVersions"
    }
  }

  dynamic "vpc_config" {
    for_each = local.in_vpc ? ["on"] : []

    content {
      subnet_ids                  = var.subnet_ids
      security_group_ids          = var.security_group_ids
      ipv6_allowed_for_dual_stack = var.ipv6
    }
  }

  # The role's permissions must exist before the function first runs.
  depends_on = [
    aws_iam_role_policy.added,
    aws_iam_role_policy.code,
{% if cookiecutter.idempotency == "yes" %}
    aws_iam_role_policy.idempotency,
{% endif %}
  ]
}

# The version that gets the messages.
resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "Gets the messages of ${aws_sqs_queue.main.name}."
  function_name    = aws_lambda_function.this.function_name
  function_version = coalesce(var.live_version, aws_lambda_function.this.version)

  # A gradual release: some of the batches go to the newest version.
  dynamic "routing_config" {
    for_each = var.canary_weight > 0 ? ["on"] : []

    content {
      additional_version_weights = { (aws_lambda_function.this.version) = var.canary_weight }
    }
  }

  lifecycle {
    precondition {
      condition     = var.canary_weight == 0 || var.live_version != aws_lambda_function.this.version
      error_message = "canary_weight must be 0 while live_version is the newest version (${jsonencode(var.live_version)}), not ${var.canary_weight}: there is no newer version to give batches to. Set it together with the change of code to try out."
    }
  }
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn = aws_sqs_queue.main.arn
  function_name    = aws_lambda_alias.live.arn
  enabled          = !var.paused

{% if cookiecutter.__fifo %}
  batch_size = var.batch_size # no batching window: Lambda has none for FIFO queues
{% else %}
  batch_size                         = var.batch_size
  maximum_batching_window_in_seconds = var.maximum_batching_window_in_seconds
{% endif %}

  # The handler reports the messages that failed; the others in the batch are deleted.
  function_response_types = ["ReportBatchItemFailures"]

  # No filter_criteria: they delete the messages that they don't match. The subscription filters instead.

  # AWS takes one of these two.
  dynamic "scaling_config" {
    for_each = var.provisioned_pollers == null ? ["on"] : []

    content {
      maximum_concurrency = var.maximum_concurrency
    }
  }

  dynamic "provisioned_poller_config" {
    for_each = var.provisioned_pollers == null ? [] : ["on"]

    content {
      minimum_pollers = var.provisioned_pollers.minimum
      maximum_pollers = var.provisioned_pollers.maximum
    }
  }

  dynamic "metrics_config" {
    for_each = var.event_count_metrics ? ["on"] : []

    content {
      metrics = ["EventCount"]
    }
  }

{% if cookiecutter.__partition in ("aws-cn", "aws-us-gov") %}
  # AWS has no tags for event source mappings here, so every plan would add them again.
  lifecycle {
    ignore_changes = [tags_all]
  }

{% endif %}
  # Lambda refuses the mapping while the role can't receive messages.
  depends_on = [aws_iam_role_policy.code]
}

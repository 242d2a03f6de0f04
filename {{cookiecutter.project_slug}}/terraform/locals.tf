locals {
  # The workspace. It is read through var.environments, so that nothing is planned in a workspace
  # that is not an environment: the variable's validation fails first.
  environment = one([for name in var.environments : name if name == terraform.workspace])

  # The name of whatever exists once in an environment.
  name = "${var.service}-${local.environment}"

  # What the handler reads, on your machine from local.env.
  environment_variables = merge(local.added_environment_variables, {
    SERVICE                      = var.service
    ENVIRONMENT                  = "${var.product}-${local.environment}"
    LOG_LEVEL                    = var.log_level
    EVENT_TYPES                  = join(",", var.event_types)
    POWERTOOLS_SERVICE_NAME      = var.service
    POWERTOOLS_METRICS_NAMESPACE = var.product
{% if cookiecutter.idempotency == "yes" %}
    IDEMPOTENCY_TABLE            = aws_dynamodb_table.idempotency.name
{% endif %}
  })
}

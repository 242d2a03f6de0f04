locals {
  # The workspace. Reading it through var.environments makes the variable's validation fail first in a
  # workspace that is not an environment, before anything is planned.
  environment = one([for name in var.environments : name if name == terraform.workspace])

  # Name of everything that exists once per environment.
  name = "${var.service}-${local.environment}"

  # What the code reads. On your machine it comes from local.env.
{% if cookiecutter.__fifo %}
  environment_variables = merge(local.added_environment_variables, local.last_receive, {
{% else %}
  environment_variables = merge(local.added_environment_variables, {
{% endif %}
    SERVICE                      = var.service
    ENVIRONMENT                  = "${var.product}-${local.environment}"
    LOG_LEVEL                    = var.log_level
    POWERTOOLS_SERVICE_NAME      = var.service
    POWERTOOLS_METRICS_NAMESPACE = var.product
{% if cookiecutter.idempotency == "yes" %}
    IDEMPOTENCY_TABLE            = aws_dynamodb_table.idempotency.name
{% endif %}
  })
{% if cookiecutter.__fifo %}

  # Which receive of a message is its last: after it, the message goes to the dead-letter queue, and its
  # group goes on.
  last_receive = var.hold_failed_groups ? {} : { MAX_RECEIVE_COUNT = tostring(var.max_receive_count) }
{% endif %}
}

locals {
  # The workspace. It is read through var.environments, so that nothing is planned in a workspace
  # that is not an environment: the variable's validation fails first.
  environment = one([for name in var.environments : name if name == terraform.workspace])

  # The name of whatever exists once in an environment.
  name = "${var.service}-${local.environment}"
}

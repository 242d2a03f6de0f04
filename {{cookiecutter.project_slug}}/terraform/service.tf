# What the business logic needs beyond what every service has. This file is yours: updates of the
# template leave it alone. Put the resources it uses (a table, a bucket) in files of their own beside it.

locals {
  # Statements for the role's policy. Name the actions and the resources one by one:
  #   {
  #     Sid      = "ReadPrices"
  #     Effect   = "Allow"
  #     Action   = "dynamodb:GetItem"
  #     Resource = aws_dynamodb_table.prices.arn
  #   },
  added_permissions = []

  # Conditions on other message attributes, beside event_type. A message must meet all of them:
  #   country = ["NL", "BE"]
  added_filters = {}

  # Environment variables. For your machine, set them in ../local.env too. No secrets: they can be read
  # in the state and in the console. Those of locals.tf, such as LOG_LEVEL, can't be changed here.
  added_environment_variables = {}
}

# What the business logic needs beyond what every service has. This file is yours: an update of the
# template leaves it alone. What it uses (a table, a bucket) goes into a file of its own beside it.

locals {
  # Statements for the role's policy, with the actions and the resources by name:
  #   {
  #     Sid      = "ReadPrices"
  #     Effect   = "Allow"
  #     Action   = "dynamodb:GetItem"
  #     Resource = aws_dynamodb_table.prices.arn
  #   },
  added_permissions = []

  # Environment variables; ../local.env has them for your machine. No secrets: they stand in the
  # state and in the console.
  added_environment_variables = {}
}

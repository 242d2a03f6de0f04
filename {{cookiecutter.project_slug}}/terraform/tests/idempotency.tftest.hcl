# The table that remembers which events were processed. The tests run without AWS: make validate

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  service      = "a234567890-234567890-234567890-234567890" # the longest
  aws_region   = "us-east-1"
  architecture = "arm64"
  event_types  = ["order.created"]

{% if cookiecutter.compute == "fargate" %}
  subnet_ids   = ["subnet-1"]
  image_digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
{% else %}
  python_version = "3.13"
  package_file   = "tests/idempotency.tftest.hcl" # any file will do
{% endif %}
}

run "table" {
  command = plan

  variables {
    deletion_protection = true
  }

  assert {
    condition     = aws_dynamodb_table.idempotency.name == "${var.service}-${terraform.workspace}-idempotency" && length(aws_dynamodb_table.idempotency.name) <= 255
    error_message = "The table must be this environment's own, with a name of at most 255 characters."
  }
  assert {
    condition     = aws_dynamodb_table.idempotency.billing_mode == "PAY_PER_REQUEST"
    error_message = "The table must be billed by use, so that no setting can throttle it."
  }
  assert {
    condition     = aws_dynamodb_table.idempotency.hash_key == "id" && coalesce(aws_dynamodb_table.idempotency.range_key, "none") == "none"
    error_message = "The key must be the one that Powertools uses."
  }
  assert {
    condition     = aws_dynamodb_table.idempotency.ttl[0].enabled && aws_dynamodb_table.idempotency.ttl[0].attribute_name == "expiration"
    error_message = "Items must expire at the time that Powertools writes to expiration."
  }
  assert {
    condition     = aws_dynamodb_table.idempotency.point_in_time_recovery[0].enabled
    error_message = "Point-in-time recovery must be on."
  }
  assert {
    condition     = aws_dynamodb_table.idempotency.deletion_protection_enabled
    error_message = "deletion_protection must keep the table."
  }
}

run "the_code_uses_the_table" {
  command = plan

  assert {
    condition     = local.environment_variables.IDEMPOTENCY_TABLE == aws_dynamodb_table.idempotency.name
    error_message = "The code must be given the table's name: without it, it processes every duplicate."
  }
  assert {
    condition     = aws_iam_role_policy.idempotency.role == aws_iam_role.code.id
    error_message = "The role must be allowed to use the table."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.idempotency.policy).Statement : [s.Effect, s.Action, s.Resource]] == [
      ["Allow", ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], aws_dynamodb_table.idempotency.arn],
    ]
    error_message = "The code must be allowed to do what Powertools does with this table, and nothing else."
  }
  assert {
    condition     = !aws_dynamodb_table.idempotency.deletion_protection_enabled
    error_message = "Without deletion_protection, the table must be deleted with the service."
  }
}

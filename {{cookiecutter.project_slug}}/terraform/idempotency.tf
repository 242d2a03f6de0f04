# Remembers which events were processed, for {{ cookiecutter.package_name }}/idempotency.py: an item for each event,
# with a hash as its key, a status and times, and nothing of the payload. DynamoDB deletes expired items.

resource "aws_dynamodb_table" "idempotency" {
  #checkov:skip=CKV_AWS_119:AWS's own key encrypts the table, which holds only hashes and times.
  name         = "${local.name}-idempotency"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  # Without the table, an event that is delivered twice would be processed twice.
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "expiration"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }
}

resource "aws_iam_role_policy" "idempotency" {
  name = "idempotency"
  role = aws_iam_role.code.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "RememberEvents"
        Effect   = "Allow"
        Action   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
        Resource = aws_dynamodb_table.idempotency.arn
      },
    ]
  })
}

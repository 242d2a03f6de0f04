# Which events were processed: {{ cookiecutter.package_name }}/idempotency.py. One item for each, with a hash
# for its key, a status and times, nothing of the payload; DynamoDB deletes it when its time is over.

resource "aws_dynamodb_table" "idempotency" {
  #checkov:skip=CKV_AWS_119:AWS's own key encrypts the table, which holds hashes and times.
  name         = "${local.name}-idempotency"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  # Without the table's memory, what comes twice is processed twice.
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
  role = aws_iam_role.function.id

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

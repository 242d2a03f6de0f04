# The bucket for the state of all services: services/<service>/terraform.tfstate, one per workspace
# under env:/<workspace>/. Under plans/ it keeps prod's plans until their smoke test has passed.
#
# S3 encrypts every object with AES-256 by itself. A resource that says so would show a change in every
# plan with versions 6.22 to 6.39 of the provider, which drop what S3 adds: blocked_encryption_types.

resource "aws_s3_bucket" "state" {
  #checkov:skip=CKV_AWS_18:Who reads or writes the state is in CloudTrail; a log bucket would need a log bucket.
  #checkov:skip=CKV_AWS_144:The state can be imported again from what is deployed; a second region is for what cannot.
  #checkov:skip=CKV_AWS_145:S3's own key encrypts it; a key of your own would have to be granted to every role that plans.
  #checkov:skip=CKV2_AWS_62:Nothing waits for changes of the state.
  bucket = var.state_bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket = aws_s3_bucket.state.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TLSOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.state]
}

resource "aws_s3_bucket_lifecycle_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    id     = "plans"
    status = "Enabled"

    filter {
      prefix = "plans/"
    }

    # A plan holds values of the state: it is deleted once its smoke test has passed, and otherwise
    # not kept for long.
    expiration {
      days = 7
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  rule {
    id     = "earlier-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 90
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.state]
}

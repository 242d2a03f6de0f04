provider "aws" {
  region = var.aws_region

  # The account that the credentials belong to must be one of these, if any are given.
  allowed_account_ids = length(var.allowed_account_ids) > 0 ? var.allowed_account_ids : null

  # A region that is newer than the provider works too.
  skip_region_validation = true

  default_tags {
    tags = {
      Project   = "bootstrap"
      ManagedBy = "terraform"
    }
  }
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

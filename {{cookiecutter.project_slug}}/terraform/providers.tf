provider "aws" {
  region = var.aws_region

  # If any are given, the credentials must belong to one of these accounts.
  allowed_account_ids = length(var.allowed_account_ids) > 0 ? var.allowed_account_ids : null

  # Allows a region that is newer than the provider.
  skip_region_validation = true

  default_tags {
    tags = {
      Project     = var.product
      Service     = var.service
      Owner       = var.owner
      Environment = local.environment
      ManagedBy   = "terraform"
    }
  }
}

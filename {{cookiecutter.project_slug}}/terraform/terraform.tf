# Terraform itself: its version, where it keeps the state, and its provider.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }

  # Bucket and region differ between environments: see environments/<workspace>.s3.tfbackend.
  backend "s3" {
    key          = "services/{{ cookiecutter.project_slug }}/terraform.tfstate"
    encrypt      = true
    use_lockfile = true

    # Allows a region that is newer than Terraform.
    skip_region_validation = true
  }
}

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

# Bucket and region differ between environments: see environments/<workspace>.s3.tfbackend.
terraform {
  backend "s3" {
    key          = "services/{{ cookiecutter.project_slug }}/terraform.tfstate"
    encrypt      = true
    use_lockfile = true

    # Allows a region that is newer than Terraform.
    skip_region_validation = true
  }
}

# Bucket and region differ between environments: see environments/<workspace>.s3.tfbackend.
terraform {
  backend "s3" {
    key          = "services/{{ cookiecutter.project_slug }}/terraform.tfstate"
    encrypt      = true
    use_lockfile = true

    # A region that is newer than this Terraform works too.
    skip_region_validation = true
  }
}

# The repository of the images. make registry creates it, once per environment, before everything else.

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:AWS's own key encrypts the images, which hold no secrets.
  name                 = local.name
  image_tag_mutability = "IMMUTABLE"

  # Protected like the queues: earlier images are what the service rolls back to.
  force_delete = !var.deletion_protection

  image_scanning_configuration {
    scan_on_push = true
  }
}

# This many releases can be rolled back to. Storage is charged by the gigabyte.
resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Keep the newest 50 images."
        selection = {
          tagStatus   = "any"
          countType   = "imageCountMoreThan"
          countNumber = 50
        }
        action = { type = "expire" }
      },
    ]
  })
}

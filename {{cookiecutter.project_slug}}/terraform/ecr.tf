# The images. Made before everything else, once per environment: make registry

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:AWS's own key encrypts the images; there is no secret in them.
  name                 = local.name
  image_tag_mutability = "IMMUTABLE"

  # What can be rolled back to goes with the service only where the messages may go too.
  force_delete = !var.deletion_protection

  image_scanning_configuration {
    scan_on_push = true
  }
}

# As many releases can be rolled back to. What is stored costs money by the gigabyte.
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

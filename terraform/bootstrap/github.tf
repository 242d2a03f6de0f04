# Who may take which role. GitHub signs a token for each job; AWS compares its claims with these.

locals {
  github = "token.actions.githubusercontent.com"

  # Whom the token is for. In China AWS has names of its own.
  audience = data.aws_partition.this.partition == "aws-cn" ? "sts.amazonaws.com.cn" : "sts.amazonaws.com"

  # The claim sub begins with the repository: by name, and in repositories that were made or renamed
  # since 2026-07-15 also by id. Both are listed in full: a wildcard would let a name from elsewhere in.
  subjects = flatten([
    for repository in var.repositories : [
      "repo:${repository.name}",
      format(
        "repo:%s@%d/%s@%d",
        split("/", repository.name)[0], repository.owner_id,
        split("/", repository.name)[1], repository.id,
      ),
    ]
  ])

  github_claims     = coalesce(var.github_claims, data.aws_partition.this.partition == "aws")
  oidc_provider_arn = "arn:${data.aws_partition.this.partition}:iam::${data.aws_caller_identity.this.account_id}:oidc-provider/${local.github}"

  # Where deployments come from, and what its jobs' tokens say if they name no environment.
  ref    = "refs/heads/${var.default_branch}"
  branch = { subjects = ["ref:${local.ref}"], claims = { ref = [local.ref] } }

  # Role, environment, and what the token of its jobs says.
  roles = merge(
    # Pull requests, and what the default branch plans without an environment.
    { for environment in var.environments : "plan-${environment}" => {
      environment = environment
      description = "Reads what services have in ${environment}, to plan changes."
      subjects    = concat(["pull_request"], local.branch.subjects)
      claims      = {}
    } },
    # dev is planned and applied in one job; prod's plan waits for an approval.
    { for environment in var.environments : "main-plan-${environment}" => {
      environment = environment
      description = "Plans changes of ${environment} on ${var.default_branch}, and keeps the plan for the deploy role."
      subjects    = local.branch.subjects
      claims      = local.branch.claims
    } if environment == "prod" },
    # Rolling back and pausing wait for nobody's approval, so these jobs name no environment.
    { for environment in var.environments : "operate-${environment}" => {
      environment = environment
      description = "Rolls back, pauses, resumes and unlocks services in ${environment}."
      subjects    = local.branch.subjects
      claims      = local.branch.claims
    } },
    { for environment in var.environments : "deploy-${environment}" => {
      environment = environment
      description = "Deploys services to ${environment}, from ${var.default_branch} only."
      subjects    = var.github_environments ? ["environment:${environment}"] : local.branch.subjects
      claims      = merge(local.branch.claims, var.github_environments ? { environment = [environment] } : {})
    } },
  )

  trust = {
    for role, about in local.roles : role => jsonencode({
      Version = "2012-10-17"
      Statement = [
        {
          Effect    = "Allow"
          Principal = { Federated = local.oidc_provider_arn }
          Action    = "sts:AssumeRoleWithWebIdentity"
          Condition = {
            StringEquals = merge(
              {
                "${local.github}:aud" = local.audience
                "${local.github}:sub" = [
                  for pair in setproduct(local.subjects, about.subjects) : join(":", pair)
                ]
              },
              !local.github_claims ? {} : merge(
                { "${local.github}:repository_id" = [for repository in var.repositories : tostring(repository.id)] },
                { for claim, values in about.claims : "${local.github}:${claim}" => values },
              ),
            )
          }
        },
      ]
    })
  }
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.create_oidc_provider ? 1 : 0

  url            = "https://${local.github}"
  client_id_list = [local.audience]
}

resource "aws_iam_role" "github" {
  for_each = local.roles

  name        = "github-${each.key}"
  path        = "/delivery/"
  description = each.value.description

  assume_role_policy = local.trust[each.key]

  lifecycle {
    precondition {
      condition     = length(local.trust[each.key]) <= 8192
      error_message = "The trust policy of github-${each.key} has ${length(local.trust[each.key])} characters, and IAM takes at most 8,192: name fewer repositories."
    }
  }

  depends_on = [aws_iam_openid_connect_provider.github]
}

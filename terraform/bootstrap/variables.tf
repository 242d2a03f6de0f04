variable "aws_region" {
  description = "Region of the services and of the bucket for their state."
  type        = string
}

variable "allowed_account_ids" {
  description = "AWS accounts that this may be applied to: with credentials of another one, Terraform refuses to work. Empty: any."
  type        = list(string)
  default     = []
}

variable "environments" {
  description = "Environments that live in this account: both, or one where each has an account of its own."
  type        = list(string)
  default     = ["dev", "prod"]

  validation {
    condition     = length(var.environments) > 0 && alltrue([for name in var.environments : contains(["dev", "prod"], name)])
    error_message = "environments has dev, prod or both."
  }
}

variable "state_bucket" {
  description = "Name of the S3 bucket to make for Terraform's state. All of AWS shares these names, so begin it with your company's."
  type        = string
}

variable "repositories" {
  description = "GitHub repositories whose workflows may work in this account. README.md has the command that prints the ids."
  type = list(object({
    name     = string # owner/repository
    owner_id = number
    id       = number
  }))

  validation {
    condition     = length(var.repositories) > 0 && alltrue([for repository in var.repositories : can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", repository.name))])
    error_message = "repositories has at least one element, each with a name like my-company/order-events: no URL, no wildcard."
  }
}

variable "default_branch" {
  description = "Branch that the repositories deploy from: their default branch, the same in all of them."
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", var.default_branch)) && !startswith(var.default_branch, "refs/")
    error_message = "default_branch must be the name of a branch, like main: letters, digits, and . _ - / in it, no wildcard, no refs/heads/."
  }
}

variable "github_environments" {
  description = "Whether the repositories have GitHub environments. false for private repositories on GitHub Free, which has none: then every job on the default branch gets the deploy roles, and GitHub asks nobody before prod."
  type        = bool
  default     = true
}

variable "services" {
  description = "Services that the workflows may deploy: their short names (project_slug). A * stands for any characters: [\"order-*\"]."
  type        = list(string)

  validation {
    condition     = length(var.services) >= 1 && length(var.services) <= 10 && alltrue([for name in var.services : can(regex("^[a-z*][a-z0-9*-]{0,39}$", name))])
    error_message = "services has 1 to 10 elements (AWS limits the size of policies; a * stands for several services): lower-case letters, digits, hyphens and *."
  }
}

variable "topics" {
  description = "SNS topics to make where none exist yet, without the environment: orders makes orders-dev and orders-prod, and orders.fifo the FIFO topics orders-dev.fifo and orders-prod.fifo."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.topics : length(name) <= 251 && can(regex("^[A-Za-z0-9_-]+(\\.fifo)?$", name))])
    error_message = "topics have 1 to 251 letters, digits, hyphens and underscores, with .fifo at the end for FIFO topics."
  }
}

variable "topic_kms_key_id" {
  description = "KMS key of these topics. AWS's own key is right for publishers in this account; AWS services and other accounts can publish only with a key of your own whose policy lets them."
  type        = string
  default     = "alias/aws/sns"
}

variable "create_oidc_provider" {
  description = "Whether to make GitHub's OIDC provider. An account has only one: false if it is there already."
  type        = bool
  default     = true
}

variable "github_claims" {
  description = "Whether the roles also ask for GitHub's claims repository_id, ref and environment. Null: in the partition aws, where IAM knows them; without them, the branch rule of the GitHub environment alone keeps other branches out."
  type        = bool
  default     = null
}

variable "layers" {
  description = "Versions of Lambda layers that services may use (layers in their environments/*.tfvars), as ARNs; a * stands for any characters: [\"arn:aws:lambda:eu-central-1:901920570463:layer:aws-otel-python-arm64-ver-*:*\"]. A layer of another account must be shared with this one."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.layers : can(regex("^arn:[^:]+:lambda:[^:]+:([0-9]{12}|\\*):layer:[^:]+:([0-9]+|\\*)$", arn))])
    error_message = "layers are ARNs of versions of Lambda layers: arn:aws:lambda:eu-central-1:123456789012:layer:otel:1, or with * for any version."
  }
}

variable "log_destinations" {
  description = "Where services may forward their logs to (log_destination_arn in their environments/*.tfvars): ARNs of Kinesis streams, Firehose streams, Lambda functions or CloudWatch Logs destinations, the latter of any account."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.log_destinations : can(regex("^arn:[^:]+:(kinesis|firehose|lambda|logs):${var.aws_region}:[0-9]{12}:(stream/|deliverystream/|function:|destination:)[A-Za-z0-9*._-]+$", arn))])
    error_message = "log_destinations are ARNs in ${var.aws_region} of Kinesis streams, Firehose streams, Lambda functions or CloudWatch Logs destinations: arn:aws:logs:${var.aws_region}:123456789012:destination:central."
  }
}

variable "boundary_actions" {
  description = "Actions that the services' business logic needs, beyond those that every service needs: [\"s3:GetObject\"]. The boundary allows them; each service's own policy still has to grant them."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for action in var.boundary_actions : can(regex("^[a-z0-9-]+:[A-Za-z]+\\*?$", action)) && !can(regex("^(iam|sts|organizations|account):", action))])
    error_message = "boundary_actions are actions like s3:GetObject or dynamodb:Query*, none of iam, sts, organizations or account: with those a service could give itself more."
  }
}

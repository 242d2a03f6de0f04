# Names, owner, place

variable "service" {
  description = "Name of the service: the first part of its AWS names, the tag Service and the metrics' dimension service."
  type        = string
  default     = "{{ cookiecutter.project_slug }}"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.service)) && length(var.service) <= 40
    error_message = "service is lower-case words of letters and digits joined by hyphens, beginning with a letter, 40 characters at most: AWS limits the names that are made from it."
  }
}

variable "environments" {
  description = "Terraform workspaces that the service may be deployed from."
  type        = list(string)
  default     = ["dev", "prod"]

  validation {
    condition     = contains(var.environments, terraform.workspace)
    error_message = "There is no environment \"${terraform.workspace}\". Select the workspace of one that exists (${join(", ", var.environments)}): make plan ENV=dev does it for you, terraform workspace select dev by hand."
  }
}

variable "product" {
  description = "Larger product that the service belongs to: the tag Project, the first part of ENVIRONMENT and the namespace of the service's own metrics."
  type        = string
  default     = "{{ cookiecutter.product }}"

  validation {
    condition     = can(regex("^[A-Za-z0-9 _.:/=+@-]{1,64}$", var.product))
    error_message = "product has 1 to 64 characters: letters, digits, spaces and _ . : / = + - @."
  }
}

variable "owner" {
  description = "Who answers for the service, a team or an address: the tag Owner."
  type        = string
  default     = "{{ cookiecutter.owner }}"

  validation {
    condition     = can(regex("^[A-Za-z0-9 _.:/=+@-]{1,128}$", var.owner))
    error_message = "owner has 1 to 128 characters: letters, digits, spaces and _ . : / = + - @."
  }
}

variable "aws_region" {
  description = "AWS region that everything is in, the topic included."
  type        = string
  default     = "{{ cookiecutter.aws_region }}"

  validation {
    condition     = can(regex("^[a-z]{2,5}(-[a-z]+)+-[0-9]+$", var.aws_region))
    error_message = "aws_region is the name of an AWS region, like eu-central-1 or us-gov-west-1."
  }
}

variable "allowed_account_ids" {
  description = "AWS accounts that may be deployed to: with credentials of another one, Terraform refuses to work. Empty: any."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.allowed_account_ids : can(regex("^[0-9]{12}$", id))])
    error_message = "allowed_account_ids are AWS account numbers of 12 digits, as strings: [\"123456789012\"]."
  }
}

# Topic and subscription

variable "sns_topic_name" {
  description = "Name of the SNS topic in this account. Null: {{ cookiecutter.sns_topic_name }}-<workspace>."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,256}$", coalesce(var.sns_topic_name, "unset")))
    error_message = "sns_topic_name has 1 to 256 letters, digits, hyphens and underscores: a standard topic, not one of type FIFO."
  }
}

variable "sns_topic_arn" {
  description = "ARN of the SNS topic, instead of sns_topic_name, for one in another account (its policy must let this account subscribe). Null: the topic is looked up by name."
  type        = string
  default     = null

  validation {
    condition     = var.sns_topic_arn == null || can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[A-Za-z0-9_-]+$", var.sns_topic_arn))
    error_message = "sns_topic_arn is the ARN of a standard SNS topic, like arn:aws:sns:eu-central-1:123456789012:orders-prod."
  }

  validation {
    condition     = try(split(":", var.sns_topic_arn)[3], var.aws_region) == var.aws_region
    error_message = "The topic ${coalesce(var.sns_topic_arn, "-")} is not in ${var.aws_region}: the subscription and the queue for what could not be delivered must be in the topic's region. Set aws_region to it."
  }

  validation {
    condition     = var.sns_topic_arn == null || var.sns_topic_name == null
    error_message = "sns_topic_arn and sns_topic_name are both set: one topic is enough."
  }
}

variable "event_types" {
  description = "Values of the message attribute event_type that the service takes. One that ends in * stands for all that begin with what is before it; * alone for every message that has the attribute."
  type        = list(string)
  default = [
{% for event_type in cookiecutter.event_types.split(",") %}
    "{{ event_type | trim }}",
{% endfor %}
  ]

  validation {
    condition     = length(var.event_types) >= 1 && length(var.event_types) <= 20
    error_message = "event_types has 1 to 20 elements."
  }

  validation {
    condition     = alltrue([for event_type in var.event_types : can(regex("^([^,*]{1,100}|[^,*]{0,99}\\*)$", event_type))])
    error_message = "Each of event_types has 1 to 100 characters, no comma, and a * only at its end."
  }
}

# Package and code

# No default: make sets it (TF_VAR_architecture) to what the package is built for.

variable "architecture" {
  description = "Processor architecture that the package is built for."
  type        = string

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64."
  }
}

variable "log_level" {
  description = "What is logged: this level and those above it."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARN", "ERROR", "FATAL"], var.log_level)
    error_message = "log_level is DEBUG, INFO, WARN, ERROR or FATAL."
  }
}

variable "iam_path" {
  description = "IAM path of the roles, common to all services, so that a deploy role can be limited to them."
  type        = string
  default     = "/services/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9_.,+@=-]+/)*$", var.iam_path)) && length(var.iam_path) <= 512
    error_message = "iam_path begins and ends with a slash, like /services/."
  }
}

variable "permissions_boundary" {
  description = "ARN of the policy that limits what the roles can ever be allowed. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[^:]+:iam::[^:]+:policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary is the ARN of an IAM policy, like arn:aws:iam::123456789012:policy/services."
  }
}

# Queue

variable "max_receive_count" {
  description = "Times that a message is tried before it goes to the dead-letter queue."
  type        = number
  default     = 5

  validation {
    condition     = var.max_receive_count >= 2 && var.max_receive_count <= 1000 && floor(var.max_receive_count) == var.max_receive_count
    error_message = "max_receive_count is a whole number from 2 to 1000. AWS advises 5 or more; with 1, a message that was only throttled or cut off counts as failed."
  }
}

variable "deletion_protection" {
  description = "Refuse every plan that would destroy, rename or replace a queue, and the messages in it with it. To end it, set it to false and run: terraform state rm 'terraform_data.queues_are_protected[0]'"
  type        = bool
  default     = false
}

# Monitoring

variable "log_retention_in_days" {
  description = "Days that the log is kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_in_days)
    error_message = "log_retention_in_days is a period that CloudWatch Logs has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "log_destination_arn" {
  description = "Where the log is sent as well: ARN of a Kinesis stream, a Firehose stream, a Lambda function or a CloudWatch Logs destination. Null: nowhere."
  type        = string
  default     = null

  validation {
    condition     = var.log_destination_arn == null || can(regex("^arn:[^:]+:(kinesis|firehose|lambda|logs):", var.log_destination_arn))
    error_message = "log_destination_arn is the ARN of a Kinesis stream, a Firehose stream, a Lambda function or a CloudWatch Logs destination."
  }
}

variable "alarm_actions" {
  description = "ARNs that an alarm tells when it goes off and when it is over, for example of an SNS topic that somebody reads. Empty: alarms show in the console only."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.alarm_actions) <= 5 && alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "alarm_actions has at most 5 ARNs, like arn:aws:sns:eu-central-1:123456789012:on-call."
  }
}

variable "runbook_url" {
  description = "Where the runbook is, RUNBOOK.md in the repository: alarms link to its sections."
  type        = string
  default     = "RUNBOOK.md"
}

variable "message_age_alarm_in_seconds" {
  description = "Age of the oldest message in the queue that sets off the alarm. Null: 900, or four visibility time-outs if that is more, since a message that is tried again gets as old as that."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.message_age_alarm_in_seconds, 60) >= 60
    error_message = "message_age_alarm_in_seconds is 60 or more."
  }
}

# Every setting, with its default. What differs between environments goes into environments/.

# Names, owner, place

variable "service" {
  description = "Name of the service: the first part of its AWS names, the tag Service and the dimension service of its metrics."
  type        = string
  default     = "{{ cookiecutter.project_slug }}"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.service)) && length(var.service) <= 40
    error_message = "service must start with a letter, consist of lower-case letters, digits and single hyphens between them, and have at most 40 characters (AWS limits the names made from it), not \"${var.service}\"."
  }
}

variable "environments" {
  description = "Terraform workspaces that the service can be deployed from."
  type        = list(string)
  default     = ["dev", "prod"]

  validation {
    condition     = contains(var.environments, terraform.workspace)
    error_message = "The workspace must be an environment (${join(", ", var.environments)}), not \"${terraform.workspace}\". make plan ENV=dev selects it for you; by hand: terraform workspace select dev."
  }
}

variable "product" {
  description = "Larger product that the service belongs to: the tag Project, the first part of ENVIRONMENT and the namespace of the service's own metrics."
  type        = string
  default     = "{{ cookiecutter.product }}"

  validation {
    condition     = can(regex("^[A-Za-z0-9 _.:/=+@-]{1,64}$", var.product))
    error_message = "product must have 1 to 64 characters (letters, digits, spaces and _ . : / = + - @), not \"${var.product}\"."
  }
}

variable "owner" {
  description = "Who owns the service, a team or an e-mail address: the tag Owner."
  type        = string
  default     = "{{ cookiecutter.owner }}"

  validation {
    condition     = can(regex("^[A-Za-z0-9 _.:/=+@-]{1,128}$", var.owner))
    error_message = "owner must have 1 to 128 characters (letters, digits, spaces and _ . : / = + - @), not \"${var.owner}\"."
  }
}

variable "aws_region" {
  description = "AWS region of everything, including the topic."
  type        = string
  default     = "{{ cookiecutter.aws_region }}"

  validation {
    condition     = can(regex("^[a-z]{2,5}(-[a-z]+)+-[0-9]+$", var.aws_region))
    error_message = "aws_region must be the name of an AWS region, such as eu-central-1 or us-gov-west-1, not \"${var.aws_region}\"."
  }
}

variable "allowed_account_ids" {
  description = "AWS accounts that the service can be deployed to. With credentials for any other account, Terraform refuses to run. Empty: any account."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.allowed_account_ids : can(regex("^[0-9]{12}$", id))])
    error_message = "allowed_account_ids must be AWS account IDs of 12 digits, such as [\"123456789012\"], not ${jsonencode(var.allowed_account_ids)}."
  }
}

variable "commit" {
  description = "Git commit of this code. make passes it on, if the service's folder has no uncommitted changes."
  type        = string
  default     = ""
}

# Topic and subscription

variable "sns_topic_name" {
  description = "Name of the SNS topic in this account. Null: {{ cookiecutter.__topic }}-<workspace>{{ cookiecutter.__fifo }}."
  type        = string
  default     = null

  validation {
{% if cookiecutter.__fifo %}
    condition     = can(regex("^[A-Za-z0-9_-]{1,251}\\.fifo$", coalesce(var.sns_topic_name, "unset.fifo")))
    error_message = "sns_topic_name must be the name of a FIFO topic (1 to 251 letters, digits, hyphens and underscores, and .fifo), as only those can feed this service's FIFO queue, not ${jsonencode(var.sns_topic_name)}."
{% else %}
    condition     = can(regex("^[A-Za-z0-9_-]{1,256}$", coalesce(var.sns_topic_name, "unset")))
    error_message = "sns_topic_name must be the name of a standard topic (1 to 256 letters, digits, hyphens and underscores; a FIFO topic needs a service with FIFO queues), not ${jsonencode(var.sns_topic_name)}."
{% endif %}
  }
}

variable "sns_topic_arn" {
  description = "ARN of the SNS topic, in place of sns_topic_name, for a topic in another account (its policy must let this account subscribe). Null: the topic is looked up by name."
  type        = string
  default     = null

  validation {
{% if cookiecutter.__fifo %}
    condition     = var.sns_topic_arn == null || can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[A-Za-z0-9_-]+\\.fifo$", var.sns_topic_arn))
    error_message = "sns_topic_arn must be the ARN of a FIFO topic, such as arn:{{ cookiecutter.__partition }}:sns:{{ cookiecutter.aws_region }}:123456789012:orders-prod.fifo, as only those can feed this service's FIFO queue, not ${jsonencode(var.sns_topic_arn)}."
{% else %}
    condition     = var.sns_topic_arn == null || can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[A-Za-z0-9_-]+$", var.sns_topic_arn))
    error_message = "sns_topic_arn must be the ARN of a standard SNS topic, such as arn:{{ cookiecutter.__partition }}:sns:{{ cookiecutter.aws_region }}:123456789012:orders-prod, not ${jsonencode(var.sns_topic_arn)}."
{% endif %}
  }

  validation {
    condition     = try(split(":", var.sns_topic_arn)[3], var.aws_region) == var.aws_region
    error_message = "sns_topic_arn must be in the region aws_region (${var.aws_region}), not ${jsonencode(var.sns_topic_arn)}: the subscription and the queue for undelivered messages must be in the topic's region. Set aws_region to that region."
  }

  validation {
    condition     = var.sns_topic_arn == null || var.sns_topic_name == null
    error_message = "sns_topic_arn (${jsonencode(var.sns_topic_arn)}) and sns_topic_name (${jsonencode(var.sns_topic_name)}) must not both be set."
  }
}

# No default: make sets it (TF_VAR_event_types) to the types of EVENTS in {{ cookiecutter.package_name }}/events.py.
variable "event_types" {
  description = "Values of the message attribute event_type that the service subscribes to. A value that ends in * matches every value that starts with what is before it; * alone matches every message that has the attribute."
  type        = list(string)

  validation {
    condition     = length(var.event_types) >= 1 && length(var.event_types) <= 20
    error_message = "EVENTS in {{ cookiecutter.package_name }}/events.py must have 1 to 20 event types, not ${length(var.event_types)}."
  }

  validation {
    condition     = alltrue([for event_type in var.event_types : can(regex("^([^*]{1,100}|[^*]{0,99}\\*)$", event_type))])
    error_message = "Each event type in {{ cookiecutter.package_name }}/events.py must have 1 to 100 characters, and a * only at the end, not ${jsonencode(var.event_types)}."
  }
}

# Code

# No default: make sets it (TF_VAR_architecture) to what the code is built for.
variable "architecture" {
  description = "CPU architecture that the code is built for."
  type        = string

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64, not \"${var.architecture}\"."
  }
}

variable "log_level" {
  description = "Lowest level that is logged. Above INFO, the log does not say which messages were processed; metrics and smoke tests work at every level."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARN", "ERROR"], var.log_level)
    error_message = "log_level must be DEBUG, INFO, WARN or ERROR (failed messages are logged at ERROR), not \"${var.log_level}\"."
  }
}

variable "iam_path" {
  description = "IAM path of the roles, the same for all services, so that a deploy role can be limited to it."
  type        = string
  default     = "/services/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9_.,+@=-]+/)*$", var.iam_path)) && length(var.iam_path) <= 512
    error_message = "iam_path must start and end with a slash, like /services/, and have at most 512 characters, not \"${var.iam_path}\"."
  }
}

variable "permissions_boundary" {
  description = "ARN of the policy that limits what the roles can ever be allowed to do. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[^:]+:iam::[^:]+:policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy, such as arn:{{ cookiecutter.__partition }}:iam::123456789012:policy/services, not ${jsonencode(var.permissions_boundary)}."
  }
}

{% if cookiecutter.compute == "lambda" %}
# Package

# No default: make sets it (TF_VAR_python_version) to what the package is built for.
variable "python_version" {
  description = "Python version that the package is built for."
  type        = string

  validation {
    condition     = contains(["3.12", "3.13", "3.14"], var.python_version)
    error_message = "python_version must be 3.12, 3.13 or 3.14, not \"${var.python_version}\"."
  }
}

variable "package_file" {
  description = "Package that make package writes. The path is relative to this folder."
  type        = string
  default     = "../dist/lambda.zip"

  validation {
    condition     = var.package_hash != null || fileexists(var.package_file)
    error_message = "package_file must exist, and ${var.package_file} does not: run make package first."
  }
}

variable "package_hash" {
  description = "SHA-256 of the deployed package, in Base64 (output package_hash): change settings only, and keep the package. Null: deploy package_file."
  type        = string
  default     = null
}

variable "artifact_bucket" {
  description = "S3 bucket in the same region to upload the package through: the state's own, where the bootstrap's roles may write. Lambda takes up to 50 MB directly, and up to 250 MB unzipped through S3. Null: directly."
  type        = string
  default     = null
}

# Function

variable "description" {
  description = "What the service does, in one sentence: the description of the Lambda function."
  type        = string
  default     = "{{ cookiecutter.description | replace('\\', '\\\\') | replace('"', '\\"') | replace('${', '$${') | replace('%{', '%%{') }}"

  validation {
    condition     = length(var.description) <= 256
    error_message = "description must have at most 256 characters, which is Lambda's limit, not ${length(var.description)}."
  }
}

variable "live_version" {
  description = "Version of the function that gets the messages, to roll back to an earlier one. Null: the newest."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[1-9][0-9]*$", coalesce(var.live_version, "1")))
    error_message = "live_version must be the number of a published version (make versions), such as \"7\", not ${jsonencode(var.live_version)}."
  }
}

variable "canary_weight" {
  description = "Gradual release: the share of batches, from 0 to 0.99, that the newest version gets. The others go to live_version, the version before."
  type        = number
  default     = 0

  validation {
    condition     = var.canary_weight >= 0 && var.canary_weight < 1
    error_message = "canary_weight must be a share from 0 to 0.99, not ${var.canary_weight}."
  }

  validation {
    condition     = var.canary_weight == 0 || var.live_version != null
    error_message = "canary_weight must be 0 while live_version is not set, not ${var.canary_weight}: set live_version to the version that gets the other batches."
  }
}

variable "memory_size" {
  description = "Memory in MB. CPU grows with it (one vCPU at 1769 MB), so more memory often costs no more: the function runs for a shorter time. Tune it by the duration and peak memory in the log's REPORT lines."
  type        = number
  default     = 512

  validation {
    condition     = var.memory_size >= 128 && var.memory_size <= 10240 && floor(var.memory_size) == var.memory_size
    error_message = "memory_size must be a whole number from 128 to 10240 (MB), not ${var.memory_size}."
  }
}

variable "timeout" {
  description = "Seconds that one batch may take. The queue's visibility timeout is derived from it{{ ': a message group waits six times as long when a message of it fails' if cookiecutter.__fifo }}."
  type        = number
  default     = 30

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout must be a whole number from 1 to 900 (seconds), not ${var.timeout}."
  }
}

variable "tracing_mode" {
  description = "Active: Lambda sends traces of a sample of the invocations to X-Ray. PassThrough: none."
  type        = string
  default     = "Active"

  validation {
    condition     = contains(["Active", "PassThrough"], var.tracing_mode)
    error_message = "tracing_mode must be Active or PassThrough, not \"${var.tracing_mode}\"."
  }
}

variable "layers" {
  description = "ARNs of Lambda layer versions, for example of an OpenTelemetry layer. The bootstrap's roles may use those in its variable layers."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.layers) <= 5 && alltrue([for arn in var.layers : can(regex("^arn:[^:]+:lambda:[^:]+:[0-9]+:layer:[^:]+:[0-9]+$", arn))])
    error_message = "layers must be at most 5 ARNs of layer versions, such as arn:{{ cookiecutter.__partition }}:lambda:{{ cookiecutter.aws_region }}:123456789012:layer:otel:1, not ${jsonencode(var.layers)}."
  }

  validation {
    condition     = alltrue([for arn in var.layers : try(split(":", arn)[3], var.aws_region) == var.aws_region])
    error_message = "layers must be in the region aws_region (${var.aws_region}), as Lambda takes them from no other, not ${jsonencode(var.layers)}."
  }

  # Only as far as their names tell, as those of public layers do: what a layer declares is optional.
  validation {
    condition     = !can(regex(var.architecture == "arm64" ? "x86_64|amd64" : "arm64|aarch64", lower(join(" ", var.layers))))
    error_message = "layers must be built for the architecture ${var.architecture}, not ${jsonencode(var.layers)}."
  }
}

variable "snap_start" {
  description = "Start from a snapshot of the initialised function. It needs code that creates connections and unique values after the start, not at import. AWS charges for every published version and for every start; publishing takes minutes."
  type        = bool
  default     = false
}

variable "subnet_ids" {
  description = "Subnets of the VPC that the function runs in. They need a route to what the code calls, AWS's services included. Empty: no VPC."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups of the function in the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = (length(var.security_group_ids) > 0) == (length(var.subnet_ids) > 0)
    error_message = "security_group_ids (${jsonencode(var.security_group_ids)}) and subnet_ids (${jsonencode(var.subnet_ids)}) must both be set, or neither."
  }
}

variable "ipv6" {
  description = "Let the function use IPv6 too. Its subnets must be dual-stack, and its security groups allow it."
  type        = bool
  default     = false

  validation {
    condition     = !var.ipv6 || length(var.subnet_ids) > 0
    error_message = "ipv6 must be false without subnet_ids, not ${var.ipv6}: it is for a function in a VPC."
  }
}

# From the queue to the function

{% if not cookiecutter.__fifo %}
variable "batch_size" {
  description = "Maximum number of messages in one invocation."
  type        = number
  default     = 10

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10000 && floor(var.batch_size) == var.batch_size
    error_message = "batch_size must be a whole number from 1 to 10000, not ${var.batch_size}."
  }
}

variable "maximum_batching_window_in_seconds" {
  description = "Seconds that Lambda waits for a batch to fill."
  type        = number
  default     = 0

  validation {
    condition     = var.maximum_batching_window_in_seconds >= 0 && var.maximum_batching_window_in_seconds <= 300 && floor(var.maximum_batching_window_in_seconds) == var.maximum_batching_window_in_seconds
    error_message = "maximum_batching_window_in_seconds must be a whole number from 0 to 300, not ${var.maximum_batching_window_in_seconds}."
  }

  validation {
    condition     = var.batch_size <= 10 || var.maximum_batching_window_in_seconds >= 1
    error_message = "maximum_batching_window_in_seconds must be at least 1 with a batch_size above 10 (${var.batch_size}), not ${var.maximum_batching_window_in_seconds}."
  }
}

{% else %}
variable "maximum_batching_window_in_seconds" {
  description = "Only standard queues have a batching window: leave this null."
  type        = number
  default     = null

  validation {
    condition     = var.maximum_batching_window_in_seconds == null
    error_message = "maximum_batching_window_in_seconds must not be set (${jsonencode(var.maximum_batching_window_in_seconds)}): Lambda has no batching window for FIFO queues. Remove it from terraform/environments/${terraform.workspace}.tfvars."
  }
}

{% endif %}
variable "maximum_concurrency" {
{% if cookiecutter.__fifo %}
  description = "Maximum number of batches that are processed at the same time: what downstream systems can take. Never more than there are message groups with messages."
{% else %}
  description = "Maximum number of batches that are processed at the same time: what downstream systems can take."
{% endif %}
  type        = number
  default     = 10

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000 && floor(var.maximum_concurrency) == var.maximum_concurrency
    error_message = "maximum_concurrency must be a whole number from 2 to 1000, not ${var.maximum_concurrency}."
  }
}

variable "provisioned_pollers" {
  description = "Provisioned mode, in place of maximum_concurrency: event pollers that are always ready (minimum), and at most (maximum), for sudden peaks. Each processes up to ten batches at the same time; AWS charges for every hour of one. Null: Lambda's own pollers."
  type        = object({ minimum = number, maximum = number })
  default     = null

  validation {
    condition = var.provisioned_pollers == null || try(
      var.provisioned_pollers.minimum >= 2 && var.provisioned_pollers.minimum <= 200 && floor(var.provisioned_pollers.minimum) == var.provisioned_pollers.minimum
      && var.provisioned_pollers.maximum >= var.provisioned_pollers.minimum && var.provisioned_pollers.maximum <= 2000 && floor(var.provisioned_pollers.maximum) == var.provisioned_pollers.maximum,
      false
    )
    error_message = "provisioned_pollers must have a minimum from 2 to 200, and a maximum from that to 2000 (whole numbers), not ${jsonencode(var.provisioned_pollers)}."
  }
}

variable "event_count_metrics" {
  description = "Count what Lambda's pollers do with the messages: received, passed to the function, failed, deleted (CloudWatch's EventCount metrics of the event source mapping, which are charged)."
  type        = bool
  default     = false
}
{% else %}
# Image

variable "image_digest" {
  description = "Digest of the image that make image built. make passes it on (TF_VAR_image_digest)."
  type        = string
  default     = null

  validation {
    condition     = var.image_digest == null || can(regex("^sha256:[0-9a-f]{64}$", var.image_digest))
    error_message = "image_digest must be sha256: and 64 hexadecimal digits, as make image prints it, not ${jsonencode(var.image_digest)}."
  }
}

variable "live_version" {
  description = "Revision of the task definition that runs, to roll back to an earlier one. Null: the newest."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[1-9][0-9]*$", coalesce(var.live_version, "1")))
    error_message = "live_version must be the number of a revision (make versions), such as \"7\", not ${jsonencode(var.live_version)}."
  }
}

# Network

variable "subnet_ids" {
  description = "Subnets that the tasks run in, in at least two Availability Zones. They need a route to AWS's services (SQS, ECR, CloudWatch Logs …): a NAT gateway, VPC endpoints or assign_public_ip."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : startswith(id, "subnet-")])
    error_message = "subnet_ids must name the subnets that the tasks run in, not ${jsonencode(var.subnet_ids)}: set it in terraform/environments/${terraform.workspace}.tfvars, for example subnet_ids = [\"subnet-0123456789abcdef0\"]."
  }
}

variable "assign_public_ip" {
  description = "Give each task a public IP address, for public subnets without a NAT gateway. AWS charges for every address."
  type        = bool
  default     = false
}

variable "security_group_ids" {
  description = "Security groups of the tasks. Empty: the service creates its own, which allows HTTPS out and nothing in."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.security_group_ids) <= 5 && alltrue([for id in var.security_group_ids : startswith(id, "sg-")])
    error_message = "security_group_ids must be at most 5 IDs, such as sg-0123456789abcdef0, not ${jsonencode(var.security_group_ids)}."
  }
}

variable "ipv6" {
  description = "Let the service's own security group allow HTTPS out by IPv6 too, for dual-stack subnets. With security_group_ids, those decide."
  type        = bool
  default     = false
}

# Tasks

locals {
  # Memory in MB by CPU units: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
  fargate_memory = {
    256   = [512, 1024, 2048]
    512   = range(1024, 4097, 1024)
    1024  = range(2048, 8193, 1024)
    2048  = range(4096, 16385, 1024)
    4096  = range(8192, 30721, 1024)
    8192  = range(16384, 61441, 4096)
    16384 = range(32768, 122881, 8192)
  }
}

variable "cluster_arn" {
  description = "ARN of an ECS cluster to run in. It must have the capacity providers FARGATE and FARGATE_SPOT. Null: the service creates its own."
  type        = string
  default     = null

  validation {
    condition     = var.cluster_arn == null || can(regex("^arn:[^:]+:ecs:${var.aws_region}:[0-9]{12}:cluster/[A-Za-z0-9_-]{1,255}$", var.cluster_arn))
    error_message = "cluster_arn must be the ARN of an ECS cluster in ${var.aws_region}, such as arn:{{ cookiecutter.__partition }}:ecs:${var.aws_region}:123456789012:cluster/shared, not ${jsonencode(var.cluster_arn)}."
  }
}

variable "cpu" {
  description = "CPU units of a task: 256, 512, 1024 (one vCPU), 2048, 4096, 8192 or 16384. A task is charged by cpu and memory for as long as it runs."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu must be one of Fargate's sizes, 256, 512, 1024, 2048, 4096, 8192 or 16384 (1024 is one vCPU), not ${var.cpu}."
  }
}

variable "memory" {
  description = "Memory of a task in MB. Which sizes exist depends on cpu."
  type        = number
  default     = 512

  validation {
    condition     = contains(lookup(local.fargate_memory, var.cpu, [var.memory]), var.memory) # a wrong cpu has its own message
    error_message = "memory must be a size that Fargate has with cpu = ${var.cpu} (${join(", ", lookup(local.fargate_memory, var.cpu, []))} MB), not ${var.memory}."
  }
}

variable "fargate_spot" {
  description = "Run on Fargate Spot, for about a third of the price. AWS can stop a task at two minutes' notice; its messages are retried, which counts towards max_receive_count. Not for batches that take hours."
  type        = bool
  default     = false
}

variable "stop_timeout" {
  description = "Seconds that a task has to finish or return its messages when it is stopped."
  type        = number
  default     = 120

  validation {
    condition     = var.stop_timeout >= 10 && var.stop_timeout <= 120 && floor(var.stop_timeout) == var.stop_timeout
    error_message = "stop_timeout must be a whole number from 10 to 120 (seconds), Fargate's limit, not ${var.stop_timeout}."
  }
}

# From the queue to the tasks

variable "timeout" {
  description = "Seconds that one batch may take. A batch that takes longer is stopped, and its messages are retried. Above 1800, an apply does not wait until the old tasks have stopped."
  type        = number
  default     = 1800

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 42600 && floor(var.timeout) == var.timeout
    error_message = "timeout must be a whole number from 1 to 42600 (seconds), not ${var.timeout}: SQS keeps a message in flight for at most 12 hours (43200), of which ten minutes are for starting and for returning messages."
  }
}

variable "visibility_timeout_seconds" {
  description = "Seconds until the message of a task that died becomes visible again{{ ', and its message group goes on' if cookiecutter.__fifo }}. The worker extends it after a third of this time for as long as it processes the message, so it does not limit how long that takes."
  type        = number
  default     = 120

  validation {
    condition     = var.visibility_timeout_seconds >= 30 && var.visibility_timeout_seconds <= 43200 && floor(var.visibility_timeout_seconds) == var.visibility_timeout_seconds
    error_message = "visibility_timeout_seconds must be a whole number from 30 to 43200, not ${var.visibility_timeout_seconds}."
  }
}

{% if not cookiecutter.__fifo %}
variable "batch_size" {
  description = "Maximum number of messages in one batch, which the handler processes one after the other. For long work keep 1, so that each message is deleted as soon as it is done."
  type        = number
  default     = 1

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10 && floor(var.batch_size) == var.batch_size
    error_message = "batch_size must be a whole number from 1 to 10, the most that SQS hands out at once, not ${var.batch_size}."
  }
}

{% endif %}
variable "pollers" {
  description = "Batches that one task processes at the same time, each in a process of its own. They share the task's CPU and memory."
  type        = number
  default     = 1

  validation {
    condition     = var.pollers >= 1 && var.pollers <= 64 && floor(var.pollers) == var.pollers
    error_message = "pollers must be a whole number from 1 to 64, not ${var.pollers}."
  }
}

# Number of tasks: autoscaling.tf

variable "min_capacity" {
  description = "Fewest tasks. 0: none run while there is nothing to do; then the first message waits about five minutes for a task, and up to a quarter of an hour longer after six quiet hours, when CloudWatch no longer polls the queue every minute. 1 costs the price of a task around the clock."
  type        = number
  default     = 0

  validation {
    condition     = var.min_capacity >= 0 && floor(var.min_capacity) == var.min_capacity
    error_message = "min_capacity must be a whole number, 0 or more, not ${var.min_capacity}."
  }
}

variable "max_capacity" {
{% if cookiecutter.__fifo %}
  description = "Maximum number of tasks: the limit of the cost and, together with pollers, of the load on downstream systems. Tasks beyond the number of message groups with messages have nothing to do, but may be started: messages that wait behind others of their group count towards the backlog too."
{% else %}
  description = "Maximum number of tasks: the limit of the cost and, together with pollers, of the load on downstream systems."
{% endif %}
  type        = number
  default     = 10

  validation {
    condition     = var.max_capacity >= 1 && var.max_capacity <= 5000 && floor(var.max_capacity) == var.max_capacity
    error_message = "max_capacity must be a whole number from 1 to 5000, not ${var.max_capacity}. To stop all tasks: make pause."
  }

  validation {
    condition     = var.min_capacity <= var.max_capacity
    error_message = "max_capacity (${var.max_capacity}) must be at least min_capacity (${var.min_capacity})."
  }
}

variable "backlog_per_task" {
  description = "Messages per task, waiting and in flight. Above it tasks are added, below it tasks are removed. To find it: the seconds that a message may wait, divided by the seconds that one takes, times pollers."
  type        = number
  default     = 10

  validation {
    condition     = var.backlog_per_task > 0
    error_message = "backlog_per_task must be more than 0, not ${var.backlog_per_task}."
  }
}
{% endif %}

# Queue

variable "paused" {
{% if cookiecutter.__fifo %}
  description = "Stop taking messages: make pause, make resume. They wait in the queue, for 14 days at most."
{% else %}
  description = "Stop taking messages: make pause, make resume. They wait in the queue, for 7 days at most."
{% endif %}
  type        = bool
  default     = false
}

variable "max_receive_count" {
{% if cookiecutter.__fifo %}
  description = "Times that a message is tried before it goes to the dead-letter queue and its group, which waits until then, goes on. With a batch_size above 1, code and queue must agree on which try is the last: change this, or hold_failed_groups, only while paused, and don't roll back past the change."
{% else %}
  description = "Times that a message is tried before it goes to the dead-letter queue."
{% endif %}
  type        = number
  default     = 5

  validation {
    condition     = var.max_receive_count >= 2 && var.max_receive_count <= 1000 && floor(var.max_receive_count) == var.max_receive_count
    error_message = "max_receive_count must be a whole number from 2 to 1000, not ${var.max_receive_count}. AWS recommends at least 5; with 1, a message that was only throttled or cut off would count as failed."
  }
}

{% if cookiecutter.__fifo %}
variable "batch_size" {
  description = "Maximum number of messages in one batch, which the handler processes one after the other. Above 1 there are fewer batches, but messages that are handed back behind a failed one of their group use up their tries with it, and a batch that is cut off (timeout, killed) is repeated as a whole: effects of its earlier messages can come again after those of later ones. With 1 neither happens."
  type        = number
  default     = 1

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10 && floor(var.batch_size) == var.batch_size
    error_message = "batch_size must be a whole number from 1 to 10, the most that a FIFO queue hands out at once, not ${var.batch_size}."
  }
}

variable "high_throughput" {
  description = "SQS's high throughput mode, for the same price: 300 calls of an action per second for each message group, up to the Region's quota. False: 300 for the whole queue."
  type        = bool
  default     = true
}

variable "hold_failed_groups" {
  description = "Never dead-letter a message: one that fails is tried again and again, and its group waits, until it succeeds or this is set to false. Then every message, of any group, that was tried max_receive_count times goes to the dead-letter queue when it is received the next time, and its group goes on. After 14 days in the queue, SQS deletes a message, and its group goes on without it."
  type        = bool
  default     = false
}

{% endif %}
variable "deletion_protection" {
  description = "Refuse every plan that would destroy, rename or replace a queue and lose its messages. README.md says under Protection how to end it: false alone does not."
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
    error_message = "log_retention_in_days must be a period that CloudWatch Logs has (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653), not ${var.log_retention_in_days}."
  }
}

variable "log_destination_arn" {
  description = "Second destination of the log: ARN of a Kinesis stream, a Firehose stream, a Lambda function or a CloudWatch Logs destination. The bootstrap's roles may use those in its variable log_destinations. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.log_destination_arn == null || can(regex("^arn:[^:]+:(kinesis|firehose|lambda|logs):", var.log_destination_arn))
    error_message = "log_destination_arn must be the ARN of a Kinesis stream, a Firehose stream, a Lambda function or a CloudWatch Logs destination, not ${jsonencode(var.log_destination_arn)}."
  }

  validation {
    condition     = try(regex("^arn:[^:]+:[^:]+:([^:]+):", var.log_destination_arn)[0], var.aws_region) == var.aws_region
    error_message = "log_destination_arn must be in the region aws_region (${var.aws_region}), as CloudWatch Logs sends to no other, not ${jsonencode(var.log_destination_arn)}."
  }
}

variable "alarm_actions" {
  description = "ARNs to notify when an alarm starts and when it ends, for example of an SNS topic that somebody reads. Empty: alarms only show in the console."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.alarm_actions) <= 5 && alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "alarm_actions must be at most 5 ARNs, such as arn:{{ cookiecutter.__partition }}:sns:{{ cookiecutter.aws_region }}:123456789012:on-call, not ${jsonencode(var.alarm_actions)}."
  }

  # Some ARNs, such as those of Incident Manager, name no region.
  validation {
    condition     = alltrue([for arn in var.alarm_actions : contains([var.aws_region, ""], try(split(":", arn)[3], ""))])
    error_message = "alarm_actions must be in the region aws_region (${var.aws_region}), as CloudWatch notifies no other, not ${jsonencode(var.alarm_actions)}."
  }
}

variable "runbook_url" {
  description = "URL of RUNBOOK.md in the repository. Alarms link to its sections."
  type        = string
  default     = "RUNBOOK.md"
}

variable "message_age_alarm_in_seconds" {
  description = "Age of the oldest message in the queue that raises the alarm. Null: 900, or four visibility timeouts if that is more, because a message that is retried gets that old."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.message_age_alarm_in_seconds, 60) >= 60
    error_message = "message_age_alarm_in_seconds must be 60 or more, not ${jsonencode(var.message_age_alarm_in_seconds)}."
  }
}

# Settings of the Lambda function and of what feeds it. The others: variables.tf

# Package

# No default: make sets it (TF_VAR_python_version) to what the package is built for.

variable "python_version" {
  description = "Python version that the package is built for."
  type        = string

  validation {
    condition     = contains(["3.11", "3.12", "3.13"], var.python_version)
    error_message = "python_version is 3.11, 3.12 or 3.13."
  }
}

variable "package_file" {
  description = "The package that make package writes; the path begins at this folder."
  type        = string
  default     = "../dist/lambda.zip"

  validation {
    condition     = var.package_hash != null || fileexists(var.package_file)
    error_message = "There is no package at ${var.package_file}: run make package first."
  }
}

variable "package_hash" {
  description = "SHA-256 of the deployed package, in Base64 (output package_hash): change settings only and leave the package as it is. Null: deploy package_file."
  type        = string
  default     = null
}

variable "artifact_bucket" {
  description = "S3 bucket in the same region that the package goes through. Lambda takes 50 MB directly and 250 MB unzipped through S3. Null: directly."
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
    error_message = "description has 256 characters at most: Lambda's limit."
  }
}

variable "live_version" {
  description = "Version of the function that gets the messages, to roll back to an earlier one. Null: the newest."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[1-9][0-9]*$", coalesce(var.live_version, "1")))
    error_message = "live_version is the number of a published version, like \"7\"."
  }
}

variable "canary_weight" {
  description = "Gradual release: the share of batches, from 0 to 0.99, that the newest version gets while live_version, the one before, gets the others."
  type        = number
  default     = 0

  validation {
    condition     = var.canary_weight >= 0 && var.canary_weight < 1
    error_message = "canary_weight is a share from 0 to 0.99."
  }

  validation {
    condition     = var.canary_weight == 0 || var.live_version != null
    error_message = "canary_weight needs live_version: the version that gets the other batches."
  }
}

variable "memory_size" {
  description = "Memory in MB. The processor's share grows with it (a whole one at 1769 MB): more memory often costs no more, since the function runs for a shorter time. Tune it by the duration and the peak memory in the log's REPORT lines."
  type        = number
  default     = 512

  validation {
    condition     = var.memory_size >= 128 && var.memory_size <= 10240 && floor(var.memory_size) == var.memory_size
    error_message = "memory_size is a whole number from 128 to 10240 (MB)."
  }
}

variable "timeout" {
  description = "Seconds that one batch may take. The queue's visibility time-out follows from it."
  type        = number
  default     = 30

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout is a whole number from 1 to 900 (seconds)."
  }
}

variable "tracing_mode" {
  description = "Active: Lambda sends traces of a sample of the invocations to X-Ray. PassThrough: none."
  type        = string
  default     = "Active"

  validation {
    condition     = contains(["Active", "PassThrough"], var.tracing_mode)
    error_message = "tracing_mode is Active or PassThrough."
  }
}

variable "layers" {
  description = "ARNs of Lambda layer versions, for example of an OpenTelemetry layer."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.layers) <= 5 && alltrue([for arn in var.layers : can(regex("^arn:[^:]+:lambda:[^:]+:[0-9]+:layer:[^:]+:[0-9]+$", arn))])
    error_message = "layers has at most 5 ARNs of layer versions, like arn:aws:lambda:eu-central-1:123456789012:layer:otel:1."
  }
}

variable "snap_start" {
  description = "Start from a snapshot of the initialised function instead of initialising it anew. It needs Python 3.12 or later, and code that makes connections and unique values after the start, not at import. It costs money for every published version that exists and for every start; publishing takes minutes."
  type        = bool
  default     = false

  validation {
    condition     = !var.snap_start || var.python_version != "3.11"
    error_message = "snap_start needs Python 3.12 or later; this service is built for ${var.python_version}."
  }
}

variable "subnet_ids" {
  description = "Subnets of the VPC that the function runs in. Empty: no VPC. From a VPC it needs a way to AWS's services."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups of the function in the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = (length(var.security_group_ids) > 0) == (length(var.subnet_ids) > 0)
    error_message = "subnet_ids and security_group_ids belong together: set both, or neither."
  }
}

# Queue to function

variable "event_source_mapping_enabled" {
  description = "Whether Lambda takes messages from the queue. False: they wait there, for seven days at most."
  type        = bool
  default     = true
}

variable "batch_size" {
  description = "Messages that one invocation gets at most."
  type        = number
  default     = 10

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10000 && floor(var.batch_size) == var.batch_size
    error_message = "batch_size is a whole number from 1 to 10000."
  }
}

variable "maximum_batching_window_in_seconds" {
  description = "Seconds that Lambda waits for a batch to fill."
  type        = number
  default     = 0

  validation {
    condition     = var.maximum_batching_window_in_seconds >= 0 && var.maximum_batching_window_in_seconds <= 300 && floor(var.maximum_batching_window_in_seconds) == var.maximum_batching_window_in_seconds
    error_message = "maximum_batching_window_in_seconds is a whole number from 0 to 300."
  }

  validation {
    condition     = var.batch_size <= 10 || var.maximum_batching_window_in_seconds >= 1
    error_message = "A batch_size above 10 needs a maximum_batching_window_in_seconds of at least 1."
  }
}

variable "maximum_concurrency" {
  description = "Batches that are processed at the same time at most: what the systems behind the service can take."
  type        = number
  default     = 10

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000 && floor(var.maximum_concurrency) == var.maximum_concurrency
    error_message = "maximum_concurrency is a whole number from 2 to 1000."
  }
}

# Settings of the ECS service, its tasks and their number. The others: variables.tf

# Image

variable "image_digest" {
  description = "Digest of the image that make image built; make hands it over (TF_VAR_image_digest)."
  type        = string
  default     = null

  validation {
    condition     = var.image_digest == null || can(regex("^sha256:[0-9a-f]{64}$", var.image_digest))
    error_message = "image_digest is sha256: and 64 hexadecimal digits, as make image prints it."
  }
}

variable "live_version" {
  description = "Revision of the task definition that is in place, to roll back to an earlier one. Null: the newest."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[1-9][0-9]*$", coalesce(var.live_version, "1")))
    error_message = "live_version is the number of a revision from make versions, like \"7\"."
  }
}

# Network

variable "subnet_ids" {
  description = "Subnets that the tasks run in, in two availability zones or more. They need a way to AWS's services (SQS, ECR, CloudWatch Logs …): a NAT gateway or VPC endpoints, or assign_public_ip."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : startswith(id, "subnet-")])
    error_message = "subnet_ids names no subnets: write the ids of those that the tasks are to run in into terraform/environments/${terraform.workspace}.tfvars, like subnet_ids = [\"subnet-0123456789abcdef0\"]."
  }
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address, for public subnets without a NAT gateway. AWS charges for each address."
  type        = bool
  default     = false
}

variable "security_group_ids" {
  description = "Security groups of the tasks. Empty: one of its own is made, that lets HTTPS out and nothing in."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.security_group_ids) <= 5 && alltrue([for id in var.security_group_ids : startswith(id, "sg-")])
    error_message = "security_group_ids has at most 5 ids, like sg-0123456789abcdef0."
  }
}

# Tasks

variable "cluster_arn" {
  description = "ARN of an ECS cluster to run in; it needs the capacity providers FARGATE and FARGATE_SPOT. Null: one of its own is made."
  type        = string
  default     = null

  validation {
    condition     = var.cluster_arn == null || can(regex("^arn:[^:]+:ecs:${var.aws_region}:[0-9]{12}:cluster/[A-Za-z0-9_-]{1,255}$", var.cluster_arn))
    error_message = "cluster_arn is the ARN of an ECS cluster in ${var.aws_region}, like arn:aws:ecs:${var.aws_region}:123456789012:cluster/shared."
  }
}

variable "cpu" {
  description = "Processor of a task in units, 1024 to a whole one: 256, 512, 1024, 2048, 4096, 8192 or 16384. Price goes by cpu and memory, for as long as a task runs."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu is 256, 512, 1024, 2048, 4096, 8192 or 16384 (1024 are one processor): Fargate has no others."
  }
}

variable "memory" {
  description = "Memory of a task in MB. Which values there are depends on cpu."
  type        = number
  default     = 512

  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
  validation {
    condition = contains(
      lookup(
        {
          "256"   = [512, 1024, 2048]
          "512"   = range(1024, 4097, 1024)
          "1024"  = range(2048, 8193, 1024)
          "2048"  = range(4096, 16385, 1024)
          "4096"  = range(8192, 30721, 1024)
          "8192"  = range(16384, 61441, 4096)
          "16384" = range(32768, 122881, 8192)
        },
        tostring(var.cpu),
        [var.memory], # a wrong cpu is refused itself
      ),
      var.memory
    )
    error_message = "memory = ${var.memory} does not go with cpu = ${var.cpu}: Fargate has 512, 1024 or 2048 (MB) with cpu 256, 1024 to 4096 with 512, 2048 to 8192 with 1024, 4096 to 16384 with 2048 and 8192 to 30720 with 4096, each in steps of 1024; 16384 to 61440 with 8192 in steps of 4096; 32768 to 122880 with 16384 in steps of 8192."
  }
}

variable "fargate_spot" {
  description = "Run on Fargate Spot: for about a third of the price, and AWS may stop a task with two minutes' notice; its messages come back and are tried again, which counts towards max_receive_count. Not for batches that take hours."
  type        = bool
  default     = false
}

variable "stop_timeout" {
  description = "Seconds that a task has to finish or give back its messages when it is stopped."
  type        = number
  default     = 120

  validation {
    condition     = var.stop_timeout >= 10 && var.stop_timeout <= 120 && floor(var.stop_timeout) == var.stop_timeout
    error_message = "stop_timeout is a whole number from 10 to 120 (seconds): Fargate has no more."
  }
}

# Queue to tasks

variable "timeout" {
  description = "Seconds that one batch may take; then it is given up, and its messages come back. For more than 1800 an apply does not wait until the old tasks are gone."
  type        = number
  default     = 1800

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 42600 && floor(var.timeout) == var.timeout
    error_message = "timeout is a whole number from 1 to 42600 (seconds): SQS lets nobody keep a message for longer than 12 hours (43200), and ten minutes are for starting and giving back."
  }
}

variable "visibility_timeout_seconds" {
  description = "Seconds until a message whose task is gone comes back. The worker extends it at a third of this time, for as long as it works on the message, so it does not limit how long that takes."
  type        = number
  default     = 120

  validation {
    condition     = var.visibility_timeout_seconds >= 30 && var.visibility_timeout_seconds <= 43200 && floor(var.visibility_timeout_seconds) == var.visibility_timeout_seconds
    error_message = "visibility_timeout_seconds is a whole number from 30 to 43200."
  }
}

variable "batch_size" {
  description = "Messages that the handler gets at once, one after the other: with work that takes long, 1, so that what is done is deleted at once."
  type        = number
  default     = 1

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10 && floor(var.batch_size) == var.batch_size
    error_message = "batch_size is a whole number from 1 to 10: SQS hands out no more at once."
  }
}

variable "pollers" {
  description = "Batches that one task works on at the same time, each in a process of its own: they share the task's cpu and memory."
  type        = number
  default     = 1

  validation {
    condition     = var.pollers >= 1 && var.pollers <= 64 && floor(var.pollers) == var.pollers
    error_message = "pollers is a whole number from 1 to 64."
  }
}

# Number of tasks: autoscaling.tf

variable "min_capacity" {
  description = "Tasks that run at least. 0: none while there is nothing to do; then the first message waits for about five minutes until one runs, and for up to a quarter of an hour longer after six quiet hours, when CloudWatch no longer looks at the queue every minute. 1 costs a task's price around the clock."
  type        = number
  default     = 0

  validation {
    condition     = var.min_capacity >= 0 && floor(var.min_capacity) == var.min_capacity
    error_message = "min_capacity is a whole number, 0 or more."
  }
}

variable "max_capacity" {
  description = "Tasks that run at most: the limit of what this costs, and with pollers, of what the systems behind the service have to take."
  type        = number
  default     = 10

  validation {
    condition     = var.max_capacity >= 1 && var.max_capacity <= 5000 && floor(var.max_capacity) == var.max_capacity
    error_message = "max_capacity is a whole number from 1 to 5000. To stop all tasks: make pause."
  }

  validation {
    condition     = var.min_capacity <= var.max_capacity
    error_message = "min_capacity (${var.min_capacity}) is more than max_capacity (${var.max_capacity})."
  }
}

variable "backlog_per_task" {
  description = "Messages, waiting and in flight, per task: with more of them tasks are added, with fewer they are taken away. The seconds that a message may wait, divided by those that one takes, times pollers."
  type        = number
  default     = 10

  validation {
    condition     = var.backlog_per_task > 0
    error_message = "backlog_per_task is more than 0."
  }
}

variable "paused" {
  description = "Whether no task runs and messages wait in the queue, for seven days at most: make pause, make resume."
  type        = bool
  default     = false
}

# Settings that a service on Fargate refuses.

mock_provider "aws" {
  mock_data "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:found-by-name" }
  }
}

variables {
  aws_region   = "us-east-1"
  architecture = "arm64"
  subnet_ids   = ["subnet-1"]
  image_digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
}

run "no_image" {
  command = plan

  variables {
    image_digest = null
  }

  expect_failures = [aws_ecs_task_definition.this]
}

run "below_the_limits" {
  command = plan

  variables {
    subnet_ids                 = []
    cpu                        = 128
    timeout                    = 0
    visibility_timeout_seconds = 10
    stop_timeout               = 5
    batch_size                 = 0
    pollers                    = 0
    min_capacity               = -1
    backlog_per_task           = 0
  }

  expect_failures = [
    var.subnet_ids,
    var.cpu,
    var.timeout,
    var.visibility_timeout_seconds,
    var.stop_timeout,
    var.batch_size,
    var.pollers,
    var.min_capacity,
    var.backlog_per_task,
  ]
}

run "above_the_limits" {
  command = plan

  variables {
    cpu                        = 1024
    memory                     = 1024  # too little for this cpu
    timeout                    = 42601 # SQS's twelve hours, less ten minutes, and one second
    visibility_timeout_seconds = 43201
    stop_timeout               = 121
    batch_size                 = 11
    pollers                    = 65
    max_capacity               = 5001
  }

  expect_failures = [
    var.memory,
    var.timeout,
    var.visibility_timeout_seconds,
    var.stop_timeout,
    var.batch_size,
    var.pollers,
    var.max_capacity,
  ]
}

run "values_of_the_wrong_form_on_fargate" {
  command = plan

  variables {
    subnet_ids         = ["vpc-1"]
    security_group_ids = ["default"]
    cluster_arn        = "arn:aws:ecs:eu-central-1:123456789012:cluster/in-another-region"
    image_digest       = "latest"
    live_version       = "this-one:7"
    cpu                = 8192
    memory             = 17408 # between two sizes
    max_capacity       = 0
  }

  expect_failures = [
    var.subnet_ids,
    var.security_group_ids,
    var.cluster_arn,
    var.image_digest,
    var.live_version,
    var.memory,
    var.max_capacity,
  ]
}

run "min_capacity_above_max_capacity" {
  command = plan

  variables {
    min_capacity = 3
    max_capacity = 2
  }

  expect_failures = [var.max_capacity]
}

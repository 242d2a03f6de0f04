# Settings that a service on Lambda refuses, each with a sentence that names the variable.

mock_provider "aws" {
  mock_data "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:found-by-name" }
  }
}

variables {
  aws_region     = "us-east-1"
  python_version = "3.13"
  architecture   = "arm64"
  package_file   = "tests/refused.tftest.hcl" # any file will do
}

run "missing_package" {
  command = plan

  variables {
    package_file = "missing.zip"
  }

  expect_failures = [var.package_file]
}

run "numbers_below_their_limits" {
  command = plan

  variables {
    memory_size         = 64
    timeout             = 0
    batch_size          = 0
    maximum_concurrency = 1
  }

  expect_failures = [
    var.memory_size,
    var.timeout,
    var.batch_size,
    var.maximum_concurrency,
  ]
}

run "numbers_above_their_limits" {
  command = plan

  variables {
    memory_size         = 10241
    timeout             = 901
    batch_size          = 10001
    maximum_concurrency = 1001
    canary_weight       = 1
  }

  expect_failures = [
    var.memory_size,
    var.timeout,
    var.batch_size,
    var.maximum_concurrency,
    var.canary_weight,
  ]
}

run "values_that_do_not_exist_on_lambda" {
  command = plan

  variables {
    python_version                     = "3.9"
    live_version                       = "$LATEST"
    description                        = join("", [for _ in range(257) : "x"])
    tracing_mode                       = "On"
    maximum_batching_window_in_seconds = 301
    layers                             = ["arn:aws:lambda:us-east-1:123456789012:layer:without-version"]
  }

  expect_failures = [
    var.python_version,
    var.live_version,
    var.description,
    var.tracing_mode,
    var.maximum_batching_window_in_seconds,
    var.layers,
  ]
}

run "large_batch_without_window" {
  command = plan

  variables {
    batch_size                         = 11
    maximum_batching_window_in_seconds = 0
  }

  expect_failures = [var.maximum_batching_window_in_seconds]
}

run "snap_start_on_python_3_11" {
  command = plan

  variables {
    snap_start     = true
    python_version = "3.11"
  }

  expect_failures = [var.snap_start]
}

run "subnets_without_security_groups" {
  command = plan

  variables {
    subnet_ids         = ["subnet-1"]
    security_group_ids = []
  }

  expect_failures = [var.security_group_ids]
}

run "canary_without_live_version" {
  command = plan

  variables {
    canary_weight = 0.1
  }

  expect_failures = [var.canary_weight]
}

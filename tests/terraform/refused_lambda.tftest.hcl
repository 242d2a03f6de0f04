# Settings that a service on Lambda refuses.

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

run "below_the_limits" {
  command = plan

  variables {
    package_file        = "missing.zip"
    memory_size         = 64
    timeout             = 0
    batch_size          = 0
    maximum_concurrency = 1
    provisioned_pollers = { minimum = 1, maximum = 20 }
    ipv6                = true
  }

  expect_failures = [
    var.package_file,
    var.memory_size,
    var.timeout,
    var.batch_size,
    var.maximum_concurrency,
    var.provisioned_pollers,
    var.ipv6,
  ]
}

run "above_the_limits" {
  command = plan

  variables {
    memory_size         = 10241
    timeout             = 901
    batch_size          = 10001
    maximum_concurrency = 1001
    provisioned_pollers = { minimum = 20, maximum = 2001 }
    canary_weight       = 1
    description         = join("", [for _ in range(257) : "x"])
  }

  expect_failures = [
    var.memory_size,
    var.timeout,
    var.batch_size,
    var.maximum_concurrency,
    var.provisioned_pollers,
    var.canary_weight,
    var.description,
  ]
}

run "values_of_the_wrong_form_on_lambda" {
  command = plan

  variables {
    python_version                     = "3.9"
    live_version                       = "$LATEST"
    tracing_mode                       = "On"
    layers                             = ["arn:aws:lambda:us-east-1:123456789012:layer:without-version"]
    maximum_batching_window_in_seconds = 301
  }

  expect_failures = [
    var.python_version,
    var.live_version,
    var.tracing_mode,
    var.layers,
    var.maximum_batching_window_in_seconds,
  ]
}

run "layers_of_another_region" {
  command = plan

  variables {
    layers = ["arn:aws:lambda:eu-central-1:123456789012:layer:theirs:1"]
  }

  expect_failures = [var.layers]
}

run "layers_of_another_architecture" {
  command = plan

  variables {
    layers = ["arn:aws:lambda:us-east-1:901920570463:layer:aws-otel-python-amd64-ver-1-32-0:2"]
  }

  expect_failures = [var.layers]
}

run "settings_that_do_not_go_together" {
  command = plan

  variables {
    batch_size    = 11           # without a window
    subnet_ids    = ["subnet-1"] # without security groups
    canary_weight = 0.1          # without live_version
  }

  expect_failures = [
    var.maximum_batching_window_in_seconds,
    var.security_group_ids,
    var.canary_weight,
  ]
}

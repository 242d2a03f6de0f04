# Settings that a FIFO service refuses, beside those of every service.

mock_provider "aws" {
  mock_data "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:found-by-name.fifo" }
  }
}

variables {
  aws_region     = "us-east-1"
  python_version = "3.13"
  architecture   = "arm64"
  event_types    = ["order.created"]
  package_file   = "tests/refused.tftest.hcl" # any file will do
}

run "standard_topic_by_its_name" {
  command = plan

  variables {
    sns_topic_name                     = "orders"
    batch_size                         = 11
    maximum_batching_window_in_seconds = 0
  }

  expect_failures = [
    var.sns_topic_name,
    var.batch_size,
    var.maximum_batching_window_in_seconds,
  ]
}

run "standard_topic_by_its_arn" {
  command = plan

  variables {
    sns_topic_arn = "arn:aws:sns:us-east-1:123456789012:theirs"
    batch_size    = 0
  }

  expect_failures = [
    var.sns_topic_arn,
    var.batch_size,
  ]
}

run "name_that_is_too_long" {
  command = plan

  variables {
    sns_topic_name = "${join("", [for _ in range(252) : "x"])}.fifo"
    batch_size     = 1.5
  }

  expect_failures = [
    var.sns_topic_name,
    var.batch_size,
  ]
}

# What is refused, each with a sentence that names the variable. These run without AWS: make validate

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

run "workspace_that_is_no_environment" {
  command = plan

  variables {
    environments = ["staging"] # the tests run in one that is not in this list
  }

  expect_failures = [var.environments]
}

run "names" {
  command = plan

  variables {
    service              = "order_events"
    product              = "a\"b"
    owner                = ""
    aws_region           = "us-east"
    allowed_account_ids  = ["12345"]
    sns_topic_name       = "orders.fifo"
    iam_path             = "services"
    permissions_boundary = "limit"
  }

  expect_failures = [
    var.service,
    var.product,
    var.owner,
    var.aws_region,
    var.allowed_account_ids,
    var.sns_topic_name,
    var.iam_path,
    var.permissions_boundary,
  ]
}

run "service_with_a_long_name" {
  command = plan

  variables {
    service = "a234567890-234567890-234567890-2345678901"
  }

  expect_failures = [var.service]
}

run "topic_of_another_region" {
  command = plan

  variables {
    sns_topic_arn = "arn:aws:sns:eu-central-1:123456789012:theirs"
  }

  expect_failures = [var.sns_topic_arn]
}

run "topic_of_type_fifo" {
  command = plan

  variables {
    sns_topic_arn = "arn:aws:sns:us-east-1:123456789012:theirs.fifo"
  }

  expect_failures = [var.sns_topic_arn]
}

run "two_topics" {
  command = plan

  variables {
    sns_topic_arn  = "arn:aws:sns:us-east-1:123456789012:theirs"
    sns_topic_name = "ours"
  }

  expect_failures = [var.sns_topic_arn]
}

run "no_event_types" {
  command = plan

  variables {
    event_types = []
  }

  expect_failures = [var.event_types]
}

run "event_type_with_a_star_inside" {
  command = plan

  variables {
    event_types = ["a*b"]
  }

  expect_failures = [var.event_types]
}

run "event_type_with_a_comma" {
  command = plan

  variables {
    event_types = ["a,b"]
  }

  expect_failures = [var.event_types]
}

run "package_that_is_missing" {
  command = plan

  variables {
    package_file = "missing.zip"
  }

  expect_failures = [var.package_file]
}

run "numbers_that_are_too_small" {
  command = plan

  variables {
    memory_size                  = 64
    timeout                      = 0
    batch_size                   = 0
    maximum_concurrency          = 1
    max_receive_count            = 1
    message_age_alarm_in_seconds = 10
  }

  expect_failures = [
    var.memory_size,
    var.timeout,
    var.batch_size,
    var.maximum_concurrency,
    var.max_receive_count,
    var.message_age_alarm_in_seconds,
  ]
}

run "numbers_that_are_too_large" {
  command = plan

  variables {
    memory_size         = 10241
    timeout             = 901
    batch_size          = 10001
    maximum_concurrency = 1001
    max_receive_count   = 1001
  }

  expect_failures = [
    var.memory_size,
    var.timeout,
    var.batch_size,
    var.maximum_concurrency,
    var.max_receive_count,
  ]
}

run "values_that_aws_does_not_have" {
  command = plan

  variables {
    python_version                     = "3.9"
    architecture                       = "riscv64"
    live_version                       = "$LATEST"
    log_level                          = "LOUD"
    tracing_mode                       = "On"
    log_retention_in_days              = 31
    maximum_batching_window_in_seconds = 301
    log_destination_arn                = "arn:aws:s3:::bucket"
    alarm_actions                      = ["on-call"]
    layers                             = ["arn:aws:lambda:us-east-1:123456789012:layer:without-version"]
  }

  expect_failures = [
    var.python_version,
    var.architecture,
    var.live_version,
    var.log_level,
    var.tracing_mode,
    var.log_retention_in_days,
    var.maximum_batching_window_in_seconds,
    var.log_destination_arn,
    var.alarm_actions,
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

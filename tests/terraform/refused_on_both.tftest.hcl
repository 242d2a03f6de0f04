# Settings that both computes refuse. test_refused_settings.py puts these runs after those of a compute.

run "workspace_that_is_not_an_environment" {
  command = plan

  variables {
    environments = ["staging"] # the tests run in dev
  }

  expect_failures = [var.environments]
}

run "values_of_the_wrong_form" {
  command = plan

  variables {
    service                      = "order_events"
    product                      = "a\"b"
    owner                        = ""
    aws_region                   = "us-east"
    allowed_account_ids          = ["12345"]
    sns_topic_name               = "orders.fifo"
    iam_path                     = "services"
    permissions_boundary         = "limit"
    architecture                 = "riscv64"
    log_level                    = "LOUD"
    log_retention_in_days        = 31
    max_receive_count            = 1
    message_age_alarm_in_seconds = 10
    event_types                  = [] # none
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
    var.architecture,
    var.log_level,
    var.log_retention_in_days,
    var.max_receive_count,
    var.message_age_alarm_in_seconds,
    var.event_types,
  ]
}

run "above_the_limits_and_topic_in_another_region" {
  command = plan

  variables {
    service           = "a234567890-234567890-234567890-2345678901"
    max_receive_count = 1001
    sns_topic_arn     = "arn:aws:sns:eu-central-1:123456789012:theirs"
    event_types       = ["a*b"] # a star inside
    alarm_actions     = ["on-call"]

    # In another region, and a level that would hide failed messages
    log_destination_arn = "arn:aws:logs:eu-central-1:123456789012:destination:central"
    log_level           = "FATAL"
  }

  expect_failures = [
    var.service,
    var.max_receive_count,
    var.sns_topic_arn,
    var.event_types,
    var.alarm_actions,
    var.log_destination_arn,
    var.log_level,
  ]
}

run "alarms_that_notify_another_region" {
  command = plan

  variables {
    alarm_actions = [
      "arn:aws:ssm-incidents::123456789012:response-plan/on-call", # of every region
      "arn:aws:sns:eu-central-1:123456789012:on-call",
    ]
  }

  expect_failures = [var.alarm_actions]
}

run "fifo_topic" {
  command = plan

  variables {
    sns_topic_arn = "arn:aws:sns:us-east-1:123456789012:theirs.fifo"
    event_types   = [for number in range(21) : "type-${number}"] # more than 20

    log_destination_arn = "arn:aws:s3:::bucket"
  }

  expect_failures = [
    var.sns_topic_arn,
    var.event_types,
    var.log_destination_arn,
  ]
}

run "two_topics" {
  command = plan

  variables {
    sns_topic_arn  = "arn:aws:sns:us-east-1:123456789012:theirs"
    sns_topic_name = "ours"
  }

  expect_failures = [var.sns_topic_arn]
}

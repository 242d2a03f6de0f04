# What AWS would answer, so that policies can be read in the plan.

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:this-one" }
}
mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/services/this-one" }
}
mock_resource "aws_dynamodb_table" {
  defaults = { arn = "arn:aws:dynamodb:us-east-1:123456789012:table/this-one" }
}
mock_resource "aws_cloudwatch_metric_alarm" {
  defaults = { arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:one" }
}
mock_data "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:us-east-1:123456789012:found-by-name" }
}
override_resource {
  target = aws_sqs_queue.main
  values = { arn = "arn:aws:sqs:us-east-1:123456789012:main" }
}
override_resource {
  target = aws_sqs_queue.dead_letter
  values = { arn = "arn:aws:sqs:us-east-1:123456789012:dead-letter" }
}
override_resource {
  target = aws_sqs_queue.undelivered
  values = { arn = "arn:aws:sqs:us-east-1:123456789012:undelivered" }
}

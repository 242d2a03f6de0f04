# What AWS would answer, so that the tests can read policies in the plan.

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:this-one" }
}
mock_resource "aws_cloudwatch_metric_alarm" {
  defaults = { arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:one" }
}
{% if cookiecutter.idempotency == "yes" %}
mock_resource "aws_dynamodb_table" {
  defaults = { arn = "arn:aws:dynamodb:us-east-1:123456789012:table/this-one" }
}
{% endif %}
mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/services/this-one" }
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
{% if cookiecutter.compute == "lambda" %}
mock_resource "aws_lambda_function" {
  defaults = {
    arn     = "arn:aws:lambda:us-east-1:123456789012:function:this-one"
    version = "7"
  }
}
mock_resource "aws_lambda_alias" {
  defaults = { arn = "arn:aws:lambda:us-east-1:123456789012:function:this-one:live" }
}
{% else %}
mock_resource "aws_appautoscaling_policy" {
  defaults = { arn = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:one" }
}
mock_resource "aws_ecr_repository" {
  defaults = {
    arn            = "arn:aws:ecr:us-east-1:123456789012:repository/this-one"
    repository_url = "123456789012.dkr.ecr.us-east-1.amazonaws.com/this-one"
  }
}
mock_resource "aws_ecs_cluster" {
  defaults = { arn = "arn:aws:ecs:us-east-1:123456789012:cluster/own" }
}
mock_resource "aws_ecs_task_definition" {
  defaults = {
    arn                  = "arn:aws:ecs:us-east-1:123456789012:task-definition/this-one:7"
    arn_without_revision = "arn:aws:ecs:us-east-1:123456789012:task-definition/this-one"
  }
}
mock_resource "aws_security_group" {
  defaults = { id = "sg-own" }
}
mock_data "aws_subnet" {
  defaults = { vpc_id = "vpc-1" }
}
{% endif %}

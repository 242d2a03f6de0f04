# What ECS, ECR and EC2 would answer.

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
mock_resource "aws_appautoscaling_policy" {
  defaults = { arn = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:one" }
}
mock_data "aws_subnet" {
  defaults = { vpc_id = "vpc-1" }
}

# What a function needs to run: its log, traces, a place in the network.

locals {
  runs_on = "lambda.amazonaws.com"

  permissions_to_run = concat(
    [
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.function.arn}:*" # the log group's streams
      },
    ],
    var.tracing_mode != "Active" ? [] : [
      {
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
        Resource = "*" # AWS has no resource level here
      },
    ],
    !local.in_vpc ? [] : [
      {
        Sid    = "Network"
        Effect = "Allow"
        Action = [
          "ec2:AssignPrivateIpAddresses",
          "ec2:CreateNetworkInterface",
          "ec2:DeleteNetworkInterface",
          "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets",
          "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = "*" # no resource level for Describe; Lambda names the interfaces
      },
    ],
  )
}

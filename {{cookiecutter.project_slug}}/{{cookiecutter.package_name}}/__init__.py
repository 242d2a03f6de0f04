"""The business logic: plain Python that knows nothing of Lambda, SQS or SNS."""

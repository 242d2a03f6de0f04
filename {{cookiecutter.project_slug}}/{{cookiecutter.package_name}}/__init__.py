"""The business logic: plain Python that knows nothing about Lambda, SQS or SNS."""

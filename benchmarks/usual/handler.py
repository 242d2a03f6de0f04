"""The usual stack: powertools' logger, metrics, tracer and batch processor, and pydantic."""

from datetime import datetime
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

logger = Logger()
metrics = Metrics()
tracer = Tracer()
processor = BatchProcessor(event_type=EventType.SQS)


class Event(BaseModel):
    """The JSON body of a message."""

    id: str
    occurred_at: datetime
    data: dict[str, Any]


@tracer.capture_method
def record_handler(record: SQSRecord) -> None:
    """Process one message."""
    event = Event.model_validate_json(record.body)
    metrics.add_metric(name="MessagesProcessed", unit=MetricUnit.Count, value=1)
    logger.info("Message processed", event_id=event.id)


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Process a batch of SQS messages; return those that failed."""
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )

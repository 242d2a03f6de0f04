"""Entry point: opens a batch of SQS messages and hands each message to the business logic.

Messages succeed or fail one by one. Those that fail are named in the response (a partial batch
response): they become visible in the queue again, and end up in the dead-letter queue after
``max_receive_count`` receives. The others are deleted.
"""

import json
import logging
import os
import traceback
from functools import partial
from typing import Any

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

import {{ cookiecutter.package_name }}
from {{ cookiecutter.package_name }}.events import MessageError, decode_event
{% if cookiecutter.idempotency == "yes" %}
from {{ cookiecutter.package_name }}.idempotency import process, register_context
{% else %}
from {{ cookiecutter.package_name }}.service import process
{% endif %}

# What the subscription's filter policy lets through; Terraform sets it. `order.*` means every type
# that begins with `order.`.
EVENT_TYPES = tuple(os.environ["EVENT_TYPES"].split(","))

# `make smoke` sends this type to the queue to see whether messages get here; it has no effect.
SMOKE_TEST = "smoke_test"

# ASCII with escapes: no character in a message's attributes can break a line of the log.
logger = Logger(json_serializer=partial(json.dumps, default=str, separators=(",", ":")))
metrics = Metrics()
metrics.set_default_dimensions(environment=os.environ["ENVIRONMENT"])

# The package uses Python's own logging; its lines get the same JSON format.
package_logger = logging.getLogger({{ cookiecutter.package_name }}.__name__)
package_logger.handlers = [logger.registered_handler]
package_logger.setLevel(logger.log_level)
package_logger.propagate = False


class EnvelopeAttribute(msgspec.Struct, rename="pascal"):
    """A message attribute inside an SNS envelope."""

    value: str


class Envelope(msgspec.Struct, rename="pascal"):
    """What SNS wraps a message in when raw message delivery is off."""

    message: str
    message_attributes: dict[str, EnvelopeAttribute] = {}


_decode_envelope = msgspec.json.Decoder(Envelope).decode


@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, list[dict[str, str]]]:
    """Process a batch of SQS messages.

    :param event: Lambda's SQS event, ``{"Records": [...]}``.
    :returns: the messages that failed, ``{"batchItemFailures": [{"itemIdentifier": id}, …]}``.
    """
    # A simple loop instead of powertools' BatchProcessor: the contract with SQS is this one
    # dictionary, and importing the processor would make the cold start half as long again.
{% if cookiecutter.idempotency == "yes" %}
    register_context(context)
{% endif %}
    records = event["Records"]
    failed = [record["messageId"] for record in records if not _succeeds(record)]
    metrics.add_metric("MessagesProcessed", MetricUnit.Count, len(records) - len(failed))
    metrics.add_metric("MessagesFailed", MetricUnit.Count, len(failed))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _succeeds(record: dict[str, Any]) -> bool:
    """Process one message and log the outcome; never raises, so other messages aren't affected."""
    keys = {"message_id": record["messageId"]}
    try:
        body, attributes = _open(record)
        event_type = attributes["event_type"]
        keys["event_type"] = event_type
        keys["correlation_id"] = attributes.get("correlation_id", record["messageId"])
        with logger.append_context_keys(**keys):
            if event_type == SMOKE_TEST:
                logger.info("Smoke test received")
                return True
            if not _is_expected(event_type):
                raise MessageError(f"event_type is none of EVENT_TYPES, {', '.join(EVENT_TYPES)}")
            process(event_type, decode_event(body))
            logger.info("Message processed")
    except MessageError as error:
        logger.error("Message failed", error=str(error), **keys)
    except Exception as error:
        # The text of any other exception may quote the payload, which must not be logged: its type
        # and its stack must do.
        stack = traceback.extract_tb(error.__traceback__)
        places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]
        logger.error("Message failed", error=type(error).__name__, stack=places, **keys)
    else:
        return True
    return False


def _open(record: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return a message's body and its attributes.

    They are in the record itself (raw message delivery) or in the SNS envelope in its body.

    :raises MessageError: neither has the attribute ``event_type``.
    """
    attributes = {
        name: attribute["stringValue"]
        for name, attribute in record["messageAttributes"].items()
        if "stringValue" in attribute
    }
    if "event_type" in attributes:
        return record["body"], attributes
    try:
        envelope = _decode_envelope(record["body"])
    except (msgspec.MsgspecError, RecursionError):
        envelope = Envelope(message="")
    attributes = {name: attr.value for name, attr in envelope.message_attributes.items()}
    if "event_type" not in attributes:
        raise MessageError("no attribute event_type, on the message or in an SNS envelope")
    return envelope.message, attributes


def _is_expected(event_type: str) -> bool:
    """Tell whether the subscription's filter policy lets this type through."""
    return any(
        event_type.startswith(expected[:-1]) if expected.endswith("*") else event_type == expected
        for expected in EVENT_TYPES
    )

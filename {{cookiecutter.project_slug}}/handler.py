"""Entry point: opens a batch of SQS messages and hands each message to the business logic.

Messages succeed or fail one by one. Those that fail are named in the response (a partial batch
response): they become visible in the queue again, and end up in the dead-letter queue after
``max_receive_count`` receives. The others are deleted.
{% if cookiecutter.__fifo %}

The messages of a message group keep their order. Those behind one that failed are not processed but
handed back with it: they come again, in the same order. A message that fails at its last receive
goes to the dead-letter queue, so its group goes on.
{% endif %}
"""

import json
import logging
import os
import re
import signal
import sys
import threading
import traceback
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

import {{ cookiecutter.package_name }}
from {{ cookiecutter.package_name }}.events import EVENTS
{% if cookiecutter.idempotency == "yes" %}
from {{ cookiecutter.package_name }}.idempotency import process, register_context
{% endif %}
from {{ cookiecutter.package_name }}.message import MessageError, decode_event
{% if cookiecutter.idempotency == "no" %}
from {{ cookiecutter.package_name }}.service import process
{% endif %}

# `make smoke` sends this type to the queue to see whether messages get here; it has no effect.
SMOKE_TEST = "smoke_test"

# Local runs set this, Terraform never does: whole tracebacks are logged, and their texts may quote
# payload.
LOCAL_RUN = bool(os.environ.get("LOCAL_RUN"))

{% if cookiecutter.__fifo %}
# The receive at which SQS gives a message up: if it fails then, the dead-letter queue gets it. Not
# set while a failed message holds its group until it succeeds.
MAX_RECEIVE_COUNT = int(os.environ.get("MAX_RECEIVE_COUNT") or sys.maxsize)

{% endif %}
# AWS's error codes and operations, such as AccessDeniedException and PutItem; "404" is one, too.
AWS_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}")

# LOG_LEVEL decides what is logged. Powertools and the libraries would go by Lambda's own level,
# which is never above INFO, since Lambda would drop the metrics, too.
if os.environ.pop("AWS_LAMBDA_LOG_LEVEL", None):
    logging.getLogger().setLevel(os.environ.get("LOG_LEVEL", "INFO").upper())

# ASCII with escapes: no character in a message's attributes can break a line of the log.
logger = Logger(
    json_serializer=json.JSONEncoder(default=str, separators=(",", ":")).encode,
    use_rfc3339=True,  # the only timestamps that Lambda reads
)
metrics = Metrics()
metrics.set_default_dimensions(environment=os.environ["ENVIRONMENT"])

# The package uses Python's own logging; its lines get the same JSON format. So does what others
# log: warnings, asyncio, and, where nothing else handles them, all libraries.
package_logger = logging.getLogger({{ cookiecutter.package_name }}.__name__)
package_logger.setLevel(logger.log_level)
asyncio_logger = logging.getLogger("asyncio")
smoke_logger = logging.getLogger(SMOKE_TEST)
smoke_logger.setLevel(logging.INFO)  # `make smoke` waits for its line, whatever LOG_LEVEL is
for other in (package_logger, asyncio_logger, smoke_logger, logging.getLogger("py.warnings")):
    other.handlers = [logger.registered_handler]
    other.propagate = False
logging.captureWarnings(True)
logging.lastResort = logger.registered_handler

# At level DEBUG, they log whole requests, with payload and credentials.
for library in ("boto3", "botocore"):
    logging.getLogger(library).setLevel(logging.INFO)


def _describe(error: BaseException) -> dict[str, Any]:
    """Return what the log says of an exception: names and places, as its text may quote payload."""
    if LOCAL_RUN:
        return {"error": _name(error), "exception": "".join(traceback.format_exception(error))}
    causes = ", ".join(_name(cause) for cause in _causes(error))
    stack = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]
    return {"error": _name(error), **({"causes": causes} if causes else {}), "stack": places}


def _name(error: BaseException) -> str:
    """Name an exception's type; if AWS refused a request, also the operation and the error code."""
    name = type(error).__name__
    # Imported by the code that calls AWS, if any does.
    botocore = sys.modules.get("botocore.exceptions")
    if botocore and isinstance(error, botocore.ClientError):
        with suppress(AttributeError, LookupError, TypeError):  # not as botocore makes it
            code, operation = error.response["Error"]["Code"], error.operation_name
            if AWS_CODE.fullmatch(code) and AWS_CODE.fullmatch(operation):
                return f"{name} ({operation}: {code})"
    return name


def _causes(error: BaseException) -> list[BaseException]:
    """Return what led to an exception and what a group holds, the nearest first, ten at most."""
    found = [error]
    for one in found:
        context = None if one.__suppress_context__ else one.__context__
        group = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for cause in (one.__cause__, context, *group):
            if cause is not None and len(found) <= 10 and all(cause is not e for e in found):
                found.append(cause)
    return found[1:]


def _log_lost(what: str, lost: Any) -> None:
    """Log an exception that nobody catches; Python would print its text."""
    if lost.exc_type is not SystemExit:  # a thread may end itself like this
        logger.error(what, **_describe(lost.exc_value))


def _hide_text(line: logging.LogRecord) -> bool:
    """Leave of what asyncio logs on an exception its first line, which quotes none."""
    if line.exc_info and line.exc_info[1]:
        line.msg, line.args = line.getMessage().partition("\n")[0], ()
        line.__dict__.update(_describe(line.exc_info[1]))
        line.exc_info = None
    return True


threading.excepthook = partial(_log_lost, "A thread failed")
sys.unraisablehook = partial(_log_lost, "An exception was ignored")
asyncio_logger.addFilter(_hide_text)


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
{% if cookiecutter.__fifo %}
    :returns: the messages that failed or were held back behind one that did,
        ``{"batchItemFailures": [{"itemIdentifier": id}, …]}``.
{% else %}
    :returns: the messages that failed, ``{"batchItemFailures": [{"itemIdentifier": id}, …]}``.
{% endif %}
    """
    # A simple loop instead of powertools' BatchProcessor: the contract with SQS is this one
    # dictionary, and importing the processor would make the cold start half as long again.
{% if cookiecutter.idempotency == "yes" %}
    register_context(context)
{% endif %}
    records = event["Records"]
{% if cookiecutter.__fifo %}
    failed, held_back = _process_in_order(records)
    returned = failed + held_back
    metrics.add_metric("MessagesProcessed", MetricUnit.Count, len(records) - len(returned))
    metrics.add_metric("MessagesFailed", MetricUnit.Count, len(failed))
    metrics.add_metric("MessagesHeldBack", MetricUnit.Count, len(held_back))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in returned]}


def _process_in_order(records: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Process messages; behind one that fails, hold back what its group still has in the batch.

    :returns: the ids of the messages that failed, and of those held back.
    """
    failed: list[str] = []
    held_back: list[str] = []
    waits_for: dict[str, str] = {}  # by group: the failed message
    for record in records:
        message_id = record["messageId"]
        group = _said_by_sqs(record, "MessageGroupId", "")
        if group in waits_for:
            held_back.append(message_id)
            logger.warning(
                "Message held back",
                message_id=message_id,
                message_group_id=group,
                waits_for=waits_for[group],
            )
        elif not _succeeds(record):
            failed.append(message_id)
            if _fate_of_group(record) == "waits":
                waits_for[group] = message_id
    return failed, held_back


def _fate_of_group(record: dict[str, Any]) -> str:
    """Return what a message's group does if the message fails: it "waits" or "goes on"."""
    receives = int(_said_by_sqs(record, "ApproximateReceiveCount", "1"))
    return "goes on" if receives >= MAX_RECEIVE_COUNT else "waits"


def _said_by_sqs(record: dict[str, Any], name: str, default: str) -> str:
    """Return an attribute that SQS gives every message; an event written by hand may lack it."""
    return str(record.get("attributes", {}).get(name, default))
{% else %}
    failed = [record["messageId"] for record in records if not _succeeds(record)]
    metrics.add_metric("MessagesProcessed", MetricUnit.Count, len(records) - len(failed))
    metrics.add_metric("MessagesFailed", MetricUnit.Count, len(failed))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
{% endif %}


def _succeeds(record: dict[str, Any]) -> bool:
    """Process one message and log the outcome; what it raises doesn't affect other messages."""
    keys = {"message_id": record["messageId"]}
{% if cookiecutter.__fifo %}
    keys["message_group_id"] = _said_by_sqs(record, "MessageGroupId", "")
{% endif %}
    try:
        body, attributes = _open(record)
        event_type = attributes["event_type"]
        keys["event_type"] = event_type
        keys["correlation_id"] = attributes.get("correlation_id", record["messageId"])
        with logger.append_context_keys(**keys):
            if event_type == SMOKE_TEST:
                smoke_logger.info("Smoke test received")
                return True
            process(event_type, decode_event(EVENTS, event_type, body))
            logger.info("Message processed")
    except MessageError as error:
{% if cookiecutter.__fifo %}
        fate = _fate_of_group(record)
        logger.error("Message failed", error=str(error), group=fate, **keys)
{% else %}
        logger.error("Message failed", error=str(error), **keys)
{% endif %}
    except BaseException as error:  # also a cancelled task, sys.exit() and the like
        if _ends_process(error):
            raise
{% if cookiecutter.__fifo %}
        fate = _fate_of_group(record)
        logger.error("Message failed", **_describe(error), group=fate, **keys)
{% else %}
        logger.error("Message failed", **_describe(error), **keys)
{% endif %}
    else:
        return True
    return False


def _ends_process(error: BaseException) -> bool:
    """Tell whether a signal's handler raised this: then the process, not the message, ends."""
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    codes = [getattr(handler, "__code__", None) for handler in handlers]
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


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

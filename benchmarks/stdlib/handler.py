"""What the service's handler does, written with nothing but the standard library.

The same parsing and checks of a message, the same partial-batch loop, the same log line, as
powertools words it, for each message; no metrics.
"""

import json
import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

SERVICE = os.environ["SERVICE"]
EVENT_TYPES = ("order.created",)
KEYS = ("message_id", "event_type", "correlation_id")


class JsonFormatter(logging.Formatter):
    """Writes a record as a line of JSON."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": self.formatTime(record),
            "service": SERVICE,
            **{key: record.__dict__[key] for key in KEYS},
            "xray_trace_id": os.environ.get("_X_AMZN_TRACE_ID", ""),
        }
        return json.dumps(line)


logger = logging.getLogger("benchmark")
logger.propagate = False
logger.setLevel("INFO")
logger.addHandler(logging.StreamHandler(sys.stdout))
logger.handlers[0].setFormatter(JsonFormatter())


def handler(event: dict[str, Any], context: object) -> dict[str, list[dict[str, str]]]:
    """Process a batch of SQS messages; return those that failed."""
    failed = []
    for record in event["Records"]:
        keys = dict.fromkeys(KEYS, record["messageId"])
        try:
            attributes = {
                name: attribute["stringValue"]
                for name, attribute in record["messageAttributes"].items()
                if "stringValue" in attribute
            }
            keys |= {name: attributes[name] for name in KEYS[1:]}
            process(attributes["event_type"], json.loads(record["body"]))
            logger.info("Message processed", extra=keys)
        except Exception:
            logger.error("Message failed", extra=keys)
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def process(event_type: str, message: dict[str, Any]) -> None:
    """Check a message as the service does."""
    if not any(
        event_type.startswith(expected[:-1]) if expected.endswith("*") else event_type == expected
        for expected in EVENT_TYPES
    ):
        raise ValueError("event_type")
    if not isinstance(message["id"], str) or not 1 <= len(message["id"]) <= 128:
        raise ValueError("id")
    occurred_at = datetime.fromisoformat(message["occurred_at"])
    if occurred_at.tzinfo is None:
        raise ValueError("occurred_at")
    if not isinstance(message["data"], dict):
        raise ValueError("data")
    if datetime.now(UTC) - occurred_at < -timedelta(minutes=5):
        raise ValueError("occurred_at")

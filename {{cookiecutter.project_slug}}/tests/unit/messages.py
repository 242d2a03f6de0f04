"""Messages for the template's unit tests, whose event type and model are not the service's own."""

import json
{% if cookiecutter.__fifo %}
import uuid
{% endif %}
from typing import Any

from {{ cookiecutter.package_name }}.message import Event
from tools import events

EVENT_TYPE = "test.happened"


class Happened(Event, frozen=True, kw_only=True):
    """The only model that these tests know."""

    data: dict[str, str]


# In place of the service's EVENTS.
MODELS: dict[str, type[Event]] = {EVENT_TYPE: Happened}


def body(event_id: str = "event-1") -> str:
    """Return a valid event with some payload."""
    payload = {"total": "19.90"}
    return json.dumps({"id": event_id, "occurred_at": "2026-01-01T10:00:00Z", "data": payload})


{% if cookiecutter.__fifo %}
def record(content: str | None = None, group: str = "", **attributes: str) -> dict[str, Any]:
    """Return an SQS record with a valid event, or with another body or other attributes.

    :param group: its message group; if there is none, one of its own.
    """
    given = {"event_type": EVENT_TYPE, "correlation_id": "correlation-1", **attributes}
    content = body() if content is None else content
    return events.record(content, group=group or str(uuid.uuid4()), **given)
{% else %}
def record(content: str | None = None, **attributes: str) -> dict[str, Any]:
    """Return an SQS record with a valid event, or with another body or other attributes."""
    given = {"event_type": EVENT_TYPE, "correlation_id": "correlation-1", **attributes}
    return events.record(body() if content is None else content, **given)
{% endif %}


def enveloped() -> dict[str, Any]:
    """Return an SQS record with a valid event in an SNS envelope."""
{% if cookiecutter.__fifo %}
    envelope = events.envelope(body(), "topic.fifo", event_type=EVENT_TYPE)
    return events.record(envelope, group=str(uuid.uuid4()))
{% else %}
    return events.record(events.envelope(body(), "topic", event_type=EVENT_TYPE))
{% endif %}


def mixed_batch() -> list[dict[str, Any]]:
    """Return five records; the second, third and fourth can't be processed."""
    records = [
        record(body("event-1")),
        record("{not JSON", correlation_id="correlation-2"),
        record('{"id": "event-3", "data": {}}', correlation_id="correlation-3"),
        record(body("event-4")),
        record(body("event-5"), correlation_id="correlation-5"),
    ]
    records[3]["messageAttributes"] = {}
    return records

"""The topic that the service listens to: publish a test message."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.errors import ToolError
from tools.operate.service import Service

# What the message model needs: see events.py in the service's package.
FIELDS = ("id", "occurred_at", "data")


def publish(
    service: Service,
    event_type: str | None,
    correlation_id: str | None,
    body: str | None,
    body_file: Path | None,
) -> None:
    """Publish one message to the topic. Every subscriber gets it, not only this service.

    :param event_type: the attribute that the subscription filters by; the first type that this
        service takes, if none is given.
    :param correlation_id: the attribute to find it by in the logs; made up if none is given.
    :param body: the message's JSON; one that is valid and says nothing, if none is given.
    :param body_file: a file that holds it instead.
    :raises ToolError: the body is not what the service can read, or the type can't be guessed.
    """
    text = _body(body, body_file)
    accepted = _accepted_types(service)
    if not event_type:
        event_type = _example(accepted)
    if not correlation_id:
        correlation_id = f"test-{uuid.uuid4()}"
    answer = service.client("sns").publish(
        TopicArn=service.topic_arn,
        Message=text,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value}
            for name, value in (("event_type", event_type), ("correlation_id", correlation_id))
        },
    )
    print(
        f"Published to {service.topic_arn}: message id {answer['MessageId']}, "
        f"event_type {event_type}, correlation_id {correlation_id}."
    )
    if accepted and not any(_lets_through(rule, event_type) for rule in accepted):
        print(
            f"{service.name} does not get it: its subscription lets other types through."
        )
    else:
        print(f"`make logs` shows what becomes of it: look for {correlation_id}.")


def _body(body: str | None, body_file: Path | None) -> str:
    if body_file is not None:
        try:
            body, where = body_file.read_text(encoding="utf-8"), str(body_file)
        except (OSError, UnicodeError) as error:
            raise ToolError(f"{body_file}: can't read the message: {error}") from None
    else:
        where = "the message's body"
    if body is None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return json.dumps({"id": str(uuid.uuid4()), "occurred_at": now, "data": {}})
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{where}: not JSON: {error}. Nothing was published.") from None
    missing = [name for name in FIELDS if not isinstance(event, dict) or name not in event]
    if missing:
        raise ToolError(
            f"{where}: needs {', '.join(missing)}. A message is a JSON object with id (text), "
            "occurred_at (a time with its zone) and data (an object). Nothing was published."
        )
    return body


def _accepted_types(service: Service) -> list[Any]:
    """Return the rules of the subscription's filter policy for ``event_type``."""
    attributes = service.client("sns").get_subscription_attributes(
        SubscriptionArn=service.subscription_arn
    )["Attributes"]
    rules = json.loads(attributes.get("FilterPolicy") or "{}").get("event_type", [])
    return rules if isinstance(rules, list) else []


def _lets_through(rule: Any, event_type: str) -> bool:
    if isinstance(rule, dict):
        # A rule of a kind that is not known here may let it through.
        return event_type.startswith(rule["prefix"]) if "prefix" in rule else True
    return bool(rule == event_type)


def _example(rules: list[Any]) -> str:
    for rule in rules:
        if isinstance(rule, str):
            return rule
        if isinstance(rule, dict) and rule.get("prefix"):
            return f"{rule['prefix']}test"
    raise ToolError("Say which type of event to publish: EVENT_TYPE=order.created, for example.")

"""Saved messages: written by peek, sent again by replay."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import click

from tools.errors import ToolError
from tools.operate import logs, queues
from tools.operate.queues import Message
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# The two kinds of attribute that a message may have.
KINDS = ({"DataType", "StringValue"}, {"DataType", "BinaryValue"})


def write(path: Path, messages: list[Message]) -> None:
    """Write messages as JSON lines to a new file that only its owner can read."""
    text = ""
    for message in messages:
        line = {
            "message_id": message["MessageId"],
            "sent": logs.clock(queues.sent(message) * 1000),
            "message_attributes": message["MessageAttributes"],
            "body": message["Body"],
        }
        text += json.dumps(line, default=lambda value: base64.b64encode(value).decode()) + "\n"
    part = path.with_name(f"{path.name}.part")
    try:
        # Whole or not at all: a file that breaks off would lose messages on replay.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> list[Message]:
    """Read the file; nothing of it is taken unless all of it is right."""
    messages = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeError:
        raise ToolError(f"{path} is not text: give a file saved by `make dlq-peek`.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            messages.append({**_message(json.loads(line)), "MessageId": f"line {number}"})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ToolError(
                f"{path}, line {number} is not a saved message ({reason}). Nothing was sent. "
                "Each line must be as `make dlq-peek` saves it."
            ) from None
    if not messages:
        raise ToolError(f"{path} holds no messages. Nothing was sent.")
    return messages


def _message(line: dict[str, Any]) -> Message:
    """Return a message as SQS takes it."""
    body, attributes = line["body"], line["message_attributes"]
    if not isinstance(body, str) or not body:
        raise ValueError("body must be text, and not empty")
    for name, attribute in attributes.items():
        texts = all(isinstance(value, str) for value in attribute.values())
        if attribute.keys() not in KINDS or not texts:
            raise ValueError(f"attribute {name} must have DataType and one value, as text")
        if "BinaryValue" in attribute:
            attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
    return {"Body": body, "MessageAttributes": attributes}


def replay(service: Service, path: Path) -> None:
    """Send saved messages to the service's own queue; never to the topic, where others listen.

    :raises ToolError: the file is not right, or some messages could not be sent; it says which.
    """
    messages = _read(path)
    unsent: dict[str, str] = {}
    tried = 0
    try:
        for start in range(0, len(messages), queues.BATCH):
            some = messages[start : start + queues.BATCH]
            failed = queues.send(service, some)
            unsent.update(failed)
            tried += len(some)
            if len(failed) == len(some):
                break
    finally:
        sent = tried - len(unsent)
        print(f"Sent {sent} of {len(messages)} messages from {path} to {service.queue_name}.")
        if tried < len(messages):
            line = messages[tried]["MessageId"]
            print(f"Stopped: what comes from {line} on was not sent, or not confirmed.")
    if unsent:
        raise ToolError("\n".join(f"{line} was not sent: {why}" for line, why in unsent.items()))
    print("They have new message ids. `make logs` shows what becomes of them.")


@click.command
@environment_option
@click.option("--file", envvar="FILE", type=Path, help="saved by dlq-peek or undelivered-peek")
def command(environment: Environment, file: Path | None) -> None:
    """Send saved messages to the service's queue."""
    if file is None:
        raise ToolError("Say which saved messages to send: make replay FILE=saved.jsonl")
    replay(deployed(environment), file)

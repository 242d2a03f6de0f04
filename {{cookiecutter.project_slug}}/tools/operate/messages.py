"""Look at the messages of a queue, save them to a file, and send saved ones again."""

import base64
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import click

from tools.display import Line, describe, is_error, quoted, shown
from tools.errors import ToolError, explain
from tools.operate import logs, queues
from tools.operate.queues import Message
from tools.operate.service import Service, deployed
from tools.project import Environment, between, environment_option

# The two kinds of attribute that a message may have.
KINDS = ({"DataType", "StringValue"}, {"DataType", "BinaryValue"})
# What the handler logs of a message that it is done with.
PROCESSED = "Message processed"


def peek(service: Service, queue_url: str, most: int, save: Path | None, *, why: bool) -> None:
    """Show the messages of a queue and leave them there.

    What a body says is not printed, only its shape: it may hold what a screen should not show.

    :param most: how many to show at most.
    :param save: a new file for all messages with their bodies, one JSON object a line.
    :param why: look in the log for why each one failed.
    :raises ToolError: the queue is empty, the file is there already, or not all were saved.
    """
    if save is not None and save.exists():
        raise ToolError(f"{save} exists already, and is not overwritten: give another name.")
    found = _look(service, queue_url, None if save else most)
    messages = found[:most]
    total = max(len(found), queues.total(service, queue_url))
    print(f"{len(messages)} of about {total} messages in {queues.name_of(queue_url)}:", flush=True)
    reasons = reasons_of(service, messages) if why else {}
    for number, message in enumerate(messages, start=1):
        print(f"\n{number}. {_describe(message)}")
        if why:
            print(f"   why:         {reasons[message['MessageId']]}")
    print("\nThey stay in the queue. Peeking counts as a receive.")
    if save is not None:
        _write(save, found)
        print("The file holds whole messages: keep it out of Git, and delete it after use.")
        if len(found) < total:
            raise ToolError(
                f"Saved {len(found)} of about {total} messages to {save}: do not delete the others "
                "yet. Someone else is looking at them or moving them, or SQS's count is a minute "
                f"old: save again, to another file, in {queues.HOLD_SECONDS} s."
            )
        print(f"Saved all {total} messages with their bodies to {save}.")


def _look(service: Service, queue_url: str, most: int | None) -> list[Message]:
    """Receive messages, about `most` or all, and leave them; return them, the oldest first.

    :raises ToolError: there are none.
    """
    held: dict[str, Message] = {}
    try:
        while most is None or len(held) < most:
            new = {one["MessageId"]: one for one in queues.receive(service, queue_url)}
            if new.keys() <= held.keys():  # none, or so many that the first are visible again
                break
            held.update(new)
    finally:
        # Also after Ctrl-C: nothing is taken away, and nobody has to wait to see them again.
        queues.show_again(service, queue_url, list(held.values()))
    if not held:
        raise queues.empty(service, queue_url)
    return sorted(held.values(), key=queues.sent)


def _describe(message: Message) -> str:
    named = "  ".join(
        f"{shown(name)}={quoted(attribute.get('StringValue', '<binary>'))}"
        for name, attribute in sorted(message["MessageAttributes"].items())
    )
    sent, body = queues.sent(message), message["Body"]
    rows = [
        f"message id:  {message['MessageId']}",
        f"sent:        {logs.clock(sent * 1000)}, {queues.duration(time.time() - sent)} ago",
        f"received:    {message['Attributes']['ApproximateReceiveCount']} times",
        f"attributes:  {named or 'none'}",
        f"body:        {len(body.encode())} bytes, {_body_shape(body)}",
    ]
    return "\n   ".join(rows)


def _body_shape(body: str) -> str:
    """Say of what form a body is, without quoting any value."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "not JSON"
    if isinstance(value, dict) and {"Type", "Message", "TopicArn"} <= value.keys():
        return f"SNS envelope around {_body_shape(str(value['Message']))}"
    return _shape(value, deep=2)


def _shape(value: Any, deep: int) -> str:
    if isinstance(value, list):
        return f"[{len(value)} items]"
    if isinstance(value, dict):
        if not deep:
            return f"{{… {len(value)} fields}}"
        fields = [f"{_key(key[:40])}: {_shape(item, deep - 1)}" for key, item in value.items()]
        return "{" + ", ".join(fields[:20] + ["…"] * (len(fields) > 20)) + "}"
    kinds = {str: "text", bool: "true/false", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _key(key: str) -> str:
    return shown(key if re.fullmatch(r"[\w.@$-]+", key) else json.dumps(key))


def reasons_of(service: Service, messages: list[Message]) -> dict[str, str]:
    """Return for each message's id why it failed, as far as the log knows."""
    ids = [message["MessageId"] for message in messages]
    try:
        lines = logs.about_messages(service, ids, queues.sent(messages[0]))
    except Exception as error:
        problem = explain(error)
        if problem is None:
            raise
        return dict.fromkeys(ids, problem)
    return {message_id: _reason(lines[message_id]) for message_id in ids}


def _reason(lines: list[Line]) -> str:
    errors = [line for line in lines if is_error(line)]
    done = [line["at"] for line in lines if line.get("message") == PROCESSED]
    if errors:
        shown_already = {"at", "message_id", "event_type", "correlation_id"}
        last = {key: value for key, value in errors[-1].items() if key not in shown_already}
        count = f"errors in the log: {len(errors)}, the last at {logs.clock(errors[-1]['at'])}"
        rows = [*describe(last).splitlines(), count]
    elif done:
        rows = ["the log has no error for this message."]
    else:
        rows = [
            "the log has no error for this message. Its processing may have run out of time or "
            "memory, or not have begun: see `make logs` around the time it was sent."
        ]
    if done:
        times = "once, at" if len(done) == 1 else f"{len(done)} times, the last at"
        rows.append(
            f"It was processed {times} {logs.clock(done[-1])}, but not deleted, as when the batch "
            "is cut off afterwards: a redrive repeats its effect, unless the service deduplicates "
            "events (idempotency)."
        )
    return "\n                ".join(rows)


def _write(path: Path, messages: list[Message]) -> None:
    """Write messages as JSON lines to a new file that only its owner can read."""
    text = ""
    for message in messages:
        line = {
            "message_id": message["MessageId"],
            "sent": logs.clock(queues.sent(message) * 1000),
            "message_attributes": message["MessageAttributes"],
            "message_group_id": message["Attributes"].get(queues.GROUP),
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
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ToolError(
                f"{path}, line {number} is not a saved message ({shown(reason)}). Nothing was "
                "sent. Each line must be as `make dlq-peek` saves it."
            ) from None
    if not messages:
        raise ToolError(f"{path} holds no messages. Nothing was sent.")
    return messages


def _message(line: dict[str, Any]) -> Message:
    """Return a message as SQS takes it."""
    body, attributes = line["body"], line["message_attributes"]
    group = line.get("message_group_id")  # files of earlier versions have none
    if not isinstance(body, str) or not body:
        raise ValueError("body must be text, and not empty")
    if not isinstance(group, str | None):
        raise ValueError("message_group_id must be text, or null")
    for name, attribute in attributes.items():
        texts = all(isinstance(value, str) for value in attribute.values())
        if attribute.keys() not in KINDS or not texts:
            raise ValueError(f"attribute {name} must have DataType and one value, as text")
        if "BinaryValue" in attribute:
            attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
    return {"Body": body, "MessageAttributes": attributes, "Attributes": {queues.GROUP: group}}


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
    print(f"They have new message ids. {service.make('logs')} shows what becomes of them.")


max_option = click.option(
    "--max", "most", envvar="MAX", callback=between(1, 10000), default="20", help="shown; 20"
)
save_option = click.option("--save", envvar="SAVE", type=Path, help="a new file, for replay")


@click.command
@environment_option
@max_option
@save_option
def dlq_peek(environment: Environment, most: int, save: Path | None) -> None:
    """Show the dead-letter queue's messages and leave them there."""
    service = deployed(environment)
    peek(service, service.dead_letter_queue_url, most, save, why=True)


@click.command
@environment_option
@max_option
@save_option
def undelivered_peek(environment: Environment, most: int, save: Path | None) -> None:
    """Show the messages that SNS could not deliver and leave them there."""
    service = deployed(environment)
    # They never reached the handler, so the log can't say why.
    peek(service, service.undelivered_queue_url, most, save, why=False)


@click.command
@environment_option
@click.option("--file", envvar="FILE", type=Path, help="saved by dlq-peek or undelivered-peek")
def replay_command(environment: Environment, file: Path | None) -> None:
    """Send saved messages to the service's queue."""
    if file is None:
        raise ToolError("Say which saved messages to send: make replay FILE=saved.jsonl")
    replay(deployed(environment), file)

"""Messages in a file: as peek saves them, and sent again."""

import base64
import json
from pathlib import Path
from typing import Any

import click

from tools.display import shown
from tools.errors import ToolError
from tools.events import is_fifo
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
            "message_group_id": queues.group(message),
            "sequence_number": message["Attributes"].get(queues.SEQUENCE),
            "body": message["Body"],
        }
        text += json.dumps(line, default=lambda value: base64.b64encode(value).decode()) + "\n"
    part = path.with_name(f"{path.name}.part")
    try:
        # Whole or not at all: a file that breaks off would lose messages on replay.
        part.touch(mode=0o600)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> list[Message]:
    """Read such a file; nothing of it is taken unless all of it is right."""
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
    messages, fifo = read(path), is_fifo(service.queue_url)
    if fifo and (bare := [one["MessageId"] for one in messages if not queues.group(one)]):
        raise ToolError(
            f"{path}, {bare[0]} has no message_group_id, and {service.queue_name} is a FIFO queue, "
            "which takes no message without a group. Nothing was sent. Give each line its group: "
            "messages of one group are sent in the order of their lines."
        )
    sent: set[str] = set()
    unsent: dict[str, str] = {}

    def send(message: Message) -> None:
        queues.send(service, message)
        sent.add(message["MessageId"])

    try:
        for start in range(0, len(messages), queues.BATCH):
            some = messages[start : start + queues.BATCH]
            failed = queues.each(some, send, in_order=fifo)
            unsent.update(failed)
            if len(failed) == len(some) or (fifo and failed):
                break
    finally:
        print(f"Sent {len(sent)} of {len(messages)} messages from {path} to {service.queue_name}.")
        if rest := _rest([one["MessageId"] for one in messages], {*sent, *unsent}):
            print(f"Stopped. Not sent, or not confirmed: {rest}.")
    if unsent:
        raise ToolError("\n".join(f"{line} was not sent: {why}" for line, why in unsent.items()))
    queues.say_order(service)
    print(f"They have new message ids. {service.make('logs')} shows what becomes of them.")


def _rest(lines: list[str], tried: set[str]) -> str:
    """Name the lines that are not among those tried, in a few words; "" if all are."""
    last = max((number for number, line in enumerate(lines, 1) if line in tried), default=0)
    rest = [line for line in lines[:last] if line not in tried]
    return ", ".join(rest + [f"all from {line} on" for line in lines[last : last + 1]])


@click.command
@environment_option
@click.option("--file", envvar="FILE", type=Path, help="saved by dlq-peek or undelivered-peek")
def replay_command(environment: Environment, file: Path | None) -> None:
    """Send saved messages to the service's queue."""
    if file is None:
        raise ToolError("Say which saved messages to send: make replay FILE=saved.jsonl")
    replay(deployed(environment), file)

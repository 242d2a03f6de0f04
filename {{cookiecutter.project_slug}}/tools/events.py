"""The service's event types, their samples in events/, and the messages made of these.

A sample is an event as a producer publishes it: the body of a message. Its file is named by its
type, `events/order.created.json`. All that stands around it in a message is made here.
"""

import hashlib
import itertools
import json
import os
import re
import time
import traceback
import uuid
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click

from tools.errors import ToolError
from tools.project import project

FOLDER = Path("events")
LONGEST_NAME = 255  # bytes of a file's name
ACCOUNT, PARTITION = "123456789012", "aws"  # of records, where nothing is deployed
SEQUENCE = itertools.count(10**19)  # of records in message groups: numbers of 20 digits that rise

# EVENT and EVENT_TYPE of make invoke and debug; see batch().
event_option = click.option("--event", envvar="EVENT", default="", help="files; default: samples")
event_type_option = click.option("--event-type", envvar="EVENT_TYPE", help="default: file's name")


def _check_group(_: click.Context, __: click.Parameter, group: str) -> str:
    if group and not project().fifo:
        raise click.UsageError(
            f"GROUP is {group!r}: leave it out, since only a FIFO topic has message groups."
        )
    # https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
    if not re.fullmatch(r"[!-~]{0,128}", group):
        rule = "it must have 1 to 128 ASCII letters, digits and punctuation marks, without spaces"
        raise click.UsageError(f"GROUP is {group!r}: {rule}.")
    return group


def _given_group() -> str:
    """Return GROUP if it is on make's command line; in tcsh, GROUP is always the Unix group."""
    given = re.search(r"(^|\s)GROUP=", os.environ.get("MAKEFLAGS", ""))
    return os.environ.get("GROUP", "") if given else ""


# GROUP of make publish, invoke and debug, "" for none.
group_option = click.option(
    "--group", default=_given_group, callback=_check_group, help="FIFO only: the message group"
)

Json = dict[str, Any]


def models() -> Json:
    """Return EVENTS of the package's events.py: the model of each event type.

    :raises ToolError: events.py can't be imported, or EVENTS is not what it must be.
    """
    place = f"{project().package}/events.py"
    try:
        found = getattr(import_module(f"{project().package}.events"), "EVENTS", None)
    except Exception as error:
        stack = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in stack if f"/{project().package}/" in frame.filename]
        where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        raise ToolError(
            f"{place} cannot be imported: {type(error).__name__}: {error}{where}"
        ) from error
    if not isinstance(found, dict) or not found:
        raise ToolError(
            f"EVENTS in {place} must be a dict of event types and their models, such as "
            f'{{"order.created": OrderEvent}}, and is {found!r}.'
        )
    wrong = [name for name, model in found.items() if not hasattr(model, "occurred_at")]
    if wrong:
        raise ToolError(f"EVENTS in {place}: the model of {wrong[0]!r} must inherit from Event.")
    wrong = [name for name in found if not re.fullmatch(r"[^*]{1,100}|[^*]{0,99}\*", name)]
    if wrong:
        rule = "must have 1 to 100 characters, and a * only at the end"
        raise ToolError(f"EVENTS in {place}: the type {wrong[0]!r} {rule}.")
    return found


def entry_of(event_type: str) -> str | None:
    """Return the entry of EVENTS that an event type has its model from; None if it has none."""
    package, entries = project().package, {name: name for name in models()}
    found: str | None = import_module(f"{package}.message").find_model(entries, event_type)
    return found


def samples() -> dict[str, Path]:
    """Return the samples that there are, by their event types."""
    return {type_of(path): path for path in sorted(FOLDER.glob("*.json"))}


def type_of(sample: Path) -> str:
    """Return the event type that a sample's file is named by."""
    return unquote(sample.stem)


def expected_sample(entry: str) -> Path:
    """Return where the sample of an entry of EVENTS is first looked for."""
    name = entry.replace("*", "example").replace("%", "%25").replace("/", "%2F")
    return FOLDER / f"{name}.json"


def find_sample(event_type: str) -> Path:
    """Return the sample of an event type, or else one with the same entry of EVENTS.

    :param event_type: may also be the entry itself, `payment.*`.
    :raises ToolError: there is none.
    """
    expected, entry = expected_sample(event_type), entry_of(event_type)
    if expected in samples().values():
        return expected
    for name, path in samples().items():
        if entry is not None and entry_of(name) == entry:
            return path
    raise ToolError(f"There is no sample of {event_type}: write one to {expected}.")


def read(file: Path) -> Any:
    """Return what is in a JSON file. Raises ToolError."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(map(str, samples().values())) or "none"
        raise ToolError(f"There is no event file {file}. The samples are: {there}.") from None
    except (ValueError, RecursionError) as problem:
        raise ToolError(f"{file} must be JSON: {problem}.") from None


def fresh(sample: Path) -> str:
    """Return a sample as an event of now, with an id of its own.

    :raises ToolError: the file is not a JSON object.
    """
    event = read(sample)
    if not isinstance(event, dict):
        raise ToolError(f"{sample} must be an event: a JSON object.")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({**event, "id": str(uuid.uuid4()), "occurred_at": now}, ensure_ascii=False)


def check(body: str, file: Path) -> None:
    """Raise ToolError if a body from a file lacks what every event has."""
    message = import_module(f"{project().package}.message")
    try:
        message.decode_event({"*": message.Event}, "", body)
    except message.MessageError as problem:
        raise ToolError(f"{file}: {problem}. Nothing was published.") from None


def is_fifo(name: str) -> bool:
    """Tell whether a topic or a queue is FIFO, by its name, ARN or URL."""
    return name.endswith(".fifo")


def in_group(target: str, group: str) -> dict[str, str]:
    """Return what a message for a FIFO topic or queue must say of its order; for others nothing.

    :param target: the topic's or queue's name, ARN or URL.
    :param group: the message group, in which messages keep their order.
    :returns: MessageGroupId and a new MessageDeduplicationId, so that no message is dropped as a
        duplicate of another.
    """
    order = {"MessageGroupId": group, "MessageDeduplicationId": str(uuid.uuid4())}
    return order if is_fifo(target) else {}


def record(body: str, region: str = "us-east-1", group: str = "", **attributes: str) -> Json:
    """Return a message as Lambda hands it to the handler.

    :param group: the message group, if the message is to come from a FIFO queue.
    :param attributes: the message's, such as event_type.
    """
    now, queue = str(int(time.time() * 1000)), "local.fifo" if group else "local"
    order = {**in_group(queue, group), "SequenceNumber": str(next(SEQUENCE))} if group else {}
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "receipt-handle",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": now,
            "SenderId": "AIDAEXAMPLE",
            "ApproximateFirstReceiveTimestamp": now,
            **order,
        },
        "messageAttributes": {
            name: {
                "stringValue": value,
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            }
            for name, value in attributes.items()
        },
        "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:{PARTITION}:sqs:{region}:{ACCOUNT}:{queue}",
        "awsRegion": region,
    }


def envelope(body: str, topic_arn: str, **attributes: str) -> str:
    """Return a message in the JSON that SNS puts around it where raw delivery is off."""
    return json.dumps(
        {
            "Type": "Notification",
            "TopicArn": topic_arn,
            "Message": body,
            "MessageAttributes": {
                name: {"Type": "String", "Value": value} for name, value in attributes.items()
            },
        }
    )


def attributes(policy: Json, **own: str | None) -> Json:
    """Return attributes for a message, in SNS's form, that meet a filter policy.

    :param own: what they must be instead of what the policy says; None: none of this name.
    """
    values = {name: _fitting(first) for name, (first, *_) in policy.items() if name != "$or"} | own
    return {
        name: {
            "DataType": "String" if isinstance(value, str) else "Number",
            "StringValue": str(value),
        }
        for name, value in values.items()
        if value is not None
    }


def _fitting(condition: Any) -> str | float | None:
    """Return an attribute's value that meets a condition of a filter policy; None for none."""
    match condition:
        case str() | int() | float():
            return condition
        case {"prefix": str(text)} | {"suffix": str(text)} | {"equals-ignore-case": str(text)}:
            return text
        case {"numeric": [_, low, _, high]}:  # such as [">", 0, "<=", 150]
            return float(low + high) / 2
        case {"numeric": [sign, bound]}:
            return float(bound + {">": 1, "<": -1}.get(sign, 0))
        case {"exists": False}:
            return None
    return "anything"


def batch(
    files: str, event_type: str | None = None, region: str = "us-east-1", group: str = ""
) -> Any:
    """Return the event that the handler gets: a batch of records, each with a fresh event.

    :param files: samples or other plain events, separated by blanks, or one file with a whole
        event of Lambda's, `{"Records": […]}`, which is returned as it is. Empty: all samples.
    :param event_type: of these events; if there is none, their files are named by it.
    :param group: their message group where the queue is FIFO. Empty: each event's id.
    :raises ToolError: there is no such file, or it is neither.
    """
    one = Path(files)
    paths = [one] if one.is_file() else [*map(Path, files.split())] or [*samples().values()]
    if len(paths) == 1:
        whole = read(paths[0])
        if isinstance(whole, dict) and "Records" in whole:
            return whole
    records = []
    for path in paths:
        body = fresh(path)
        its_group = (group or json.loads(body)["id"]) if project().fifo else ""
        records.append(record(body, region, its_group, event_type=event_type or type_of(path)))
    return {"Records": records}


@click.command
def check_samples() -> None:
    """Say which event type has no sample, and which sample has no event type."""
    problems = [
        f"{path} fits none of EVENTS in {project().package}/events.py: rename it, or add its type."
        for path in samples().values()
        if entry_of(type_of(path)) is None
    ]
    for name in models():
        try:
            if len(expected_sample(name).name.encode()) <= LONGEST_NAME:
                find_sample(name)
        except ToolError as problem:
            problems.append(str(problem))
    if problems:
        raise ToolError("\n".join(problems))

"""The queues: look at messages without taking them away, save them, and send them again."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.operate import logs
from tools.errors import ToolError, explain
from tools.operate.service import Service

# SQS's own limits: entries and bytes in one batch. Newer queues take 1 MiB; 256 KiB does for all.
BATCH = 10
BATCH_BYTES = 256 * 1024
# Seconds for which a message that is looked at, or sent on by hand, is hidden from others.
HOLD_SECONDS = 120
# Seconds that SQS looks for messages before it says that there are none. With 0 it asks only some
# of its servers and may miss messages that are there.
WAIT_SECONDS = 2
# How often an entry of a batch is tried when SQS itself was at fault, with a pause in between.
TRIES = 3
RETRY_SECONDS = 1.0
# Seconds between two looks at how far a redrive is.
POLL_SECONDS = 2.0

Message = dict[str, Any]


def depth(service: Service, queue_url: str) -> dict[str, int]:
    """Count a queue's messages; SQS's figures may be a minute old.

    :returns: ``waiting``, ``in_flight`` (received and not yet deleted) and ``delayed``.
    """
    names = {
        "waiting": "ApproximateNumberOfMessages",
        "in_flight": "ApproximateNumberOfMessagesNotVisible",
        "delayed": "ApproximateNumberOfMessagesDelayed",
    }
    attributes = service.client("sqs").get_queue_attributes(
        QueueUrl=queue_url, AttributeNames=list(names.values())
    )["Attributes"]
    return {name: int(attributes[attribute]) for name, attribute in names.items()}


def name_of(queue_url: str) -> str:
    """Return a queue's name, the last part of its URL."""
    return queue_url.rpartition("/")[2]


def _receive(service: Service, queue_url: str) -> list[Message]:
    """Receive up to ten messages and hide them for HOLD_SECONDS; an empty list means: no more."""
    response = service.client("sqs").receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=BATCH,
        VisibilityTimeout=HOLD_SECONDS,
        WaitTimeSeconds=WAIT_SECONDS,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
    )
    messages: list[Message] = response.get("Messages", [])
    return messages


def _in_batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Cut messages into batches that SQS takes; one that is too large for any goes alone."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        # Attributes count too; what JSON adds around them makes this an upper bound.
        attributes = json.dumps(message.get("MessageAttributes", {}), default=str)
        length = len(message["Body"].encode()) + len(attributes.encode())
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def _call_batch(call: Any, queue_url: str, entries: list[dict[str, Any]]) -> dict[str, str]:
    """Make one batch call; try again what failed through no fault of ours.

    :param entries: the entries, with ``Id`` 0, 1, 2 …
    :returns: the reason for each ``Id`` that failed in the end: an answer of 200 doesn't mean that
        all went well.
    """
    failed: dict[str, str] = {}
    for attempt in range(TRIES):
        if attempt:
            time.sleep(RETRY_SECONDS * attempt)
        response = call(QueueUrl=queue_url, Entries=entries)
        failures = response.get("Failed", [])
        failed.update({f["Id"]: f"{f.get('Message') or ''} ({f['Code']})" for f in failures})
        for done in response.get("Successful", []):
            failed.pop(done["Id"], None)
        again = {failure["Id"] for failure in failures if not failure.get("SenderFault")}
        entries = [entry for entry in entries if entry["Id"] in again]
        if not entries:
            break
    return failed


def _send(service: Service, queue_url: str, messages: list[Message]) -> dict[int, str]:
    """Send a batch.

    :returns: the reason for each message that was not sent, by its position.
    """
    entries = []
    for number, message in enumerate(messages):
        # What receiving adds to an attribute, and sending doesn't take, is left out.
        attributes = {
            name: {
                key: attribute[key]
                for key in ("DataType", "StringValue", "BinaryValue")
                if key in attribute
            }
            for name, attribute in message.get("MessageAttributes", {}).items()
        }
        entries.append(
            {"Id": str(number), "MessageBody": message["Body"], "MessageAttributes": attributes}
        )
    failed = _call_batch(service.client("sqs").send_message_batch, queue_url, entries)
    return {int(number): reason for number, reason in failed.items()}


def _delete(service: Service, queue_url: str, messages: list[Message]) -> dict[int, str]:
    """Delete a batch of received messages; returns what failed, as ``_send`` does."""
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(messages)
    ]
    if not entries:
        return {}
    failed = _call_batch(service.client("sqs").delete_message_batch, queue_url, entries)
    return {int(number): reason for number, reason in failed.items()}


def _show_again(service: Service, queue_url: str, messages: Sequence[Message]) -> None:
    """Make received messages visible again at once."""
    for start in range(0, len(messages), BATCH):
        entries = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for n, message in enumerate(messages[start : start + BATCH])
        ]
        call = service.client("sqs").change_message_visibility_batch
        if _call_batch(call, queue_url, entries):
            print(f"Some messages stay hidden for up to {HOLD_SECONDS} s.", file=sys.stderr)


def peek(
    service: Service, queue_url: str, most: int, save: Path | None = None, *, why: bool = True
) -> None:
    """Show the messages of a queue and leave them there.

    What a body says is not printed, only its shape: it may hold what a screen should not show.

    :param most: how many to show at most.
    :param save: a new file for the messages with their bodies, one JSON object a line.
    :param why: look in the log for why each one failed.
    :raises ToolError: the queue is empty, or the file can't be written.
    """
    name = name_of(queue_url)
    if save is not None and save.exists():
        raise ToolError(f"{save} is there already, and is not overwritten: give another name.")
    held: list[Message] = []
    try:
        while len(held) < most and (received := _receive(service, queue_url)):
            held += received
    finally:
        # Also after Ctrl-C: nothing is taken away, and nobody has to wait to see them again.
        _show_again(service, queue_url, held)
    messages = list({message["MessageId"]: message for message in held}.values())[:most]
    if not messages:
        raise ToolError(_empty(service, queue_url))
    messages.sort(key=_sent)

    total = max(len(messages), _total(service, queue_url))
    print(f"{len(messages)} of about {total} messages in {name}:", flush=True)
    lines: dict[str, list[dict[str, Any]]] = {}
    problem = ""
    if why:
        ids = [message["MessageId"] for message in messages]
        try:
            lines = logs.about_messages(service, ids, _sent(messages[0]) - logs.LATE_SECONDS)
        except (BotoCoreError, ClientError) as error:
            problem = explain(error)
    for number, message in enumerate(messages, start=1):
        print(f"\n{number}. {_describe(message)}")
        if why:
            print(f"   why:         {problem or _why(lines.get(message['MessageId'], []))}")
    print("\nThey stay in the queue. Looking counts as a receive.")
    if save is not None:
        _save(save, messages, lines)
        print(f"Saved {len(messages)} messages with their bodies to {save}.")
        print("The file holds whole messages: keep it out of Git, and delete it after use.")


def _total(service: Service, queue_url: str) -> int:
    count = depth(service, queue_url)
    return count["waiting"] + count["in_flight"]


def _empty(service: Service, queue_url: str) -> str:
    count = depth(service, queue_url)
    if count["in_flight"]:
        return (
            f"{name_of(queue_url)} has no visible message; about {count['in_flight']} are in "
            f"flight: someone else looks at them or moves them. Try again in {HOLD_SECONDS} s."
        )
    return f"{name_of(queue_url)} is empty: nothing to do."


def _sent(message: Message) -> float:
    return int(message["Attributes"]["SentTimestamp"]) / 1000


def _describe(message: Message) -> str:
    attributes = {
        name: attribute.get("StringValue", f"<{attribute.get('DataType', 'binary')}>")
        for name, attribute in message.get("MessageAttributes", {}).items()
    }
    named = "  ".join(f"{name}={value}" for name, value in sorted(attributes.items()))
    sent = logs.clock(_sent(message) * 1000)
    age = duration(time.time() - _sent(message))
    rows = [
        f"message id   {message['MessageId']}",
        f"sent:        {sent}, {age} ago",
        f"received:    {message['Attributes']['ApproximateReceiveCount']} times",
        f"attributes:  {named or 'none'}",
        f"body:        {len(message['Body'].encode())} bytes, {_body_shape(message['Body'])}",
    ]
    return "\n   ".join(rows)


def _why(lines: list[dict[str, Any]]) -> str:
    errors = [line for line in lines if logs.is_error(line)]
    if not errors:
        return (
            "the log has no error of this message. Its processing may have run out of time or "
            "memory, or not have begun: see `make logs` around the time it was sent."
        )
    last = errors[-1]
    known = {"at", "message_id", "event_type", "correlation_id"}
    text = logs.describe({key: value for key, value in last.items() if key not in known})
    count = f"errors in the log: {len(errors)}, the last at {logs.clock(last['at'])}"
    return "\n                ".join([*(text or "").splitlines(), count])


def duration(seconds: float) -> str:
    """Print a number of seconds in the unit that suits it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


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
    if isinstance(value, dict):
        if not deep:
            return f"{{… {len(value)} fields}}"
        fields = (f"{str(key)[:40]}: {_shape(item, deep - 1)}" for key, item in value.items())
        shown = [field for _, field in zip(range(20), fields, strict=False)]
        return "{" + ", ".join(shown + ["…"] * (len(value) > len(shown))) + "}"
    if isinstance(value, list):
        return f"[{len(value)} items]"
    kinds = {str: "text", bool: "true/false", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _save(path: Path, messages: list[Message], lines: dict[str, list[dict[str, Any]]]) -> None:
    """Write messages as JSON lines to a new file that only its owner can read."""
    text = ""
    for message in messages:
        attributes = {}
        for name, attribute in message.get("MessageAttributes", {}).items():
            kept = {k: attribute[k] for k in ("DataType", "StringValue") if k in attribute}
            if "BinaryValue" in attribute:
                kept["BinaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
            attributes[name] = kept
        errors = [line for line in lines.get(message["MessageId"], []) if logs.is_error(line)]
        saved = {
            "message_id": message["MessageId"],
            "sent": datetime.fromtimestamp(_sent(message), UTC).isoformat(),
            "receive_count": int(message["Attributes"]["ApproximateReceiveCount"]),
            "error": errors[-1].get("error") if errors else None,
            "message_attributes": attributes,
            "body": message["Body"],
        }
        text += json.dumps(saved) + "\n"
    part = path.with_name(path.name + ".part")
    try:
        # Whole or not at all: a file that breaks off would lose messages on replay.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        part.replace(path)
    except OSError as error:
        raise ToolError(f"{path}: can't save the messages: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _read_saved(path: Path) -> list[Message]:
    """Read a file that ``peek`` saved; nothing of it is taken unless all of it is right."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ToolError(f"{path}: can't read the saved messages: {error.strerror}") from None
    except UnicodeError:
        raise ToolError(f"{path}: is not text. Give a file saved by `make dlq-peek`.") from None
    messages = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            saved = json.loads(line)
            body, attributes = saved["body"], saved["message_attributes"]
            if not isinstance(body, str) or not body:
                raise ValueError("body must be text, and not empty")
            for name, attribute in attributes.items():
                kinds = {"DataType", "StringValue"}, {"DataType", "BinaryValue"}
                if set(attribute) not in kinds or not all(
                    isinstance(v, str) for v in attribute.values()
                ):
                    raise ValueError(f"attribute {name} must have DataType and one value, as text")
                if "BinaryValue" in attribute:
                    attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ToolError(
                f"{path}, line {number}: is no saved message ({reason}). Nothing was sent. "
                "Each line must be as `make dlq-peek` saves it."
            ) from None
        messages.append(
            {
                "MessageId": str(saved.get("message_id", "")),
                "Body": body,
                "MessageAttributes": attributes,
                "Line": number,
            }
        )
    if not messages:
        raise ToolError(f"{path}: holds no messages. Nothing was sent.")
    return messages


def replay(service: Service, path: Path) -> None:
    """Send saved messages to the service's own queue; never to the topic, where others listen.

    :raises ToolError: the file is not right, or some messages could not be sent; it says which.
    """
    if path == Path():
        raise ToolError("Say which saved messages to send: make replay FILE=saved.jsonl")
    messages = _read_saved(path)
    failed: list[str] = []
    done = 0
    try:
        for batch in _in_batches(messages):
            failures = _send(service, service.queue_url, batch)
            for position, reason in failures.items():
                failed.append(f"line {batch[position]['Line']}: {reason}")
            done += len(batch)
    finally:
        sent = done - len(failed)
        print(f"Sent {sent} of {len(messages)} messages from {path} to {service.queue_name}.")
        if done < len(messages):
            line = messages[done]["Line"]
            print(f"Stopped: what comes from line {line} on was not sent, or not confirmed.")
    if failed:
        raise ToolError("Not sent:\n  " + "\n  ".join(failed))
    print("They have new message ids. `make logs` shows what becomes of them.")


def redrive(service: Service, max_rate: int | None, progress: bool = True) -> None:
    """Let SQS move the dead-letter queue's messages back to the queue they came from.

    :param max_rate: messages a second, 1 to 500; SQS's choice without.
    :param progress: wait until it is done, and show how far it is.
    :raises ToolError: the queue is empty, or SQS gave up.
    """
    sqs, source = service.client("sqs"), service.dead_letter_queue_arn
    name = name_of(service.dead_letter_queue_url)
    before = _latest_move(sqs, source)
    if before.get("Status") == "RUNNING":
        print(f"A redrive of {name} is under way already; this one is shown, no other is started.")
        before = {}
    else:
        if not depth(service, service.dead_letter_queue_url)["waiting"]:
            empty = _empty(service, service.dead_letter_queue_url)
            raise ToolError(f"{empty} (SQS's count may be a minute old.)")
        limit = {"MaxNumberOfMessagesPerSecond": max_rate} if max_rate else {}
        sqs.start_message_move_task(SourceArn=source, **limit)
        rate = f"at most {max_rate} a second" if max_rate else "as fast as SQS sees fit"
        print(f"Moving the messages of {name} back to {service.queue_name}, {rate}.", flush=True)
    if progress:
        _follow_move(service, before)


def cancel_redrive(service: Service) -> None:
    """Stop a redrive that is under way; what has been moved stays moved.

    :raises ToolError: none is under way.
    """
    sqs = service.client("sqs")
    task = _latest_move(sqs, service.dead_letter_queue_arn)
    if task.get("Status") != "RUNNING":
        name = name_of(service.dead_letter_queue_url)
        raise ToolError(f"No redrive of {name} is under way: nothing to cancel.")
    answer = sqs.cancel_message_move_task(TaskHandle=task["TaskHandle"])
    moved = answer.get("ApproximateNumberOfMessagesMoved", 0)
    print(f"Cancelled after about {moved} messages. The others stay in the dead-letter queue.")


def _latest_move(sqs: Any, source: str) -> dict[str, Any]:
    tasks = sqs.list_message_move_tasks(SourceArn=source, MaxResults=1).get("Results", [])
    task: dict[str, Any] = tasks[0] if tasks else {}
    return task


def _follow_move(service: Service, before: dict[str, Any]) -> None:
    """Show how far a redrive is, until it is done.

    :param before: the task before it: SQS lists the new one only after a moment.
    """
    sqs, shown = service.client("sqs"), ""
    try:
        while True:
            task = _latest_move(sqs, service.dead_letter_queue_arn)
            status = task.get("Status")
            started = task.get("StartedTimestamp")
            if status is None or started == before.get("StartedTimestamp"):
                time.sleep(POLL_SECONDS)
                continue
            moved = task.get("ApproximateNumberOfMessagesMoved", 0)
            total = task.get("ApproximateNumberOfMessagesToMove")
            text = f"  moved {moved}" + (f" of {total}" if total is not None else "")
            if text != shown:
                print(text, flush=True)
                shown = text
            if status not in ("RUNNING", "CANCELLING"):
                break
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print(
            "\nSQS goes on moving messages. `make dlq-redrive` shows how far it is; with CANCEL=1 "
            "it stops."
        )
        raise
    if status != "COMPLETED":
        reason = task.get("FailureReason", "it was cancelled")
        raise ToolError(
            f"The redrive ended as {status} after about {moved} messages: {reason}. The others are "
            "still in the dead-letter queue."
        )
    print(f"Done: about {moved} messages are back in {service.queue_name}.")


def redrive_undelivered(service: Service) -> None:
    """Send on what SNS could not deliver: receive, send to the service's queue, then delete.

    SQS's own move task refuses queues that SNS feeds. A message is deleted only once SQS has
    confirmed that the queue has it; whatever goes wrong, it is in one of the queues, or in both.

    :raises ToolError: the queue is empty, or some messages could not be sent or deleted.
    """
    source, name = service.undelivered_queue_url, name_of(service.undelivered_queue_url)
    sent: set[str] = set()
    held: dict[str, Message] = {}
    problems: dict[str, str] = {}
    deleted = 0
    try:
        while messages := _receive(service, source):
            # One that was sent before, and could not be deleted then, is only deleted.
            done = [message for message in messages if message["MessageId"] in sent]
            new = [message for message in messages if message["MessageId"] not in sent]
            held.update({message["MessageId"]: message for message in messages})
            for batch in _in_batches(new):
                failures = _send(service, service.queue_url, batch)
                for position, message in enumerate(batch):
                    if position in failures:
                        problems[message["MessageId"]] = f"was not sent: {failures[position]}"
                    else:
                        sent.add(message["MessageId"])
                        done.append(message)
            failures = _delete(service, source, done)
            for position, message in enumerate(done):
                if position in failures:
                    problems[message["MessageId"]] = (
                        "was sent but could not be deleted, so it is in both queues: "
                        f"{failures[position]}"
                    )
                else:
                    deleted += 1
                    del held[message["MessageId"]]
                    problems.pop(message["MessageId"], None)
            if not done:
                break
    finally:
        _show_again(service, source, list(held.values()))
        if held or sent:
            print(
                f"Sent {len(sent)} messages of {name} to {service.queue_name}, deleted {deleted}."
            )
    if problems:
        raise ToolError("\n".join(f"{key} {problem}" for key, problem in problems.items()))
    if not sent:
        raise ToolError(_empty(service, source))

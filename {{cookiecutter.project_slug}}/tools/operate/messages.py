"""Look at the messages of a queue; save them to a file."""

import json
import re
import time
from pathlib import Path
from typing import Any

import click

from tools.display import Line, describe, is_error, quoted, shown
from tools.errors import ToolError, explain
from tools.events import is_fifo
from tools.operate import logs, queues, saved
from tools.operate.queues import Message
from tools.operate.service import Service, deployed
from tools.project import Environment, between, environment_option


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
    hidden = is_fifo(queue_url) and len(found) < (total if save else min(total, most))
    print(f"{len(messages)} of about {total} messages in {queues.name_of(queue_url)}:", flush=True)
    reasons = reasons_of(service, messages) if why else {}
    for number, message in enumerate(messages, start=1):
        print(f"\n{number}. {_describe(message)}")
        if why:
            print(f"   why:         {reasons[message['MessageId']]}")
    print("\nThey stay in the queue. Peeking counts as a receive.")
    if hidden:  # SQS locks a group while messages of it are in flight
        print("SQS shows the first ten messages of a group; the others once these are gone.")
    if save is not None:
        saved.write(save, found)
        print("The file holds whole messages: keep it out of Git, and delete it after use.")
        if len(found) < total:
            raise ToolError(
                f"Saved {len(found)} of about {total} messages to {save}: do not delete the others "
                f"yet. {'A group has more than ten, or someone' if hidden else 'Someone'} else is "
                "looking at them or moving them, or SQS's count is a minute old: save again, to "
                f"another file, in {queues.HOLD_SECONDS} s."
            )
        print(f"Saved all {total} messages with their bodies to {save}.")


def _look(service: Service, queue_url: str, most: int | None) -> list[Message]:
    """Receive messages, about `most` or all, and leave them; return them, the oldest first.

    :raises ToolError: there are none.
    """
    held: dict[str, Message] = {}
    try:
        while most is None or len(held) < most:
            new = {one["MessageId"]: one for one in _whole_groups(service, queue_url)}
            if new.keys() <= held.keys():  # none, or so many that the first are visible again
                break
            held.update(new)
    finally:
        # Also after Ctrl-C: nothing is taken away, and nobody has to wait to see them again.
        queues.show_again(service, queue_url, list(held.values()))
    if not held:
        raise queues.empty(service, queue_url)
    return sorted(held.values(), key=queues.place)


def _whole_groups(service: Service, queue_url: str) -> list[Message]:
    """Receive messages; of a FIFO queue whole groups, but for one of more than ten messages.

    What is left of a group is locked until these are visible again. So the last group of ten
    messages, which may go on, is given back, and comes whole with the next ones.
    """
    some = queues.receive(service, queue_url)
    if not is_fifo(queue_url) or len(some) < queues.BATCH:
        return some
    last = queues.group(some[-1])
    whole = [one for one in some if queues.group(one) != last]
    if whole:
        queues.show_again(service, queue_url, [one for one in some if queues.group(one) == last])
    return whole or some


def _describe(message: Message) -> str:
    named = "  ".join(
        f"{shown(name)}={quoted(attribute.get('StringValue', '<binary>'))}"
        for name, attribute in sorted(message["MessageAttributes"].items())
    )
    sent, body = queues.sent(message), message["Body"]
    sequence = message["Attributes"].get(queues.SEQUENCE)
    order = [f"group:       {quoted(queues.group(message))}", f"sequence:    {sequence}"]
    rows = [
        f"message id:  {message['MessageId']}",
        *(order if sequence else []),
        # A message's time begins anew in a FIFO dead-letter queue, but not in a standard one.
        f"{'here since:' if sequence else 'sent:':<13}{logs.clock(sent * 1000)}, "
        f"{queues.duration(time.time() - sent)} ago",
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
        since = min(map(queues.sent, messages))
        if is_fifo(service.queue_url):
            # That is when they were moved to the dead-letter queue: after their tries, and perhaps
            # after a pause.
            seconds, tries = queues.tries(service)
            since -= max(24 * 3600, seconds * (tries + 1))
        lines = logs.about_messages(service, ids, since)
    except Exception as error:
        if not (problem := explain(error)):
            raise
        return dict.fromkeys(ids, problem)
    return {message_id: _reason(lines[message_id]) for message_id in ids}


def _reason(lines: list[Line]) -> str:
    errors = [line for line in lines if is_error(line)]
    done = [line["at"] for line in lines if line.get("message") == logs.PROCESSED]
    if errors:
        shown_already = {"at", "message_id", "message_group_id", "event_type", "correlation_id"}
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

"""Carries a mix of messages through a worker: the same faults, less those of Lambda's own."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from worker_process import Process, until, worker

from .chain import TOO_LARGE, depth, name_of
from .ledger import Ledger
from .messages import (
    AGAIN,
    DEAD,
    ENVELOPE,
    FAULTS,
    RELEASE,
    THROTTLED,
    TOPIC,
    Message,
    envelope,
)

# Nobody throttles a worker; with a handler that can't be imported it takes no message; and what it
# has done it deletes, or the soak test would have to take its connection away.
WORKER_FAULTS = {
    name: fault for name, fault in FAULTS.items() if name not in (AGAIN, RELEASE, THROTTLED)
}
BACKLOG = 150  # the local AWS goes through all of a queue for each receive

# Longer than the visibility time-out below: heartbeats come every two seconds, with four to spare.
VISIBILITY_TIMEOUT = 6
LONG = Message(
    name="long",
    fault="none",
    event_id="event-long",
    event_type="order.created",
    body=json.dumps(
        {"id": "event-long", "occurred_at": "2026-01-01T00:00:00Z", "data": {"takes": 15}}
    ),
    route=TOPIC,
)


class Queues:
    """The queues and the topic of a deployed service."""

    def __init__(self, aws: Any, outputs: dict[str, str]) -> None:
        self.sqs, self.sns = aws.client("sqs"), aws.client("sns")
        self.outputs = outputs
        self.url = outputs["queue_url"]

    def publish(self, message: Message) -> bool:
        """Send a message the way that it takes; tell whether it was taken."""
        attributes, body = message.attributes, message.body
        if message.route == ENVELOPE:
            attributes, body = {}, envelope(message)
        given = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        }
        try:
            if message.route == TOPIC:
                topic = self.outputs["topic_arn"]
                self.sns.publish(TopicArn=topic, Message=body, MessageAttributes=given)
            else:
                self.sqs.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=given)
        except ClientError as error:
            if error.response["Error"]["Code"] not in TOO_LARGE:
                raise
            return False
        return True

    def depth(self) -> int:
        """Return how many messages there are; thrice, since one may be between two counts."""
        return max(depth(self.sqs, self.url) for _ in range(3))

    def dead_letters(self) -> dict[str, str]:
        """Take the dead letters; return their ids by name."""
        found: dict[str, str] = {}
        url = self.outputs["dead_letter_queue_url"]
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                assert name_of(message) not in found, f"{name_of(message)} is there twice"
                found[name_of(message)] = message["MessageId"]
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found


def carry(
    queues: Queues,
    messages: Sequence[Message],
    app: Path,
    environment: dict[str, str],
    ledger: Ledger,
    folder: Path,
    *,
    deadline: float,
) -> list[str]:
    """Send the messages, and have them worked off by one worker after the other.

    The first is told to stop in the middle, the second one is killed; the third does the rest.

    :returns: what is wrong, a sentence each.
    """
    environment = {**environment, "VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT)}
    refused: set[str] = set()
    lines: list[dict[str, Any]] = []
    wrong = []
    left = list(messages)

    def send(process: Process, count: int) -> None:
        while left and count:
            until(lambda: depth(queues.sqs, queues.url) < BACKLOG, "it is too slow", deadline)
            assert process.popen.poll() is None, process.log.read_text()
            for message in left[: min(20, count)]:
                if not queues.publish(message):
                    refused.add(message.name)
            del left[: min(20, count)]
            count = max(0, count - 20)

    for number, share in enumerate((400, 300, len(messages))):
        with worker(app, folder / f"worker-{number}.log", **environment) as process:
            if number == 0:
                # Alone in its batch: nothing else can take it away from the handler.
                queues.publish(LONG)
                until(lambda: in_hand(queues) == 1, "the long message is not taken")
            send(process, share)
            if number == 0:
                until(lambda: in_hand(queues) > 1, "nothing is in hand")
                if code := process.stop():
                    wrong.append(f"after SIGTERM the worker ended with {code}")
            elif number == 1:
                until(lambda: in_hand(queues) > 1, "nothing is in hand")
                process.kill()
            else:
                until(lambda: queues.depth() == 0, "the queue is not empty", deadline)
                if code := process.stop():
                    wrong.append(f"after SIGTERM the worker ended with {code}")
        lines += process.lines()

    effects: Counter[str] = Counter()
    for (event_id, _), count in ledger.effects().items():
        effects[event_id] += count
    dead = queues.dead_letters()
    return wrong + problems(messages, effects, dead, refused, lines)


def in_hand(queues: Queues) -> int:
    """Return how many messages are in flight."""
    name = "ApproximateNumberOfMessagesNotVisible"
    found = queues.sqs.get_queue_attributes(QueueUrl=queues.url, AttributeNames=[name])
    return int(found["Attributes"][name])


def problems(
    messages: Sequence[Message],
    effects: Counter[str],
    dead: dict[str, str],
    refused: set[str],
    lines: list[dict[str, Any]],
) -> list[str]:
    """Compare what became of the messages with what had to; return what is wrong."""
    wrong = []
    for message in messages:
        fault = FAULTS[message.fault]
        had, is_dead = effects[message.event_id], message.name in dead
        is_right = {
            "processed": had > 0 and not is_dead,
            DEAD: had == 0 and is_dead,
            "filtered out": had == 0 and not is_dead,
            "refused": message.name in refused and had == 0 and not is_dead,
        }[fault.ends]
        if not is_right:
            wrong.append(
                f"{message.name} ({message.fault}) was not {fault.ends}: it had {had} effects, "
                f"{'is' if is_dead else 'is no'} dead letter"
            )
        if is_dead and fault.ends == DEAD:
            stated = [
                line["error"]
                for line in lines
                if line.get("message_id") == dead[message.name]
                and line["message"] == "Message failed"
            ]
            if not stated or not all(re.search(fault.reason, reason) for reason in stated):
                wrong.append(f"{message.name} ({message.fault}) is dead for {set(stated)}")
    if effects[LONG.event_id] != 1:
        wrong.append(f"the long message was processed {effects[LONG.event_id]} times")
    strangers = set(dead) - {message.name for message in messages}
    wrong += [f"{name} is a dead letter that nobody sent" for name in sorted(strangers)]
    ended = Counter(line.get("message") for line in lines)
    for text in ("The handler's process has ended", "The handler took too long and was ended"):
        if not ended[text]:
            wrong.append(f"no line in the log: {text}")
    return wrong

"""Carries a mix of messages through Fargate's worker: the same faults, except Lambda's own."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from tools.local.server import LocalAws
from worker_process import SHORT, Process, until, worker

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

# Nobody throttles a worker; without a handler that can be imported it receives nothing; and it
# deletes what it has processed, unless the soak test were to cut its connection.
WORKER_FAULTS = {
    name: fault for name, fault in FAULTS.items() if name not in (AGAIN, RELEASE, THROTTLED)
}
BACKLOG = 150  # the local AWS looks at every message in a queue for each receive
MAX_RECEIVE_COUNT = 8  # here nobody limits how many receives a message loses to its neighbours

# Heartbeats come every two seconds, with four to spare. The long message takes longer than that.
VISIBILITY_TIMEOUT = 6
# The last worker's: dead letters have to come back again and again, and nothing else is long.
SHORT_VISIBILITY_TIMEOUT = 3
LONG = Message(
    name="long",
    fault="none",
    event_id="event-long",
    event_type="order.created",
    body=json.dumps(
        {"id": "event-long", "occurred_at": "2026-01-01T00:00:00Z", "data": {"takes": 9}}
    ),
    route=TOPIC,
)


class Queues:
    """The queues and the topic of a service, by the names that they have in Terraform's outputs."""

    def __init__(self, aws: LocalAws, outputs: Mapping[str, Any]) -> None:
        self.sqs, self.sns = aws.client("sqs"), aws.client("sns")
        self.outputs = outputs
        self.url = outputs["queue_url"]

    def publish(self, message: Message) -> bool:
        """Send a message by its route; tell whether it was accepted."""
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
        """Return how many messages there are; counted thrice, since one may be between counts."""
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
    """Send the messages, and have three workers process them, one after the other.

    The first is told to stop in the middle, the second is killed; the third does the rest.

    :param app: a folder with the package of the service, unpacked.
    :param environment: the worker's.
    :param folder: for the workers' logs.
    :param deadline: seconds.
    :returns: what is wrong, a sentence each.
    """
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

    shares = (len(messages) * 2 // 5, len(messages) * 3 // 10, len(messages))
    for number, share in enumerate(shares):
        seconds = SHORT_VISIBILITY_TIMEOUT if number == 2 else VISIBILITY_TIMEOUT
        environment = {**environment, "VISIBILITY_TIMEOUT": str(seconds)}
        if number == 2:
            environment["STOP_TIMEOUT"] = SHORT
        with worker(app, folder / f"worker-{number}.log", **environment) as process:
            if number == 0:
                # Alone in its batch: nothing else can take it away from the handler.
                queues.publish(LONG)
                until(lambda: in_flight(queues) == 1, "the long message is not received")
            send(process, share)
            if number == 0:
                until(lambda: in_flight(queues) > 1, "nothing is in flight")
                if code := process.stop():
                    wrong.append(f"after SIGTERM the worker ended with {code}")
            elif number == 1:
                until(lambda: in_flight(queues) > 1, "nothing is in flight")
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


def in_flight(queues: Queues) -> int:
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
    """Compare what became of the messages with what must; return what is wrong."""
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
    for text in ("The handler's process ended", "The handler timed out and was killed"):
        if not ended[text]:
            wrong.append(f"no line in the log: {text}")
    return wrong

"""Carries a mix of messages through Fargate's worker: the same faults, except Lambda's own."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from moto.sqs.models import sqs_backends
from tools.local.server import LocalAws
from worker_process import SHORT, Process, until, worker

from .chain import TOO_LARGE, depth, name_of
from .deployment import REGION
from .ledger import Ledger
from .messages import (
    AGAIN,
    DEAD,
    ENVELOPE,
    FAULTS,
    FIFO_FAULTS,
    RELEASE,
    THROTTLED,
    TOPIC,
    Message,
    envelope,
)
from .order import out_of_order

# Nobody throttles a worker; without a handler that can be imported it receives nothing; and it
# deletes what it has processed, unless the soak test were to cut its connection.
LAMBDAS_OWN = (AGAIN, RELEASE, THROTTLED)
WORKER_FAULTS = {name: fault for name, fault in FAULTS.items() if name not in LAMBDAS_OWN}
WORKER_FIFO_FAULTS = {name: fault for name, fault in FIFO_FAULTS.items() if name not in LAMBDAS_OWN}
BACKLOG = 150  # the local AWS looks at every message in a queue for each receive
MAX_RECEIVE_COUNT = 8  # here nobody limits how many receives a message loses to its neighbours
FIFO_MAX_RECEIVE_COUNT = 6  # alone in its batch, a message loses no more than two, to the signals

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
                topic = {"TopicArn": self.outputs["topic_arn"], **message.in_group}
                self.sns.publish(Message=body, MessageAttributes=given, **topic)
            else:
                queue = {"QueueUrl": self.url, **message.in_group}
                self.sqs.send_message(MessageBody=body, MessageAttributes=given, **queue)
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
    long = replace(LONG, group="long" if queues.url.endswith(".fifo") else "")
    ended = note_deaths(queues.outputs["dead_letter_queue_url"], ledger)
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
                queues.publish(long)
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
    wrong += problems(messages, effects, dead, refused, lines)
    over = {name: ended[message_id] for name, message_id in dead.items()}
    return wrong + order_problems(messages, ledger, over)


def note_deaths(queue_url: str, ledger: Ledger) -> dict[str, int]:
    """Have it noted, by id, how many effects there had been when a message became a dead letter.

    The local AWS runs in this process: a queue is an object of moto's, to which it adds a message.
    """
    ended: dict[str, int] = {}
    account, name = queue_url.split("/")[-2:]
    queue = sqs_backends[account][REGION].queues[name]
    add_message = queue.add_message

    def noted(message: Any) -> None:
        ended[message.id] = ledger.count()
        add_message(message)

    queue.add_message = noted
    return ended


def order_problems(
    messages: Sequence[Message], ledger: Ledger, ended: Mapping[str, int]
) -> list[str]:
    """Return what is wrong with the order of messages that have groups, one in each batch.

    :param ended: the dead letters, and how many effects there had been when they became that.
    """
    found = out_of_order(
        [message for message in messages if message.group and message.meets.arrives],
        ledger.in_order(),
        over=lambda earlier, _later, number, _batch: ended.get(earlier.name, number + 1) <= number,
        again=lambda *_: False,
    )
    return [f"{name} was {text}" for text, names in found.items() for name in names]


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
        fault = message.meets
        had, is_dead = effects[message.event_id], message.name in dead
        is_right = {
            "processed": had > 0 and not is_dead,
            DEAD: had == 0 and is_dead,
            "filtered out": had == 0 and not is_dead,
            "dropped": not is_dead,  # its event has the effect of the message that it repeats
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

"""The queues: count messages, receive, send and show them again."""

import json
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tools.errors import ToolError, explain
from tools.events import is_fifo
from tools.operate.service import Service

# SQS hands out ten messages at a time, and as many calls are made at a time.
BATCH = 10
# Seconds for which a message that is looked at, or sent on by hand, is hidden from others.
HOLD_SECONDS = 120
# Seconds that SQS looks for messages before it says that there are none. With 0 it asks only some
# of its servers and may miss messages that are there.
WAIT_SECONDS = 2
# The parts of a message attribute that SQS accepts when it is sent.
OF_ATTRIBUTE = ("DataType", "StringValue", "BinaryValue")
# What a message keeps beside its own attributes: in a fair queue, whose message it is; in a FIFO
# queue, what it stays in order with.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
GROUP = "MessageGroupId"
# Its place in a FIFO queue.
SEQUENCE = "SequenceNumber"

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


def total(service: Service, queue_url: str) -> int:
    """Count all messages of a queue."""
    return sum(depth(service, queue_url).values())


def sent(message: Message) -> float:
    """Return when a received message was sent, in seconds since 1970."""
    return int(message["Attributes"]["SentTimestamp"]) / 1000


def group(message: Message) -> str | None:
    """Return a message's group, if it has one."""
    found: str | None = message["Attributes"].get(GROUP)
    return found


def place(message: Message) -> tuple[int, float]:
    """Return what puts messages in their queue's order; a standard queue has only their times."""
    return int(message["Attributes"].get(SEQUENCE, 0)), sent(message)


def tries(service: Service) -> tuple[int, int]:
    """Return how long the service's queue waits for a try of a message, in seconds, and how often
    it lets it be tried; 0 for without end.
    """
    attributes = service.client("sqs").get_queue_attributes(
        QueueUrl=service.queue_url, AttributeNames=["VisibilityTimeout", "RedrivePolicy"]
    )["Attributes"]
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return int(attributes["VisibilityTimeout"]), int(policy.get("maxReceiveCount", 0))


def say_order(service: Service) -> None:
    """Say of messages that are sent back to a FIFO queue what order they can't keep."""
    if is_fifo(service.queue_url):
        print("They come after the messages of their groups that went on in the meantime.")


def empty(service: Service, queue_url: str) -> ToolError:
    """Return the error that says why a queue has no message to work on."""
    in_flight = depth(service, queue_url)["in_flight"]
    if in_flight:
        return ToolError(
            f"{name_of(queue_url)} has no visible message; about {in_flight} are in flight: "
            f"someone else is looking at them or moving them. Try again in {HOLD_SECONDS} s."
        )
    return ToolError(f"{name_of(queue_url)} is empty: nothing to do.")


def receive(service: Service, queue_url: str) -> list[Message]:
    """Receive up to ten messages and hide them for HOLD_SECONDS; an empty list means: no more."""
    answer = service.client("sqs").receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=BATCH,
        VisibilityTimeout=HOLD_SECONDS,
        WaitTimeSeconds=WAIT_SECONDS,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount", GROUP, SEQUENCE],
    )
    messages: list[Message] = answer.get("Messages", [])
    for message in messages:
        # Receiving adds parts that sending does not accept.
        message["MessageAttributes"] = {
            name: {key: value for key, value in attribute.items() if key in OF_ATTRIBUTE}
            for name, attribute in message.get("MessageAttributes", {}).items()
        }
    return messages


def each(
    messages: list[Message], call: Callable[[Message], object], *, in_order: bool = False
) -> dict[str, str]:
    """Make a call for each message; return why it failed, by message id.

    Ten calls at a time take about as long as one of SQS's batch calls. boto3 tries each again when
    SQS is at fault, and there are no half-failed batches and no limit to a batch's size.

    :param in_order: make the calls of a message group one after the other, up to one that fails.
    """
    problems: dict[str, str] = {}
    sequences: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        sequences[(in_order and group(message)) or message["MessageId"]].append(message)

    def attempt(sequence: list[Message]) -> None:
        for number, message in enumerate(sequence, start=1):
            try:
                call(message)
            except Exception as error:
                if not (problem := explain(error)):
                    raise
                problems[message["MessageId"]] = problem
                for later in sequence[number:]:
                    problems[later["MessageId"]] = f"it comes after {message['MessageId']}"
                return

    with ThreadPoolExecutor(BATCH) as pool:
        list(pool.map(attempt, sequences.values()))
    return problems


def send(service: Service, message: Message, deduplication_id: str = "") -> None:
    """Send a message to the service's own queue.

    :param deduplication_id: a FIFO queue drops what has one that it got within the last five
        minutes; empty: a new one.
    """
    of_group = group(message)
    order = {GROUP: of_group} if of_group else {}
    if is_fifo(service.queue_url):
        order["MessageDeduplicationId"] = deduplication_id or str(uuid.uuid4())
    service.client("sqs").send_message(
        QueueUrl=service.queue_url,
        MessageBody=message["Body"],
        MessageAttributes=message["MessageAttributes"],
        **order,
    )


def show_again(service: Service, queue_url: str, messages: list[Message]) -> None:
    """Make received messages visible again at once."""
    sqs = service.client("sqs")
    problems = each(
        messages,
        lambda message: sqs.change_message_visibility(
            QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        ),
    )
    if problems:
        print(f"Some messages stay hidden for up to {HOLD_SECONDS} s.", file=sys.stderr)


def duration(seconds: float) -> str:
    """Print a number of seconds in the unit that suits it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"

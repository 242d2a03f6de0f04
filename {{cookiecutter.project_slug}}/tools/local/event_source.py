"""An event source mapping from SQS to Lambda, as AWS runs it, for a function that runs here.

It receives messages, invokes the function with a batch of them and deletes those that succeeded.
What failed stays in the queue: that it comes back after the visibility timeout, and goes to the
dead-letter queue after too many receives, is SQS's work.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import base64
import math
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from tools.events import is_fifo
from tools.local.runtime import EVENT_LIMIT, Invocation, size_of

REQUEST_LIMIT = 10  # messages that one request to SQS receives or deletes at most


class Function(Protocol):
    """What is invoked: a Runtime, for example."""

    def invoke(self, event: object) -> Invocation:
        """Hand an event to the function and wait for the result."""


@dataclass(frozen=True)
class Batch:
    """One invocation: the event's records, the outcome, and the ids of the messages that failed."""

    records: list[dict[str, Any]]
    outcome: Invocation
    failed: frozenset[str]


@dataclass
class EventSource:
    """Takes messages from a queue to a function.

    sqs is a boto3 client. window is in seconds. retry_with is a client, too, if failed messages are
    to be visible again retry_after seconds later: AWS doesn't do that, and nobody need wait for the
    visibility timeout. stopped ends the gathering of a batch.

    In the methods, wait is how many seconds to wait for a first message, 20 at most.
    """

    sqs: Any
    queue_url: str
    function: Function
    _: KW_ONLY
    batch_size: int
    report_batch_item_failures: bool
    window: float = 0
    retry_with: Any = None
    retry_after: int = 0
    stopped: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        """Ask for the queue's ARN, which each record has."""
        queue = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["QueueArn"])
        self.queue_arn: str = queue["Attributes"]["QueueArn"]
        self.waiting: list[dict[str, Any]] = []  # received, and too much for the last batch

    def run(self, until: Callable[[list[Batch]], bool], *, timeout: float) -> list[Batch]:
        """Poll until a condition on the batches so far is met; return them.

        :param timeout: seconds.
        :raises TimeoutError: the condition isn't met in time.
        """
        deadline = time.monotonic() + timeout
        batches: list[Batch] = []
        while not until(batches):
            if time.monotonic() > deadline:
                done = f"After {timeout:g} s and {len(batches)} batches"
                raise TimeoutError(f"{done} the condition for {self.queue_url} is not met.")
            if batch := self.poll(wait=1):
                batches.append(batch)
        return batches

    def poll(self, wait: int = 0) -> Batch | None:
        """Receive once, invoke the function and delete what succeeded; None if nothing came."""
        messages = self.take(wait)
        return self.work(messages) if messages else None

    def take(self, wait: int = 0) -> list[dict[str, Any]]:
        """Return the messages of the next batch, as ReceiveMessage has them; none if none came."""
        messages = self.waiting or self.receive(self.batch_size, wait, self.window)
        # A batch also ends at the limit of an event. What another source left may be too many.
        size, count = size_of({"Records": []}), 0
        for message in messages:
            size += size_of(self.record(message)) + len(", ")
            if count == self.batch_size or (count and size > EVENT_LIMIT):
                break
            count += 1
        self.waiting = messages[count:]
        return messages[:count]

    def work(self, messages: list[dict[str, Any]]) -> Batch:
        """Invoke the function with a batch and delete what succeeded."""
        records = [self.record(message) for message in messages]
        outcome = self.function.invoke({"Records": records})
        ids = [record["messageId"] for record in records]
        failed = failures(outcome, ids, self.report_batch_item_failures)
        self.delete([message for message in messages if message["MessageId"] not in failed])
        retried = [message for message in messages if message["MessageId"] in failed]
        if is_fifo(self.queue_url):  # what waits must not overtake a message of its group
            groups = {group_of(message) for message in retried}
            retried += [message for message in self.waiting if group_of(message) in groups]
            self.waiting = [message for message in self.waiting if group_of(message) not in groups]
        for message in retried if self.retry_with else ():
            self.retry_with.change_message_visibility(
                QueueUrl=self.queue_url,
                ReceiptHandle=message["ReceiptHandle"],
                VisibilityTimeout=self.retry_after,
            )
        return Batch(records, outcome, failed)

    def delete(self, messages: list[dict[str, Any]]) -> None:
        """Delete messages. Raises ClientError if any of them cannot be deleted."""
        refused: list[dict[str, Any]] = []
        for first in range(0, len(messages), REQUEST_LIMIT):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages[first : first + REQUEST_LIMIT])
            ]
            answer = self.sqs.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)
            refused += answer.get("Failed", [])
        if refused:
            raise ClientError({"Error": refused[0]}, "DeleteMessage")

    def receive(
        self, count: int, wait: int = 0, window: float = 0, **more: Any
    ) -> list[dict[str, Any]]:
        """Receive up to so many messages; more has further parameters of ReceiveMessage.

        window is how many seconds to wait for more, from the first message on; the limit of an
        event ends that, too.
        """
        messages: list[dict[str, Any]] = []
        end, size = -math.inf, 0
        while len(messages) < count and size < EVENT_LIMIT and not self.stopped():
            left = end - time.monotonic()
            if messages and 0 < left < 1:  # SQS waits for whole seconds
                time.sleep(left)
            received = self.sqs.receive_message(
                QueueUrl=self.queue_url,
                MaxNumberOfMessages=min(REQUEST_LIMIT, count - len(messages)),
                WaitTimeSeconds=int(left >= 1) if messages else wait,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
                **more,
            ).get("Messages", [])
            if not messages:
                end = time.monotonic() + window
            if not received and left < 1:
                break
            messages += received
            size += sum(size_of(self.record(message)) for message in received)
        return messages

    def record(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message of ReceiveMessage in the shape in which Lambda gets it."""
        attributes = message.get("MessageAttributes", {})
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {name: in_record(value) for name, value in attributes.items()},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.queue_arn,
            "awsRegion": self.queue_arn.split(":")[3],
        }
        if attributes:
            record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
        return record


def group_of(message: dict[str, Any]) -> str:
    """Return the message group of a message from a FIFO queue."""
    return str(message["Attributes"]["MessageGroupId"])


def in_record(attribute: dict[str, Any]) -> dict[str, Any]:
    """Return a message attribute of SQS's in Lambda's shape; bytes are in Base64."""
    value: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    if "StringValue" in attribute:
        value["stringValue"] = attribute["StringValue"]
    if "BinaryValue" in attribute:
        value["binaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
    return {**value, "dataType": attribute["DataType"]}


def failures(
    outcome: Invocation, ids: list[str], report_batch_item_failures: bool
) -> frozenset[str]:
    """Return which messages of a batch failed, by Lambda's rules.

    After an error all of them. Else, where item failures are reported, those that the response
    names: none if it or its list is empty or null; all if it has another form or names what isn't
    in the batch.
    """
    everything = frozenset(ids)
    if outcome.error is not None:
        return everything
    if not report_batch_item_failures or outcome.response is None:
        return frozenset()
    if not isinstance(outcome.response, dict):
        return everything
    items = outcome.response.get("batchItemFailures")
    if items is None:
        return frozenset()
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return everything
    named = [item.get("itemIdentifier") for item in items]
    return frozenset(named) if all(name in ids for name in named) else everything

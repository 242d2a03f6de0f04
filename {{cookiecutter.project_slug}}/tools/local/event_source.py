"""An event source mapping from SQS to Lambda, as AWS runs it, for a function that runs anywhere.

It receives messages, invokes the function with a batch of them and deletes what succeeded. What
failed stays in the queue until its visibility time-out is over, and goes to the dead-letter queue
when it has been received too often: both are SQS's work.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

RECEIVE_LIMIT = 10  # messages that SQS gives at most for one ReceiveMessage


class Outcome(Protocol):
    """What comes of an invocation: a response, or an error (None if there was none)."""

    @property
    def response(self) -> Any: ...

    @property
    def error(self) -> Any: ...


class Function(Protocol):
    """What the event source invokes."""

    def invoke(self, event: object) -> Outcome:
        """Hand an event to the function, and wait for what comes of it."""


@dataclass(frozen=True)
class Batch:
    """One invocation: the event's records, what came of it, and the ids of messages that failed.

    outcome is what the function's invoke returned.
    """

    records: list[dict[str, Any]]
    outcome: Any
    failed: frozenset[str]


class EventSource:
    """Takes messages from a queue to a function."""

    def __init__(
        self,
        sqs: Any,
        queue_url: str,
        function: Function,
        *,
        batch_size: int,
        report_batch_item_failures: bool,
        retry_at_once: bool = False,
    ) -> None:
        """Take the mapping's settings.

        :param sqs: a boto3 client.
        :param batch_size: messages per invocation at most.
        :param report_batch_item_failures: the mapping's FunctionResponseTypes name
            ReportBatchItemFailures; else the response doesn't count, only an error does.
        :param retry_at_once: make failed messages visible again at once. AWS doesn't: a test need
            not wait for the visibility time-out.
        """
        self.sqs = sqs
        self.queue_url = queue_url
        self.function = function
        self.batch_size = batch_size
        self.report_batch_item_failures = report_batch_item_failures
        self.retry_at_once = retry_at_once
        attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        self.queue_arn: str = attributes["Attributes"]["QueueArn"]

    def run(self, until: Callable[[list[Batch]], bool], *, timeout: float) -> list[Batch]:
        """Take messages until a condition on the batches so far is met.

        :param timeout: seconds; polling may take a second longer, a function its own time-out.
        :returns: the batches, in order.
        :raises TimeoutError: the condition isn't met in time.
        """
        deadline = time.monotonic() + timeout
        batches: list[Batch] = []
        while not until(batches):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"After {timeout:g} s and {len(batches)} batches the event source of "
                    f"{self.queue_url} has not yet done what it was waited for."
                )
            if batch := self.poll(wait=1):
                batches.append(batch)
        return batches

    def poll(self, wait: int = 0) -> Batch | None:
        """Receive once, invoke the function if there is anything, and delete what succeeded.

        :param wait: seconds to wait for a first message, 20 at most.
        :returns: None if there was no message.
        """
        messages = self.receive(self.batch_size, wait)
        if not messages:
            return None
        records = [self.record(message) for message in messages]
        outcome = self.function.invoke({"Records": records})
        ids = [record["messageId"] for record in records]
        failed = failures(outcome, ids, self.report_batch_item_failures)
        for message in messages:
            receipt = {"QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"]}
            if message["MessageId"] not in failed:
                self.sqs.delete_message(**receipt)
            elif self.retry_at_once:
                self.sqs.change_message_visibility(**receipt, VisibilityTimeout=0)
        return Batch(records, outcome, failed)

    def receive(self, count: int, wait: int = 0, **more: Any) -> list[dict[str, Any]]:
        """Receive up to so many messages; fewer if the queue has no more.

        more are further parameters of ReceiveMessage.
        """
        messages: list[dict[str, Any]] = []
        while len(messages) < count:
            received = self.sqs.receive_message(
                QueueUrl=self.queue_url,
                MaxNumberOfMessages=min(RECEIVE_LIMIT, count - len(messages)),
                WaitTimeSeconds=0 if messages else wait,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
                **more,
            ).get("Messages", [])
            if not received:
                break
            messages += received
        return messages

    def record(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message of ReceiveMessage in the shape in which Lambda gets it."""
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {
                name: message_attribute(value)
                for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.queue_arn,
            "awsRegion": self.queue_arn.split(":")[3],
        }
        if "MD5OfMessageAttributes" in message:
            record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
        return record


def message_attribute(attribute: dict[str, Any]) -> dict[str, Any]:
    """Return a message attribute of SQS's in Lambda's shape; bytes are in Base64."""
    value: dict[str, Any] = {}
    if "StringValue" in attribute:
        value["stringValue"] = attribute["StringValue"]
    if "BinaryValue" in attribute:
        value["binaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
    empty: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    return {**value, **empty, "dataType": attribute["DataType"]}


def failures(outcome: Outcome, ids: list[str], report_batch_item_failures: bool) -> frozenset[str]:
    """Return which messages of a batch failed, by Lambda's rules.

    With an error all of them; else, where item failures are reported, those that the response
    names: none with an empty or null response or list, all where the response is of another form,
    or names what isn't in the batch.
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
    if not all(isinstance(name, str) and name in everything for name in named):
        return everything
    return frozenset(named)

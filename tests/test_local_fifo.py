"""The local AWS with a FIFO topic and FIFO queues: what goes through keeps its order.

What single patches of moto do has its probes in test_local_aws.py.
"""

import json
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from moto.backends import get_backend
from moto.core.utils import unix_time_millis
from test_local_aws import Function, Outcome, failing
from tools.events import in_group
from tools.local import event_source
from tools.local.event_source import EventSource
from tools.local.server import LocalAws, local_aws

REGION = "eu-central-1"
ACCOUNT = "123456789012"
ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}"


class Queues:
    """As a FIFO service has them: main.fifo, dead.fifo, and undelivered.fifo of a subscription."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.sqs, self.sns = aws, aws.client("sqs"), aws.client("sns")
        fifo = {"FifoQueue": "true", "DeduplicationScope": "messageGroup"}
        redrive = {"deadLetterTargetArn": f"{ARN}:dead.fifo", "maxReceiveCount": 3}
        main = {**fifo, "RedrivePolicy": json.dumps(redrive)}
        self.urls = {
            name: self.sqs.create_queue(QueueName=f"{name}.fifo", Attributes=attributes)["QueueUrl"]
            for name, attributes in {"dead": fifo, "undelivered": fifo, "main": main}.items()
        }
        self.url = self.urls["main"]

    def send(self, body: str, group: str, url: str = "") -> None:
        url = url or self.url
        self.sqs.send_message(QueueUrl=url, MessageBody=body, **in_group(url, group))

    def receive(self, url: str = "", most: int = 10, **more: Any) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(
            QueueUrl=url or self.url,
            MaxNumberOfMessages=most,
            MessageSystemAttributeNames=["All"],
            **more,
        )
        return list(answer.get("Messages", []))

    def bodies(self, url: str = "", most: int = 10, **more: Any) -> str:
        return "".join(message["Body"] for message in self.receive(url, most, **more))

    def topic(self, **attributes: str) -> str:
        """Make a FIFO topic with the main queue as its subscriber; return its ARN."""
        topic = self.sns.create_topic(Name="events.fifo", Attributes={"FifoTopic": "true"})
        settings = {
            "RawMessageDelivery": "true",
            "FilterPolicy": '{"event_type": ["order.created"]}',
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": f"{ARN}:undelivered.fifo"}),
        }
        arn = str(topic["TopicArn"])
        self.sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=f"{ARN}:main.fifo", Attributes=settings
        )
        return arn

    def publish(self, topic: str, body: str, group: str, event_type: str = "order.created") -> None:
        self.sns.publish(
            TopicArn=topic,
            Message=body,
            MessageAttributes={"event_type": {"DataType": "String", "StringValue": event_type}},
            **in_group(topic, group),
        )

    def source(self, function: Function, **settings: Any) -> EventSource:
        defaults = {"batch_size": 10, "report_batch_item_failures": True, "retry_with": self.sqs}
        return EventSource(self.sqs, self.url, function, **{**defaults, **settings})


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws(REGION) as running:
        yield running


@pytest.fixture
def queues(aws: LocalAws) -> Iterator[Queues]:
    yield Queues(aws)
    for name in ("sqs", "sns"):
        get_backend(name)[ACCOUNT][REGION].reset()


def test_a_topic_hands_groups_on_in_order_by_its_filter(queues: Queues) -> None:
    topic = queues.topic()
    for body, group in zip("1x23", "abaa", strict=True):
        queues.publish(topic, body, group)
        queues.publish(topic, "other", group, event_type="unlisted")
    messages = queues.receive()
    assert [message["Body"] for message in messages] == ["1", "2", "3", "x"]
    groups = [message["Attributes"]["MessageGroupId"] for message in messages]
    assert groups == ["a", "a", "a", "b"]


def test_what_cannot_be_delivered_keeps_its_group_and_order(queues: Queues) -> None:
    topic = queues.topic()
    denied = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    queues.sqs.set_queue_attributes(QueueUrl=queues.url, Attributes={"Policy": policy})
    for body in "12":
        queues.publish(topic, body, "a")
    messages = queues.receive(queues.urls["undelivered"])
    assert [message["Body"] for message in messages] == ["1", "2"]
    assert {message["Attributes"]["MessageGroupId"] for message in messages} == {"a"}
    assert queues.bodies() == ""


def test_a_move_task_keeps_the_order_of_each_group(queues: Queues) -> None:
    for body, group in zip("1x23", "abaa", strict=True):
        queues.send(body, group)
    for _ in range(4):
        queues.bodies(VisibilityTimeout=0)
    before = queues.receive(queues.urls["dead"], VisibilityTimeout=0)
    assert "".join(message["Body"] for message in before) == "123x"
    queues.send("4", "a")
    queues.sqs.start_message_move_task(SourceArn=f"{ARN}:dead.fifo")
    deadline = time.monotonic() + 60
    while queues.aws.depth(queues.url) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    after = queues.receive()
    assert "".join(message["Body"] for message in after) == "4123x"
    for name in ("MessageDeduplicationId", "SequenceNumber"):
        old = {message["Attributes"][name] for message in before}
        assert not old & {message["Attributes"][name] for message in after}
    # Even if the same message was sent to the dead-letter queue by hand, twice.
    assert len({message["Attributes"]["MessageDeduplicationId"] for message in after}) == 5


def test_what_does_not_fit_into_a_batch_waits_for_its_group(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch ends at the limit of an event: what was received besides must not overtake."""
    for body, group in (("1", "a"), ("2", "a"), ("x", "b")):
        queues.send(body, group)
    function = Function(failing("1"))
    source = queues.source(function)
    size = event_source.size_of(source.record(queues.receive(most=1, VisibilityTimeout=0)[0]))
    monkeypatch.setattr(event_source, "EVENT_LIMIT", int(1.5 * size))
    for _ in range(2):
        source.poll()
    function.answer = failing()
    while source.poll():
        pass
    worked = [record["body"] for event in function.events for record in event["Records"]]
    assert worked == ["1", "x", "1", "2"]


def test_an_invocation_that_fails_gives_all_back_in_order(queues: Queues) -> None:
    for body in "123":
        queues.send(body, "a")
    function = Function(lambda _: Outcome(error={"errorType": "Boom"}))
    source = queues.source(function)
    source.poll()
    function.answer = failing()
    source.poll()
    batches = [[record["body"] for record in event["Records"]] for event in function.events]
    assert batches == [["1", "2", "3"]] * 2
    assert queues.aws.depth(queues.url) == 0


def test_deduplication_forgets_after_five_minutes(queues: Queues) -> None:
    backend = get_backend("sqs")[ACCOUNT][REGION]
    now, name = unix_time_millis(), "tools.local.patches_queues_fifo.unix_time_millis"
    for minute in range(12):
        with mock.patch(name, return_value=now + minute * 60000):
            for number in range(10):
                body = f"{minute}-{number}"
                backend.send_message("main.fifo", body, deduplication_id=body, group_id=body)
    assert len(backend.queues["main.fifo"].deduplicated) == 5 * 10

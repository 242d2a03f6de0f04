"""SQS of the local AWS: message move tasks as AWS has them, many calls at once, and its memory.

What AWS answers was recorded there by LocalStack's developers: localstack/localstack,
tests/aws/services/sqs/test_sqs_move_task.snapshot.json.
"""

import gc
import json
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.backends import get_backend
from tools.local import patches_limits, patches_queues
from tools.local.monitoring import Monitoring
from tools.local.patches_fargate import STOPPING
from tools.local.server import LocalAws, local_aws

REGION = "eu-central-1"
ACCOUNT = "123456789012"
ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}"


class Queues:
    """Two queues, first and second, with one dead-letter queue, dead; and one besides, other."""

    def __init__(self, aws: LocalAws) -> None:
        self.sqs = aws.client("sqs")
        policy = json.dumps({"deadLetterTargetArn": f"{ARN}:dead", "maxReceiveCount": 1})
        settings = {"RedrivePolicy": policy}
        names: dict[str, dict[str, str]] = {"dead": {}, "other": {}, "first": settings}
        self.urls = {
            name: self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
            for name, attributes in {**names, "second": settings}.items()
        }

    def fail(self, queue: str, *bodies: str) -> None:
        """Send messages to a queue, and receive them until they are dead letters."""
        for body in bodies:
            attributes = {"event_type": {"DataType": "String", "StringValue": body}}
            self.sqs.send_message(
                QueueUrl=self.urls[queue], MessageBody=body, MessageAttributes=attributes
            )
        for _ in range(len(bodies) + 1):
            self.sqs.receive_message(
                QueueUrl=self.urls[queue], MaxNumberOfMessages=10, VisibilityTimeout=0
            )

    def messages(self, queue: str) -> dict[str, dict[str, Any]]:
        """Receive a queue's messages, by their bodies."""
        found: dict[str, dict[str, Any]] = {}
        while some := self.sqs.receive_message(
            QueueUrl=self.urls[queue],
            MaxNumberOfMessages=10,
            VisibilityTimeout=1000,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages"):
            found |= {message["Body"]: message for message in some}
        return found

    def start(self, source: str = "dead", **more: Any) -> str:
        """Start a move task; return its handle."""
        started = self.sqs.start_message_move_task(SourceArn=f"{ARN}:{source}", **more)
        return str(started["TaskHandle"])

    def tasks(self, **more: Any) -> list[dict[str, Any]]:
        """List the move tasks of the dead-letter queue."""
        listed = self.sqs.list_message_move_tasks(SourceArn=f"{ARN}:dead", **more)
        return list(listed["Results"])

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a condition of the latest task; return what is listed of it then."""
        deadline = time.monotonic() + 60
        while not condition(task := self.tasks()[0]):
            assert time.monotonic() < deadline, task
            time.sleep(0.01)
        return task

    def ended(self) -> dict[str, Any]:
        return self.until(lambda task: task["Status"] not in ("RUNNING", "CANCELLING"))

    def refused(self, operation: str, **parameters: Any) -> tuple[str, str]:
        """Call what must be refused; return the error's code and message."""
        with pytest.raises(ClientError) as refusal:
            getattr(self.sqs, operation)(**parameters)
        error = refusal.value.response["Error"]
        return error["Code"], error["Message"]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws(REGION) as running:
        yield running


@pytest.fixture
def queues(aws: LocalAws) -> Iterator[Queues]:
    made = Queues(aws)
    yield made
    for url in made.urls.values():
        made.sqs.delete_queue(QueueUrl=url)
    get_backend("sqs")[ACCOUNT][REGION].reset()


def test_messages_go_back_to_the_queue_that_each_came_from_as_new_ones(queues: Queues) -> None:
    queues.fail("first", "a", "b")
    queues.fail("second", "c")
    before = queues.sqs.receive_message(
        QueueUrl=queues.urls["dead"], VisibilityTimeout=0, MaxNumberOfMessages=10
    )["Messages"]
    began = time.time() * 1000
    queues.start()
    task = queues.ended()
    assert int(began) <= task.pop("StartedTimestamp") <= time.time() * 1000
    assert task == {
        "Status": "COMPLETED",
        "SourceArn": f"{ARN}:dead",
        "ApproximateNumberOfMessagesMoved": 3,
        "ApproximateNumberOfMessagesToMove": 3,
    }
    first, second = queues.messages("first"), queues.messages("second")
    assert (first.keys(), second.keys()) == ({"a", "b"}, {"c"})
    assert queues.messages("dead") == {}
    old = {message["Body"]: message["MessageId"] for message in before}
    for body, message in (first | second).items():
        assert message["MessageId"] != old[body]
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
        assert int(message["Attributes"]["SentTimestamp"]) >= int(began)
        assert message["MessageAttributes"]["event_type"]["StringValue"] == body


def test_another_destination(queues: Queues) -> None:
    queues.fail("first", "a")
    # This one was sent there directly: nobody knows where it belongs, so somebody says it.
    queues.sqs.send_message(QueueUrl=queues.urls["dead"], MessageBody="b")
    queues.start(DestinationArn=f"{ARN}:other")
    task = queues.ended()
    assert (task["Status"], task["DestinationArn"]) == ("COMPLETED", f"{ARN}:other")
    assert queues.messages("other").keys() == {"a", "b"}


def test_a_message_without_a_source_fails_the_task(queues: Queues) -> None:
    queues.sqs.send_message(QueueUrl=queues.urls["dead"], MessageBody="a")
    queues.start()
    task = queues.ended()
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert task["ApproximateNumberOfMessagesMoved"] == 0
    assert queues.messages("dead").keys() == {"a"}


def test_a_queue_that_goes_away_fails_the_task(queues: Queues) -> None:
    queues.fail("first", *"abc")
    queues.start(MaxNumberOfMessagesPerSecond=5, DestinationArn=f"{ARN}:other")
    queues.until(lambda task: task["ApproximateNumberOfMessagesMoved"] == 1)
    queues.sqs.delete_queue(QueueUrl=queues.urls["other"])
    task = queues.ended()
    queues.sqs.create_queue(QueueName="other")
    reason = "AWS.SimpleQueueService.NonExistentQueue"
    assert (task["Status"], task["FailureReason"]) == ("FAILED", reason)
    assert queues.messages("dead").keys() == {"b", "c"}


def test_the_rate_is_kept_and_a_handle_is_listed_while_the_task_runs(queues: Queues) -> None:
    queues.fail("first", *"abcdef")
    began = time.monotonic()
    handle = queues.start(MaxNumberOfMessagesPerSecond=10)
    task = queues.until(lambda task: task["ApproximateNumberOfMessagesMoved"] >= 1)
    assert (task["TaskHandle"], task["Status"]) == (handle, "RUNNING")
    assert task["MaxNumberOfMessagesPerSecond"] == 10
    queues.ended()
    assert time.monotonic() - began >= 0.5  # five pauses of a tenth at least
    assert "TaskHandle" not in queues.tasks()[0]


def test_a_cancelled_task_leaves_the_rest(queues: Queues) -> None:
    queues.fail("first", *"abc")
    handle = queues.start(MaxNumberOfMessagesPerSecond=1)
    queues.until(lambda task: task["ApproximateNumberOfMessagesMoved"] == 1)
    answer = queues.sqs.cancel_message_move_task(TaskHandle=handle)
    assert answer["ApproximateNumberOfMessagesMoved"] == 1
    assert queues.ended()["Status"] == "CANCELLED"
    assert (queues.messages("first").keys(), queues.messages("dead").keys()) == ({"a"}, {*"bc"})
    code, message = queues.refused("cancel_message_move_task", TaskHandle=handle)
    assert code == "AWS.SimpleQueueService.UnsupportedOperation"
    assert "only be cancelled while it is RUNNING" in message


def test_one_task_at_a_time(queues: Queues) -> None:
    queues.fail("first", *"abc")
    queues.start(MaxNumberOfMessagesPerSecond=1)
    assert queues.refused("start_message_move_task", SourceArn=f"{ARN}:dead") == (
        "InvalidParameterValue",
        "There is already a task running. Only one active task is allowed for a source queue arn "
        "at a given time.",
    )
    queues.sqs.cancel_message_move_task(TaskHandle=queues.tasks()[0]["TaskHandle"])
    queues.ended()
    queues.start()
    assert queues.ended()["Status"] == "COMPLETED"
    assert len(queues.tasks()) == 1
    assert [task["Status"] for task in queues.tasks(MaxResults=10)] == ["COMPLETED", "CANCELLED"]


NOT_DEAD = ("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
RATE = "for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: Must be between 1 and 500."


def missing(parameter: str) -> tuple[str, str]:
    text = f"The resource that you specified for the {parameter} parameter doesn't exist."
    return "ResourceNotFoundException", text


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"SourceArn": f"{ARN}:other"}, NOT_DEAD),
        ({"SourceArn": f"{ARN}:first"}, NOT_DEAD),
        ({"SourceArn": f"{ARN}:none"}, missing("SourceArn")),
        ({"DestinationArn": f"{ARN}:none"}, missing("DestinationArn")),
        ({"MaxNumberOfMessagesPerSecond": 0}, ("InvalidParameterValue", f"Value 0 {RATE}")),
        ({"MaxNumberOfMessagesPerSecond": 501}, ("InvalidParameterValue", f"Value 501 {RATE}")),
    ],
)
def test_what_cannot_be_moved_is_refused(
    queues: Queues, parameters: dict[str, Any], error: tuple[str, str]
) -> None:
    asked = {"SourceArn": f"{ARN}:dead", **parameters}
    assert queues.refused("start_message_move_task", **asked) == error
    assert queues.tasks() == []


def test_tasks_that_are_not_there(queues: Queues) -> None:
    refused = queues.refused
    assert refused("list_message_move_tasks", SourceArn=f"{ARN}:none") == missing("SourceArn")
    for handle in ("foobared", ""):
        assert refused("cancel_message_move_task", TaskHandle=handle) == (
            "ResourceNotFoundException",
            "Task does not exist.",
        )


def test_many_send_and_receive_at_once_and_each_message_comes_once(queues: Queues) -> None:
    """In moto as it comes, what one deletes another keeps, and two receive the same message."""
    backend = get_backend("sqs")[ACCOUNT][REGION]
    received: Counter[str] = Counter()
    count, senders = 100, 4

    def send(number: int) -> None:
        for index in range(count):
            backend.send_message("other", f"{number}-{index}")

    def receive() -> None:
        while messages := backend.receive_message("other", 10, 1, 30):
            for message in messages:
                received[message.body] += 1
                backend.delete_message("other", message.receipt_handle)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
    threads += [threading.Thread(target=receive) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert len(received) == senders * count
    assert set(received.values()) == {1}
    assert backend.queues["other"]._messages == []


def test_a_task_that_stops_keeps_nobody_from_its_queue(aws: LocalAws, queues: Queues) -> None:
    key, url = f"ASIA{'A' * 16}", queues.urls["other"]
    sqs = aws.client("sqs", {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "x"})
    STOPPING.add(key)
    try:
        poll = threading.Thread(target=sqs.receive_message, kwargs={"QueueUrl": url})
        poll.start()
        time.sleep(0.2)
        assert poll.is_alive()  # or it would ask again and again
        began = time.monotonic()
        queues.sqs.send_message(QueueUrl=url, MessageBody="x")
        assert time.monotonic() - began < 0.6
    finally:
        STOPPING.discard(key)
    poll.join(5)
    assert [*queues.messages("other")] == ["x"]


def test_memory_does_not_grow_with_the_number_of_messages(
    aws: LocalAws, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches_limits, "LINES_KEPT", 200)
    monkeypatch.setattr(patches_queues, "DELETED_KEPT", 100)
    sns, logs = aws.client("sns"), aws.client("logs")
    topic = sns.create_topic(Name="events")["TopicArn"]
    settings = {"RawMessageDelivery": "true"}
    policy = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    queues.sqs.set_queue_attributes(
        QueueUrl=queues.urls["first"],
        Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [policy]})},
    )
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"{ARN}:first", Attributes=settings)
    logs.create_log_group(logGroupName="group")
    monitoring = Monitoring(aws, {"queue_arn": f"{ARN}:first"})
    sqs, topics, groups = (get_backend(name)[ACCOUNT][REGION] for name in ("sqs", "sns", "logs"))

    def work(count: int) -> int:
        """Publish, receive, log and delete messages; return how much memory is in use then."""
        for number in range(count):
            attributes = {"event_type": {"Type": "String", "Value": "order.created"}}
            topics.topics[topic].publish("x" * 500, message_attributes=attributes)
            (message,) = sqs.receive_message("first", 10, 1, 30)
            now = int(time.time() * 1000)
            stream = str(number // 100)  # as after many reloads
            if stream not in groups.groups["group"].streams:
                groups.create_log_stream("group", stream)
            line = {"timestamp": now, "message": f"{number}" + "y" * 200}
            groups.put_log_events("group", stream, [line, line])
            for name in ("Invocations", "Errors", "Duration"):
                monitoring.put("AWS/Lambda", name, {"FunctionName": "function"}, number)
            sqs.delete_message("first", message.receipt_handle)
        monitoring.tick()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before, after = work(150), work(300)
    finally:
        tracemalloc.stop()
    # moto as it comes keeps more than a megabyte.
    assert after - before < 100_000

"""Fargate's worker in this process: its rules, with moto's SQS and a function as the handler.

Only one test starts the handler's process; tests/test_worker_process.py runs the whole worker.
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import boto3
import pytest

# It has no Jinja in it, and runs as it is.
import worker
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.botocore_stubber import MockRawResponse
from moto.sqs.models import sqs_backends
from tools.events import in_group, is_fifo
from worker import (
    HandlerError,
    HandlerProcess,
    Poller,
    Settings,
    SettingsError,
    Stopping,
    TaskProtection,
    Worker,
)
from worker_process import SETTINGS, put_together

Log = Callable[[], list[dict[str, Any]]]

ENVIRONMENT = {
    "QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/queue",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "BATCH_SIZE": "10",
    "POLLERS": "1",
    "VISIBILITY_TIMEOUT": "30",
    "TIMEOUT": "60",
    "STOP_TIMEOUT": "2",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what the handler and its metrics need; the settings come from ENVIRONMENT."""
    for name, value in SETTINGS.items():
        if name not in ENVIRONMENT:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", ENVIRONMENT["AWS_DEFAULT_REGION"])


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a function that gives the lines of the worker's log."""
    stream = io.StringIO()
    monkeypatch.setattr(worker.logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


class Here(HandlerProcess):
    """A handler that is a function of the test's."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        super().__init__()
        self.handler = handler

    def start(self, heartbeat: Callable[[], None]) -> None:
        heartbeat()

    def invoke(self, event: object, timeout: float, heartbeat: Callable[[], None]) -> Any:
        heartbeat()
        return self.handler(event)


@pytest.fixture
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """Make a poller for a queue of moto's; its handler succeeds, and it waits for nothing."""
    monkeypatch.setattr(worker, "LONG_POLL", 0)
    name = getattr(request, "param", "queue")
    attributes = {"FifoQueue": "true"} if is_fifo(name) else {}
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-central-1")
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        made = Worker(worker.read_settings({**ENVIRONMENT, "QUEUE_URL": url}))
        poller = made.pollers[0]
        poller.handler = Here(lambda _: None)
        monkeypatch.setattr(made.stopping, "wait", lambda _: False)
        yield poller


def send(poller: Poller, *bodies: str) -> None:
    """Send messages; to a FIFO queue in groups, which are their first letters."""
    url = poller.settings.queue_url
    for body in bodies:
        group = in_group(url, body[0])
        poller.worker.sqs.send_message(QueueUrl=url, MessageBody=body, **group)


def depth(poller: Poller) -> tuple[int, int]:
    """Return how many messages are visible, and how many are in flight."""
    found = poller.worker.sqs.get_queue_attributes(
        QueueUrl=poller.settings.queue_url, AttributeNames=["All"]
    )["Attributes"]
    visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
    return int(found[visible]), int(found[hidden])


# The environment


def test_the_settings_come_from_the_environment() -> None:
    assert worker.read_settings({**ENVIRONMENT, "ECS_AGENT_URI": "http://agent"}) == Settings(
        queue_url=ENVIRONMENT["QUEUE_URL"],
        region="eu-central-1",
        batch_size=10,
        pollers=1,
        visibility_timeout=30,
        timeout=60,
        stop_timeout=2,
        ecs_agent_uri="http://agent",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUEUE_URL", "queue"),
        ("AWS_DEFAULT_REGION", ""),
        ("BATCH_SIZE", "11"),
        ("POLLERS", "0"),
        ("VISIBILITY_TIMEOUT", "2"),
        ("TIMEOUT", "42601"),
        ("STOP_TIMEOUT", "121"),
        ("TIMEOUT", "1.5"),
        ("TIMEOUT", "²"),
    ],
)
def test_an_invalid_variable_is_named_with_its_rule(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        worker.read_settings({**ENVIRONMENT, name: value})
    (problem,) = caught.value.args
    assert name in problem
    assert value in problem


def test_all_missing_variables_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    for name in (*ENVIRONMENT, "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert worker.main([]) == 2
    (line,) = logged()
    assert len(line["problems"]) == len(ENVIRONMENT)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main(["helth"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stop_timeout", "grace", "long_poll"), [(2, 1, 1), (10, 5, 5), (30, 25, 20), (120, 115, 20)]
)
def test_a_long_poll_ends_before_the_grace_period(
    stop_timeout: int, grace: int, long_poll: int
) -> None:
    settings = worker.read_settings({**ENVIRONMENT, "STOP_TIMEOUT": str(stop_timeout)})
    assert (settings.grace_period, settings.long_poll) == (grace, long_poll)


# A batch


def test_the_handler_gets_a_batch_in_lambdas_shape(poller: Poller) -> None:
    events: list[Any] = []
    poller.handler = Here(events.append)
    poller.worker.sqs.send_message(
        QueueUrl=poller.settings.queue_url,
        MessageBody="body",
        MessageAttributes={
            "event_type": {"DataType": "String", "StringValue": "order.created"},
            "picture": {"DataType": "Binary", "BinaryValue": b"\0\1\2"},
        },
    )
    poller.poll_once()
    (record,) = events[0]["Records"]
    assert record["body"] == "body"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["messageAttributes"]["event_type"]["stringValue"] == "order.created"
    assert record["messageAttributes"]["picture"]["binaryValue"] == "AAEC"
    assert record["eventSourceARN"].endswith(":queue")
    assert record["awsRegion"] == "eu-central-1"
    assert depth(poller) == (0, 0)


def test_only_messages_that_failed_stay(poller: Poller) -> None:
    def handler(event: Any) -> Any:
        failed = [x["messageId"] for x in event["Records"] if x["body"] == "bad"]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    poller.handler = Here(handler)
    send(poller, "good", "bad", "good")
    poller.poll_once()
    assert depth(poller) == (0, 1)


@pytest.mark.parametrize(
    "response",
    [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}],
)
def test_nothing_failed(response: Any) -> None:
    assert worker.failed_ids(response, ["1", "2"]) == set()


@pytest.mark.parametrize(
    "response",
    [
        7,
        "",
        [],
        {"batchItemFailures": "1"},
        {"batchItemFailures": ["1"]},
        {"batchItemFailures": [{"id": "1"}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "3"}]},
    ],
)
def test_an_invalid_response_fails_all_messages(response: Any) -> None:
    with pytest.raises(HandlerError, match="not a partial batch response"):
        worker.failed_ids(response, ["1", "2"])


def test_a_batch_that_fails_as_a_whole_stays_and_is_logged(
    poller: Poller, logged: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    poller.handler = Here(lambda _: "nonsense")
    send(poller, "secret", "secret")
    poller.poll_once()
    assert depth(poller) == (0, 2)
    (line,) = logged()
    assert line["message"] == "The handler's response is not a partial batch response"
    assert len(line["message_ids"]) == 2
    assert line["timestamp"][10] == "T"  # RFC 3339, as in the handler's lines
    metric = json.loads(capsys.readouterr().out)
    assert metric["MessagesFailed"] == [2.0]
    assert metric["environment"] == os.environ["ENVIRONMENT"]
    assert "secret" not in json.dumps([line, metric])


def test_the_visibility_timeout_is_extended_while_the_handler_works(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    class Sqs:
        changes: list[int] = []  # noqa: RUF012

        def change_message_visibility_batch(self, Entries: list[Any], **_: Any) -> Any:  # noqa: N803
            self.changes += [entry["VisibilityTimeout"] for entry in Entries]
            return {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}

    clock = [1000.0]  # whole: what is added stays exact
    monkeypatch.setattr(worker, "monotonic", lambda: clock[0])
    poller.worker.sqs = Sqs()
    poller.received_at = poller.extended_at = clock[0]
    for seconds in (9, 1, 9, 1, worker.MAX_IN_FLIGHT - 40):
        clock[0] += seconds
        poller.heartbeat([MESSAGE])
    # After each third of 30 seconds; near the end of the 12 hours, what is left of them.
    assert Sqs.changes == [30, 30, 19]
    assert [line["reason"] for line in logged()] == ["InternalError"]


MESSAGE = {
    "MessageId": "1",
    "ReceiptHandle": "receipt",
    "Body": "",
    "MD5OfBody": "",
    "Attributes": {},
    "MD5OfMessageAttributes": "x",
}


@pytest.fixture(autouse=True)
def _arn(request: pytest.FixtureRequest) -> None:
    if "poller" in request.fixturenames:
        request.getfixturevalue("poller").worker.find_queue()


class Deletions:
    """An SQS that deletes some messages now, and others at a later try."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.failure: dict[str, Any] = {"Code": "InternalError", "SenderFault": False}
        self.asked: list[list[str]] = []

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, str]]) -> Any:  # noqa: N803
        self.asked.append([entry["Id"] for entry in Entries])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        failed = [entry for entry in Entries if entry["Id"] in answer]
        return {
            "Successful": [entry for entry in Entries if entry not in failed],
            "Failed": [{"Id": entry["Id"], **self.failure} for entry in failed],
        }


THROTTLED = ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}}, "DeleteMessage")


def test_deleting_is_retried_for_the_messages_that_are_left(poller: Poller, logged: Log) -> None:
    poller.worker.sqs = sqs = Deletions({"1"}, THROTTLED, set())
    poller.delete([MESSAGE, MESSAGE, MESSAGE], time.monotonic() + 60)
    assert sqs.asked == [["0", "1", "2"], ["0"], ["0"]]
    assert logged() == []


def test_messages_that_can_t_be_deleted_are_logged(poller: Poller, logged: Log) -> None:
    poller.worker.sqs = Deletions({"0"})
    poller.delete([MESSAGE], time.monotonic() + 0.05)
    (line,) = logged()
    assert (line["reason"], line["message_ids"]) == ("InternalError", ["1"])


def test_what_sqs_refuses_for_good_is_not_retried(poller: Poller, logged: Log) -> None:
    poller.worker.sqs = sqs = Deletions({"0"})
    sqs.failure = {"Code": "ReceiptHandleIsInvalid", "SenderFault": True}
    poller.delete([MESSAGE], float("inf"))
    assert sqs.asked == [["0"]]
    assert logged()[0]["reason"] == "ReceiptHandleIsInvalid"


@pytest.mark.parametrize("status", [200, 403])
def test_a_page_of_a_proxy_is_no_success(poller: Poller, logged: Log, status: int) -> None:
    def page(request: Any, **_: object) -> AWSResponse:
        body = MockRawResponse(b"<!DOCTYPE html><br>Blocked")
        return AWSResponse(request.url, status, {"Content-Type": "text/html"}, body)

    poller.worker.sqs.meta.events.register_first("before-send", page)
    with pytest.raises(worker.AwsError, match="Something other than AWS answered"):
        poller.receive()
    poller.delete([MESSAGE], time.monotonic() + 0.05)
    (line,) = logged()
    assert line["message"].startswith("Can't delete messages that succeeded")


def refuse(poller: Poller, monkeypatch: pytest.MonkeyPatch, refused: list[Any]) -> list[float]:
    """Let SQS refuse to delete while there is an answer in the list; return the waits."""
    waits: list[float] = []
    delete = poller.worker.sqs.delete_message_batch

    def answer(**request: Any) -> Any:
        if not refused:
            return delete(**request)
        failure = {"Code": "AccessDenied", "SenderFault": True}
        return {"Failed": [{"Id": entry["Id"], **failure} for entry in request["Entries"]]}

    monkeypatch.setattr(poller.worker.sqs, "delete_message_batch", answer)
    monkeypatch.setattr(poller.worker.stopping, "wait", waits.append)
    return waits


def come_back(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next messages be visible again at once."""
    monkeypatch.setattr(poller, "settings", replace(poller.settings, visibility_timeout=0))


def test_what_was_processed_and_not_deleted_is_not_processed_again(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    handled: list[str] = []
    refused = [True]

    def handler(event: Any) -> Any:
        bodies = [record["body"] for record in event["Records"]]
        handled.extend(bodies)
        ids = [record["messageId"] for record in event["Records"] if record["body"] == "bad"]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in ids]}

    poller.handler = Here(handler)
    come_back(poller, monkeypatch)
    waits = refuse(poller, monkeypatch, refused)
    send(poller, "good", "bad")
    for _ in range(3):
        poller.poll_once()
    assert sorted(handled) == ["bad", "bad", "bad", "good"]
    assert waits == [1, 2, 4]
    refused.clear()
    poller.poll_once()
    assert handled.count("good") == 1
    assert depth(poller) == (1, 0)
    assert waits == [1, 2, 4]
    assert poller.worker.processed == {}
    texts = [line["message"] for line in logged()]
    assert "Deleting messages that were processed before" in texts
    assert "Can't delete messages that succeeded; they will be delivered again" in texts


def test_a_batch_that_fails_does_not_keep_what_is_done(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_back(poller, monkeypatch)
    refused = [True]
    waits = refuse(poller, monkeypatch, refused)
    send(poller, "done")
    poller.poll_once()
    refused.clear()
    send(poller, "new")
    poller.handler = Here(lambda _: "nonsense")
    poller.poll_once()
    assert depth(poller) == (1, 0)
    assert waits == [1, 2]


def test_what_is_remembered_has_a_limit(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_REMEMBERED", 2)
    poller.worker.sqs = Deletions({"0"})
    poller.worker.sqs.failure["SenderFault"] = True
    for number in range(3):
        poller.delete([{**MESSAGE, "MessageId": str(number)}], float("inf"))
    assert list(poller.worker.processed) == ["1", "2"]


# A FIFO queue: nobody works on a group that somebody else may have received

in_order = pytest.mark.parametrize("poller", ["queue.fifo"], indirect=True)


def bodies(event: Any) -> list[str]:
    return [record["body"] for record in event["Records"]]


@pytest.mark.parametrize(("timeout", "work"), [(3, 2), (30, 20), (120, 110), (43_200, 43_190)])
@in_order
def test_a_handler_is_overdue_before_its_messages_are_visible(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, clock: list[float], timeout: int, work: int
) -> None:
    monkeypatch.setattr(poller, "settings", replace(poller.settings, visibility_timeout=timeout))
    poller.extended_at = clock[0]
    clock[0] += work - 0.1
    assert not poller.overdue()
    clock[0] += 0.1
    assert poller.overdue()


def test_in_a_standard_queue_no_handler_is_overdue(poller: Poller) -> None:
    assert not poller.overdue()


@in_order
def test_an_extension_counts_if_sqs_confirms_it_and_from_before_it_was_asked(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, clock: list[float], logged: Log
) -> None:
    expired = {"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": True}
    answers: list[list[Any]] = [[expired], [expired], []]

    def request(*_: Any, **__: Any) -> list[Any]:
        clock[0] += 2
        return answers.pop(0)

    monkeypatch.setattr(poller, "request", request)
    poller.received_at = poller.extended_at = clock[0]
    seen = []
    for _ in range(4):
        clock[0] += 10 if len(answers) == 3 else 1
        poller.heartbeat([MESSAGE, MESSAGE])
        seen.append(poller.extended_at)
    # One message that isn't extended is enough; it is tried again a second later.
    assert seen == [1000, 1000, 1016, 1016]
    assert [line["reason"] for line in logged()] == ["ReceiptHandleIsInvalid"]


@pytest.mark.parametrize(
    ("poller", "seconds", "confirmed", "extended", "handled"),
    [
        ("queue.fifo", 9, True, False, True),
        ("queue.fifo", 11, True, True, True),
        ("queue.fifo", 11, False, True, True),
        ("queue.fifo", 100, True, True, True),
        ("queue.fifo", 100, False, True, False),
        ("queue", 100, False, False, True),
    ],
    indirect=["poller"],
)
def test_no_batch_begins_whose_visibility_timeout_may_be_over(
    poller: Poller,
    monkeypatch: pytest.MonkeyPatch,
    clock: list[float],
    logged: Log,
    seconds: int,
    confirmed: bool,
    extended: bool,
    handled: bool,
) -> None:
    """The answer of ReceiveMessage has taken long."""
    happened: list[str] = []
    receive = poller.receive

    def late() -> Any:
        messages = receive()
        clock[0] += seconds
        return messages

    def request(name: str, messages: Any, **_: Any) -> list[Any]:
        happened.append(name)
        failure = {"Code": "InternalError", "SenderFault": False}
        return [] if confirmed else [{"Id": str(i), **failure} for i in range(len(messages))]

    monkeypatch.setattr(poller, "receive", late)
    monkeypatch.setattr(poller, "request", request)
    monkeypatch.setattr(poller, "delete", lambda *_: happened.append("delete") or True)
    poller.handler.invoke = lambda *_: happened.append("handler")  # type: ignore[method-assign]
    send(poller, "a1")
    poller.poll_once()
    expected = [worker.CHANGE_VISIBILITY] * extended + ["handler"] * handled + ["delete"]
    assert happened == expected
    assert poller.received_at == (1000 if poller.settings.fifo else 1000 + seconds)
    assert (worker.GIVEN_UP in [line["message"] for line in logged()]) is not handled


@pytest.mark.parametrize(
    ("poller", "extended"), [("queue.fifo", True), ("queue", False)], indirect=["poller"]
)
def test_only_in_a_fifo_queue_the_heart_beats_before_the_handler_begins(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, extended: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(poller, "heartbeat", lambda _: asked.append("heartbeat"))
    poller.handler.invoke = lambda *_: asked.append("handler")  # type: ignore[method-assign]
    send(poller, "a1")
    poller.poll_once()
    assert asked == ["heartbeat"] * extended + ["handler"]


@in_order
def test_only_a_handler_that_has_a_batch_is_killed(poller: Poller, clock: list[float]) -> None:
    killed: list[bool] = []
    poller.handler.send_sigkill = lambda: killed.append(True)  # type: ignore[method-assign]
    poller.extended_at = clock[0] - 30
    poller.give_up_if_overdue()
    assert not killed
    poller.handler.busy = True
    poller.give_up_if_overdue()
    assert killed
    assert poller.given_up


@in_order
def test_what_could_not_be_deleted_comes_back_before_the_next_of_its_group(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that has processed it only deletes it; another one processes it again."""
    monkeypatch.setattr(poller, "settings", replace(poller.settings, batch_size=1))
    other = Worker(poller.settings).pollers[0]
    handled: list[str] = []
    refused = [True]
    refuse(poller, monkeypatch, refused)
    for each in (poller, other):
        each.handler = Here(lambda event: handled.extend(bodies(event)))
    for group, second in (("a", poller), ("b", other)):
        send(poller, f"{group}1", f"{group}2")
        refused.append(True)
        poller.poll_once()
        assert depth(poller) == (1, 1)
        assert not other.receive()  # the group waits
        refused.clear()
        come_back_now(poller)
        second.poll_once()
        assert depth(poller) == (1, 0)
        other.poll_once()
    assert handled == ["a1", "a2", "b1", "b1", "b2"]


def come_back_now(poller: Poller) -> None:
    """Let what is in flight be visible, as if its visibility timeout were over."""
    for message in sqs_backends["123456789012"]["eu-central-1"].queues["queue.fifo"]._messages:
        message.visible_at = 0


@in_order
def test_a_batch_of_several_groups_that_isn_t_finished_is_returned_in_order(
    poller: Poller,
) -> None:
    send(poller, "a1", "b1", "a2", "b2", "a3")
    poller.worker.grace_ends_at = time.monotonic()
    poller.poll_once()
    assert depth(poller) == (5, 0)
    poller.worker.grace_ends_at = worker.FOREVER
    handled: list[str] = []
    poller.handler = Here(lambda event: handled.extend(bodies(event)))
    poller.poll_once()
    assert [[name for name in handled if name[0] == group] for group in "ab"] == [
        ["a1", "a2", "a3"],
        ["b1", "b2"],
    ]


# Errors that may last


def test_an_error_of_the_queue_is_logged_when_it_changes(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    stopping = poller.worker.stopping
    outcomes: list[Any] = [THROTTLED, THROTTLED, RuntimeError("x"), None]
    waits: list[float] = []

    def poll_once() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            stopping.set()
        if outcome:
            raise outcome
        poller.worker.queue_error.recovered()

    monkeypatch.setattr(poller, "poll_once", poll_once)
    monkeypatch.setattr(stopping, "wait", waits.append)
    poller.run()
    assert [line.get("reason") or line.get("error") for line in logged()] == [
        "Throttling",
        "RuntimeError",
        "Can't read the queue: Throttling",
    ]
    assert waits == [1, 2, 4]


def test_the_wait_has_a_limit(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(poller.worker.stopping, "wait", waits.append)
    for _ in range(9):
        poller.back_off()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_handler_that_can_t_start_receives_no_messages(poller: Poller, logged: Log) -> None:
    class Broken(Here):
        def start(self, heartbeat: Callable[[], None]) -> None:
            raise HandlerError("The handler failed", error="ImportError")

    poller.handler = Broken(lambda _: None)
    send(poller, "body")
    poller.poll_once()
    poller.poll_once()
    assert depth(poller) == (1, 0)
    assert [line["reason"] for line in logged()] == ["The handler failed ImportError"]
    assert not poller.healthy()


# Stopping


def test_what_is_received_after_sigterm_is_returned(poller: Poller, logged: Log) -> None:
    send(poller, "body")
    poller.handler = Here(pytest.fail)
    poller.worker.stopping.set()
    poller.stop_waiting = lambda: None  # type: ignore[method-assign]
    poller.poll_once()
    assert depth(poller) == (1, 0)
    assert logged()[0]["message"] == "Returned messages to the queue"


def test_what_isn_t_finished_in_time_is_returned(poller: Poller) -> None:
    send(poller, "body")
    poller.worker.grace_ends_at = time.monotonic()
    poller.poll_once()
    assert depth(poller) == (1, 0)


def test_messages_that_can_t_be_returned_are_logged(poller: Poller, logged: Log) -> None:
    poller.return_to_queue([MESSAGE])
    assert logged()[0]["reason"]


def test_the_worker_is_healthy_and_stops_after_a_signal(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: Log
) -> None:
    monkeypatch.setattr(worker, "HEALTH_FILE", tmp_path / "health")
    monkeypatch.setattr(worker, "TICK", 0.01)
    made = poller.worker
    handled = Here(lambda _: None)
    monkeypatch.setattr(poller, "handler", handled)
    signals: list[int] = []
    thread = threading.Thread(target=made.run, args=(signals,))
    thread.start()
    while not worker.HEALTH_FILE.exists():
        time.sleep(0.01)
    signals.append(signal.SIGTERM)
    thread.join()
    assert not poller.is_alive()
    assert [line["message"] for line in logged()][-2:] == ["Worker stopping", "Worker stopped"]


def test_a_health_file_that_can_t_be_written_is_logged(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: Log
) -> None:
    monkeypatch.setattr(worker, "HEALTH_FILE", tmp_path / "missing" / "health")
    monkeypatch.setattr(worker, "TICK", 0)
    poller.handler_imported = True
    ended = [False, False, True]
    poller.worker.monitor(lambda: ended.pop(0), float("inf"))
    assert [line["reason"] for line in logged()] == [
        f"{tmp_path}/missing/health: No such file or directory"
    ]


# Scale-in protection


@pytest.fixture
def agent() -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Run a stand-in for ECS's agent: its URL, what it is asked, and what it answers."""
    asked: list[Any] = []
    answers: list[Any] = []

    class Agent(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert self.path == "/task-protection/v1/state"
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = answers.pop(0) if answers else {"protection": {}}
            body = json.dumps(answer).encode()
            self.send_response(400 if "error" in answer else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Agent) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked, answers
        server.shutdown()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the worker read its time from a list."""
    now = [1000.0]
    monkeypatch.setattr(worker, "monotonic", lambda: now[0])
    return now


ON = {"ProtectionEnabled": True, "ExpiresInMinutes": 60}
OFF = {"ProtectionEnabled": False}


def test_the_task_is_protected_while_a_batch_is_in_flight(
    agent: tuple[str, list[Any], list[Any]], clock: list[float], logged: Log
) -> None:
    url, asked, _ = agent
    protection = TaskProtection(url)
    with protection, protection:
        clock[0] += 1800
        protection.tick()
        assert asked == [ON]
        clock[0] += 1
        protection.tick()
        assert asked == [ON, ON]
    assert protection.resting()
    protection.tick()
    assert asked == [ON, ON, OFF]
    assert protection.resting()
    clock[0] += worker.REST
    assert not protection.resting()
    with protection:
        pass
    clock[0] += 11
    protection.tick()
    protection.tick()
    assert asked == [ON, ON, OFF, ON, OFF]
    assert logged() == []


def test_work_goes_on_without_protection(
    agent: tuple[str, list[Any], list[Any]], clock: list[float], logged: Log
) -> None:
    url, asked, answers = agent
    answers += [{"error": {"Code": "AccessDeniedException"}}]
    answers += [{"failure": {"Reason": "DEPLOYMENT_BLOCKED"}}]
    protection = TaskProtection(url)
    with protection:
        clock[0] += 61
        protection.tick()
        clock[0] += 61
        protection.tick()
    assert asked == [ON, ON, ON]
    lines = logged()
    assert [line["message"] for line in lines] == [
        "The task can't be protected from scaling in; retrying",
        "Recovered",
    ]
    assert "AccessDeniedException" in lines[0]["text"]


def test_work_goes_on_when_protection_can_t_be_released(
    agent: tuple[str, list[Any], list[Any]], clock: list[float]
) -> None:
    url, asked, answers = agent
    protection = TaskProtection(url)
    with protection:
        clock[0] += worker.RELEASE_AFTER + 1
    answers += [["nonsense"]]
    protection.tick()
    clock[0] += worker.REST
    protection.tick()
    assert asked == [ON, OFF]
    assert not protection.resting()


@pytest.mark.parametrize("first", [{"error": {"Code": "RequestCanceled"}}, {"protection": {}}])
def test_an_idle_task_is_not_left_protected(
    agent: tuple[str, list[Any], list[Any]], clock: list[float], first: dict[str, Any]
) -> None:
    """Whatever failed, ECS may protect the task, for an hour in which nothing could stop it."""
    url, asked, answers = agent
    answers += [first, {"error": {"Code": "RequestCanceled"}}]
    protection = TaskProtection(url)
    with protection:
        pass
    for _ in range(300):
        clock[0] += 1
        protection.tick()
    assert asked == [ON, OFF, OFF]


def test_batches_don_t_wait_again_and_again_for_an_agent_that_fails(
    agent: tuple[str, list[Any], list[Any]], clock: list[float]
) -> None:
    """It may take seconds to fail, and all pollers would wait for them one after the other."""
    url, asked, answers = agent
    answers += [{"error": {"Code": "RequestCanceled"}}] * 100
    protection = TaskProtection(url)
    for _ in range(100):
        with protection:
            clock[0] += 2
    assert len(asked) == 4


def test_without_an_agent_there_is_no_protection(logged: Log) -> None:
    for uri, lines in (("", 0), ("http://127.0.0.1:1", 1)):
        protection = TaskProtection(uri)
        with protection:
            protection.tick()
        assert len(logged()) == lines


# The handler's process


def test_the_handler_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os\ndef handler(event, context): return [os.getpid(), event]\n"
    folder = put_together(tmp_path / "app", code)
    monkeypatch.setattr(worker, "__file__", str(folder / "worker.py"))
    process = HandlerProcess()

    def invoke() -> Any:
        process.start(lambda: None)
        return process.invoke("event", 60, lambda: None)

    try:
        pid, event = invoke()
        assert event == "event"
        assert pid != os.getpid()
        assert invoke() == [pid, "event"]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(HandlerError) as caught:
            process.invoke("event", 60, lambda: None)
        assert caught.value.keys == {"exit": "signal SIGKILL"}
        assert invoke()[0] != pid
    finally:
        process.kill()


def test_a_handler_that_takes_too_long_is_killed() -> None:
    process = HandlerProcess()
    process.connection, theirs = Pipe()
    with theirs, pytest.raises(HandlerError, match="timed out"):
        process.invoke("event", 0, lambda: None)
    process.connection.close()


def serve(monkeypatch: pytest.MonkeyPatch, handler: Any) -> Any:
    """Let the handler's side, in this process, answer one request; return its answer."""
    monkeypatch.setitem(sys.modules, "handler", handler)
    ours, theirs = Pipe()
    with ours:
        request = {"id": "request", "deadline": time.time() + 9, "event": "event"}
        ours.send_bytes(json.dumps(request).encode())
        thread = threading.Thread(target=worker.serve, args=(theirs,))
        thread.start()
        answer = json.loads(ours.recv_bytes())
        if "response" in answer:
            answer = json.loads(ours.recv_bytes())
    thread.join()
    theirs.close()
    return answer


class Module:
    """Stands for handler.py."""

    def __init__(self, handler: Callable[[Any, Any], Any]) -> None:
        self.handler = handler


def test_the_handler_gets_the_event_and_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(event: Any, context: Any) -> Any:
        left = context.get_remaining_time_in_millis()
        return [event, context.aws_request_id, context.function_name, 0 < left <= 9000]

    answer = serve(monkeypatch, Module(handler))
    assert answer == {"response": ["event", "request", os.environ["SERVICE"], True]}


def test_what_the_handler_raises_is_reported_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handler(_event: Any, _context: Any) -> Any:
        raise ValueError("secret")

    answer = serve(monkeypatch, Module(handler))
    assert answer["error"] == "ValueError"
    assert "secret" not in json.dumps(answer)
    assert serve(monkeypatch, Module(lambda *_: {1}))["error"] == "TypeError"  # not JSON


def test_what_can_t_be_imported_is_reported_with_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = serve(monkeypatch, None)
    assert answer["error"] == "ModuleNotFoundError"
    assert "handler" in answer["text"]


@pytest.mark.parametrize("error", [SystemExit("no table"), KeyboardInterrupt("no table")])
def test_whatever_an_import_raises_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr("importlib.import_module", fail)
    answer = serve(monkeypatch, None)
    assert (answer["error"], answer["text"]) == (type(error).__name__, "no table")


def test_warnings_and_what_libraries_log_are_json(tmp_path: Path) -> None:
    folder = put_together(tmp_path / "app", "")
    code = "import logging, warnings, worker; warnings.warn('old'); logging.getLogger().error('y')"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert done.stderr == ""
    lines = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert len(lines) == 2
    assert "UserWarning: old" in lines[0]
    assert lines[1] == "y"


def test_nobody_waits_for_a_start_when_the_worker_stops(poller: Poller) -> None:
    poller.worker.stopping.set()
    with pytest.raises(Stopping):
        poller.stop_waiting()


def test_a_metric_and_the_end_of_its_line_are_one_write(tmp_path: Path) -> None:
    """print() makes two of them where stdout is unbuffered, as it is in the image.

    A line that another process or thread logs in between would then stand in the metric's line.
    """
    folder = put_together(tmp_path / "app", "")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # a packet for each write
    code = "import worker; worker.main(['usage']); worker.count_failed(1)"
    with ours, theirs:
        ours.settimeout(10)
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, **SETTINGS},
            stdout=theirs,
            check=True,
        )
        assert json.loads(line := ours.recv(10_000))["MessagesFailed"] == [1]
        assert line.endswith(b"\n")

"""The worker in this process: its rules, with moto's SQS and a handler that is a function here.

Only one test starts the handler's process; how the worker lives and dies is the template's to test.
"""

import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

import worker
from worker import FunctionError, Poller, Protection, Settings, SettingsError, Stopped, Worker

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


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a function that gives the lines of the worker's log."""
    stream = io.StringIO()
    monkeypatch.setattr(worker.logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


class Here(worker.Function):
    """A handler that is a function of the test's."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        super().__init__()
        self.handler = handler

    def start(self, meanwhile: Callable[[], None]) -> None:
        meanwhile()

    def invoke(self, event: object, timeout: float) -> None:
        self.event = event

    def answer(self, deadline: float, meanwhile: Callable[[], None]) -> Any:
        meanwhile()
        return self.handler(self.event)


@pytest.fixture
def poller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """Make a poller for a queue of moto's; its handler succeeds, and it waits for nothing."""
    monkeypatch.setattr(worker, "LONG_POLL", 0)
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-central-1")
        url = sqs.create_queue(QueueName="queue")["QueueUrl"]
        made = Worker(worker.read_settings({**ENVIRONMENT, "QUEUE_URL": url}))
        poller = made.pollers[0]
        poller.function = Here(lambda _: None)
        monkeypatch.setattr(made.stopping, "wait", lambda _: False)
        yield poller


def send(poller: Poller, *bodies: str) -> None:
    for body in bodies:
        poller.worker.sqs.send_message(QueueUrl=poller.settings.queue_url, MessageBody=body)


def depth(poller: Poller) -> tuple[int, int]:
    """Return how many messages are visible, and how many are in hand."""
    found = poller.worker.sqs.get_queue_attributes(
        QueueUrl=poller.settings.queue_url, AttributeNames=["All"]
    )["Attributes"]
    visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
    return int(found[visible]), int(found[hidden])


# The environment


def test_the_settings_are_the_environments() -> None:
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
def test_a_wrong_variable_is_named_with_its_rule(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        worker.read_settings({**ENVIRONMENT, name: value})
    (problem,) = caught.value.args
    assert name in problem
    assert value in problem


def test_all_missing_variables_are_told_at_once(
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
def test_there_is_time_to_give_back_what_a_long_poll_brings(
    stop_timeout: int, grace: int, long_poll: int
) -> None:
    settings = worker.read_settings({**ENVIRONMENT, "STOP_TIMEOUT": str(stop_timeout)})
    assert (settings.grace, settings.long_poll) == (grace, long_poll)


# A batch


def test_the_handler_gets_a_batch_in_lambdas_shape(poller: Poller) -> None:
    events: list[Any] = []
    poller.function = Here(events.append)
    poller.worker.sqs.send_message(
        QueueUrl=poller.settings.queue_url,
        MessageBody="body",
        MessageAttributes={
            "event_type": {"DataType": "String", "StringValue": "order.created"},
            "picture": {"DataType": "Binary", "BinaryValue": b"\0\1\2"},
        },
    )
    poller.turn()
    (record,) = events[0]["Records"]
    assert record["body"] == "body"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["messageAttributes"]["event_type"]["stringValue"] == "order.created"
    assert record["messageAttributes"]["picture"]["binaryValue"] == "AAEC"
    assert record["eventSourceARN"].endswith(":queue")
    assert record["awsRegion"] == "eu-central-1"
    assert depth(poller) == (0, 0)


def test_only_what_failed_stays(poller: Poller) -> None:
    def handler(event: Any) -> Any:
        failed = [x["messageId"] for x in event["Records"] if x["body"] == "bad"]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    poller.function = Here(handler)
    send(poller, "good", "bad", "good")
    poller.turn()
    assert depth(poller) == (0, 1)


@pytest.mark.parametrize(
    "response",
    [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}],
)
def test_nothing_failed(response: Any) -> None:
    assert worker.failures(response, ["1", "2"]) == set()


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
def test_with_nonsense_all_have_failed(response: Any) -> None:
    with pytest.raises(FunctionError, match="no partial batch response"):
        worker.failures(response, ["1", "2"])


def test_a_batch_that_fails_as_a_whole_stays_and_is_told(
    poller: Poller, logged: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    poller.function = Here(lambda _: "nonsense")
    send(poller, "secret", "secret")
    poller.turn()
    assert depth(poller) == (0, 2)
    (line,) = logged()
    assert line["message"] == "The handler's response is no partial batch response"
    assert len(line["message_ids"]) == 2
    metric = json.loads(capsys.readouterr().out)
    assert metric["MessagesFailed"] == [2.0]
    assert metric["environment"] == os.environ["ENVIRONMENT"]
    assert "secret" not in json.dumps([line, metric])


def test_visibility_is_extended_while_the_handler_works(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    changes: list[int] = []
    clock = [time.monotonic()]

    def change_visibility(_messages: list[Any], seconds: int) -> str:
        changes.append(seconds)
        return "InternalError"

    class Slow(Here):
        def answer(self, deadline: float, meanwhile: Callable[[], None]) -> Any:
            for seconds in (9, 1, 9, 1, worker.LONGEST_VISIBILITY - 40):
                clock[0] += seconds
                meanwhile()

    poller.function = Slow(lambda _: None)
    monkeypatch.setattr(poller, "change_visibility", change_visibility)
    monkeypatch.setattr(worker, "monotonic", lambda: clock[0])
    poller.worker.sqs = Deletions(set())
    assert poller.work([MESSAGE])
    # A third of 30 each time; near the 12 hours, what is left of them.
    assert changes == [30, 30, 19]
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


def test_deleting_is_tried_again_for_what_is_left(poller: Poller, logged: Log) -> None:
    poller.worker.sqs = sqs = Deletions({"1"}, THROTTLED, set())
    poller.delete([MESSAGE, MESSAGE, MESSAGE], time.monotonic() + 60)
    assert sqs.asked == [["0", "1", "2"], ["1"], ["1"]]
    assert logged() == []


def test_what_can_t_be_deleted_is_told(poller: Poller, logged: Log) -> None:
    poller.worker.sqs = Deletions({"0"})
    poller.delete([MESSAGE], time.monotonic() + 0.05)
    (line,) = logged()
    assert (line["reason"], line["message_ids"]) == ("InternalError", ["1"])


def test_what_sqs_refuses_for_good_is_told_at_once(poller: Poller, logged: Log) -> None:
    poller.worker.sqs = sqs = Deletions({"0"})
    sqs.failure = {"Code": "ReceiptHandleIsInvalid", "SenderFault": True}
    poller.delete([MESSAGE], float("inf"))
    assert sqs.asked == [["0"]]
    assert logged()[0]["reason"] == "ReceiptHandleIsInvalid"


# Trouble


def test_trouble_with_the_queue_is_told_when_it_changes(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    stopping = poller.worker.stopping
    outcomes: list[Any] = [THROTTLED, THROTTLED, RuntimeError("x"), None]
    waits: list[float] = []

    def turn() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            stopping.set()
        if outcome:
            raise outcome
        poller.worker.queue_trouble.over()

    monkeypatch.setattr(poller, "turn", turn)
    monkeypatch.setattr(stopping, "wait", waits.append)
    poller.run()
    assert [line.get("reason") or line.get("was") or line.get("error") for line in logged()] == [
        "Throttling",
        "RuntimeError",
        "The queue can't be read: Throttling",
    ]
    assert waits == [1, 2, 4]


def test_the_wait_has_a_limit(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(poller.worker.stopping, "wait", waits.append)
    for _ in range(9):
        poller.back_off()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_handler_that_can_t_start_takes_no_message(poller: Poller, logged: Log) -> None:
    class Broken(Here):
        def start(self, meanwhile: Callable[[], None]) -> None:
            raise FunctionError("The handler failed", error="ImportError")

    poller.function = Broken(lambda _: None)
    send(poller, "body")
    poller.turn()
    poller.turn()
    assert depth(poller) == (1, 0)
    assert [line["reason"] for line in logged()] == ["The handler failed ImportError"]
    assert not poller.is_well()


# Stopping


def test_what_comes_after_sigterm_is_given_back(poller: Poller, logged: Log) -> None:
    send(poller, "body")
    poller.function = Here(pytest.fail)
    poller.worker.stopping.set()
    poller.stop_starting = lambda: None  # type: ignore[method-assign]
    poller.turn()
    assert depth(poller) == (1, 0)
    assert logged()[0]["message"] == "Gave messages back to the queue"


def test_what_isn_t_done_in_time_is_given_back(poller: Poller) -> None:
    send(poller, "body")
    poller.worker.give_back_at = time.monotonic()
    poller.turn()
    assert depth(poller) == (1, 0)


def test_what_can_t_be_given_back_is_told(poller: Poller, logged: Log) -> None:
    poller.give_back([MESSAGE])
    assert logged()[0]["reason"]


def test_the_worker_stops_when_it_is_told_to(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: Log
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(worker, "TICK", 0.01)
    monkeypatch.setattr(Worker, "__init__", lambda *_: None)
    assert worker.main(["health"]) == 1
    made = poller.worker
    handled = Here(lambda _: None)
    monkeypatch.setattr(poller, "function", handled)
    signals: SimpleQueue[int] = SimpleQueue()
    thread = threading.Thread(target=made.run, args=(signals,))
    thread.start()
    while worker.main(["health"]) == 1:
        time.sleep(0.01)
    signals.put(signal.SIGTERM)
    thread.join()
    assert not poller.is_alive()
    assert [line["message"] for line in logged()][-2:] == ["Worker stops", "Worker stopped"]


def test_a_health_file_that_can_t_be_written_is_told(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: Log
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(worker, "TICK", 0)
    poller.works = True
    ended = [False, False, True]
    poller.worker.watch(lambda: ended.pop(0), float("inf"))
    assert [line["reason"] for line in logged()] == [
        f"{tmp_path}/missing/worker-health: No such file or directory"
    ]


# Scale-in protection


@pytest.fixture
def agent() -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Run what ECS's agent is to the worker: its URL, what it is asked, and what it answers."""
    asked: list[Any] = []
    answers: list[Any] = []

    class Agent(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert self.path == "/task-protection/v1/state"
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(answers.pop(0) if answers else {"protection": {}}).encode()
            self.send_response(200)
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


def test_the_task_is_protected_while_messages_are_in_hand(
    agent: tuple[str, list[Any], list[Any]], clock: list[float], logged: Log
) -> None:
    url, asked, _ = agent
    protection = Protection(url)
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
    answers += [{"failure": {"Reason": "DEPLOYMENT_BLOCKED"}}] * 2
    protection = Protection(url)
    with protection:
        clock[0] += 61
        protection.tick()
        clock[0] += 61
        protection.tick()
    assert asked == [ON, ON, ON]
    assert [line["message"] for line in logged()] == [
        "The task can't be protected from scaling in; trying again",
        "It works again",
    ]


def test_work_goes_on_when_protection_can_t_be_given_up(
    agent: tuple[str, list[Any], list[Any]], clock: list[float]
) -> None:
    url, asked, answers = agent
    protection = Protection(url)
    with protection:
        clock[0] += worker.RELEASE_AFTER + 1
    answers += [["nonsense"]]
    protection.tick()
    clock[0] += worker.REST
    assert asked == [ON, OFF]
    assert not protection.resting()


def test_without_an_agent_there_is_no_protection(logged: Log) -> None:
    for uri, lines in (("", 0), ("http://127.0.0.1:1", 1)):
        protection = Protection(uri)
        with protection:
            protection.tick()
        assert len(logged()) == lines


# The handler's process


def test_the_handler_runs_in_a_process_of_its_own(
    sample: Callable[[str], dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    function = worker.Function()
    try:
        function.start(lambda: None)
        assert function.process
        pid = function.process.pid
        function.start(lambda: None)
        function.invoke(sample("mixed_batch"), 60)
        response = function.answer(time.monotonic() + 60, lambda: None)
        assert len(response["batchItemFailures"]) == 3
        assert function.process.pid == pid != os.getpid()
        assert "MessagesProcessed" in capfd.readouterr().out
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(FunctionError) as caught:
            function.answer(time.monotonic() + 60, lambda: None)
        assert caught.value.keys == {"exit": "signal SIGKILL"}
    finally:
        function.end()


def test_a_handler_that_takes_too_long_is_ended() -> None:
    function = worker.Function()
    function.connection, theirs = Pipe()
    with theirs, pytest.raises(FunctionError, match="too long"):
        function.answer(time.monotonic(), lambda: None)
    function.connection.close()


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


def test_what_the_handler_raises_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(_event: Any, _context: Any) -> Any:
        raise ValueError("secret")

    answer = serve(monkeypatch, Module(handler))
    assert answer["error"] == "ValueError"
    assert "secret" not in json.dumps(answer)
    assert serve(monkeypatch, Module(lambda *_: {1}))["error"] == "the response is not JSON"


def test_what_can_t_be_imported_is_told_with_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = serve(monkeypatch, None)
    assert answer["error"] == "ModuleNotFoundError"
    assert "handler" in answer["text"]


def test_a_process_that_starts_ends_with_the_worker(poller: Poller) -> None:
    poller.worker.stopping.set()
    with pytest.raises(Stopped):
        poller.stop_starting()

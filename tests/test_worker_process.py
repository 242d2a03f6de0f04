"""Fargate's worker as ECS runs it, with real processes and signals.

tests/test_worker.py checks its rules; here a handler does what handlers shouldn't.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tools.local.server import LocalAws, local_aws
from worker_process import SHORT, put_together, until, worker

pytestmark = pytest.mark.slow

# Does what a message says. What began and what was done lies in the folder DONE.
HANDLER = """
import ctypes, json, os, signal, sys, time
from pathlib import Path

DONE = Path(os.environ["DONE"])

def handler(event, context):
    for record in event["Records"]:
        name, do = json.loads(record["body"])
        tries = record["attributes"]["ApproximateReceiveCount"]
        (DONE / f"{name}.began-{tries}").write_text(str(os.getpid()))
        match do:
            case "raise": raise ValueError("s3cr3t")
            case "exit": sys.exit(3)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case "nonsense": return ["s3cr3t"]
            case "hang once" if tries == "1": time.sleep(600)
            # A call that keeps Python's lock: no other thread of this process runs.
            case "block": ctypes.PyDLL(None).sleep(13)
            case "wait":
                while not (DONE / "go on").exists():
                    time.sleep(0.05)
        with (DONE / f"{name}.done").open("a") as file:
            file.write("x")
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws("eu-central-1") as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the worker and the handler above."""
    return put_together(tmp_path_factory.mktemp("worker") / "app", HANDLER)


class Queue:
    """A queue with a dead-letter queue, and what became of its messages."""

    def __init__(self, aws: LocalAws, name: str, done: Path) -> None:
        self.sqs = aws.client("sqs")
        self.name = name
        self.done = done
        done.mkdir()
        self.environment = {"DONE": str(done), "QUEUE_URL": f"{aws.url}/123456789012/{name}"}
        self.dead_letters = f"{self.environment['QUEUE_URL']}-dlq"

    def make(self, max_receive_count: int = 5) -> "Queue":
        """Make it; until then there is only its name."""
        self.sqs.create_queue(QueueName=f"{self.name}-dlq")
        target = f"arn:aws:sqs:eu-central-1:123456789012:{self.name}-dlq"
        policy = {"deadLetterTargetArn": target, "maxReceiveCount": max_receive_count}
        made = self.sqs.create_queue(
            QueueName=self.name, Attributes={"RedrivePolicy": json.dumps(policy)}
        )
        assert made["QueueUrl"] == self.environment["QUEUE_URL"]
        return self

    def send(self, name: str, do: str = "") -> None:
        body = json.dumps([name, do])
        self.sqs.send_message(QueueUrl=self.environment["QUEUE_URL"], MessageBody=body)

    def state(self) -> tuple[int, int]:
        """Return how many messages are visible, and how many are in flight."""
        found = self.sqs.get_queue_attributes(
            QueueUrl=self.environment["QUEUE_URL"], AttributeNames=["All"]
        )["Attributes"]
        visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return int(found[visible]), int(found[hidden])

    def until_empty(self) -> None:
        # The counts are approximate: what becomes visible in between is in neither.
        until(lambda: [self.state() for _ in range(3)] == [(0, 0)] * 3, "the queue is not empty")

    def until_began(self, name: str, tries: int = 1) -> int:
        """Wait until the handler has a message; return the id of its process."""
        path = self.done / f"{name}.began-{tries}"
        return int(until(lambda: path.exists() and path.read_text(), f"{name} never began"))

    def times_done(self, name: str) -> int:
        path = self.done / f"{name}.done"
        return len(path.read_text()) if path.exists() else 0

    def dead(self) -> list[str]:
        """Take the names of the dead letters."""
        names: list[str] = []
        while messages := self.sqs.receive_message(
            QueueUrl=self.dead_letters, MaxNumberOfMessages=10
        ).get("Messages"):
            names += [json.loads(message["Body"])[0] for message in messages]
        return sorted(names)


@pytest.fixture
def queue(aws: LocalAws, request: pytest.FixtureRequest, tmp_path: Path) -> Queue:
    """Name a queue of the test's own."""
    return Queue(aws, f"queue-{abs(hash(request.node.name))}", tmp_path / "done")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp" / "log"


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_handler_may_exit_or_block_without_harm_to_other_messages(
    folder: Path, queue: Queue, log: Path
) -> None:
    """One that blocks its process for longer than the visibility timeout is processed once."""
    queue.make(max_receive_count=2)
    bad = ["exit", "kill", "nonsense", "raise"]
    for do in ("block", *bad, "good"):
        queue.send(do, do)
    settings = {"VISIBILITY_TIMEOUT": "6", "POLLERS": "6", "STOP_TIMEOUT": SHORT}
    with worker(folder, log, **queue.environment, **settings) as process:
        queue.until_empty()
        assert process.health() == 0
        assert process.stop() == 0
    assert [queue.times_done(name) for name in ("block", "good", *bad)] == [1, 1, 0, 0, 0, 0]
    assert queue.dead() == bad
    failures = [line for line in process.lines() if line.get("level") == "ERROR"]
    # One line for each time, and each says what happened.
    reasons = sorted(line.get("error") or line.get("exit") or "nonsense" for line in failures)
    each_once = ["ValueError", "nonsense", "signal SIGKILL", "status 3"]
    assert reasons == sorted(each_once * 2)
    assert "s3cr3t" not in log.read_text()


def test_a_batch_that_takes_too_long_is_stopped_and_retried(
    folder: Path, queue: Queue, log: Path
) -> None:
    queue.make().send("slow", "hang once")
    with worker(folder, log, **queue.environment, VISIBILITY_TIMEOUT="3", TIMEOUT="5") as process:
        queue.until_empty()
    assert queue.times_done("slow") == 1
    assert len(process.lines("The handler timed out and was killed")) == 1
    assert queue.until_began("slow") != queue.until_began("slow", 2)
    assert not is_alive(queue.until_began("slow"))


def test_after_sigterm_a_batch_is_finished(
    folder: Path, queue: Queue, log: Path, agent: tuple[str, list[Any]]
) -> None:
    uri, asked = agent
    queue.make()
    queue.send("first", "wait")
    queue.send("second")
    with worker(folder, log, **queue.environment, ECS_AGENT_URI=uri) as process:
        queue.until_began("first")
        assert asked == [{"ProtectionEnabled": True, "ExpiresInMinutes": 60}]
        process.popen.terminate()
        process.until_logged("Worker stopping")
        process.popen.terminate()  # a second one does no harm
        (queue.done / "go on").touch()
        assert process.popen.wait(60) == 0
    assert queue.times_done("first") == 1
    assert queue.state() == (1, 0)  # the second one has not been touched
    assert process.lines("Worker stopped")


def test_after_sigterm_what_can_t_be_finished_is_returned(
    folder: Path, queue: Queue, log: Path
) -> None:
    queue.make().send("first", "wait")
    with worker(folder, log, **queue.environment, STOP_TIMEOUT="8") as process:
        handler = queue.until_began("first")
        assert process.stop() == 0
    assert process.lines("Returned messages to the queue")
    assert queue.state() == (1, 0)
    assert not is_alive(handler)
    (queue.done / "go on").touch()
    with worker(folder, log, **queue.environment):
        queue.until_empty()
    assert queue.times_done("first") == 1


def test_a_message_of_a_worker_that_was_killed_comes_back(
    folder: Path, queue: Queue, log: Path
) -> None:
    queue.make().send("first", "wait")
    with worker(folder, log, **queue.environment, VISIBILITY_TIMEOUT="3") as process:
        queue.until_began("first")
        process.kill()
        until(lambda: queue.state() == (1, 0), "the message did not come back")
    (queue.done / "go on").touch()
    with worker(folder, log, **queue.environment):
        queue.until_empty()
    assert queue.times_done("first") == 1


def test_without_its_queue_the_worker_waits_for_it(folder: Path, queue: Queue, log: Path) -> None:
    with worker(folder, log, **queue.environment) as process:
        (line,) = process.until_logged("Can't read the queue")
        assert "NonExistentQueue" in line["reason"]
        queue.make().send("first")
        queue.until_empty()
        process.until_logged("Recovered")
        assert len(process.lines("Can't read the queue")) == 1


def test_without_permission_the_worker_backs_off_and_logs_it_once(
    folder: Path, queue: Queue, log: Path
) -> None:
    class Denies(Answers):
        code = 403
        asked: list[float] = []  # noqa: RUF012
        body = {"__type": "AccessDeniedException", "message": "no"}  # noqa: RUF012

        def do_POST(self) -> None:
            self.asked.append(time.monotonic())
            self.answer()

    with ExitStack() as stack:
        uri = stack.enter_context(serving(Denies))
        process = stack.enter_context(
            worker(folder, log, **queue.environment, AWS_ENDPOINT_URL=uri)
        )
        until(lambda: len(Denies.asked) == 4, "it did not retry")
        waits = [b - a for a, b in zip(Denies.asked, Denies.asked[1:], strict=False)]
        assert [wait >= least for wait, least in zip(waits, (1, 2, 4), strict=True)] == [True] * 3
        (line,) = process.lines("Can't read the queue")
        assert "AccessDenied" in line["reason"]
        assert process.stop() == 0


def test_without_a_network_the_worker_goes_on(folder: Path, queue: Queue, log: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    with worker(folder, log, **queue.environment, AWS_ENDPOINT_URL=nowhere) as process:
        (line,) = process.until_logged("Can't read the queue")
        assert line["reason"] == "EndpointConnectionError"
        until(lambda: process.health() == 0, "it is not healthy")
        assert process.stop() == 0


def test_a_handler_that_can_t_be_imported_receives_no_messages(
    tmp_path: Path, queue: Queue, log: Path
) -> None:
    """A bad release doesn't drain the queue into the dead-letter queue; ECS sees it unhealthy."""
    app = put_together(tmp_path / "app", "import forgotten_dependency")
    queue.make().send("first")
    with worker(app, log, **queue.environment) as process:
        (line,) = process.until_logged("Can't start the handler")
        assert "forgotten_dependency" in line["text"]
        assert process.health() == 1
        assert process.stop() == 0
    assert queue.state() == (1, 0)


def test_all_problems_with_the_environment_are_reported(folder: Path, log: Path) -> None:
    with worker(folder, log, QUEUE_URL="", POLLERS="none") as process:
        assert process.popen.wait(60) == 2
    (line,) = process.lines("Invalid environment variables")
    assert [problem.split()[0] for problem in line["problems"]] == ["QUEUE_URL", "POLLERS"]


class Answers(BaseHTTPRequestHandler):
    """Answers all with one code and one body."""

    code = 200
    body: Any = None

    def answer(self) -> None:
        text = json.dumps(self.body).encode()
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Write no access log."""


class serving(ExitStack):  # noqa: N801 - a context manager, as in contextlib
    """Run an HTTP server; the value is its URL."""

    def __init__(self, answers: type[Answers]) -> None:
        super().__init__()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), answers)

    def __enter__(self) -> str:  # type: ignore[override]
        self.enter_context(self.server)
        self.callback(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def agent() -> Iterator[tuple[str, list[Any]]]:
    """Run a stand-in for ECS's agent; return its URL and what it is asked."""
    requests: list[Any] = []

    class Agent(Answers):
        body = {"protection": {}}  # noqa: RUF012

        def do_PUT(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer()

    with serving(Agent) as uri:
        yield uri, requests

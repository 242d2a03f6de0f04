"""Fargate's worker and a FIFO queue: with real processes, a group is never reordered.

tests/test_worker.py checks the rules; here heartbeats fail, requests hang and tasks are killed.
"""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# It has no Jinja in it, and runs as it is.
import worker as worker_module
from botocore.exceptions import ReadTimeoutError
from tools.events import in_group
from tools.local.server import LocalAws, local_aws
from worker_process import SETTINGS, put_together, until, worker

pytestmark = pytest.mark.slow

# A message's effects are lines in the file of its group. It is at work for as long as there is a
# file of the group's name and "-works", or for the seconds that its body says.
HANDLER = """
import fcntl, os, time
from pathlib import Path

DONE = Path(os.environ["DONE"])

def handler(event, context):
    for record in event["Records"]:
        name, _, seconds = record["body"].partition(" ")
        group = record["attributes"]["MessageGroupId"]
        with (DONE / group).open("a", buffering=1) as effects:
            try:
                fcntl.flock(effects, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                effects.write("two at once\\n")
            effects.write(f"{name} began {os.environ['TASK']}\\n")
            ends = time.time() + float(seconds or 0)
            while (DONE / f"{group}-works").exists() or time.time() < ends:
                effects.write(f"{name} works {time.time()}\\n")
                time.sleep(0.02)
            effects.write(f"{name} done\\n")
"""


class Effects:
    """A FIFO queue, and the effects of its messages, which a handler wrote to files of groups."""

    def __init__(self, aws: LocalAws, name: str, folder: Path) -> None:
        self.sqs = aws.client("sqs")
        made = self.sqs.create_queue(QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true"})
        self.url = made["QueueUrl"]
        self.folder = folder
        folder.mkdir()

    def environment(self, task: str) -> dict[str, str]:
        """Return what a task of this name needs to know."""
        return {"QUEUE_URL": self.url, "DONE": str(self.folder), "TASK": task}

    def send(self, group: str, name: str, seconds: float = 0) -> None:
        self.sqs.send_message(
            QueueUrl=self.url, MessageBody=f"{name} {seconds}", **in_group(self.url, group)
        )

    def of(self, group: str, what: str = "") -> list[list[str]]:
        """Return a group's effects in their order, each as name, what and value."""
        path = self.folder / group
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if what in line]

    def until_began(self, group: str, times: int = 1) -> None:
        """Wait until the handler has been given messages of the group so many times."""
        until(lambda: len(self.of(group, "began")) == times, f"{group} didn't begin {times} times")

    def names(self, group: str) -> list[str]:
        """Return its messages as they began; a repeat must come before the next one begins."""
        assert not self.of(group, "two at once")
        return [name for name, *_ in self.of(group, "began")]

    def until_empty(self) -> None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def depth() -> int:
            found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
            return sum(int(found["Attributes"][name]) for name in names)

        # What becomes visible between two counts is in neither.
        until(lambda: [depth() for _ in range(3)] == [0] * 3, "the queue is not empty")


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws("eu-central-1") as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the worker and the handler above."""
    return put_together(tmp_path_factory.mktemp("worker") / "app", HANDLER)


@pytest.fixture
def effects(aws: LocalAws, request: pytest.FixtureRequest, tmp_path: Path) -> Effects:
    return Effects(aws, f"queue-{abs(hash(request.node.name))}", tmp_path / "done")


class BadNetwork:
    """Stands between a worker and SQS: extensions fail for some groups, until it is over."""

    def __init__(self, sqs: Any) -> None:
        self.receive, self.change = sqs.receive_message, sqs.change_message_visibility_batch
        self.received: dict[str, tuple[str, float]] = {}  # receipt handle: group, when
        self.asked: list[str] = []  # groups whose visibility timeout was to be extended
        self.over = threading.Event()
        sqs.receive_message = self.receive_message
        sqs.change_message_visibility_batch = self.change_message_visibility_batch

    def receive_message(self, **request: Any) -> Any:
        answer = self.receive(**request)
        for message in answer.get("Messages", []):
            group = message["Attributes"]["MessageGroupId"]
            self.received[message["ReceiptHandle"]] = group, time.time()
        return answer

    def received_at(self, group: str) -> float:
        """Return when a message of the group was first received."""
        return next(at for name, at in self.received.values() if name == group)

    def change_message_visibility_batch(self, **request: Any) -> Any:
        (entry,) = request["Entries"]
        group, _ = self.received[entry["ReceiptHandle"]]
        self.asked.append(group)
        if group == "refused" and not self.over.is_set():
            failure = {"Code": "AccessDenied", "SenderFault": True}
            return {"Failed": [{"Id": entry["Id"], **failure}]}
        if group in ("hangs", "finishes") and not self.over.is_set():
            self.over.wait()
            raise ReadTimeoutError(endpoint_url="SQS")
        return self.change(**request)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that gives the lines of the worker's log with a message."""
    stream = io.StringIO()
    monkeypatch.setattr(worker_module.logger.registered_handler, "stream", stream)

    def lines(message: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in found if line["message"] == message]

    return lines


def test_a_batch_whose_heartbeat_fails_ends_before_its_group_is_given_to_others(
    folder: Path,
    effects: Effects,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    logged: Callable[[str], list[dict[str, Any]]],
) -> None:
    """SQS refuses to extend, or the request hangs; a group whose heartbeat works is left alone."""
    groups = ["refused", "hangs", "finishes", "fine"]
    timeout = 6
    values = {"POLLERS": "4", "VISIBILITY_TIMEOUT": str(timeout), "STOP_TIMEOUT": "2"}
    settings = {**SETTINGS, **values, **effects.environment("one")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker_module, "__file__", str(folder / "worker.py"))
    monkeypatch.setattr(worker_module, "HEALTH_FILE", tmp_path / "health")
    made = worker_module.Worker(worker_module.read_settings(settings))
    network = BadNetwork(made.sqs)
    for group in groups:
        (effects.folder / f"{group}-works").touch()
        effects.send(group, f"{group}-1")
        effects.send(group, f"{group}-2")
    signals: list[int] = []
    thread = threading.Thread(target=made.run, args=(signals,))
    thread.start()
    try:
        for group in groups:
            effects.until_began(group)
        until(lambda: "finishes" in network.asked, "the heartbeat was not tried")
        (effects.folder / "finishes-works").unlink()
        for group in ("refused", "hangs"):  # the latter's request still does
            effects.until_began(group, 2)
            (effects.folder / f"{group}-works").unlink()
            first = [what for _, what, *_ in effects.of(group)].index("began", 1)
            _, _, ended = effects.of(group)[first - 1]
            assert timeout / 3 < float(ended) - network.received_at(group) < timeout
        assert network.asked.count("refused") > 1
        ends = network.received_at("fine") + timeout + 1
        time.sleep(max(0, ends - time.time()))
        (effects.folder / "fine-works").unlink()
        network.over.set()
        effects.until_empty()
    finally:
        network.over.set()
        signals.append(15)
        thread.join()
    assert list(dict.fromkeys(effects.names("finishes"))) == ["finishes-1", "finishes-2"]
    for group, tries in (("refused", 2), ("hangs", 2), ("fine", 1)):
        assert effects.names(group) == [f"{group}-1"] * tries + [f"{group}-2"]
    assert [line["exit"] for line in logged(worker_module.GIVEN_UP)] == ["signal SIGKILL"] * 2


def test_tasks_that_are_stopped_or_killed_keep_the_order(
    folder: Path, effects: Effects, tmp_path: Path
) -> None:
    """Several pollers of several tasks share a few groups; two of them end in a batch."""
    groups = {group: [f"{group}-{number}" for number in range(6)] for group in "abc"}
    for number in range(6):
        for group in groups:
            effects.send(group, f"{group}-{number}", 0.1)
    for group in "ab":
        (effects.folder / f"{group}-works").touch()
    settings = {"POLLERS": "2", "VISIBILITY_TIMEOUT": "3", "STOP_TIMEOUT": "2"}
    with ExitStack() as stack:
        tasks = {
            name: stack.enter_context(
                worker(folder, tmp_path / name, **settings, **effects.environment(name))
            )
            for name in ("first", "second", "third")
        }

        def at_work(group: str) -> str:
            """Wait until one of the tasks that still run has the group; return its name."""
            name: str = until(
                lambda: (began := effects.of(group, "began")) and began[-1][2] in tasks and began,
                f"no task works on {group}",
            )[-1][2]
            return name

        tasks.pop(at_work("a")).kill()
        (effects.folder / "a-works").unlink()
        assert tasks.pop(at_work("b")).stop() == 0
        (effects.folder / "b-works").unlink()
        effects.until_empty()
    for group, names in groups.items():
        began = effects.names(group)
        assert began == sorted(began)  # what was cut off is repeated before the next one begins
        assert list(dict.fromkeys(began)) == names
        assert list(dict.fromkeys(name for name, _ in effects.of(group, "done"))) == names
        assert (began.count(names[0]) > 1) is (group in "ab")

"""tools/local/feed.py and loop.py of the rendered service: what `make local` does with messages."""

import contextlib
import io
import itertools
import json
import os
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE as TOOLS_OF_THE_SERVICE
from conftest import working_in
from tools.build.package import own_code
from tools.local import feed, poller, working_tree
from tools.local.event_source import EventSource
from tools.local.feed import Feed
from tools.local.log import Log, follow
from tools.local.loop import Loop, watch
from tools.local.monitoring import Monitoring
from tools.local.server import LocalAws, local_aws

ACCOUNT, REGION = "123456789012", "eu-central-1"
ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:"
PYPROJECT = """
[project]
name = "orders"

[tool.cookiecutter-lambda-python]
package = "orders"
architecture = "arm64"
"""
HANDLER = """
import os, sys, time
from orders.service import process

def handler(event, context):
    failed = []
    for record in event["Records"]:
        try:
            process(record["body"], context)
        except ValueError as error:
            print("failed", record["body"], error, flush=True)
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
"""
SERVICE = """
import os, sys, time

def process(body, context):
    print("first", body, flush=True)
"""
EVENTS = """
class Order:
    occurred_at = None

EVENTS = {"order.created": Order}
"""
ALL = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}


def package(service: str = SERVICE) -> bytes:
    """Return a package without dependencies, as it is deployed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("handler.py", HANDLER)
        archive.writestr("orders/service.py", service)
        archive.writestr("library.py", "")
    return content.getvalue()


@dataclass
class Local:
    """A service that runs as in `make local`, deployed without Terraform."""

    aws: LocalAws
    folder: Path
    capsys: pytest.CaptureFixture[str]
    outputs: dict[str, str] = field(default_factory=dict)
    feed: Any = None
    log: Any = None
    printed: str = ""
    mapping: str = ""

    def save(self, service: str) -> None:
        (self.folder / "orders" / "service.py").write_text(service)

    def save_process(self, *lines: str) -> None:
        """Save a `process` of these lines."""
        body = "\n".join(f"    {line}" for line in lines)
        self.save(f"import os, sys, time\n\ndef process(body, context):\n{body}\n")

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.client("sqs").send_message(QueueUrl=self.outputs["queue_url"], MessageBody=body)

    def client(self, name: str) -> Any:
        return self.aws.client(name)

    @property
    def shown(self) -> str:
        self.printed += self.capsys.readouterr().out
        return self.printed

    def until(self, text: str, within: float = 60) -> str:
        """Wait until the console shows a text; return all until then, and forget it."""
        eventually(lambda: text in self.shown, f"{text!r} in {{}}", lambda: self.printed, within)
        before, _, self.printed = self.printed.partition(text)
        return before + text

    def logged(self) -> list[str]:
        """Return what is in the log group, in order; of the platform's lines their types."""
        found = self.client("logs").filter_log_events(logGroupName="/aws/lambda/orders-local")
        lines = [event["message"] for event in found["events"]]
        return [json.loads(one)["type"] if one.startswith("{") else one for one in lines]

    def depth(self, url: str = "") -> int:
        return self.aws.depth(url or self.outputs["queue_url"])

    def set_mapping(self, **settings: Any) -> None:
        self.client("lambda").update_event_source_mapping(UUID=self.mapping, **settings)


def eventually(
    true: Callable[[], object], what: str, now: Callable[[], object], within: float = 60
) -> None:
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"never: {what.format(now())}")
        time.sleep(0.02)


@pytest.fixture
def local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Local]:
    """Deploy a service; `run` starts what feeds it."""
    folder = tmp_path / "service"
    files = {"pyproject.toml": PYPROJECT, "requirements.txt": "", ".python-version": "3.13"}
    files |= {"handler.py": HANDLER, "orders/service.py": SERVICE, "orders/events.py": EVENTS}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    deployed = tmp_path / "lambda.zip"
    deployed.write_bytes(package())
    monkeypatch.setattr(working_tree, "runnable", lambda: deployed)
    monkeypatch.setenv("PYTHONPATH", str(TOOLS_OF_THE_SERVICE))
    with working_in(folder), local_aws(REGION) as aws:
        made = Local(aws, folder, capsys)
        deploy(made)
        yield made


def deploy(local: Local, **settings: Any) -> None:
    """Make what Terraform makes, as far as it matters here."""
    iam, sqs, lambda_ = (local.client(name) for name in ("iam", "sqs", "lambda"))
    trust = json.dumps({"Statement": []})
    role = iam.create_role(RoleName="orders-local", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    allow(local, ALL)
    dead = sqs.create_queue(QueueName="orders-local-dlq")["QueueUrl"]
    redrive = {"deadLetterTargetArn": f"{ARN}orders-local-dlq", "maxReceiveCount": 50}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "120"}
    url = sqs.create_queue(QueueName="orders-local", Attributes=attributes)["QueueUrl"]
    local.client("logs").create_log_group(logGroupName="/aws/lambda/orders-local")
    function = lambda_.create_function(
        FunctionName="orders-local",
        Runtime="python3.13",
        Role=role,
        Handler="handler.handler",
        Code={"ZipFile": package()},
        Environment={"Variables": {"COLOUR": "red"}},
        Publish=True,
        Timeout=2,
        MemorySize=256,
    )
    alias = lambda_.create_alias(FunctionName="orders-local", Name="live", FunctionVersion="1")
    local.mapping = lambda_.create_event_source_mapping(
        EventSourceArn=f"{ARN}orders-local",
        FunctionName=alias["AliasArn"],
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )["UUID"]
    local.outputs = {
        "dead_letter_queue_url": dead,
        "log_group_name": "/aws/lambda/orders-local",
        "queue_arn": f"{ARN}orders-local",
        "queue_name": "orders-local",
        "queue_url": url,
        "role_arn": role,
        "service_arn": re.sub(r":\d+$", "", function["FunctionArn"]),
        "service_name": "orders-local",
        "undelivered_queue_url": dead,
    }


def allow(local: Local, *statements: dict[str, Any]) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    local.client("iam").put_role_policy(
        RoleName="orders-local", PolicyName="code", PolicyDocument=document
    )


@pytest.fixture
def running(local: Local) -> Iterator[Local]:
    with run(local, retry=0):
        yield local


@contextlib.contextmanager
def run(local: Local, retry: int | None) -> Iterator[None]:
    """Run the main loop, in a thread."""
    monitoring = Monitoring(local.aws, local.outputs)
    local.log = Log(local.aws, local.outputs, monitoring)
    local.feed = Feed(local.aws, local.outputs, {"MINE": "x"}, local.log, monitoring, retry)
    local.feed.start()
    loop = Loop(local.feed, local.log, [monitoring.tick])

    def go_on() -> None:
        with contextlib.suppress(BrokenPipeError):
            loop.run()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        local.log.closed = True
        thread.join()
        local.feed.close()
        assert not (local.folder / ".local" / "code").exists()


def test_a_message_is_processed_and_told_as_on_aws(running: Local) -> None:
    running.send("a")
    shown = running.until("first a\n")
    assert re.fullmatch(r"\d\d:\d\d:\d\d  first a\n", shown)
    eventually(lambda: running.depth() == 0, "an empty queue", lambda: running.depth())
    lines = ["platform.initStart", "platform.start", "first a", "platform.report"]
    eventually(lambda: running.logged() == lines, "logged: {}", running.logged)
    (outcome,) = running.feed.recent
    assert (outcome.outcome, outcome.lines) == ("processed", ["first a"])
    assert abs(outcome.time - time.time()) < 60
    assert outcome.milliseconds > 0
    assert len(outcome.messages) == 1


def test_the_code_has_its_variables_and_the_roles_keys(running: Local) -> None:
    running.save_process("print(dict(os.environ), context.invoked_function_arn, flush=True)")
    running.send("a")
    shown = running.until("function:orders-local:live\n")
    variables = {
        "COLOUR": "red",
        "MINE": "x",
        "LOCAL_RUN": "1",
        "AWS_ENDPOINT_URL": running.aws.url,
    }
    assert variables.items() <= running.feed.code.items()
    for name, value in running.feed.code.items():
        assert f"{name!r}: {value!r}" in shown
    assert "'AWS_LAMBDA_FUNCTION_VERSION': '1'" in shown


def test_a_message_that_is_sent_right_after_a_save_meets_the_new_code(running: Local) -> None:
    running.send("0")
    running.until("first 0")
    for number in range(5):
        running.save_process(f"print('edit {number}', body, flush=True)")
        running.send(f"message-{number}")
        shown = running.until(f"edit {number} message-{number}")
        assert "Reloaded: orders/service.py (" in shown


def test_an_import_error_is_shown_at_once_and_ends_nothing(running: Local) -> None:
    running.save("import nowhere\n")
    shown = running.until("batches fail until you save a fix.\n")
    assert "Runtime.ImportModuleError: Unable to import module 'handler': No module named" in shown
    assert 'File "orders/service.py", line 1, in <module>' in shown
    assert str(running.folder) not in shown
    running.send("a")
    running.until("Invocation failed: Runtime.ImportModuleError (")
    assert running.depth() == 1
    running.save_process("print('fixed', body, flush=True)")
    running.until("fixed a")
    outcomes = [outcome.outcome for outcome in running.feed.recent]
    assert outcomes[0].startswith("failed: Runtime.ImportModuleError: Unable to import")


def test_code_that_is_saved_while_venv_is_made_anew_runs_once_it_is_complete(
    running: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "AGAIN_AFTER", 0.1)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    running.save_process("print('saved', body, flush=True)")
    running.until(".venv is not complete. Run `make install`, unless it is running.\n")
    running.send("a")
    time.sleep(1)
    assert "not complete" not in running.shown  # again and again
    (tmp_path / "requirements-dev.txt").touch()
    shown = running.until("saved a")
    assert "Reloaded: orders/service.py" in shown
    assert "failed" not in shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("os._exit(3)", "Runtime.ExitError: Runtime exited with error: exit status 3 ("),
        ("while True: pass", "Sandbox.Timedout: Task timed out after 2.00 seconds (2000 ms"),
        ("kept = b'x' * 500_000_000; time.sleep(9)", "Runtime.OutOfMemory: "),
        ("raise RuntimeError('it broke')", "RuntimeError ("),
    ],
)
def test_a_batch_that_fails_as_a_whole_ends_nothing(running: Local, line: str, shown: str) -> None:
    running.save_process(line)
    running.until("Reloaded")
    running.send("a")
    running.until(f"ERROR     Invocation failed: {shown}")
    running.save_process("print('fixed', body, flush=True)")
    running.until("fixed a")
    eventually(lambda: running.depth() == 0, "an empty queue", lambda: running.depth())
    eventually(lambda: successes(running) == 1, "one success: {}", lambda: successes(running))


def successes(local: Local) -> float:
    """Return how many invocations succeeded, by the metrics."""
    found = local.client("cloudwatch").get_metric_data(
        MetricDataQueries=[
            {
                "Id": name.lower(),
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/Lambda",
                        "MetricName": name,
                        "Dimensions": [{"Name": "FunctionName", "Value": "orders-local"}],
                    },
                    "Period": 3600,
                    "Stat": "Sum",
                },
            }
            for name in ("Invocations", "Errors")
        ],
        StartTime=time.time() - 3600,
        EndTime=time.time() + 60,
    )["MetricDataResults"]
    invocations, errors = (sum(one["Values"]) for one in found)
    return invocations - errors


def test_a_save_does_not_wait_for_what_is_at_work(running: Local, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running.save_process(
        "print('old begins', body, flush=True)",
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)",
        "print('old ends', body, flush=True)",
    )
    deploy_timeout(running, 60)
    running.send("a")
    running.until("old begins a")
    running.save_process("print('new', body, flush=True)")
    running.until("Reloaded")
    running.send("b")
    assert "old ends" not in running.until("new b")
    gate.touch()
    running.until("old ends a")
    eventually(lambda: running.depth() == 0, "an empty queue", lambda: running.depth())


def deploy_timeout(local: Local, seconds: int) -> str:
    """Publish a version with another timeout and make it live, as `make apply` does."""
    lambda_ = local.client("lambda")
    lambda_.update_function_configuration(FunctionName="orders-local", Timeout=seconds)
    version = str(lambda_.publish_version(FunctionName="orders-local")["Version"])
    lambda_.update_alias(FunctionName="orders-local", Name="live", FunctionVersion=version)
    local.until(f"Live: version {version} (100%).")
    return version


def test_what_is_applied_counts_at_once(running: Local) -> None:
    lambda_ = running.client("lambda")
    lambda_.update_function_configuration(
        FunctionName="orders-local", Environment={"Variables": {"COLOUR": "blue"}}, MemorySize=512
    )
    deploy_timeout(running, 7)
    running.save_process(
        "left = context.get_remaining_time_in_millis()",
        "print(os.environ['COLOUR'], context.memory_limit_in_mb, left > 2000, flush=True)",
    )
    running.send("a")
    running.until("blue 512 True")
    assert running.feed.code["COLOUR"] == "blue"


def test_an_older_version_runs_what_was_deployed(running: Local) -> None:
    lambda_ = running.client("lambda")
    lambda_.update_function_code(
        FunctionName="orders-local", ZipFile=package("broken"), Publish=True
    )
    running.save_process("print('tree', body, flush=True)")
    running.until("Version 1 is live, so the code that you saved doesn't run.")
    running.send("a")
    running.until("first a")
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    lambda_.update_alias(FunctionName="orders-local", Name="live", RoutingConfig=weights)
    running.until("Live: version 1 (50%), version 2 (50%).")
    running.set_mapping(BatchSize=1)
    seen: set[str] = set()
    for number in range(40):  # both, unless a coin falls on one side forty times
        running.send(f"m{number}")
        seen.add(running.until(f" m{number}\n").split()[-2])
        if seen == {"first", "tree"}:
            break
    assert seen == {"first", "tree"}


def test_paused_means_that_nothing_is_received(
    running: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "AGAIN_AFTER", 0.1)
    running.set_mapping(Enabled=False)
    running.until("Paused: messages wait in the queue until `make resume ENV=local`.")
    running.send("a")
    time.sleep(1.5)  # longer than a poll
    queue = running.client("sqs").get_queue_attributes(
        QueueUrl=running.outputs["queue_url"], AttributeNames=["All"]
    )["Attributes"]
    assert queue["ApproximateNumberOfMessages"] == "1"
    poller = running.feed._current
    assert "first a" not in running.shown
    time.sleep(0.5)
    assert running.feed._current is poller  # nothing is started again and again
    running.set_mapping(Enabled=True)
    running.until("first a")


def test_batch_size_and_window_are_heeded(running: Local) -> None:
    running.save_process("print('processed', body, flush=True)")
    running.set_mapping(BatchSize=2, MaximumBatchingWindowInSeconds=30)
    running.until("What is deployed has changed")
    running.send("a")
    time.sleep(0.5)
    assert "processed a" not in running.shown
    running.send("b")
    running.until("processed b")
    eventually(lambda: running.feed.recent, "an outcome", lambda: "none")
    assert len(running.feed.recent[-1].messages) == 2


def test_without_retry_a_failed_message_waits_for_its_visibility_timeout(local: Local) -> None:
    local.save_process("raise ValueError('no')")
    with run(local, retry=None):
        local.send("a")
        local.until("failed a no")
        eventually(lambda: local.feed.recent, "an outcome", lambda: "none")
        assert local.feed.recent[-1].outcome == "failed: 1 of 1 messages"
        time.sleep(1.5)
        assert "failed a" not in local.shown
        assert local.depth() == 1


def test_what_the_role_may_not_do_is_said_once(local: Local) -> None:
    receive = {"Effect": "Deny", "Action": "sqs:ReceiveMessage", "Resource": "*"}
    allow(local, ALL, receive)
    with run(local, retry=0):
        shown = local.until("add it to added_permissions in terraform/service.tf.")
        assert "The role orders-local is not authorized to perform: sqs:ReceiveMessage on" in shown
        time.sleep(2.5)  # two more tries
        assert "sqs:ReceiveMessage" not in local.shown
        allow(local, ALL)
        local.send("a")
        local.until("first a")


def test_a_queue_that_is_gone_is_said_once_and_ends_nothing(running: Local) -> None:
    url = running.outputs["queue_url"]
    running.client("sqs").delete_queue(QueueUrl=url)
    running.until("The specified queue does not exist.")
    time.sleep(2.5)
    assert "does not exist" not in running.shown
    running.client("sqs").create_queue(QueueName="orders-local")
    running.send("a")
    running.until("first a")


def test_a_function_that_is_gone_is_said_once_and_ends_nothing(running: Local) -> None:
    running.send("a")
    running.until("first a")
    running.client("lambda").delete_function(FunctionName="orders-local")
    eventually(lambda: running.shown.strip(), "a problem is shown", lambda: running.printed)
    time.sleep(1.5)
    assert len(running.shown.strip().splitlines()) == 1, running.shown


def test_what_destroy_removes_is_said_and_what_apply_makes_again_counts(running: Local) -> None:
    lambda_ = running.client("lambda")
    mapping = lambda_.delete_event_source_mapping(UUID=running.mapping)
    running.until("  Nothing feeds the code any more: `make plan ENV=local`, then `make apply ENV=")
    running.send("a")
    lambda_.create_event_source_mapping(
        EventSourceArn=mapping["EventSourceArn"], FunctionName=mapping["FunctionArn"]
    )
    running.until("Taking messages from the queue.")
    running.until("first a")


def test_what_a_poller_that_ends_hands_over_at_any_time_is_not_lost(
    running: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in its thread for up to a second, with the next one at work."""
    running.set_mapping(Enabled=False)
    running.until("Paused")
    running.send("late")
    asked = {"QueueUrl": running.outputs["queue_url"], "VisibilityTimeout": 600}
    given: list[dict[str, Any]] = []

    def received() -> bool:  # not at once: the poller of before may have it, and gives it back
        received = running.client("sqs").receive_message(
            **asked, MessageSystemAttributeNames=["All"]
        )
        given.extend(received.get("Messages", []))
        return bool(given)

    eventually(received, "a message", lambda: "")
    times = itertools.count()

    class Source(EventSource):
        def _set(self, messages: list[dict[str, Any]]) -> None:
            vars(self)["messages"] = messages
            if next(times) == 1:  # just when the new poller takes over what there is
                running.feed.waiting.extend(given)

        waiting = property(lambda self: vars(self)["messages"], _set)

    monkeypatch.setattr(poller, "EventSource", Source)
    running.set_mapping(Enabled=True)
    running.until("first late", within=20)


def test_terraform_and_event_types_that_are_saved_ask_for_a_plan(running: Local) -> None:
    hint = (
        "changed: `make plan ENV=local` shows what that changes, `make apply ENV=local` applies it."
    )
    events = running.folder / "orders" / "events.py"
    events.write_text(EVENTS.replace("{", '{"order.paid": Order, '))
    running.until(f"EVENTS {hint}")
    (running.folder / "terraform").mkdir()
    (running.folder / "terraform" / "sqs.tf").write_text("")
    running.until(f"terraform/sqs.tf {hint}")
    events.write_text(events.read_text() + "# a comment\n")
    running.until("Reloaded: orders/events.py")
    time.sleep(0.5)
    assert hint not in running.shown


def test_the_owners_files_stay_as_they_are(running: Local) -> None:
    """Links are resolved and hidden files left out, as in the package."""
    package_ = running.folder / "orders"
    (running.folder / ".git").mkdir()
    (running.folder / "common.py").write_text("VALUE = 'shared'\n")
    (package_ / "linked.py").symlink_to("../common.py")
    (package_ / ".hidden.py").write_text("")
    before = states(running.folder)
    running.save("""
import os
from orders.linked import VALUE

def process(body, context):
    here = os.path.dirname(__file__)
    files = sorted(name for name in os.listdir(here) if name.endswith(".py"))
    print(VALUE, files, os.path.islink(f"{here}/linked.py"), flush=True)
""")
    running.send("a")
    running.until("shared ['events.py', 'linked.py', 'service.py'] False")
    after = states(running.folder)
    assert {k: v for k, v in after.items() if k != "orders/service.py"} == {
        k: v for k, v in before.items() if k != "orders/service.py"
    }


def states(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_mtime_ns)
        for path in folder.glob("**/*")
        if ".local" not in path.parts and path.is_file()
    }


def test_code_that_cannot_be_packed_is_said(running: Local) -> None:
    (running.folder / "orders" / "broken.py").symlink_to("nowhere.py")
    running.until("Not reloaded: 'orders/broken.py' cannot be packed: it is a link to what is not")
    (running.folder / "orders" / "broken.py").unlink()
    running.send("a")
    running.until("first a")


def test_the_end_leaves_nothing_behind_whatever_is_at_work(local: Local) -> None:
    local.save_process("print('pid', os.getpid(), flush=True)", "while True: time.sleep(1)")
    deployed = local.client("lambda")
    deployed.update_function_configuration(FunctionName="orders-local", Timeout=600)
    version = str(deployed.publish_version(FunctionName="orders-local")["Version"])
    deployed.update_alias(FunctionName="orders-local", Name="live", FunctionVersion=version)
    with run(local, retry=0):
        local.send("a")
        pid = int(re.split(r"pid (\d+)\n", local.until("\n"))[1])
        began = time.monotonic()
    assert time.monotonic() - began < 30  # not the timeout
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "Invocation failed" not in local.shown


def test_a_file_counts_as_saved_once_it_stays_the_same() -> None:
    states = iter([{}, {"a": (1,)}, {"a": (2,)}, {"a": (2,)}, {"a": (2,)}, {}, {}])
    saved = watch(lambda: next(states))
    assert [saved() for _ in range(6)] == [[], [], ["a"], [], [], ["a"]]


def test_own_code_in_a_package_is_that_of_the_working_tree(local: Local) -> None:
    own = own_code(["handler.py", "orders"])
    del own["orders/events.py"]
    found = working_tree.own_in(package())
    assert {name: data for name, (data, _) in found.items()} == {
        name: data for name, (data, _) in own.items()
    }


def test_dependencies_are_unpacked_anew_only_when_they_have_changed(local: Local) -> None:
    dependencies = working_tree.Dependencies(local.folder / "there")
    dependencies.update()
    first = dependencies.folder
    assert [path.name for path in first.iterdir()] == ["library.py"]
    dependencies.update()
    assert dependencies.folder == first
    (local.folder / "requirements.txt").write_text("# other\n")
    dependencies.update()
    assert dependencies.folder != first


def test_a_log_that_is_followed_is_not_kept_open(tmp_path: Path) -> None:
    """Or each reload would leave an open file until Python collects garbage."""
    log, lines = tmp_path / "log", list[str]()
    log.touch()
    before = sorted(Path("/dev/fd").iterdir())
    go_on = follow(log, lines.append)
    with log.open("a") as file:
        for text in ("a\nb", "", "c\nd"):
            file.write(text)
            file.flush()
            go_on()
    assert lines == ["a", "bc"]
    go_on(b"\n")
    assert lines == ["a", "bc", "d"]
    assert sorted(Path("/dev/fd").iterdir()) == before


def test_a_log_takes_lines_of_any_size_from_any_thread(local: Local) -> None:
    log = Log(local.aws, local.outputs, Monitoring(local.aws, local.outputs))

    def write(stream: str) -> None:
        for number in range(20):
            log.write(stream, f"{number} of {stream}" + "x" * 200_000)
            log.write(stream, "")

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "ab":
        logged = [line.rstrip("x") for line in local.logged() if f" of {name}" in line]
        assert logged == [f"{number} of {name}" for number in range(20)]


def test_a_log_group_that_is_gone_is_said_once(local: Local) -> None:
    log = Log(local.aws, local.outputs, Monitoring(local.aws, local.outputs))
    local.client("logs").delete_log_group(logGroupName="/aws/lambda/orders-local")
    log.write("stream", "a")
    local.until("The log group /aws/lambda/orders-local does not take this log: ")
    log.write("stream", "b")
    assert "does not take" not in local.shown


def test_a_console_that_is_gone_ends_the_loop(
    running: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", refuse)
    running.send("a")
    eventually(lambda: running.log.closed, "the end", lambda: "")

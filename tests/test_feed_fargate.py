"""tools/local/feed_fargate.py: the working tree's worker on moto's ECS, without Terraform."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, need, working_in
from tools.build.image import image_digest, keep
from tools.build.package import PACKAGES
from tools.local import runtime_fargate, task, working_tree
from tools.local.log import Outcome
from tools.local.server import LocalAws, local_aws
from tools.operate import compute_fargate
from worker_process import children_of, until

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
NAME = "order-events-local"
TARGET = {"ServiceNamespace": "ecs", "ResourceId": f"service/{NAME}/{NAME}"}

# As on most machines, tasks on AWS have another processor than this one.
PACKAGE = PACKAGES["host"]
PYPROJECT = f"""
[project]
name = "order-events"
[tool.cookiecutter-lambda-python]
package = "order_events"
architecture = "{"arm64" if os.uname().machine == "x86_64" else "x86_64"}"
"""

# Logs what it gets as handler.py does, with its version; waits while the file WAIT is there.
HANDLER = """
import json, os, time
from pathlib import Path

def handler(event, context):
    for record in event["Records"]:
        tries = record["attributes"]["ApproximateReceiveCount"]
        line = {"message_id": record["messageId"], "version": "VERSION", "tries": int(tries)}
        print(json.dumps({"level": "INFO", "message": "Message begun", **line}), flush=True)
        while Path(os.environ["WAIT"]).exists():
            time.sleep(0.02)
        print(json.dumps({"level": "INFO", "message": "Message processed", **line}), flush=True)
"""

Json = dict[str, Any]


class Said:
    """A log and a monitoring that remember."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Json]] = []
        self.said: list[str] = []
        self.figures: dict[str, tuple[Json, float]] = {}

    def write(self, stream: str, line: str) -> None:
        fields = json.loads(line) if line.startswith("{") else {"message": line}
        self.lines.append((stream, fields))

    def say(self, text: str) -> None:
        self.said.append(text)

    def put(self, namespace: str, name: str, dimensions: Json, value: float, unit: str) -> None:
        assert (namespace, unit) == ("AWS/ECS", "Percent")
        self.figures[name] = dimensions, value

    def having(self, message: str, **fields: Any) -> list[Json]:
        found = [line for _, line in self.lines if message in str(line.get("message"))]
        return [line for line in found if fields.items() <= line.items()]


class Local:
    """A feed with its local AWS, and what a test does with them."""

    def __init__(self, aws: LocalAws, folder: Path) -> None:
        """Make what Terraform would."""
        self.aws, self.said, self.folder = aws, Said(), folder
        self.queue = aws.client("sqs").create_queue(QueueName=NAME)["QueueUrl"]
        iam = aws.client("iam")
        role = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        statement = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=NAME, PolicyName="code", PolicyDocument=document)
        self.ecs = aws.client("ecs")
        self.ecs.create_cluster(clusterName=NAME)
        self.save("1")
        self.release("1")
        made = self.ecs.create_service(
            cluster=NAME, serviceName=NAME, taskDefinition=f"{NAME}:1", desiredCount=0
        )
        self.allow(10)
        self.outputs = {
            "service_arn": made["service"]["serviceArn"],
            "service_name": NAME,
            "cluster_name": NAME,
            "role_arn": role,
        }
        self.feed: Any = None

    def save(self, version: str, text: str = HANDLER) -> None:
        """Save the handler."""
        Path("handler.py").write_text(text.replace("VERSION", version))

    def release(self, version: str) -> None:
        """Build and keep a package with that code, and make a revision of the task definition."""
        with zipfile.ZipFile(PACKAGE, "w") as package:
            package.writestr("handler.py", HANDLER.replace("VERSION", f"package {version}"))
            package.write("worker.py")
            package.writestr("other/library.py", "")
        variables = {
            "BATCH_SIZE": "1",
            "POLLERS": "1",
            "VISIBILITY_TIMEOUT": "60",
            "TIMEOUT": "60",
            "STOP_TIMEOUT": "20",
            "AWS_DEFAULT_REGION": REGION,
            "QUEUE_URL": self.queue,
            "WAIT": str(self.folder / "WAIT"),
        }
        pairs = [{"name": name, "value": value} for name, value in variables.items()]
        worker = {"name": "worker", "stopTimeout": 20, "environment": pairs}
        self.ecs.register_task_definition(
            family=NAME,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[{**worker, "image": f"x/{NAME}@{image_digest(PACKAGE)}"}],
        )

    def deploy(self, revision: int) -> None:
        """Let the service run a revision, as `terraform apply` does."""
        self.ecs.update_service(
            cluster=NAME, service=NAME, taskDefinition=f"{NAME}:{revision}", forceNewDeployment=True
        )
        self.feed.look()

    def allow(self, most: int) -> None:
        """Set how many tasks there may be, as `make pause` and `make resume` do."""
        self.aws.client("application-autoscaling").register_scalable_target(
            **TARGET, ScalableDimension="ecs:service:DesiredCount", MinCapacity=0, MaxCapacity=most
        )

    def send(self) -> str:
        """Send a message; return its id."""
        sent = self.aws.client("sqs").send_message(QueueUrl=self.queue, MessageBody="{}")
        return str(sent["MessageId"])

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition while the feed looks, as the main loop lets it."""

        def looked() -> Any:
            self.feed.look()
            return condition()

        return until(looked, f"{what}: {self.said.said}, {self.said.lines[-5:]}", 60)

    def processed(self, message_id: str) -> Json:
        """Wait until a message is processed; return the line that says so."""
        found: list[Json] = self.until(
            lambda: self.said.having("Message processed", message_id=message_id), "not processed"
        )
        return found[0]

    def described(self) -> tuple[int, int, list[tuple[str, str, int]]]:
        """Return how many tasks are wanted and run; of each deployment status, revision, tasks."""
        (service,) = self.ecs.describe_services(cluster=NAME, services=[NAME])["services"]
        deployments = [
            (one["status"], one["taskDefinition"].rpartition(":")[2], one["runningCount"])
            for one in service["deployments"]
        ]
        return service["desiredCount"], service["runningCount"], deployments

    def tasks(self, status: str) -> list[Json]:
        """Return ECS's tasks that are to be RUNNING, or STOPPED; the latest last."""
        named = {"cluster": NAME, "serviceName": NAME, "desiredStatus": status}
        arns = self.ecs.list_tasks(**named)["taskArns"]
        found: list[Json] = arns and self.ecs.describe_tasks(cluster=NAME, tasks=arns)["tasks"]
        return found


class InstalledHere:
    """The dependencies that this Python has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def update(self) -> None:
        self.folder = Path(pytest.__file__).parents[1]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Run one feed for all tests; each leaves it with a task that runs the newest version."""
    service = tmp_path_factory.mktemp("service")
    (service / "order_events").mkdir()
    (service / "order_events" / "__init__.py").touch()
    (service / "dist").mkdir()
    (service / "pyproject.toml").write_text(PYPROJECT)
    (service / ".python-version").write_text("3.13")
    (service / "requirements.txt").touch()
    shutil.copy(SERVICE / "worker.py", service)
    with pytest.MonkeyPatch.context() as patch, working_in(service), local_aws(REGION) as aws:
        patch.setitem(sys.modules, "tools.local.runtime", runtime_fargate)
        patch.setattr(working_tree, "compute", compute_fargate)
        patch.setattr(working_tree, "Dependencies", InstalledHere)
        from tools.local.feed_fargate import Feed

        local = Local(aws, service)
        local.feed = Feed(aws, local.outputs, {"ADDED": "1"}, local.said, local.said, None)
        try:
            local.feed.start()
            yield local
        finally:
            local.feed.close()
        assert not list(Path(".local").glob("code*"))


def test_a_message_is_processed_by_the_code_as_it_is_saved(local: Local) -> None:
    message_id = local.send()
    assert local.processed(message_id)["version"] == "1"
    (running,) = local.tasks("RUNNING")
    stream = f"task/worker/{running['taskArn'].rpartition('/')[2]}"
    assert {name for name, _ in local.said.lines} == {stream}
    assert local.described() == (1, 1, [("PRIMARY", "1", 1)])
    outcome: Outcome = local.feed.recent[-1]
    assert (outcome.messages, outcome.outcome) == ([message_id], "processed")
    assert 0 < outcome.milliseconds < 60_000
    assert "Message begun" in "".join(outcome.lines)
    assert local.feed.code.items() >= {"ADDED": "1", "LOCAL_RUN": "1", "BATCH_SIZE": "1"}.items()
    assert local.feed.code["AWS_ACCESS_KEY_ID"] in local.aws.permissions.roles


def test_a_save_makes_a_new_task_and_the_old_one_gets_no_message(local: Local) -> None:
    (before,) = local.tasks("RUNNING")
    local.save("2")
    local.feed.reload()
    done = local.processed(local.send())
    assert (done["version"], done["tries"]) == ("2", 1)
    assert (
        local.until(lambda: local.said.said, "no word").pop().startswith("Reloaded: handler.py (")
    )
    local.until(lambda: local.described()[1] == 1, "the old one runs on")
    (ended,) = local.tasks("STOPPED")
    assert ended["taskArn"] == before["taskArn"]
    assert ended["stoppedReason"].startswith("Scaling activity initiated by (deployment ecs-svc/")
    assert ended["containers"][0]["exitCode"] == 0
    assert local.said.having("Worker stopped")


def test_an_import_error_is_shown_and_no_message_is_received(local: Local) -> None:
    local.save("", "import nowhere\n")
    local.feed.reload()
    message_id = local.send()
    (line,) = local.until(lambda: local.said.having("Can't start the handler"), "no error")
    assert line["text"] == "No module named 'nowhere'"
    assert "handler.py:1 <module>" in line["stack"]  # as in the service's folder
    assert local.said.said.pop().startswith("Not reloaded: ")
    local.save("3")
    local.feed.reload()
    done = local.processed(message_id)
    assert (done["version"], done["tries"]) == ("3", 1)
    local.until(lambda: local.said.said, "no word").pop()


def test_a_paused_service_has_no_task_once_its_batch_is_done(local: Local) -> None:
    # Of the tests before, an old one may not have ended yet.
    local.until(lambda: local.described()[1] == 1, "an old one runs on")
    wait = local.folder / "WAIT"
    wait.touch()
    first = local.send()
    local.until(lambda: local.said.having("Message begun", message_id=first), "not begun")
    local.allow(0)
    local.feed.look()
    assert local.said.said.pop().startswith("Paused: messages wait")
    second = local.send()
    assert local.described()[:2] == (0, 1)  # it finishes what it has
    wait.unlink()
    local.processed(first)
    local.until(lambda: local.described() == (0, 0, [("PRIMARY", "1", 0)]), "it runs on")
    assert local.tasks("RUNNING") == []
    assert not local.said.having("Message begun", message_id=second)
    local.allow(1)
    assert local.processed(second)["tries"] == 1
    local.until(lambda: local.said.said, "no word")
    assert local.said.said.pop().startswith("Taking messages from the queue (")


def test_a_worker_that_has_ended_is_started_again(local: Local) -> None:
    worker = local.feed._task.process.pid
    handlers = until(lambda: children_of(worker), "no handler")
    os.kill(worker, signal.SIGKILL)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)  # only then has it hung up
    message_id = local.send()  # what it was asking for goes to nobody
    done = local.processed(message_id)
    assert done["tries"] == 1
    said = "worker.py has ended with signal SIGKILL; it starts again in 1 s."
    assert local.said.said.pop() == said
    ended = local.tasks("STOPPED")[-1]
    assert ended["stopCode"] == "EssentialContainerExited"
    assert ended["containers"][0]["exitCode"] == 137
    until(lambda: not any(Path(f"/proc/{one}/fd/0").exists() for one in handlers), "an orphan")


def test_a_worker_that_ends_at_once_is_started_less_and_less_often(local: Local) -> None:
    worker = Path("worker.py").read_text()
    Path("worker.py").write_text("raise SystemExit(3)")
    local.feed.reload()
    local.until(lambda: len(local.said.said) == 2, "no word")
    said = "worker.py has ended with status 3; it starts again in"
    assert local.said.said == [f"{said} 1 s.", f"{said} 2 s."]
    local.said.said.clear()
    Path("worker.py").write_text(worker)
    local.feed.reload()
    local.processed(local.send())
    local.until(lambda: local.said.said, "no word").pop()


def test_a_rollback_runs_that_versions_own_code(local: Local) -> None:
    local.release("2")
    keep(PACKAGE)
    local.save("4")
    local.deploy(2)
    done = local.processed(local.send())
    assert done["version"] == "4"  # the newest version is what is saved
    local.until(lambda: local.described() == (1, 1, [("PRIMARY", "2", 1)]), "two deployments")
    local.deploy(1)
    assert local.processed(local.send())["version"] == "package 1"
    local.said.said.clear()
    local.feed.reload()
    assert local.said.said.pop() == "Version 1 is live, so the code that you saved doesn't run."
    local.deploy(2)
    assert local.processed(local.send())["version"] == "4"


def test_what_a_task_uses_is_reported_as_ecs_does(local: Local) -> None:
    need("ps")
    local.until(lambda: "MemoryUtilization" in local.said.figures, "no figures")
    dimensions, memory = local.said.figures["MemoryUtilization"]
    assert dimensions == {"ClusterName": NAME, "ServiceName": NAME}
    assert 1 < memory < 100
    assert local.said.figures["CPUUtilization"][1] >= 0


def test_what_destroy_removes_is_said_and_what_apply_makes_again_runs(local: Local) -> None:
    local.said.said.clear()
    local.ecs.delete_service(cluster=NAME, service=NAME, force=True)
    local.until(lambda: local.said.said, "no word")
    assert local.said.said.pop().startswith("There is no ECS service any more: `make plan ENV=loc")
    local.until(lambda: not local.feed._stopping, "it runs on")
    local.ecs.create_service(
        cluster=NAME, serviceName=NAME, taskDefinition=f"{NAME}:2", desiredCount=0
    )
    assert local.processed(local.send())["version"] == "4"


# A process that starts one like itself, so many times, each with the guard; the last one hangs.
STARTS = """
import guard, os, subprocess, sys
print(os.getpid(), flush=True)
left = int(sys.argv[1])
while not left: pass
subprocess.run([sys.executable, __file__, str(left - 1)], start_new_session=True)
"""


def test_nothing_outlives_what_started_it(tmp_path: Path) -> None:
    """As `make local` starts a worker, and that a handler, which hangs."""
    (tmp_path / "guard.py").write_text(task.GUARD)
    (tmp_path / "starts.py").write_text(STARTS)
    command = [sys.executable, tmp_path / "starts.py", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pids = [int(process.stdout.readline()) for _ in range(3)]
        process.kill()
        try:
            process.communicate(timeout=60)  # it ends when nobody can write any more
        finally:
            for pid in pids[1:]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

"""Renders a service, builds its packages and deploys it to a local AWS, once for all seeds."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock

from moto.sqs import models
from tools.deploy.mirror import cli_config
from tools.local.server import LocalAws, local_aws
from tools.project import read_environment

from . import TEMPLATE
from .chain import Chain
from .messages import EVENT_TYPES, LIMIT

REGION = "us-east-1"  # the default answer
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# In place of the defaults. A message that was lost with its function comes back when its visibility
# timeout ends: after 13 seconds (six times 2, plus 1) instead of three minutes.
SETTINGS: dict[str, object] = {
    "timeout": 2,
    "batch_size": 20,
    "maximum_batching_window_in_seconds": 1,
    "maximum_concurrency": 4,
    "paused": True,  # the event source is ours
    "allowed_account_ids": [],
}
FIFO_SETTINGS = {
    name: value
    for name, value in SETTINGS.items()
    if name not in ("batch_size", "maximum_batching_window_in_seconds")
}

FIFO_TOPIC = {"FifoTopic": "true", "ContentBasedDeduplication": "false"}
# As Terraform makes them; a queue that others move messages to has the rest of SQS's defaults.
FIFO_DEAD_LETTERS = {"FifoQueue": "true"}
FIFO_QUEUE = {
    **FIFO_DEAD_LETTERS,
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}

# The state stays in the copy, and a request that the local AWS can't answer fails soon.
OVERRIDE = """
terraform {
  backend "local" {}
}

provider "aws" {
  max_retries = 2
}
"""

Say = Callable[[str], None]


class DeploymentError(Exception):
    """A command failed; with all that it printed."""


def render(folder: Path, **answers: str) -> Path:
    """Render a service into the folder, with the soak test's own code; return its folder."""
    context = {"event_types": EVENT_TYPES, "python_version": VERSION, **answers}
    command = [
        *(sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"),
        *("--output-dir", str(folder), str(TEMPLATE)),
        *(f"{question}={answer}" for question, answer in context.items()),
    ]
    _run(command, cwd=TEMPLATE)
    service = folder / "order-events"
    for name in ("events.py", "service.py"):
        shutil.copy(Path(__file__).with_name(name), service / "order_events" / name)
    return service


def build(service: Path) -> Path:
    """Build a rendered service's package, with wheels for this machine; return it."""
    code = "from tools.build.package import build; build('host')"
    _run([sys.executable, "-c", code], cwd=service, environment={"PYTHONDONTWRITEBYTECODE": "1"})
    return service / "dist" / "lambda-host.zip"


def changed(package: Path, name: str, changes: Mapping[str, Callable[[str], str]]) -> Path:
    """Write a copy of a package with some source files changed; return it.

    :param changes: what makes the new text of a file from the old one.
    """
    target = package.with_name(name)
    stems = {Path(path).stem for path in changes}
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename in changes:
                content = changes[entry.filename](content.decode()).encode()
            compiled = Path(entry.filename).parent.name == "__pycache__"
            # Python would use the bytecode without checking it.
            if not (compiled and Path(entry.filename).name.partition(".")[0] in stems):
                new.writestr(entry, content)
    return target


def broken_release(package: Path) -> Path:
    """Return the package of a release with a forgotten dependency."""
    change = {"order_events/service.py": lambda text: f"import forgotten_dependency\n{text}"}
    return changed(package, "broken.zip", change)


@contextlib.contextmanager
def _quick_local_aws() -> Iterator[LocalAws]:
    """Run a local AWS; its queues do the same as moto's in a third of the CPU time.

    For most requests moto asks what time it is, by way of dates, for each message in the queue, and
    converts the names of all attributes.
    """

    def milliseconds() -> float:
        return time.time() * 1000

    names = functools.cache(models.camelcase_to_underscores)
    with (
        mock.patch.object(models, "unix_time_millis", milliseconds),
        mock.patch.object(models, "camelcase_to_underscores", names),
        local_aws(REGION) as aws,
    ):
        yield aws


@contextlib.contextmanager
def deployed(
    service: Path, say: Say, *, fifo: bool = False, batch_size: int | None = None
) -> Iterator[Chain]:
    """Deploy a rendered service to a local AWS, with its own Terraform.

    :param batch_size: None is what stands in SETTINGS, and the service's default with groups.
    :raises DeploymentError: a command fails.
    """
    package = build(service)
    folder = service / "terraform"
    (folder / "soak_override.tf").write_text(OVERRIDE)
    settings = {**(FIFO_SETTINGS if fifo else SETTINGS), "package_file": str(package)}
    if batch_size is not None:
        settings["batch_size"] = batch_size
    (folder / "soak.tfvars.json").write_text(json.dumps(settings))
    with _quick_local_aws() as aws:
        topic = make_topic(aws, fifo)
        terraform(service, say, "init")
        terraform(service, say, "workspace", "new", "dev")
        terraform(
            service,
            say,
            *("apply", "-auto-approve"),
            *("-var-file=environments/dev.tfvars", "-var-file=soak.tfvars.json"),
        )
        outputs = {
            name: output["value"]
            for name, output in json.loads(terraform(service, say, "output", "-json")).items()
        }
        lambda_, sqs = aws.client("lambda"), aws.client("sqs")
        (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=outputs["queue_arn"])[
            "EventSourceMappings"
        ]
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        queue = sqs.get_queue_attributes(
            QueueUrl=outputs["queue_url"], AttributeNames=["RedrivePolicy"]
        )["Attributes"]
        yield Chain(
            aws=aws,
            topic_arn=topic,
            queue_url=outputs["queue_url"],
            dead_letter_queue_url=outputs["dead_letter_queue_url"],
            undelivered_queue_url=outputs["undelivered_queue_url"],
            max_receive_count=int(json.loads(queue["RedrivePolicy"])["maxReceiveCount"]),
            function=lambda_.get_function_configuration(FunctionName=mapping["FunctionArn"]),
            mapping=mapping,
            package=package,
            broken_package=broken_release(package),
        )


def make_topic(aws: LocalAws, fifo: bool) -> str:
    """Make the topic that the service subscribes to; return its ARN."""
    name, attributes = ("events-dev.fifo", FIFO_TOPIC) if fifo else ("events-dev", {})
    made = aws.client("sns").create_topic(Name=name, Attributes=attributes)
    return str(made["TopicArn"])


@contextlib.contextmanager
def queues_only(
    service: Path,
    package: Path,
    max_receive_count: int = 5,
    *,
    fifo: bool = False,
    batch_size: int = 10,
    visibility_timeout: int = 10,
) -> Iterator[Chain]:
    """Make a topic and the same queues and subscription without Terraform, which takes a minute.

    :param package: what runs, with the environment of the rendered service's `make invoke`.
    :param visibility_timeout: seconds; by default longer than any batch can take.
    """
    suffix, of_dead, of_main = ".fifo", FIFO_DEAD_LETTERS, FIFO_QUEUE
    if not fifo:
        suffix, of_dead, of_main = "", {}, {}
    with _quick_local_aws() as aws:
        sns, sqs = aws.client("sns"), aws.client("sqs")
        topic = make_topic(aws, fifo)
        arn = f"arn:aws:sqs:{REGION}:{topic.split(':')[4]}"
        dead, undelivered = (
            sqs.create_queue(QueueName=f"main-{kind}{suffix}", Attributes=of_dead)["QueueUrl"]
            for kind in ("dlq", "undelivered")
        )
        target = f"{arn}:main-dlq{suffix}"
        redrive = {"deadLetterTargetArn": target, "maxReceiveCount": max_receive_count}
        settings = {
            **of_main,
            "MaximumMessageSize": str(LIMIT),
            "RedrivePolicy": json.dumps(redrive),
            "VisibilityTimeout": str(visibility_timeout),
        }
        queue = sqs.create_queue(QueueName=f"main{suffix}", Attributes=settings)["QueueUrl"]
        wanted = {"event_type": ["order.created", {"prefix": "refund."}]}
        sns.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=f"{arn}:main{suffix}",
            Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps(wanted)},
        )
        variables = read_environment(service / "local.env")
        if "MAX_RECEIVE_COUNT" in variables:
            variables["MAX_RECEIVE_COUNT"] = str(max_receive_count)
        if "IDEMPOTENCY_TABLE" in variables:
            variables["IDEMPOTENCY_TABLE"] = "events"
            aws.client("dynamodb").create_table(
                TableName="events",
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            )
        yield Chain(
            aws=aws,
            topic_arn=topic,
            queue_url=queue,
            dead_letter_queue_url=dead,
            undelivered_queue_url=undelivered,
            max_receive_count=max_receive_count,
            function={
                "FunctionName": "order-events-local",
                "Handler": "handler.handler",
                "Environment": {"Variables": variables},
                "Timeout": 6,
                "MemorySize": 512,
            },
            mapping={
                "BatchSize": batch_size,
                "MaximumBatchingWindowInSeconds": 0,
                "ScalingConfig": {"MaximumConcurrency": 2},
            },
            package=package,
            broken_package=broken_release(package),
        )


def terraform(service: Path, say: Say, *arguments: str) -> str:
    """Run Terraform in a rendered service's folder; return what it wrote to stdout."""
    config = str(cli_config(service / "terraform") or "")
    environment = {
        "TF_CLI_ARGS": "-no-color",
        "TF_INPUT": "false",
        "TF_IN_AUTOMATION": "true",
        "TF_VAR_python_version": VERSION,
        "TF_VAR_architecture": "arm64",
        "TF_VAR_event_types": json.dumps(EVENT_TYPES.split(", ")),
        **({"TF_CLI_CONFIG_FILE": config} if config else {}),
    }
    started = time.monotonic()
    command = ["terraform", "-chdir=terraform", *arguments]
    said = _run(command, cwd=service, environment=environment)
    say(f"terraform {arguments[0]}: {time.monotonic() - started:.0f} s")
    return said


def _run(
    command: Sequence[str | Path], *, cwd: Path, environment: Mapping[str, str] | None = None
) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        line = " ".join(str(part) for part in command)
        raise DeploymentError(f"`{line}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout

"""What the end-to-end tests have to know of Fargate."""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.deployment import Deployment, Json, Say, WorkOff, built, depth, log_lines
from tests.local_aws.server import LocalAws

NAME = "Fargate"

# Instead of dev's values: what is in a real AWS account only. There is no image here: what is in it
# runs without it.
VARIABLES: dict[str, object] = {
    "allowed_account_ids": [],
    "cluster_arn": None,
    "image_digest": "sha256:" + "0" * 64,
    "live_version": None,
    "log_destination_arn": None,
    "permissions_boundary": None,
    "sns_topic_arn": None,
}

# Variables of the environment that have nothing to do with the handler.
NOT_THE_HANDLERS = {
    "AWS_DEFAULT_REGION",
    "BATCH_SIZE",
    "POLLERS",
    "QUEUE_URL",
    "STOP_TIMEOUT",
    "TIMEOUT",
    "VISIBILITY_TIMEOUT",
}


def variables(aws: LocalAws | None) -> dict[str, object]:
    """Return Terraform's variables. Without a local AWS there is nothing in it to be named.

    The security group is one that is there: on a busy machine, Terraform was seen to ask the local
    AWS twice for the rule of one of its own, and to fail since it was there already.
    """
    if aws is None:
        return {**VARIABLES, "subnet_ids": ["subnet-0"], "security_group_ids": ["sg-0"]}
    ec2 = aws.client("ec2")
    subnets, groups = ec2.describe_subnets(), ec2.describe_security_groups()
    return {
        **VARIABLES,
        "subnet_ids": [subnet["SubnetId"] for subnet in subnets["Subnets"]],
        "security_group_ids": [groups["SecurityGroups"][0]["GroupId"]],
    }


def container_of(aws: LocalAws, outputs: dict[str, str]) -> Json:
    """Return the container of the task definition that the ECS service has."""
    ecs = aws.client("ecs")
    (service,) = ecs.describe_services(
        cluster=outputs["cluster_name"], services=[outputs["service_name"]]
    )["services"]
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    (container,) = task["containerDefinitions"]
    return dict(container)


def environment_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, str]:
    """Return the container's environment variables."""
    return {
        variable["name"]: variable["value"]
        for variable in container_of(aws, outputs)["environment"]
    }


@contextmanager
def running(deployment: Deployment, say: Say) -> Iterator[WorkOff]:
    """Run the packaged worker with the task's environment, in a Python that has nothing else.

    Only the visibility time-out is another one: a test need not wait for two minutes each time that
    a message fails.
    """
    aws, queue_url = deployment.aws, deployment.outputs["queue_url"]
    container = container_of(aws, deployment.outputs)
    with tempfile.TemporaryDirectory(prefix="e2e-") as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(built("RUNTIME_PACKAGE")) as package:
            package.extractall(folder / "app")
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
        subprocess.run(command, check=True)
        (folder / "tmp").mkdir()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("AWS_") or name in ("PATH", "LD_LIBRARY_PATH", "NO_PROXY")
        }
        environment = {
            **inherited,
            **deployment.environment,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder / "tmp"),
            "VISIBILITY_TIMEOUT": "3",
        }
        python, log = folder / "venv" / "bin" / "python", folder / "log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [python, "worker.py"],
                cwd=folder / "app",
                env=environment,
                stdout=output,
                stderr=output,
            )
        try:
            read = 0

            def work_off() -> list[dict[str, Any]]:
                """Wait until the worker has worked off the queue; return the log's new lines."""
                nonlocal read
                sqs, deadline = aws.client("sqs"), time.monotonic() + 120
                while depth(sqs, queue_url):
                    assert worker.poll() is None, log.read_text(encoding="utf-8")
                    assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
                    time.sleep(0.2)
                text = log.read_text(encoding="utf-8")[read:]
                read += len(text)
                return log_lines(text)

            yield work_off
            # As ECS asks it, and ends it.
            check = container["healthCheck"]["command"][2:]
            health = [python, *check]
            done = subprocess.run(health, cwd=folder / "app", env=environment, capture_output=True)
            assert done.returncode == 0, done.stdout
            worker.terminate()
            assert worker.wait(120) == 0, log.read_text(encoding="utf-8")
            say("SIGTERM has ended the worker in good order")
        finally:
            worker.kill()
            worker.wait()

"""What the end-to-end tests need to know about Fargate."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.build.image import image_digest
from tools.build.package import runnable
from tools.display import describe_all, parse
from tools.local import target
from tools.local.runtime import Runtime
from tools.local.server import LocalAws

Json = dict[str, Any]

NAME = "Fargate"

{% if cookiecutter.__fifo %}
SETTINGS: Json = {"hold_failed_groups": False}
{% else %}
SETTINGS: Json = {}
{% endif %}

# What the worker's log lines begin with, when no message of a batch was processed.
FAILURES = ("Can't start the handler", "The handler")


def deployed_and_built(aws: LocalAws, outputs: dict[str, str]) -> tuple[Json, Json]:
    """Return the container's image and where it can write, as deployed and as it must be."""
    container = target.container_of(aws, outputs)
    deployed = {
        "image": container["image"],
        "readonly": container["readonlyRootFilesystem"],
        "mounts": [mount["containerPath"] for mount in container["mountPoints"]],
    }
    image = f"{outputs['repository_url']}@{image_digest(Path('dist/lambda.zip'))}"
    return deployed, {"image": image, "readonly": True, "mounts": ["/tmp"]}


def failure(log: str) -> str:
    """Return how the handler failed as a whole, by what the worker logged; "" if it hasn't."""
    for line in map(parse, log.splitlines()):
        summary = str(line.get("message"))
        if line.get("level") == "ERROR" and summary.startswith(FAILURES):
            details = [line[key] for key in ("error", "text", "exit") if line.get(key)]
            return ": ".join([summary, *details]) + "".join(
                f"\n  {place}" for place in line.get("stack", [])
            )
    return ""


@contextmanager
def running(
    aws: LocalAws, outputs: dict[str, str], added: dict[str, str], say: Callable[[str], None]
) -> Iterator[Callable[[], str]]:
    """Run the packaged worker with the task's environment and role, in a Python of its own.

    Only the visibility timeout is different: a test need not wait two minutes for each failure.
    """
    container = target.container_of(aws, outputs)
    local = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
{% if cookiecutter.__fifo %}
    own = {"LOCAL_RUN": "1", "VISIBILITY_TIMEOUT": "5"}
{% else %}
    own = {"LOCAL_RUN": "1", "VISIBILITY_TIMEOUT": "3"}
{% endif %}
    keys = aws.grant(outputs["role_arn"])
    environment = {**local, **target.environment_of(aws, outputs), **own, **keys, **added}
    with Runtime(runnable(), environment=environment) as runtime:
        worker = runtime.start()

        def log() -> str:
            return runtime.log.read_text(encoding="utf-8")

        read, failed = 0, False

        def drain() -> str:
            nonlocal read, failed
            deadline = time.monotonic() + 120
            while aws.depth(outputs["queue_url"]) or aws.permissions.advice():
                reason = failure(log()[read:])
                if worker.poll() is not None:
                    reason = f"worker.py has ended with status {worker.returncode}"
                elif time.monotonic() > deadline:
                    reason = "after 120 seconds, messages are still in the queue"
                if reason := aws.permissions.advice() or reason:
                    failed = True
                    text = describe_all(log().splitlines())
                    pytest.fail(f"{reason}\nIts log:\n{text}", pytrace=False)
                time.sleep(0.2)
            new = log()[read:]
            read += len(new)
            return new

        try:
            yield drain
            if failed:
                return
            command = [sys.executable, *container["healthCheck"]["command"][2:]]
            assert subprocess.run(command, env=runtime.environment).returncode == 0, log()
            worker.terminate()
            assert worker.wait(120) == 0, log()
            say("SIGTERM: the worker has shut down cleanly")
        finally:
            worker.kill()
            worker.wait()

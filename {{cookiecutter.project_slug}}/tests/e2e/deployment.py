"""Terraform and what it has deployed, for the fixtures and for both computes."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.deploy.mirror import cli_config
from tools.local.server import LocalAws
from tools.project import project

ROOT = Path(__file__).parents[2]
PLUGIN_CACHE = ROOT / "terraform" / ".terraform" / "plugin-cache"
VALUES = "e2e.tfvars.json"
VAR_FILES = ("-var-file=environments/dev.tfvars", f"-var-file={VALUES}")

# The state stays in the copy. A request that the local AWS can't answer fails soon: with the
# provider's 25 retries it would seem to hang.
OVERRIDE = """
terraform {
  backend "local" {}
}

provider "aws" {
  max_retries = 2
}
"""

Json = dict[str, Any]
Say = Callable[[str], None]
# Waits until the queue is empty; returns the lines logged since the last time.
Drain = Callable[[], list[Json]]


@dataclass(frozen=True)
class Deployment:
    """What is deployed: Terraform's outputs, and the environment variables of the handler."""

    aws: LocalAws
    topic_name: str
    outputs: dict[str, str]
    environment: dict[str, str]


class Terraform:
    """A copy of the service's Terraform code in workspace dev, with its state beside it."""

    def __init__(self, folder: Path, say: Say) -> None:
        """Copy the code to a folder that isn't there yet."""
        self.folder = folder
        self.say = say
        made = shutil.ignore_patterns(".terraform", "*.tfplan", "*.tfstate*", "*.auto.tfvars*")
        shutil.copytree(ROOT / "terraform", folder, ignore=made)
        (folder / "e2e_override.tf").write_text(OVERRIDE, encoding="utf-8")

    def initialise(self, variables: Json) -> None:
        """Run `terraform init`. Raises what __call__ does.

        After an interrupted one the provider in the cache may be incomplete, and Terraform would
        take it as it is.
        """
        self.write_values(variables)
        incomplete = PLUGIN_CACHE.with_name("plugin-cache-incomplete")
        if incomplete.exists():
            shutil.rmtree(PLUGIN_CACHE, ignore_errors=True)
        PLUGIN_CACHE.mkdir(parents=True, exist_ok=True)
        incomplete.touch()
        self("init")
        incomplete.unlink()
        self("workspace", "new", "dev")

    def write_values(self, variables: Json) -> None:
        """Write the values that replace dev's."""
        (self.folder / VALUES).write_text(json.dumps(variables), encoding="utf-8")

    def __call__(self, *arguments: str, codes: tuple[int, ...] = (0,), stdin: str = "") -> str:
        """Run Terraform, with a sign of life every ten seconds; return what it prints on stdout.

        An exit code that is not among `codes` fails the test.
        """
        output, errors = self.folder / "stdout.txt", self.folder / "stderr.txt"
        (self.folder / "stdin.txt").write_text(stdin, encoding="utf-8")
        command = ["terraform", f"-chdir={self.folder}", *arguments]
        with (
            (self.folder / "stdin.txt").open() as given,
            output.open("w") as stdout,
            errors.open("w") as stderr,
        ):
            process = subprocess.Popen(
                command, env=variables(), stdin=given, stdout=stdout, stderr=stderr
            )
            try:
                self._wait(process, output)
            finally:
                process.terminate()  # Terraform ends its providers, too
                process.wait()
        text = output.read_text(encoding="utf-8")
        if process.returncode not in codes:
            said = text + errors.read_text(encoding="utf-8")
            line = " ".join(command)
            pytest.fail(f"`{line}` exited with {process.returncode}:\n{said}", pytrace=False)
        return text

    def _wait(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        started = time.monotonic()
        while True:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                made = output.read_text(encoding="utf-8").count(": Creation complete")
                resources = f", {made} resources created" if made else ""
                self.say(f"  … {time.monotonic() - started:.0f} s{resources}")
            else:
                return


def variables() -> dict[str, str]:
    """Return the environment variables for Terraform: none that lead it away from the copy."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TF_DATA_DIR", "TF_WORKSPACE") and not name.startswith("TF_CLI_ARGS")
    }
    return {
        # A provider is downloaded only once. The lock file is that of a copy.
        "TF_PLUGIN_CACHE_DIR": str(PLUGIN_CACHE),
        "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "true",
        **inherited,
        "TF_CLI_ARGS": "-no-color",
        "TF_CLI_CONFIG_FILE": str(cli_config() or ""),
        "TF_IN_AUTOMATION": "true",
        "TF_INPUT": "false",
        "TF_VAR_architecture": project().architecture,
        "TF_VAR_python_version": project().python_version,
    }


def depth(sqs: Any, queue_url: str) -> int:
    """Return how many messages a queue holds, including those in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    # Three times: what becomes visible between two counts is in neither.
    counted = [
        sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        for _ in range(3)
    ]
    return max(sum(int(count[name]) for name in names) for count in counted)


def log_lines(text: str) -> list[Json]:
    """Return the structured lines of a log."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

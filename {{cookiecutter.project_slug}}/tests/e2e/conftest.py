"""The service, deployed by its own Terraform to a local AWS that lives as long as the tests."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import compute
from tests.world import surroundings
from tools import events
from tools.deploy import terraform_binary
from tools.deploy.mirror import cli_config
from tools.deploy.validate import complaints
from tools.errors import ToolError
from tools.local.isolation import isolate
from tools.local.server import LocalAws, local_aws
from tools.project import project, read_environment

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
# Waits until the queue is empty; returns what was logged since the last time.
Drain = Callable[[], str]


@dataclass(frozen=True)
class Deployment:
    """What is deployed: Terraform's outputs, and the environment variables of the handler.

    surroundings are variables that the handler gets besides, from tests/world.py.
    """

    aws: LocalAws
    topic_name: str
    outputs: dict[str, str]
    environment: dict[str, str]
    surroundings: dict[str, str]


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

        An exit code that is not among `codes` fails the test, and so does a wrong setting.
        """
        output, errors = self.folder / "stdout.txt", self.folder / "stderr.txt"
        (self.folder / "stdin.txt").write_text(stdin, encoding="utf-8")
        command = [terraform_binary.program(), f"-chdir={self.folder}", *arguments]
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
        text, said = (file.read_text(encoding="utf-8") for file in (output, errors))
        wrong = complaints(text, said)
        if process.returncode not in codes or wrong:
            line = " ".join(command)
            pytest.fail(f"`{line}` failed:\n{wrong or text + said}", pytrace=False)
        return text

    def _wait(self, process: subprocess.Popen[bytes], output: Path) -> None:
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
        "TF_VAR_event_types": json.dumps([*events.models()], ensure_ascii=False),
        "TF_VAR_python_version": project().python_version,
    }


ENDS = (signal.SIGTERM, signal.SIGHUP)


def pytest_configure() -> None:
    """Refuse to run without Terraform, and clean up after SIGTERM and SIGHUP as after Ctrl-C."""
    isolate()  # Terraform must not see the user's AWS either
    try:
        terraform_binary.program()
        cli_config()
    except (ToolError, SystemExit) as refusal:
        raise pytest.UsageError(str(refusal)) from None

    def end(*_: object) -> None:
        for number in ENDS:  # once is enough: make passes on what its whole group has got
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ENDS:
        signal.signal(number, end)


def pytest_exception_interact(node: pytest.Item, report: pytest.TestReport) -> None:
    """Stop where there is no deployment: each test would fail with the same words."""
    if report.when == "setup":
        node.session.shouldfail = "the service could not be deployed"


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Return a function that prints a line on the terminal, although pytest captures output."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"  {text}")
            reporter.flush()

    return line


@pytest.fixture(scope="session")
def terraform(say: Say) -> Iterator[Terraform]:
    """Initialise a copy of terraform/."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as temporary:
        terraform = Terraform(Path(temporary) / "terraform", say)
        say("terraform init")
        terraform.initialise(compute.variables(None))
        yield terraform


@pytest.fixture(scope="session")
def deployment(terraform: Terraform, say: Say) -> Iterator[Deployment]:
    """Start a local AWS, create the topic in it, and deploy the service."""
    names = terraform("console", *VAR_FILES, stdin='"${var.aws_region} ${local.topic_name}"')
    # In the last line: before it, Terraform may warn that there are no credentials.
    region, topic_name = names.splitlines()[-1].strip('"').split()
    with local_aws(region) as aws:
        say(f"local AWS for {region} at {aws.url}; SNS topic {topic_name}")
        aws.client("sns").create_topic(Name=topic_name)
        added = surroundings(aws)
        terraform.write_values(compute.variables(aws))
        say("terraform apply in workspace dev")
        terraform("apply", "-auto-approve", *VAR_FILES)
        printed = json.loads(terraform("output", "-json"))
        outputs = {name: output["value"] for name, output in printed.items()}
        environment = compute.environment_of(aws, outputs)
        local, deployed = {*read_environment(ROOT / "local.env"), *added}, {*environment, *added}
        if missing := ", ".join(sorted(deployed - local - compute.NOT_FOR_THE_HANDLER)):
            say(f"local.env lacks {missing}: unit tests and `make invoke` run without")
        if missing := ", ".join(sorted(local - deployed)):
            say(f"only local.env sets {missing}: on AWS, the code runs without; see service.tf")
        yield Deployment(aws, topic_name, outputs, environment, added)


@pytest.fixture(scope="session")
def drain(deployment: Deployment, say: Say) -> Iterator[Drain]:
    """Run what was deployed; return a function that waits until it has emptied the queue."""
    where = deployment.aws, deployment.outputs, deployment.surroundings
    with compute.running(*where, say) as drain:
        yield drain

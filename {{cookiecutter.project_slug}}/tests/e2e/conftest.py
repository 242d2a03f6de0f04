"""The service, deployed by its own Terraform to a local AWS that lives as long as the tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import compute
from tests.e2e.deployment import ROOT, Deployment, Say, WorkOff
from tests.local_aws.server import LocalAws, local_aws

PLUGIN_CACHE = ROOT / "terraform" / ".terraform" / "plugin-cache"

# The state stays in the copy. A request that the local AWS can't answer fails soon: with the
# provider's own 25 attempts it would seem to hang.
OVERRIDE = """
terraform {
  backend "local" {}
}

provider "aws" {
  max_retries = 2
}
"""

ENDS = (signal.SIGTERM, signal.SIGHUP)


def pytest_configure() -> None:
    """Take everything down when the terminal is closed or the process is told to end, too."""

    def end(*_: object) -> None:
        for number in ENDS:  # make passes on what the whole group has got: once will do
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ENDS:
        signal.signal(number, end)


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Return what prints a line on the terminal, whatever pytest captures."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"  {text}")
            reporter.flush()

    return line


@dataclass(frozen=True)
class Terraform:
    """The service's Terraform code in a folder of its own, in workspace dev."""

    folder: Path
    say: Say

    def __call__(self, *arguments: str, codes: tuple[int, ...] = (0,), stdin: str = "") -> str:
        """Run Terraform; show every ten seconds that there is life.

        :param codes: the exit codes that are right.
        :returns: what it wrote to stdout.
        """
        command = ["terraform", f"-chdir={self.folder}", *arguments]
        script = [sys.executable, str(ROOT / "scripts" / "terraform.py"), "the local AWS"]
        output, errors = self.folder / "stdout.txt", self.folder / "stderr.txt"
        with output.open("w") as stdout, errors.open("w") as stderr:
            process = subprocess.Popen(
                [*script, *command],
                env=terraform_environment(),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
            )
            try:
                self._wait(process, stdin, output)
            finally:
                process.terminate()  # it ends by itself then, with its providers
                process.wait()
        text = output.read_text(encoding="utf-8")
        if process.returncode not in codes:
            said = errors.read_text(encoding="utf-8")
            line = " ".join(command)
            pytest.fail(f"`{line}` ended with {process.returncode}:\n{text}{said}", pytrace=False)
        return text

    def _wait(self, process: "subprocess.Popen[bytes]", stdin: str, output: Path) -> None:
        started = time.monotonic()
        given: bytes | None = stdin.encode()
        while True:
            try:
                process.communicate(given, timeout=10)
            except subprocess.TimeoutExpired:
                given = None
                made = output.read_text(encoding="utf-8").count(": Creation complete")
                resources = f", {made} resources made" if made else ""
                self.say(f"  … {time.monotonic() - started:.0f} s{resources}")
            else:
                return


def terraform_environment() -> dict[str, str]:
    """Return this process's environment, without what would lead Terraform elsewhere."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TF_DATA_DIR", "TF_WORKSPACE") and not name.startswith("TF_CLI_ARGS")
    }
    return {
        # A provider that is downloaded is downloaded once. The lock file is that of a copy.
        "TF_PLUGIN_CACHE_DIR": str(PLUGIN_CACHE),
        "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "true",
        **environment,
        "TF_CLI_ARGS": "-no-color",
        "TF_IN_AUTOMATION": "true",
        "TF_INPUT": "false",
    }


@pytest.fixture(scope="session")
def terraform(say: Say) -> Iterator[Terraform]:
    """Initialise a copy of terraform/, with its state beside it."""
    if shutil.which("terraform") is None:
        reason = "Terraform is missing: https://developer.hashicorp.com/terraform/install"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason} (under CI=true no test is skipped)", pytrace=False)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="e2e-") as temporary:
        folder = Path(temporary) / "terraform"
        shutil.copytree(
            ROOT / "terraform",
            folder,
            ignore=shutil.ignore_patterns(".terraform", "*.tfplan", "*.tfstate*", "*.auto.tfvars*"),
        )
        (folder / "e2e_override.tf").write_text(OVERRIDE, encoding="utf-8")
        write_values(folder)
        run = Terraform(folder, say)
        say("terraform init")
        initialise(run)
        run("workspace", "new", "dev")
        yield run


def initialise(terraform: Terraform) -> None:
    """Run `terraform init`. Where it was interrupted before, the provider that it left in the cache
    may be half a one, and Terraform would take it for whole.
    """
    filling = PLUGIN_CACHE.with_name("plugin-cache-is-being-filled")
    if filling.exists():
        shutil.rmtree(PLUGIN_CACHE, ignore_errors=True)
    PLUGIN_CACHE.mkdir(parents=True, exist_ok=True)
    filling.touch()
    terraform("init")
    filling.unlink()


VALUES = "e2e.tfvars.json"
VAR_FILES = ("-var-file=environments/dev.tfvars", f"-var-file={VALUES}")


def write_values(folder: Path, aws: LocalAws | None = None) -> None:
    """Write the values that stand in for dev's."""
    (folder / VALUES).write_text(json.dumps(compute.variables(aws)), encoding="utf-8")


@pytest.fixture(scope="session")
def deployment(terraform: Terraform, say: Say) -> Iterator[Deployment]:
    """Start a local AWS, make the topic in it, and deploy the service."""
    names = terraform("console", *VAR_FILES, stdin='"${var.aws_region} ${local.topic_name}"')
    region, topic_name = names.strip().strip('"').split()
    with local_aws(region) as aws:
        say(f"local AWS for {region} at {aws.url}; SNS topic {topic_name}")
        aws.client("sns").create_topic(Name=topic_name)
        write_values(terraform.folder, aws)
        say("terraform apply in workspace dev")
        terraform("apply", "-auto-approve", *VAR_FILES)
        made = json.loads(terraform("output", "-json"))
        outputs = {name: output["value"] for name, output in made.items()}
        yield Deployment(aws, topic_name, outputs, compute.environment_of(aws, outputs))


@pytest.fixture(scope="session")
def work_off(deployment: Deployment, say: Say) -> Iterator[WorkOff]:
    """Run what was deployed; return what waits until it has worked off the queue."""
    with compute.running(deployment, say) as wait:
        yield wait

"""The service, deployed by its own Terraform to a local AWS that lives as long as the tests."""

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import compute
from tests.e2e.deployment import ROOT, VAR_FILES, Deployment, Drain, Say, Terraform
from tools.local.server import local_aws

ENDS = (signal.SIGTERM, signal.SIGHUP)


def pytest_configure() -> None:
    """Refuse to run without Terraform, and clean up after SIGTERM and SIGHUP as after Ctrl-C."""
    if shutil.which("terraform") is None:
        version = (ROOT / ".terraform-version").read_text(encoding="utf-8").strip()
        get = "https://developer.hashicorp.com/terraform/install"
        raise pytest.UsageError(f"Terraform is missing: install version {version}, see {get}")

    def end(*_: object) -> None:
        for number in ENDS:  # once is enough: make passes on what its whole group has got
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ENDS:
        signal.signal(number, end)


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
    region, topic_name = names.strip().strip('"').split()
    with local_aws(region) as aws:
        say(f"local AWS for {region} at {aws.url}; SNS topic {topic_name}")
        aws.client("sns").create_topic(Name=topic_name)
        terraform.write_values(compute.variables(aws))
        say("terraform apply in workspace dev")
        terraform("apply", "-auto-approve", *VAR_FILES)
        printed = json.loads(terraform("output", "-json"))
        outputs = {name: output["value"] for name, output in printed.items()}
        yield Deployment(aws, topic_name, outputs, compute.environment_of(aws, outputs))


@pytest.fixture(scope="session")
def drain(deployment: Deployment, say: Say) -> Iterator[Drain]:
    """Run what was deployed; return a function that waits until it has emptied the queue."""
    with compute.running(deployment, say) as drain:
        yield drain

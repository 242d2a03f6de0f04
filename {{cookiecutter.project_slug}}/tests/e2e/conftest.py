"""The service, deployed by its own Terraform to a local AWS that lives as long as the tests."""

import signal
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e import compute
from tools import hcl
from tools.deploy import terraform_binary
from tools.deploy.mirror import cli_config
from tools.errors import ToolError
from tools.local.deployment import Deployment, Runner, deploy
from tools.local.isolation import isolate
from tools.local.server import local_aws
from tools.project import Environment

Json = dict[str, Any]
Say = Callable[[str], None]
# Waits until the queue is empty; returns what was logged since the last time.
Drain = Callable[[], str]

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
def environment() -> Iterator[Environment]:
    """Return workspace dev in a folder of its own, with links to the Terraform code."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        yield Environment("dev", home=folder)


@pytest.fixture(scope="session")
def terraform(environment: Environment, say: Say) -> Runner:
    """Return what runs Terraform there."""
    return Runner(environment, say)


@pytest.fixture(scope="session")
def deployment(environment: Environment, say: Say) -> Iterator[Deployment]:
    """Start a local AWS, and deploy the service to it."""
    try:
        region = hcl.settings(Environment("dev"))["aws_region"]
        with local_aws(region) as aws:
            say(f"local AWS for {region} at {aws.url}")
            yield deploy(aws, say, environment, **compute.SETTINGS)
    except ToolError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="session")
def drain(deployment: Deployment, say: Say) -> Iterator[Drain]:
    """Run what was deployed; return a function that waits until it has emptied the queue."""
    where = deployment.aws, deployment.outputs, deployment.surroundings
    with compute.running(*where, say) as drain:
        yield drain

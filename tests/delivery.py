"""A checkout of the rendered service on a local AWS: what the rehearsals of its delivery share."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import (
    HOST,
    Render,
    granted,
    lend_environment,
    need,
    need_provider,
    one_provider,
)
from moto.core.responses import BaseResponse
from tools.local.server import LocalAws, local_aws

REGION = "eu-central-1"
BUCKET = "my-company-terraform-state"
# The variables of a run of the workflow that writes a plan's summary.
RUN = {
    "GITHUB_REPOSITORY": "my-company/order-events",
    "GITHUB_RUN_ID": "77",
    "GITHUB_SERVER_URL": "https://github.com",
}
# What anybody may ask of AWS.
ANYBODY = {"sts:GetCallerIdentity"}


def made_for_delivery(aws: LocalAws, *environments: str) -> None:
    """Make what the service does not own: the bucket of the state, and the topics."""
    place = {"LocationConstraint": REGION}
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    for environment in environments:
        aws.client("sns").create_topic(Name=f"events-{environment}")


@dataclass(frozen=True)
class Checkout:
    """The rendered service, as a job of the workflow or a laptop has it."""

    folder: Path
    aws: LocalAws
    # What was asked of AWS, as IAM's actions: in a role that only reads, and in any other.
    asked_reading: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    # In the name of the programs whose calls count.
    asked_by: ClassVar[str] = "Terraform"

    def make(self, *arguments: str, **environment: str) -> str:
        """Run a target that must succeed; return what it printed."""
        code, text = self._run(*arguments, **environment)
        assert code == 0, f"make {' '.join(arguments)}:\n{text}"
        return text

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run a target that must fail; return what it printed."""
        code, text = self._run(*arguments, **environment)
        assert code != 0, f"make {' '.join(arguments)} was not refused:\n{text}"
        return text

    def _run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        actions = self.asked_reading if "READ_ONLY=1" in arguments else self.asked
        # Terraform's provider runs already, and keeps its own.
        assert not [name for name in environment if name.startswith("AWS_")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BaseResponse, "call_action", recorded(actions, self.asked_by))
            done = subprocess.run(
                ["make", "--no-print-directory", *arguments],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return done.returncode, done.stdout

    def sha256(self, artifact: str = "lambda.zip") -> str:
        return hashlib.sha256((self.folder / "dist" / artifact).read_bytes()).hexdigest()

    def summary(self, environment: str) -> str:
        return (self.folder / "dist" / f"plan-{environment}.md").read_text(encoding="utf-8")

    def settings(self, environment: str) -> Path:
        return self.folder / "terraform" / "environments" / f"{environment}.tfvars"

    def change_code(self, text: str) -> None:
        with (self.folder / "order_events" / "service.py").open("a") as file:
            file.write(f"\nCHANGED = {text!r}\n")

    def assert_roles_allow_what_was_asked(self) -> None:
        """Compare with what the roles of the bootstrap allow: moto itself does not mind."""
        assert self.asked_reading - granted("read") - ANYBODY == set()
        assert self.asked - granted("read", "deploy") - ANYBODY == set()


@contextmanager
def checked_out(render: Render, base: Path, *environments: str) -> Iterator[Checkout]:
    """Run a local AWS; yield a service for this machine, in a folder that a test may change."""
    need("make")
    source = render(
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        **HOST,
    )
    need_provider(source)
    folder = Path(shutil.copytree(source, base / source.name))
    lend_environment(folder)
    with local_aws(REGION) as aws, one_provider(folder / "terraform"):
        made_for_delivery(aws, *environments)
        yield Checkout(folder, aws)


def recorded(actions: set[str], agent: str) -> Callable[[BaseResponse], Any]:
    """Return moto's way to answer a call, which writes down what an agent calls."""
    original = BaseResponse.call_action

    def call_action(response: BaseResponse) -> Any:
        if agent in response.headers.get("User-Agent", ""):
            service = str(response.service_name).replace("awslambda", "lambda")
            actions.add(f"{service}:{response._get_action()}")
        return original(response)

    return call_action

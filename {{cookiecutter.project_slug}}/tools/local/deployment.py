"""Deploys the service to a local AWS with its own Terraform, from a folder beside its code."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.build.package import MB, PACKAGES, runnable
from tools.deploy import terraform
from tools.deploy.validate import complaints
from tools.errors import ToolError
from tools.events import is_fifo
from tools.project import LOCAL, Environment, read_environment

if TYPE_CHECKING:  # moto takes a second
    from tools.local.server import LocalAws

Say = Callable[[str], None]
BUCKET = "state"


@dataclass(frozen=True)
class Deployment:
    """What is deployed: Terraform's outputs, and the environment variables of the code.

    surroundings are variables that the code gets besides, from tests/world.py.
    """

    aws: LocalAws
    outputs: dict[str, str]
    environment: dict[str, str]
    surroundings: dict[str, str]


def deploy(
    aws: LocalAws, say: Say, environment: Environment | None = None, **settings: Any
) -> Deployment:
    """Deploy the service, as it is packaged, to a local AWS that is empty.

    :param say: gets lines about what is done, and what is waited for.
    :param environment: a local one; that of `make local`, if not given: that packages first.
    :param settings: Terraform's variables with other values than on a local AWS.
    :raises ToolError: a step has failed: Terraform's, or the owner's tests/world.py.
    """
    from tools.local import target
    from tools.local.world import surround

    package = PACKAGES["lambda"]
    if environment is None:
        environment = Environment(LOCAL)
        package = packaged(say)
    write_files(environment, aws.region, {**target.settings(aws, package), **settings})
    bucket = {"Bucket": BUCKET}
    if aws.region != "us-east-1":  # which is no location, by S3's rule
        bucket["CreateBucketConfiguration"] = {"LocationConstraint": aws.region}  # type: ignore[assignment]
    aws.client("s3").create_bucket(**bucket)
    run = Runner(environment, say)
    say("terraform init: the first one downloads the AWS provider")
    initialise(environment, run)
    var_files = environment.var_files()
    topic_name = run("console", *var_files, given='"${local.topic_name}"').split()[-1].strip('"')
    say(f"SNS topic {topic_name}, and what tests/world.py creates")
    fifo = {"FifoTopic": "true"} if is_fifo(topic_name) else {}
    aws.client("sns").create_topic(Name=topic_name, Attributes=fifo)
    added = surround(aws)
    name = environment.name
    say(f"terraform apply in workspace {name}: its provider waits 25 s for each queue")
    run("apply", "-auto-approve", *var_files)
    outputs = terraform.outputs(environment)
    variables = target.environment_of(aws, outputs)
    compare(variables, added, target.NOT_FOR_THE_HANDLER, say)
    return Deployment(aws, outputs, variables, added)


def packaged(say: Say) -> Path:
    """Return the package that this machine can run, built if necessary. Raises ToolError."""
    say("package: the first one downloads the dependencies")
    with contextlib.redirect_stdout(io.StringIO()):
        package = runnable()
    say(f"{package}, {package.stat().st_size / MB:.1f} MB")
    return package


def write_files(environment: Environment, region: str, settings: dict[str, Any]) -> None:
    """Write what Terraform needs in a local environment; what an earlier one has left goes."""
    shutil.rmtree(environment.data_dir, ignore_errors=True)
    shutil.rmtree(environment.code, ignore_errors=True)
    environment.tfvars.parent.mkdir(parents=True, exist_ok=True)
    values = {"environments": [environment.name], **settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    head = "# Settings of the local AWS, made at each start. All others are dev's."
    environment.tfvars.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    environment.backend.write_text(
        f'bucket = "{BUCKET}"\nregion = "{region}"\nuse_path_style = true\n', encoding="utf-8"
    )
    terraform.link_code(environment)
    lock = terraform.LOCK_FILE
    if lock.is_file():
        shutil.copy(lock, environment.code)


def initialise(environment: Environment, run: Runner) -> None:
    """Run `terraform init`, and make the workspace.

    After an interrupted one the provider in the cache may be incomplete, and Terraform would take
    it as it is. Two at once would be in each other's way.
    """
    cache = terraform.PLUGIN_CACHE
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_name("plugin-cache-incomplete").open("a+") as incomplete:
        fcntl.flock(incomplete, fcntl.LOCK_EX)
        if incomplete.tell():
            shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(exist_ok=True)
        print("yes", file=incomplete, flush=True)
        terraform.initialise(environment, run)
        incomplete.truncate(0)


@dataclass(frozen=True)
class Runner:
    """Runs Terraform quietly, with a sign of life every ten seconds."""

    environment: Environment
    say: Say

    def __call__(self, *arguments: str, given: str = "", codes: tuple[int, ...] = (0,)) -> str:
        """Return what it prints on stdout; given is its stdin.

        :raises ToolError: its exit code is another, or a setting is wrong: with all that it said.
        """
        started = time.monotonic()

        def alive(printed: bytes) -> None:
            self.say(f"  … {time.monotonic() - started:.0f} s{progress(printed.decode())}")

        quiet = {"TF_CLI_ARGS": "-no-color", "TF_INPUT": "false"}
        code, printed, errors = terraform.attempt(
            self.environment, *arguments, more=quiet, given=given, alive=alive
        )
        wrong = complaints(printed, errors)
        if code not in codes or wrong:
            raise ToolError(f"`terraform {arguments[0]}` failed:\n{wrong or printed + errors}")
        return printed


def progress(printed: str) -> str:
    """Say how far an apply has come, by what it has printed, and what it waits for.

    Behind the seconds it fits into a terminal of 80 columns.
    """
    begun = re.findall(r"^(\S.*): Creating\.\.\.", printed, re.MULTILINE)
    made = re.findall(r"^(\S.*): Creation complete", printed, re.MULTILINE)
    all_of = re.search(r"^Plan: (\d+) to add", printed, re.MULTILINE)
    waiting = [name.removeprefix("aws_") for name in begun if name not in made]
    if not all_of:
        return ""
    first = waiting[0] if waiting else "the rest"
    if len(first) > 36:
        first = f"{first[:35]}…"
    more = f", {len(waiting) - 1} more" if len(waiting) > 1 else ""
    return f", {len(made)} of {all_of[1]}: waiting for {first}{more}"


def compare(deployed: dict[str, str], added: dict[str, str], others: set[str], say: Say) -> None:
    """Say which environment variables are only in local.env, and which only on AWS."""
    here, there = {*read_environment(), *added}, {*deployed, *added}
    if missing := ", ".join(sorted(there - here - others)):
        say(f"local.env lacks {missing}: unit tests and `make invoke` run without")
    if missing := ", ".join(sorted(here - there)):
        say(f"only local.env sets {missing}: on AWS, the code runs without; see service.tf")

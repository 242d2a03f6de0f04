"""A Lambda function: what is deployed, how it is doing, and which versions it has."""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tools.display import shown
from tools.errors import ToolError
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# What is built and deployed, and what it is built from besides the service's package.
ARTIFACT = Path("dist/lambda.zip")
CODE = ["handler.py"]
# Commands that only this compute has.
COMMANDS: dict[str, str] = {}
# The output that says what is deployed, and the variable that keeps it.
DEPLOYED = "package_hash"
# Values that count only where no other is given, to check settings before anything is built.
STAND_INS = {"package_hash": "none"}
# The one resource that a rollback may change, and the one that a pause may.
DECIDES_ON_VERSION = "aws_lambda_alias.live"
DECIDES_ON_PAUSE = "aws_lambda_event_source_mapping.queue"
# Settings that a rollback takes out.
ROLLBACK_CLEARS = ["canary_weight"]
# Seconds that a smoke test waits for its message at most.
SMOKE_SECONDS = 120
# The alias that the queue feeds.
LIVE = "live"


def artifact(environment: Environment) -> Path:
    """Return what is deployed in an environment: on a local AWS, what this machine can run."""
    from tools.build.package import PACKAGES, platform_here

    return PACKAGES[platform_here()] if environment.is_local else ARTIFACT


def build_artifact(environment: Environment) -> None:
    """Build what is deployed, unless it is up to date."""
    from tools.build.package import build, runnable

    runnable() if environment.is_local else build()


def release_variables(_: Environment) -> dict[str, str]:
    """Return the variables that a plan hands to Terraform: none, it reads the package itself."""
    return {}


def checks() -> dict[str, Callable[[], str]]:
    """Return what `make doctor` checks besides what every service needs: nothing."""
    return {}


def before_apply(_: Environment) -> None:
    """Do what has to be done before Terraform applies a plan: nothing."""


def _live(service: Service) -> Any:
    """Return the configuration of the version that alias ``live`` points at."""
    return service.client("lambda").get_function_configuration(
        FunctionName=service.service_name, Qualifier=LIVE
    )


def _mapping(service: Service) -> Any:
    """Return the event source mapping, which feeds the queue's messages to the function."""
    uuid = service.event_source_mapping_uuid
    return service.client("lambda").get_event_source_mapping(UUID=uuid)


def _hex(code_sha256: str) -> str:
    """Turn Lambda's base64 into the hexadecimal that ``make package`` prints."""
    return base64.b64decode(code_sha256).hex()


def _date(text: str) -> str:
    """Print a time that Lambda gives, ``2026-01-01T10:00:00.000+0000``, to the minute."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M}Z"


def versions(service: Service) -> set[str]:
    """Print the published versions, newest first, and which one is live; return their numbers."""
    lambda_ = service.client("lambda")
    pages = lambda_.get_paginator("list_versions_by_function").paginate(
        FunctionName=service.service_name
    )
    published = {one["Version"]: one for page in pages for one in page["Versions"]}
    published.pop("$LATEST", None)
    alias = lambda_.get_alias(FunctionName=service.service_name, Name=LIVE)
    shares = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    shares = {alias["FunctionVersion"]: 1 - sum(shares.values()), **shares}

    print(f"Versions of {service.service_name}{service.at_commit}, times in UTC:")
    for number, version in sorted(published.items(), key=lambda item: -int(item[0])):
        share = shares.get(number, 0)
        mark = "" if not share else LIVE if share == 1 else f"{LIVE} {share:.0%}"
        digest = _hex(version["CodeSha256"])[:12]
        row = f"  {number:>5}  {_date(version['LastModified'])}  {digest}  {mark:<8}"
        print(f"{row}  {shown(version.get('Description', ''))}".rstrip())
    return set(published)


def require_version(service: Service, version: str) -> None:
    """Print the versions, and make sure that this one can be put in place.

    :raises ToolError: there is no such version.
    """
    if version not in versions(service):
        raise ToolError(f"There is no version {version}: choose one from the list above.")


@click.command
@environment_option
def versions_command(environment: Environment) -> None:
    """List the published versions, and which one is live."""
    versions(deployed(environment))


def check(service: Service, package: Path | None) -> None:
    """Make sure that the right code is deployed, and that the queue feeds it.

    :param package: the zip that must be what is deployed; not compared without.
    :raises ToolError: one of these is not so.
    """
    live = _live(service)
    if package is not None:
        if not package.is_file():
            raise ToolError(f"There is no {package} to compare with: run `make package`.")
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        if digest != _hex(live["CodeSha256"]):
            raise ToolError(
                f"{service.service_name}:{LIVE} runs {_hex(live['CodeSha256'])}, but {package} is "
                f"{digest} (SHA-256): another package is deployed."
            )
        print(f"Package: {package} is what {LIVE}, version {live['Version']}, runs.")
    mapping = _mapping(service)
    if mapping["State"] != "Enabled":
        raise ToolError(
            f"The event source mapping is {mapping['State']}, so messages wait in "
            f"{service.queue_name}: {service.make('resume')} enables it."
        )
    print(f"Event source mapping: Enabled, {service.queue_name} feeds the function.")


def _function_status(service: Service) -> list[str]:
    live = _live(service)
    return [
        f"version {live['Version']} is {LIVE}, {live.get('State', 'Active')}; last update "
        f"{live.get('LastUpdateStatus', 'Successful')}, {_date(live['LastModified'])}",
        f"package {_hex(live['CodeSha256'])[:12]}, {live['MemorySize']} MB memory, "
        f"{live['Timeout']} s timeout",
    ]


def _feed_status(service: Service) -> list[str]:
    mapping = _mapping(service)
    limit = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
    text = f"{mapping['State']}, batches of up to {mapping['BatchSize']}"
    text += f", at most {limit} at once" if limit else ""
    if mapping["State"] == "Disabled":
        text += f"; messages wait until {service.make('resume')}"
    return [text]


# This compute's part of `make status`: a title, and what finds out its lines.
SECTIONS = (("function", _function_status), ("feed", _feed_status))

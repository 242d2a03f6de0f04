"""A Lambda function: how it is, which versions it has, and whether it can work."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.errors import ToolError
from tools.operate.service import Service

# The alias that the queue feeds.
LIVE = "live"
# Seconds that a smoke test waits for its message at most.
SMOKE_SECONDS = 120


def _live(service: Service) -> dict[str, Any]:
    """Return the configuration of the version that alias ``live`` points at."""
    configuration: dict[str, Any] = service.client("lambda").get_function_configuration(
        FunctionName=service.name, Qualifier=LIVE
    )
    return configuration


def _hex(code_sha256: str) -> str:
    """Turn Lambda's base64 into the hexadecimal that ``make package`` prints."""
    return base64.b64decode(code_sha256).hex()


def _date(text: str) -> str:
    """Print a time that Lambda gives, ``2026-01-01T10:00:00.000+0000``, to the minute, in UTC."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M}Z"
    except ValueError:
        return text


def _mapping(service: Service) -> dict[str, Any] | None:
    """Return the event source mapping of the service's queue."""
    mappings = service.client("lambda").list_event_source_mappings(EventSourceArn=service.queue_arn)
    own = [m for m in mappings["EventSourceMappings"] if _is_own(service, m["FunctionArn"])]
    return own[0] if own else None


def _is_own(service: Service, function_arn: str) -> bool:
    return function_arn.split(":")[6] == service.name


def versions(service: Service, check: int | None = None) -> None:
    """Print the published versions, newest first, and which one is live.

    :param check: a version that must be among them.
    :raises ToolError: it is not.
    """
    lambda_ = service.client("lambda")
    pages = lambda_.get_paginator("list_versions_by_function").paginate(
        FunctionName=service.name
    )
    published = [
        version for page in pages for version in page["Versions"] if version["Version"] != "$LATEST"
    ]
    alias = lambda_.get_alias(FunctionName=service.name, Name=LIVE)
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    rest = 1 - sum(weights.values())
    shares = {alias["FunctionVersion"]: rest, **weights}

    print(f"Versions of {service.name}, times in UTC:")
    for version in sorted(published, key=lambda version: -int(version["Version"])):
        number = version["Version"]
        share = shares.get(number)
        mark = "" if share is None else LIVE if share == 1 else f"{LIVE} {share:.0%}"
        row = (
            f"  {number:>5}  {_date(version['LastModified'])}  {_hex(version['CodeSha256'])[:12]}"
            f"  {mark:<8}  {version.get('Description', '')}"
        )
        print(row.rstrip())
    if check is not None and str(check) not in {version["Version"] for version in published}:
        raise ToolError(f"There is no version {check}: choose one of the list above.")


def check(service: Service, package: Path | None) -> None:
    """Make sure that the right code is deployed, that it can run, and that the queue feeds it.

    :param package: the zip that must be what is deployed; not compared without.
    :raises ToolError: one of these is not so.
    """
    live = _live(service)
    deployed = live["CodeSha256"]
    if package is not None:
        try:
            digest = hashlib.sha256(package.read_bytes()).digest()
        except OSError as error:
            raise ToolError(f"{package}: can't read the package: {error.strerror}") from None
        if base64.b64encode(digest).decode() != deployed:
            raise ToolError(
                f"{service.name}:{LIVE} runs {_hex(deployed)}, but {package} is "
                f"{digest.hex()} (SHA-256): another package is deployed."
            )
        print(f"Package: {package} is what {LIVE}, version {live['Version']}, runs.")
    _require_healthy(service, live)


def _require_healthy(service: Service, live: dict[str, Any]) -> None:
    """Make sure that the function can run and that the queue feeds it."""
    # Idle functions are "Inactive"; the next invocation wakes them.
    if live.get("State", "Active") not in ("Active", "Inactive"):
        reason = live.get("StateReason", "no reason given")
        raise ToolError(f"{service.name} is {live['State']}: {reason}.")
    if live.get("LastUpdateStatus", "Successful") != "Successful":
        reason = live.get("LastUpdateStatusReason", "no reason given")
        raise ToolError(
            f"The last update of {service.name} is {live['LastUpdateStatus']}: {reason}."
        )
    mapping = _mapping(service)
    if mapping is None:
        raise ToolError(
            f"No event source mapping connects {service.queue_name} with {service.name}: "
            "run `make plan` to see what is missing."
        )
    if mapping["State"] != "Enabled":
        raise ToolError(
            f"The event source mapping is {mapping['State']}, so messages wait in "
            f"{service.queue_name}: `make resume` switches it on."
        )
    print(f"Event source mapping: Enabled, {service.queue_name} feeds the function.")


def _function_status(service: Service) -> list[str]:
    live = _live(service)
    return [
        f"version {live['Version']} is {LIVE}, {live.get('State', 'Active')}; last update "
        f"{live.get('LastUpdateStatus', 'Successful')}, {_date(live['LastModified'])}",
        f"package {_hex(live['CodeSha256'])[:12]}, {live['MemorySize']} MB memory, "
        f"{live['Timeout']} s time-out",
    ]


def _mapping_status(service: Service) -> list[str]:
    mapping = _mapping(service)
    if mapping is None:
        return ["no event source mapping: nothing reads the queue"]
    qualifier = mapping["FunctionArn"].split(":")[7:]
    scaling = mapping.get("ScalingConfig") or {}
    limit = scaling.get("MaximumConcurrency")
    text = f"{mapping['State']}, feeds {qualifier[0] if qualifier else '$LATEST'}"
    text += f", batches of up to {mapping['BatchSize']}" if "BatchSize" in mapping else ""
    text += f", at most {limit} at once" if limit else ""
    if mapping["State"] == "Disabled":
        text += "; messages wait until `make resume`"
    return [text]


SECTIONS = (("function", _function_status), ("feed", _mapping_status))

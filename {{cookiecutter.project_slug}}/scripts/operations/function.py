"""The function: how it is, which versions it has, and whether a message gets through to it."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from operations import logs, queues
from operations.service import OperateError, Service, explain

# The alias that the queue feeds.
LIVE = "live"
# The event type that the handler acknowledges without business effect.
SMOKE_TEST = "smoke_test"
POLL_SECONDS = 2.0
# Minutes and lines of `status`.
ERRORS_SINCE = 60
ERRORS_SHOWN = 5
AGE_SINCE = 15


def _live(service: Service) -> dict[str, Any]:
    """Return the configuration of the version that alias ``live`` points at."""
    configuration: dict[str, Any] = service.client("lambda").get_function_configuration(
        FunctionName=service.function_name, Qualifier=LIVE
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
    return function_arn.split(":")[6] == service.function_name


def versions(service: Service, check: int | None = None) -> None:
    """Print the published versions, newest first, and which one is live.

    :param check: a version that must be among them.
    :raises OperateError: it is not.
    """
    lambda_ = service.client("lambda")
    pages = lambda_.get_paginator("list_versions_by_function").paginate(
        FunctionName=service.function_name
    )
    published = [
        version for page in pages for version in page["Versions"] if version["Version"] != "$LATEST"
    ]
    alias = lambda_.get_alias(FunctionName=service.function_name, Name=LIVE)
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    rest = 1 - sum(weights.values())
    shares = {alias["FunctionVersion"]: rest, **weights}

    print(f"Versions of {service.function_name}, times in UTC:")
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
        raise OperateError(f"There is no version {check}: choose one of the list above.")


def smoke(service: Service, package: Path | None, timeout: float) -> None:
    """Check a deployment: the right code, the queue connected, and a message that gets through.

    The message goes to the service's own queue, in the envelope that SNS would put around it, so no
    other subscriber of the topic sees it. The handler acknowledges it without business effect.

    :param package: the zip that must be what is deployed; not compared without.
    :param timeout: seconds to wait for the log to show it.
    :raises OperateError: one of these is not so.
    """
    live = _live(service)
    deployed = live["CodeSha256"]
    if package is not None:
        try:
            digest = hashlib.sha256(package.read_bytes()).digest()
        except OSError as error:
            raise OperateError(f"{package}: can't read the package: {error.strerror}") from None
        if base64.b64encode(digest).decode() != deployed:
            raise OperateError(
                f"{service.function_name}:{LIVE} runs {_hex(deployed)}, but {package} is "
                f"{digest.hex()} (SHA-256): another package is deployed."
            )
        print(f"Package: {package} is what {LIVE}, version {live['Version']}, runs.")
    _require_healthy(service, live)

    text = {
        "Type": "Notification",
        "TopicArn": service.topic_arn,
        "Message": "{}",
        "MessageAttributes": {"event_type": {"Type": "String", "Value": SMOKE_TEST}},
    }
    begin = time.time()
    message_id = service.client("sqs").send_message(
        QueueUrl=service.queue_url, MessageBody=json.dumps(text)
    )["MessageId"]
    print(
        f"Sent smoke test {message_id} to {service.queue_name}; waiting for it in the log.",
        flush=True,
    )
    while True:
        lines = logs.about_messages(service, [message_id], begin - logs.LATE_SECONDS)
        errors = [line for line in lines[message_id] if logs.is_error(line)]
        if errors:
            raise OperateError(
                f"{service.function_name} failed on the smoke test: {logs.describe(errors[0])}"
            )
        if lines[message_id]:
            break
        if time.time() - begin > timeout:
            count = queues.depth(service, service.queue_url)
            raise OperateError(
                f"The log {service.log_group_name} does not show the smoke test {message_id} after "
                f"{timeout:g} s. {service.queue_name} has {count['waiting']} messages waiting and "
                f"{count['in_flight']} in flight: see `make status` and `make logs`. "
                "(It is logged at level INFO: with a higher LOG_LEVEL it does not show.)"
            )
        time.sleep(POLL_SECONDS)
    print(f"Processed after {time.time() - begin:.0f} s: {service.function_name} works.")


def _require_healthy(service: Service, live: dict[str, Any]) -> None:
    """Make sure that the function can run and that the queue feeds it."""
    # Idle functions are "Inactive"; the next invocation wakes them.
    if live.get("State", "Active") not in ("Active", "Inactive"):
        reason = live.get("StateReason", "no reason given")
        raise OperateError(f"{service.function_name} is {live['State']}: {reason}.")
    if live.get("LastUpdateStatus", "Successful") != "Successful":
        reason = live.get("LastUpdateStatusReason", "no reason given")
        raise OperateError(
            f"The last update of {service.function_name} is {live['LastUpdateStatus']}: {reason}."
        )
    mapping = _mapping(service)
    if mapping is None:
        raise OperateError(
            f"No event source mapping connects {service.queue_name} with {service.function_name}: "
            "run `make plan` to see what is missing."
        )
    if mapping["State"] != "Enabled":
        raise OperateError(
            f"The event source mapping is {mapping['State']}, so messages wait in "
            f"{service.queue_name}: `make resume` switches it on."
        )
    print(f"Event source mapping: Enabled, {service.queue_name} feeds the function.")


def status(service: Service) -> bool:
    """Print how the service is, on one screen.

    What can't be found out is said in its place; the rest is shown all the same.

    :returns: whether all could be found out.
    """
    print(f"{service.function_name} in {service.region}, account {service.account}, times in UTC")
    sections: tuple[tuple[str, Callable[[Service], list[str]]], ...] = (
        ("function", _function_status),
        ("feed", _mapping_status),
        ("queue", _queue_status),
        ("dead letters", _dead_letter_status),
        ("undelivered", _undelivered_status),
        ("alarms", _alarm_status),
        ("last errors", _error_status),
    )
    complete = True
    for title, section in sections:
        try:
            rows = section(service)
        except (BotoCoreError, ClientError) as error:
            rows, complete = [f"unknown: {explain(error)}"], False
        print(f"{title + ':':<14}" + f"\n{'':14}".join(rows), flush=True)
    return complete


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


def _queue_status(service: Service) -> list[str]:
    count = queues.depth(service, service.queue_url)
    # CloudWatch, not SQS, knows the age; it has no figure while the queue is empty.
    points = service.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": service.queue_name}],
        StartTime=datetime.now(UTC) - timedelta(minutes=AGE_SINCE),
        EndTime=datetime.now(UTC),
        Period=60,
        Statistics=["Maximum"],
    )["Datapoints"]
    text = f"{count['waiting']} waiting, {count['in_flight']} in flight"
    text += f", {count['delayed']} delayed" if count["delayed"] else ""
    if points:
        latest = max(points, key=lambda point: point["Timestamp"])
        text += f", the oldest {queues.duration(latest['Maximum'])} old"
        text += f" ({latest['Timestamp'].astimezone(UTC):%H:%M}Z)"
    elif count["waiting"] or count["in_flight"]:
        text += f", age of the oldest unknown: no figure in the last {AGE_SINCE} min"
    return [text]


def _dead_letter_status(service: Service) -> list[str]:
    return _repair_status(service, service.dead_letter_queue_url, "dlq-peek")


def _undelivered_status(service: Service) -> list[str]:
    return _repair_status(service, service.undelivered_queue_url, "undelivered-peek")


def _repair_status(service: Service, queue_url: str, target: str) -> list[str]:
    count = queues.depth(service, queue_url)
    total = count["waiting"] + count["in_flight"]
    return [f"{total} in the queue: `make {target}` shows them" if total else "none"]


def _alarm_status(service: Service) -> list[str]:
    pages = (
        service.client("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNamePrefix=f"{service.function_name}-")
    )
    alarms = [
        alarm
        for page in pages
        for alarm in page.get("MetricAlarms", []) + page.get("CompositeAlarms", [])
    ]
    firing = [
        f"{alarm['AlarmName']} since "
        f"{logs.clock(alarm['StateUpdatedTimestamp'].timestamp() * 1000)}: "
        f"{alarm.get('StateReason', '')}"
        for alarm in alarms
        if alarm["StateValue"] == "ALARM"
    ]
    return firing or [f"none of {len(alarms)} fires"]


def _error_status(service: Service) -> list[str]:
    errors = logs.latest_errors(service, ERRORS_SINCE, ERRORS_SHOWN)
    return errors or [f"none in the last {ERRORS_SINCE} min"]

"""How the service is, on one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from tools.operate import logs, queues
from tools.errors import ToolError, explain
from tools.operate.service import Service

# Minutes and lines.
ERRORS_SINCE = 60
ERRORS_SHOWN = 5
AGE_SINCE = 15

# A part of the screen: its title, and what finds out its lines.
Section = tuple[str, Callable[[Service], list[str]]]


def status(service: Service, compute: Iterable[Section]) -> bool:
    """Print how the service is.

    What can't be found out is said in its place; the rest is shown all the same.

    :param compute: the sections about what runs the code.
    :returns: whether all could be found out.
    """
    print(f"{service.name} in {service.region}, account {service.account}, times in UTC")
    complete = True
    for title, section in (*compute, *SECTIONS):
        try:
            rows = section(service)
        except (BotoCoreError, ClientError) as error:
            rows, complete = [f"unknown: {explain(error)}"], False
        except ToolError as error:
            rows, complete = [f"unknown: {error}"], False
        print(f"{title + ':':<14}" + f"\n{'':14}".join(rows), flush=True)
    return complete


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
        .paginate(AlarmNamePrefix=f"{service.name}-")
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


SECTIONS: tuple[Section, ...] = (
    ("queue", _queue_status),
    ("dead letters", _dead_letter_status),
    ("undelivered", _undelivered_status),
    ("alarms", _alarm_status),
    ("last errors", _error_status),
)

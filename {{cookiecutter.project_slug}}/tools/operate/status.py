"""The service's health, on one screen."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import time

import click

from tools.display import quoted, shown
from tools.errors import explain
from tools.events import is_fifo
from tools.operate import compute, logs, queues
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

ERRORS_SINCE = 60  # minutes
ERRORS_SHOWN = 5
AGE_SINCE = 15  # minutes
GROUPS_SHOWN = 5

Section = Callable[[Service], list[str]]


def rows_of(service: Service, section: Section) -> tuple[list[str], bool]:
    """Return what a section says, and whether it could be found out."""
    try:
        return section(service), True
    except Exception as error:
        if not (reason := explain(error)):
            raise
        return [f"unknown: {reason}"], False


def _queue_status(service: Service) -> list[str]:
    count = queues.depth(service, service.queue_url)
    # CloudWatch, not SQS, knows the age; it has no figure while the queue is empty.
    now = datetime.now(UTC)
    points = service.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": service.queue_name}],
        StartTime=now - timedelta(minutes=AGE_SINCE),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )["Datapoints"]
    text = f"{count['waiting']} waiting, {count['in_flight']} in flight"
    text += f", {count['delayed']} delayed" if count["delayed"] else ""
    if not count["waiting"] + count["in_flight"]:
        return [text]  # the last figure is of a message that is gone
    if points:
        latest = max(points, key=lambda point: point["Timestamp"])
        age, at = queues.duration(latest["Maximum"]), latest["Timestamp"].astimezone(UTC)
        text += f", the oldest {age} old ({at:%H:%M}Z)"
    else:
        text += f", age of the oldest unknown: no figure in the last {AGE_SINCE} min"
    return [text]


def _group_status(service: Service) -> list[str]:
    """Say which message groups a failed message holds up; nothing of a standard queue."""
    if not is_fifo(service.queue_url):
        return []
    seconds, tries = queues.tries(service)
    since = time() - max(ERRORS_SINCE * 60, seconds * (tries + 2))
    waiting = queues.total(service, service.queue_url)
    blocked = logs.blocked_groups(service, since, seconds) if waiting else {}
    looked = queues.duration(2 * seconds)
    rows = [f"{len(blocked) or 'none'} blocked, as far as the log of the last {looked} shows"]
    longest = sorted(blocked.items(), key=lambda item: float(item[1][0]["at"]))
    for group, failed in longest[:GROUPS_SHOWN]:
        first, last = failed[0]["at"], failed[-1]
        earlier = " or earlier" if first / 1000 < since + 2 * seconds else ""
        end = logs.clock(last["at"] + seconds * 1000)
        dead = f", a dead letter by {end}" if last.get("group") == logs.GOES_ON else ""
        rows.append(
            f"{quoted(group)} since {logs.clock(first)}{earlier}, by message "
            f"{last['message_id']}, failed tries: {len(failed)}{dead}"
        )
    return rows + ["…"] * (len(blocked) > GROUPS_SHOWN)


def _held(service: Service, queue_url: str, target: str) -> list[str]:
    total = queues.total(service, queue_url)
    return [f"{total} in the queue: {service.make(target)} shows them" if total else "none"]


def alarm_status(service: Service) -> list[str]:
    prefix = f"{service.service_name}-"
    paginator = service.client("cloudwatch").get_paginator("describe_alarms")
    pages = list(paginator.paginate(AlarmNamePrefix=prefix))
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    firing = [alarm for alarm in alarms if alarm["StateValue"] == "ALARM"]
    return [f"{len(firing)} of {len(alarms)} alarms firing"] + [
        f"{alarm['AlarmName']} since "
        f"{logs.clock(alarm['StateUpdatedTimestamp'].timestamp() * 1000)}: "
        f"{alarm.get('StateReason', '')}"
        for alarm in firing
    ]


def _error_status(service: Service) -> list[str]:
    errors = logs.latest_errors(service, ERRORS_SINCE, ERRORS_SHOWN)
    return errors or [f"none in the last {ERRORS_SINCE} min"]


SECTIONS = (
    ("queue", _queue_status),
    ("groups", _group_status),
    ("dead letters", lambda service: _held(service, service.dead_letter_queue_url, "dlq-peek")),
    (
        "undelivered",
        lambda service: _held(service, service.undelivered_queue_url, "undelivered-peek"),
    ),
    ("alarms", alarm_status),
    ("last errors", _error_status),
)


@click.command
@environment_option
def command(environment: Environment) -> int:
    """Show the service's health on one screen; what cannot be found out is said in its place."""
    service, code = deployed(environment), 0
    print(f"{service.service_name} in {service.region}, account {service.account}, times in UTC")
    for title, section in (*compute.SECTIONS, *SECTIONS):
        rows, known = rows_of(service, section)
        code = code if known else 1
        if rows:
            print(f"{title + ':':<14}" + f"\n{'':14}".join(map(shown, rows)), flush=True)
    return code

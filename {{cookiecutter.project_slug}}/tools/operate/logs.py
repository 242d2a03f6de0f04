"""The log: follow it, find messages in it, list the latest errors."""

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from tools.display import Line, describe, is_error, parse
from tools.operate.service import Service, deployed
from tools.project import Environment, between, environment_option

# Seconds between two looks. CloudWatch Logs allows five look-ups a second per account and region.
POLL_SECONDS = 2.0
# A line can arrive this much later than its timestamp; more is rare.
LATE_SECONDS = 60
# A filter pattern has at most 1,024 characters; a comparison with a message id has 60.
IDS_PER_PATTERN = 10
# What is_error finds: errors that the handler logs, crashes, and invocations that ended badly.
ERRORS = (
    '{ ($.level = "ERROR") || ($.level = "CRITICAL")'
    ' || ($.type = "platform.report" && $.record.status != "success") }'
)

# What the handler logs of a message's end, and of what its message group does if it has failed.
PROCESSED, FAILED = "Message processed", "Message failed"
WAITS, GOES_ON = "waits", "goes on"
FAILED_IN_GROUP = (
    f'{{ ($.message = "{FAILED}") && (($.group = "{WAITS}") || ($.group = "{GOES_ON}")) }}'
)
# What an id of SQS's may be; in a log, anything can stand in its place.
ID = re.compile(r"[\w-]{1,100}")
BLOCKED_CHECKED = 50  # groups, the latest to fail


def clock(milliseconds: float) -> str:
    """Print a time, given in milliseconds since 1970, in UTC."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def events(service: Service, since: float, pattern: str = "") -> Iterator[dict[str, Any]]:
    """Yield the log's events, oldest first.

    :param since: seconds since 1970.
    :param pattern: a filter pattern of CloudWatch Logs; everything without one.
    """
    pages = service.client("logs").get_paginator("filter_log_events")
    arguments = {"logGroupName": service.log_group_name, "filterPattern": pattern}
    for page in pages.paginate(startTime=max(0, int(since * 1000)), **arguments):
        yield from sorted(page["events"], key=lambda event: event["timestamp"])


def follow(service: Service, minutes: float, once: bool) -> None:
    """Print the log as it grows, until Ctrl-C.

    :param minutes: how far back to begin.
    :param once: print what is there, and stop.
    """
    print(f"Log group {service.log_group_name}, from {minutes:g} min ago, times in UTC.")
    print("" if once else "Press Ctrl-C to stop.\n", end="", flush=True)
    since = time.time() - minutes * 60
    seen: dict[str, float] = {}
    printed = 0
    while True:
        # Lines come late and out of order, so each look goes back a little further than the last.
        for event in events(service, since):
            text = describe(parse(event["message"]))
            if text and event["eventId"] not in seen:
                print(f"{clock(event['timestamp'])}  {text}", flush=True)
                printed += 1
            seen[event["eventId"]] = event["timestamp"] / 1000
        if once:
            break
        since = max([since, *(at - LATE_SECONDS for at in seen.values())])
        seen = {name: at for name, at in seen.items() if at >= since}
        time.sleep(POLL_SECONDS)
    if not printed:
        print("No lines.")


def about_messages(service: Service, ids: list[str], since: float) -> dict[str, list[Line]]:
    """Find what the log says of messages.

    :param since: seconds since 1970: when the oldest of them was sent.
    :returns: for each SQS message id its lines, oldest first, each with ``at``, the time in
        milliseconds; an empty list for an id that no line has.
    """
    found: dict[str, list[Line]] = defaultdict(list)
    for start in range(0, len(ids), IDS_PER_PATTERN):
        some = ids[start : start + IDS_PER_PATTERN]
        comparisons = " || ".join(f'($.message_id = "{message_id}")' for message_id in some)
        for event in events(service, since - LATE_SECONDS, f"{{ {comparisons} }}"):
            line = parse(event["message"])
            message_id = str(line.get("message_id"))
            if message_id in some:
                found[message_id].append({**line, "at": event["timestamp"]})
    return found


def blocked_groups(service: Service, since: float, timeout: float) -> dict[str, list[Line]]:
    """Find the message groups that wait for a message which has failed.

    :param since: seconds since 1970: how far back to look for tries.
    :param timeout: the queue's visibility timeout, in seconds. It passes before the next try, and
        before a message that had its last one leaves the queue.
    :returns: by group, the failed tries of that message, as about_messages does.
    """
    now = time.time()
    latest: dict[str, tuple[float, str]] = {}
    for event in events(service, now - 2 * timeout, FAILED_IN_GROUP):
        line, at = parse(event["message"]), event["timestamp"]
        message_id = str(line.get("message_id"))
        if line.get("message") == FAILED and line.get("group") and ID.fullmatch(message_id):
            latest[str(line.get("message_group_id"))] = (at, message_id)
    newest = sorted(latest.items(), key=lambda item: item[1], reverse=True)[:BLOCKED_CHECKED]
    lines = about_messages(service, [message_id for _, (_, message_id) in newest], since)
    blocked = {}
    for group, (_, message_id) in newest:
        outcomes = [one for one in lines[message_id] if one.get("message") in (PROCESSED, FAILED)]
        last: Line = outcomes[-1] if outcomes else {}
        waits = timeout if last.get("group") == GOES_ON else 2 * timeout
        if last.get("message") == FAILED and last["at"] / 1000 > now - waits:
            blocked[group] = [one for one in outcomes if one["message"] == FAILED]
    return blocked


def latest_errors(service: Service, minutes: float, most: int) -> list[str]:
    """Return the latest errors in the log as readable text, oldest first."""
    found = [
        (event["timestamp"], describe(line).partition("\n")[0])
        for event in events(service, time.time() - minutes * 60, ERRORS)
        if is_error(line := parse(event["message"]))
    ]
    return [f"{clock(at)}  {text}" for at, text in sorted(found)[-most:]]


@click.command
@environment_option
@click.option(
    "--since", envvar="SINCE", callback=between(0.0, 43200.0), default="10", help="minutes"
)
@click.option("--once", is_flag=True, help="print what is there, and stop")
def command(environment: Environment, since: float, once: bool) -> None:
    """Follow the log."""
    with contextlib.suppress(KeyboardInterrupt):  # the way to stop it
        follow(deployed(environment), since, once)

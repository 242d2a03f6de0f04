"""The log: follow it, find messages in it, list the latest errors."""

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from tools.display import shown
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
# Fields of a line that have a place of their own, and those that help no reader.
ERROR = ("errorType", "errorMessage")
STACKS = ("exception", "stack", "stackTrace")
PLACED = {*ERROR, *STACKS, "level", "message", "timestamp"}
NO_HELP = {"cold_start", "location", "requestId", "service", "stack_trace", "xray_trace_id"}

Line = dict[str, Any]


def parse(text: str) -> Line:
    """Return a line's fields; none for what only machines read, a ``message`` for plain text."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = text
    if not isinstance(line, dict):
        return {"message": text.rstrip()}
    kind = str(line.get("type"))
    record = line.get("record")
    if kind == "platform.report" and isinstance(record, dict):
        status, metrics = record.get("status", "success"), record.get("metrics")
        return {
            "level": "INFO" if status == "success" else "ERROR",
            "message": f"Invocation ended: {status} {record.get('errorType', '')}".rstrip(),
            **(metrics if isinstance(metrics, dict) else {}),
        }
    machines_only = "_aws" in line or (kind.startswith("platform.") and isinstance(record, dict))
    return {} if machines_only else line


def is_error(line: Line) -> bool:
    """Tell whether a line reports that something went wrong."""
    return line.get("level") in ("ERROR", "CRITICAL")


def describe(line: Line) -> str:
    """Make a line readable, without its time; empty for one without fields.

    Whatever is in it, only the first row begins at the margin.
    """
    text = f"{shown(line['level']):<8}  " if line.get("level") else ""
    message = line.get("message") or ": ".join(str(line[key]) for key in ERROR if key in line)
    first, *rows = str(message).split("\n")
    text += shown(first.rstrip())
    for key, value in line.items():
        if key not in PLACED | NO_HELP and not key.startswith("function_"):
            text += f"  {shown(key)}={quoted(value)}"
    for key in STACKS:
        more = line.get(key, [])
        rows += more if isinstance(more, list) else [more]
    rows = [part for row in rows for part in str(row).rstrip().split("\n")]
    return text + "".join(f"\n    {shown(row.rstrip())}" for row in rows)


def quoted(value: Any) -> str:
    """Print a field's value; in quotes where it could be taken for several fields."""
    plain = isinstance(value, str) and "  " not in value
    return shown(value if plain else json.dumps(value))


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

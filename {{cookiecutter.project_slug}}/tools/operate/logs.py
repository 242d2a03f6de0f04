"""The log: follow it, find one message in it, list the latest errors."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from tools.operate.service import Service

# Seconds between two looks. CloudWatch Logs allows five look-ups a second per account and region.
POLL_SECONDS = 2.0
# A line can show up this much later than the time it bears; longer is rare.
LATE_SECONDS = 60
# A filter pattern has at most 1,024 characters; a comparison with a message id has 60.
IDS_PER_PATTERN = 10

# Lambda's own words: what the function writes, what Lambda's runtime reports of a crash, and
# invocations that ended badly, a time-out for example.
ERRORS = (
    '{ ($.level = "ERROR") || ($.level = "CRITICAL")'
    ' || ($.type = "platform.report" && $.record.status != "success") }'
)

# On each line these come first, in this order; then what else it has, but for what helps no reader
# and for what has a place of its own.
SHOWN_FIRST = ("message_id", "event_type", "correlation_id", "error")
LEFT_OUT = {
    "cold_start",
    "errorMessage",
    "errorType",
    "function_arn",
    "function_memory_size",
    "function_name",
    "function_request_id",
    "level",
    "location",
    "message",
    "requestId",
    "service",
    "xray_trace_id",
    "exception",
    "stack",
    "stackTrace",
    "stack_trace",
    "timestamp",
}
STACKS = ("exception", "stack", "stackTrace")


def parse(text: str) -> dict[str, Any]:
    """Read one line of the log.

    :returns: its JSON object; ``{"message": text}`` where it is none.
    """
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) else {"message": text.rstrip()}


def is_error(line: dict[str, Any]) -> bool:
    """Tell whether a line reports that something went wrong."""
    if line.get("type") == "platform.report":
        return bool(_record(line).get("status", "success") != "success")
    return line.get("level") in ("ERROR", "CRITICAL")


def describe(line: dict[str, Any]) -> str | None:
    """Make one line of the log readable.

    :returns: the text without its time, or ``None`` for what only machines read (metrics, and
        Lambda's notes on the start of an invocation).
    """
    if "_aws" in line:
        return None
    if str(line.get("type", "")).startswith("platform."):
        return _describe_report(line) if line["type"] == "platform.report" else None
    level = str(line.get("level", ""))
    message = line.get("message") or ": ".join(
        str(line[key]) for key in ("errorType", "errorMessage") if key in line
    )
    parts = [f"{level:<8}" if level else "", f"{message}"]
    others = [key for key in line if key not in SHOWN_FIRST and key not in LEFT_OUT]
    parts += [f"{key}={_short(line[key])}" for key in (*SHOWN_FIRST, *others) if key in line]
    text = "  ".join(part for part in parts if part)
    for key in STACKS:
        stack = line.get(key, [])
        rows = stack if isinstance(stack, list) else str(stack).splitlines()
        text += "".join(f"\n    {str(row).rstrip()}" for row in rows)
    return text


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _record(line: dict[str, Any]) -> dict[str, Any]:
    record = line.get("record")
    return record if isinstance(record, dict) else {}


def _describe_report(line: dict[str, Any]) -> str:
    record = _record(line)
    metrics = record.get("metrics", {})
    status = record.get("status", "success")
    text = "Invocation ended" if status == "success" else f"ERROR     Invocation ended: {status}"
    if record.get("errorType"):
        text += f" ({record['errorType']})"
    for key, name, unit in (
        ("durationMs", "duration", "ms"),
        ("initDurationMs", "init", "ms"),
        ("maxMemoryUsedMB", "memory", "MB"),
        ("memorySizeMB", "of", "MB"),
    ):
        if key in metrics:
            text += f"  {name} {metrics[key]} {unit}"
    return text


def clock(milliseconds: float) -> str:
    """Print a time, given in milliseconds since 1970, in UTC."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def events(service: Service, since: float, pattern: str = "") -> Iterator[dict[str, Any]]:
    """Yield the log's events, oldest first.

    :param since: seconds since 1970.
    :param pattern: a filter pattern of CloudWatch Logs; everything without one.
    """
    arguments = {"filterPattern": pattern} if pattern else {}
    pages = (
        service.client("logs")
        .get_paginator("filter_log_events")
        .paginate(
            logGroupName=service.log_group_name, startTime=max(0, int(since * 1000)), **arguments
        )
    )
    for page in pages:
        yield from sorted(page["events"], key=lambda event: event["timestamp"])


def follow(service: Service, since_minutes: float, once: bool) -> None:
    """Print the log as it grows, until Ctrl-C.

    :param since_minutes: how far back to begin.
    :param once: print what is there, and stop.
    """
    print(f"Log group {service.log_group_name}, from {since_minutes:g} min ago, times in UTC.")
    if not once:
        print("Ctrl-C ends.", flush=True)
    since = time.time() - since_minutes * 60
    seen: dict[str, float] = {}
    printed = 0
    while True:
        # Lines come late and out of order, so each look goes back a little further than the last.
        for event in events(service, since):
            if event["eventId"] in seen:
                continue
            seen[event["eventId"]] = event["timestamp"] / 1000
            text = describe(parse(event["message"]))
            if text is not None:
                print(f"{clock(event['timestamp'])}  {text}", flush=True)
                printed += 1
        if once:
            break
        if seen:
            since = max(since, max(seen.values()) - LATE_SECONDS)
            seen = {name: at for name, at in seen.items() if at >= since}
        time.sleep(POLL_SECONDS)
    if not printed:
        print("No lines.")


def about_messages(
    service: Service, message_ids: Iterable[str], since: float
) -> dict[str, list[dict[str, Any]]]:
    """Find what the log says of messages.

    :param since: seconds since 1970: when the oldest of them was sent.
    :returns: for each SQS message id its lines, oldest first, each with ``at``, the time in
        milliseconds; nothing for an id that no line has.
    """
    ids = list(message_ids)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for start in range(0, len(ids), IDS_PER_PATTERN):
        some = ids[start : start + IDS_PER_PATTERN]
        comparisons = " || ".join(f'($.message_id = "{message_id}")' for message_id in some)
        for event in events(service, since, f"{{ {comparisons} }}"):
            line = parse(event["message"])
            if line.get("message_id") in some:
                found[line["message_id"]].append({**line, "at": event["timestamp"]})
    return found


def latest_errors(service: Service, since_minutes: float, most: int) -> list[str]:
    """Return the latest errors in the log as readable text, oldest first."""
    since = time.time() - since_minutes * 60
    found = []
    for event in events(service, since, ERRORS):
        line = parse(event["message"])
        text = describe(line) if is_error(line) else None
        if text is not None:
            found.append((event["timestamp"], text.splitlines()[0]))
    return [f"{clock(at)}  {text}" for at, text in sorted(found)[-most:]]

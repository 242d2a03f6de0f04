"""Text that others wrote, such as messages and log lines, made fit for a terminal."""

import json
from collections.abc import Iterable
from typing import Any

# Fields of a line that have a place of their own, and those that help no reader.
ERROR = ("errorType", "errorMessage")
STACKS = ("exception", "stack", "stackTrace")
PLACED = {*ERROR, *STACKS, "level", "message", "timestamp"}
NO_HELP = {"cold_start", "location", "requestId", "service", "stack_trace", "xray_trace_id"}

Line = dict[str, Any]


def shown(value: object) -> str:
    """Return text on one line; what could act on a terminal, or can't be seen, is escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(value))


def parse(text: str) -> Line:
    """Return a line's fields; none for what only machines read, a ``message`` for plain text."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = text
    if not isinstance(line, dict):
        line = {"message": text.rstrip()}
    # Lambda's runtime suspects its own updates where the handler can't be imported.
    if "LAMBDA_WARNING: Unhandled exception" in str(line.get("message")):
        return {}
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


def describe_all(lines: Iterable[str]) -> str:
    """Return a log without what only machines read."""
    return "\n".join(filter(None, map(describe, map(parse, lines))))


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

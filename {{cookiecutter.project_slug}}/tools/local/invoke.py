"""make invoke: run the packaged handler on an event; show its log, and which messages failed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools import hcl
from tools.build.package import runnable
from tools.display import describe, parse, shown
from tools.errors import ToolError
from tools.local.runtime import Runtime
from tools.local.world import local_world
from tools.project import Environment


@click.command()
@click.option("--event", type=Path, envvar="EVENT", default="events/one_message.json")
def command(event: Path) -> None:
    """Run the packaged handler on an event, a JSON file."""
    content, settings = read_event(event), hcl.settings(Environment("dev"))
    with (
        local_world(settings["aws_region"]) as environment,
        Runtime.with_settings(runnable(), settings, environment) as runtime,
    ):
        runtime.watch = show = follow(runtime.log)
        invocation = runtime.invoke(content)
        show(b"\n")
    click.echo(f"\nIt took {invocation.figures()}.")
    if invocation.warning:
        click.echo(invocation.warning)
    if invocation.error:
        kind, text = invocation.error.get("errorType"), invocation.error.get("errorMessage")
        raise ToolError(f"The handler failed: {kind}: {text}")
    click.echo(result(invocation.response, content))


def follow(log: Path) -> Callable[..., None]:
    """Return a function that prints, for people, the lines that a log has got since its last call.

    Its argument is taken for more of the log: a last line may have no end.
    """
    file, rest = log.open("rb"), b""

    def show(more: bytes = b"") -> None:
        nonlocal rest
        *lines, rest = (rest + file.read() + more).split(b"\n")
        for line in lines:
            show_line(line.decode(errors="replace"))

    return show


def show_line(line: str) -> None:
    """Print a line of the log, unless only machines read it."""
    if text := describe(parse(line)):
        click.echo(text)


def result(response: Any, event: Any) -> str:
    """Return that no message failed. Raises ToolError if any did."""
    count = len(event["Records"])
    match response:
        case {"batchItemFailures": []}:
            return f"0 of {count} messages failed."
        case {"batchItemFailures": list(failures)}:
            ids = ", ".join(str(failure["itemIdentifier"]) for failure in failures)
            raise ToolError(f"{len(failures)} of {count} messages failed: {ids}.")
    returned = shown(json.dumps(response))
    raise ToolError(f"The handler must return which messages failed, and returned {returned}.")


def read_event(path: Path) -> object:
    """Return the event in a JSON file. Raises ToolError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        samples = ", ".join(sorted(str(sample) for sample in Path("events").glob("*.json")))
        raise ToolError(f"There is no event file {path}. EVENT can be {samples}.") from None
    except (ValueError, RecursionError) as problem:
        raise ToolError(f"{path} must be JSON: {problem}.") from None

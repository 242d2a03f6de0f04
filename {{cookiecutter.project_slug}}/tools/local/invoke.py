"""Run the handler on events; show its log, and which messages failed.

`make invoke` runs the package as it is deployed, `make debug` the code in this process, where a
debugger can stop it.
"""

import json
import os
import signal
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import click

from tools import events, hcl
from tools.build.package import runnable
from tools.display import describe, parse, shown
from tools.errors import ToolError
from tools.local.log import follow
from tools.local.runtime import Runtime
from tools.local.world import world
from tools.project import Environment, project

# What to do if the handler can't be imported, by the error's type: Lambda's, Fargate's.
NO_IMPORT = (
    "\n`make test` shows where. If it passes, the package lacks a module: add it to `dependencies` "
    "in pyproject.toml and run `make lock`."
)
HINTS = {
    "KeyError": "\nIf this is an environment variable, set it in local.env.",
    "Runtime.ImportModuleError": NO_IMPORT,
    "ModuleNotFoundError": NO_IMPORT,
    "ImportError": NO_IMPORT,
}


@click.command()
@events.event_option
@events.event_type_option
@events.group_option
def invoke(event: str, event_type: str | None, group: str) -> None:
    """Run the packaged handler on a batch of events."""
    settings = hcl.settings(Environment("dev"))
    content = events.batch(event, event_type, settings["aws_region"], group)
    with (
        world(settings["aws_region"]) as environment,
        Runtime.with_settings(runnable(), settings, environment) as runtime,
    ):
        runtime.watch = show = follow(runtime.log, show_line)
        invocation = runtime.invoke(content)
        show(b"\n")
    click.echo(f"\nIt took {invocation.figures()}.")
    if invocation.warning:
        click.echo(invocation.warning)
    if invocation.error:
        kind, text = invocation.error.get("errorType"), invocation.error.get("errorMessage")
        raise ToolError(f"The handler failed: {kind}: {text}{HINTS.get(str(kind), '')}")
    click.echo(result(invocation.response, content))


@click.command()
@events.event_option
@events.event_type_option
@events.group_option
def debug(event: str, event_type: str | None, group: str) -> None:
    """Run the handler on a batch of events in this process."""
    settings = hcl.settings(Environment("dev"))
    content = events.batch(event, event_type, settings["aws_region"], group)
    # What the code may ask of Lambda's context. There is no time limit: a day is left.
    context = SimpleNamespace(
        aws_request_id="debug",
        function_name=project().name,
        get_remaining_time_in_millis=lambda: 86_400_000,
    )
    log = SimpleNamespace(write=lambda text: show_line(text.rstrip("\n")), flush=lambda: None)
    # The handler takes no exception but a signal's for the end.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    with world(settings["aws_region"]) as environment:
        os.environ.update(environment, POWERTOOLS_METRICS_DISABLED="true")
        try:
            handler = import_module("handler")
        except KeyError as error:
            error.add_note(HINTS["KeyError"].strip())
            raise
        handler.logger.registered_handler.setStream(log)
        response = handler.handler(content, context)
    click.echo(f"\n{result(response, content)}")


def show_line(line: str) -> None:
    """Print a line of the log, unless it helps nobody here."""
    if text := describe(parse(line)):
        click.echo(text)


def result(response: Any, event: Any) -> str:
    """Return that no message failed. Raises ToolError if any did."""
    count = len(event["Records"])
    groups = any("MessageGroupId" in one.get("attributes", {}) for one in event["Records"])
    failed = "failed or were held back" if groups else "failed"
    match response:
        case {"batchItemFailures": []}:
            return f"0 of {count} messages failed."
        case {"batchItemFailures": list(failures)}:
            ids = ", ".join(str(failure["itemIdentifier"]) for failure in failures)
            raise ToolError(f"{len(failures)} of {count} messages {failed}: {ids}.")
    returned = shown(json.dumps(response))
    raise ToolError(f"The handler must return which messages failed, and returned {returned}.")

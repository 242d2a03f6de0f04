"""make debug: run the handler on events in this process, where a debugger can stop it."""

import os
import signal
import sys
from importlib import import_module
from types import SimpleNamespace

import click

from tools import events, hcl
from tools.local.invoke import result, show_line
from tools.local.world import local_world
from tools.project import Environment, project


class Log:
    """A stream that prints what is logged for people."""

    def write(self, text: str) -> None:
        """Print a logger's line."""
        show_line(text.rstrip("\n"))

    def flush(self) -> None:
        """Do nothing: write does it."""


@click.command()
@events.event_option
@events.event_type_option
def command(event: str, event_type: str | None) -> None:
    """Run the handler on a batch of events in this process."""
    settings = hcl.settings(Environment("dev"))
    content = events.batch(event, event_type, settings["aws_region"])
    # The handler takes no exception but a signal's for the end.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    with local_world(settings["aws_region"]) as environment:
        os.environ.update(environment, POWERTOOLS_METRICS_DISABLED="true")
        module = import_module("handler")
        module.logger.registered_handler.setStream(Log())
        response = module.handler(content, context())
    click.echo(f"\n{result(response, content)}")


def context() -> SimpleNamespace:
    """Return what the code may ask of Lambda's context. There is no time limit: a day is left."""
    return SimpleNamespace(
        aws_request_id="debug",
        function_name=project().name,
        get_remaining_time_in_millis=lambda: 86_400_000,
    )

"""make invoke: run the packaged handler on a sample event, and print its log and response."""

import json
from pathlib import Path

import click

from tools.build.package import runnable
from tools.errors import ToolError
from tools.local.runtime import Runtime
from tools.local.world import local_world


@click.command()
@click.option("--event", type=Path, envvar="EVENT", default="events/one_message.json")
def command(event: Path) -> None:
    """Run the packaged handler on an event, a JSON file."""
    content = read_event(event)
    with (
        local_world("us-east-1") as environment,
        Runtime(runnable(), environment=environment) as runtime,
    ):
        invocation = runtime.invoke(content)
    click.echo(invocation.text())
    if invocation.warning:
        click.echo(invocation.warning, err=True)
    if invocation.error:
        kind, text = invocation.error.get("errorType"), invocation.error.get("errorMessage")
        raise ToolError(f"The handler failed: {kind}: {text}")
    click.echo("Response:")
    click.echo(json.dumps(invocation.response, indent=2, ensure_ascii=False))


def read_event(path: Path) -> object:
    """Return the event in a JSON file. Raises ToolError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        samples = ", ".join(sorted(str(sample) for sample in Path("events").glob("*.json")))
        raise ToolError(f"There is no event file {path}. EVENT can be {samples}.") from None
    except (ValueError, RecursionError) as problem:
        raise ToolError(f"{path} must be JSON: {problem}.") from None

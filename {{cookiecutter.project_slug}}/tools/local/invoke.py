"""make invoke: run the packaged handler on a sample event, and print its log and response."""

import json
from pathlib import Path

import click

from tools.build.package import runnable
from tools.errors import ToolError
from tools.local.runtime import Runtime

ENVIRONMENT = Path("local.env")


@click.command()
@click.option("--event", type=Path, envvar="EVENT", default="events/one_message.json")
def command(event: Path) -> None:
    """Run the packaged handler on an event, a JSON file."""
    content, environment = read_event(event), read_environment(ENVIRONMENT)
    with Runtime(runnable(), environment=environment) as runtime:
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


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables in a file of lines NAME=value; quotes are part of the value.

    Empty lines and lines that begin with # are skipped. Raises ToolError.
    """
    if not path.exists():
        raise ToolError(f"There is no {path}, which sets the handler's environment variables.")
    variables = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.startswith("#"):
            continue
        if not equals or not name.isidentifier():
            raise ToolError(f"{path}, line {number}, is {line!r}: it must be NAME=value.")
        variables[name] = value
    return variables

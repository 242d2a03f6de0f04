"""Rolls back, pauses and resumes: by a setting in the environment's .tfvars, which Git keeps.

The deployed code stays: what changes is planned with its hash, and only one resource may change.
"""

import re
from pathlib import Path

import click

from tools.deploy import plans, terraform
from tools.errors import ToolError
from tools.operate import compute
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# What make writes stands below this line, so that a reader knows where it comes from.
HEADING = "# Written by make: commit it."

all_option = click.option(
    "--all", "everything", envvar="ALL", is_flag=True, help="change what else the plan would change"
)


def with_setting(text: str, name: str, value: str) -> str:
    """Return the text of a .tfvars file with one setting changed or added; without it if empty."""
    line = rf"(?:^|(?<=\n)){re.escape(name)}[ \t]*=.*(?:\n|\Z)"
    if not value:
        return re.sub(rf"(?:\n{re.escape(HEADING)}\n)?{line}", "", text)
    if re.search(line, text):
        return re.sub(line, f"{name} = {value}\n", text, count=1)
    return f"{text.rstrip()}\n\n{HEADING}\n{name} = {value}\n"


def change(
    environment: Environment,
    service: Service,
    settings: dict[str, str],
    only: str,
    everything: bool,
) -> None:
    """Apply the environment with some settings changed, then keep them in its .tfvars.

    The plan is not where `make apply` looks for one: what is interrupted here is started again.

    :param settings: value by name, as HCL; an empty one takes the setting out.
    :param only: the address of the one resource that may change, unless everything may.
    :raises ToolError: another resource would change.
    """
    text = environment.tfvars.read_text(encoding="utf-8")
    for name, value in settings.items():
        text = with_setting(text, name, value)
    new = Path(f"dist/setting/{environment.name}.tfvars")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_text(text, encoding="utf-8")
    terraform.run(environment, "fmt", str(new.absolute()), capture=True)
    plan = new.with_suffix(".tfplan")
    variables = {compute.DEPLOYED: getattr(service, compute.DEPLOYED)}
    plans.make_plan(environment, plan, new, variables, "" if everything else only)
    plans.apply_plan(environment, plan)
    new.replace(environment.tfvars)
    print(
        f"{environment.tfvars} has the new setting: commit it, or the next deployment reverts it."
    )


@click.command()
@environment_option
@click.option("--version", envvar="VERSION", default="", help="one of `make versions`, or latest")
@all_option
def rollback(environment: Environment, version: str, everything: bool) -> None:
    """Give the messages to an earlier version, or to the newest again."""
    if not re.fullmatch(r"([1-9][0-9]*|latest)?", version):
        raise ToolError(f"VERSION is {version!r}: it must be a whole number, or latest.")
    service = deployed(environment)
    if not version:
        compute.versions(service)
        raise ToolError(f"Which one? make rollback ENV={environment.name} VERSION=n")
    settings = dict.fromkeys(compute.ROLLBACK_CLEARS, "") | {"live_version": ""}
    if version != "latest":
        compute.require_version(service, version)
        settings["live_version"] = f'"{version}"'
    change(environment, service, settings, compute.DECIDES_ON_VERSION, everything)


@click.command()
@environment_option
@all_option
def pause(environment: Environment, everything: bool) -> None:
    """Stop taking messages; they wait in the queue."""
    service = deployed(environment)
    change(environment, service, {"paused": "true"}, compute.DECIDES_ON_PAUSE, everything)


@click.command()
@environment_option
@all_option
def resume(environment: Environment, everything: bool) -> None:
    """Take messages from the queue again."""
    service = deployed(environment)
    change(environment, service, {"paused": ""}, compute.DECIDES_ON_PAUSE, everything)

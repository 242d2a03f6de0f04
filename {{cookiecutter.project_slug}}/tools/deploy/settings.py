"""Rolls back, pauses and resumes: by a setting in the environment's .tfvars, which Git keeps.

What is deployed stays: its commit, its settings and the hash of its package are in the state, what
changes is planned from there, and only one resource may change.
"""

import json
import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from tools import hcl
from tools.deploy import plans, terraform
from tools.deploy.commit import FROM_DEPLOYED, checkout_of
from tools.deploy.process import interruptible
from tools.errors import ToolError
from tools.operate import compute
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# What make writes stands below this line, so that a reader knows where it comes from.
HEADING = "# Written by make: commit it."
# The settings that the state keeps.
SETTINGS = ("live_version", "paused", *compute.ROLLBACK_CLEARS)

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
    command: list[str],
    settings: dict[str, str],
    only: str,
    everything: bool,
    done: str,
) -> None:
    """Apply what is deployed with some settings changed, then keep them in the .tfvars.

    The state says which commit is deployed: there this command runs once more, with that commit's
    own tools. To a local AWS, the code here is deployed. The plan is not where `make apply` looks
    for one: after an interruption, start again.

    :param command: its name and options.
    :param settings: value by name, as HCL; an empty one takes the setting out.
    :param only: the address of the one resource that may change, unless everything may.
    :param done: what is said in the end, a sentence.
    :raises ToolError: another resource would change.
    """
    service, there = deployed(environment), bool(os.environ.get(FROM_DEPLOYED))
    as_it_is = there or environment.is_local
    place = nullcontext() if as_it_is else checkout_of(environment.name, service.commit)
    with place as folder:
        if folder is None:
            apply_here(environment, service, settings, "" if everything else only)
        else:
            more = ["--env", environment.name, *(["--all"] if everything else [])]
            apply_there(folder, [*command, *more])
    if there:
        return
    written(environment, settings).replace(environment.tfvars)
    lasts = "commit it, or the next deployment undoes it"
    if environment.is_local:
        lasts = "it lasts until `make local` ends"
    print(f"{done} {environment.tfvars} has the new setting: {lasts}.")


def apply_there(folder: Path, command: list[str]) -> None:
    """Run a command of this module's in another checkout, with this one's Python."""
    path = f"{Path('.terraform-bin').absolute()}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", FROM_DEPLOYED: "1"}
    program = [sys.executable, "-m", "tools", *command]
    code, _, errors = interruptible(program, variables, capture=False, folder=folder)
    sys.stderr.write(errors)
    if code:
        sys.exit(code)


def apply_here(
    environment: Environment, service: Service, settings: dict[str, str], only: str
) -> None:
    """Apply this checkout's code with the settings that are deployed, but for those given."""
    known = service.settings
    old = {} if known is None else {name: known.get(name) for name in SETTINGS}
    as_hcl = {name: "" if value is None else json.dumps(value) for name, value in old.items()}
    new = written(environment, as_hcl | settings)
    plan = new.with_suffix(".tfplan")
    variables = {compute.DEPLOYED: getattr(service, compute.DEPLOYED), "commit": service.commit}
    plans.make_plan(environment, plan, new, variables, only)
    plans.apply_plan(environment, plan)


def written(environment: Environment, settings: dict[str, str]) -> Path:
    """Write the environment's .tfvars with other settings into dist/; return the file.

    A setting that is taken out of those of a local AWS has its default there, not dev's value.
    """
    text = environment.tfvars.read_text(encoding="utf-8")
    defaults = hcl.defaults() if environment.is_local else {}
    for name, value in settings.items():
        usual = json.dumps(defaults[name]) if name in defaults else ""
        text = with_setting(text, name, value or usual)
    new = Path(f"dist/setting/{environment.name}.tfvars")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_text(text, encoding="utf-8")
    # Without heeding errors: what is not deployed yet must not be in the way.
    terraform.attempt(environment, "fmt", str(new.absolute()))
    return new


@click.command()
@environment_option
@click.option("--version", envvar="VERSION", default="", help="one of `make versions`, or latest")
@all_option
def rollback(environment: Environment, version: str, everything: bool) -> None:
    """Give the messages to an earlier version, or to the newest again."""
    if not re.fullmatch(r"([1-9][0-9]*|latest)?", version):
        raise ToolError(f"VERSION is {version!r}: it must be a whole number, or latest.")
    settings = dict.fromkeys(compute.ROLLBACK_CLEARS, "") | {"live_version": ""}
    if not version:
        compute.versions(deployed(environment))
        raise ToolError(f"Which one? make rollback ENV={environment.name} VERSION=n")
    if version != "latest":
        if not os.environ.get(FROM_DEPLOYED):
            compute.require_version(deployed(environment), version)
        settings["live_version"] = f'"{version}"'
    command = ["rollback", "--version", version]
    done = f"{'The newest version' if version == 'latest' else f'Version {version}'} is live."
    change(environment, command, settings, compute.DECIDES_ON_VERSION, everything, done)


@click.command()
@environment_option
@all_option
def pause(environment: Environment, everything: bool) -> None:
    """Stop taking messages; they wait in the queue."""
    done = "Paused: messages wait in the queue."
    change(environment, ["pause"], {"paused": "true"}, compute.DECIDES_ON_PAUSE, everything, done)


@click.command()
@environment_option
@all_option
def resume(environment: Environment, everything: bool) -> None:
    """Take messages from the queue again."""
    done = "Resumed: messages are taken from the queue."
    change(environment, ["resume"], {"paused": ""}, compute.DECIDES_ON_PAUSE, everything, done)

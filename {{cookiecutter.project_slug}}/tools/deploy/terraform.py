"""Runs Terraform in one environment, with clean interrupts and readable errors."""

import functools
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click

from tools import events, hcl
from tools.deploy import terraform_binary
from tools.deploy.mirror import cli_config
from tools.deploy.process import interruptible
from tools.errors import ToolError
from tools.project import Environment, environment_option, project

LOCK_FILE = Path("terraform/.terraform.lock.hcl")
# Where local environments keep the provider, so that it is downloaded only once.
PLUGIN_CACHE = Path("terraform/.terraform/plugin-cache")
# What would give Terraform other folders, arguments or values than a local environment's.
NOT_LOCAL = ("TF_CLI_ARGS", "TF_DATA_DIR", "TF_VAR_", "TF_WORKSPACE")
# Where code is checked without a state: not an environment, so that it disturbs none.
OFFLINE = Environment("validate")
# In terraform/, and not part of the code; settings that Terraform reads unasked may name a real
# account.
LEFT_OUT = (
    *(".terraform*", "*.tfplan", "*.tfstate*", "*.tfvars*"),
    *("environments", "tests", "local_override.tf"),
)
# A request that the local AWS can't answer fails soon: with 25 retries, the provider's default, it
# would seem to hang.
OVERRIDE = 'provider "aws" {\n  max_retries = 2\n}\n'
# What to do about errors that do not say so themselves.
ADVICE = {
    "ExpiredToken|InvalidClientTokenId|SSOTokenProvider|token has expired": (
        "Your AWS sign-in has expired or is not accepted: sign in again."
    ),
    # S3's own error, above the lock's ID, has a RequestID and a HostID.
    r"(?s)Error acquiring the state lock(?:.*?(?<![A-Za-z])ID: *([A-Za-z0-9-]+))?": (
        'The state of {name} is locked. "Lock Info" above says who locked it (Who), when (Created) '
        "and for what (Operation).\nWait until they have finished, or ask them. Only if you are "
        "sure that their run is dead:\n  make unlock ENV={name} LOCK={0}\nor run the workflow "
        "{service}-operate with the action unlock and this ID. Nothing was changed, and nothing "
        "unlocks by itself."
    ),
    "(?s)Instance cannot be destroyed.*queues_are_protected": (
        "The queues of {name} are protected: nothing may destroy, rename or replace them, with the "
        "messages in\nthem. To lift that, see Protection in README.md."
    ),
    "Saved plan is stale": (
        "{name} has changed since this plan was made, so it was not applied: plan again and read it"
        "\n(`make plan ENV={name}`). In the workflow, re-run the job that planned (for prod: Plan "
        "prod);\nGitHub repeats it and the jobs that depend on it, and nothing else."
    ),
    "must use terraform init -upgrade|doesn't match the updated|is no longer available": (
        f"{LOCK_FILE} keeps to another version: run `make upgrade` and commit what it writes."
    ),
    "Inconsistent dependency lock file": (
        f"{LOCK_FILE} does not fit the code's providers: run `make lock` and commit it."
    ),
    r"Workspace \"\w+\" doesn't exist": (
        "{name} has no state yet. Somebody who may write it runs `make init ENV={name}` once, or "
        "the workflow {service}-operate with the action init."
    ),
    "Unsupported Terraform Core version": "`make install` fetches a version that fits.",
    "could not connect to registry|Failed to query available provider": (
        "Where the registry cannot be reached, TERRAFORM_PROVIDER_MIRROR names a mirror."
    ),
}

# Killed, Terraform says nothing.
LOCKED_PERHAPS = (
    "The state of {name} may still be locked: `make unlock ENV={name}` shows the lock, and how to "
    "lift it. Then\n`make plan ENV={name}` shows what is left to do.\n"
)


def run(environment: Environment, *arguments: str, capture: bool = False, **more: str) -> str:
    """Run Terraform; a failure ends this command with Terraform's exit code.

    :param capture: return what it prints on stdout, and do not show it.
    :param more: more environment variables for Terraform.
    :raises ToolError: Terraform is missing and can't be fetched.
    """
    code, printed, errors = attempt(environment, *arguments, capture=capture, more=more)
    sys.stderr.write(explain(environment.name, errors) if code else errors)
    if code:
        sys.exit(code)
    return printed


def attempt(
    environment: Environment,
    *arguments: str,
    capture: bool = True,
    more: Mapping[str, str] = {},
    given: str = "",
    alive: Callable[[bytes], None] | None = None,
) -> tuple[int, str, str]:
    """Run Terraform as `run` does; return its exit code, its stdout if captured, its stderr.

    Only where it was interrupted this command ends with it.

    :param given: its stdin, if it is captured.
    :param alive: for what deploys to a local AWS: gets every ten seconds what it has printed.
    """
    program = terraform_binary.program()
    variables = {
        **(local_variables() if environment.is_local else os.environ),
        "TF_DATA_DIR": str(environment.data_dir.absolute()),
        "TF_CLI_CONFIG_FILE": str(cli_config() or ""),
        "TF_IN_AUTOMATION": "true",  # no advice on what to run next: make gives its own
        # What the package is built for, so that the function is made for the same.
        "TF_VAR_python_version": project().python_version,
        "TF_VAR_architecture": project().architecture,
    }
    # Not where nothing is planned: operating must not depend on what is being worked on here.
    if {"plan", "destroy", "test", "console", "-auto-approve"} & {*arguments}:
        variables["TF_VAR_event_types"] = json.dumps([*events.models()], ensure_ascii=False)
    # The workspace is the environment's: this variable would make `workspace select` fail.
    variables.pop("TF_WORKSPACE", None)
    command = [program, f"-chdir={environment.code}", *arguments]
    code, printed, errors = interruptible(
        command, {**variables, **more}, capture, given=given, alive=alive
    )
    if code > 128:
        if alive:
            raise KeyboardInterrupt
        if code == 128 + signal.SIGKILL:
            errors += "Terraform was killed, perhaps because memory ran out.\n"
            if environment is not OFFLINE:
                errors += LOCKED_PERHAPS.format(name=environment.name)
        sys.stderr.write(explain(environment.name, errors))
        sys.exit(code)
    return code, printed, errors


def local_variables() -> dict[str, str]:
    """Return the environment variables for Terraform in a local environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_LOCAL)}
    return {
        # The lock file is that of a copy.
        "TF_PLUGIN_CACHE_DIR": str(PLUGIN_CACHE.absolute()),
        "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "true",
        **kept,
    }


def explain(name: str, errors: str) -> str:
    """Return Terraform's errors in an environment of that name, with what to do about them."""
    if re.search("No valid credential sources|failed to refresh cached credentials", errors):
        more = f"`make doctor ENV={name}` says more."
        return f"There are no AWS credentials: sign in, or set AWS_PROFILE. {more}\n"
    values = {"name": name, "service": project().name}
    for pattern, advice in ADVICE.items():
        if found := re.search(pattern, errors):
            return f"{errors}\n{advice.format(*found.groups('ID'), **values)}\n"
    return errors


def link_code(environment: Environment) -> None:
    """Have the environment's code consist of links to the files that are in terraform/ now."""
    folder = Path(environment.code)
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)
    for file in Path("terraform").iterdir():
        link = folder / file.name
        if not link.is_symlink() and not any(fnmatch(file.name, left) for left in LEFT_OUT):
            link.symlink_to(file.absolute())
    (folder / "local_override.tf").write_text(OVERRIDE, encoding="utf-8")


def ensure_initialised(environment: Environment) -> None:
    """Initialise the environment, unless nothing that decides on it has changed since."""
    if environment.is_local:
        link_code(environment)
    marker, folder = environment.data_dir / "initialised", Path("terraform")
    files = (folder / "versions.tf", folder / "backend.tf", environment.backend, LOCK_FILE)
    newest = max(file.stat().st_mtime for file in files if file.is_file())
    selected = environment.data_dir / "environment"  # Terraform's: somebody may select another one
    other = selected.is_file() and selected.read_text(encoding="utf-8") != environment.name
    if other or not marker.is_file() or marker.stat().st_mtime < newest:
        initialise(environment)


def backend_of(environment: Environment) -> dict[str, Any]:
    """Return where the environment's state is: the settings in its .s3.tfbackend.

    :raises ToolError: the bucket of the state is not set.
    """
    backend: dict[str, Any] = hcl.read(environment.backend)
    if not backend.get("bucket"):
        raise ToolError(
            "The bucket for Terraform's state is not set: write its name into "
            f"{environment.backend}."
        )
    return backend


def initialise(environment: Environment, runner: Callable[..., Any] | None = None) -> None:
    """Connect to the environment's state and select its workspace.

    :param runner: what runs Terraform, if not `run`.
    :raises ToolError: the bucket of the state is not set.
    """
    runner = runner or functools.partial(run, environment)
    backend_of(environment)
    marker = environment.data_dir / "initialised"
    marker.unlink(missing_ok=True)
    # Relative: of a path with = in it, Terraform would take what is before that for a setting.
    backend = f"-backend-config={os.path.relpath(environment.backend, environment.code)}"
    locked = ["-lockfile=readonly"] if LOCK_FILE.is_file() and not environment.is_local else []
    runner("init", "-input=false", "-reconfigure", backend, *locked)
    # A plan that may write nothing makes no workspace.
    may = environment.is_local or not os.environ.get("READ_ONLY")
    create = ["-or-create"] if may else []
    runner("workspace", "select", *create, environment.name)
    marker.touch()


def outputs(environment: Environment) -> dict[str, str]:
    """Return Terraform's outputs, as JSON where they are no text; none if nothing is deployed."""
    ensure_initialised(environment)
    found = json.loads(run(environment, "output", "-json", capture=True))
    values = {name: output["value"] for name, output in found.items()}
    return {n: v if isinstance(v, str) else json.dumps(v) for n, v in values.items()}


@click.command()
@environment_option
def init(environment: Environment) -> None:
    """Connect to the state."""
    initialise(environment)


@click.command()
@environment_option
def output(environment: Environment) -> None:
    """Print the names and addresses of what is deployed."""
    ensure_initialised(environment)
    run(environment, "output")


@click.command()
@environment_option
def destroy(environment: Environment) -> None:
    """Remove everything in the environment; Terraform asks first."""
    from tools.build.package import build, runnable

    # Terraform reads the package, whatever it does.
    runnable() if environment.is_local else build()
    ensure_initialised(environment)
    run(environment, "destroy", *environment.var_files())

"""Saved plans: nobody applies what nobody saw, or with a package other than the one planned.

`make plan` writes the plan and a note of what it belongs to, and in the workflow its summary;
`make apply` applies that plan and no other. In the workflow a plan for prod waits for approval:
see `tools.deploy.kept`.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from tools.build.package import require_a_way_to_lambda
from tools.deploy.commit import FROM_DEPLOYED, current, refuse_older
from tools.deploy.summary import (
    RECORD,
    changed_resources,
    counts,
    has_changes,
    record,
    summarise,
    warnings,
)
from tools.deploy.terraform import ensure_initialised, run
from tools.errors import ToolError
from tools.github.runner import on_the_page, run_url
from tools.operate import compute
from tools.project import Environment, environment_option, project

# Why Terraform would delete what its code does not have.
UNKNOWN = "delete_because_no_resource_config"
LEAVE = 'resource "{}" "{}" {{\n  lifecycle {{\n    ignore_changes = all\n  }}\n}}\n'


@dataclass(frozen=True)
class Note:
    """What a plan belongs to: an environment, and the SHA-256 of its file and of the package.

    Where it is kept for a run of the workflow, also that run and how far it has come: "begun" or
    "applied".
    """

    environment: str
    plan: str
    package: str
    changes: bool
    run: str = ""
    state: str = ""


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; "none" if there is no such file."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "none"


def note_of(plan: Path) -> Path:
    """Return the file that says what the plan belongs to."""
    return plan.with_name(f"{plan.name}.json")


def parsed(note: bytes) -> Note | None:
    """Return what is written in a note; None if `make plan` did not write it."""
    try:
        return Note(**json.loads(note))
    except (ValueError, TypeError):
        return None


def again(name: str, run: str = "") -> str:
    """Say how to get another plan for an environment, if it is the workflow's from which run.

    GitHub repeats that job and what depends on it, with the outputs that the other jobs had:
    https://docs.github.com/en/actions/how-tos/manage-workflow-runs/re-run-workflows-and-jobs
    """
    if run.isdigit():
        return f're-run the job "Plan {name}" of run {run} and read its plan'
    return f"run `make plan ENV={name}` and read it"


def make_plan(
    environment: Environment, plan: Path, tfvars: Path, variables: dict[str, str], only: str = ""
) -> None:
    """Plan; write down what the plan belongs to, and in the workflow its summary.

    :param plan: the file for the plan.
    :param variables: more of Terraform's variables.
    :param only: the address of the one resource that may change; empty, if any may.
    :raises ToolError: another resource would change, or what is deployed is newer.
    """
    plan.parent.mkdir(parents=True, exist_ok=True)
    remove(plan)
    given = [*environment.var_files(tfvars), *(f"-var={n}={v}" for n, v in variables.items())]
    shown = _plan(environment, plan, given)
    others = _others(shown, only) if only else []
    if others:
        print(f"\nPlanning again, for {only} alone:", flush=True)
        shown = _plan(environment, plan, [*given, *_alone(environment, shown, only)])
    if "GITHUB_RUN_ID" in os.environ:  # for the workflow, which shows it
        text = run(environment, "show", "-no-color", str(plan.absolute()), capture=True)
        summary = summarise(shown, text, project().name, environment.name, run_url())
        Path(f"dist/plan-{environment.name}.md").write_text(summary, encoding="utf-8")
        on_the_page(summary)
    if others and (left := _others(shown, only)):
        raise ToolError(
            f"Nothing was changed: {only} depends on {', '.join(left)}, which would change, too. "
            f"Add ALL=1 (in the workflow: all) to change {', '.join(others)}, too."
        )
    if not only:
        refuse_older(environment.name, str(record(shown).get("commit", "")))
    artifact = compute.artifact(environment)
    note = Note(environment.name, sha256(plan), sha256(artifact), has_changes(shown))
    note_of(plan).write_text(json.dumps(asdict(note), indent=2), encoding="utf-8")
    print(f"\n{environment.name}: {counts(shown)}")
    for warning in () if only else warnings(shown, environment.name):
        print(warning)
    if others:
        print(f"Left as they are, though the code differs: {', '.join(others)}.")


def _plan(environment: Environment, plan: Path, given: list[str]) -> dict[str, Any]:
    """Write the plan; return it as Terraform describes it."""
    unlocked = ["-lock=false"] if os.environ.get("READ_ONLY") else []
    place = str(plan.absolute())
    run(environment, "plan", "-input=false", *unlocked, *given, f"-out={place}")
    shown: dict[str, Any] = json.loads(run(environment, "show", "-json", place, capture=True))
    require_a_way_to_lambda(shown.get("variables", {}))
    return shown


def _others(shown: dict[str, Any], only: str) -> list[str]:
    return [item["address"] for item in changed_resources(shown) if item["address"] != only]


def _alone(environment: Environment, shown: dict[str, Any], only: str) -> list[str]:
    """Return the arguments for a plan that changes one resource, and what the last plan shows not.

    Terraform takes along what the resource depends on. In a checkout that is made for this command,
    its code is told to leave that as it is.
    """
    if os.environ.get(FROM_DEPLOYED):
        changed = [item for item in changed_resources(shown) if item["address"] != only]
        # What a newer commit has created, by `make registry` for example, isn't in this code.
        here = [item for item in changed if item.get("action_reason") != UNKNOWN]
        kept = {(item["type"], item["name"]) for item in here if "module_address" not in item}
        text = "".join(LEAVE.format(*resource) for resource in sorted(kept))
        Path(environment.code, "operate_override.tf").write_text(text, encoding="utf-8")
    return [f"-target={only}", f"-target={RECORD}"]


def apply_plan(environment: Environment, plan: Path) -> None:
    """Apply a plan, and remove it."""
    run(environment, "apply", "-input=false", str(plan.absolute()))
    remove(plan)


def remove(plan: Path) -> None:
    """Remove a plan and its note from this machine."""
    note_of(plan).unlink(missing_ok=True)
    plan.unlink(missing_ok=True)


def check(environment: Environment) -> Note:
    """Make sure that there is a plan, for this environment and with this package.

    PLAN_SHA256 and PACKAGE_SHA256, from the workflow, say which ones were shown and built.

    :returns: what was written down about it.
    :raises ToolError: there is no such plan.
    """
    artifact = compute.artifact(environment)
    plan, name, package = environment.plan, environment.name, sha256(artifact)
    if not plan.is_file() or not note_of(plan).is_file():
        others = [file.stem for file in sorted(plan.parent.glob("*.tfplan")) if file != plan]
        there = f" (there is one for {' and '.join(others)})" if others else ""
        raise ToolError(f"There is no plan for {name}{there}: {again(name)}.")
    note = parsed(note_of(plan).read_bytes())
    if note is None:
        raise ToolError(f"{note_of(plan)} is not what `make plan` wrote: {again(name)}.")
    shown = os.environ.get("PLAN_SHA256") or note.plan
    built = os.environ.get("PACKAGE_SHA256") or package
    wrong = {
        f"is for {note.environment}, not for {name}": note.environment != name,
        "is not the file that `make plan` wrote": note.plan != sha256(plan),
        f"has SHA-256 {note.plan}, but the plan that was shown has {shown}": note.plan != shown,
        f"is for the package with SHA-256 {note.package}, but {artifact} has {package}": (
            note.package != package
        ),
        f"is for the package with SHA-256 {note.package}, not for {built}": note.package != built,
    }
    for words, applies in wrong.items():
        if applies:
            raise ToolError(f"{plan} {words}: {again(name, note.run)}.")
    return note


@click.command()
@environment_option
def plan(environment: Environment) -> None:
    """Show what `make apply` would change; the package must have PACKAGE_SHA256, if given."""
    ensure_initialised(environment)
    expected = os.environ.get("PACKAGE_SHA256")
    if not expected:
        compute.build_artifact(environment)
    elif sha256(artifact := compute.artifact(environment)) != expected:
        raise ToolError(f"{artifact} is not the package with SHA-256 {expected}.")
    commit = "" if environment.is_local else current()
    variables = {"commit": commit, **compute.release_variables(environment)}
    make_plan(environment, environment.plan, environment.tfvars, variables)
    print(f"Read the plan above, then: make apply ENV={environment.name}")


@click.command()
@environment_option
def apply(environment: Environment) -> None:
    """Apply the plan that `make plan` wrote; not again one that an earlier attempt has applied."""
    from tools.deploy import kept  # which needs this module

    note = check(environment)
    if note.state == "applied":
        print(f"{environment.name} has this plan already; what is left is the smoke test.")
        return
    ensure_initialised(environment)
    compute.before_apply(environment)
    kept.mark(environment, note, "begun")
    apply_plan(environment, environment.plan)
    kept.mark(environment, note, "applied")


@click.command()
@environment_option
def check_plan(environment: Environment) -> None:
    """Check the plan as apply does."""
    check(environment)

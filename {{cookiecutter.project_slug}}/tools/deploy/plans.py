"""Saved Terraform plans: nobody applies what nobody saw, or with another package than was planned.

    saved_plan.py note    beside a new plan, write down what it belongs to, and its summary
    saved_plan.py check   refuse to apply a plan that belongs to something else
    saved_plan.py save    keep the plan in the state's bucket until it is approved
    saved_plan.py fetch   get it back
    saved_plan.py forget  delete it there

A plan holds values of the state, so it is kept under ``plans/`` in the bucket of the state, which
a pull request's role can neither read nor write. Exit code 1: refused, and one sentence says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.operate.service import explain
from tools.deploy.summary import changed_resources, counts, has_changes, summarise


class PlanError(Exception):
    """Why not to go on; the text is all that is shown."""


@dataclass(frozen=True)
class Note:
    """What a plan belongs to. ``package`` is its SHA-256, empty where the deployed one stays."""

    environment: str
    plan: str
    package: str
    changes: bool


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; nothing if there is no such file."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def note_of(plan: Path) -> Path:
    """Return the file that says what the plan belongs to."""
    return plan.with_name(f"{plan.name}.json")


def run_url() -> str:
    """Return the address of this run of the workflow; nothing outside of GitHub."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (os.environ.get(name) for name in names)
    return f"{server}/{repository}/actions/runs/{run}" if run else ""


def note(options: argparse.Namespace) -> None:
    """Write down what the plan belongs to, and its summary.

    :raises PlanError: with ``--only``, the plan changes something else too.
    """
    plan = json.load(sys.stdin)
    text = options.text.read_text(encoding="utf-8")
    summary = summarise(plan, text, options.service, options.environment, run_url())
    options.summary.write_text(summary, encoding="utf-8")
    if options.only:
        addresses = [change["address"] for change in changed_resources(plan)]
        others = [address for address in addresses if address != options.only]
        if others:
            raise PlanError(
                f"Nothing was changed: beside {options.only} this would also change "
                f"{', '.join(others)}. Do it from the commit that is deployed, or add ALL=1 to "
                "change all of that too."
            )
    package = "" if options.settings else sha256(options.package)
    about = Note(options.environment, sha256(options.plan), package, has_changes(plan))
    note_of(options.plan).write_text(json.dumps(asdict(about), indent=2), encoding="utf-8")
    print(f"\n{options.environment}: {counts(plan)}")


def check(options: argparse.Namespace) -> Note:
    """Make sure that the plan is there and belongs to this environment and this package.

    :returns: what was written down about it.
    :raises PlanError: it is not, or does not.
    """
    environment, plan = options.environment, options.plan
    again = f"run `make plan ENV={environment}` and read it"
    if not plan.is_file() or not note_of(plan).is_file():
        others = [file.stem for file in sorted(plan.parent.glob("*.tfplan")) if file != plan]
        there = f" (there is one for {' and '.join(others)})" if others else ""
        raise PlanError(f"There is no plan for {environment}{there}: {again}.")
    try:
        about = Note(**json.loads(note_of(plan).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise PlanError(f"{note_of(plan)} is not what `make plan` wrote: {again}.") from None
    if about.environment != environment:
        raise PlanError(f"{plan} is for {about.environment}, not for {environment}: {again}.")
    if about.plan != sha256(plan):
        raise PlanError(f"{plan} is not the file that `make plan` wrote: {again}.")
    expected = os.environ.get("PLAN_SHA256")
    if expected and about.plan != expected:
        raise PlanError(
            f"{plan} has SHA-256 {about.plan}, but the plan that was shown has {expected}: {again}."
        )
    found = sha256(options.package)
    if about.package and not (about.package == found == os.environ.get("PACKAGE_SHA256", found)):
        raise PlanError(
            f"{options.package} is not the package that was planned (SHA-256 {found or 'none'} "
            f"instead of {about.package}): {again}."
        )
    return about


def _place(options: argparse.Namespace) -> tuple[Any, str, str]:
    """Return a client for S3, the bucket, and the key that plans of this run begin with."""
    text = options.backend.read_text(encoding="utf-8")
    settings = dict(re.findall(r'^(\w+) *= *"([^"]*)"', text, re.MULTILINE))
    run = os.environ.get("GITHUB_RUN_ID", "local")
    key = f"plans/{options.service}/{options.environment}/{run}"
    return boto3.client("s3", region_name=settings["region"]), settings["bucket"], key


def save(options: argparse.Namespace) -> None:
    """Keep the plan; tell the workflow its SHA-256 and whether it changes anything."""
    about = check(options)
    if about.changes:
        s3, bucket, key = _place(options)
        for file in (options.plan, note_of(options.plan)):
            s3.put_object(Bucket=bucket, Key=f"{key}/{file.name}", Body=file.read_bytes())
        print(f"Kept the plan for {options.environment} in s3://{bucket}/{key}/.")
    else:
        print(f"The plan for {options.environment} changes nothing: there is nothing to keep.")
    if "GITHUB_OUTPUT" in os.environ:
        with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
            file.write(f"changes={str(about.changes).lower()}\nsha256={about.plan}\n")


def fetch(options: argparse.Namespace) -> None:
    """Get the plan back, to be applied.

    :raises PlanError: it is not there, or it is not the one that was shown.
    """
    s3, bucket, key = _place(options)
    options.plan.parent.mkdir(parents=True, exist_ok=True)
    for file in (options.plan, note_of(options.plan)):
        try:
            body = s3.get_object(Bucket=bucket, Key=f"{key}/{file.name}")["Body"].read()
        except s3.exceptions.NoSuchKey:
            raise PlanError(
                f"There is no plan in s3://{bucket}/{key}/: it was applied, or has expired. Run "
                "all jobs of the workflow again, so that there is a new one to read."
            ) from None
        file.write_bytes(body)
    check(options)
    print(f"Fetched the plan for {options.environment} from s3://{bucket}/{key}/.")


def forget(options: argparse.Namespace) -> None:
    """Delete the plan in S3, where it is no longer of use."""
    s3, bucket, key = _place(options)
    for file in (options.plan, note_of(options.plan)):
        s3.delete_object(Bucket=bucket, Key=f"{key}/{file.name}")


COMMANDS = {"note": note, "check": check, "save": save, "fetch": fetch, "forget": forget}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--service", required=True)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--plan", type=Path, required=True, help="the saved plan")
    parser.add_argument("--package", type=Path, required=True, help="the zip that it deploys")
    parser.add_argument("--backend", type=Path, help="the environment's .s3.tfbackend")
    parser.add_argument("--text", type=Path, help="note: the plan as Terraform prints it")
    parser.add_argument("--summary", type=Path, help="note: where to write the summary")
    parser.add_argument("--settings", action="store_true", help="note: the deployed package stays")
    parser.add_argument("--only", help="note: the one resource that may change")
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except PlanError as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Plans that wait for approval, kept in the bucket of the state, under ``plans/``.

Not as an artifact of the workflow: a plan holds values of the state, and the role of pull requests
can neither read nor write there. A plan is kept until the smoke test has passed, and its note says
how far it has come: a job that runs again neither applies it twice nor skips the smoke test.
"""

import json
import os
from dataclasses import asdict, replace
from typing import Any

import click

from tools.deploy.plans import Note, again, check, note_of, parsed
from tools.deploy.terraform import backend_of
from tools.errors import ToolError
from tools.github.runner import on_the_page, outputs
from tools.project import Environment, environment_option, project


def _bucket(environment: Environment, run: str) -> tuple[Any, str, str]:
    """Return S3's client, the bucket, and what the keys of a run's plan begin with."""
    import boto3

    backend = backend_of(environment)
    s3 = boto3.client("s3", region_name=backend["region"])
    return s3, backend["bucket"], f"plans/{project().name}/{environment.name}/{run}/"


def _run() -> str:
    """Return the run that the plan is of: where a run approves another's plan, that one."""
    return os.environ.get("PLAN_RUN") or os.environ.get("GITHUB_RUN_ID") or "local"


def _get(s3: Any, bucket: str, key: str) -> bytes | None:
    """Return an object's content; None if there is none."""
    try:
        content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    return content


def mark(environment: Environment, note: Note, state: str) -> None:
    """Write down how far a kept plan has come; nothing, if the plan is not kept.

    :param state: "begun", or "applied" once nothing of it is left to apply.
    """
    if note.run:
        s3, bucket, folder = _bucket(environment, note.run)
        body = json.dumps(asdict(replace(note, state=state))).encode()
        s3.put_object(Bucket=bucket, Key=folder + note_of(environment.plan).name, Body=body)


@click.command()
@environment_option
def save_plan(environment: Environment) -> None:
    """Keep the plan in S3; tell the workflow its SHA-256 and whether there is anything to deploy.

    There is, too, if an earlier attempt of this run has applied its plan, and no smoke test passed.
    """
    name, run = environment.name, _run()
    note = replace(check(environment), run=run)
    s3, bucket, folder = _bucket(environment, run)
    before = _get(s3, bucket, folder + note_of(environment.plan).name)
    earlier = parsed(before or b"")
    begun = bool(earlier.state if earlier else before)  # one that can't be read may say so, too
    said = f"The plan for {name} changes nothing: there is nothing to keep."
    if note.changes or begun:
        body = environment.plan.read_bytes()
        s3.put_object(Bucket=bucket, Key=folder + environment.plan.name, Body=body)
        mark(environment, note, ("begun" if note.changes else "applied") if begun else "")
        said = f"Kept the plan for {name} in s3://{bucket}/{folder}."
    if begun and not note.changes:
        said = f"{name} has what this run planned before; what is left is the smoke test."
    print(said)
    if begun:
        on_the_page(said)
    outputs(changes=str(note.changes or begun).lower(), sha256=note.plan)


@click.command()
@environment_option
def fetch_plan(environment: Environment) -> None:
    """Get the plan back from S3; it must be the one that was shown."""
    name, run = environment.name, _run()
    s3, bucket, folder = _bucket(environment, run)
    environment.plan.parent.mkdir(parents=True, exist_ok=True)
    for file in (environment.plan, note_of(environment.plan)):
        body = _get(s3, bucket, folder + file.name)
        if body is None:
            raise ToolError(
                f"There is no plan in s3://{bucket}/{folder}: its smoke test has passed, or it has "
                f"expired after 7 days; for a new one, {again(name, run)}."
            )
        file.write_bytes(body)
    if parsed(file.read_bytes()) is None:
        place = f"s3://{bucket}/{folder}{file.name}"
        raise ToolError(f"{place} is not what `make save-plan` wrote: {again(name, run)}.")
    check(environment)
    print(f"Fetched the plan for {name} from s3://{bucket}/{folder}.")


@click.command()
@environment_option
def forget_plan(environment: Environment) -> None:
    """Delete the plan in S3: it was applied, and the smoke test has passed."""
    s3, bucket, folder = _bucket(environment, _run())
    for file in (environment.plan, note_of(environment.plan)):
        s3.delete_object(Bucket=bucket, Key=folder + file.name)

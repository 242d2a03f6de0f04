"""Plans that wait for approval, kept in the bucket of the state, under ``plans/``.

Not as an artifact of the workflow: a plan holds values of the state, and the role of pull requests
can neither read nor write there.
"""

import os
from pathlib import Path
from typing import Any

import click

from tools import hcl
from tools.deploy.plans import check, note_of
from tools.errors import ToolError
from tools.project import Environment, environment_option, project


def _kept(environment: Environment) -> tuple[Any, str, str, list[Path]]:
    """Return S3's client, the bucket, what the keys of this run begin with, and the files."""
    import boto3

    backend, number = hcl.read(environment.backend), os.environ.get("GITHUB_RUN_ID", "local")
    s3 = boto3.client("s3", region_name=backend["region"])
    key = f"plans/{project().name}/{environment.name}/{number}"
    return s3, backend["bucket"], key, [environment.plan, note_of(environment.plan)]


@click.command()
@environment_option
def save_plan(environment: Environment) -> None:
    """Keep the plan in S3; tell the workflow its SHA-256 and whether it changes anything."""
    note = check(environment)
    if note.changes:
        s3, bucket, key, files = _kept(environment)
        for file in files:
            s3.put_object(Bucket=bucket, Key=f"{key}/{file.name}", Body=file.read_bytes())
        print(f"Kept the plan for {environment.name} in s3://{bucket}/{key}/.")
    else:
        print(f"The plan for {environment.name} changes nothing: there is nothing to keep.")
    if "GITHUB_OUTPUT" in os.environ:
        with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as output:
            output.write(f"changes={str(note.changes).lower()}\nsha256={note.plan}\n")


@click.command()
@environment_option
def fetch_plan(environment: Environment) -> None:
    """Get the plan back from S3; it must be the one that was shown."""
    s3, bucket, key, files = _kept(environment)
    environment.plan.parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            body = s3.get_object(Bucket=bucket, Key=f"{key}/{file.name}")["Body"].read()
        except s3.exceptions.NoSuchKey:
            raise ToolError(
                f"There is no plan in s3://{bucket}/{key}/: it was applied, or has expired. Run "
                "all jobs of the workflow again, so that there is a new one to read."
            ) from None
        file.write_bytes(body)
    check(environment)
    print(f"Fetched the plan for {environment.name} from s3://{bucket}/{key}/.")


@click.command()
@environment_option
def forget_plan(environment: Environment) -> None:
    """Delete the plan in S3, where it is no longer of use."""
    s3, bucket, key, files = _kept(environment)
    for file in files:
        s3.delete_object(Bucket=bucket, Key=f"{key}/{file.name}")

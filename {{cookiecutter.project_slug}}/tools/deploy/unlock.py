"""Shows who holds the lock of an environment's state, and lifts it."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from tools import hcl
from tools.deploy import terraform
from tools.display import shown
from tools.errors import ToolError
from tools.operate.service import client
from tools.project import Environment, environment_option, project


def held(environment: Environment) -> dict[str, Any] | None:
    """Return the lock as Terraform wrote it, beside the state; None if nobody holds it."""
    backend = terraform.backend_of(environment)
    state = hcl.read(Path("terraform/backend.tf"))["terraform"][0]["backend"][0]["s3"]["key"]
    s3 = client("s3", backend["region"])
    key = f"env:/{environment.name}/{state}.tflock"
    try:
        body = s3.get_object(Bucket=backend["bucket"], Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    found: dict[str, Any] = json.loads(body)
    return found


@click.command()
@environment_option
@click.option("--lock", envvar="LOCK", default="", help="the lock's ID")
def unlock(environment: Environment, lock: str) -> None:
    """Lift the lock of the state, if its ID is LOCK; without one, show who holds it."""
    name, found = environment.name, held(environment)
    if found is None:
        print(f"Nobody holds the lock of {name}.")
        return
    since = datetime.fromisoformat(found["Created"])
    age = datetime.now(since.tzinfo) - since
    print(f"The state of {name} is locked, for {age.total_seconds() / 60:.0f} minutes:")
    for title in ("ID", "Who", "Created", "Operation", "Info"):
        print(f"  {title:<9}  {shown(found.get(title, ''))}".rstrip())
    if not lock:
        print(
            f"Only if that run is dead: make unlock ENV={name} LOCK={found['ID']}, or on GitHub "
            f"the workflow {project().name}-operate with the action unlock and this ID."
        )
    elif lock != found["ID"]:
        raise ToolError(f"LOCK is {lock!r}, but the lock's ID is {found['ID']}: nothing was done.")
    else:
        terraform.ensure_initialised(environment)
        terraform.run(environment, "force-unlock", "-force", lock)

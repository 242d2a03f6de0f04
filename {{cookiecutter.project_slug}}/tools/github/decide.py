"""What may happen in a run of the workflow: is there anything to do, and may it be deployed?"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.build.shared import libraries
from tools.github.runner import GitHubError, api, folder, output, pages, readme, variable

Job = Mapping[str, Any]


def changes() -> None:
    """Set the output ``service``: true if this run has to test, build and deploy the service.

    :raises GitHubError: it was started by hand from a branch that may not deploy.
    """
    ref = variable("GITHUB_REF")
    if variable("GITHUB_EVENT_NAME") != "workflow_dispatch":
        changed = _changed(_base_commit())
    elif ref == "refs/heads/main":
        print("Nothing is built: the deployed package stays.")
        changed = False
    else:
        raise GitHubError(
            f"::error::Nothing was done: this run was started from {ref.split('/', 2)[-1]}, and "
            "only main may deploy. Choose main under Run workflow."
        )
    with Path(variable("GITHUB_OUTPUT")).open("a", encoding="utf-8") as file:
        file.write(f"service={str(changed).lower()}\n")


def _base_commit() -> str:
    """Return the commit to compare with, "" if there is none."""
    event = variable("GITHUB_EVENT_NAME")
    if event == "pull_request":
        return "HEAD^1"  # HEAD is the merge with the branch that it goes to
    if event == "merge_group":
        return variable("MERGE_GROUP_BASE")
    # Since the last deployment that succeeded: what failed or was replaced is not lost.
    runs = pages(
        f"actions/workflows/{variable('GITHUB_WORKFLOW')}.yml/runs"
        "?branch=main&event=push&status=success&per_page=1"
    )
    found = runs[0]["workflow_runs"] if runs else []
    return str(found[0]["head_sha"]) if found else ""


def _changed(base: str) -> bool:
    """Tell whether the service, its workflow or a library that it shares differs from a commit."""
    known = base and subprocess.run(
        ["git", "cat-file", "-e", f"{base}^{{commit}}"], stderr=subprocess.DEVNULL
    )
    if not known or known.returncode:
        print("There is no earlier deployment to compare with: the service counts as changed.")
        return True
    workflow = f":/.github/workflows/{variable('GITHUB_WORKFLOW')}.yml"
    difference = output("git", "diff", "--stat", base, "HEAD", "--", ".", workflow, *libraries())
    print(difference or f"Nothing has changed in {folder() or 'this repository'} since {base}.")
    return bool(difference)


def environments() -> None:
    """See that dev and prod exist; warn where they are not protected.

    A job that names an environment which does not exist creates it, without any protection.

    :raises GitHubError: one is missing.
    """
    missing = []
    for name in ("dev", "prod"):
        try:
            found = api(f"environments/{name}")
        except GitHubError:
            missing.append(
                f"::error::The environment {name} does not exist. Create it before anything is "
                f"deployed: {readme()}"
            )
            continue
        if not found.get("deployment_branch_policy"):
            print(f"::warning::Any branch may deploy to {name}: allow only main, see {readme()}")
        rules = {rule["type"] for rule in found.get("protection_rules", [])}
        if name == "prod" and "required_reviewers" not in rules:
            print(
                "::warning::The environment prod has no required reviewers: nobody is asked before "
                f"a deployment. See {readme()}"
            )
    if missing:
        raise GitHubError("\n".join(missing))


def role(name: str, where: str) -> None:
    """See that ROLE, taken from a variable of GitHub's, is set.

    :raises GitHubError: it is not; the message names the variable and where it belongs.
    """
    if not variable("ROLE"):
        raise GitHubError(
            f"::error::{name} is not set in {where}, so there is no role to assume in AWS. How to "
            f"set it: {readme()}"
        )


def newest(environment: str) -> None:
    """See that no newer run has deployed to the environment.

    Deployments queue up, old runs are started again, and approvals come late: none of it may put an
    older commit over a newer one.

    :raises GitHubError: a newer run has.
    """
    workflow = variable("GITHUB_WORKFLOW")
    this = int(variable("GITHUB_RUN_NUMBER"))
    for page in pages(f"actions/workflows/{workflow}.yml/runs?branch=main&event=push&per_page=100"):
        for run in page["workflow_runs"]:
            if run["run_number"] > this and has_deployed(_jobs(run["id"]), environment):
                raise GitHubError(
                    f"::error::Nothing was deployed to {environment}: run {run['run_number']} of "
                    f"this workflow is newer and has brought {environment} to commit "
                    f'{run["head_sha"]}. To take that back, see "Roll back" in {readme()}, or '
                    "revert the commit on main."
                )


def _jobs(run_id: int) -> list[Job]:
    """Return the jobs of a run, of all its attempts."""
    return [job for page in pages(f"actions/runs/{run_id}/jobs?filter=all") for job in page["jobs"]]


def has_deployed(jobs: Sequence[Job], environment: str) -> bool:
    """Tell whether a run has deployed: it has begun to apply, or found nothing to apply.

    :param jobs: its jobs of all attempts, as GitHub's API describes them.
    """

    def done(job: Job, name: str, conclusion: str) -> bool:
        return bool(job["name"] == f"{name} {environment}" and job["conclusion"] == conclusion)

    for job in jobs:
        if job["name"] == f"Deploy to {environment}":
            for step in job.get("steps", []):
                begun = step["status"] not in {"queued", "pending"}
                if step["name"] == "Apply" and begun and step["conclusion"] != "skipped":
                    return True
    for attempt in {job["run_attempt"] for job in jobs}:
        tried = [job for job in jobs if job["run_attempt"] == attempt]
        if any(done(job, "Plan", "success") for job in tried) and any(
            done(job, "Deploy to", "skipped") for job in tried
        ):
            return True
    return False

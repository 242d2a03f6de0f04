"""May this run deploy: is AWS set up, and who approves prod?"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.github.runner import (
    GitHubError,
    api,
    default_branch,
    event,
    note,
    pages,
    readme,
    run_url,
    variable,
    variables,
    workflow_file,
)

# The repository's variables with roles: all of them, or none for a service that is only tested.
ROLES = (
    *("AWS_PLAN_ROLE_DEV", "AWS_PLAN_ROLE_PROD", "AWS_MAIN_PLAN_ROLE_PROD"),
    *("AWS_OPERATE_ROLE_DEV", "AWS_OPERATE_ROLE_PROD"),
)
# These too where GitHub has no environments, which otherwise hold the deploy roles.
DEPLOY_ROLES = ("AWS_DEPLOY_ROLE_DEV", "AWS_DEPLOY_ROLE_PROD")

REPOSITORY = "the repository's variables"

APPROVALS = {
    "reviewers": "the environment prod has required reviewers, who are asked in each run",
    "dispatch": "another person starts the workflow with the run's id",
    "none": "nobody is asked",
}


def role(name: str) -> None:
    """See that ROLE, taken from the variable of GitHub's with this name, is set.

    :raises GitHubError: it is not; the message names the variable and where it belongs.
    """
    if variable("ROLE"):
        return
    environment, where = variable("ENV"), REPOSITORY
    own = f"{name}_{environment.upper()}"
    if name == "AWS_OPERATE_ROLE":
        name = own
    if name == "AWS_DEPLOY_ROLE":
        where = f"the variables of the environment {environment}, nor {own} in {REPOSITORY}"
    raise GitHubError(_not_set(name, where))


def _not_set(name: str, where: str) -> str:
    return (
        f"::error::{name} is not set in {where}, so there is no role to assume in AWS. How to "
        f"set it: {readme()}"
    )


def configured() -> bool:
    """Tell whether AWS can be reached: there are credentials, or there are none on purpose.

    :raises GitHubError: some of the roles are set, some not.
    """
    request = event().get("pull_request")
    if request:
        source = (request["head"]["repo"] or {}).get("full_name")  # null: the fork is gone
        dependabot = request["user"]["login"] == "dependabot[bot]"
        if dependabot or source != variable("GITHUB_REPOSITORY"):
            note("Not planned: a fork's pull request and Dependabot's get no credentials.")
            return False
    given = {name for name in (*ROLES, *DEPLOY_ROLES) if variables().get(name)}
    if not given and variable("GITHUB_EVENT_NAME") != "workflow_dispatch":
        print(f"::notice::There is no AWS role yet, so nothing is planned or deployed: {readme()}")
        note(
            f"No AWS role yet: the service is only tested. [Set its roles]({readme()}), then "
            f"deploy it: *Re-run all jobs* of the last run on {default_branch()}."
        )
        return False
    needed = (*ROLES, *(DEPLOY_ROLES if given & set(DEPLOY_ROLES) else ()))
    _refuse(_not_set(name, REPOSITORY) for name in needed if name not in given)
    return True


def _refuse(problems: Iterable[str]) -> None:
    if text := "\n".join(problems):
        raise GitHubError(text)


def chosen() -> str:
    """Return who approves prod, one of APPROVALS.

    :raises GitHubError: the variable has another value.
    """
    approval = variables().get("PROD_APPROVAL") or "reviewers"
    if approval not in APPROVALS:
        raise GitHubError(
            f"::error::PROD_APPROVAL in the repository's variables is {approval!r}: it must be "
            f"{_choices()}. See {readme()}"
        )
    return approval


def _choices(*without: str) -> str:
    return ", or ".join(
        f"{name} ({means})" for name, means in APPROVALS.items() if name not in without
    )


def check_prod(approval: str) -> None:
    """See that somebody approves prod, unless a variable says that nobody has to.

    A job that names an environment which does not exist creates it, without any protection.

    :raises GitHubError: nobody would be asked, or an environment is missing.
    """
    if variables().get("AWS_DEPLOY_ROLE_PROD"):
        rules = set[str]()
        why, do = "AWS_DEPLOY_ROLE_PROD is set, so there is no environment to ask in", "Set"
    else:
        rules = _rules_of_prod(approval)
        why, do = "the environment prod has no required reviewers", "Add them, or set"
    if approval == "reviewers" and "required_reviewers" not in rules:
        raise GitHubError(
            f"::error::Nothing was deployed: {why}, so nobody would approve prod. {do} the "
            f"repository's variable PROD_APPROVAL to {_choices('reviewers')}. See {readme()}"
        )


def _rules_of_prod(approval: str) -> set[str]:
    """Return the kinds of rules that protect the environment prod.

    :raises GitHubError: an environment is missing, or any branch may deploy to prod.
    """
    found = _environments()
    _refuse(
        f"::error::The environment {name} does not exist. Create it before anything is deployed, "
        "or, if your GitHub plan has no environments, set the variables "
        f"{' and '.join(DEPLOY_ROLES)}: {readme()}"
        for name in ("dev", "prod")
        if name not in found
    )
    for name in ("dev", "prod"):
        if not found[name].get("deployment_branch_policy"):
            open_to = f"Any branch may deploy to {name}: allow only {default_branch()}, see "
            # No reviewer of the environment would stop it.
            if name == "prod" and approval != "reviewers":
                raise GitHubError(f"::error::Nothing was deployed. {open_to}{readme()}")
            print(f"::warning::{open_to}{readme()}")
    return {rule["type"] for rule in found["prod"].get("protection_rules", [])}


def _environments() -> dict[str, Any]:
    """Return the repository's environments by name, as GitHub's API describes them."""
    try:
        found = pages("environments?per_page=100", ".environments[]")
    except GitHubError as error:
        if "HTTP 404" in error.reason:  # other answers say nothing about the environments
            return {}
        denied = "HTTP 403" in error.reason
        hint = " The job needs the permission `actions: read`." if denied else ""
        raise GitHubError(
            f"::error::GitHub did not say how prod is protected ({error.reason}), so nothing was "
            f"deployed.{hint}"
        ) from None
    return {environment["name"]: environment for environment in found}


def approved(asked: str, approval: str) -> tuple[str, str, str]:
    """Return run, plan and commit of the deployment to prod that this run approves.

    :param asked: the run's id and its plan's SHA-256, as `ask` has told and somebody typed them.
    :raises GitHubError: this may not be approved, or not by this person.
    """
    if approval != "dispatch":
        raise GitHubError(
            f"::error::Runs are not approved in this way here: PROD_APPROVAL is {approval} "
            f"({APPROVALS[approval]})."
        )
    run, _, plan = asked.strip().partition("-")
    if not (re.fullmatch("[0-9]+", run) and re.fullmatch("[0-9a-f]{64}", plan)):
        raise GitHubError(
            f"::error::run is {asked!r}: it must be what the summary of the run that planned says, "
            "a run's id and its plan's SHA-256, with - between them."
        )
    found = api(f"actions/runs/{run}")
    if problem := _problem(found):
        raise GitHubError(f"::error::Run {run} cannot be approved: {problem}.")
    url = run_url().replace(variable("GITHUB_RUN_ID"), run)
    note(f"{variable('GITHUB_ACTOR')} approves [run {run}]({url}): commit {found['head_sha']}")
    return run, plan, str(found["head_sha"])


def _problem(run: Any) -> str:
    """Return why this run may not approve another, as GitHub's API describes it; "" if it may."""
    path, branch = run["path"].partition("@")[0], run["head_branch"]
    source = (run["event"], branch, run["head_repository"]["full_name"])
    starters = {run[who]["login"] for who in ("actor", "triggering_actor") if run.get(who)}
    # Who starts a run again is not its actor, though that one's rights count.
    people = (variable("GITHUB_ACTOR"), variable("GITHUB_TRIGGERING_ACTOR"))
    if path != workflow_file():
        return f"it is a run of {path}, not of {workflow_file()}"
    if source != ("push", default_branch(), variable("GITHUB_REPOSITORY")):
        return f"it is no push to {default_branch()}, but a {run['event']} of {branch}"
    if event()["sender"]["type"] != "User":
        return f"{people[0]} is not a person"
    for person in people:
        if person in starters:
            return f"{person} started it, and another person must approve it"
    for job in api(f"actions/runs/{run['id']}/jobs?per_page=100")["jobs"]:
        if (job["name"], job["conclusion"]) == ("Plan prod", "success"):
            return ""
    return "its job Plan prod has not succeeded"


def ask() -> None:
    """Say how to approve the plan that this run has kept, PLAN_SHA256: that plan and no other."""
    run = f"{variable('GITHUB_RUN_ID')}-{variable('PLAN_SHA256')}"
    starters = {variable("GITHUB_ACTOR"), variable("GITHUB_TRIGGERING_ACTOR")} - {""}
    note(
        "**Prod waits for an approval.** Read the plan. Then somebody other than "
        f"{' and '.join(sorted(starters))} approves it: *Run workflow* with `{run}`, or\n\n"
        f"    gh workflow run {Path(workflow_file()).name} -f run={run}"
    )

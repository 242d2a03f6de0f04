"""What a run of the delivery workflow has to do: is there anything to test, build and deploy?"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote

from tools.build.shared import libraries
from tools.github import approval
from tools.github.runner import (
    GitHubError,
    api,
    default_branch,
    event,
    note,
    output,
    outputs,
    pyproject,
    variable,
    variables,
    workflow_file,
    workflows,
)

# The actions that change a setting.
SETTINGS = ("rollback", "pause", "resume")


def changes() -> None:
    """Decide what this run does: set its outputs.

    service, deploy: is there anything to test, and may it be deployed? approval: who approves prod.
    commit: what is deployed. run: which run plans prod, or has planned it. plan: the SHA-256 of the
    plan that this run approves.

    :raises GitHubError: it may not run here, or what it needs is not set up.
    """
    _check_branches()
    name, commit, asked = variable("GITHUB_EVENT_NAME"), variable("GITHUB_SHA"), "reviewers"
    dispatch = name == "workflow_dispatch"
    if dispatch:
        branch()
    changed = not dispatch and _changed(name)
    deploy = (changed or dispatch) and approval.configured()
    if deploy:
        asked = approval.chosen()
        if name in {"push", "workflow_dispatch"}:
            approval.check_prod(asked)
    run, plan = variable("GITHUB_RUN_ID"), ""
    if dispatch:
        run, plan, commit = approval.approved(event()["inputs"]["run"], asked)
    decided = {"service": str(changed).lower(), "deploy": str(deploy).lower(), "approval": asked}
    outputs(**decided, commit=commit, run=run, plan=plan)


def operate() -> None:
    """Decide in which role an operator's action runs: set its outputs.

    variable, role: GitHub's variable that has the role, and the role. setting: does the action
    change one that Git keeps?

    :raises GitHubError: it may not run here, or not without an approval.
    """
    branch()
    action, environment, everything = variable("ACTION"), variable("ENV"), variable("ALL")
    deploys = everything or action == "init"
    if deploys and environment == "prod":
        approval.check_prod(asked := approval.chosen())
        if everything and asked == "dispatch":
            raise GitHubError(
                f"::error::Nothing was done: `all` would apply to prod what nobody has approved "
                f"(PROD_APPROVAL is dispatch). Run {action} without it, and bring the rest by a "
                "deployment."
            )
    name, given = "AWS_DEPLOY_ROLE" if deploys else "AWS_OPERATE_ROLE", variables()
    of_environment = given.get(name) if deploys else ""
    role = of_environment or given.get(f"{name}_{environment.upper()}", "")
    outputs(variable=name, role=role, setting=str(action in SETTINGS).lower())


def branch() -> None:
    """See that a run that was started by hand is one of the default branch.

    :raises GitHubError: it is not.
    """
    if not _on_default_branch():
        raise GitHubError(
            f"::error::Nothing was done: this run was started from {variable('GITHUB_REF_NAME')}, "
            f"and only {default_branch()} may deploy. Choose {default_branch()} under Run workflow."
        )


def _on_default_branch() -> bool:
    return variable("GITHUB_REF") == f"refs/heads/{default_branch()}"


def _check_branches() -> None:
    """See that the workflow's list of branches has the default one: nothing else deploys.

    :raises GitHubError: it has not; the message names the line.
    """
    workflow, default = workflow_file(), default_branch()
    file = Path(output("git", "rev-parse", "--show-cdup")) / workflow
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        # GitHub's own events have it on one line, so that this needs no parser of YAML.
        if found := re.match(r"\s+branches: *\[(.*?)\]", line):
            names = [name.strip(" \"'") for name in found[1].split(",")]
            if not any(fnmatchcase(default, name) for name in names):
                raise GitHubError(
                    f"::error file={workflow},line={number}::{workflow} deploys only from "
                    f"{' and '.join(names)}, but the default branch is {default}, so nothing would "
                    f"be deployed. Change line {number} to `{line.strip().partition(':')[0]}: "
                    f"[{default}]` (in a monorepo in the service's folder, then `make workflow`)."
                )
            return


# Has anything changed?


def _changed(name: str) -> bool:
    """Tell whether this run has to test and build the service.

    :param name: of the event.
    """
    if name == "push" and not _on_default_branch():
        note(f"Nothing to do: only {default_branch()} is deployed.")
        return False
    if name == "push" and int(variable("GITHUB_RUN_ATTEMPT")) > 1:
        note("All jobs run again, so the service counts as changed.")
        return True
    base, paths = _base_commit(name), _paths()
    if not base:
        note("No run of this workflow has succeeded yet: the service counts as changed.")
        return True
    try:
        commit = _first_change(base, paths)
    except GitHubError as error:  # a force push, a shallow clone
        note(f"The service counts as changed, because Git cannot compare: {error.reason}")
        return True
    if commit:
        note(f"The service has changed since {base}: {commit}")
    else:
        note(f"The service has not changed since {base}: nothing to do.")
    return bool(commit)


def _base_commit(name: str) -> str:
    """Return the commit to compare with, "" if there is none."""
    if name == "pull_request":
        return "HEAD^1"  # HEAD is the merge with the branch that it goes to
    if name == "merge_group":
        return str(event()["merge_group"]["base_sha"])
    # Since the last run that succeeded: what failed, was rejected or replaced is not lost.
    found = api(
        f"actions/workflows/{Path(workflow_file()).name}/runs"
        f"?branch={quote(default_branch(), safe='')}&event=push&status=success&per_page=1"
    )["workflow_runs"]
    return str(found[0]["head_sha"]) if found else ""


def _first_change(base: str, paths: Sequence[str]) -> str:
    """Return a commit since the base that touches the paths, or a file that differs; "" if none.

    Both: AWS may have what a commit brought and its revert took back, which leaves no difference;
    and a merge may drop a side's changes without a commit that says so. Neither reads a file, so a
    clone without blobs does.

    :raises GitHubError: Git does not know the base.
    """
    # Merges by themselves say nothing: each differs from the older of its sides.
    since = ("git", "rev-list", "--full-history", "--no-merges", f"{base}..HEAD", "--")
    differ = ("git", "diff-tree", "-r", "--name-only", "--no-renames", base, "HEAD", "--")
    return (output(*since, *paths) or output(*differ, *paths)).partition("\n")[0]


def _paths() -> list[str]:
    """Return what the service is built from: its folder, workflows, libraries, what it watches.

    :raises GitHubError: pyproject.toml does not say it as it must.
    """
    own = [f":/{workflow}" for workflow in workflows()]
    watch = pyproject().get("tool", {}).get("cookiecutter-lambda-python", {}).get("watch", [])
    if not (isinstance(watch, list) and all(isinstance(path, str) for path in watch)):
        raise GitHubError(
            f"::error::watch in pyproject.toml is {watch!r}: it must be a list of paths, seen from "
            "the service's folder."
        )
    return [".", *own, *libraries(), *watch]

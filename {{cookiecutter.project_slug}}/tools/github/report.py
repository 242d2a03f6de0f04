"""What the workflows leave on GitHub: a comment with the plans, pull requests, a summary."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tools.github.runner import (
    GitHubError,
    api,
    default_branch,
    event,
    folder,
    note,
    output,
    pages,
    repository_url,
    run_url,
    service,
    variable,
)


def comment() -> None:
    """Write the plans into one comment of the pull request: a new one, or the one of before."""
    name, request = service(), event()["pull_request"]
    marker = f"<!-- {name}: plans -->"
    parts = [marker, f"For commit {request['head']['sha'][:7]}, by [this run]({run_url()}).\n"]
    for environment in ("dev", "prod"):
        plan = Path(f"dist/plan-{environment}.md")
        if plan.is_file():
            parts.append(plan.read_text(encoding="utf-8"))
        else:
            parts.append(
                f"### {name}: no plan for {environment}\n\nIt failed: [see the run]({run_url()}).\n"
            )
    comments = f"issues/{request['number']}/comments"
    body = {"body": "\n".join(parts)}
    for found in pages(f"{comments}?per_page=100"):
        if found["user"]["type"] == "Bot" and found["body"].startswith(marker):
            api(f"issues/comments/{found['id']}", body, "PATCH")
            print("Updated the comment.")
            return
    api(comments, body)
    print("Wrote a comment.")


def record(file: str) -> None:
    """Open a pull request with a file that an action of the workflow has changed.

    :raises GitHubError: there is none now, so the default branch does not have the setting.
    """
    if not output("git", "diff", "--name-only", "--", file):
        # So it is after a resume before the pause was merged: merged later, it would pause again.
        note(
            f"{default_branch()} has this setting already. Close any earlier pull request that "
            "would change it."
        )
        return
    action, environment, version = (variable(name) for name in ("ACTION", "ENV", "VERSION"))
    to = "the newest version" if version == "latest" else f"version {version}"
    what = f"{action} {environment}" + (f" to {to}" if version else "")
    body = (
        f"{variable('GITHUB_ACTOR')} did this in [a run]({run_url()}): {what}. Merge it, or the "
        "next deployment takes it back."
    )
    branch = f"{service()}/{action}-{environment}-{variable('GITHUB_RUN_ID')}"
    try:
        _propose([file], branch, f"{service()}: {what}", body)
    except GitHubError as error:
        raise GitHubError(
            f"{error}\n::error::{what}: done, but {default_branch()} does not have this setting, "
            "and the next deployment takes it back. Commit it there."
        ) from None


def upgrade() -> None:
    """Open a pull request with what differs from the commit, or update the one that is open."""
    listed = output("git", "ls-files", "-z", "--modified", "--others", "--exclude-standard")
    files = sorted(file for file in listed.split("\0") if file)
    if not files:
        note("Nothing to upgrade: the lock files have the newest versions.")
        return
    body = (
        f"`make upgrade` in [a run]({run_url()}): the newest versions that `pyproject.toml` and "
        "`terraform/versions.tf` allow."
    )
    changes = Path("dist/upgrade.md")  # by make upgrade
    if changes.is_file():
        body += "\n\n" + changes.read_text(encoding="utf-8")
    _propose(files, f"upgrade-{service()}", f"{service()}: upgrade the lock files", body)


def _propose(files: Sequence[str], branch: str, title: str, body: str) -> None:
    """Commit files, as they are here, to a branch on top of HEAD, and open a pull request for it.

    If the branch is there, it moves to that commit in one step, and its pull request with it.

    :raises GitHubError: GitHub refuses; the message says what is left to do.
    """
    commit = _commit(files, title)
    opened = []
    try:
        api("git/refs", {"ref": f"refs/heads/{branch}", "sha": commit})
    except GitHubError as error:
        if "already exists" not in error.reason:
            raise
        _move(branch, commit, title)
        owner = variable("GITHUB_REPOSITORY").partition("/")[0]
        opened = api(f"pulls?state=open&head={owner}:{quote(branch)}")
    # A pull request that a workflow opens starts no workflows; closing and reopening it does.
    hint = "If no checks start, close and reopen this pull request.\n\n"
    text = (hint + body)[:60_000]  # GitHub takes 65,536 characters
    if opened:
        api(f"pulls/{opened[0]['number']}", {"body": text}, "PATCH")
        note(f"Updated {opened[0]['html_url']}")
        return
    request = {"title": title, "body": text, "head": branch, "base": default_branch()}
    try:
        note(f"Opened {api('pulls', request)['html_url']}")
    except GitHubError as error:
        repository = variable("GITHUB_REPOSITORY")
        raise GitHubError(
            f"::error::The branch {branch} is there, but no pull request could be opened "
            f"({error.reason}). Open it: {repository_url()}/compare/{branch}?expand=1\n"
            "An administrator lets workflows open pull requests: gh api --method PUT "
            f"repos/{repository}/actions/permissions/workflow "
            "-F can_approve_pull_request_reviews=true"
        ) from None


def _commit(files: Sequence[str], message: str) -> str:
    """Return a new commit on GitHub: HEAD with files as they are here, on no branch yet."""
    blob = {"mode": "100644", "type": "blob"}
    entries = [
        {**blob, "path": folder() + file, "content": Path(file).read_bytes().decode()}
        for file in files
    ]
    head, base_tree = output("git", "rev-parse", "HEAD", "HEAD^{tree}").split()
    tree = api("git/trees", {"base_tree": base_tree, "tree": entries})["sha"]
    commit = {"message": message, "tree": tree, "parents": [head]}
    return str(api("git/commits", commit)["sha"])


def _move(branch: str, commit: str, title: str) -> None:
    """Let a branch that this workflow has made end in another commit.

    :raises GitHubError: it has somebody else's commit.
    """
    last = api(f"commits/{quote(branch, safe='')}")["commit"]["message"]
    if last != title:
        raise GitHubError(
            f"::error::The branch {branch} ends in a commit that is not this workflow's, "
            f"{last.splitlines()[0]!r}, so it stays as it is: merge it, or delete it."
        )
    try:  # GitHub may refuse it where the two have other workflows: the token may not change these
        api(f"git/refs/heads/{branch}", {"sha": commit, "force": True}, "PATCH")
    except GitHubError as error:
        raise GitHubError(
            f"::error::The branch {branch} could not be moved ({error.reason}): merge or close its "
            "pull request, delete the branch, and run this again."
        ) from None

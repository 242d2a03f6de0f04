"""Which commit is deployed, and what Git knows of it."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.errors import ToolError

# Set for a command that runs in a checkout of the deployed commit, made for it.
FROM_DEPLOYED = "FROM_DEPLOYED"


def git(*arguments: str) -> str | None:
    """Run Git in the service's folder; return what it printed, None if it fails or is missing."""
    command = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}  # a partial clone asks for what it lacks
    try:
        done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def current() -> str:
    """Return the commit of this folder; empty if it has changes, or is in no repository.

    `terraform init` writes the lock file where there is none: that is no change.
    """
    # The same whatever the user has set `git status` to show.
    status = ("status", "--porcelain", "--untracked-files")
    changed = git(*status, "--", ".", ":(exclude)terraform/.terraform.lock.hcl")
    if changed or git("cat-file", "-e", "HEAD:./pyproject.toml") is None:
        return ""
    return git("rev-parse", "HEAD") or ""


def known(commit: str) -> bool:
    """Tell whether this clone has a commit."""
    return bool(commit) and git("cat-file", "-e", f"{commit}^{{commit}}") is not None


def refuse_older(environment: str, deployed: str) -> None:
    """Make sure that this checkout is no older than what is deployed; say so if Git can't tell.

    :raises ToolError: it is, and OLDER is not set.
    """
    head = git("rev-parse", "HEAD")
    if not head or deployed in {"", head}:
        return
    this, other = head[:12], deployed[:12]
    if not known(deployed):
        print(
            f"{environment} has commit {other}, which this clone lacks, so nothing checks that "
            f"{this} is newer. `git fetch --unshallow` or `git fetch` may get it."
        )
    elif git("merge-base", "--is-ancestor", deployed, head) is not None:
        return
    elif git("merge-base", "--is-ancestor", head, deployed) is None:
        print(f"{environment} has commit {other}, which is not part of {this}: this takes it back.")
    elif os.environ.get("OLDER"):
        print(f"{environment} has commit {other}; {this} is older, and OLDER is set.")
    else:
        raise ToolError(
            f"{environment} has commit {other}, and this one, {this}, is older: deploying it would "
            "take back what came after it. Update this branch and plan again. To go back on "
            "purpose: `make rollback`, a commit that reverts the newer ones, or OLDER=1."
        )


@contextmanager
def checkout_of(environment: str, commit: str) -> Iterator[Path | None]:
    """Check a commit out beside this one, for a while.

    :returns: the service's folder there; None if Git can't, which is said.
    """
    inside = git("rev-parse", "--show-prefix") or ""
    with tempfile.TemporaryDirectory(prefix="deployed-") as folder:
        place = Path(folder, "repository")
        made = known(commit) and git("worktree", "add", "--detach", str(place), commit) is not None
        try:
            if made and Path(place, inside, "Makefile").is_file():
                print(f"{environment} has commit {commit[:12]}: starting from it.", flush=True)
                yield Path(place, inside)
            else:
                which = (
                    f"commit {commit[:12]}, which Git lacks here"
                    if commit
                    else "no commit on record"
                )
                print(f"{environment} has {which}: starting from the code here.", flush=True)
                yield None
        finally:
            git("worktree", "remove", "--force", str(place))

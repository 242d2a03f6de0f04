"""The runner that a job of the workflow has: its variables, Git and gh."""

import json
import os
import subprocess
from typing import Any

GET = {"git": "https://git-scm.com", "gh": "https://cli.github.com"}


class GitHubError(Exception):
    """Why a job must stop; ``::error::`` in front makes GitHub show it on the run's page."""


def variable(name: str) -> str:
    """Return one of the job's environment variables, "" where it is not set."""
    return os.environ.get(name, "")


def output(*command: str) -> str:
    """Run Git or gh and return what it printed; its errors go to the log.

    :raises GitHubError: it is missing or fails.
    """
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        name = command[0]
        raise GitHubError(
            f"::error::{name} is missing on this runner: install it, see {GET[name]}"
        ) from None
    except subprocess.CalledProcessError as error:
        line = " ".join(command[:3])
        raise GitHubError(
            f"::error::`{line} …` ended with {error.returncode}: see its message in the log."
        ) from None
    return done.stdout.strip()


def api(path: str, *options: str) -> Any:
    """Ask GitHub's API about this repository; return its answer, None if it is empty.

    :param path: what follows ``repos/<owner>/<name>/``.
    :raises GitHubError: GitHub refuses or does not answer.
    """
    text = output("gh", "api", f"repos/{variable('GITHUB_REPOSITORY')}/{path}", *options)
    return json.loads(text) if text else None


def pages(path: str) -> list[Any]:
    """Return all pages of an answer of GitHub's API."""
    found: list[Any] = api(path, "--paginate", "--slurp")
    return found


def folder() -> str:
    """Return the service's folder in the repository with a ``/`` at its end, "" at the root."""
    return output("git", "rev-parse", "--show-prefix")


def run_url() -> str:
    """Return the address of this run."""
    return f"{repository_url()}/actions/runs/{variable('GITHUB_RUN_ID')}"


def repository_url() -> str:
    """Return the address of this repository."""
    return f"{variable('GITHUB_SERVER_URL')}/{variable('GITHUB_REPOSITORY')}"


def readme() -> str:
    """Return the address of the service's README, where it describes the delivery."""
    return f"{repository_url()}/blob/main/{folder()}README.md#delivery"

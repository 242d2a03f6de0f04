"""The runner that a job of the workflow has: its variables, its event, Git and gh."""

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

GET = {"git": "https://git-scm.com", "gh": "https://cli.github.com"}


class GitHubError(Exception):
    """Why a job must stop; ``::error::`` in front makes GitHub show it on the run's page.

    :param reason: what Git or gh said, on one line; GitHub's own message and HTTP status.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


def variable(name: str) -> str:
    """Return one of the job's environment variables, "" where it is not set."""
    return os.environ.get(name, "")


def variables() -> dict[str, str]:
    """Return the variables of the repository and of its organisation, which are in VARIABLES."""
    found: dict[str, str] = json.loads(variable("VARIABLES") or "{}")
    return found


def event() -> Any:
    """Return what happened, as GitHub's webhook describes it."""
    return json.loads(Path(variable("GITHUB_EVENT_PATH")).read_text(encoding="utf-8"))


def default_branch() -> str:
    """Return the name of the repository's default branch."""
    # A schedule's event lacks it, and always runs there (github/codeql-action #1211).
    repository = event().get("repository") or {"default_branch": variable("GITHUB_REF_NAME")}
    return str(repository["default_branch"])


def workflow_file() -> str:
    """Return the path of this run's workflow from the repository's root."""
    # <owner>/<repository>/.github/workflows/<file>@<ref>
    return variable("GITHUB_WORKFLOW_REF").partition("@")[0].split("/", 2)[-1]


def pyproject() -> dict[str, Any]:
    """Return the content of pyproject.toml."""
    return tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))


def service() -> str:
    """Return the service's name."""
    return str(pyproject()["project"]["name"])


def workflows() -> list[Path]:
    """Return the paths of the service's workflows, from its folder or the repository's root."""
    folder = Path(".github/workflows")
    return [folder / f"{service()}{suffix}.yml" for suffix in ("", "-operate", "-upgrade")]


def note(text: str) -> None:
    """Say something in the log, and in the summary on the run's page."""
    print(text)
    on_the_page(text)


def on_the_page(text: str) -> None:
    """Say something in the summary on the run's page."""
    if variable("GITHUB_STEP_SUMMARY"):
        with Path(variable("GITHUB_STEP_SUMMARY")).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n\n")


def outputs(**values: str) -> None:
    """Set outputs of the step, if there is one."""
    if variable("GITHUB_OUTPUT"):
        with Path(variable("GITHUB_OUTPUT")).open("a", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in values.items())


def output(*command: str, stdin: str | None = None) -> str:
    """Run Git or gh and return what it printed.

    :raises GitHubError: it is missing or fails.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        name = command[0]
        raise GitHubError(
            f"::error::{name} is missing on this runner: install it, see {GET[name]}"
        ) from None
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise GitHubError(f"::error::`{' '.join(command[:3])} …` failed: {reason}", reason)
    return done.stdout.strip()


def api(path: str, body: Any = None, method: str = "POST") -> Any:
    """Ask GitHub's API about this repository, or tell it something; return its answer.

    :param path: what follows ``repos/<owner>/<name>/``.
    :param body: what to send, by this method; None: only ask.
    :returns: None if the answer is empty.
    :raises GitHubError: GitHub refuses or does not answer.
    """
    command = ["gh", "api", f"repos/{variable('GITHUB_REPOSITORY')}/{path}"]
    if body is not None:
        command += ["--method", method, "--input", "-"]
    text = output(*command, stdin=json.dumps(body))  # gh reads it only with --input
    return json.loads(text) if text else None


def pages(path: str, items: str = ".[]") -> list[Any]:
    """Return what a list of GitHub's API has on all its pages.

    :param items: what finds them on a page, for jq; --slurp would be too new for Ubuntu 24.04's gh.
    """
    path = f"repos/{variable('GITHUB_REPOSITORY')}/{path}"
    lines = output("gh", "api", path, "--paginate", "--jq", items)
    return [json.loads(line) for line in lines.split("\n") if line]


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
    return f"{repository_url()}/blob/HEAD/{folder()}README.md#delivery"

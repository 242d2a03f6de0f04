"""The workflow's copy: in a monorepo, GitHub reads workflows only at the repository's root."""

import shutil
import subprocess
import tomllib
from pathlib import Path

from tools.github.runner import GitHubError


def workflow() -> None:
    """Copy the service's workflow to the repository's root.

    :raises GitHubError: the service is in no Git repository.
    """
    source, copy = _places()
    if source == copy:
        print(f"Nothing to copy: in a repository of its own, GitHub reads {source} itself.")
    elif copy is None:
        raise GitHubError(
            f"The service is in no Git repository yet, so {source} cannot be copied to its root."
        )
    else:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        print(f"Copied {source} to {copy}.")


def check_workflow() -> None:
    """Compare the copy with the service's workflow.

    :raises GitHubError: it is missing or differs.
    """
    source, copy = _places()
    if copy and not (copy.is_file() and copy.read_bytes() == source.read_bytes()):
        raise GitHubError(
            f"{copy} is missing or differs from {source}: run `make workflow` and commit it."
        )


def _places() -> tuple[Path, Path | None]:
    """Return the workflow and its copy: itself at the root already, None in no repository."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    source = Path(f".github/workflows/{pyproject['project']['name']}.yml")
    if pyproject["tool"]["cookiecutter-lambda-python"]["service_path"] == ".":
        return source, source
    git = ["git", "rev-parse", "--show-toplevel"]
    root = subprocess.run(git, capture_output=True, text=True)
    return source, None if root.returncode else Path(root.stdout.rstrip("\n")) / source

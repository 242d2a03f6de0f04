"""The workflow's copy. In a monorepo, GitHub reads workflows only at the repository's root."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.github.runner import GitHubError


def workflow(option: str = "") -> None:
    """Copy the service's workflow to the repository's root; with ``--check`` only compare the two.

    :raises GitHubError: with ``--check``, the copy is missing or differs.
    """
    check = option == "--check"
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    source = Path(f".github/workflows/{pyproject['project']['name']}.yml")
    if pyproject["tool"]["cookiecutter-lambda-python"]["service_path"] == ".":
        if not check:
            print(f"Nothing to copy: in a repository of its own, GitHub reads {source} itself.")
        return
    git = ["git", "rev-parse", "--show-toplevel"]
    root = subprocess.run(git, capture_output=True, text=True)
    if root.returncode:
        text = f"The service is in no Git repository yet, so {source} cannot be copied to its root."
        if not check:
            raise GitHubError(text)
        print(text, file=sys.stderr)
        return
    copy = Path(root.stdout.rstrip("\n")) / source
    if copy.is_file() and copy.read_bytes() == source.read_bytes():
        if not check:
            print(f"{copy} is up to date.")
        return
    if check:
        raise GitHubError(
            f"{copy} is missing or differs from {source}: run `make workflow` and commit it."
        )
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copy)
    print(f"Copied {source} to {copy}.")

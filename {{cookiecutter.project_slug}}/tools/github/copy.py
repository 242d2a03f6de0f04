"""The workflow's copy: in a monorepo, GitHub reads workflows only at the repository's root."""

import shutil
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
    if copy and not (copy.is_file() and _text(copy) == _text(source)):
        raise GitHubError(
            f"{copy} is missing or differs from {source}: run `make workflow` and commit it."
        )


def _text(file: Path) -> bytes:
    # The service's .gitattributes doesn't reach the copy: Git may give it Windows' line endings.
    return file.read_bytes().replace(b"\r\n", b"\n")


def _places() -> tuple[Path, Path | None]:
    """Return the workflow and its copy: itself at the root already, None in no repository."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    source = Path(f".github/workflows/{pyproject['project']['name']}.yml")
    if pyproject["tool"]["cookiecutter-lambda-python"]["service_path"] == ".":
        return source, source
    # Not by asking Git: in a hook it answers by its variables, and it refuses other people's files.
    here = Path.cwd()
    roots = (folder for folder in (here, *here.parents) if (folder / ".git").exists())
    root = next(roots, None)
    return source, root / source if root else None

"""The workflows' copies: in a monorepo, GitHub reads workflows only at the repository's root.

The service's own are the source, but for the versions of the actions that they use: Dependabot
moves those of the copies, and the newer of the two counts.
"""

import re
from pathlib import Path

from tools.build.shared import repository
from tools.github.runner import GitHubError, pyproject, workflows

FOLDER = Path(".github/workflows")
ACTION = Path(".github/actions/setup/action.yml")
PIN = re.compile(rb"(uses: [\w./-]+)@([0-9a-f]{40} # v([0-9.]+[0-9]))")


def workflow() -> None:
    """Copy the service's workflows to the repository's root; use the newer actions in both.

    :raises GitHubError: the service is in no Git repository.
    """
    sources, root = _places()
    if root == Path():
        print(f"Nothing to copy: in a repository of its own, GitHub reads {FOLDER} itself.")
        return
    if root is None:
        raise GitHubError(
            f"The service is in no Git repository yet, so {FOLDER} cannot be copied to its root."
        )
    own = [*sources, ACTION]
    files = [*own, *(root / source for source in sources)]
    texts = {file: _text(file) for file in files if file.is_file()}
    pins = [pin for text in texts.values() for pin in PIN.findall(text)]
    newest = {pin[0]: pin[1] for pin in sorted(pins, key=lambda pin: _version(pin[2]))}
    for file in own:
        text = PIN.sub(lambda match: match[1] + b"@" + newest[match[1]], texts[file])
        if text != texts[file]:
            file.write_bytes(text)
            print(f"{file} now has the newer versions of its actions.")
        if file != ACTION:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(text)
            print(f"Copied {file} to {root / file}.")


def check_workflow() -> None:
    """Compare the copies with the service's workflows, apart from their actions' versions.

    :raises GitHubError: one is missing or differs.
    """
    sources, root = _places()
    if root is None:
        return
    for source in sources:
        copy = root / source
        if not (copy.is_file() and PIN.sub(rb"\1", _text(copy)) == PIN.sub(rb"\1", _text(source))):
            raise GitHubError(
                f"{copy} is missing or differs from {source}: run `make workflow` and commit it."
            )


def _text(file: Path) -> bytes:
    # The service's .gitattributes doesn't reach the copy: Git may give it Windows' line endings.
    return file.read_bytes().replace(b"\r\n", b"\n")


def _version(number: bytes) -> list[int]:
    return [int(part) for part in number.split(b".")]


def _places() -> tuple[list[Path], Path | None]:
    """Return the workflows and the place of the copies: "." if here, None in no repository."""
    sources = [source for source in workflows() if source.is_file()]
    if pyproject()["tool"]["cookiecutter-lambda-python"]["service_path"] == ".":
        return sources, Path()
    return sources, repository()

"""What the template learns reaches the services that it has made: cruft's create, check and update.

A Git repository is made of this working tree, in three versions: `before` is the last release's tag,
or the previous commit until there is one; `now` is what lies here, committed or not; `later` is a
made-up next version.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SERVICE, TEMPLATE, Render, need, run

pytestmark = pytest.mark.slow

MONOREPO = {"service_path": "services/order-events"}
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(*arguments: str | Path, cwd: Path) -> str:
    return run("git", *arguments, cwd=cwd, **GIT).stdout.strip()


def commit(folder: Path, message: str) -> None:
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


def replace(path: Path, pattern: str, new: str) -> None:
    """Replace the one place in a file that a regular expression finds."""
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1, f"{path.name}: {count} places for {pattern!r}"
    path.write_text(text, encoding="utf-8")


def clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def earlier(folder: Path) -> str | None:
    """Name the version to update from: the last release that differs from the present.

    The previous commit until there is a release; None where there is none, as in a shallow clone.
    """

    def found(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    start = "HEAD"
    while tag := found("describe", "--tags", "--abbrev=0", "--match", "[0-9]*", start):
        if found("diff", "--quiet", tag, "--") is None:
            return tag
        start = f"{tag}^"
    changed = found("diff", "--quiet", "HEAD", "--") is None
    return found("rev-parse", "--verify", "--quiet", "HEAD" if changed else "HEAD^")


def put_before(template: Path) -> None:
    """Put the earlier version into `template`; a made-up one where Git knows of none."""
    if version := earlier(TEMPLATE):
        archive = template.parent / "before.tar"
        git("archive", "--output", archive, version, cwd=TEMPLATE)
        run("tar", "-xf", archive, "-C", template, cwd=template)
        return
    print("Git knows no earlier version here (a shallow clone?): it is made of the present one.")
    put_now(template)
    replace(template / SERVICE.name / "Makefile", r"\A# ", "# Once upon a time: ")


def put_now(template: Path) -> None:
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=TEMPLATE)
    for name in filter(None, listed.split("\0")):
        if (TEMPLATE / name).exists():
            (template / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, template / name)


def put_later(template: Path) -> None:
    """Make a next version: a changed workflow and handler, a new question, a choice that is gone."""
    service = template / SERVICE.name
    (workflow,) = (service / ".github" / "workflows").iterdir()
    replace(workflow, r"\A", "# Of the next version.\n")
    replace(service / "handler.py", r"^SMOKE_TEST = .*$", 'SMOKE_TEST = "smoke_test"  # later')
    questions = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    questions["python_version"].remove("3.11")
    del questions["__prompts__"]["python_version"]["3.11"]
    questions = {"greeting": "hello", **questions}
    (template / "cookiecutter.json").write_text(json.dumps(questions), encoding="utf-8")
    (service / "GREETING").write_text("{{ cookiecutter.greeting }}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the repository with the branches `before`, `now` and `later`; `now` is the newest."""
    need("git")
    folder = tmp_path_factory.mktemp("template") / "cookiecutter-lambda-python"
    folder.mkdir()
    git("init", "--quiet", "--initial-branch", "main", cwd=folder)
    for name, put in (("before", put_before), ("now", put_now), ("later", put_later)):
        if name != "later":
            clear(folder)
        put(folder)
        commit(folder, name)
        git("branch", name, cwd=folder)
    return folder


@dataclass
class Updatable:
    """A service made by cruft, the template that it comes from, and the repository that it is in."""

    template: Path
    path: Path
    repository: Path

    def update(self, version: str, *options: str) -> str:
        """Merge in a version of the template, as its owner would; return what cruft printed."""
        return cruft("update", "--skip-apply-ask", "--checkout", version, *options, cwd=self.path)


Make = Callable[..., Updatable]


def cruft(*arguments: str | Path, cwd: Path) -> str:
    return run(sys.executable, "-m", "cruft", *arguments, cwd=cwd, **GIT).stdout


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Make:
    """Make a service with `cruft create`, in a Git repository, as its owner would."""

    def make(version: str, **answers: str) -> Updatable:
        service_path = answers.get("service_path", ".")
        repository = tmp_path / ("order-events" if service_path == "." else "monorepo")
        folder = (repository / service_path).parent if service_path != "." else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        if service_path != ".":
            git("init", "--quiet", cwd=repository)
        context = ("--extra-context", json.dumps(answers))
        options = ("--no-input", "--default-config", "--checkout", version, "--output-dir", folder)
        cruft("create", template, *options, *context, cwd=tmp_path)
        if service_path == ".":
            git("init", "--quiet", cwd=repository)
        commit(repository, "As the template made it")
        return Updatable(template, folder / "order-events", repository)

    return make


def edit(service: Path) -> None:
    """Change a service as its developers would in its first year."""
    package = service / "order_events"
    replace(package / "service.py", r"^    logger\.debug.*$", r'\g<0>\n    logger.info("Ordered")')
    replace(package / "events.py", r"^    data: .*$", r"\g<0>\n    version: int = 1")
    tfvars = service / "terraform" / "environments" / "dev.tfvars"
    tfvars.write_text(tfvars.read_text(encoding="utf-8") + "\nmemory_size = 1024\n")
    replace(service / "README.md", r"^What it does: .*$", r"\g<0>\n\nIt is the heart of the shop.")
    statement = '{ Sid = "ReadPrices", Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::prices/*" }'
    terraform = service / "terraform"
    replace(terraform / "service.tf", r"^  permissions = \[\]$", f"  permissions = [{statement}]")
    replace(terraform / "iam.tf", r'^resource "aws_iam_role_policy" "function"', r"# Reviewed.\n\g<0>")
    replace(
        terraform / "variables.tf",
        r'(variable "log_level" \{(?:.*\n)*? *default += )"INFO"',
        r'\1"DEBUG"',
    )


def kept(service: Path) -> dict[str, bool]:
    """Tell for each edit whether it is there."""
    edits = {
        "order_events/service.py": 'logger.info("Ordered")',
        "order_events/events.py": "    version: int = 1",
        "terraform/environments/dev.tfvars": "memory_size = 1024",
        "README.md": "It is the heart of the shop.",
        "terraform/service.tf": "ReadPrices",
        "terraform/iam.tf": "# Reviewed.",
        "terraform/variables.tf": '"DEBUG"',
    }
    return {name: text in (service / name).read_text("utf-8") for name, text in edits.items()}


def conflicts(repository: Path) -> set[str]:
    """Name what an update could not merge: files with conflict marks, and patches left over."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", cwd=repository)
    names = listed.splitlines()
    unmerged = git("diff", "--name-only", "--diff-filter=U", cwd=repository).splitlines()
    return {*unmerged, *(name for name in names if name.endswith((".rej", ".orig")))}


def test_a_service_keeps_its_edits_and_passes_its_checks(made: Make) -> None:
    service = made("before")
    edit(service.path)
    commit(service.repository, "A year of work")
    service.update("now")
    assert conflicts(service.repository) == set()
    assert all(kept(service.path).values()), kept(service.path)
    commit(service.repository, "Updated")
    assert "is up to date" in cruft("check", "--checkout", "now", cwd=service.path)

    need("terraform")
    run("make", "lint", "typecheck", "test", "validate", cwd=service.path)

"""Finish the rendered service: take out what its place makes useless, put its workflow where GitHub
looks, and say what to do next.

Cookiecutter renders this file, then runs it in the project folder. It uses no network and installs
nothing. The answers come in as data (JSON), so no text in them can run as code. The service is
whole before this runs: what can't be done here is told, and fails nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ANSWERS = r"""
{{ cookiecutter.items() | list | tojson }}
"""


def in_monorepo(answers: Mapping[str, Any]) -> bool:
    """Tell whether the service shares its Git repository with others."""
    return str(answers["service_path"]) != "."


def repeats(answers: Mapping[str, Any]) -> bool:
    """Tell whether the service processes an event again when it is delivered again."""
    return str(answers["idempotency"]) != "yes"


def on_lambda(answers: Mapping[str, Any]) -> bool:
    """Tell whether Lambda runs the service."""
    return str(answers["compute"]) == "lambda"


def on_fargate(answers: Mapping[str, Any]) -> bool:
    """Tell whether Fargate runs the service."""
    return str(answers["compute"]) == "fargate"


# Files that take another one's place in some services: path, the other one, and when.
VARIANTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "requirements-fargate.txt": ("requirements.txt", on_fargate),
    "tests/e2e/compute_fargate.py": ("tests/e2e/compute.py", on_fargate),
    "tools/local/runtime_fargate.py": ("tools/local/runtime.py", on_fargate),
    "tools/operate/compute_fargate.py": ("tools/operate/compute.py", on_fargate),
}

# Files of the template that some services don't need: path, and when it is taken out.
REMOVED: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    # GitHub and pre-commit read these only at the root of a repository.
    ".github/dependabot.yml": in_monorepo,
    ".pre-commit-config.yaml": in_monorepo,
    "<package>/idempotency.py": repeats,
    "terraform/idempotency.tf": repeats,
    "terraform/tests/idempotency.tftest.hcl": repeats,
    "tests/e2e/test_idempotency.py": repeats,
    "tests/unit/test_idempotency.py": repeats,
    # What only a container has.
    ".dockerignore": on_lambda,
    "Dockerfile": on_lambda,
    "tools/build/image.py": on_lambda,
    "tools/local/patches_fargate.py": on_lambda,
    "worker.py": on_lambda,
    # What only one of the two computes has.
    "tools/local/event_source.py": on_fargate,
    "tools/local/patches_lambda.py": on_fargate,
    "tools/local/runtime_bootstrap.py": on_fargate,
    "tools/local/runtime_process.py": on_fargate,
    "terraform/lambda.tf": on_fargate,
    "terraform/autoscaling.tf": on_lambda,
    "terraform/ecr.tf": on_lambda,
    "terraform/ecs.tf": on_lambda,
    "terraform/network.tf": on_lambda,
}

# What tools leave in a checkout of the template, and cookiecutter copies.
CACHES = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".terraform"})


def choose_variants(answers: Mapping[str, Any], project: Path) -> None:
    """Leave of the files that stand for one another the one that the answers want."""
    for path, (other, is_wanted) in VARIANTS.items():
        with contextlib.suppress(OSError):
            if is_wanted(answers):
                (project / path).replace(project / other)
            else:
                (project / path).unlink()


def remove_unneeded(answers: Mapping[str, Any], project: Path) -> list[str]:
    """Take out of `project` what its answers make useless; return the paths taken out."""
    removed = []
    for name, is_useless in REMOVED.items():
        if is_useless(answers):
            path = name.replace("<package>", str(answers["package_name"]))
            with contextlib.suppress(OSError):
                (project / path).unlink()
                removed.append(path)
    return removed


def remove_caches(project: Path) -> None:
    """Take caches of tools out of `project`, but for those in hidden folders such as `.venv`."""
    for folder, names, _ in os.walk(project):
        for name in CACHES.intersection(names):
            shutil.rmtree(Path(folder, name), ignore_errors=True)
        names[:] = [name for name in names if not name.startswith(".") and name not in CACHES]


def find_repository(folder: Path) -> Path | None:
    """Return the root of the Git repository that `folder` is in, None if it is in none."""
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    return None


def copy_workflow(slug: str, project: Path, repository: Path) -> str:
    """Copy the workflow of a service in a monorepo to the root of `repository`.

    Never writes over a file that is there. Returns a sentence that says what was done.
    """
    source = project / ".github" / "workflows" / f"{slug}.yml"
    copy = repository / ".github" / "workflows" / f"{slug}.yml"
    try:
        text = source.read_bytes()
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with copy.open("xb") as file:
                file.write(text)
        except FileExistsError:
            if copy.read_bytes() == text:
                return f"The workflow is at {copy} already."
            return (
                f"{copy} was there before and is another workflow, so it was left as it is. "
                "Compare the two; `make workflow` puts this service's in its place."
            )
    except OSError as error:
        return (
            f"The workflow could not be copied to {copy} ({error.strerror}). "
            "`make workflow` makes up for it."
        )
    return f"Copied the workflow to {copy}, where GitHub looks for it. Commit both."


def next_steps(answers: Mapping[str, Any], project: Path, repository: Path | None) -> list[str]:
    """Return the lines that say what to do with the new service, true for its answers.

    `repository` is the root of the Git repository that `project` is in, if there is one.
    """
    steps = [("cd " + shlex.quote(str(project)), "")]
    if repository is None and not in_monorepo(answers):
        steps.append(("git init", "a repository of its own"))
    steps += [
        ("make", "lists everything that you can do"),
        ("make install", "Python environment in .venv"),
        ("make test", "unit tests"),
        ("make e2e", "the whole chain, deployed to a local AWS; needs Terraform"),
    ]
    deploy = []
    if answers["terraform_state_bucket"] == "":
        deploy.append(
            "name the bucket for Terraform's state in terraform/environments/dev.s3.tfbackend "
            "(and prod.s3.tfbackend)"
        )
    deploy.append(
        f"the SNS topic {answers['sns_topic_name']}-dev has to be in {answers['aws_region']}"
    )
    deploy.append("make plan ENV=dev, read the plan, then make apply ENV=dev")
    if in_monorepo(answers) and repository is None:
        deploy.append(
            f"once the service is at {answers['service_path']} in its Git repository, "
            "make workflow copies its workflow to where GitHub looks"
        )
    width = max(len(command) for command, meaning in steps if meaning)
    return [
        "Next:",
        *(f"  {command:<{width}}  {meaning}".rstrip() for command, meaning in steps),
        "To deploy:",
        *(f"  - {line}" for line in deploy),
        "README.md has the rest.",
    ]


def understood(answers: Mapping[str, Any]) -> list[str]:
    """Return the answers, one a line, as the service was rendered with them."""
    visible = {name: value for name, value in answers.items() if not name.startswith("_")}
    width = max(len(name) for name in visible)
    return [f"  {name:<{width}}  {value or '(empty)'}" for name, value in visible.items()]


def tell(text: str) -> None:
    """Print `text`; a reader that is gone or can't show a character is no reason to fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except OSError:
        # Python would try again at its end, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Finish the service in the current folder; return the exit code, which is always 0."""
    answers = dict(json.loads(ANSWERS))
    project = Path.cwd()
    repository = find_repository(project)

    notes = []
    choose_variants(answers, project)
    remove_unneeded(answers, project)
    remove_caches(project)
    if in_monorepo(answers) and repository is not None:
        notes.append(copy_workflow(answers["project_slug"], project, repository))

    lines = [f"\nRendered {project} with these answers:", *understood(answers), ""]
    tell("\n".join([*lines, *notes, *next_steps(answers, project, repository)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Finish the rendered service: remove what its answers make useless, put its workflows where GitHub
looks, and say what to do next.

Cookiecutter renders this file, then runs it in the project folder. It uses no network and installs
nothing. The answers come in as data (JSON), so no text in them can run as code. The service is
complete before this runs: what can't be done here is reported, and fails nothing. It imports
little, as the other hook does, so that rendering stays quick.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Mapping

ANSWERS = r"""
{{ cookiecutter.items() | list | tojson }}
"""

# Files that take another one's place on Fargate.
FARGATE_VARIANTS = {
    "requirements-fargate.txt": "requirements.txt",
    "tests/e2e/compute_fargate.py": "tests/e2e/compute.py",
    "tools/local/feed_fargate.py": "tools/local/feed.py",
    "tools/local/runtime_fargate.py": "tools/local/runtime.py",
    "tools/local/target_fargate.py": "tools/local/target.py",
    "tools/operate/compute_fargate.py": "tools/operate/compute.py",
}

# Files that only some services need, by the answer that asks for them.
ONLY_WITH = {
    # GitHub and pre-commit read these only at the root of a repository.
    ("service_path", "."): (".github/dependabot.yml", ".pre-commit-config.yaml"),
    ("idempotency", "yes"): (
        "<package>/idempotency.py",
        "terraform/idempotency.tf",
        "terraform/tests/idempotency.tftest.hcl",
        "tests/e2e/test_idempotency.py",
        "tests/unit/test_idempotency.py",
    ),
    # A topic whose name ends in .fifo.
    ("__fifo", ".fifo"): (
        "terraform/tests/fifo.tftest.hcl",
        "tests/e2e/test_order.py",
        "tests/unit/test_order.py",
        "tools/local/patches_queues_fifo.py",
    ),
    ("compute", "lambda"): (
        "terraform/lambda.tf",
        "tools/local/event_source.py",
        "tools/local/execution.py",
        "tools/local/patches_lambda.py",
        "tools/local/poller.py",
        "tools/local/runtime_bootstrap.py",
        "tools/local/runtime_process.py",
    ),
    ("compute", "fargate"): (
        ".dockerignore",
        "Dockerfile",
        "terraform/autoscaling.tf",
        "terraform/ecr.tf",
        "terraform/ecs.tf",
        "terraform/network.tf",
        "tools/build/image.py",
        "tools/local/ecs.py",
        "tools/local/patches_fargate.py",
        "tools/local/task.py",
        "worker.py",
    ),
}

# What tools leave in a checkout of the template, and cookiecutter copies.
CACHES = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".terraform"})


def choose_files(answers: Mapping[str, str], project: str) -> None:
    """Leave the files in `project` that the answers ask for."""
    unneeded = [
        path.replace("<package>", answers["package_name"])
        for (name, value), paths in ONLY_WITH.items()
        for path in paths
        if answers[name] != value
    ]
    for path, other in FARGATE_VARIANTS.items():
        if answers["compute"] != "fargate":
            unneeded.append(path)
        else:
            with contextlib.suppress(OSError):
                os.replace(f"{project}/{path}", f"{project}/{other}")
    for path in unneeded:
        with contextlib.suppress(OSError):
            os.remove(f"{project}/{path}")


def write_samples(answers: Mapping[str, str], project: str) -> None:
    """Write a sample event for each event type; the rendered one stands for all of them.

    tools/events.py names them in the same way. A file system may not take a long name.
    """
    example = f"{project}/events/example.json"
    with contextlib.suppress(OSError):
        with open(example, encoding="utf-8") as file:
            text = file.read()
        os.remove(example)
        for event_type in answers["event_types"].split(","):
            name = event_type.strip(" ").replace("*", "example")
            name = name.replace("%", "%25").replace("/", "%2F")
            with contextlib.suppress(OSError), open(f"{project}/events/{name}.json", "w") as file:
                file.write(text)


def remove_caches(project: str) -> None:
    """Remove caches of tools from `project`, except those in hidden folders such as `.venv`."""
    for folder, names, _ in os.walk(project):
        for name in CACHES.intersection(names):
            import shutil

            shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
        names[:] = [name for name in names if not name.startswith(".") and name not in CACHES]


def find_repository(folder: str) -> str | None:
    """Return the root of the Git repository that `folder` is in, None if it is in none."""
    while not os.path.exists(f"{folder}/.git"):
        folder, inner = os.path.dirname(folder), folder
        if folder == inner:
            return None
    return folder


def is_update(answers: Mapping[str, str], folder: str) -> bool:
    """Tell whether cruft renders this only to compare it, for an update or a diff.

    Cruft (2.16.0) adds the template's commit to the answers, and no output folder, which
    cookiecutter always adds. To compare, it renders alone into a new folder that Python's tempfile
    makes: named tmp and eight letters, digits or _, and closed to other users. A service that
    `cruft create` puts into such a folder is taken for an update.
    """
    parent, name = os.path.split(folder)
    place = os.path.basename(parent)
    return (
        "_commit" in answers
        and "_output_dir" not in answers
        and len(place) == 11
        and place.startswith("tmp")
        and place.replace("_", "a").isalnum()
        and os.stat(parent).st_mode & 0o077 == 0
        and os.listdir(parent) == [name]
    )


def copy_workflows(slug: str, project: str, repository: str) -> str:
    """Copy the workflows of a service in a monorepo to the root of `repository`.

    Never overwrites a file. Returns a sentence that says what was done.
    """
    folder = f"{repository}/.github/workflows"
    copied, others = [], []
    try:
        os.makedirs(folder, exist_ok=True)
        for name in (f"{slug}.yml", f"{slug}-operate.yml", f"{slug}-upgrade.yml"):
            with open(f"{project}/.github/workflows/{name}", "rb") as file:
                text = file.read()
            try:
                with open(f"{folder}/{name}", "xb") as file:
                    file.write(text)
                copied.append(name)
            except FileExistsError:
                # Git may have checked it out with Windows' line endings.
                with open(f"{folder}/{name}", "rb") as file:
                    if file.read().replace(b"\r\n", b"\n") != text:
                        others.append(name)
    except OSError as error:
        return (
            f"The workflows could not be copied to {folder} ({error.strerror}). "
            "`make workflow` does it later."
        )
    if others:
        return (
            f"{', '.join(others)} in {folder} was there before and is another workflow, so it was "
            "left as it is. Compare the two; `make workflow` puts this service's in its place."
        )
    if not copied:
        return f"The workflows are already in {folder}."
    return f"Copied the workflows to {folder}, where GitHub looks for them. Commit both."


def next_steps(answers: Mapping[str, str], project: str, repository: str | None) -> list[str]:
    """Return the lines that say what to do with the new service, true for its answers.

    `repository` is the root of the Git repository that `project` is in, if there is one.
    """
    in_monorepo = answers["service_path"] != "."
    steps = [(f"cd {shlex.quote(project)}", "")]
    if repository is None and not in_monorepo:
        steps.append(("git init", "makes it a repository of its own"))
    steps += [
        ("make", "lists what you can do"),
        ("make install", "creates the Python environment in .venv"),
        ("make test", "runs the unit tests"),
        ("make e2e", "tests the whole chain on a local AWS; needs Terraform"),
        ("make local", "keeps it running on a local AWS while you work; needs Terraform"),
    ]
    deploy = []
    if answers["terraform_state_bucket"] == "":
        deploy.append(
            "name the bucket for Terraform's state in terraform/environments/dev.s3.tfbackend "
            "(and prod.s3.tfbackend)"
        )
    topic, fifo, _ = answers["sns_topic_name"].partition(".fifo")
    deploy.append(f"the SNS topic {topic}-dev{fifo} must exist in {answers['aws_region']}")
    deploy.append("make plan ENV=dev, read the plan, then make apply ENV=dev")
    if in_monorepo and repository is None:
        deploy.append(
            f"once the service is at {answers['service_path']} in its Git repository, "
            "make workflow copies its workflows to where GitHub looks"
        )
    width = max(len(command) for command, meaning in steps if meaning)
    return [
        "Next:",
        *(f"  {command:<{width}}  {meaning}".rstrip() for command, meaning in steps),
        "To deploy:",
        *(f"  - {line}" for line in deploy),
        "FIRST_CHANGE.md leads through a first change, README.md says more.",
    ]


def understood(answers: Mapping[str, str]) -> list[str]:
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
        # Python would flush again at exit, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Finish the service in the current folder; return the exit code, which is always 0."""
    answers = dict(json.loads(ANSWERS))
    project = os.getcwd()
    choose_files(answers, project)
    write_samples(answers, project)
    remove_caches(project)
    if is_update(answers, project):
        return 0

    repository = find_repository(project)
    lines = [f"\nRendered {project} with these answers:", *understood(answers), ""]
    if answers["service_path"] != "." and repository is not None:
        lines.append(copy_workflows(answers["project_slug"], project, repository))
    tell("\n".join([*lines, *next_steps(answers, project, repository)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Update the lock files: the template's own, and those that a rendered service starts with.

The service's lock files must work for every Python version that can be chosen, so they are resolved
for the oldest and newer (`uv pip compile --universal`). Lambda and Fargate have different ones for
run time, since Lambda includes boto3; for development they are the same.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parents[1]
SERVICE = TEMPLATE / "{{cookiecutter.project_slug}}"
VERSIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text())["python_version"]
OLDEST = min(VERSIONS, key=lambda version: [int(part) for part in version.split(".")])


def lock(project: Path, target: Path, *options: str) -> None:
    """Resolve ``project`` (a pyproject.toml) into the lock file ``target``, with hashes.

    :raises subprocess.CalledProcessError: no solution satisfies the requirements, or no network.
    """
    print(f"Locking {target.relative_to(TEMPLATE)}", flush=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--universal"),
            *("--generate-hashes", "--no-annotate", "--python-version", OLDEST),
            *("--custom-compile-command", "make lock", "--output-file", target),
            *(project, *options),
        ],
        cwd=project.parent,  # its pyproject.toml may name an index: docs/adapting.md
        check=True,
    )


def main() -> None:
    """Lock the template, then the service with the default answers, for Lambda and for Fargate."""
    lock(TEMPLATE / "pyproject.toml", TEMPLATE / "requirements-dev.txt", "--group", "dev")
    for compute, target in (
        ("lambda", SERVICE / "requirements.txt"),
        ("fargate", SERVICE / "requirements-fargate.txt"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            project = render(folder, compute)
            lock(project, target)
            if compute == "lambda":
                lock(project, SERVICE / "requirements-dev.txt", "--group", f"{project}:dev")


def render(folder: str, compute: str) -> Path:
    """Render the service into a folder; return its pyproject.toml, for all Python versions."""
    service = cookiecutter(
        str(TEMPLATE),
        no_input=True,
        default_config=True,
        output_dir=folder,
        extra_context={"compute": compute},
    )
    project = Path(service) / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(
        re.sub(r"(?m)^requires-python = .*$", f'requires-python = ">={OLDEST}"', text)
    )
    return project


if __name__ == "__main__":
    main()

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


def lock(folder: Path, target: Path, *source: str) -> None:
    """Resolve ``source``, in the folder of a pyproject.toml, into ``target``, with hashes.

    :raises subprocess.CalledProcessError: no solution satisfies the requirements, or no network.
    """
    print(f"Locking {target.relative_to(TEMPLATE)}", flush=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--universal"),
            *("--generate-hashes", "--no-annotate", "--python-version", OLDEST),
            *("--python", sys.executable),  # or uv looks for the oldest one, for seconds
            *("--custom-compile-command", "make lock", "--output-file", target),
            *source,
        ],
        cwd=folder,  # its pyproject.toml may name an index: docs/adapting.md
        check=True,
    )


def main() -> None:
    """Lock the template, then the service with the default answers, for Lambda and for Fargate."""
    whole, development = "pyproject.toml", SERVICE / "requirements-dev.txt"
    tested = ("--constraints", str(development))
    lock(TEMPLATE, TEMPLATE / "requirements-dev.txt", whole, "--group", "dev")
    with tempfile.TemporaryDirectory() as folder:
        service = render(folder, "lambda")
        lock(service, development, whole, "--group", "dev")
        lock(service, SERVICE / "requirements-deploy.txt", whole, "--group", "deploy", *tested)
        lock(service, SERVICE / "requirements.txt", whole, *tested)
        lock(service, SERVICE / "requirements-security.txt", "--group", "security")
    with tempfile.TemporaryDirectory() as folder:
        lock(render(folder, "fargate"), SERVICE / "requirements-fargate.txt", whole, *tested)


def render(folder: str, compute: str) -> Path:
    """Render the service into a folder, for all Python versions; return where it is."""
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
    return Path(service)


if __name__ == "__main__":
    main()

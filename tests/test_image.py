"""Fargate's container image, as far as that goes without a container engine.

The Dockerfile is linted and read; its build stage's commands are run in a clean folder, and the
worker is started as the image would: from the result alone, with nothing that can be written.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SERVICE, Render, run
from worker_process import SETTINGS, until

sys.path.insert(0, str(SERVICE))
from tools.local.server import local_aws

pytestmark = pytest.mark.slow

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
HADOLINT = Path(sys.executable).with_name("hadolint")


@dataclass(frozen=True)
class Stage:
    """A stage of a Dockerfile: its base image, and its instructions with their arguments."""

    base: str
    instructions: list[tuple[str, str]]

    def arguments(self, instruction: str) -> list[str]:
        return [text for name, text in self.instructions if name == instruction]


def stages(dockerfile: Path) -> list[Stage]:
    """Read a Dockerfile, as far as ours goes."""
    found: list[Stage] = []
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", "")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            instruction, _, arguments = line.partition(" ")
            if instruction == "FROM":
                found.append(Stage(arguments, []))
            else:
                found[-1].instructions.append((instruction, arguments))
    return found


@pytest.fixture(scope="module")
def service(render: Render) -> Path:
    return render(compute="fargate", python_version=VERSION)


def lint(dockerfile: Path) -> str:
    """Return what hadolint has to say."""
    done = subprocess.run([HADOLINT, dockerfile], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_hadolint_finds_nothing(service: Path) -> None:
    assert lint(service / "Dockerfile") == ""


def test_hadolint_finds_what_is_wrong(service: Path, tmp_path: Path) -> None:
    text = (service / "Dockerfile").read_text(encoding="utf-8")
    wrong = tmp_path / "Dockerfile"
    for right, bad, rule in (
        (f":{VERSION}-slim-bookworm\n", ":latest\n", "DL3007"),
        ('["python", "worker.py"]', "python worker.py", "DL3025"),
        ("WORKDIR /app\n", "WORKDIR app\n", "DL3000"),
    ):
        assert right in text
        wrong.write_text(text.replace(right, bad), encoding="utf-8")
        assert rule in lint(wrong)


def test_the_image_is_as_small_and_as_locked_as_can_be(service: Path) -> None:
    build, final = stages(service / "Dockerfile")
    assert build.base == f"--platform=$BUILDPLATFORM python:{VERSION}-slim-bookworm AS build"
    assert final.base == f"python:{VERSION}-slim-bookworm"
    # A command would need an emulator, where the image is for another processor.
    assert final.arguments("RUN") == []
    user, group = final.arguments("USER")[0].split(":")
    assert int(user) > 0
    assert int(group) > 0
    # Only the package gets in.
    ignored = (service / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in ignored if line and line[0] != "#"] == ["*", "!dist/lambda.zip"]
    assert [x.split()[0] for x in build.arguments("COPY")] == ["dist/lambda.zip"]


def test_the_worker_starts_from_what_the_build_stage_makes(service: Path, tmp_path: Path) -> None:
    build, final = stages(service / "Dockerfile")
    package = service / "dist" / "lambda.zip"
    run(
        *(sys.executable, "scripts/package.py", "--platform", "host", "--architecture", "arm64"),
        *("--python-version", VERSION, "--output", package),
        *("handler.py", "worker.py", "order_events"),
        cwd=service,
    )

    # The build stage, with / in the test's folder.
    root = tmp_path / "root"
    for name in ("app", "tmp"):
        (root / name).mkdir(parents=True)

    def inside(text: str) -> str:
        words = [f"{root}{word}" if word.startswith("/") else word for word in shlex.split(text)]
        return shlex.join(words).replace("'&&'", "&&")

    for instruction, arguments in build.instructions:
        if instruction == "COPY":
            source, target = arguments.split()
            run("cp", service / source, f"{root}{target}", cwd=service)
        elif instruction == "RUN":
            python = root / "bin"
            python.mkdir()
            (python / "python").symlink_to(sys.executable)
            path = f"{python}:{os.environ['PATH']}"
            run("sh", "-euc", inside(arguments), cwd=root / "app", PATH=path)
    app = root / "app"
    before = sorted(app.rglob("*"))
    assert {"worker.py", "handler.py", "boto3", "msgspec"} <= {path.name for path in before}
    assert not [path for path in before if path.stat().st_mode & 0o222]
    assert all(path.stat().st_mode & 0o004 for path in before)

    # A Python with nothing but its standard library, as in the base image.
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    (tmp_path / "tmp").mkdir()
    environment = dict(pair.split("=", 1) for pair in final.arguments("ENV")[0].split())
    entrypoint = json.loads(final.arguments("ENTRYPOINT")[0])
    assert entrypoint[0] == "python"
    with local_aws("eu-central-1") as aws:
        url = aws.client("sqs").create_queue(QueueName="queue")["QueueUrl"]
        sample = json.loads((service / "events" / "one_message.json").read_text(encoding="utf-8"))
        aws.client("sqs").send_message(
            QueueUrl=url,
            MessageBody=sample["Records"][0]["body"],
            MessageAttributes={
                "event_type": {"DataType": "String", "StringValue": "order.created"}
            },
        )
        settings = {**SETTINGS, "QUEUE_URL": url, "TMPDIR": str(tmp_path / "tmp")}
        del settings["PYTHONUNBUFFERED"]
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [tmp_path / "venv" / "bin" / "python", *entrypoint[1:]],
                cwd=app,
                env={**os.environ, **settings, **environment},
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: "Message processed" in log.read_text(), "it processed nothing")
            process.terminate()
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert sorted(app.rglob("*")) == before

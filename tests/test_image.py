"""Fargate's container image, as far as that goes without a container engine.

The Dockerfile is linted and read; its build stage's commands are run in a clean folder, and the
worker is started as the image would: from the result alone, with nothing that can be written.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from conftest import SERVICE, Render, run
from worker_process import SETTINGS, until

sys.path.insert(0, str(SERVICE))
from tools.build import image
from tools.local.server import local_aws

pytestmark = pytest.mark.slow

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# What stands in for Docker: it writes down what it is told, and buildx writes an image.
DOCKER = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
*"inspect oci-images") exit 1 ;;
*"build --builder"*)
	[ -z "$FAILS" ] || exit 1
	echo "an image, $SOURCE_DATE_EPOCH" > dist/.cache/image.tar ;;
esac
"""
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


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty service on a machine with Docker; return Docker's log."""
    monkeypatch.chdir(tmp_path)
    for name in ("Dockerfile", ".dockerignore", "dist/lambda.zip", "bin/docker"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(DOCKER)
        os.utime(name, (1e9, 1e9))
    Path("bin/docker").chmod(0o755)
    image.CACHE.mkdir()
    monkeypatch.setattr(image, "build", lambda: Path("dist/lambda.zip"))
    monkeypatch.setattr(image, "project", lambda: mock.Mock(architecture="x86_64"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", f"{tmp_path}/log")
    return tmp_path / "log"


def test_an_image_is_built_once(docker: Path) -> None:
    assert image.build_image() == Path("dist/image.tar")
    assert image.IMAGE.read_text() == "an image, 0\n"
    *asked, build = docker.read_text().splitlines()
    said = [" ".join(line.split()[:2]) for line in asked]
    assert said == ["buildx version", "info", "buildx inspect", "buildx create"]
    assert "--provenance=false --platform linux/amd64 --output type=oci," in build
    # Nothing is newer than the image, then the package is.
    docker.unlink()
    image.build_image()
    assert not docker.exists()
    os.utime("dist/lambda.zip")
    os.utime("dist/image.tar", (1e9, 1e9))
    image.build_image()
    assert "buildx build" in docker.read_text()


def test_a_failed_build_leaves_the_image_as_it_was(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.build_image()
    os.utime("dist/image.tar", (0, 0))
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(image.ToolError, match="Docker could not build the image: see above"):
        image.build_image()
    assert image.IMAGE.stat().st_mtime == 0


@pytest.mark.parametrize("there", [False, True], ids=["no docker", "no buildx"])
def test_docker_with_buildx_is_needed(
    docker: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        Path("bin/docker").write_text("#!/bin/sh\nexit 1\n")
    else:
        monkeypatch.setenv("PATH", str(docker.parent))
    with pytest.raises(image.ToolError, match="Docker with buildx is missing: install it"):
        image.build_image()


def test_the_worker_starts_from_what_the_build_stage_makes(service: Path, tmp_path: Path) -> None:
    build, final = stages(service / "Dockerfile")
    code = "from tools.build.package import build; build('host').replace('dist/lambda.zip')"
    run(sys.executable, "-B", "-c", code, cwd=service)

    # The build stage, with / in the test's folder.
    root = tmp_path / "root"
    for name in ("app", "tmp"):
        (root / name).mkdir(parents=True)

    def inside(text: str) -> str:
        return re.sub(r"/(?=(tmp|app)\b)", f"{root}/", text)

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
        message = {
            "QueueUrl": url,
            "MessageBody": (service / "events" / "order.created.json").read_text(encoding="utf-8"),
            "MessageAttributes": {
                "event_type": {"DataType": "String", "StringValue": "order.created"}
            },
        }
        aws.client("sqs").send_message(**message)
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
            aws.client("sqs").send_message(**message)  # ends the wait for messages, 20 s
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert sorted(app.rglob("*")) == before

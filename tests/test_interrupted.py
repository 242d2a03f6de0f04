"""Ctrl-C, `kill` and `kill -9` at work: nothing half, no process, server or lock is left, and the
next run works.

Each test holds the command at a known point, by a package index or an AWS that does not answer,
sends the signal there, and looks at what is left.
"""

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, TEMPLATE, Render, lend_environment, need
from moto.core.responses import BaseResponse

# The template's folder stays clean: what lies in it is rendered.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SERVICE))
from tools.local.server import LocalAws, local_aws  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are in /proc"),
]

REGION = "eu-central-1"
BUCKET = "my-company-terraform-state"
# Seconds. It is never waited for unless something is wrong.
LONG = 180


def ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """Do as a terminal does: SIGINT to make and all below it."""
    os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Do as `kill` and supervisors do: SIGTERM to make alone."""
    process.terminate()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Do as `timeout` and systemd do: SIGTERM to make and all below it."""
    os.killpg(process.pid, signal.SIGTERM)


def kill_9(process: subprocess.Popen[bytes]) -> None:
    """Do as the kernel and impatient people do: SIGKILL to make and all below it."""
    os.killpg(process.pid, signal.SIGKILL)


Way = Callable[[subprocess.Popen[bytes]], None]


def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {LONG} s"
        time.sleep(0.05)


@dataclass
class Checkout:
    """A folder with a Makefile, and what is started in it."""

    folder: Path
    temporary: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.settings, "TMPDIR": str(self.temporary), **more}

    def make(self, *arguments: str) -> str:
        """Run a target that must succeed; return what it printed."""
        code, text = self._run(*arguments)
        assert code == 0, f"make {' '.join(arguments)}:\n{text}"
        return text

    def refused(self, *arguments: str) -> str:
        """Run a target that must fail; return what it printed."""
        code, text = self._run(*arguments)
        assert code != 0, f"make {' '.join(arguments)} was not refused:\n{text}"
        return text

    def _run(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def interrupt(
        self, way: Way, reached: Callable[[str], Any], *arguments: str, **more: str
    ) -> str:
        """Start a target, interrupt it at a point, and wait until all that it started has gone.

        :param reached: tells from what was printed so far whether the point is reached.
        :param more: variables to add to the environment.
        :returns: what was printed.
        """
        log = self.temporary.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["make", "--no-print-directory", *arguments],
                cwd=self.folder,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Tests that run in the background have it ignored, and so would all below them.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

        def there() -> bool:
            assert process.poll() is None, f"it ended too early:\n{log.read_text()}"
            return bool(reached(log.read_text()))

        try:
            eventually(there, f"make {' '.join(arguments)}: the point where to interrupt it")
            way(process)
            process.wait(LONG)
            assert process.returncode, log.read_text()
            eventually(lambda: not self.left(), f"the end of {self.left()}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return log.read_text()

    def left(self) -> list[str]:
        """Return the processes that were started here, or work in a folder that was made here."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                marked = mark in (process / "environ").read_bytes().split(b"\0")
                within = (process / "cwd").readlink().is_relative_to(self.temporary)
                if marked or within:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended, or is another user's
        return found


@contextmanager
def silent_index() -> Iterator[tuple[threading.Event, dict[str, str]]]:
    """Run a package index that takes connections and never answers.

    :returns: an event that is set as soon as somebody has come, and the variables that lead pip and
        uv there, with empty caches.
    """
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return
                came.set()

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        yield (
            came,
            {
                **{name: "" for name in os.environ if name.startswith(("UV_", "PIP_"))},
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": url,
                "PIP_NO_CACHE_DIR": "1",
                "UV_NO_CONFIG": "1",
                "UV_DEFAULT_INDEX": url,
                "UV_NO_CACHE": "1",
            },
        )
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


@pytest.fixture(scope="module")
def source(render: Render) -> Path:
    need("make")
    return render(
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        python_version="{}.{}".format(*sys.version_info),
        architecture="arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64",
    )


@pytest.fixture(scope="module")
def fresh(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return the service as it is rendered."""
    base = tmp_path_factory.mktemp("interrupted")
    (base / "tmp").mkdir()
    return Checkout(Path(shutil.copytree(source, base / source.name)), base / "tmp")


@pytest.fixture(scope="module")
def checkout(fresh: Checkout) -> Checkout:
    """Return it installed and packaged."""
    fresh.make("install", "package")
    return fresh


def test_install(fresh: Checkout, request: pytest.FixtureRequest) -> None:
    for way in (ctrl_c, kill):
        with silent_index() as (came, settings):
            fresh.interrupt(way, lambda _, came=came: came.is_set(), "install", **settings)
        assert not (fresh.folder / ".venv" / "installed").exists()
    request.getfixturevalue("checkout")  # which installs in the same folder


@pytest.mark.parametrize("way", [ctrl_c, kill, kill_9])
def test_package(checkout: Checkout, way: Way) -> None:
    package, cache = checkout.folder / "dist" / "lambda.zip", checkout.folder / "dist" / ".cache"
    before = package.read_bytes()
    for dependencies in cache.glob("lambda.zip.*"):
        dependencies.unlink()
    service = checkout.folder / "order_events" / "service.py"
    service.write_text(f"{service.read_text()}# {way.__name__}\n")
    with silent_index() as (came, settings):
        checkout.interrupt(way, lambda _: came.is_set(), "package", **settings)
    assert package.read_bytes() == before
    checkout.make("package")
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        assert archive.read("order_events/service.py") == service.read_bytes()
    assert not list(cache.glob("build-*"))


class Held:
    """An AWS that does not answer one action of Terraform's, as long as it is held."""

    def __init__(self, patch: pytest.MonkeyPatch, action: str) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()
        original = BaseResponse.call_action

        def call_action(response: BaseResponse) -> Any:
            terraform = "Terraform" in response.headers.get("User-Agent", "")
            if terraform and response._get_action() == action and not self.over.is_set():
                self.reached.set()
                self.over.wait(LONG)
                return 503, {}, ""
            return original(response)

        patch.setattr(BaseResponse, "call_action", call_action)


@contextmanager
def held(action: str) -> Iterator[Callable[[str], bool]]:
    """Hold an action; yields what tells whether Terraform asked for it."""
    with pytest.MonkeyPatch.context() as patch:
        hold = Held(patch, action)
        try:
            yield lambda _: hold.reached.is_set()
        finally:
            hold.over.set()


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    need("terraform")
    with local_aws(REGION) as running:
        place = {"LocationConstraint": REGION}
        running.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        running.client("sns").create_topic(Name="events-dev")
        yield running


def lock(aws: LocalAws) -> list[str]:
    """Return the locks in the state's bucket."""
    found = aws.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [item["Key"] for item in found if item["Key"].endswith(".tflock")]


@pytest.mark.parametrize("way", [ctrl_c, kill, kill_all, kill_9])
def test_plan(checkout: Checkout, aws: LocalAws, way: Way) -> None:
    with held("ListTopics") as reached:
        checkout.interrupt(way, lambda text: reached(text) and lock(aws), "plan")
        assert lock(aws) == []
    assert "There is no plan for dev" in checkout.refused("apply")


def test_a_plan_without_its_note_is_not_taken_for_one(checkout: Checkout, aws: LocalAws) -> None:
    programs = checkout.temporary / "bin"
    programs.mkdir()
    terraform = programs / "terraform"
    terraform.write_text(
        f'#!/bin/sh\ncase "$*" in *" show "*) echo held; exec sleep {LONG} ;; esac\n'
        f'exec {shutil.which("terraform")} "$@"\n'
    )
    terraform.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    checkout.interrupt(
        kill_9,
        lambda _: (checkout.folder / "dist" / "dev.tfplan.txt").exists(),
        "plan",
        PATH=path,
    )
    assert (checkout.folder / "dist" / "dev.tfplan").exists()
    assert "There is no plan for dev" in checkout.refused("apply")


def test_apply_and_pause(checkout: Checkout, aws: LocalAws) -> None:
    for way in (ctrl_c, kill_9):
        checkout.make("plan")
        with held("CreateQueue") as reached:
            # One request at a time: what AWS is making at that moment, Terraform can't know of.
            one = {"TF_CLI_ARGS_apply": "-parallelism=1"}
            text = checkout.interrupt(way, reached, "apply", **one)
            assert lock(aws) == [], text
    checkout.make("plan")
    checkout.make("apply")
    checkout.make("plan")
    summary = (checkout.folder / "dist" / "plan-dev.md").read_text()
    assert "**Nothing changes.**" in summary

    (checkout.folder / "dist" / "dev.tfplan").unlink()
    settings = checkout.folder / "terraform" / "environments" / "dev.tfvars"
    before = settings.read_text()
    with held("UpdateEventSourceMapping") as reached:
        checkout.interrupt(ctrl_c, reached, "pause")
    assert lock(aws) == []
    assert settings.read_text() == before
    assert "There is no plan for dev" in checkout.refused("apply")
    checkout.make("pause")
    assert "\npaused = true\n" in settings.read_text()


@pytest.mark.parametrize("way", [ctrl_c, kill_9])
def test_end_to_end(checkout: Checkout, way: Way) -> None:
    need("terraform")
    text = checkout.interrupt(way, lambda text: "terraform apply in workspace" in text, "e2e")
    (port,) = re.findall(r"local AWS for .* at http://127\.0\.0\.1:(\d+);", text)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
    if way is not kill_9:
        assert not list(checkout.temporary.glob("e2e-*"))


def test_demo(tmp_path: Path) -> None:
    need("git")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TEMPLATE, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        copy = tmp_path / "template" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TEMPLATE / name, copy)
    lend_environment(tmp_path / "template")
    (tmp_path / "tmp").mkdir()
    template = Checkout(tmp_path / "template", tmp_path / "tmp")
    for way in (ctrl_c, kill):
        with silent_index() as (came, settings):
            text = template.interrupt(way, lambda _, came=came: came.is_set(), "demo", **settings)
        assert "2. Installing" in text

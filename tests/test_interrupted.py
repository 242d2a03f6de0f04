"""Ctrl-C, `kill` and `kill -9` at work: nothing half, no process and no server is left, and the
next run works.

Each test holds the command at a known point, by a package index that does not answer, sends the
signal there, and looks at what is left.
"""

import errno
import os
import re
import shutil
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import (
    HOST,
    TEMPLATE,
    Render,
    lend_bytecode,
    lend_environment,
    need,
    need_provider,
)
from interrupting import (
    BUCKET,
    NEEDS_PROC,
    REGION,
    Checkout,
    Way,
    ctrl_c,
    eventually,
    kill,
    kill_9,
)

pytestmark = [pytest.mark.slow, NEEDS_PROC]


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
def fresh(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return the service as it is rendered."""
    need("make")
    source = render(
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        **HOST,
    )
    base = tmp_path_factory.mktemp("interrupted")
    (base / "tmp").mkdir()
    return Checkout(Path(shutil.copytree(source, base / source.name)), base / "tmp")


@pytest.fixture(scope="module")
def checkout(fresh: Checkout) -> Checkout:
    """Return it installed and packaged."""
    fresh.make("install")
    lend_bytecode(fresh.folder)
    fresh.make("package")
    return fresh


def test_install(fresh: Checkout, request: pytest.FixtureRequest) -> None:
    """Test `kill`, which make passes on; test_demo tests Ctrl-C as well."""
    with silent_index() as (came, settings):
        fresh.interrupt(kill, lambda _: came.is_set(), "install", **settings)
    assert not (fresh.folder / ".venv" / "requirements-dev.txt").exists()
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


def is_free(port: int) -> bool:
    """Tell whether nobody listens: a killed process may be gone before its sockets are closed."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@pytest.mark.parametrize("way", [ctrl_c, kill_9])
def test_end_to_end(checkout: Checkout, way: Way) -> None:
    need_provider(checkout.folder)
    text = checkout.interrupt(way, lambda text: "terraform apply in workspace" in text, "e2e")
    (port,) = re.findall(r"local AWS for .* at http://127\.0\.0\.1:(\d+)", text)
    eventually(lambda: is_free(int(port)), f"the end of the server at port {port}")
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
        environment = template.folder / "build" / "demo" / "order-events" / ".venv"
        assert environment.is_dir()
        assert not (environment / "requirements-dev.txt").exists()

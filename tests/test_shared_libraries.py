"""A fork with a company's library and layer, made as docs/adapting.md says."""

import hashlib
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import HOST, SERVICE, TEMPLATE, need, run

pytestmark = pytest.mark.slow

WHEEL = "shop_events-1.0.0-py3-none-any.whl"


def documented() -> list[str]:
    """Return the edits that docs/adapting.md shows: dependency, index, layers."""
    page = (TEMPLATE / "docs" / "adapting.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("## Shared libraries and layers\n")
    section, _, _ = rest.partition("\n## ")
    return re.findall(r"(?ms)^```(?:toml|hcl)\n(.*?)^```$", section)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, without an access log."""

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """Serve the company's package index, which has one library; return its address."""
    folder = tmp_path / "index" / "simple" / "shop-events"
    folder.mkdir(parents=True)
    info = "shop_events-1.0.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("shop_events/__init__.py", 'TOPIC = "orders"\n')
        wheel.writestr("shop_events/py.typed", "")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: shop-events\nVersion: 1.0.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()
    page = f'<a href="{WHEEL}#sha256={digest}">{WHEEL}</a>'
    (folder / "index.html").write_text(page, encoding="utf-8")
    handler = partial(Quiet, directory=str(tmp_path / "index"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


@pytest.fixture
def fork(tmp_path: Path, index: str) -> Path:
    """Fork the template and make the documented edits; only the index's address is another."""
    fork = tmp_path / "fork"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE)
    for name in listed.stdout.splitlines():
        if (TEMPLATE / name).is_file():
            (fork / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, fork / name)
    dependency, source, layers = documented()
    source = source.replace("https://packages.example.com/simple", index)
    for path, place in (
        (fork / SERVICE.name / "pyproject.toml", "dependencies = [\n"),
        (fork / "pyproject.toml", "dev = [\n"),
    ):
        text = path.read_text(encoding="utf-8")
        assert place in text
        path.write_text(f"{text.replace(place, place + dependency, 1)}\n{source}", encoding="utf-8")
    variables = fork / SERVICE.name / "terraform" / "variables.tf"
    text, count = re.subn(
        r'(variable "layers" \{\n(?:.*\n)*?)  default +=.*\n',
        lambda found: found[1] + layers,
        variables.read_text(encoding="utf-8"),
        count=1,
    )
    assert count == 1
    variables.write_text(text, encoding="utf-8")
    # `make lock` would also look for newer versions of all else, and this test is not about them.
    script = fork / "scripts" / "lock.py"
    text = script.read_text(encoding="utf-8")
    assert text.count(' "--upgrade",') == 1
    script.write_text(text.replace(' "--upgrade",', ""), encoding="utf-8")
    run(sys.executable, "scripts/lock.py", cwd=fork)
    return fork


def test_a_company_library_and_layer_are_in_every_service(fork: Path, tmp_path: Path) -> None:
    need("make")
    options = ("--no-input", "--default-config", "--output-dir", tmp_path)
    this = f"python_version={HOST['python_version']}"
    run(sys.executable, "-m", "cookiecutter", *options, fork, this, cwd=tmp_path)
    service = tmp_path / "order-events"
    run("make", "install", "package", cwd=service)
    run(".venv/bin/python", "-c", "import shop_events", cwd=service)

    packaged = tmp_path / "packaged"
    with zipfile.ZipFile(service / "dist" / "lambda.zip") as package:
        package.extractall(packaged)
    line = "import shop_events; print(shop_events.TOPIC, shop_events.__file__)"
    said = run(sys.executable, "-c", line, cwd=tmp_path, PYTHONPATH=str(packaged)).stdout
    assert said.startswith(f"orders {packaged}")

    variables = (service / "terraform" / "variables.tf").read_text(encoding="utf-8")
    assert ":layer:otel:1" in variables.partition('variable "layers"')[2].partition("\n}\n")[0]
    need("terraform")
    run("terraform", "fmt", "-check", "-recursive", "terraform", cwd=service)
    # The fork's own lock has the library too, since its tests compare the two.
    for lock in ("requirements-dev.txt", f"{SERVICE.name}/requirements-fargate.txt"):
        assert "\nshop-events==1.0.0" in (fork / lock).read_text(encoding="utf-8")

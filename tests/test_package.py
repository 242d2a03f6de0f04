"""tools/build of the rendered service: what is in the package, and what can go wrong.

Most tests build a tiny service whose dependencies are tiny wheels in a folder, so they need no
network; the slow ones build the default service from the package index.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import cache_from_source
from marshal import loads
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import SERVICE, Render
from tools.__main__ import main
from tools.build import dependencies, package, sbom
from tools.deploy import lock
from tools.errors import ToolError
from tools.local.runtime import Runtime
from tools.project import project

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_VERSION = "3.13" if VERSION == "3.12" else "3.12"
TAG = sys.implementation.cache_tag  # cpython-313

# name -> (tag, files). Those with boto3's names are as small as the others.
WHEELS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "tiny": [
        (
            "py3-none-any",
            {
                "tiny/__init__.py": "from tiny.part import VALUE\n",
                "tiny/part.py": "VALUE = 1\n",
                "tiny/unused.py": "VALUE = 2\n",
                "tiny/broken.py": "print 'Python 2'\n",
                "tiny/py.typed": "",
                "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
            },
        )
    ],
    "native": [
        (
            f"cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-manylinux_2_17_{processor}",
            {
                "native/__init__.py": "",
                f"native/_it.{TAG}-{processor}-linux-gnu.so": f"for {processor}",
            },
        )
        for processor in ("aarch64", "x86_64")
    ],
    "maconly": [("py3-none-macosx_11_0_arm64", {"maconly.py": ""})],
    **{
        name: [("py3-none-any", {f"{name}/__init__.py": ""})]
        for name in ("boto3", "botocore", "s3transfer")
    },
    "usesboto3": [("py3-none-any", {"usesboto3.py": "import boto3\n"})],
    "pinsboto3": [("py3-none-any", {"pinsboto3.py": "import boto3\n"})],
    "limitsbotocore": [("py3-none-any", {"limitsbotocore.py": "import botocore\n"})],
    "extraboto3": [("py3-none-any", {"extraboto3.py": ""})],
    "oldboto3": [("py3-none-any", {"oldboto3.py": "import boto3\n"})],
    **{
        name: [("py3-none-any", {f"{name}.py": "", "shared/__init__.py": f"OF = '{name}'\n"})]
        for name in ("alpha", "beta", "gamma")
    },
}
NEEDS = {
    "boto3": ["botocore", "s3transfer"],
    "usesboto3": ["boto3"],
    "pinsboto3": ["boto3==1.0"],
    "limitsbotocore": ["botocore<1.40"],
    "extraboto3": ["boto3>=0.9,<1.5; extra == 'aws'"],
    "oldboto3": ["boto3>=0.9,<2"],
}

HANDLER = "import own.part\n\ndef handler(event, context):\n    return own.part.VALUE\n"


def write_wheel(
    folder: Path, name: str, tag: str, files: dict[str, str], version: str = "1.0"
) -> Path:
    """Write a wheel into a folder."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {other}\n" for other in NEEDS.get(name, []))
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(
        f"{path},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}\n"
        for path, text in files.items()
    )
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder of wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, variants in WHEELS.items():
        for tag, files in variants:
            write_wheel(folder, name, tag, files)
    return folder


class Service:
    """A tiny service in a folder, and how its package is built."""

    def __init__(self, folder: Path, wheels: Path, cache: Path) -> None:
        self.folder = folder
        self.wheels = wheels
        self.cache = cache
        self.output = folder / "dist" / "lambda.zip"
        if folder.exists():  # a copy of one
            return
        for name in ("own", "terraform/environments"):
            (folder / name).mkdir(parents=True)
        for environment in ("dev", "prod"):
            self.write(f"terraform/environments/{environment}.tfvars", "")
        self.write(".python-version", f"{VERSION}\n")
        self.write("handler.py", HANDLER)
        self.write("own/__init__.py", "")
        self.write("own/part.py", "from tiny import VALUE\n")
        self.depend_on("tiny")

    def write(self, name: str, text: str) -> None:
        """Write a file of the service."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def depend_on(
        self, *names: str, locked: str = "", own: str = "own", architecture: str = "arm64"
    ) -> None:
        """Write pyproject.toml and the lock file, which holds dependencies and what they need."""
        self.write(
            "pyproject.toml",
            f'[project]\nname = "tiny-service"\nversion = "0"\ndependencies = {json.dumps(names)}\n'
            f'[tool.cookiecutter-lambda-python]\npackage = "{own}"\nservice_path = "."\n'
            f'architecture = "{architecture}"\n',
        )
        todo, lines = list(names), []
        while todo:
            name = re.split(r"\W", todo.pop())[0]
            todo += [re.split(r"\W", need)[0] for need in NEEDS.get(name, [])]
            hashes = [
                f" --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
                for wheel in sorted(self.wheels.glob(f"{name.lower()}-*"))
            ]
            lines.append(f"{name}==1.0{''.join(hashes)}\n")
        self.write("requirements.txt", locked or "".join(sorted(set(lines))))

    def environment(self, **more: str | None) -> dict[str, str]:
        """Return the environment variables of a build; one that is None is left out."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("UV_")},
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(SERVICE),
            "UV_CACHE_DIR": str(self.cache),
            "UV_FIND_LINKS": str(self.wheels),
            "UV_HTTP_RETRIES": "0",
            "UV_NO_CONFIG": "1",
            # An index without packages: uv heeds no variable that takes the index away.
            "UV_DEFAULT_INDEX": self.wheels.as_uri(),
            **more,
        }
        return {name: value for name, value in environment.items() if value is not None}

    def start(self, **settings: Any) -> subprocess.Popen[str]:
        """Start a build in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tools", "package"],
            cwd=self.folder,
            env=self.environment(**settings.pop("environment", {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )

    def run(self, *command: str, **environment: str | None) -> tuple[int, str, str]:
        """Run a command of tools in this process; return its exit code, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        handler = signal.getsignal(signal.SIGTERM)
        with self.here(**environment), contextlib.redirect_stdout(out):
            try:
                with contextlib.redirect_stderr(err):
                    code = main(list(command))
            finally:
                signal.signal(signal.SIGTERM, handler)
        return code, out.getvalue(), err.getvalue()

    @contextlib.contextmanager
    def here(self, **environment: str | None) -> Iterator[None]:
        """Make this process stand in the service's folder."""
        project.cache_clear()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment(**environment), clear=True),
        ):
            yield
        project.cache_clear()

    def build(self, **environment: str | None) -> str:
        """Build; return what was printed."""
        code, out, err = self.run("package", **environment)
        assert code == 0, out + err
        return out

    def refuse(self, **environment: str | None) -> str:
        """Build, which must fail; return the one message."""
        code, _, err = self.run("package", **environment)
        assert code == 1, err
        (message,) = err.splitlines()
        return message

    def files(self) -> dict[str, bytes]:
        """Return name -> content of the package."""
        with zipfile.ZipFile(self.output) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Service:
    """Make a tiny service and its package, for tests that only look at them."""
    folder = tmp_path_factory.mktemp("built")
    service = Service(folder / "service", wheels, folder / "cache")
    assert "is up to date" in service.build()
    return service


@pytest.fixture
def service(built: Service, tmp_path: Path) -> Service:
    """Copy the tiny service with its package into a folder of the test's own."""
    shutil.copytree(built.folder, tmp_path / "service")
    return Service(tmp_path / "service", built.wheels, built.cache)


def without_bytecode(names: Any) -> set[str]:
    return {name for name in names if not name.endswith(".pyc")}


# ---- what is in the package -----------------------------------------------------------------


def test_it_holds_the_service_and_its_dependencies_and_nothing_else(built: Service) -> None:
    assert without_bytecode(built.files()) == {
        "handler.py",
        "own/__init__.py",
        "own/part.py",
        "tiny/__init__.py",
        "tiny/broken.py",
        "tiny/part.py",
        "tiny/py.typed",
        "tiny/unused.py",
        "tiny-1.0.dist-info/METADATA",
        "tiny-1.0.dist-info/RECORD",
        "tiny-1.0.dist-info/WHEEL",
        "tiny-1.0.dist-info/entry_points.txt",
    }


def test_its_entries_tell_nothing_of_who_made_them(built: Service) -> None:
    with zipfile.ZipFile(built.output) as archive:
        entries = archive.infolist()
        assert archive.comment == b""
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.create_system for entry in entries} == {3}
    assert {oct(entry.external_attr >> 16) for entry in entries} == {"0o100644"}
    names = [entry.filename for entry in entries]
    dependencies = [name for name in names if name.startswith("tiny")]
    bytecode = {name for name in dependencies if "__pycache__" in name}
    own = set(names) - set(dependencies)
    parts = (set(dependencies) - bytecode, bytecode, own)
    assert [Path(name) for name in names] == [
        path for part in parts for path in sorted(map(Path, part))
    ]


def test_importlib_metadata_reads_it(built: Service) -> None:
    code = """
import sys
from importlib.metadata import distribution
sys.path.insert(0, sys.argv[1])
it = distribution("tiny")
print(it.version, len(it.entry_points), *sorted(str(file) for file in it.files))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, built.output],
        capture_output=True,
        text=True,
    )
    # `files` are those that the package has: no script, none of the installer's records.
    dependency = {name for name in without_bytecode(built.files()) if name.startswith("tiny")}
    assert done.stdout.split() == ["1.0", "1", *sorted(dependency)], done.stderr
    record = built.files()["tiny-1.0.dist-info/RECORD"].decode().splitlines()
    assert {line.split(",")[0] for line in record} == dependency


def test_every_module_has_bytecode_without_a_path_or_time_of_this_machine(built: Service) -> None:
    files = built.files()
    compiled = {name: data for name, data in files.items() if name.endswith(".pyc")}
    # Libraries have modules for other Pythons: those stay as they are.
    sources = {name for name in files if name.endswith(".py")} - {"tiny/broken.py"}
    assert len(sources) == 6
    assert compiled.keys() == {cache_from_source(name) for name in sources}
    for name in sources:
        data = compiled[cache_from_source(name)]
        assert struct.unpack("<I", data[4:8]) == (0b01,)  # PEP 552: a hash, never compared
        assert loads(data[16:]).co_filename == f"/var/task/{name}"


def test_the_packaged_handler_runs_from_its_bytecode(built: Service, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.output) as archive:
        archive.extractall(tmp_path)
    for source in tmp_path.rglob("*.py"):
        source.write_text("raise SystemExit('the source was read')")
    done = subprocess.run(
        [sys.executable, "-c", "import handler; print(handler.handler({}, None))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(
    ("dependencies", "packed"),
    [
        (["usesboto3"], set()),
        (["oldboto3"], set()),
        (["extraboto3"], set()),
        (["usesboto3", "boto3>=1"], {"boto3", "botocore", "s3transfer"}),
        (["Botocore"], {"botocore"}),
        (["S3Transfer==1.0"], {"s3transfer"}),
        (["pinsboto3"], {"boto3", "botocore", "s3transfer"}),
        (["limitsbotocore"], {"botocore"}),
        (["extraboto3[aws]"], {"boto3", "botocore", "s3transfer"}),
    ],
    ids=[
        "any will do",
        "any of today will do",
        "an extra that is not asked for",
        "listed",
        "botocore is listed",
        "s3transfer is listed",
        "a dependency wants one version",
        "a dependency wants no newer one",
        "an extra",
    ],
)
def test_boto3_is_packed_where_that_of_the_runtime_may_not_do(
    service: Service, dependencies: list[str], packed: set[str]
) -> None:
    service.depend_on(*dependencies)
    service.write("own/part.py", "VALUE = 1\n")
    service.build()
    names = {name.split("/")[0] for name in service.files()}
    assert names & {"boto3", "botocore", "s3transfer"} == packed


def test_a_service_without_dependencies_is_packed(service: Service) -> None:
    service.depend_on()
    service.write("own/part.py", "VALUE = 1\n")
    service.build()
    assert without_bytecode(service.files()) == {"handler.py", "own/__init__.py", "own/part.py"}


@pytest.mark.parametrize(
    ("architecture", "processor"), [("arm64", "aarch64"), ("x86_64", "x86_64")]
)
def test_wheels_are_those_of_the_functions_processor(
    service: Service, architecture: str, processor: str
) -> None:
    service.depend_on("tiny", "native", architecture=architecture)
    service.build()
    libraries = {n: d for n, d in service.files().items() if n.endswith(".so")}
    assert libraries == {f"native/_it.{TAG}-{processor}-linux-gnu.so": f"for {processor}".encode()}


@pytest.mark.skipif(sys.platform != "linux", reason="the wheels here are for Linux")
def test_a_package_for_this_machine_has_its_wheels(service: Service) -> None:
    service.depend_on("native", "tiny", architecture="arm64")
    with service.here():
        service.output = service.folder / package.build("host")
    assert service.output.name == "lambda-host.zip"
    (library,) = (name for name in service.files() if name.endswith(".so"))
    assert f"-{platform.machine()}-" in library


@pytest.mark.parametrize(
    ("system", "machine", "architecture", "runnable"),
    [
        ("linux", "aarch64", "arm64", "lambda"),
        ("linux", "x86_64", "x86_64", "lambda"),
        ("linux", "x86_64", "arm64", "host"),
        ("darwin", "arm64", "arm64", "host"),
    ],
)
def test_a_machine_of_lambdas_kind_runs_lambdas_package(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, architecture: str, runnable: str
) -> None:
    monkeypatch.setattr(package.sys, "platform", system)
    monkeypatch.setattr(package.os, "uname", lambda: mock.Mock(machine=machine))
    monkeypatch.setattr(package, "project", lambda: mock.Mock(architecture=architecture))
    monkeypatch.setattr(package, "build", Path)
    assert str(package.runnable()) == runnable


# ---- the service's own files ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "order mail.txt",
        *(f"a{character}b.txt" for character in ";|:#$%&'\"\\*?[]()<>=~!,ü\t\n"),
        "-rf",
        "$(touch x)",
        "a mail.py",
    ],
)
def test_any_name_of_a_file_is_packed(service: Service, name: str) -> None:
    (service.folder / "own" / "my templates;").mkdir()
    service.write(f"own/my templates;/{name}", "1")
    service.write(f"own/{name}", "2")
    service.build()
    files = service.files()
    assert (files[f"own/my templates;/{name}"], files[f"own/{name}"]) == (b"1", b"2")


def test_what_an_editor_leaves_is_no_obstacle(service: Service) -> None:
    (service.folder / "own" / ".#part.py").symlink_to("me@machine.123:456")
    service.write("own/.part.py.swp", "")
    assert service.build() == "dist/lambda.zip is up to date.\n"


@pytest.mark.parametrize("git", ["folder", "file", "none"])
def test_what_is_linked_to_in_the_repository_is_packed(service: Service, git: str) -> None:
    root = service.folder
    if git != "none":  # the service is in a monorepo, or in a worktree of one
        root = service.folder.parent
        (root / ".git").mkdir() if git == "folder" else (root / ".git").write_text("gitdir: x")
    (root / "shared" / "common" / "deep").mkdir(parents=True)
    (root / "shared" / "common" / "__init__.py").write_text("")
    (root / "shared" / "common" / "deep" / "data.json").write_text("{}")
    up = os.path.relpath(root, service.folder / "own")
    (service.folder / "own" / "common").symlink_to(f"{up}/shared/common")
    (service.folder / "own" / "data.json").symlink_to(root / "shared/common/deep/data.json")
    # Twice the same is no loop.
    (service.folder / "own" / "again").symlink_to("common")
    service.build()
    packed = {name for name in without_bytecode(service.files()) if name.startswith("own/")}
    assert packed - {"own/__init__.py", "own/part.py"} == {
        "own/common/__init__.py",
        "own/common/deep/data.json",
        "own/again/__init__.py",
        "own/again/deep/data.json",
        "own/data.json",
    }
    (root / "shared" / "common" / "__init__.py").write_text("VALUE = 1\n")
    service.build()
    assert service.files()["own/common/__init__.py"] == b"VALUE = 1\n"


def test_the_package_itself_may_be_a_link(service: Service) -> None:
    before = service.files()
    (service.folder / "own").rename(service.folder / "src")
    (service.folder / "own").symlink_to("src")
    service.build()
    assert service.files() == before


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("../../outside", "a link to {parent}/outside, which is not in this repository"),
        ("../../outside/file", "a link to {parent}/outside/file, which is not in this repository"),
        ("/nowhere", "a link to what is not there"),
        ("odd", "a link to what is not there"),
        (".", "a link to {service}/own, which it is in itself"),
        ("..", "a link to {service}, which is not in this repository"),
    ],
    ids=["a folder outside", "a file outside", "broken", "to itself", "a loop", "a wider loop"],
)
def test_a_link_that_cannot_be_packed_is_named(service: Service, target: str, why: str) -> None:
    (service.folder.parent / "outside").mkdir()
    (service.folder.parent / "outside" / "file").write_text("")
    (service.folder / "own" / "odd").symlink_to(target)
    if target == "..":  # it goes through the package again
        why = "'own/odd/own' cannot be packed: it is a link to {service}/own, which it is in itself"
    said = why.format(parent=service.folder.parent, service=service.folder)
    assert said in service.refuse()


def test_what_is_no_file_is_named(service: Service) -> None:
    os.mkfifo(service.folder / "own" / "pipe")
    assert service.refuse() == "'own/pipe' cannot be packed: it is neither a file nor a folder."


def test_a_name_that_is_no_text_is_named(service: Service) -> None:
    try:
        (service.folder / "own" / os.fsdecode(b"\xff.txt")).write_text("")
    except OSError:
        pytest.skip("this file system has no such names")
    assert service.refuse() == r"'own/\udcff.txt' cannot be packed: its name must be UTF-8."


@pytest.mark.parametrize("what", ["own/secret", "own/secret/file.txt"])
def test_what_may_not_be_read_is_named(service: Service, what: str) -> None:
    (service.folder / "own" / "secret").mkdir()
    service.write("own/secret/file.txt", "")

    def refuse(call: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def called(path: Path) -> Any:  # root may read everything
            if path.as_posix() == what:
                raise PermissionError(13, "Permission denied", str(path))
            return call(path)

        return called

    with (
        mock.patch.object(Path, "iterdir", refuse(Path.iterdir)),
        mock.patch.object(Path, "read_bytes", refuse(Path.read_bytes)),
    ):
        assert service.refuse() == f"{what} cannot be packed: you may not read it."


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007, 0o177])
def test_what_is_executable_stays_so_whatever_the_umask(
    service: Service, tmp_path: Path, umask: int
) -> None:
    service.write("own/run.sh", "#!/bin/sh\necho it runs\n")
    (service.folder / "own" / "run.sh").chmod(0o700)
    (service.folder / "own" / "part.py").chmod(0o654)  # others' bits don't count
    before = os.umask(umask & 0o077)
    try:
        service.build()
    finally:
        os.umask(before)
    with zipfile.ZipFile(service.output) as archive:
        modes = {entry.filename: oct(entry.external_attr >> 16) for entry in archive.infolist()}
    assert modes.pop("own/run.sh") == "0o100755"
    assert set(modes.values()) == {"0o100644"}
    package.unpack(service.output, tmp_path / "task")
    done = subprocess.run([tmp_path / "task/own/run.sh"], capture_output=True, text=True)
    assert done.stdout == "it runs\n"
    modes = {path.name: oct(path.stat().st_mode) for path in (tmp_path / "task/own").glob("*.*")}
    assert modes == {"run.sh": "0o100555", "part.py": "0o100444", "__init__.py": "0o100444"}


RUNS_A_SCRIPT = """
import os, subprocess

def handler(event, context):
    said = subprocess.check_output(["own/run.sh"], text=True)
    return [said, os.access("own/run.sh", os.X_OK), os.access("own/data.sh", os.X_OK)]
"""


def test_the_packaged_code_may_execute_what_is_executable(service: Service) -> None:
    for name in ("run", "data"):
        service.write(f"own/{name}.sh", "#!/bin/sh\necho it runs\n")
    (service.folder / "own" / "run.sh").chmod(0o755)
    service.write("handler.py", RUNS_A_SCRIPT)
    service.build()
    with Runtime(service.output, environment={}) as runtime:
        invocation = runtime.invoke({})
    assert invocation.response == ["it runs\n", True, False], invocation


def test_the_image_has_the_packages_modes(service: Service, tmp_path: Path) -> None:
    service.write("own/run.sh", "#!/bin/sh\n")
    (service.folder / "own" / "run.sh").chmod(0o755)
    service.build()
    dockerfile = (SERVICE / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"(?m)^RUN (.*)$", dockerfile)
    for path in ("/tmp/lambda.zip", "/app"):
        assert path in command
    (tmp_path / "app").mkdir()
    command = command.replace("/tmp/lambda.zip", str(service.output))
    command = command.replace("/app", f"{tmp_path}/app")
    python = f'python() {{ "{sys.executable}" "$@"; }}; '
    subprocess.run(["sh", "-c", python + command], check=True)
    modes = {
        path.relative_to(tmp_path / "app").as_posix(): oct(path.stat().st_mode)
        for path in (tmp_path / "app").rglob("*")
    }
    assert modes["own"] == "0o40555"
    assert modes["own/run.sh"] == "0o100555"
    assert modes["own/part.py"] == modes["tiny/py.typed"] == "0o100444"


def test_a_change_of_the_x_bit_is_a_change(service: Service) -> None:
    (service.folder / "own" / "part.py").chmod(0o755)
    assert "SHA-256" in service.build()


# ---- the same bytes, and no work done twice -------------------------------------------------


def test_the_bytes_are_the_same_wherever_and_whoever_builds(
    built: Service, wheels: Path, tmp_path: Path
) -> None:
    other = Service(tmp_path / "a folder with ü and spaces", wheels, tmp_path / "other cache")
    for file in other.folder.rglob("*.py"):
        os.utime(file, (1e9, 1e9))
        file.chmod(0o600)
    environment = {
        "HOME": str(tmp_path / "home"),
        "LANG": "de_DE.UTF-8",
        "PYTHONHASHSEED": "7",
        "PYTHONOPTIMIZE": "2",
        "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode"),
        "SOURCE_DATE_EPOCH": "1700000000",
        "TZ": "Pacific/Auckland",
        "UV_COMPILE_BYTECODE": "1",
        "UV_LINK_MODE": "symlink",
        "UV_PYTHON": "/nowhere",
        "UV_SYSTEM_PYTHON": "1",
    }
    for temperature in ("cold", "warm"):
        shutil.rmtree(other.folder / "dist", ignore_errors=True)
        said = other.start(umask=0o077, environment=environment).communicate()
        assert other.output.read_bytes() == built.output.read_bytes(), (temperature, said)


def test_what_is_in_uv_toml_changes_no_byte(built: Service, wheels: Path, tmp_path: Path) -> None:
    other = Service(tmp_path / "service", wheels, tmp_path / "cache")
    (tmp_path / "uv.toml").write_text(
        f'find-links = ["{wheels}"]\nno-index = true\n'  # where packages come from is heeded
        '[pip]\nsystem = true\npython = "/nowhere"\ntarget = "elsewhere"\nlink-mode = "symlink"\n'
        'compile-bytecode = true\npython-version = "3.8"\npython-platform = "windows"\n'
    )
    for _ in range(2):  # what the first leaves in uv's cache is as good as what it found
        shutil.rmtree(other.folder / "dist", ignore_errors=True)
        other.build(
            UV_NO_CONFIG=None,
            UV_CONFIG_FILE=str(tmp_path / "uv.toml"),
            UV_FIND_LINKS=None,
            UV_DEFAULT_INDEX=None,
        )
        assert other.output.read_bytes() == built.output.read_bytes()
    assert not (other.folder / "elsewhere").exists()


def test_what_is_in_uv_toml_changes_no_lock(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "lock_providers", lambda upgrade: "")
    project = (service.folder / "pyproject.toml").read_text(encoding="utf-8")
    groups = "dev = []\ndeploy = []\nsecurity = []\n"
    project = project.replace("[tool", f'requires-python = "=={VERSION}.*"\n[tool', 1)
    service.write("pyproject.toml", f"{project}[dependency-groups]\n{groups}")
    assert service.run("lock")[0] == 0
    plain = (service.folder / "requirements.txt").read_text()
    assert "tiny==1.0" in plain
    (tmp_path / "uv.toml").write_text(
        '[pip]\nsystem = true\npython = "/nowhere"\nemit-index-url = true\nemit-find-links = true\n'
    )
    (service.folder / "requirements.txt").unlink()
    config = str(tmp_path / "uv.toml")
    assert service.run("lock", UV_NO_CONFIG=None, UV_CONFIG_FILE=config)[0] == 0
    assert (service.folder / "requirements.txt").read_text() == plain


def test_of_files_that_differ_the_last_by_name_wins_and_all_are_named(
    service: Service, tmp_path: Path
) -> None:
    service.depend_on("gamma", "alpha", "tiny", "beta")
    found = set()
    for number in range(3):
        shutil.rmtree(service.folder / "dist")
        said = service.build(UV_CACHE_DIR=str(tmp_path / str(number)))
        assert (
            "shared/__init__.py differs in alpha and beta and gamma: the package has that of gamma."
        ) in said
        files = service.files()
        assert files["shared/__init__.py"] == b"OF = 'gamma'\n"
        assert {"alpha.py", "beta.py", "gamma.py", "tiny/part.py"} <= files.keys()
        found.add(service.output.read_bytes())
    assert len(found) == 1


def test_what_was_killed_while_it_compiled_is_no_package(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = service.output.read_bytes()
    shutil.rmtree(service.output.parent / ".cache")
    killed = ["sh", "-c", "kill -9 $$"]
    with monkeypatch.context() as patch:
        patch.setattr(
            dependencies,
            "compile_all",
            lambda _: subprocess.Popen(killed, stdout=subprocess.PIPE, text=True),
        )
        assert service.refuse() == "The dependencies cannot be compiled: Python ended with -9."
        with pytest.raises(ToolError, match="code cannot be compiled: Python ended with -9"):
            dependencies.compile_own({}, service.folder)
    service.build()
    assert service.output.read_bytes() == before


def test_a_damaged_layer_is_made_again(service: Service) -> None:
    before = service.output.read_bytes()
    service.output.unlink()
    (layer,) = (service.output.parent / ".cache").glob(f"lambda.zip.{'?' * 64}.*")
    data = bytearray(layer.read_bytes())
    data[100] ^= 1
    layer.write_bytes(data)
    service.build()
    assert service.output.read_bytes() == before


def test_nothing_is_done_where_nothing_changed(service: Service) -> None:
    before, inode = service.output.read_bytes(), service.output.stat().st_ino
    assert service.build(UV_FIND_LINKS="/nowhere") == "dist/lambda.zip is up to date.\n"
    assert (service.output.read_bytes(), service.output.stat().st_ino) == (before, inode)


@pytest.mark.parametrize("damaged", ["lambda.zip", ".cache/lambda.zip.state"])
def test_a_damaged_package_is_built_again(service: Service, damaged: str) -> None:
    before = service.output.read_bytes()
    path = service.output.parent / damaged
    path.write_bytes(path.read_bytes()[:-1])
    service.build()
    assert service.output.read_bytes() == before


def test_a_change_of_own_code_changes_own_entries_only(service: Service) -> None:
    before = service.files()
    service.write("own/part.py", "from tiny import VALUE as TINY\nVALUE = TINY + 1\n")
    assert "Installing" not in service.build(UV_FIND_LINKS="/nowhere")
    after = service.files()
    assert {name for name in before if before[name] != after[name]} == {
        "own/part.py",
        cache_from_source("own/part.py"),
    }
    assert before.keys() == after.keys()


def test_of_the_dependencies_only_the_newest_are_kept(service: Service) -> None:
    def kept() -> list[Path]:
        return list((service.output.parent / ".cache").glob("lambda.zip.*"))

    assert len(kept()) == 2  # and what is known of the package
    service.depend_on("tiny", "native")
    service.build()
    assert len(kept()) == 2


def test_the_package_of_a_changed_service_is_as_if_built_from_scratch(service: Service) -> None:
    service.write("own/part.py", "from tiny.unused import VALUE\n")
    service.write("own/data.json", "{}")
    (service.folder / "own" / "new").mkdir()
    service.write("own/new/__init__.py", "")
    service.build()
    step_by_step = service.output.read_bytes()
    assert {"own/data.json", "own/new/__init__.py"} <= service.files().keys()
    shutil.rmtree(service.folder / "dist")
    service.build()
    assert service.output.read_bytes() == step_by_step


def test_what_no_one_wrote_stays_out(service: Service) -> None:
    (service.folder / "own" / "__pycache__").mkdir()
    service.write("own/__pycache__/part.pyc", "x")
    service.write("own/.DS_Store", "x")
    assert service.build() == "dist/lambda.zip is up to date.\n"


def test_the_bill_of_materials_is_the_packages(service: Service) -> None:
    code, out, _ = service.run("sbom")
    assert code == 0
    assert "dist/lambda.cdx.json: 1 components of dist/lambda.zip, CycloneDX 1.6" in out
    bill = json.loads((service.folder / "dist" / "lambda.cdx.json").read_text(encoding="utf-8"))
    assert bill == sbom.bill_of_materials("tiny-service", service.output)
    assert [component["purl"] for component in bill["components"]] == ["pkg:pypi/tiny@1.0"]


# ---- what it says ---------------------------------------------------------------------------


def test_it_ends_with_size_files_hash_and_the_share_of_the_limits(service: Service) -> None:
    shutil.rmtree(service.folder / "dist")
    out = service.build()
    assert f"SHA-256   {hashlib.sha256(service.output.read_bytes()).hexdigest()}" in out
    assert re.search(rf"files +{len(service.files())}\n", out)
    assert re.search(r"zip +\d+\.\d MB +\(\d\.\d% of 50 MB\)", out)
    assert re.search(r"unzipped +\d+\.\d MB +\(\d\.\d% of 250 MB\)", out)
    assert "Warning" not in out
    assert "no bytecode" not in out


@pytest.fixture
def large(service: Service) -> Iterator[Callable[..., str]]:
    """Tell what is said of a zip of some size, with some MB in it; a refusal is said too."""

    def said(*, zipped: float = 1, unzipped: float = 1) -> str:
        sizes = {"tiny/a.py": int((unzipped - 0.5) * package.MB), "own/b.py": package.MB // 2}
        for limits in package._limits():
            summary, problem = package.describe(int(zipped * package.MB), sizes, limits)
            if not problem:
                break
        return summary + problem

    with service.here():
        yield said


def test_it_warns_from_80_percent_of_a_limit(large: Callable[..., str]) -> None:
    said = large(zipped=40.5)
    assert "Warning: 81.0% of 50 MB (zip). The largest parts: " in said
    assert "Warning: 99.0% of 250 MB (unzipped)" in large(unzipped=247.5)
    assert "The largest parts: tiny 247 MB, own 0.5 MB." in large(unzipped=247.5)
    assert "Warning" not in large(zipped=39.5)


def test_above_a_limit_it_is_refused_and_the_largest_parts_are_listed(
    large: Callable[..., str],
) -> None:
    said = large(unzipped=251)
    assert "The package is too large: unzipped 251 MB (Lambda's limit: 250 MB)." in said
    assert "The largest parts, unzipped: tiny 250.5 MB, own 0.5 MB. Remove what" in said
    assert "too large" in large(zipped=51, unzipped=251)
    assert "too large" not in large(zipped=50, unzipped=250)


def test_a_large_zip_goes_through_s3(large: Callable[..., str]) -> None:
    said = large(zipped=51)
    assert "too large" not in said
    assert "51 MB  (no limit)" in said
    assert "Lambda takes a zip of more than 50 MB only through S3: set artifact_bucket" in said
    assert "S3" not in large(zipped=50)


@pytest.mark.parametrize(
    ("planned", "refused"),
    [
        ({}, True),
        ({"artifact_bucket": {}}, True),
        ({"artifact_bucket": {"value": "the-bucket"}}, False),
        ({"package_hash": {"value": "of what is deployed"}}, False),
    ],
)
def test_an_environment_without_artifact_bucket_takes_no_large_zip(
    service: Service, planned: dict[str, Any], refused: bool
) -> None:
    with service.here():
        package.require_a_way_to_lambda({})
        with service.output.open("r+b") as file:
            file.truncate(package.DIRECT_UPLOAD_LIMIT + 1)
        said = pytest.raises(ToolError, match=r"dist/lambda.zip is 50.0 MB\. .* artifact_bucket in")
        with said if refused else contextlib.nullcontext():
            package.require_a_way_to_lambda(planned)


def test_an_image_has_no_limit(large: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.compute, "ARTIFACT", Path("dist/image.tar"))
    assert "too large" not in large(zipped=51, unzipped=251)


def test_a_package_above_a_limit_does_not_appear(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(service.folder / "dist")
    monkeypatch.setattr(package, "UNZIPPED_LIMIT", 1000)
    assert "too large" in service.refuse()
    assert not service.output.exists()


def test_dependencies_have_no_bytecode_where_that_alone_is_too_much(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bytecode = service.files()
    size = sum(len(data) for data in with_bytecode.values())
    monkeypatch.setattr(package, "UNZIPPED_LIMIT", size - 1)
    service.write("own/__init__.py", "#")
    out = service.build()
    assert "Dependencies have no bytecode: with it the package is too large." in out
    names = {cache_from_source(name) for name in ("tiny/__init__.py", "tiny/part.py")}
    names.add(cache_from_source("tiny/unused.py"))
    assert with_bytecode.keys() - service.files().keys() == names
    with zipfile.ZipFile(service.output) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
    # A zip that is small enough without it is uploaded directly; others have it, and go through S3.
    for limit, compiled in ((service.output.stat().st_size + 100, False), (1000, True)):
        monkeypatch.undo()
        monkeypatch.setattr(package, "DIRECT_UPLOAD_LIMIT", limit)
        service.write("own/__init__.py", f"# {limit}")
        service.build()
        assert (cache_from_source("tiny/part.py") in service.files()) == compiled
    # Whether it came to that is not remembered: only the content decides.
    monkeypatch.undo()
    service.write("own/__init__.py", "")
    service.build()
    assert service.files() == with_bytecode


# ---- bad input ------------------------------------------------------------------------------


def lock_without_a_dependency(service: Service) -> None:
    service.depend_on("tiny", "native")
    lock = (service.folder / "requirements.txt").read_text()
    service.depend_on("tiny", "native", locked=lock[lock.index("tiny") :])


def lock_of_another_version(service: Service) -> None:
    service.depend_on("tiny>=2")


def lock_without_hashes(service: Service) -> None:
    service.depend_on("tiny", locked="tiny==1.0\n")


def another_hash(service: Service) -> None:
    service.depend_on("tiny", locked=f"tiny==1.0 --hash=sha256:{'0' * 64}\n")


def no_wheel_for_the_platform(service: Service) -> None:
    service.depend_on("maconly")


def no_lock(service: Service) -> None:
    (service.folder / "requirements.txt").unlink()


def broken_pyproject(service: Service) -> None:
    service.write("pyproject.toml", "[project\n")


def broken_own_code(service: Service) -> None:
    service.write("own/part.py", "def f(:\n")


def own_file_of_a_dependencys_name(service: Service) -> None:
    (service.folder / "tiny").mkdir()
    service.write("tiny/part.py", "")
    service.depend_on("tiny", own="tiny")


def no_such_architecture(service: Service) -> None:
    service.depend_on("tiny", architecture="arm")


def no_own_package(service: Service) -> None:
    shutil.rmtree(service.folder / "own")


BAD_INPUT = [
    (lock_without_a_dependency, ["requirements.txt is out of date", "native", "make lock"]),
    (lock_of_another_version, ["requirements.txt is out of date", "tiny", "make lock"]),
    (lock_without_hashes, ["requirements.txt", "tiny", "hash", "make lock"]),
    (another_hash, ["tiny 1.0 is not the file", "none of those in requirements.txt", "make lock"]),
    (no_wheel_for_the_platform, ["maconly 1.0 has no wheel for Linux on arm64", "make lock"]),
    (no_lock, ["There is no requirements.txt", "make lock"]),
    (broken_pyproject, ["pyproject.toml is not valid TOML"]),
    (broken_own_code, ["code cannot be compiled", 'File "own/part.py", line 1', "invalid syntax"]),
    (own_file_of_a_dependencys_name, ["tiny/part.py is also a file of a dependency"]),
    (no_own_package, ["There is no own"]),
    (no_such_architecture, ["architecture", "'arm'", "must be arm64 or x86_64"]),
]


@pytest.mark.parametrize(
    ("spoil", "said"), BAD_INPUT, ids=[spoil.__name__ for spoil, _ in BAD_INPUT]
)
def test_bad_input_is_one_clear_message_and_the_previous_package_stays(
    service: Service, spoil: Callable[[Service], None], said: list[str]
) -> None:
    before = service.output.read_bytes()
    spoil(service)
    message = service.refuse()
    for words in said:
        assert words in message
    assert service.output.read_bytes() == before
    assert not list((service.folder / "dist" / ".cache").glob("build-*"))


def test_without_a_previous_package_there_is_none_after_an_error(service: Service) -> None:
    shutil.rmtree(service.folder / "dist")
    another_hash(service)
    service.refuse()
    assert not service.output.exists()


@pytest.mark.parametrize(
    ("uv_says", "said"),
    [
        ("error: Failed to write: No space left on device", "Cannot write the dependencies. uv"),
        ("error: Failed to fetch: Read-only file system", "Cannot write the dependencies. uv"),
        ("warning: x\nerror: dns error", "cannot be reached. Check the network or the index"),
        ("what\nnobody knows", "uv could not install the dependencies. uv said: what nobody knows"),
    ],
)
def test_what_uv_says_is_explained(uv_says: str, said: str) -> None:
    assert said in dependencies.explain(uv_says, "this machine")


def test_no_network_and_a_cold_cache(service: Service) -> None:
    before = service.output.read_bytes()
    service.depend_on("tiny", "native")
    message = service.refuse(
        UV_CACHE_DIR=str(service.folder / "cold"),
        UV_FIND_LINKS=None,
        UV_DEFAULT_INDEX="http://127.0.0.1:9/simple",  # the port where nobody answers
    )
    assert "not all in uv's cache and the package index cannot be reached" in message
    assert service.output.read_bytes() == before


def test_no_network_and_a_warm_cache(service: Service, tmp_path: Path) -> None:
    index = tmp_path / "index"
    for wheel in service.wheels.glob("tiny-*"):
        (index / "simple" / "tiny").mkdir(parents=True)
        shutil.copy(wheel, index / wheel.name)
        page = f'<a href="../../{wheel.name}">{wheel.name}</a>'
        (index / "simple" / "tiny" / "index.html").write_text(page)
    handler = functools.partial(QuietHandler, directory=str(index))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    environment: dict[str, str | None] = {
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_FIND_LINKS": None,
        "UV_DEFAULT_INDEX": f"http://127.0.0.1:{server.server_port}/simple",
    }
    shutil.rmtree(service.folder / "dist")
    service.build(**environment)
    server.shutdown()
    server.server_close()
    before = service.output.read_bytes()
    shutil.rmtree(service.folder / "dist")
    service.build(**environment)
    assert service.output.read_bytes() == before


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, without an access log."""

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


def test_python_of_another_minor_version(service: Service) -> None:
    before = service.output.read_bytes()
    service.write(".python-version", OTHER_VERSION)
    message = service.refuse()
    assert f"This is Python {VERSION}, but the service runs on Python {OTHER_VERSION}" in message
    assert "make install" in message
    assert service.output.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(service: Service) -> None:
    before = service.output.read_bytes()
    service.write("handler.py", "VALUE = 2\n")
    folders = [service.output.parent / ".cache", service.output.parent]
    for folder in folders:
        folder.chmod(0o555)
    try:
        message = service.refuse()
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert "Permission denied" in message
    assert service.output.read_bytes() == before


@pytest.fixture
def disk(service: Service) -> Iterator[Callable[[str], None]]:
    """Mount a small file system on dist/; the function given sets its options (`ro`)."""
    dist = service.output.parent
    shutil.rmtree(dist)
    dist.mkdir()
    mounted = (
        sys.platform == "linux"
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dist], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("only root, on Linux, can mount a small disk; the next test limits files")

    def change(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", dist], check=True)

    yield change
    subprocess.run(["umount", dist], check=True)


def test_a_read_only_disk(service: Service, disk: Callable[[str], None]) -> None:
    service.build()
    before = service.output.read_bytes()
    service.write("handler.py", "VALUE = 2\n")
    disk("ro")
    message = service.refuse()
    assert "Read-only file system" in message
    assert service.output.read_bytes() == before


def noise(size: int) -> str:
    """Return text that deflate can't make small."""
    return "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(size // 64))


@pytest.mark.parametrize("grown", ["own code", "a dependency"])
def test_a_full_disk(
    service: Service, disk: Callable[[str], None], grown: str, tmp_path: Path
) -> None:
    service.build()
    before = service.output.read_bytes()
    if grown == "own code":
        service.write("own/data.txt", noise(400_000))
    else:
        service.wheels = tmp_path
        write_wheel(tmp_path, "tiny", "py3-none-any", {"tiny.py": "", "t.txt": noise(400_000)})
        service.depend_on("tiny")
    message = service.refuse()
    assert "No space left on device" in message
    assert service.output.read_bytes() == before
    assert not list((service.folder / "dist" / ".cache").glob("build-*"))


def test_a_file_that_may_not_grow(service: Service) -> None:
    """As a full disk is, for those who aren't root."""
    before = service.output.read_bytes()
    service.write("own/data.txt", noise(100_000))
    limit = 64_000
    process = service.start(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    _, message = process.communicate()
    assert process.returncode == 1
    assert message == "Cannot read or write a file: File too large.\n"
    assert service.output.read_bytes() == before


# ---- concurrency and interruption -----------------------------------------------------------


def test_builds_at_once_wait_for_each_other(service: Service) -> None:
    service.write("own/__init__.py", "#")
    builds = [service.start() for _ in range(4)]
    said = [process.communicate() for process in builds]
    assert [process.returncode for process in builds] == [0] * 4, said
    assert sum("SHA-256" in out for out, _ in said) == 1
    with zipfile.ZipFile(service.output) as archive:
        assert archive.testzip() is None


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_build_leaves_a_whole_package(service: Service, sent: int) -> None:
    kept = 0
    # Every process that a build starts has its stdin, and SIGKILL ends the build alone.
    all_ended, stdin = os.pipe()
    for number, delay in enumerate((0, 0.02, 0.05, 0.1, 0.2)):
        before = service.output.read_bytes()
        # Another lock file each time, so that each build begins with installing.
        service.depend_on("tiny", "native")
        lock = (service.folder / "requirements.txt").read_text(encoding="utf-8")
        service.write("requirements.txt", f"{lock}# build {number}\n")
        service.write("own/part.py", f"VALUE = {delay}\n")
        process = service.start(stdin=stdin)
        assert process.stdout is not None
        assert "Installing dependencies" in process.stdout.readline()
        time.sleep(delay)
        process.send_signal(sent)
        process.communicate()
        if service.output.read_bytes() == before:
            kept += 1
            assert process.returncode
        else:
            assert service.files()["own/part.py"] == f"VALUE = {delay}\n".encode()
        if delay == 0:
            leftover = list((service.folder / "dist" / ".cache").glob("build-*"))
            assert bool(leftover) == (sent == signal.SIGKILL)
    assert kept
    os.close(stdin)
    with os.fdopen(all_ended, "rb") as pipe:
        assert not pipe.read()  # what a build started has ended, and writes no more
    service.write("own/part.py", "VALUE = 3\n")
    service.build()
    assert service.files()["own/part.py"] == b"VALUE = 3\n"
    assert not list((service.folder / "dist" / ".cache").glob("build-*"))


# ---- the default service, from the package index --------------------------------------------


def build_default(folder: Path, **settings: Any) -> Path:
    """Build the default service's package with this Python; return it."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **settings.pop("environment", {})}
    done = subprocess.run(
        [sys.executable, "-m", "tools", "package"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        **settings,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist" / "lambda.zip"


@pytest.fixture(scope="module")
def arm64(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the default service's package for arm64."""
    folder = tmp_path_factory.mktemp("default") / "service"
    shutil.copytree(render(python_version=VERSION), folder)
    return build_default(folder, umask=0o022, environment={"TZ": "UTC"})


@pytest.mark.slow
def test_the_default_service_has_the_same_hash_everywhere(
    arm64: Path, fresh: Render, tmp_path: Path
) -> None:
    environment = {
        "HOME": str(tmp_path / "home"),
        "LC_ALL": "de_DE.UTF-8",
        "TZ": "Pacific/Auckland",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    other = build_default(fresh(python_version=VERSION), umask=0o077, environment=environment)
    assert other.read_bytes() == arm64.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "machine"), [("arm64", 183), ("x86_64", 62)])
def test_the_default_service_holds_one_processors_wheels(
    arm64: Path, fresh: Render, architecture: str, machine: int
) -> None:
    package = arm64
    if architecture == "x86_64":
        package = build_default(fresh(python_version=VERSION, architecture=architecture))
    processor = {"arm64": "aarch64", "x86_64": "x86_64"}[architecture]
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        # e_machine of the ELF header: EM_AARCH64 is 183, EM_X86_64 is 62
        machines = {
            name: struct.unpack("<H", archive.read(name)[18:20])[0]
            for name in names
            if archive.read(name).startswith(b"\x7fELF")
        }
        tags = {
            line.removeprefix("Tag: ")
            for name in names
            if name.endswith(".dist-info/WHEEL")
            for line in archive.read(name).decode().splitlines()
            if line.startswith("Tag: ")
        }
    assert machines
    assert set(machines.values()) == {machine}
    assert all(tag.endswith(("-any", f"linux_2_17_{processor}", processor)) for tag in tags), tags
    assert not [name for name in names if name.startswith(("boto", "s3transfer", "pip/", "bin/"))]

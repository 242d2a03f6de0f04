"""What all tests share: rendering the template, running commands, one provider for Terraform."""

import fcntl
import functools
import gc
import itertools
import json
import marshal
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from botocore.loaders import JSONFileLoader
from cookiecutter.environment import StrictEnvironment
from pytest_cookies.plugin import Cookies, Result

TEMPLATE = Path(__file__).parents[1]
SERVICE = TEMPLATE / "{{cookiecutter.project_slug}}"

# Tests import the service's tools from there; a cache beside them would be rendered too.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SERVICE))
from tools.deploy.mirror import cli_config  # noqa: E402
from tools.local.isolation import isolate  # noqa: E402
from tools.project import project, read_environment  # noqa: E402

# Tests know nothing of the developer's AWS either.
isolate()

# Their assertions say as much as those of a test's own file.
pytest.register_assert_rewrite("local_story", "try_locally")

# Make's own variables would make the service's make print more than it does for a developer. Git's,
# which it sets for a hook, would let tests change the repository that the hook is of.
GIT_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
for variable in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", *GIT_HOOK, "GIT_OBJECT_DIRECTORY"):
    os.environ.pop(variable, None)

# Nor does the developer's configuration of Git count, which may sign commits or name hooks. What
# may matter of it: that a checkout of somebody else's is safe.
os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
safe = {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": "*"}
os.environ.update({f"GIT_CONFIG_{name}": value for name, value in safe.items()})

# A shell without job control starts `make test &` with SIGINT ignored, and every child inherits
# that. Where this process has a handler, its children start with the default again. SIGHUP stays
# ignored under nohup: no test sends it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where this machine has no Terraform, that which `make test` has fetched. Tests fetch none.
os.environ["PATH"] = f"{TEMPLATE / '.terraform-bin'}{os.pathsep}{os.environ['PATH']}"
os.environ["TERRAFORM_DOWNLOAD"] = "no"

# Terraform and its provider are started hundreds of times. Go's garbage collector, run an eighth as
# often, spares a sixth of their CPU time and takes a fifth more memory.
os.environ.setdefault("GOGC", "800")

# Type checks share what mypy has found out about the libraries: `known_types`.
TYPES = TEMPLATE / ".mypy_cache" / "services"
os.environ["MYPY_CACHE_DIR"] = str(TYPES / os.environ.get("PYTEST_XDIST_WORKER", "alone"))

# Bytecode of what is imported while tests are collected.
BYTECODE = TEMPLATE / "build" / "bytecode"

# What tests start in a service's folder may keep its bytecode, also where this Python may not.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# test_runtime_emulator.py compares with AWS's own emulator; CONTRIBUTING.md says how to get it.
# test_roles.py takes minutes: `make soak` runs it.
NEEDED = {"test_runtime_emulator.py": "LAMBDA_RIE", "test_roles.py": "RECORD_PERMISSIONS"}
collect_ignore = [file for file, variable in NEEDED.items() if variable not in os.environ]

# Each takes long, or waits long, so it begins before all others, or it would end after them, alone.
# Those that mostly wait, for Terraform or for seconds that must pass, alternate with those that
# mostly compute: there is something to compute at any time.
LONG = (
    *("test_local", "test_local_fargate"),
    *("test_first_week", "test_first_week_fargate", "test_delivery_fargate", "test_moving"),
    *("test_hostile_environment", "test_delivery", "test_update", "test_delivery_rollback"),
    *("test_scenarios", "test_removing", "test_interrupted", "test_interrupted_terraform"),
    *("test_invoke", "test_service", "test_hostile_answers", "test_soak", "test_soak_fargate"),
    *("test_e2e_failures", "test_soak_order", "test_worker_order", "test_lock"),
    *("test_worker_process", "test_bootstrap", "test_feed", "test_image"),
    *("test_checkov", "test_rendering", "test_shared_libraries", "test_workflow"),
    *("test_package", "test_local_aws", "test_feed_fargate", "test_owners_edits", "test_runtime"),
    *("test_pictures", "test_page", "test_idempotency_process"),
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let one process collect before all others, which then find the bytecode that it has kept.

    Most of the time is for rewriting the tests' assertions: 7 s in each process. What is
    collected stays to the end, so the garbage collector never looks at it: 2 s in each.
    """
    BYTECODE.mkdir(parents=True, exist_ok=True)
    gc.disable()
    try:
        with (BYTECODE / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(lock, fcntl.LOCK_SH)
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Keep bytecode while a file is imported, outside the service; what tests write changes."""
    sys.pycache_prefix, sys.dont_write_bytecode = str(BYTECODE), False
    try:
        return (yield)
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = None, True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, in their order; all others stay in the order of their names."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


# Where the path of a socket is as short as it must be.
SHORT = tempfile.gettempdir()
PROXY = Path(__file__).with_name("provider_proxy.py")

Render = Callable[..., Path]

# The answers with which a service runs in this Python, on this machine.
HOST = {
    "python_version": "{}.{}".format(*sys.version_info),
    "architecture": "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64",
}

# Runs a program in an environment that uv keeps, bytecode and all: to make one with checkov, as
# `make security` does, and to run that for the first time takes ten seconds of CPU time.
SCANNERS = [
    *(sys.executable, "-m", "uv", "run", "--no-project", "--python", sys.executable),
    *("--quiet", "--with-requirements", str(SERVICE / "requirements-security.txt")),
]

# What a service with the default answers is imported as.
PACKAGES = ("handler", "order_events")


def need(tool: str) -> None:
    """Skip the test where a tool is missing; fail it under CI=true, where none may be."""
    if shutil.which(tool) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{tool} is not on the PATH, and under CI=true every check must run")
        pytest.skip(f"{tool} is not on the PATH")


def need_provider(service: Path) -> None:
    """Skip the test, as `need` does, where Terraform would find too old an AWS provider."""
    need("terraform")
    if refusal := too_old_a_provider(service):
        if os.environ.get("CI") == "true":
            pytest.fail(refusal)
        pytest.skip(refusal)


def too_old_a_provider(service: Path) -> str:
    """Say that the machine's AWS provider is too old for the service's Python; "" if not."""
    try:
        cli_config(service / "terraform")
    except SystemExit as refusal:
        return str(refusal)
    return ""


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed; a failure shows all that it printed.

    :param cwd: the folder to run it in.
    :param environment: variables to add to this process's own.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        line = " ".join(str(part) for part in command)
        pytest.fail(f"`{line}` ended with {done.returncode}:\n{done.stdout}", pytrace=False)
    return done


def run_here(
    command: Callable[..., Any], name: str, *arguments: str | Path, cwd: Path, **environment: str
) -> str:
    """Run a command line of click or typer in this process, as `run` does in one of its own.

    For cookiecutter and cruft: the template is compiled already. A third of the CPU time. An error
    ends it as it would end a process.
    """
    with (
        tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8") as printed,
        _redirected(1, printed),
        _redirected(2, printed),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(cwd)
        for variable, value in environment.items():
            patch.setenv(variable, value)
        patch.setattr(sys, "stdout", printed)
        patch.setattr(sys, "stderr", printed)
        try:
            code = command([str(part) for part in arguments], prog_name=name, standalone_mode=False)
        except SystemExit as end:
            code = end.code
        except Exception:
            traceback.print_exc()
            code = 1
        printed.seek(0)
        text = printed.read()
    if code:
        pytest.fail(f"{name} {arguments} ended with {code}:\n{text}", pytrace=False)
    return text


@contextmanager
def _redirected(descriptor: int, file: IO[str]) -> Iterator[None]:
    """Let a file descriptor of this process, and of its children, be another file's."""
    before = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(before, descriptor)
        os.close(before)


def once_a_run(name: str, make: Callable[[], str]) -> str:
    """Return a text that is made by the first process of a test run that asks for it."""
    this_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process {os.getpid()}")
    file = BYTECODE / name
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        made_in, _, text = known.partition("\n")
        if made_in != this_run:
            text = make()
            file.write_text(f"{this_run}\n{text}", encoding="utf-8")
    return text


@functools.cache
def provider() -> Path:
    """Return the program of Terraform's AWS provider, as `terraform init` finds it here."""

    def find() -> str:
        folder = Path(tempfile.mkdtemp())
        shutil.copy(TEMPLATE / "terraform" / "bootstrap" / "versions.tf", folder)
        config = str(cli_config(folder) or "")
        run("terraform", "init", "-input=false", cwd=folder, TF_CLI_CONFIG_FILE=config)
        (found,) = folder.glob(".terraform/providers/*/*/*/*/*/terraform-provider-aws*")
        return str(found.resolve())

    return Path(once_a_run("provider", find))


@functools.cache
def types() -> list[str]:
    """Name the types of resources and data that the template's Terraform code has, or a test's."""
    code = [*SERVICE.glob("terraform/**/*.tf*"), *TEMPLATE.glob("terraform/bootstrap/*.tf")]
    texts = [file.read_text("utf-8") for file in (*code, *TEMPLATE.glob("tests/*.py"))]
    return sorted({name for text in texts for name in re.findall(r"\baws_\w+", text)})


@contextmanager
def one_provider(code: Path, **environment: str) -> Iterator[dict[str, str]]:
    """Let few processes of the AWS provider serve all of Terraform's commands.

    Each of them would start its own, some more than one, and ask for all that it has: most of their
    CPU time. provider_proxy.py says how. `terraform init` then installs no provider. On Linux each
    command's folder and environment count, as ever; elsewhere those that are given here.

    :param code: the folder with the Terraform code, from which paths lead to files.
    :param environment: variables of the provider alone, such as its credentials.
    :returns: the environment variable that tells Terraform, which is set here.
    """
    with (
        tempfile.TemporaryDirectory(dir=SHORT, prefix="provider-") as folder,  # for its sockets
        subprocess.Popen(
            [sys.executable, PROXY, provider(), f"{folder}/s", *types()],
            cwd=code,
            env={**os.environ, **environment, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert process.stdout
        patch.setenv("TF_REATTACH_PROVIDERS", process.stdout.readline().strip())
        yield {"TF_REATTACH_PROVIDERS": os.environ["TF_REATTACH_PROVIDERS"]}


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary files where pytest cleans up: cookiecutter leaves one of each hook it runs."""
    tempfile.tempdir, before = str(tmp_path_factory.mktemp("temporary")), tempfile.tempdir
    yield
    tempfile.tempdir = before


def lend_environment(folder: Path, environment: Path = Path(sys.prefix)) -> None:
    """Give a folder with a Makefile a virtual environment, which make takes for installed.

    Only links lie there, so that nothing the folder's make does can harm the environment itself.
    """
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(environment / name)
    (folder / ".venv" / "requirements-dev.txt").touch()


def lend_scanners(folder: Path) -> None:
    """Give a service's folder what `make security` runs, which make takes for installed."""
    (folder / ".venv-security" / "bin").mkdir(parents=True)
    zizmor = Path(sys.executable).with_name("zizmor")
    for name, command in (("python", [*SCANNERS, "python"]), ("zizmor", [str(zizmor)])):
        script = folder / ".venv-security" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    (folder / ".venv-security" / "requirements-security.txt").touch()


def lend_bytecode(folder: Path) -> None:
    """Give a folder's own virtual environment the bytecode that this one has by now.

    Of the same files: Python compares their times and sizes. To compile what `make test` imports
    takes six seconds of CPU time.
    """
    source = Path(sysconfig.get_path("purelib"))
    target = folder / ".venv" / source.relative_to(sys.prefix)
    for kept in source.rglob("__pycache__"):
        place = target / kept.relative_to(source)
        if place.parent.is_dir():
            shutil.copytree(kept, place, dirs_exist_ok=True)


@contextmanager
def working_in(service: Path) -> Iterator[None]:
    """Work in a service's folder: its tools read its files and import its package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(service)
        patch.syspath_prepend(str(service))
        project.cache_clear()
        yield
    project.cache_clear()
    forget_packages()


def forget_packages() -> None:
    """Let a service's modules be imported anew, from another service."""
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


@contextmanager
def importable(service: Path) -> Iterator[None]:
    """Let a rendered service's handler and package be imported here, with its local.env set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(service))
        for name, value in read_environment(service / "local.env").items():
            patch.setenv(name, value)
        yield
    forget_packages()


@pytest.fixture(scope="session", autouse=True)
def _compiled_templates() -> Iterator[None]:
    """Let cookiecutter, in this process, compile each text once: half of what a render takes."""
    made: dict[tuple[Any, ...], Any] = {}
    compile_anew = StrictEnvironment.compile

    def compile_once(self: StrictEnvironment, *text_and_names: Any, **options: Any) -> Any:
        key = (*text_and_names, *options.items())
        if key not in made:
            made[key] = compile_anew(self, *text_and_names, **options)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StrictEnvironment, "compile", compile_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _aws_is_read_once() -> Iterator[None]:
    """Let botocore parse each of its descriptions of AWS once, not once a session of boto3.

    Each session gets a copy of its own: a client for S3 changes the description that it has.
    """
    load, loader = JSONFileLoader.load_file, JSONFileLoader()

    @functools.cache
    def read(path: str) -> bytes:
        return marshal.dumps(json.loads(json.dumps(load(loader, path))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: marshal.loads(read(path)))
        yield


@pytest.fixture(scope="session")
def render(cookies_session: Cookies) -> Render:
    """Render the template with some answers, once a session: the same answers, the same folder."""
    rendered: dict[str, Path] = {}

    def once(**answers: str) -> Path:
        key = repr(sorted(answers.items()))
        if key not in rendered:
            result: Result = cookies_session.bake(extra_context=answers, template=str(TEMPLATE))
            if result.exception is not None:
                raise result.exception
            assert result.project_path is not None
            rendered[key] = result.project_path
        return rendered[key]

    return once


@pytest.fixture(scope="session")
def known_types(render: Render) -> None:
    """Let mypy know the libraries: eight seconds of CPU time, in one process for all.

    Each process then has a cache of its own: two can't write into one.
    """

    def check() -> str:
        shared = TYPES / "shared"
        run(sys.executable, "-m", "mypy", cwd=render(**HOST), MYPY_CACHE_DIR=str(shared))
        return str(shared)

    shared = once_a_run("types", check)
    shutil.copytree(shared, os.environ["MYPY_CACHE_DIR"], dirs_exist_ok=True)


@pytest.fixture
def fresh(render: Render, tmp_path: Path) -> Render:
    """Render into a folder of the test's own, which it may change."""
    numbers = itertools.count()

    def copy(**answers: str) -> Path:
        source = render(**answers)
        made = shutil.ignore_patterns(".venv", ".terraform", "dist")  # by tests that share it
        target: Any = shutil.copytree(
            source, tmp_path / f"{source.name}-{next(numbers)}", ignore=made
        )
        return Path(target)

    return copy

"""make in a hostile environment: the same package to the byte, and nothing outside the service.

The environment is that of people who have configured Python, pip, uv, AWS and Git for other work.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from conftest import (
    Render,
    lend_bytecode,
    lend_environment,
    need,
    one_provider,
    run,
    too_old_a_provider,
)

VERSION = "{}.{}".format(*sys.version_info)
# Variables that would change which Python runs, what it sees, where packages go or what they are.
TAKEN_AWAY = {
    "PIP_CONSTRAINT": "/nowhere",
    "PIP_DRY_RUN": "1",
    "PIP_PYTHON": "/nowhere",
    "PYTHONEXECUTABLE": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONINSPECT": "1",
    "PYTHONIOENCODING": "ascii",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONPYCACHEPREFIX": "bytecode",
    "PYTHONSAFEPATH": "1",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONUSERBASE": "/nowhere",
    "PYTHONWARNINGS": "error",
    "UV_BREAK_SYSTEM_PACKAGES": "1",
    "UV_BUILD_CONSTRAINT": "/nowhere",
    "UV_COMPILE_BYTECODE": "1",
    "UV_CONSTRAINT": "/nowhere",
    "UV_EXCLUDE": "/nowhere",
    "UV_LINK_MODE": "symlink",
    "UV_NO_BINARY": "1",
    "UV_NO_VERIFY_HASHES": "1",
    "UV_OVERRIDE": "/nowhere",
    "UV_PRERELEASE": "allow",
    "UV_PROJECT": "/nowhere",
    "UV_PYTHON": "/nowhere",
    "UV_RESOLUTION": "lowest",
    "UV_SYSTEM_PYTHON": "1",
    "UV_WORKING_DIR": "/",
}
# These say where packages come from.
HEEDED = {
    "HTTPS_PROXY": "http://proxy:1",
    "PIP_CERT": "/ca.pem",
    "PIP_CONFIG_FILE": "/pip.conf",
    "PIP_INDEX_URL": "https://packages/simple",
    "UV_CONFIG_FILE": "/uv.toml",
    "UV_DEFAULT_INDEX": "https://packages/simple",
    "UV_INDEX_URL": "https://packages/simple",
    "UV_KEYRING_PROVIDER": "subprocess",
    "UV_OFFLINE": "1",
}


def test_make_passes_on_where_packages_come_from_and_nothing_that_changes_them(
    fresh: Render,
) -> None:
    need("make")
    folder = fresh()
    (folder / "more.mk").write_text("include Makefile\nenvironment:\n\t@env\n")
    given = {**TAKEN_AWAY, **HEEDED, "PYTHONPATH": "/nowhere"}
    out = run("make", "-f", "more.mk", "environment", cwd=folder, **given).stdout
    passed = dict(line.partition("=")[::2] for line in out.splitlines())
    assert {name for name in given if name in passed} == HEEDED.keys()
    assert {name: passed[name] for name in HEEDED} == HEEDED


@pytest.mark.parametrize("text", ["my message.json", 'it\'s; $(touch x) `id` "|" #%&.json'])
def test_makes_variables_reach_a_command_as_they_are(fresh: Render, text: str) -> None:
    need("make")
    folder = fresh()
    names = ["EVENT", "SAVE", "FILE", "BODY_FILE", "EVENT_TYPE", "VERSION", "SINCE", "MAX", "ENV"]
    (folder / "show.py").write_text(
        f"import os\nprint(*map(os.environ.get, {names}), sep=chr(10))\n"
    )
    (folder / ".venv").mkdir()
    (folder / ".venv" / "requirements-dev.txt").touch()
    for target in ("invoke", "publish", "dlq-peek", "replay", "rollback", "logs"):
        tools = f"TOOLS={sys.executable} show.py"
        # In make's own language a dollar sign is written twice.
        given = [f"{name}={text.replace('$', '$$')}" for name in names]
        out = run("make", target, tools, *given, cwd=folder).stdout
        assert out.splitlines() == [text] * len(names)
        out = run("make", target, tools, cwd=folder, **dict.fromkeys(names, text)).stdout
        assert out.splitlines() == [text] * len(names)
    assert not (folder / "x").exists()


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Make another virtual environment, where nothing must go."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "victim"], check=True)
    return tmp_path / "victim"


@pytest.mark.slow
def test_an_installation_that_goes_elsewhere_is_a_failure(fresh: Render, tmp_path: Path) -> None:
    """A target in uv.toml comes before all that a command line can say."""
    need("make")
    folder = fresh(python_version=VERSION)
    lock = folder / "requirements-dev.txt"
    blocks = re.findall(r"(?m)^(?:click|uv)==.*\n(?: .*\n)*", lock.read_text())
    assert len(blocks) == 2
    lock.write_text("".join(blocks))
    config = tmp_path / "uv.toml"
    config.write_text(f'[pip]\ntarget = "{tmp_path}/elsewhere"\n')
    environment = {**os.environ, "UV_CONFIG_FILE": str(config)}
    done = subprocess.run(
        ["make", "install"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode
    assert "look for a target in your uv.toml" in done.stderr
    assert not (folder / ".venv" / "requirements-dev.txt").exists()


TARGETS = [
    *("help", "doctor", "install", "lint", "typecheck", "test", "package", "invoke", "sbom"),
    "validate",  # needs Terraform
]


@pytest.mark.slow
@pytest.mark.usefixtures("known_types")
def test_every_target_without_an_account_in_a_hostile_environment(
    fresh: Render, tmp_path: Path, victim: Path
) -> None:
    """The same package as in a plain one; only the service's folder and caches are written to."""
    need("make")
    plain = fresh(python_version=VERSION)
    folder = tmp_path / 'it\'s a "service" of mine' / "service"
    shutil.copytree(plain, folder)
    home, temporary, caches = (tmp_path / name for name in ("home", "temp orary", "caches"))
    for path in (home / ".config" / "uv", home / ".config" / "pip", temporary, caches):
        path.mkdir(parents=True)
    (home / ".config" / "uv" / "uv.toml").write_text(
        f'[pip]\nsystem = true\npython = "{victim}/bin/python"\nprefix = "{victim}"\n'
        'break-system-packages = true\nlink-mode = "symlink"\n'
    )
    (home / ".config" / "pip" / "pip.conf").write_text(
        f"[global]\nuser = true\nprefix = {victim}\nroot = {victim}\ntarget = {victim}\n"
        "require-virtualenv = true\nno-binary = :all:\n"
    )
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[default]\nregion = moon-1\nendpoint_url = http://[\n")
    uv_cache = run(sys.executable, "-m", "uv", "cache", "dir", cwd=tmp_path).stdout.strip()
    environment = {
        **os.environ,
        **TAKEN_AWAY,
        "AWS_CONFIG_FILE": str(home / ".aws" / "config"),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_PROFILE": "corp",
        "CHECKPOINT_DISABLE": "1",  # or Terraform keeps a note in the home
        "GIT_DIR": "/nowhere/.git",
        "GIT_INDEX_FILE": "/nowhere/index",
        "GIT_WORK_TREE": "/nowhere",
        "HOME": str(home),
        "LC_ALL": "C",
        "PIP_CACHE_DIR": str(caches),
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_TARGET": str(victim),
        "PIP_USER": "1",
        "PYTHONPATH": str(victim),
        "RUSTUP_HOME": str(caches),  # pip asks for the version of Rust, if there is one
        "SOURCE_DATE_EPOCH": "1700000000",
        "TMPDIR": str(temporary),
        "TZ": "Pacific/Auckland",
        "UV_CACHE_DIR": uv_cache,
        "UV_PYTHON": f"{victim}/bin/python",
        "VIRTUAL_ENV": str(victim),
        "XDG_CONFIG_HOME": str(home / ".config"),
    }
    (victim / "click.py").write_text("raise SystemExit('PYTHONPATH is heeded')\n")
    terraform = shutil.which("terraform") and not too_old_a_provider(plain)
    targets = TARGETS if terraform else TARGETS[:-1]
    before = {path: listing(path) for path in (home, victim, plain)}
    home.chmod(0o555)
    for target in targets:
        if target == "package":  # for all of the environment, it would take ten seconds
            with (home / ".config" / "uv" / "uv.toml").open("a") as config:
                config.write("compile-bytecode = true\n")
        with one_provider(folder) if target == "validate" else nullcontext({}) as provider:
            done = subprocess.run(
                ["make", target, "EVENT=events/order.created.json"],
                cwd=folder,
                env={**environment, **provider},
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert "Traceback" not in done.stdout, (target, done.stdout)
        # That there is no profile `corp` is for doctor to say.
        assert target == "doctor" or done.returncode == 0, (target, done.stdout)
        if target == "install":
            lend_bytecode(folder)
    home.chmod(0o755)
    assert {path: listing(path) for path in before} == before
    assert listing(temporary) == set()
    assert {path.name for path in tmp_path.iterdir()} == {
        *(path.name for path in (folder.parent, home, temporary, caches, victim, plain))
    }
    assert {path.name for path in folder.parent.iterdir()} == {"service"}

    # The same Python, for its patch version is in the bytecode.
    lend_environment(plain, folder / ".venv")
    run("make", "package", "sbom", cwd=plain)
    for name in ("lambda.zip", "lambda.cdx.json"):
        assert (folder / "dist" / name).read_bytes() == (plain / "dist" / name).read_bytes()


def listing(folder: Path) -> set[str]:
    """Return the paths of all that is in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}

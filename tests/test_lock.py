"""Lock files, and code that services share: what is locked is what can be installed and packed.

The services are tiny, their dependencies are wheels in a folder, and the repository's libraries are
built by uv itself, so nothing needs the network; the slow test makes a real environment.
"""

import json
import os
import re
import shutil
import sys
import textwrap
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import TEMPLATE, Render, lend_environment, need, run
from test_package import (
    VERSION,
    Service,
    built,  # noqa: F401
    service,  # noqa: F401
    wheels,  # noqa: F401
    write_wheel,
)
from tools.build import shared
from tools.deploy import lock

# A merge's conflict is no obstacle.
AS_IT_WAS = "<<<<<<< main\ntiny==0.9\n=======\ntiny==0.8\n>>>>>>> mine\n../../libs/gone\n"


@pytest.fixture
def shop(
    service: Service,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Service:
    """Make a tiny service in a monorepo with libraries; its wheels are the test's own."""
    monkeypatch.setattr(lock, "lock_providers", lambda upgrade: "providers\n")
    monorepo = tmp_path / "monorepo"
    (monorepo / ".git").mkdir(parents=True)
    service.folder = shutil.move(service.folder, monorepo / "services" / "orders")
    service.output = service.folder / "dist" / "lambda.zip"
    service.wheels = shutil.copytree(service.wheels, tmp_path / "own-wheels")
    write_library(monorepo / "libs" / "common", "shop-common", ["alpha"])
    return service


def write_library(folder: Path, name: str, needs: list[str], more: str = "") -> None:
    """Write a library with one module."""
    module = folder / "src" / name.replace("-", "_")
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("VALUE = 1\n", encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.0"\ndependencies = {json.dumps(needs)}\n'
        '[build-system]\nrequires = ["uv_build>=0.9,<1"]\nbuild-backend = "uv_build"\n' + more,
        encoding="utf-8",
    )


def depend(
    service: Service,  # noqa: F811
    *names: str,
    dev: tuple[str, ...] = (),
    security: tuple[str, ...] = (),
    **sources: str,
) -> None:
    """Write pyproject.toml with dependencies, groups and [tool.uv.sources]."""
    service.write(
        "pyproject.toml",
        f'[project]\nname = "tiny-service"\nversion = "0"\nrequires-python = "=={VERSION}.*"\n'
        f"dependencies = {json.dumps(names)}\n[dependency-groups]\ndev = {json.dumps(dev)}\n"
        f"deploy = {json.dumps(dev[:1])}\nsecurity = {json.dumps(security)}\n"
        '[tool.cookiecutter-lambda-python]\npackage = "own"\nservice_path = "services/orders"\n'
        'architecture = "arm64"\n[tool.uv.sources]\n'
        + "".join(f"{name} = {source}\n" for name, source in sources.items()),
    )


def locked(service: Service, command: str = "lock", **environment: str | None) -> str:  # noqa: F811
    """Lock; return what was said."""
    code, out, err = service.run(command, **environment)
    assert code == 0, out + err
    return out


def pins(service: Service, file: str = "requirements.txt") -> list[str]:  # noqa: F811
    """Return what a lock file names, without hashes."""
    text = (service.folder / file).read_text(encoding="utf-8")
    return [entry.requirement for entry in shared.entries(text)]


def test_a_users_uv_toml_changes_no_lock(shop: Service, tmp_path: Path) -> None:
    write_wheel(shop.wheels, "alpha", "py3-none-any", {"alpha.py": ""}, "1.1")
    depend(shop, "tiny", dev=("alpha<1.1", "gamma"), security=("beta",))
    locked(shop)
    before = {name: (shop.folder / name).read_text(encoding="utf-8") for name in lock.LOCKS}
    depend(shop, "tiny", dev=("alpha", "gamma"), security=("beta",))
    config = tmp_path / "uv.toml"
    config.write_text(
        "[pip]\nemit-index-annotation = true\nno-header = true\nno-strip-extras = true\n"
        "upgrade = true\nno-deps = true\n"
    )
    locked(shop, UV_NO_CONFIG=None, UV_CONFIG_FILE=str(config))
    assert before == {name: (shop.folder / name).read_text(encoding="utf-8") for name in lock.LOCKS}


# ---- versions --------------------------------------------------------------------------------


def test_lock_keeps_and_adds_and_upgrade_lifts_and_both_say_so(shop: Service) -> None:
    depend(shop, "tiny", dev=("alpha", "gamma"), security=("beta",))
    locked(shop)
    assert pins(shop) == ["tiny==1.0"]
    assert pins(shop, "requirements-deploy.txt") == ["alpha==1.0", "tiny==1.0"]
    assert pins(shop, "requirements-security.txt") == ["beta==1.0"]
    for name in ("tiny", "alpha", "beta"):
        write_wheel(shop.wheels, name, "py3-none-any", {f"{name}.py": ""}, "1.1")
    before = (shop.folder / "requirements-dev.txt").stat().st_mtime_ns
    assert locked(shop) == "".join(f"{name}:\n  no other versions\n" for name in lock.LOCKS)
    # `make install` has nothing to do after that.
    assert (shop.folder / "requirements-dev.txt").stat().st_mtime_ns == before

    # What is deployed is what was tested: alpha is in the other lock already. The scanners have
    # versions of their own.
    depend(shop, "tiny", "alpha", "beta", dev=("alpha",), security=("beta",))
    assert locked(shop) == (
        "requirements-dev.txt:\n  beta: added 1.1\n  gamma: removed 1.0\n"
        "requirements-deploy.txt:\n  beta: added 1.1\n"
        "requirements.txt:\n  alpha: added 1.0\n  beta: added 1.1\n"
        "requirements-security.txt:\n  no other versions\n"
    )
    tested = ["alpha==1.0", "beta==1.1", "tiny==1.0"]
    for file in ("requirements.txt", "requirements-dev.txt", "requirements-deploy.txt"):
        assert pins(shop, file) == tested

    said = locked(shop, "upgrade")
    assert said == (
        "requirements-dev.txt:\n  alpha: 1.0 -> 1.1\n  tiny: 1.0 -> 1.1\n"
        "requirements-deploy.txt:\n  alpha: 1.0 -> 1.1\n  tiny: 1.0 -> 1.1\n"
        "requirements.txt:\n  alpha: 1.0 -> 1.1\n  tiny: 1.0 -> 1.1\n"
        "requirements-security.txt:\n  beta: 1.0 -> 1.1\n"
    )
    # The text of a pull request.
    summary = (shop.folder / "dist" / "upgrade.md").read_text(encoding="utf-8")
    assert summary == f"```\n{said}providers\n```\n"


def test_a_pin_that_no_longer_fits_is_lifted_and_what_is_deployed_decides(shop: Service) -> None:
    for newer in ("1.1", "1.2"):
        for name in ("tiny", "alpha"):
            write_wheel(shop.wheels, name, "py3-none-any", {f"{name}.py": ""}, newer)
    depend(shop, "tiny>=1.2", "alpha")
    shop.write("requirements.txt", "tiny==1.1\nalpha==1.0\n")
    shop.write("requirements-dev.txt", "tiny==1.1\nalpha==1.1\n")
    assert "requirements.txt:\n  tiny: 1.1 -> 1.2\n" in locked(shop)
    assert pins(shop) == ["alpha==1.0", "tiny==1.2"] == pins(shop, "requirements-dev.txt")


# ---- what cannot be locked -------------------------------------------------------------------


def not_there(shop: Service) -> None:
    depend(shop, "shop-common", **{"shop-common": '{ path = "../../libs/nowhere" }'})


def no_version(shop: Service) -> None:
    depend(shop, "tiny>=7")


def from_git(shop: Service) -> None:
    need("git")
    repository = shop.folder.parents[2] / "elsewhere"
    write_library(repository, "shop-common", [])
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "1")):
        run("git", *command, cwd=repository)
    depend(shop, "shop-common", **{"shop-common": f'{{ git = "{repository.as_uri()}" }}'})


def by_an_absolute_path(shop: Service) -> None:
    library = shop.folder.parents[1] / "libs" / "common"
    depend(shop, f"shop-common @ {library.as_uri()}")


def not_in_the_repository(shop: Service) -> None:
    write_library(shop.folder.parents[2] / "elsewhere", "shop-common", [])
    depend(shop, "shop-common", **{"shop-common": '{ path = "../../../elsewhere" }'})


def named_by_a_library(shop: Service) -> None:
    libraries = shop.folder.parents[1] / "libs"
    more = '[tool.uv.sources]\nshop-common = { path = "../common" }\n'
    write_library(libraries / "more", "shop-more", ["shop-common"], more)
    depend(shop, "shop-more", **{"shop-more": '{ path = "../../libs/more" }'})


def with_a_blank(shop: Service) -> None:
    write_library(shop.folder.parents[1] / "libs" / "the common", "shop-common", [])
    depend(shop, "shop-common", **{"shop-common": '{ path = "../../libs/the common" }'})


def no_wheel_on_the_index(shop: Service) -> None:
    depend(shop, "maconly")


def no_wheel_in_the_repository(shop: Service) -> None:
    wheel = next(shop.wheels.glob("maconly-*"))
    (shop.folder / "libs").mkdir()
    shutil.copy(wheel, shop.folder / "libs")
    depend(shop, "maconly", maconly=f'{{ path = "libs/{wheel.name}" }}')


def compiled(shop: Service) -> None:
    """Have a library built by a backend of its own, which makes a wheel for one machine."""
    library = shop.folder.parents[1] / "libs" / "common"
    wheel = write_wheel(library, "shop_common", "py3-none-macosx_11_0_arm64", {"x.py": ""})
    (library / "backend.py").write_text(
        "import pathlib, shutil\n\ndef build_wheel(folder, *_):\n"
        f"    shutil.copy(pathlib.Path(__file__).with_name('{wheel.name}'), folder)\n"
        f"    return '{wheel.name}'\n",
        encoding="utf-8",
    )
    project = (library / "pyproject.toml").read_text(encoding="utf-8").partition("[build")[0]
    (library / "pyproject.toml").write_text(
        f'{project}[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        'backend-path = ["."]\n',
        encoding="utf-8",
    )
    depend(shop, "shop-common", **{"shop-common": '{ path = "../../libs/common" }'})


def not_buildable(shop: Service) -> None:
    library = shop.folder.parents[1] / "libs" / "common"
    shutil.rmtree(library / "src")
    depend(shop, "shop-common", **{"shop-common": '{ path = "../../libs/common" }'})


def on_an_index_that_is_not_searched(shop: Service) -> None:
    """Name an index that `make install` doesn't search, though .venv has the package."""
    index = shop.folder.parents[2] / "index"
    index.mkdir()
    write_wheel(index, "iniconfig", "py3-none-any", {"i.py": ""}, version("iniconfig"))
    depend(
        shop,
        "iniconfig",
        iniconfig='{ index = "corp" }\n[[tool.uv.index]]\nname = "corp"\nformat = "flat"\n'
        f'explicit = true\nurl = "{index.as_uri()}"',
    )


def a_scanner_without_a_hash(shop: Service) -> None:
    library = shop.folder.parents[1] / "libs" / "common"
    depend(shop, "tiny", security=(f"shop-common @ {library.as_uri()}",))


REFUSED = [
    (not_there, "uv cannot lock the dependencies in pyproject.toml: see above."),
    (no_version, "uv cannot lock the dependencies in pyproject.toml: see above."),
    (from_git, "has no hash, so it could be something else tomorrow"),
    (by_an_absolute_path, "has no hash, so it could be something else tomorrow"),
    (not_in_the_repository, "../../../elsewhere is not in this repository"),
    (named_by_a_library, "../common is no path in [tool.uv.sources] of this service"),
    (with_a_blank, "../../libs/the common has a blank in its path"),
    (no_wheel_on_the_index, "maconly 1.0 has no wheel for Linux on arm64"),
    (no_wheel_in_the_repository, "maconly-1.0-py3-none-macosx_11_0_arm64.whl"),
    (compiled, "../../libs/common is not pure Python: what is compiled here (shop_common-1.0-py3"),
    (not_buildable, "../../libs/common cannot be built as a wheel: "),
    (a_scanner_without_a_hash, "has no hash, so it could be something else tomorrow"),
    (on_an_index_that_is_not_searched, "uv cannot lock the dependencies"),
]


@pytest.mark.parametrize(("fault", "said"), REFUSED, ids=[fault.__name__ for fault, _ in REFUSED])
def test_a_lock_that_cannot_be_installed_is_not_written(
    shop: Service, fault: Callable[[Service], None], said: str
) -> None:
    for file in lock.LOCKS:
        shop.write(file, AS_IT_WAS)
    fault(shop)
    for command in ("lock", "upgrade"):
        code, out, err = shop.run(command)
        assert code == 1, out
        assert said in err
        assert err.endswith("The lock files stay as they were.\n")
        for file in lock.LOCKS:
            assert (shop.folder / file).read_text(encoding="utf-8") == AS_IT_WAS
    assert not list((shop.folder / "dist" / ".cache").glob("lock-*"))


# ---- libraries of the repository -------------------------------------------------------------


def test_a_folder_is_packed_with_what_it_needs(shop: Service) -> None:
    depend(shop, "tiny", "shop-common", **{"shop-common": '{ path = "../../libs/common" }'})
    said = locked(shop)
    assert "  ../../libs/common: added\n  alpha: added 1.0\n" in said
    assert pins(shop) == ["alpha==1.0", "../../libs/common", "tiny==1.0"]
    shop.build()
    names = shop.files()
    assert {"alpha.py", "shop_common/__init__.py", "shop_common-1.0.dist-info/METADATA"} <= set(
        names
    )
    # Nothing of this machine.
    assert not [name for name in names if name.endswith("direct_url.json")]
    assert str(shop.folder.parents[2]).encode() not in b"".join(names.values())


def test_a_change_in_a_folder_is_a_change_of_the_package(shop: Service) -> None:
    library = shop.folder.parents[1] / "libs" / "common"
    depend(shop, "tiny", "shop-common", **{"shop-common": '{ path = "../../libs/common" }'})
    locked(shop)
    shop.build()
    first = shop.output.read_bytes()
    # What others leave there is none.
    for name in ("build/lib/shop_common/old.py", "src/x.egg-info/SOURCES", ".venv/bin/python"):
        (library / name).parent.mkdir(parents=True)
        (library / name).write_text("", encoding="utf-8")
    assert "SHA-256" not in shop.build()
    module = library / "src" / "shop_common" / "__init__.py"
    module.write_text("VALUE = 2\n", encoding="utf-8")
    assert "SHA-256" in shop.build()
    assert shop.files()["shop_common/__init__.py"] == b"VALUE = 2\n"
    module.write_text("VALUE = 1\n", encoding="utf-8")
    shop.build()
    assert shop.output.read_bytes() == first
    # What it needs is locked, too.
    project = (library / "pyproject.toml").read_text(encoding="utf-8")
    (library / "pyproject.toml").write_text(project.replace('"alpha"', '"alpha", "beta"'))
    assert "requirements.txt is out of date" in shop.refuse()
    assert "  beta: added 1.0\n" in locked(shop)
    shop.build()
    assert "beta.py" in shop.files()


def test_the_bytes_are_the_same_in_another_clone(shop: Service, tmp_path: Path) -> None:
    depend(shop, "tiny", "shop-common", **{"shop-common": '{ path = "../../libs/common" }'})
    locked(shop)
    shop.build()
    monorepo = shop.folder.parents[1]
    shutil.copytree(monorepo, tmp_path / "a b", ignore=shutil.ignore_patterns("dist", ".git"))
    before = os.umask(0o077)
    try:
        other = Service(tmp_path / "a b" / "services" / "orders", shop.wheels, tmp_path / "cache")
        other.build()
    finally:
        os.umask(before)
    assert other.output.read_bytes() == shop.output.read_bytes()


def test_a_wheel_in_the_repository_is_locked_by_its_hash(shop: Service) -> None:
    library = shop.folder / "libs"
    library.mkdir()
    name = write_wheel(library, "shoplib", "py3-none-any", {"shoplib.py": "VALUE = 1\n"}).name
    depend(shop, "tiny", "shoplib", shoplib=f'{{ path = "libs/{name}" }}')
    assert f"  libs/{name}: added " in locked(shop)
    assert f"libs/{name} \\\n    --hash=sha256:" in (shop.folder / "requirements.txt").read_text()
    shop.build()
    assert shop.files()["shoplib.py"] == b"VALUE = 1\n"
    with shop.here():
        from tools.build.package import build

        host = shop.folder / build("host")
    with zipfile.ZipFile(host) as archive:
        assert "shoplib.py" in archive.namelist()
    # Another file of that name isn't the one that was locked, until it is locked again.
    write_wheel(library, "shoplib", "py3-none-any", {"shoplib.py": "VALUE = 2\n"})
    shutil.rmtree(shop.folder / "dist")
    assert "its hash is none of those in requirements.txt" in shop.refuse()
    assert f"  libs/{name}: " in (said := locked(shop))
    assert " -> " in said
    shop.build()
    assert shop.files()["shoplib.py"] == b"VALUE = 2\n"


def test_a_private_index_comes_first(shop: Service) -> None:
    index = shop.folder.parents[2] / "index"
    index.mkdir()
    write_wheel(index, "tiny", "py3-none-any", {"tiny.py": "VALUE = 'ours'\n"})
    corp = f'[[tool.uv.index]]\nname = "corp"\nformat = "flat"\nurl = "{index.as_uri()}"'
    depend(shop, "tiny", unused=f'{{ index = "corp" }}\n{corp}')
    locked(shop, UV_FIND_LINKS=None, UV_NO_CONFIG=None)
    assert index.as_uri() not in (shop.folder / "requirements.txt").read_text(encoding="utf-8")
    shop.build(UV_FIND_LINKS=None, UV_NO_CONFIG=None)
    assert shop.files()["tiny.py"] == b"VALUE = 'ours'\n"


def test_a_library_that_is_not_locked_is_not_packed(shop: Service) -> None:
    depend(shop, "tiny")
    locked(shop)
    depend(shop, "tiny", "shop-common", **{"shop-common": '{ path = "../../libs/common" }'})
    message = shop.refuse()
    assert "requirements.txt is out of date" in message
    assert "make lock" in message


def test_a_conflict_is_not_packed(shop: Service) -> None:
    depend(shop, "tiny")
    locked(shop)
    lock_file = (shop.folder / "requirements.txt").read_text(encoding="utf-8")
    shop.write("requirements.txt", f"{lock_file}>>>>>>> mine\n")
    message = shop.refuse()
    assert "requirements.txt is out of date" in message
    assert ">>>>>>> mine" in message
    locked(shop)
    shop.build()


@pytest.mark.slow
@pytest.mark.usefixtures("known_types")
def test_the_documented_library_is_shared_in_every_clone(render: Render, tmp_path: Path) -> None:
    """Lock with make as docs/monorepo.md says; install and pack in a clean clone, and in both."""
    need("make")
    need("git")
    monorepo = tmp_path / "monorepo"
    folder = monorepo / "services" / "order-events"
    answers = {"python_version": VERSION, "service_path": "services/order-events"}
    shutil.copytree(render(**answers), folder)
    page = (TEMPLATE / "docs" / "monorepo.md").read_text(encoding="utf-8")
    library, sources = re.findall(r"(?ms)^   ```toml\n(.*?)^   ```$", page)
    write_library(monorepo / "libs" / "common", "shop-common", [])
    (monorepo / "libs" / "common" / "pyproject.toml").write_text(textwrap.dedent(library))
    (monorepo / "libs" / "common" / "src" / "shop_common" / "py.typed").touch()
    (folder / "libs").mkdir()
    write_wheel(
        folder / "libs",
        "shoplib",
        "py3-none-any",
        {"shoplib/__init__.py": "", "shoplib/py.typed": ""},
    )
    project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    project = project.replace(
        "dependencies = [\n", 'dependencies = [\n    "shop-common", "shoplib",\n', 1
    )
    (folder / "pyproject.toml").write_text(
        f"{project}\n{textwrap.dedent(sources)}"
        'shoplib = { path = "libs/shoplib-1.0-py3-none-any.whl" }\n',
        encoding="utf-8",
    )
    code = folder / "order_events" / "service.py"
    code.write_text(
        code.read_text(encoding="utf-8")
        + "\nimport shop_common  # noqa: E402\nimport shoplib  # noqa: E402\n"
        '\n__all__ = ["shop_common", "shoplib"]\n',
        encoding="utf-8",
    )
    run("git", "init", "--quiet", cwd=monorepo)
    lend_environment(folder, Path(sys.prefix))
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(f"{text}>>>>>>> mine\n", encoding="utf-8")
    run("make", "lock", cwd=folder)
    shutil.rmtree(folder / ".venv")
    run("git", "add", ".", cwd=monorepo)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    run("git", *who, "commit", "--quiet", "--message", "Share", cwd=monorepo)
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", monorepo, clone, cwd=tmp_path)
    there = clone / "services" / "order-events"
    run("make", "install", "package", cwd=there)
    run(".venv/bin/python", "-m", "mypy", "order_events", cwd=there)
    where = "import shop_common; print(shop_common.__file__)"
    said = run(".venv/bin/python", "-c", where, cwd=there).stdout
    assert said.startswith(str(clone / "libs" / "common"))
    lend_environment(folder, there / ".venv")
    run("make", "package", cwd=folder)
    package = (folder / "dist" / "lambda.zip").read_bytes()
    assert package == (there / "dist" / "lambda.zip").read_bytes()
    with zipfile.ZipFile(folder / "dist" / "lambda.zip") as archive:
        assert {"shop_common/__init__.py", "shoplib/__init__.py"} <= set(archive.namelist())


# ---- environments ----------------------------------------------------------------------------


def test_another_lock_makes_the_environment_anew(fresh: Render) -> None:
    need("make")
    folder = fresh()
    lend_environment(folder)
    dry = ("make", "--dry-run", "plan")
    assert "venv.sh" not in run(*dry, cwd=folder).stdout
    deploy = "requirements-deploy.txt"
    for said in (
        run(*dry, f"REQUIREMENTS={deploy}", cwd=folder).stdout,
        run(*dry, cwd=folder, REQUIREMENTS=deploy).stdout,
    ):
        assert f"sh tools/venv.sh .venv {deploy} " in said
    (folder / ".venv" / "requirements-dev.txt").rename(folder / ".venv" / deploy)
    assert "venv.sh" not in run(*dry, cwd=folder, REQUIREMENTS=deploy).stdout
    assert "sh tools/venv.sh .venv requirements-dev.txt " in run(*dry, cwd=folder).stdout


# Runs the help of all commands but those that run the code here, then imports what their modules
# import, wherever in them. Prints what is installed.
NEEDS = """
import ast, importlib, sys
from importlib.metadata import distributions
from pathlib import Path
from tools.__main__ import COMMANDS, main
from tools.events import models
from tools.operate import compute

for name in {*COMMANDS, *compute.COMMANDS} - {"debug", "invoke", "local"}:
    assert main([name, "--help"]) == 0, name
models()
seen = set()
while new := {name for name in sys.modules if name.startswith("tools.")} - seen:
    seen |= new
    for path in filter(None, (sys.modules[name].__file__ for name in new)):
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    there = hasattr(importlib.import_module(node.module), alias.name)
                    assert there or importlib.import_module(inner)
print("Installed:", *sorted(it.name.lower() for it in distributions()))
"""


@pytest.mark.slow
def test_to_deploy_and_operate_takes_the_deploy_lock_alone(render: Render, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    install = (sys.executable, "-m", "uv", "pip", "install", "--require-hashes", "--python", python)
    for compute in ("lambda", "fargate"):
        folder = render(compute=compute, python_version=VERSION)
        run(*install, "--requirement", folder / "requirements-deploy.txt", cwd=tmp_path)
        said = run(python, "-B", "-c", NEEDS, cwd=folder, PYTHONPATH=str(folder)).stdout
        installed = set(said.rpartition("Installed: ")[2].split())
        assert {"boto3", "click", "msgspec", "python-hcl2"} <= installed
        # Neither a web server nor what runs tests lies beside credentials.
        assert not {"awslambdaric", "flask", "moto", "mypy", "pytest", "ruff"} & installed

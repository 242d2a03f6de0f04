"""Libraries of this repository that the service depends on, each by its path in [tool.uv.sources].

A wheel is locked by its hash, like what comes from an index. A folder is source, like the service's
own: it has no hash, changes without a new version, and is built again for each package.
"""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from tools.errors import ToolError

# At the top of a library's folder: what others made there, and the build does not need.
NOT_SOURCE = re.compile(r"(?:build|dist|node_modules|venv)/|(?:.*/)?[^/]+\.egg-info/")


class Locked(NamedTuple):
    """What a lock file has in one entry, such as ``name==1.0 ; marker`` or ``../../libs/name``."""

    requirement: str
    hashes: list[str]

    @property
    def path(self) -> str:
        """Return the path of what is in this repository; "" for what comes from elsewhere."""
        if re.match(r"[\w.\[\],-]+ ?(==|@)", self.requirement):
            return ""
        return os.path.normpath(self.requirement.removeprefix("-e ").partition(" ;")[0])

    def __str__(self) -> str:
        return " ".join([self.requirement, *self.hashes])


def entries(lock: str) -> list[Locked]:
    """Return the entries of a lock file as uv writes it."""
    lines = lock.replace("\\\n", "").splitlines()
    parts = [re.split(r"\s+(?=--hash=)", line.strip()) for line in lines if line[:1] not in "#"]
    return [Locked(requirement, hashes) for requirement, *hashes in parts]


def repository() -> Path | None:
    """Return the folder of the Git repository, None where there is none."""
    # Not by asking Git: in a hook it answers by its variables, and it refuses other people's files.
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)


def libraries() -> dict[str, str]:
    """Return path -> name of the libraries that pyproject.toml takes from this repository."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    sources = pyproject.get("tool", {}).get("uv", {}).get("sources", {})
    return {
        os.path.normpath(source["path"]): name
        for name, listed in sources.items()
        for source in (listed if isinstance(listed, list) else [listed])
        if "path" in source
    }


def folders(lock: str) -> list[str]:
    """Return the paths of the locked libraries that are folders."""
    names = libraries()
    return [entry.path for entry in entries(lock) if entry.path in names and not entry.hashes]


def source(path: str) -> dict[str, tuple[bytes, bool]]:
    """Return name -> content of a library's files, and whether it may be executed."""
    from tools.build.package import own_code

    files = {os.path.relpath(name, path): file for name, file in own_code([path]).items()}
    return {name: file for name, file in files.items() if not NOT_SOURCE.match(name)}


def given(lock: str, folder: Path) -> list[str | Path]:
    """Return the options by which uv knows what to install; their files are put into a folder.

    Direct dependencies come from pyproject.toml, versions and hashes from the lock as constraints:
    so uv itself finds a lock that no longer fits, and leftovers aren't installed. Libraries of this
    repository are given as wheels.
    """
    built = wheels(lock, folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "constraints.txt": [str(entry) for entry in entries(lock) if not entry.path],
        "requirements.txt": list(built.values()),
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return [
        *("--requirements", "pyproject.toml", "--requirements", folder / "requirements.txt"),
        *("--constraints", folder / "constraints.txt", "--require-hashes"),
        *(option for name in built for option in ("--no-sources-package", name)),
    ]


def wheels(lock: str, folder: Path) -> dict[str, str]:
    """Build the locked libraries that are folders.

    :param folder: where the wheels are put.
    :returns: name -> requirement, with a hash, of each locked library of this repository.
    :raises ToolError: one is not in pyproject.toml, or cannot be built, or not for another machine.
    """
    names, built = libraries(), {}
    for entry in entries(lock):
        if not entry.path:
            continue
        if entry.path not in names:
            raise ToolError(
                f"requirements.txt is out of date: [tool.uv.sources] in pyproject.toml does not "
                f"have the path {entry.path}. Run `make lock`."
            )
        name, wheel, hashes = names[entry.path], Path(entry.path), " ".join(entry.hashes)
        if not hashes:
            wheel = _build(name, entry.path, folder / name)
            hashes = f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
        built[name] = f"{name} @ {wheel.absolute().as_uri()} {hashes}"
    return built


def _build(name: str, path: str, folder: Path) -> Path:
    """Return the wheel of a library, built in a copy: what earlier builds left stays out of it."""
    from uv import find_uv_bin

    from tools.build.package import write_files

    write_files(source(path), folder / "source")
    command = [find_uv_bin(), "build", "--wheel", "--python", sys.executable, "--color", "never"]
    command += ["--no-progress", "--out-dir", str(folder), str(folder / "source")]
    for network in (["--offline"], []):  # what builds it may be in uv's cache
        done = subprocess.run([*command, *network], capture_output=True, text=True)
        if done.returncode == 0:
            break
    else:
        reason = " ".join(done.stderr.replace(str(folder / "source"), path).split())
        raise ToolError(f"{path} cannot be built as a wheel: {reason}")
    (wheel,) = folder.glob("*.whl")
    if not wheel.stem.endswith("-none-any"):
        raise ToolError(
            f"{path} is not pure Python: what is compiled here ({wheel.name}) may not run there. "
            f"Build wheels of {name} for each machine, and put them on a package index."
        )
    return wheel

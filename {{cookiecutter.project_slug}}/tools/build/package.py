"""Builds dist/lambda.zip: one zip of the service's code, its dependencies, and their bytecode.

The zip holds the dependencies, their bytecode, then the service's own code with its bytecode, each
sorted by name, with fixed times and modes. Deflate's output depends on the zlib that Python was
built with, bytecode on Python's patch version: the same Python gives the same bytes.

Every module is compiled. Measured for the default service: 1.2 MB without bytecode, 2.3 MB with it,
1.5 MB with only what a cold start loads, which takes a reader of import statements to find out; a
cold start takes the same either way. A package that only bytecode makes too large for Lambda gets
none for its dependencies.

The package appears whole or not at all: whatever goes wrong, the previous one stays as it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tools.errors import ToolError
from tools.operate import compute
from tools.project import ENVIRONMENTS, Environment, project

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, 1 MB = 1024 * 1024 bytes
MB = 1024 * 1024
DIRECT_UPLOAD_LIMIT = 50 * MB
UNZIPPED_LIMIT = 250 * MB
WARN_FROM = 0.8
CACHE = Path("dist/.cache")
LOCK = Path("requirements.txt")


@dataclass
class Package:
    """What is known of a package, kept in dist/.cache/<name>.json; sizes in bytes."""

    key: str  # the hash of what it was built from
    sha256: str
    size: int
    unzipped: int
    files: int
    largest: str  # its five largest parts, in words
    bytecode: bool  # whether the dependencies have theirs


@click.command()
def command() -> None:
    """Build dist/lambda.zip: code, dependencies, bytecode."""
    print(f"{build()} is up to date.")


def build(platform: str = "lambda") -> Path:
    """Build the package unless it is up to date, and print its summary.

    :param platform: lambda, or host for dist/lambda-host.zip, with wheels for this machine.
    :raises ToolError: it cannot be built, or is too large for Lambda.
    """
    service = project()
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != service.python_version:
        raise ToolError(
            f"This is Python {running}, but the service runs on Python {service.python_version}, "
            "and bytecode of one does not work in the other. Run `make install`, which makes the "
            "virtual environment with the right one."
        )
    if not LOCK.exists():
        raise ToolError(f"There is no {LOCK}: run `make lock`, which writes it.")
    output = Path("dist/lambda.zip" if platform == "lambda" else "dist/lambda-host.zip")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time; freed when the process ends
        _build(output, service.architecture if platform == "lambda" else "")
    return output


def runnable() -> Path:
    """Return the package that this machine can run, built if necessary."""
    machine = os.uname().machine.replace("aarch64", "arm64")
    same = sys.platform == "linux" and machine == project().architecture
    return build("lambda" if same else "host")


def _build(output: Path, architecture: str) -> None:
    """Build a package unless it is up to date; without an architecture, for this machine."""
    own = _own_code([*compute.CODE, project().package])
    here = Path(__file__)
    decisive = (here, here.with_name("dependencies.py"), Path("pyproject.toml"), LOCK)
    hashes = [_sha256(path.read_bytes()) for path in decisive]
    layer_key = _hash([*hashes, sys.version, architecture or os.uname().machine])
    key = _hash([layer_key, {name: _sha256(data) for name, data in own.items()}])
    state = CACHE / f"{output.name}.json"
    package = _known(state, output)
    if package and package.key == key:
        _check_limits(package)
        return

    # Imported here, since an up-to-date package needs none of it.
    from tools.build.dependencies import install, target_name, write_layer

    for leftover in CACHE.glob("build-*"):  # of a build that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as folder:
        work = Path(folder)
        layer = CACHE / f"{output.name}.{layer_key}"
        if not layer.exists():
            print(f"Installing dependencies for {target_name(architecture)}.", flush=True)
            install(architecture, work / "site")
            write_layer(work / "site", work / "layer.zip")
            for old in CACHE.glob(f"{output.name}.*"):
                old.unlink()
            (work / "layer.zip").replace(layer)
        package = _write(layer, own, key, work)
        _check_limits(package)
        (work / "state.json").write_text(json.dumps(asdict(package)), encoding="utf-8")
        (work / "package.zip").replace(output)
        (work / "state.json").replace(state)
    print(f"{output} for {target_name(architecture)}")
    _print_summary(package)


def _own_code(sources: list[str]) -> dict[str, bytes]:
    """Return name in the zip -> content of the service's own files."""
    found: dict[str, bytes] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise ToolError(f"There is no {source} in {Path.cwd()}, and the package needs it.")
        for path in [source] if source.is_file() else source.rglob("*"):
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                found[path.as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def _known(state: Path, output: Path) -> Package | None:
    """Return what an earlier build wrote down of its package, if that is still there."""
    try:
        package = Package(**json.loads(state.read_text(encoding="utf-8")))
        return package if package.sha256 == _sha256(output.read_bytes()) else None
    except (OSError, ValueError, TypeError):
        return None


def _write(layer: Path, own: dict[str, bytes], key: str, work: Path) -> Package:
    """Write work/package.zip; without the dependencies' bytecode where it is too large with it."""
    from tools.build.dependencies import add_own, compile_all

    for name, data in own.items():
        (work / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "own" / name).write_bytes(data)
    compiling = compile_all(work / "own")
    problems = " ".join(compiling.communicate()[0].split())
    if compiling.returncode:
        problems = problems.replace(f"{work}/own/", "")
        raise ToolError(f"The service's code cannot be compiled: {problems}")
    for bytecode in (True, False):
        sizes = add_own(layer, work / "own", work / "package.zip", bytecode=bytecode)
        parts: Counter[str] = Counter()
        for name, size in sizes.items():
            parts[name.partition("/")[0]] += size
        zipped = (work / "package.zip").read_bytes()
        package = Package(
            key=key,
            sha256=_sha256(zipped),
            size=len(zipped),
            unzipped=sum(sizes.values()),
            files=len(sizes),
            largest=", ".join(f"{name} {_mb(size)}" for name, size in parts.most_common(5)),
            bytecode=bytecode,
        )
        if all(size <= limit for _, size, limit in _limited(package)):
            break
    return package


def _limited(package: Package) -> list[tuple[str, int, int]]:
    """Return what Lambda limits: its name, its size, the limit. On Fargate that is nothing."""
    if compute.ARTIFACT.suffix != ".zip":
        return []
    limited = [("unzipped", package.unzipped, UNZIPPED_LIMIT)]
    tfvars = [Environment(name).tfvars.read_text(encoding="utf-8") for name in ENVIRONMENTS]
    if not all(re.search(r'(?m)^\s*artifact_bucket\s*=\s*"', text) for text in tfvars):
        limited.append(("zip", package.size, DIRECT_UPLOAD_LIMIT))
    return limited


def _check_limits(package: Package) -> None:
    above = [
        f"{what} it has {_mb(size)}, and Lambda's limit is {_mb(limit)}"
        for what, size, limit in _limited(package)
        if size > limit
    ]
    if above:
        raise ToolError(
            f"The package is too large: {'; '.join(above)}. The largest parts, unzipped: "
            f"{package.largest}. Where all environments set artifact_bucket, the zip goes through "
            "S3 and has no limit of its own."
        )


def _print_summary(package: Package) -> None:
    shares = {
        what: f"{size / limit:.1%} of {_mb(limit)}" for what, size, limit in _limited(package)
    }
    for what, size in (("zip", package.size), ("unzipped", package.unzipped)):
        print(f"  {what:<8}  {_mb(size):>9}  ({shares.get(what, 'no limit')})")
    print(f"  files     {package.files:>9}")
    print(f"  SHA-256   {package.sha256}")
    if not package.bytecode:
        print("  Dependencies have no bytecode: with it the package is too large.")
    for what, size, limit in _limited(package):
        if size >= WARN_FROM * limit:
            print(f"  Warning: {shares[what]} ({what}). The largest parts: {package.largest}.")


def _hash(value: object) -> str:
    return _sha256(json.dumps(value).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mb(size: int) -> str:
    return f"{size / MB:.1f} MB" if size % MB or not size else f"{size // MB} MB"

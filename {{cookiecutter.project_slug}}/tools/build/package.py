"""Builds dist/lambda.zip: one zip of the service's code, its dependencies, and their bytecode.

The zip holds the dependencies, their bytecode, then the service's own code with its bytecode, each
sorted by name, with fixed times and modes. Deflate's output depends on the zlib that Python was
built with, bytecode on Python's patch version: the same Python gives the same bytes.

Every module is compiled. Measured for the default service: 1.2 MB without bytecode, 2.3 MB with it,
1.5 MB with that of the modules that a cold start loads, but finding those takes a parser of import
statements, and a cold start is no faster. A package that only bytecode makes too large for Lambda
gets none for its dependencies.

The package appears whole or not at all: whatever goes wrong, the previous one stays as it was.
"""

import fcntl
import hashlib
import itertools
import os
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tools.build import shared
from tools.errors import ToolError
from tools.operate import compute
from tools.project import project

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, 1 MB = 1024 * 1024 bytes
MB = 1024 * 1024
DIRECT_UPLOAD_LIMIT = 50 * MB
UNZIPPED_LIMIT = 250 * MB
WARN_FROM = 0.8
THROUGH_S3 = (
    f"Lambda takes a zip of more than {DIRECT_UPLOAD_LIMIT // MB} MB only through S3: set "
    "artifact_bucket in each environment's .tfvars"
)
CACHE = Path("dist/.cache")
PACKAGES = {"lambda": Path("dist/lambda.zip"), "host": Path("dist/lambda-host.zip")}
LOCK = Path("requirements.txt")


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
    output = PACKAGES[platform]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time; freed when the process ends
        _build(output, service.architecture if platform == "lambda" else "")
    return output


def runnable() -> Path:
    """Return the package that this machine can run, built if necessary."""
    return build(platform_here())


def platform_here() -> str:
    """Return the platform of the package that this machine can run."""
    machine = os.uname().machine.replace("aarch64", "arm64")
    same = sys.platform == "linux" and machine == project().architecture
    return "lambda" if same else "host"


def _build(output: Path, architecture: str) -> None:
    """Build a package unless it is up to date; without an architecture, for this machine."""
    own = own_code([*compute.CODE, project().package])
    tools = sorted(Path(__file__).parent.glob("*.py"))
    hashes = [_sha256(path.read_bytes()) for path in (*tools, Path("pyproject.toml"), LOCK)]
    libraries = [shared.source(path) for path in shared.folders(LOCK.read_text(encoding="utf-8"))]
    machine = architecture or os.uname().machine
    layer_key = _hash(hashes, sys.version, zlib.ZLIB_RUNTIME_VERSION, machine, libraries)
    key = _hash(layer_key, {name: (_sha256(data), x) for name, (data, x) in own.items()})
    state = CACHE / f"{output.name}.state"
    known = state.read_text(encoding="utf-8") if state.exists() and output.exists() else ""
    if known and known == f"{key} {_sha256(output.read_bytes())}":
        return

    # Imported here, since an up-to-date package needs none of it.
    from tools.build import dependencies

    for leftover in CACHE.glob("build-*"):  # of a build that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as folder:
        own_folder, built, new_state = (Path(folder, name) for name in ("own", "zip", "state"))
        layer = _layer(f"{output.name}.{layer_key}", architecture, Path(folder))
        dependencies.compile_own(own, own_folder)
        for limits, bytecode in itertools.product(_limits(), (True, False)):
            sizes = dependencies.add_own(layer, own_folder, built, bytecode)
            summary, problem = describe(built.stat().st_size, sizes, limits)
            if not problem:
                break
        if problem:
            raise ToolError(problem)
        sha256 = _sha256(built.read_bytes())
        new_state.write_text(f"{key} {sha256}", encoding="utf-8")
        built.replace(output)
        new_state.replace(state)
    print(f"{output} for {dependencies.target_name(architecture)}\n{summary}  SHA-256   {sha256}")
    if not bytecode:
        print("  Dependencies have no bytecode: with it the package is too large.")


def _layer(name: str, architecture: str, folder: Path) -> Path:
    """Return the zip of the dependencies: from the cache, or made in a folder and put there.

    :param name: the package's name and the key of its dependencies.
    """
    from tools.build import dependencies

    # Its name has its own hash too: what a full disk or a crash has damaged is made again.
    for cached in CACHE.glob(f"{name}.*"):
        if cached.suffix == f".{_sha256(cached.read_bytes())}":
            return cached
    made = dependencies.write_layer(architecture, folder)
    for old in CACHE.glob(f"{name.rpartition('.')[0]}.*"):
        old.unlink()
    return made.replace(CACHE / f"{name}.{_sha256(made.read_bytes())}")


def own_code(sources: list[str]) -> dict[str, tuple[bytes, bool]]:
    """Return name in the zip -> content of the service's own files, and whether it is executable.

    What is linked to is packed, if it is in this repository; hidden files and bytecode are not.

    :raises ToolError: a file cannot be packed.
    """
    try:
        return {
            file.as_posix(): (file.read_bytes(), bool(file.stat().st_mode & stat.S_IXUSR))
            for file in sorted(own_files(sources))
        }
    except PermissionError as error:
        raise ToolError(f"{error.filename} cannot be packed: you may not read it.") from None


def own_files(sources: Iterable[str]) -> list[Path]:
    """Return the files that `own_code` reads. Raises what it does."""
    for source in sources:
        if not Path(source).exists():
            raise ToolError(f"There is no {source} in {Path.cwd()}, and the package needs it.")
    return [file for source in sources for file in _files(Path(source), ())]


def write_files(files: Mapping[str, tuple[bytes, bool]], folder: Path) -> None:
    """Write files into a folder: name -> content, and whether it may be executed."""
    for name, (data, executable) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o755 if executable else 0o644)


def _files(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Return a file, or a folder's files; above are the real paths of the folders that it is in."""
    if path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc":
        return
    real = Path(os.path.realpath(path))
    if path.is_symlink() and not path.exists():
        problem = "it is a link to what is not there"
    elif path.is_symlink() and not real.is_relative_to(shared.repository() or Path.cwd().resolve()):
        problem = f"it is a link to {real}, which is not in this repository"
    elif real in above:
        problem = f"it is a link to {real}, which it is in itself"
    elif path.is_dir():
        for inner in path.iterdir():
            yield from _files(inner, (*above, real))
        return
    elif not path.is_file():
        problem = "it is neither a file nor a folder"
    elif any("\ud800" <= character <= "\udfff" for character in path.name):
        problem = "its name must be UTF-8"
    else:
        yield path
        return
    raise ToolError(f"{str(path)!r} cannot be packed: {problem}.")


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package with its files' modes, as Lambda does. Raises ToolError if that fails."""
    try:
        with zipfile.ZipFile(package) as archive:
            for entry in archive.infolist():
                path = Path(archive.extract(entry, folder))
                if not entry.is_dir():
                    path.chmod((entry.external_attr >> 16) & 0o555 | 0o444)
    except FileNotFoundError:
        raise ToolError(f"There is no {package}. Run `make package`.") from None
    except zipfile.BadZipFile:
        raise ToolError(f"{package} is not a zip. Run `make package`.") from None


def make_read_only(folder: Path, mode: int = 0o555) -> None:
    """Let nobody write into a folder and those in it; what they link to stays as it is."""
    for inner, _, _ in os.walk(folder):
        Path(inner).chmod(mode)


def remove(folder: Path) -> None:
    """Remove a folder, also if it is read-only."""
    make_read_only(folder, 0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _limits() -> list[dict[str, int]]:
    """Return Lambda's limits for a direct upload and for one through S3; an image has none."""
    if compute.ARTIFACT.suffix != ".zip":
        return [{}]
    through_s3 = {"unzipped": UNZIPPED_LIMIT}
    return [{"zip": DIRECT_UPLOAD_LIMIT, **through_s3}, through_s3]


def require_a_way_to_lambda(planned: dict[str, Any]) -> None:
    """Make sure that a plan uploads a large package through S3.

    :param planned: the variables of the plan, as Terraform shows them.
    :raises ToolError: Lambda would not take the package.
    """
    file = compute.ARTIFACT
    direct = not any(planned.get(n, {}).get("value") for n in ("artifact_bucket", "package_hash"))
    size = file.stat().st_size if file.suffix == ".zip" and file.is_file() else 0
    if direct and size > DIRECT_UPLOAD_LIMIT:
        raise ToolError(f"{file} is {_mb(size)}. {THROUGH_S3}.")


def describe(size: int, sizes: dict[str, int], limits: dict[str, int]) -> tuple[str, str]:
    """Return a package's summary, and what is wrong if it is too large.

    :param size: the zip's, in bytes.
    :param sizes: of the files in it, unzipped, in bytes.
    """
    parts: Counter[str] = Counter()
    for name, bytes_ in sizes.items():
        parts[name.partition("/")[0]] += bytes_
    largest = ", ".join(f"{name} {_mb(part)}" for name, part in parts.most_common(5))
    summary, warnings, problems = "", "", []
    for what, value in (("zip", size), ("unzipped", parts.total())):
        limit = limits.get(what)
        share = f"{value / limit:.1%} of {_mb(limit)}" if limit else "no limit"
        summary += f"  {what:<8}  {_mb(value):>9}  ({share})\n"
        if limit and value > limit:
            problems.append(f"{what} {_mb(value)} (Lambda's limit: {_mb(limit)})")
        elif limit and value >= WARN_FROM * limit:
            warnings += f"  Warning: {share} ({what}). The largest parts: {largest}.\n"
    if limits and "zip" not in limits:
        warnings += f"  {THROUGH_S3}.\n"
    problem = (
        f"The package is too large: {', '.join(problems)}. The largest parts, unzipped: {largest}. "
        "Remove what the code doesn't need, or move the service to Fargate (README.md, More)."
    )
    return f"{summary}  files     {len(sizes):>9}\n{warnings}", problem if problems else ""


def _hash(*values: object) -> str:
    return _sha256(repr(values).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mb(size: int) -> str:
    return f"{size / MB:.1f} MB" if size % MB or not size else f"{size // MB} MB"

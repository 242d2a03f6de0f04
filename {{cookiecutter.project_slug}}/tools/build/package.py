"""Build the function's deployment package: one zip, the same to the byte whoever builds it.

    python scripts/package.py --architecture arm64 --python-version 3.13 \\
        --requirements requirements.txt --output dist/lambda.zip handler.py order_events

Dependencies: those of ``[project].dependencies`` in pyproject.toml, in the versions and with the
hashes of the lock file, wheels only, for Lambda's platform whatever this machine is (or for this
machine with ``--platform host``). uv comes from the virtual environment that runs this script.
boto3, botocore and s3transfer are left out, since Lambda's runtime has them. A service that needs
its own version lists boto3 in ``[project].dependencies``; then all three are packed. One that is
content with the runtime's lists it among its development dependencies only.

The zip: dependencies, their byte-code, the service's own code, each sorted by name; fixed times and
modes; no scripts, no caches; of the installer's records only what importlib.metadata reads.
Byte-code is of the unchecked-hash kind, so it holds no time and is never compared with its source.
It is made for the service's own modules, for those that they import, and for what these import as
they are loaded: that is what a cold start runs, and much less than whole libraries. Other modules
still work, from their source, which is packed for all of them, for tracebacks too.

Deflate's output depends on the zlib that Python was built with, and byte-code on Python's patch
version: the bytes are the same for the same build of Python, the contents for any.

The package appears whole or not at all: whatever goes wrong, the previous one stays as it was.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, 1 MB = 1024 * 1024 bytes
MB = 1024 * 1024
DIRECT_UPLOAD_LIMIT = 50 * MB
UNZIPPED_LIMIT = 250 * MB
WARN_FROM = 0.8

# Python 3.11 runs on Amazon Linux 2 (glibc 2.26; uv's nearest level below is 2.17), later ones on
# Amazon Linux 2023 (glibc 2.34). uv takes wheels of the level it is given and of all older ones.
MANYLINUX = {"3.11": "manylinux_2_17"}
MANYLINUX_DEFAULT = "manylinux_2_34"
PROCESSORS = {"arm64": "aarch64", "x86_64": "x86_64"}

IN_THE_RUNTIME = ("boto3", "botocore", "s3transfer")
INSTALLER_RECORDS = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
# The groups: the names after `import`; or dots, module and names of `from .module import names`.
IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+([^\n#;]+)"
    r"|from[ \t]+(\.*)[ \t]*([\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n#;(]+))",
    re.MULTILINE,
)
# A function or class that isn't inside another one. What it imports is not imported on loading.
BODY = re.compile(r"^(?:async[ \t]+def|def|class)\b.*\n(?:(?:[ \t)\]#].*)?\n)*", re.MULTILINE)
TASK_ROOT = "/var/task"  # where Lambda unpacks the zip: the path that byte-code carries


class PackageError(Exception):
    """What is wrong and what can be done, in words for the person who ran `make package`."""


def main(arguments: list[str] | None = None) -> int:
    """Build the package that the command line asks for; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files go
    options = parse(arguments)
    try:
        package(options)
    except PackageError as problem:
        message = str(problem)
    except OSError as problem:
        where = problem.filename2 or problem.filename or options.output
        message = f"Cannot read or write {where}: {problem.strerror}."
    else:
        return 0
    kept = " The previous package is as it was." if options.output.exists() else ""
    print(f"package: {message}{kept}", file=sys.stderr)
    return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Build the Lambda deployment package.")
    parser.add_argument("--architecture", required=True, choices=PROCESSORS)
    parser.add_argument("--python-version", required=True, help="minor version, for example 3.13")
    parser.add_argument("--platform", choices=("lambda", "host"), default="lambda")
    parser.add_argument("--requirements", type=Path, default=Path("requirements.txt"))
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--output", type=Path, default=Path("dist/lambda.zip"))
    parser.add_argument(
        "--through-s3",
        action="store_true",
        help="the package is uploaded through S3 (artifact_bucket): its zip may be above 50 MB",
    )
    parser.add_argument("sources", nargs="+", type=Path, help="the service's own files and folders")
    return parser.parse_args(arguments)


def package(options: argparse.Namespace) -> None:
    """Build options.output unless it is up to date, then print the summary."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != options.python_version:
        raise PackageError(
            f"This is Python {running}, but the function runs on Python {options.python_version}, "
            "and byte-code of one does not work in the other. Run `make install`, which makes "
            "the virtual environment with the right one."
        )
    own = own_code(options.sources)
    dependencies = direct_dependencies(options.pyproject)
    roots = imported_by(own)
    dependencies_key = digest(
        [
            hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
            sys.version,
            options.platform,
            platform.machine() if options.platform == "host" else options.architecture,
            dependencies,
            read(options.requirements).decode(),
            roots,
        ]
    )
    key = digest([dependencies_key, {n: hashlib.sha256(d).hexdigest() for n, d in own.items()}])

    cache = options.output.parent / ".cache"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time; the system frees it, even on kill
        state = cache / f"{options.output.name}.json"
        if up_to_date(options.output, state, key):
            check_limits(options.output, through_s3=options.through_s3)
            os.utime(options.output)  # for make, which compares times
            print(f"{options.output} is up to date.")
        else:
            for leftover in cache.glob("build-*"):  # of a build that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as folder:
                work = Path(folder)
                layer = cache / f"{options.output.name}.dependencies"
                if dependencies_layer_key(layer) == dependencies_key:
                    print(f"Dependencies are unchanged: taken from {layer}.")
                else:
                    site = install(options, dependencies, work)
                    write_dependencies(site, work / "layer.zip", roots, dependencies_key)
                    (work / "layer.zip").replace(layer)
                built = work / "package.zip"
                write_package(layer, own, built, work)
                check_limits(built, through_s3=options.through_s3)
                result = json.dumps({"key": key, "sha256": sha256(built)})
                (work / "state.json").write_text(result, encoding="utf-8")
                built.replace(options.output)
                (work / "state.json").replace(state)
    summary(options)


# ---- what goes in ---------------------------------------------------------------------------


def own_code(sources: list[Path]) -> dict[str, bytes]:
    """Return name in the zip -> content of the service's own files, sorted by name."""
    found: dict[str, bytes] = {}
    for source in sources:
        if not source.exists():
            raise PackageError(f"There is no {source} in {Path.cwd()}. Name the service's files.")
        for path in [source] if source.is_file() else source.rglob("*"):
            inside = path.relative_to(source.parent)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                found[inside.as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def imported_by(own: dict[str, bytes]) -> list[str]:
    """Return the dotted names that the service's own files import from elsewhere, sorted."""
    known = {name.split("/")[0].removesuffix(".py") for name in own} | sys.stdlib_module_names
    texts = {name: source.decode(errors="replace") for name, source in own.items()}
    names = set().union(*(imports_of(name, text) for name, text in texts.items()))
    return sorted(name for name in names if name.split(".")[0] not in known)


def direct_dependencies(pyproject: Path) -> list[str]:
    """Return [project].dependencies of pyproject.toml."""
    try:
        project = tomllib.loads(read(pyproject).decode()).get("project", {})
    except tomllib.TOMLDecodeError as problem:
        raise PackageError(f"{pyproject} is not valid TOML: {problem}.") from None
    return list(project.get("dependencies", []))


def read(path: Path) -> bytes:
    """Return the content of a file that has to be there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = " Run `make lock` to make it." if path.suffix == ".txt" else ""
        raise PackageError(f"There is no {path} in {Path.cwd()}.{hint}") from None


def imports_of(name: str, text: str) -> set[str]:
    """Return the dotted names that a Python file's import statements may mean, wherever they are.

    `from a import b` gives "a" and "a.b", since b may be a module. What only looks like an import,
    in a docstring, is taken for one: that costs a little space, and reading the text is many times
    as fast as parsing it. A file that isn't Python gives none.
    """
    if not name.endswith(".py"):
        return set()
    package = name.split("/")[:-1]
    found: set[str] = set()
    for plain, dots, module, names in IMPORT.findall(text):
        if plain:
            found.update(imported_names(plain))
        else:
            base = package[: len(package) - len(dots) + 1] if dots else []
            origin = ".".join([*base, *filter(None, [module])])
            found.update([origin, *(f"{origin}.{part}" for part in imported_names(names))])
    return found


def imported_names(text: str) -> list[str]:
    """Return the names in `a.b as c, d`, the part of an import statement that lists them."""
    return re.findall(r"[\w.]+", re.sub(r"\bas\s+\w+", "", text))


# ---- dependencies ---------------------------------------------------------------------------


def install(options: argparse.Namespace, dependencies: list[str], work: Path) -> Path:
    """Install the locked dependencies into a folder below work and return it."""
    from uv import find_uv_bin  # here, since an up-to-date package needs no uv

    chosen = {re.split(r"[^\w.-]", text, maxsplit=1)[0].lower() for text in dependencies}
    excludes = work / "excludes.txt"
    excludes.write_text("" if "boto3" in chosen else "\n".join(IN_THE_RUNTIME), encoding="utf-8")
    site = work / "site"
    # Direct dependencies come from pyproject.toml, versions and hashes from the lock as
    # constraints: so uv itself finds a lock that no longer fits, and left-overs aren't installed.
    command = [
        find_uv_bin(),
        *("pip", "install", "--requirements", str(options.pyproject)),
        *("--constraints", str(options.requirements), "--excludes", str(excludes)),
        *("--require-hashes", "--only-binary", ":all:", "--target", str(site)),
        *("--python", sys.executable, "--no-progress", "--color", "never"),
    ]
    if options.platform == "lambda":
        level = MANYLINUX.get(options.python_version, MANYLINUX_DEFAULT)
        command += ["--python-version", options.python_version]
        command += ["--python-platform", f"{PROCESSORS[options.architecture]}-{level}"]
    print(f"Installing dependencies for {target_name(options)}.", flush=True)
    # The cache alone first: everything is pinned by hash, so the index can't know better, and a
    # warm cache needs no network.
    for network in (["--offline"], []):
        shutil.rmtree(site, ignore_errors=True)
        done = subprocess.run([*command, *network], capture_output=True, text=True)
        if done.returncode == 0:
            site.mkdir(exist_ok=True)  # uv makes none where there are no dependencies
            return site
    raise PackageError(explain(done.stderr, options))


def explain(uv_says: str, options: argparse.Namespace) -> str:
    """Return a message for what uv wrote to stderr."""
    text = " ".join(uv_says[max(uv_says.find("error:"), 0) :].split())
    lock = f"{options.requirements}"
    if found := re.search(r"([\w.-]+)==(\S+) has no (?:usable )?wheels", text):
        name, version = found.groups()
        return (
            f"{name} {version} has no wheel for {target_name(options)}. Packages are built from "
            f"wheels only, since one that is compiled here may not run there. Take another version "
            f"of {name} (a limit in {options.pyproject}, then `make lock`), another package, or "
            "another Python version or architecture; or build the wheel yourself, put it on an "
            "index of your own and run `make lock`."
        )
    if found := re.search(r"Hash mismatch for `(\S+?)==(\S+?)`", text):
        name, version = found.groups()
        return (
            f"{name} {version} was downloaded, but its hash is none of those in {lock}: the file "
            f"is not the one that was locked. If {lock} was edited or merged by hand, run "
            "`make lock`; if not, find out where the other file comes from before you use it."
        )
    if found := re.search(r"no trusted hash was provided for: `?([\w.-]+)", text):
        return (
            f"{lock} is out of date: {options.pyproject} needs {found[1]}, which is not in it "
            "with a hash. Run `make lock`."
        )
    if found := re.search(
        r"(No space left on device|Read-only file system|Permission denied)", text
    ):
        return f"Cannot write the dependencies: {found[1]}. uv said: {text}"
    if re.search(
        r"Failed to fetch|error sending request|network (?:was|is) disabled|dns error", text
    ):
        return (
            "The dependencies are not all in uv's cache and the package index cannot be reached. "
            f"Check the network or the index and proxy settings, then try again. uv said: {text}"
        )
    if "No solution found" in text:
        return (
            f"{lock} is out of date: it does not fit {options.pyproject}. Run `make lock`. "
            f"uv said: {text}"
        )
    return f"uv could not install the dependencies. It said: {text}"


def target_name(options: argparse.Namespace) -> str:
    """Return the platform in words."""
    if options.platform == "host":
        return f"this machine ({platform.system()} {platform.machine()})"
    return f"Lambda on {options.architecture}, Python {options.python_version}"


def write_dependencies(site: Path, output: Path, roots: list[str], key: str) -> None:
    """Zip the installed dependencies, with byte-code of what roots load; key is the comment."""
    content: dict[str, tuple[bytes, int]] = {}
    for path in site.rglob("*"):
        name = path.relative_to(site).as_posix()
        unwanted = name.startswith(("bin/", ".")) or "__pycache__/" in name
        if path.is_file() and not unwanted and not is_installer_record(name):
            # Only the owner's x bit: the others depend on the umask.
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            content[name] = (path.read_bytes(), mode)
    for name, (data, mode) in content.items():
        if name.endswith(".dist-info/RECORD"):
            kept = [line for line in data.decode().splitlines() if record_name(line) in content]
            content[name] = ("".join(f"{line}\n" for line in sorted(kept)).encode(), mode)
    sources = {name: data for name, (data, _) in content.items() if name.endswith(".py")}
    with ThreadPoolExecutor(1) as other, zipfile.ZipFile(output, "w") as archive:
        compiling = other.submit(byte_code, site, loaded(sources, roots))
        for name, (data, mode) in sorted(content.items()):
            add(archive, name, data, mode)
        # Libraries have modules for other Python versions: what can't be compiled isn't used.
        compiled, _ = compiling.result()
        for name, data in sorted(compiled.items()):
            add(archive, name, data, 0o644)
        archive.comment = key.encode()


def is_installer_record(name: str) -> bool:
    """Tell whether name is a file by which the installer notes where a package came from."""
    folder, _, file = name.rpartition("/")
    return folder.endswith(".dist-info") and file in INSTALLER_RECORDS


def record_name(line: str) -> str:
    """Return the file that a line of RECORD (a CSV file) is about."""
    return line.rsplit(",", 2)[0].strip('"')


def loaded(sources: dict[str, bytes], roots: list[str]) -> list[str]:
    """Return the names of those sources that are loaded when roots, dotted names, are imported."""
    found: set[str] = set()
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        todo.append(module.rpartition(".")[0])
        path = module.replace(".", "/")
        for name in {f"{path}.py", f"{path}/__init__.py"} & sources.keys():
            found.add(name)
            todo.extend(imports_of(name, BODY.sub("", sources[name].decode(errors="replace"))))
    return sorted(found)


def dependencies_layer_key(layer: Path) -> str | None:
    """Return the key of the zip of dependencies that an earlier build left, None if unusable."""
    try:
        with zipfile.ZipFile(layer) as archive:
            return archive.comment.decode()
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError):
        return None


# ---- byte-code and zip ----------------------------------------------------------------------


def byte_code(root: Path, names: list[str]) -> tuple[dict[str, bytes], str]:
    """Compile the files names below root.

    Return name in the zip -> byte-code of those that could be compiled, and what the compiler said.
    In a process of its own that starts the same each time: some bytes of marshal's output depend
    on which strings the process has seen before.
    """
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-W", "ignore", "-m", "compileall", "-q"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", TASK_ROOT]
    done = subprocess.run(
        [*command, "-i", "-"],
        input="".join(f"{root / name}\n" for name in names),
        env={},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    compiled = (cache_from_source(name, optimization="") for name in names)
    found = {name: (root / name).read_bytes() for name in compiled if (root / name).exists()}
    return found, " ".join(done.stdout.split()).replace(f"{root}/", "")


def add(archive: zipfile.ZipFile, name: str, data: bytes, mode: int) -> None:
    """Add an entry that tells nothing of when, where or by whom it was made."""
    entry = zipfile.ZipInfo(name)  # dated 1980-01-01
    entry.create_system = 3  # Unix, whatever this is: Lambda then takes the mode
    entry.external_attr = (stat.S_IFREG | mode) << 16
    # writestr ignores the archive's own level. Level 9 takes twice the time for 1 % of the size.
    archive.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=6)


def write_package(layer: Path, own: dict[str, bytes], output: Path, work: Path) -> None:
    """Copy the zip of dependencies to output and add the service's own code."""
    for name, data in own.items():
        path = work / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    modules = [name for name in own if name.endswith(".py")]
    compiled, problems = byte_code(work / "own", modules)
    if len(compiled) < len(modules):
        raise PackageError(f"The service's code cannot be compiled: {problems}")
    shutil.copyfile(layer, output)
    with zipfile.ZipFile(output, "a") as archive:
        archive.comment = b""
        if taken := own.keys() & archive.namelist():
            raise PackageError(f"{min(taken)} is also a file of a dependency: rename yours.")
        for name, data in sorted({**own, **compiled}.items()):
            add(archive, name, data, 0o644)


# ---- what came out --------------------------------------------------------------------------


def check_limits(path: Path, *, through_s3: bool) -> None:
    """Raise PackageError if the zip is above one of Lambda's limits."""
    size, unzipped, _ = measure(path)
    problems = []
    if size > DIRECT_UPLOAD_LIMIT and not through_s3:
        problems.append(
            f"the zip has {in_mb(size)}, above the {in_mb(DIRECT_UPLOAD_LIMIT)} that Lambda takes "
            "directly (set artifact_bucket: then it goes through S3, without this limit)"
        )
    if unzipped > UNZIPPED_LIMIT:
        problems.append(
            f"unzipped it has {in_mb(unzipped)}, above Lambda's {in_mb(UNZIPPED_LIMIT)}"
        )
    if problems:
        largest = ", ".join(f"{name} {in_mb(part)}" for name, part in largest_parts(path))
        raise PackageError(
            f"The package is too large: {'; '.join(problems)}. The largest parts, unzipped: "
            f"{largest}."
        )


def summary(options: argparse.Namespace) -> None:
    """Print size, files, SHA-256 and the share of Lambda's limits, with a warning from 80 %."""
    path: Path = options.output
    size, unzipped, files = measure(path)
    limit = "no limit: through S3" if options.through_s3 else share(size, DIRECT_UPLOAD_LIMIT)
    print(f"{path} for {target_name(options)}")
    print(f"  zip       {in_mb(size):>9}  ({limit})")
    print(f"  unzipped  {in_mb(unzipped):>9}  ({share(unzipped, UNZIPPED_LIMIT)})")
    print(f"  files     {files:>9}")
    print(f"  SHA-256   {sha256(path)}")
    near = [(unzipped, UNZIPPED_LIMIT, "unzipped")]
    near += [] if options.through_s3 else [(size, DIRECT_UPLOAD_LIMIT, "direct upload")]
    for value, maximum, what in near:
        if value >= WARN_FROM * maximum:
            parts = ", ".join(f"{name} {in_mb(part)}" for name, part in largest_parts(path))
            print(f"  Warning: {share(value, maximum)} ({what}). The largest parts: {parts}.")


def measure(path: Path) -> tuple[int, int, int]:
    """Return the zip's size, its size unzipped (bytes), and the number of its files."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    return path.stat().st_size, sum(entry.file_size for entry in entries), len(entries)


def largest_parts(path: Path) -> list[tuple[str, int]]:
    """Return the five largest top-level names in the zip with their sizes unzipped (bytes)."""
    sizes: Counter[str] = Counter()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            sizes[entry.filename.split("/")[0]] += entry.file_size
    return sizes.most_common(5)


def up_to_date(output: Path, state: Path, key: str) -> bool:
    """Tell whether output is what an earlier build made of the same inputs."""
    try:
        known = json.loads(state.read_text(encoding="utf-8"))
        return bool(known == {"key": key, "sha256": sha256(output)})
    except (OSError, ValueError):
        return False


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def share(value: int, limit: int) -> str:
    """Return value as a share of limit, in words."""
    return f"{value / limit:.1%} of {in_mb(limit)}"


def in_mb(size: int) -> str:
    """Return a number of bytes in MB."""
    return f"{size / MB:.1f} MB" if size % MB or not size else f"{size // MB} MB"


if __name__ == "__main__":
    sys.exit(main())

"""The package's dependencies, installed by uv, and how files get into the package.

Dependencies are those of ``[project].dependencies`` in pyproject.toml, in the versions and with the
hashes of requirements.txt, as wheels for Lambda's Linux, whatever this machine is. Libraries of
this repository are in it too: see shared.py. boto3, botocore and s3transfer are left out where
Lambda's own are enough: see runtime_is_enough.
"""

import contextlib
import csv
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tools.build import package, shared
from tools.errors import ToolError
from tools.project import project

# What Lambda's runtimes have: at least what Python 3.12 started with in 2023, and at most whatever
# comes. AWS updates them, so nobody knows which version a function will run with.
IN_THE_RUNTIME = {
    "boto3": ("1.28.72", "1.9999"),
    "botocore": ("1.31.72", "1.9999"),
    "s3transfer": ("0.7.0", "0.9999"),
}
# Lambda is on Amazon Linux 2023, with glibc 2.34. uv takes wheels for that and for older ones.
MANYLINUX = "manylinux_2_34"
PROCESSORS = {"arm64": "aarch64", "x86_64": "x86_64"}

# What uv says, and what it means: the first pattern that is found. {0} and {1} are its groups.
EXPLAINED = {
    r"([\w.-]+)==(\S+) has no (?:usable )?wheels": (
        "{0} {1} has no wheel for {target}. Packages are built from wheels only, since what is "
        "compiled here may not run there. Choose another version of {0} (in pyproject.toml, then "
        "`make lock`), another package, or another Python version or CPU architecture; or build "
        "the wheel yourself, put it into the repository or on an index of your own, and run "
        "`make lock`."
    ),
    r"Hash mismatch for `(\S+?)(?:==| @ )(\S+?)`": (
        "{0} {1} is not the file that was locked: its hash is none of those in requirements.txt. "
        "If requirements.txt was edited or merged by hand, or you replaced the file yourself, run "
        "`make lock`; if not, find out where the other file comes from before you use it."
    ),
    r"no trusted hash was provided|No solution found|Hash-checking is not supported": (
        "requirements.txt is out of date: it does not match pyproject.toml. Run `make lock`. {uv}"
    ),
    r"No space left on device|Read-only file system|Permission denied": (
        "Cannot write the dependencies. {uv}"
    ),
    r"Failed to fetch|error sending request|network (?:was|is) disabled|dns error": (
        "The dependencies are not all in uv's cache and the package index cannot be reached. Check "
        "the network or the index and proxy settings, then try again. {uv}"
    ),
    "": "uv could not install the dependencies. {uv}",
}


def install(architecture: str, into: Path) -> None:
    """Install the locked dependencies into a folder.

    :param architecture: of the wheels; empty for this machine's.
    :raises ToolError: not all of them can be installed.
    """
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    asked = pyproject["project"].get("dependencies", [])
    given = shared.given(
        Path("requirements.txt").read_text(encoding="utf-8"), into.with_suffix(".given")
    )
    excluded = list(IN_THE_RUNTIME)
    _uv(architecture, into, given, excluded)
    if not runtime_is_enough(into, asked):
        excluded = []
        _uv(architecture, into, given, excluded)
    into.mkdir(exist_ok=True)  # uv makes none where there are no dependencies
    # uv installs several at once: of those that share a file, any may come last.
    sharing = set()
    for file, names in sorted(shared_files(into).items()):
        print(f"{file} differs in {' and '.join(names)}: the package has that of {names[-1]}.")
        sharing.update(names)
    for name in sorted(sharing):
        _uv(architecture, into, given, excluded, "--reinstall-package", name)


def check(lock: str, architecture: str, folder: Path) -> None:
    """Make sure that a lock file can be installed, without fetching what it names.

    :param folder: for temporary files.
    :raises ToolError: it cannot be.
    """
    _uv(architecture, folder / "site", shared.given(lock, folder / "given"), [], "--dry-run")


def runtime_is_enough(site: Path, asked: Iterable[str]) -> bool:
    """Say whether the boto3, botocore and s3transfer of Lambda's runtime do for what is installed.

    Not if the service lists one of them, or if a dependency limits the version of one so that a
    runtime's may not do.
    """
    listed = [Requirement(text) for text in asked]
    if any(canonicalize_name(one.name) in IN_THE_RUNTIME for one in listed):
        return False
    for file in site.glob("*.dist-info/METADATA"):
        metadata = HeaderParser().parsestr(file.read_text(encoding="utf-8"))
        for text in metadata.get_all("Requires-Dist", []):
            with contextlib.suppress(InvalidRequirement):  # uv is more lenient
                listed.append(Requirement(text))
    # An extra counts for all that have one of that name: at worst more is packed than is needed.
    extras = {"", *(extra for one in listed for extra in one.extras)}
    for one in listed:
        versions = IN_THE_RUNTIME.get(canonicalize_name(one.name), ())
        linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
        if one.marker and not any(one.marker.evaluate({**linux, "extra": e}) for e in extras):
            continue
        if not all(one.specifier.contains(version) for version in versions):
            return False
    return True


def shared_files(site: Path) -> dict[str, list[str]]:
    """Return file -> the distributions, by name, that have it with different contents."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for record in site.glob("*.dist-info/RECORD"):
        name = canonicalize_name(record.parent.name.partition("-")[0])
        with record.open(encoding="utf-8", newline="") as lines:
            for file, hash_, _ in csv.reader(lines):
                if not file.startswith("bin/"):  # not packed
                    found[file][name] = hash_
    return {file: sorted(hashes) for file, hashes in found.items() if len(set(hashes.values())) > 1}


def _uv(
    architecture: str, into: Path, given: list[str | Path], excluded: list[str], *options: str
) -> None:
    """Have uv install all dependencies, or some again. Raises ToolError."""
    from uv import find_uv_bin

    excludes = into.with_suffix(".excludes")
    excludes.write_text("\n".join(excluded), encoding="utf-8")
    # Whatever uv.toml says: a link to uv's cache would let what is changed here change the cache.
    command: list[str | Path] = [
        *(find_uv_bin(), "pip", "install", *given, "--excludes", excludes, *options),
        *("--only-binary", ":all:", "--no-installer-metadata", "--target", into),
        *("--python", sys.executable, "--link-mode", "copy", "--no-progress", "--color", "never"),
    ]
    if architecture:
        if architecture not in PROCESSORS:
            raise ToolError(
                f"architecture in pyproject.toml is {architecture!r}: it must be arm64 or x86_64."
            )
        command += ["--python-version", project().python_version]
        command += ["--python-platform", f"{PROCESSORS[architecture]}-{MANYLINUX}"]
    # The cache alone first: everything is pinned by hash, so the index can't know better, and a
    # warm cache needs no network.
    for network in (["--offline"], []):
        if not options:
            shutil.rmtree(into, ignore_errors=True)
        done = subprocess.run([*command, *network], capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise ToolError(explain(done.stderr, target_name(architecture)))


def target_name(architecture: str) -> str:
    """Return what is built for, in words."""
    if not architecture:
        return "this machine"
    return f"Linux on {architecture}, Python {project().python_version}"


def explain(uv_says: str, target: str) -> str:
    """Return a message for what uv wrote to stderr."""
    text = " ".join(uv_says[max(uv_says.find("error:"), 0) :].split())
    pattern = next(pattern for pattern in EXPLAINED if re.search(pattern, text))
    groups = re.findall(pattern, text)[0]
    return EXPLAINED[pattern].format(*groups, target=target, uv=f"uv said: {text}")


def write_layer(architecture: str, folder: Path) -> Path:
    """Install the dependencies and zip them with their bytecode, in a folder; return the zip."""
    print(f"Installing dependencies for {target_name(architecture)}.", flush=True)
    site, output = folder / "site", folder / "layer.zip"
    install(architecture, site)
    for record in site.glob("*.dist-info/RECORD"):
        # Scripts have a path of this machine in them, and this file has their hashes.
        record.write_bytes(re.sub(rb"(?m)^bin/.*\n", b"", record.read_bytes()))
    shutil.rmtree(site / "bin", ignore_errors=True)
    (site / ".lock").unlink(missing_ok=True)
    files = [path for path in site.rglob("*") if path.parent.name != "__pycache__"]
    with compile_all(site) as compiling, zipfile.ZipFile(output, "w") as archive:
        add(archive, site, files)
        # Libraries have modules for other Python versions: what can't be compiled isn't used.
        compiling.communicate()
        if compiling.returncode not in (0, 1):
            code = compiling.returncode
            raise ToolError(f"The dependencies cannot be compiled: Python ended with {code}.")
        add(archive, site, site.rglob("__pycache__/*"))
    return output


def compile_own(own: dict[str, tuple[bytes, bool]], folder: Path) -> None:
    """Write the service's own code into a folder, with its bytecode.

    :param own: name -> content, and whether it may be executed.
    :raises ToolError: it cannot be compiled.
    """
    package.write_files(own, folder)
    with compile_all(folder) as compiling:
        problems = " ".join(compiling.communicate()[0].split())
    if compiling.returncode:
        problems = problems or f"Python ended with {compiling.returncode}."
        problems = problems.replace(f"{folder}/", "").replace("/var/task/", "")
        raise ToolError(f"The service's code cannot be compiled: {problems}")


def add_own(layer: Path, own: Path, output: Path, bytecode: bool) -> dict[str, int]:
    """Copy a layer and add a folder with the service's own code.

    :param bytecode: whether to keep that of the layer.
    :return: name in the zip -> size, in bytes.
    :raises ToolError: a file of the service has the name of one in the layer.
    """
    with zipfile.ZipFile(layer) as archive:
        for name in archive.namelist():
            if (own / name).is_file():
                raise ToolError(f"{name} is also a file of a dependency: rename yours.")
        if not bytecode:
            with zipfile.ZipFile(output, "w") as copy:
                for entry in archive.infolist():
                    if "__pycache__/" not in entry.filename:
                        copy.writestr(entry, archive.read(entry), compresslevel=6)
    if bytecode:
        shutil.copyfile(layer, output)
    with zipfile.ZipFile(output, "a") as archive:
        add(archive, own, own.rglob("*"))
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def compile_all(folder: Path) -> subprocess.Popen[str]:
    """Start to compile a folder's modules to bytecode that is never compared with its source.

    In a process of its own that starts the same each time: some bytes of marshal's output depend
    on which strings the process has seen before. It prints what it cannot compile, and fails then.
    """
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", "-X", "utf8", "-W", "ignore", "-m", "compileall", "-qf"),
            # Lambda unpacks the zip in /var/task: the path in tracebacks.
            *("--invalidation-mode", "unchecked-hash", "-s", folder, "-p", "/var/task", folder),
        ],
        # Some builds of Python find their own library by it; nothing else changes the bytes.
        env={n: v for n, v in os.environ.items() if n in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def add(archive: zipfile.ZipFile, folder: Path, files: Iterable[Path]) -> None:
    """Add files, as entries that tell nothing of when, where or by whom they were made."""
    for path in sorted(path for path in files if path.is_file()):
        entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # dated 1980-01-01
        entry.create_system = 3  # Unix, whatever this is: Lambda then takes the mode
        # Only the owner's x bit: the others depend on the umask.
        mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
        entry.external_attr = (stat.S_IFREG | mode) << 16
        # writestr ignores the archive's own level; 9 takes twice the time for 1 % of the size.
        archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=6)

"""The package's dependencies, installed by uv, and how files get into the package.

Dependencies are those of ``[project].dependencies`` in pyproject.toml, in the versions and with the
hashes of requirements.txt, as wheels for Lambda's Linux, whatever this machine is. boto3, botocore
and s3transfer are left out, since Lambda has them; a service that lists boto3 gets all three.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path

from tools.errors import ToolError
from tools.project import project

IN_THE_RUNTIME = "boto3\nbotocore\ns3transfer\n"
# Python 3.11 runs on Amazon Linux 2 (glibc 2.26; uv's nearest level below is 2.17), later ones on
# Amazon Linux 2023 (glibc 2.34). uv takes wheels of the level it is given and of all older ones.
MANYLINUX = {"3.11": "manylinux_2_17"}
MANYLINUX_DEFAULT = "manylinux_2_34"
PROCESSORS = {"arm64": "aarch64", "x86_64": "x86_64"}

# What uv says, and what it means: the first pattern that is found. {0} and {1} are its groups.
EXPLAINED = {
    r"([\w.-]+)==(\S+) has no (?:usable )?wheels": (
        "{0} {1} has no wheel for {target}. Packages are built from wheels only, since one that is "
        "compiled here may not run there. Take another version of {0} (a limit in pyproject.toml, "
        "then `make lock`), another package, or another Python version or architecture; or build "
        "the wheel yourself, put it on an index of your own and run `make lock`."
    ),
    r"Hash mismatch for `(\S+?)==(\S+?)`": (
        "{0} {1} was downloaded, but its hash is none of those in requirements.txt: the file is "
        "not the one that was locked. If requirements.txt was edited or merged by hand, run "
        "`make lock`; if not, find out where the other file comes from before you use it."
    ),
    r"no trusted hash was provided|No solution found": (
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


def target_name(architecture: str) -> str:
    """Return what is built for, in words."""
    if not architecture:
        return "this machine"
    return f"Linux on {architecture}, Python {project().python_version}"


def install(dependencies: list[str], architecture: str, into: Path) -> None:
    """Install the locked dependencies into a folder.

    :param dependencies: the direct ones, as pyproject.toml has them.
    :param architecture: of the wheels; empty for this machine's.
    :raises ToolError: not all of them can be installed.
    """
    from uv import find_uv_bin

    chosen = {re.split(r"[^\w.-]", text, maxsplit=1)[0].lower() for text in dependencies}
    excludes = into.with_suffix(".excludes")
    excludes.write_text("" if "boto3" in chosen else IN_THE_RUNTIME, encoding="utf-8")
    # Direct dependencies come from pyproject.toml, versions and hashes from the lock as
    # constraints: so uv itself finds a lock that no longer fits, and leftovers aren't installed.
    command = [
        *(find_uv_bin(), "pip", "install", "--requirements", "pyproject.toml"),
        *("--constraints", "requirements.txt", "--excludes", excludes, "--require-hashes"),
        *("--only-binary", ":all:", "--no-installer-metadata", "--target", into),
        *("--python", sys.executable, "--no-progress", "--color", "never"),
    ]
    if architecture:
        if architecture not in PROCESSORS:
            raise ToolError(
                f"architecture in pyproject.toml is {architecture!r}: it must be "
                f"{' or '.join(PROCESSORS)}."
            )
        version = project().python_version
        level = MANYLINUX.get(version, MANYLINUX_DEFAULT)
        command += ["--python-version", version]
        command += ["--python-platform", f"{PROCESSORS[architecture]}-{level}"]
    # The cache alone first: everything is pinned by hash, so the index can't know better, and a
    # warm cache needs no network.
    for network in (["--offline"], []):
        shutil.rmtree(into, ignore_errors=True)
        done = subprocess.run([*command, *network], capture_output=True, text=True)
        if done.returncode == 0:
            into.mkdir(exist_ok=True)  # uv makes none where there are no dependencies
            return
    raise ToolError(explain(done.stderr, target_name(architecture)))


def explain(uv_says: str, target: str) -> str:
    """Return a message for what uv wrote to stderr."""
    text = " ".join(uv_says[max(uv_says.find("error:"), 0) :].split())
    pattern = next(pattern for pattern in EXPLAINED if re.search(pattern, text))
    groups = re.findall(pattern, text)[0]
    return EXPLAINED[pattern].format(*groups, target=target, uv=f"uv said: {text}")


def write_layer(site: Path, output: Path) -> None:
    """Zip installed dependencies with their bytecode."""
    content: dict[str, tuple[bytes, int]] = {}
    for path in site.rglob("*"):
        name = path.relative_to(site).as_posix()
        # Scripts have a path of this machine in them, and RECORD their hashes.
        if path.is_dir() or name.startswith(("bin/", ".")) or "__pycache__/" in name:
            continue
        data = path.read_bytes()
        if name.endswith(".dist-info/RECORD"):
            data = re.sub(rb"(?m)^bin/.*\n", b"", data)
        # Only the owner's x bit: the others depend on the umask.
        content[name] = data, 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
    modules = sorted(name for name in content if name.endswith(".py"))
    with ThreadPoolExecutor(1) as other, zipfile.ZipFile(output, "w") as archive:
        compiling = other.submit(compile_all, site, modules)
        for name, (data, mode) in sorted(content.items()):
            _add(archive, name, data, mode)
        # Libraries have modules for other Python versions: what can't be compiled isn't used.
        compiled, _ = compiling.result()
        for name, data in sorted(compiled.items()):
            _add(archive, name, data)


def compile_all(root: Path, names: list[str]) -> tuple[dict[str, bytes], str]:
    """Compile modules below root to bytecode that is never compared with its source.

    In a process of its own that starts the same each time: some bytes of marshal's output depend
    on which strings the process has seen before.

    :return: name in the zip -> bytecode, and what was said of what could not be compiled.
    """
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-W", "ignore", "-m", "compileall", "-q"]
    # Lambda unpacks the zip in /var/task: the path in tracebacks.
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/var/task"]
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


def compile_own(own: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """Compile the service's own modules in a folder; return name in the zip -> bytecode.

    :raises ToolError: one of them cannot be compiled.
    """
    for name, data in own.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    modules = [name for name in own if name.endswith(".py")]
    compiled, problems = compile_all(folder, modules)
    if len(compiled) < len(modules):
        raise ToolError(f"The service's code cannot be compiled: {problems}")
    return compiled


def add_own(
    layer: Path, files: dict[str, bytes], output: Path, *, bytecode: bool
) -> dict[str, int]:
    """Copy a layer and add the service's own files.

    :param bytecode: whether to keep that of the layer.
    :return: name in the zip -> size, in bytes.
    """
    if bytecode:
        shutil.copyfile(layer, output)
    else:
        with zipfile.ZipFile(layer) as archive, zipfile.ZipFile(output, "w") as copy:
            for entry in archive.infolist():
                if "__pycache__/" not in entry.filename:
                    copy.writestr(entry, archive.read(entry), compresslevel=6)
    with zipfile.ZipFile(output, "a") as archive:
        if taken := files.keys() & archive.namelist():
            raise ToolError(f"{min(taken, key=len)} is also a file of a dependency: rename yours.")
        for name, data in sorted(files.items()):
            _add(archive, name, data)
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def _add(archive: zipfile.ZipFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Add an entry that tells nothing of when, where or by whom it was made."""
    entry = zipfile.ZipInfo(name)  # dated 1980-01-01
    entry.create_system = 3  # Unix, whatever this is: Lambda then takes the mode
    entry.external_attr = (stat.S_IFREG | mode) << 16
    # writestr ignores the archive's own level. Level 9 takes twice the time for 1 % of the size.
    archive.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=6)

"""The package's dependencies, installed by uv, and how files get into the package.

Dependencies are those of ``[project].dependencies`` in pyproject.toml, in the versions and with the
hashes of requirements.txt, as wheels for Lambda's Linux, whatever this machine is. boto3, botocore
and s3transfer are left out, since Lambda has them; a service that lists boto3 gets all three.
"""

import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
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
        "{0} {1} has no wheel for {target}. Packages are built from wheels only, since what is "
        "compiled here may not run there. Choose another version of {0} (in pyproject.toml, then "
        "`make lock`), another package, or another Python version or CPU architecture; or build "
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


def install(architecture: str, into: Path) -> None:
    """Install the locked dependencies into a folder.

    :param architecture: of the wheels; empty for this machine's.
    :raises ToolError: not all of them can be installed.
    """
    from uv import find_uv_bin

    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    dependencies = pyproject["project"].get("dependencies", [])
    chosen = {re.split(r"[^\w.-]", text, maxsplit=1)[0].lower() for text in dependencies}
    excludes = into.with_suffix(".excludes")
    excludes.write_text("" if "boto3" in chosen else IN_THE_RUNTIME, encoding="utf-8")
    # Direct dependencies come from pyproject.toml, versions and hashes from the lock as
    # constraints: so uv itself finds a lock that no longer fits, and leftovers aren't installed.
    command: list[str | Path] = [
        *(find_uv_bin(), "pip", "install", "--requirements", "pyproject.toml"),
        *("--constraints", "requirements.txt", "--excludes", excludes, "--require-hashes"),
        *("--only-binary", ":all:", "--no-installer-metadata", "--target", into),
        *("--python", sys.executable, "--no-progress", "--color", "never"),
    ]
    if architecture:
        if architecture not in PROCESSORS:
            raise ToolError(
                f"architecture in pyproject.toml is {architecture!r}: it must be arm64 or x86_64."
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
            into.mkdir(exist_ok=True)  # uv creates none if there are no dependencies
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
        add(archive, site, site.rglob("__pycache__/*"))
    return output


def compile_own(own: dict[str, bytes], folder: Path) -> None:
    """Write the service's own code into a folder, with its bytecode.

    :raises ToolError: it cannot be compiled.
    """
    for name, data in own.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with compile_all(folder) as compiling:
        problems = " ".join(compiling.communicate()[0].split()).replace(f"{folder}/", "")
    if compiling.returncode:
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
        env={},
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

"""Writes the lock files: of the Python packages, and of Terraform's providers.

Whatever can be refused is refused before a lock file is touched.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from tools.build import dependencies, shared
from tools.build.package import CACHE, repository
from tools.deploy import terraform_binary
from tools.deploy.mirror import cli_config, versions
from tools.deploy.terraform import LOCK_FILE, OFFLINE, run
from tools.errors import ToolError
from tools.project import project

# The machines that people and workflows have.
PLATFORMS = ("linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64")
COMPILE = (
    *("pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate"),
    # Whatever uv.toml says; it may say where packages come from.
    *("--python", sys.executable, "--no-emit-index-url", "--no-emit-find-links"),
    *("--custom-compile-command", "make lock", "pyproject.toml"),
)
RUN_TIME, DEVELOPMENT = Path("requirements.txt"), Path("requirements-dev.txt")
KEPT = "The lock files stay as they were."


@click.command()
def lock() -> None:
    """Add what is new to the lock files, and keep the versions that they have."""
    lock_packages(upgrade=False)
    lock_providers(upgrade=False)


@click.command()
def upgrade() -> None:
    """Lock the newest versions that pyproject.toml and Terraform's code allow."""
    lock_packages(upgrade=True)
    lock_providers(upgrade=True)


def lock_packages(upgrade: bool) -> None:
    """Lock the Python packages, and say what changes.

    What is deployed is tested in the same versions: requirements-dev.txt has all of it.

    :raises ToolError: such locks could not be installed.
    """
    old = {file: _text(file) for file in (RUN_TIME, DEVELOPMENT)}
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lock-", dir=CACHE) as folder:
        everything, pins, deployed = (Path(folder, name) for name in ("dev", "pins", "run"))
        if not upgrade:  # uv keeps to the versions that its output file has
            pinned = _pins(old[DEVELOPMENT], old[RUN_TIME])
            everything.write_text(pinned, encoding="utf-8")
        _uv(*COMPILE, "--group", "dev", "--output-file", everything)
        new = {DEVELOPMENT: everything.read_text(encoding="utf-8")}
        pins.write_text(_pins(new[DEVELOPMENT]), encoding="utf-8")
        _uv(*COMPILE, "--constraints", pins, "--output-file", deployed)
        new[RUN_TIME] = deployed.read_text(encoding="utf-8")
        _require_installable(new[DEVELOPMENT], new[RUN_TIME], Path(folder))
    for file, text in new.items():
        print("\n".join([f"{file}:", *changes(_versions(old[file]), _versions(text))]))
        if text != old[file]:  # what is newer is installed again
            file.write_text(text, encoding="utf-8")


def _pins(*locks: str) -> str:
    """Return the versions in lock files, without hashes; where they differ, those of the last one.

    Paths, and the marks of a merge's conflicts, are left out.
    """
    found: dict[str, str] = {}
    for lock in locks:
        here: dict[str, str] = defaultdict(str)
        for entry in shared.entries(lock):
            if not entry.path:
                here[re.split(r"[ =@]", entry.requirement)[0]] += f"{entry.requirement}\n"
        found |= here
    return "".join(found.values())


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _uv(*arguments: str | Path) -> None:
    """Run uv, which shows its errors itself. Raises ToolError."""
    from uv import find_uv_bin

    if subprocess.run([find_uv_bin(), *arguments], stdout=subprocess.DEVNULL).returncode:
        raise ToolError(f"uv cannot lock the dependencies in pyproject.toml: see above. {KEPT}")


def _require_installable(development: str, run_time: str, folder: Path) -> None:
    """Make sure that `make package` and `make install` could install such locks.

    :raises ToolError: they could not.
    """
    for entry in shared.entries(development):
        if problem := _problem(entry):
            raise ToolError(f"{entry.requirement} {problem}: see Shared code in README.md. {KEPT}")
    try:
        dependencies.check(run_time, project().architecture, folder)
    except ToolError as error:
        raise ToolError(f"{error} {KEPT}") from None
    hashed = folder / "hashed"
    lines = [str(entry) for entry in shared.entries(development) if entry.hashes]
    hashed.write_text("\n".join(lines), encoding="utf-8")
    # Into an empty folder: what .venv happens to have counts for nothing.
    command = ("pip", "install", "--dry-run", "--require-hashes", "--python", sys.executable)
    _uv(*command, "--target", folder / "venv", "--quiet", "--requirement", hashed)


def _problem(entry: shared.Locked) -> str:
    """Say why an entry of a lock can't be installed everywhere; "" if it can."""
    if not entry.path:
        return "" if entry.hashes else "has no hash, so it could be something else tomorrow"
    if entry.path not in shared.libraries():
        return (
            "is no path in [tool.uv.sources] of this service. Add it there, by its path from here, "
            "and to the dependencies"
        )
    root = repository()
    if root and not Path(entry.path).resolve().is_relative_to(root):
        return "is not in this repository, so nobody who clones it has it"
    return "has a blank in its path" if " " in entry.path else ""


def _versions(lock: str) -> dict[str, str]:
    """Return name -> version in a lock file; of a file in the repository, its hash instead."""
    found: dict[str, str] = {}
    for entry in shared.entries(lock):
        name, _, version = entry.requirement.partition(" ;")[0].partition("==")
        version = version or "".join(entry.hashes)[len("--hash=sha256:") :][:8]
        found[name] = f"{found[name]}, {version}" if name in found else version
    return found


def changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return a line for each difference between two locks, name -> version."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            lines.append(f"  {name}: added {new[name]}".rstrip())
        elif name not in new:
            lines.append(f"  {name}: removed {old[name]}".rstrip())
        elif old[name] != new[name]:
            lines.append(f"  {name}: {old[name]} -> {new[name]}")
    return lines or ["  no other versions"]


def lock_providers(upgrade: bool) -> None:
    """Lock the providers in versions.tf, with their hashes for all PLATFORMS.

    Where Terraform's configuration names a mirror, the mirror must do.

    :param upgrade: take the newest version that is allowed. Terraform keeps to a version that is
        locked, so the lock file is put aside; a failure brings it back.
    """
    if terraform_binary.installed() is None:
        print(f"{LOCK_FILE} was left as it is: Terraform is missing.")
        return
    try:
        config = cli_config()
    except SystemExit as refusal:
        print(f"{LOCK_FILE} was left as it is. {refusal}")
        return
    text = config.read_text(encoding="utf-8") if config else ""
    named = re.search(r'filesystem_mirror\s*\{[^}]*?path\s*=\s*(".*")', text)
    mirror = Path(json.loads(named[1])) if named else None
    missing = [name for name in PLATFORMS if mirror and not versions(mirror, name)]
    wanted = [f"-platform={name}" for name in PLATFORMS if name not in missing]
    before = _text(LOCK_FILE)
    if upgrade:
        LOCK_FILE.unlink(missing_ok=True)
    try:
        source = [f"-fs-mirror={mirror}"] if mirror else []
        run(OFFLINE, "providers", "lock", *source, *wanted)
    finally:
        if before and not LOCK_FILE.is_file():
            LOCK_FILE.write_text(before, encoding="utf-8")
    texts = before, _text(LOCK_FILE)
    old, new = (dict(re.findall(r'(?s)provider "(.*?)".*?version += "(.*?)"', it)) for it in texts)
    print("\n".join([f"{LOCK_FILE}:", *changes(old, new)]))
    if missing:
        print(
            f"{LOCK_FILE} has no hashes for {', '.join(missing)}: the mirror {mirror} has no "
            "provider for them, so `make init` fails on such machines. Run `make lock` where the "
            "registry can be reached, or complete the mirror (terraform providers mirror "
            "-platform=…).",
            file=sys.stderr,
        )

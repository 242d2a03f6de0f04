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
from tools.build.package import CACHE
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
    *("--no-emit-index-annotation", "--header", "--strip-extras", "--deps", "--no-upgrade"),
    *("--custom-compile-command", "make lock"),
)
# Each lock file, and what of pyproject.toml is in it. What is deployed, and what deploys it, is
# tested in the same versions: requirements-dev.txt has all of both. The scanners have their own.
DEVELOPMENT, RUN_TIME = "requirements-dev.txt", "requirements.txt"
SECURITY = "requirements-security.txt"
LOCKS = {
    DEVELOPMENT: ("pyproject.toml", "--group", "dev"),
    "requirements-deploy.txt": ("pyproject.toml", "--group", "deploy"),
    RUN_TIME: ("pyproject.toml",),
    SECURITY: ("--group", "security"),
}
SUMMARY = Path("dist/upgrade.md")
KEPT = "The lock files stay as they were."


@click.command()
def lock() -> None:
    """Add what is new to the lock files, and keep the versions that they have."""
    lock_packages(upgrade=False)
    lock_providers(upgrade=False)


@click.command()
def upgrade() -> None:
    """Lock the newest versions that pyproject.toml and Terraform's code allow.

    What changes is also written to dist/upgrade.md, for a pull request.
    """
    changed = lock_packages(upgrade=True) + lock_providers(upgrade=True)
    SUMMARY.write_text(f"```\n{changed}```\n", encoding="utf-8")


def lock_packages(upgrade: bool) -> str:
    """Lock the Python packages; print and return what changes.

    :raises ToolError: such locks could not be installed.
    """
    old, new = {file: _text(Path(file)) for file in LOCKS}, dict[str, str]()
    kept = {DEVELOPMENT: _pins(old[DEVELOPMENT], old[RUN_TIME]), SECURITY: _pins(old[SECURITY])}
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lock-", dir=CACHE) as folder:
        pins = Path(folder, "pins")
        for file, source in LOCKS.items():
            output = Path(folder, file)
            if not upgrade:  # uv keeps to the versions that its output file has
                output.write_text(kept.get(file, ""), encoding="utf-8")
            tested = () if file in kept else ("--constraints", str(pins))
            _uv(*COMPILE, *source, *tested, "--output-file", output)
            new[file] = output.read_text(encoding="utf-8")
            if file == DEVELOPMENT:
                pins.write_text(_pins(new[file]), encoding="utf-8")
        _require_installable(new, Path(folder))
    told = ""
    for file, text in new.items():
        told += _tell(f"{file}:", *changes(_versions(old[file]), _versions(text)))
        if text != old[file]:  # what is newer is installed again
            Path(file).write_text(text, encoding="utf-8")
    return told


def _tell(*lines: str) -> str:
    """Print and return lines."""
    text = "".join(f"{line}\n" for line in lines)
    print(text, end="")
    return text


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


def _require_installable(locks: dict[str, str], folder: Path) -> None:
    """Make sure that `make package` and `make install` could install such locks.

    :raises ToolError: they could not.
    """
    for entry in shared.entries(locks[DEVELOPMENT] + locks[SECURITY]):
        if problem := _problem(entry):
            raise ToolError(f"{entry.requirement} {problem}: see Shared code in README.md. {KEPT}")
    try:
        dependencies.check(locks[RUN_TIME], project().architecture, folder)
    except ToolError as error:
        raise ToolError(f"{error} {KEPT}") from None
    hashed = folder / "hashed"
    lines = [str(entry) for entry in shared.entries(locks[DEVELOPMENT]) if entry.hashes]
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
    root = shared.repository()
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


def lock_providers(upgrade: bool) -> str:
    """Lock the providers in versions.tf, with their hashes for all PLATFORMS; print what changes.

    Where Terraform's configuration names a mirror, the mirror must do.

    :param upgrade: take the newest version that is allowed. Terraform keeps to a version that is
        locked, so the lock file is put aside; a failure brings it back.
    :returns: what was printed.
    """
    if terraform_binary.installed() is None:
        return _tell(f"{LOCK_FILE} was left as it is: Terraform is missing.")
    try:
        config = cli_config()
    except SystemExit as refusal:
        return _tell(f"{LOCK_FILE} was left as it is. {refusal}")
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
    told = _tell(f"{LOCK_FILE}:", *changes(old, new))
    if missing:
        print(
            f"{LOCK_FILE} has no hashes for {', '.join(missing)}: the mirror {mirror} has no "
            "provider for them, so `make init` fails on such machines. Run `make lock` where the "
            "registry can be reached, or complete the mirror (terraform providers mirror "
            "-platform=…).",
            file=sys.stderr,
        )
    return told

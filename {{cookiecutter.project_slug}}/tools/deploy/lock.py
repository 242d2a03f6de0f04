"""Refreshes the lock files: of the Python packages, and of Terraform's providers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click

from tools.deploy.mirror import cli_config, has_provider
from tools.deploy.terraform import LOCK_FILE, OFFLINE, run

# The machines that people and workflows have.
PLATFORMS = ("linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64")
COMPILE = (
    *("uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--generate-hashes"),
    # Whatever uv.toml says; it may say where packages come from.
    *("--python", sys.executable, "--no-emit-index-url", "--no-emit-find-links"),
    *("--no-annotate", "--custom-compile-command", "make lock", "pyproject.toml", "--output-file"),
)


@click.command()
def lock() -> None:
    """Refresh requirements.txt, requirements-dev.txt and Terraform's lock file."""
    for output in (("requirements.txt",), ("requirements-dev.txt", "--group", "dev")):
        if code := subprocess.run([sys.executable, "-m", *COMPILE, *output]).returncode:
            sys.exit(code)
    lock_providers()


def lock_providers() -> None:
    """Lock the newest provider that versions.tf allows, with its hashes for all PLATFORMS.

    Where Terraform's configuration names a mirror, the mirror must do. Terraform keeps to a version
    that is locked, so the lock file is put aside; a failure brings it back.
    """
    if shutil.which("terraform") is None:
        print(f"{LOCK_FILE} was left as it is: Terraform is missing.")
        return
    config = cli_config()
    text = config.read_text(encoding="utf-8") if config else ""
    named = re.search(r'filesystem_mirror\s*\{[^}]*?path\s*=\s*(".*")', text)
    mirror = Path(json.loads(named[1])) if named else None
    missing = [name for name in PLATFORMS if mirror and not has_provider(mirror, name)]
    wanted = [f"-platform={name}" for name in PLATFORMS if name not in missing]
    before = LOCK_FILE.read_bytes() if LOCK_FILE.is_file() else b""
    LOCK_FILE.unlink(missing_ok=True)
    try:
        source = [f"-fs-mirror={mirror}"] if mirror else []
        run(OFFLINE, "providers", "lock", *source, *wanted)
    finally:
        if before and not LOCK_FILE.is_file():
            LOCK_FILE.write_bytes(before)
    if missing:
        print(
            f"{LOCK_FILE} has no hashes for {', '.join(missing)}: the mirror {mirror} has no "
            "provider for them, so `make init` fails on such machines. Run `make lock` where the "
            "registry can be reached, or complete the mirror (terraform providers mirror "
            "-platform=…).",
            file=sys.stderr,
        )


providers = click.command(help="Refresh Terraform's lock file.")(lock_providers)

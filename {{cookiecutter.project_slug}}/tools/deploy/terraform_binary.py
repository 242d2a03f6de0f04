"""Finds Terraform, and fetches it where this machine has none that fits: part of ``make install``.

    python -m tools.deploy.terraform_binary [FOLDER]

It fetches the version in .terraform-version, and uses it only if .terraform-version.sha256 has its
hash. It comes from HashiCorp, or from the address in TERRAFORM_MIRROR, which must have the same
paths; with TERRAFORM_DOWNLOAD=no, from nowhere. Exit code 3: there is no Terraform that fits.

It imports only the standard library, and runs on Python 3.9, too: ``make doctor`` uses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from concurrent.futures import Future
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any

from tools.deploy.mirror import numbers, this_platform
from tools.errors import ToolError

FOLDER, HASHES = Path(".terraform-bin"), Path(".terraform-version.sha256")
RELEASES = "https://releases.hashicorp.com"
ANSWER, SILENCE = 10, 60  # seconds until a server must answer, and that it may pause after that


class MissingError(ToolError):
    """There is no Terraform that fits, and none could be fetched."""


def wanted() -> str:
    """Return the version in .terraform-version."""
    return Path(".terraform-version").read_text(encoding="utf-8").strip()


def installed() -> str | None:
    """Return the program to run: the fetched one, or that on the PATH; None if there is neither."""
    fetched = FOLDER / "terraform"
    return str(fetched) if fetched.is_file() else shutil.which("terraform") and "terraform"


def program() -> str:
    """Return the program to run, fetched if there is none. Raises ToolError."""
    return installed() or fetch(FOLDER, "Terraform is missing")


def version(terraform: str) -> str:
    """Return a program's version.

    :raises ToolError: it doesn't run, or is older than the first version in required_version.
    """
    try:
        quiet = {**os.environ, "CHECKPOINT_DISABLE": "1"}  # doesn't ask for newer versions
        command = [terraform, "version", "-json"]
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=30)
        said = done.stdout + done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    has = re.search(r'"terraform_version": *"(.+?)"', said)
    if not has:
        raise ToolError(f"`terraform version` fails: {said.strip()[:200]}")
    code = Path("terraform/versions.tf").read_text(encoding="utf-8")
    needs = "".join(re.findall(r'(?m)^\s*required_version\s*=\s*"(.*)"', code))
    if numbers(has[1]) < numbers(needs):
        raise ToolError(f"Terraform is {has[1]}, but it must be {needs}")
    return has[1]


def ensure(folder: Path) -> None:
    """Fetch Terraform into a folder, unless this machine has one that fits. Raises ToolError."""
    with contextlib.suppress(ToolError):  # not fetched yet, or for another machine
        if version(str(folder / "terraform")) == wanted():
            return
    try:
        version("terraform")
        (folder / "terraform").unlink(missing_ok=True)
    except ToolError as error:
        fetch(folder, str(error) if shutil.which("terraform") else "Terraform is missing")


def fetch(folder: Path, why: str) -> str:
    """Fetch the wanted version into a folder; return the program's path.

    :param why: what is wrong so far.
    :raises MissingError: it can't be fetched.
    :raises ToolError: what came is something else.
    """
    guide = "https://developer.hashicorp.com/terraform/install"
    missing = f"{why}: install version {wanted()}, see {guide}"
    if (os.environ.get("TERRAFORM_DOWNLOAD") or "yes") != "yes":
        raise MissingError(missing)
    name, place = f"terraform_{wanted()}_{this_platform()}.zip", f"/terraform/{wanted()}/"
    lines = HASHES.read_text(encoding="utf-8").splitlines() if HASHES.is_file() else []
    expected = next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
    if expected is None:
        sums = f"{RELEASES}{place}terraform_{wanted()}_SHA256SUMS"
        raise MissingError(f"{missing}\n{HASHES} lacks {name}: if {sums} has it, copy its line.")
    url = (os.environ.get("TERRAFORM_MIRROR") or RELEASES).rstrip("/") + place + name
    print(f"Fetching {url} (about 30 MB)", flush=True)
    try:
        archive = download(url)
    except (OSError, ValueError, HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or f"no answer in {ANSWER} seconds"
        settings = "https_proxy or SSL_CERT_FILE, or set TERRAFORM_MIRROR"
        hint = f"try again, set {settings} to a mirror of {RELEASES}"
        raise MissingError(f"{missing}\nIt can't be fetched ({reason}): {hint}.") from None
    found = hashlib.sha256(archive).hexdigest()
    if found != expected:
        raise ToolError(
            f"{url} was refused: its SHA-256 is {found}, but {HASHES} says {expected}.\nSomething "
            "else may have answered, such as a proxy; TERRAFORM_DOWNLOAD=no does without it."
        )
    return unpack(archive, folder)


def download(url: str) -> bytes:
    """Return what is at an address.

    The thread limits the wait: if a firewall drops packets, urllib waits for each of the host's
    addresses in turn.
    """
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=SILENCE))  # noqa: S310
        except Exception as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    with answer.result(ANSWER) as response:
        return bytes(response.read())


def unpack(archive: bytes, folder: Path) -> str:
    """Put an archive's program into a folder, whole or not at all; return its path."""
    folder.mkdir(exist_ok=True)
    fetched, part = folder / "terraform", folder / f"terraform.{os.getpid()}"
    try:
        part.write_bytes(zipfile.ZipFile(io.BytesIO(archive)).read("terraform"))
        part.chmod(0o755)
        part.replace(fetched)
    finally:
        part.unlink(missing_ok=True)
    return str(fetched)


if __name__ == "__main__":
    try:
        ensure(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ToolError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(3 if isinstance(error, MissingError) else 1)

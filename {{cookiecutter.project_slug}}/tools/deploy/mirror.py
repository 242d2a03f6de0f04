"""Print the Terraform CLI configuration to use, for TF_CLI_CONFIG_FILE; nothing if none is needed.

A network without the Terraform registry has the AWS provider in a folder, a filesystem mirror:
https://developer.hashicorp.com/terraform/cli/config/config-file#provider-installation

1. A configuration that the user has (TF_CLI_CONFIG_FILE, ~/.terraformrc) is left to rule.
2. TERRAFORM_PROVIDER_MIRROR names the mirror's folder.
3. Where Terraform looks by itself, there is nothing to do.
4. Else a short search of the usual places. What it finds counts if it has the provider for this
   machine, in a version that versions.tf allows.

For 2 and 4 a configuration is written to terraform/.terraform/, which Git ignores. Without a mirror
Terraform asks the registry.

Exit code: 1 if TERRAFORM_PROVIDER_MIRROR is wrong or nothing can be written, else 0.
"""

import contextlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

TERRAFORM = Path(__file__).resolve().parents[1] / "terraform"
PROVIDER = "registry.terraform.io/hashicorp/aws"
MIRROR_VARIABLE = "TERRAFORM_PROVIDER_MIRROR"

# Where administrators put what all users of a machine share.
ROOTS = [Path(root) for root in ("/opt", "/srv", "/usr/local", "/usr/share", "/var/lib", "/mnt")]
DEPTH = 2  # folders below a root
SECONDS = 0.3  # that a search takes at most

# In the home folder only folders with such a name: macOS asks the user before some others are read.
HOME_NAMES = re.compile("terraform|tf|mirror|provider|plugin", re.IGNORECASE)


class MirrorError(Exception):
    """The variable names a folder that is no mirror: what is wrong, and what to do."""


def main() -> int:
    """Print the configuration's path, if there is one; return the exit code."""
    output = TERRAFORM / ".terraform" / "mirror.tfrc"
    try:
        path = cli_config(os.environ, Path.home(), ROOTS, TERRAFORM / "versions.tf", output)
    except (MirrorError, OSError) as problem:
        print(f"terraform_cli_config: {problem}", file=sys.stderr)
        return 1
    if path:
        print(path)
    return 0


def cli_config(
    environment: Mapping[str, str], home: Path, roots: list[Path], versions: Path, output: Path
) -> Path | None:
    """Return the configuration to use, written if needed; None if Terraform needs none.

    :param roots: folders to search for a mirror, beside home.
    :param versions: the Terraform file that says which versions of the provider will do.
    :param output: the configuration to write.
    :raises MirrorError: TERRAFORM_PROVIDER_MIRROR is wrong.
    """
    given = environment.get("TF_CLI_CONFIG_FILE")
    if given and Path(given).is_file():
        return Path(given)
    if named := environment.get(MIRROR_VARIABLE):
        folder = Path(named).absolute()
        if not (folder / PROVIDER).is_dir():
            raise MirrorError(
                f"{MIRROR_VARIABLE} is {named}, but there is no {PROVIDER} in it. "
                "It names the folder in which the folder registry.terraform.io lies."
            )
        return write(folder, output)
    if (home / ".terraformrc").is_file():
        return None
    if any((folder / PROVIDER).is_dir() for folder in implied_mirrors(environment, home)):
        return None
    constraint = version_constraint(versions)
    for folder in (*remembered(output), *search(home, roots)):
        if has_provider(folder, constraint):
            return write(folder, output)
    return None


def implied_mirrors(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return the folders in which Terraform looks for providers without being told."""
    data_home = environment.get("XDG_DATA_HOME") or home / ".local" / "share"
    data_dirs = environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [
        TERRAFORM / "terraform.d" / "plugins",
        home / ".terraform.d" / "plugins",
        home / "Library" / "Application Support" / "io.terraform" / "plugins",
        Path("/Library/Application Support/io.terraform/plugins"),
        *(Path(folder) / "terraform" / "plugins" for folder in (data_home, *data_dirs.split(":"))),
    ]


def remembered(output: Path) -> Iterator[Path]:
    """Yield the mirror that was found the last time: then there is nothing to search."""
    with contextlib.suppress(OSError, ValueError):
        if path := re.search(r"path += (\".*\")$", output.read_text("utf-8"), re.MULTILINE):
            yield Path(json.loads(path[1]))


def search(home: Path, roots: list[Path]) -> Iterator[Path]:
    """Yield folders that hold the provider, the nearest to a root first, as long as time allows."""
    deadline = time.monotonic() + SECONDS
    level = [*roots, *(folder for folder in subfolders(home) if HOME_NAMES.search(folder.name))]
    for depth in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if time.monotonic() > deadline:
                return
            with contextlib.suppress(OSError):
                if (folder / PROVIDER).is_dir():
                    yield folder
            if depth < DEPTH:
                below += subfolders(folder)
        level = below


def subfolders(folder: Path) -> list[Path]:
    """Return a folder's folders by name; no links, and nothing hidden: caches are no mirrors."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def has_provider(folder: Path, constraint: str) -> bool:
    """Tell whether a mirror has the provider for this machine, in a version that is allowed."""
    machine = platform.machine().lower()
    processor = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    target = f"{platform.system().lower()}_{processor}"
    # A mirror holds the provider unpacked, or the archives as they are downloaded.
    archive = re.compile(rf"terraform-provider-aws_([0-9.]+)_{target}\.zip")
    versions = [path.parent.name for path in (folder / PROVIDER).glob(f"*/{target}")]
    names = (path.name for path in (folder / PROVIDER).glob("*.zip"))
    versions += [found[1] for name in names if (found := archive.fullmatch(name))]
    return any(allows(constraint, version) for version in versions)


def version_constraint(versions: Path) -> str:
    """Return the constraint on the provider's version in a Terraform file, "" if it has none."""
    pattern = r'"hashicorp/aws"\s+version\s*=\s*"(.*?)"'
    found = re.search(pattern, versions.read_text(encoding="utf-8"))
    return found[1] if found else ""


def allows(constraint: str, version: str) -> bool:
    """Tell whether a constraint of Terraform's, ">= 5.100, < 7.0", allows a release, "5.100.0"."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
        return False  # not a release
    number = numbers(version)
    for part in filter(None, constraint.split(",")):
        operator, bound = re.fullmatch(r"\s*([<>=!~]*)\s*(.*?)\s*", part).groups()  # type: ignore[union-attr]
        limit = numbers(bound)
        allowed = {
            ">=": number >= limit,
            ">": number > limit,
            "<=": number <= limit,
            "<": number < limit,
            "!=": number != limit,
            # ~> 5.100 is 5.100 or a later 5; ~> 5.100.1 is 5.100.1 or a later 5.100.
            "~>": number >= limit and number[: bound.count(".")] == limit[: bound.count(".")],
        }
        if not allowed.get(operator, number == limit):
            return False
    return True


def numbers(version: str) -> list[int]:
    """Return a version's three numbers."""
    parts = [int(number) for number in re.findall("[0-9]+", version)]
    return [*parts, 0, 0, 0][:3]


def write(mirror: Path, output: Path) -> Path:
    """Write a configuration that takes the AWS provider from a mirror, and all else as usual."""
    text = f"""# Written by scripts/terraform_cli_config.py.
provider_installation {{
  filesystem_mirror {{
    path    = {json.dumps(str(mirror), ensure_ascii=False)}
    include = ["{PROVIDER}"]
  }}
  direct {{
    exclude = ["{PROVIDER}"]
  }}
}}
"""
    with contextlib.suppress(OSError, ValueError):
        if output.read_text(encoding="utf-8") == text:
            return output
    output.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: Terraform may read it at the same time.
    handle, temporary = tempfile.mkstemp(dir=output.parent, prefix=output.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(output)
    return output


if __name__ == "__main__":
    sys.exit(main())

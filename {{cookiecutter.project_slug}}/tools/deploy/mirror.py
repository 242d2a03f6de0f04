"""Finds the AWS provider in a folder, a mirror, where Terraform's registry cannot be reached.

The user's own configuration, TF_CLI_CONFIG_FILE or ~/.terraformrc, is used as it is. Next comes the
folder that TERRAFORM_PROVIDER_MIRROR names, then the first of PLACES that has the provider for this
machine, in a version that is not older than versions.tf says (`>= 6.20`; other constraints are left
to Terraform). Without a mirror, Terraform asks the registry.

It imports only the standard library, and runs on Python 3.9, too: ``make doctor`` uses it.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
PROVIDER = "registry.terraform.io/hashicorp/aws"
# Where Terraform itself looks, then what all users of a machine share. In the home by name: macOS
# asks the user before it lets a program look into some of the folders there.
PLACES = (
    "terraform/terraform.d/plugins",
    "~/.terraform.d/plugins",
    "~/.local/share/terraform/plugins",
    "~/Library/Application Support/io.terraform/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/*",
    "/srv/*",
    "/mnt/*",
    "~/*terraform*",
    "~/*mirror*",
    "~/*plugins*",
)


def cli_config(terraform: Path = TERRAFORM, places: tuple[str, ...] = PLACES) -> Path | None:
    """Return the Terraform CLI configuration to use; None if Terraform needs none.

    :param terraform: a folder with Terraform code; a configuration is written below it, to
        .terraform/mirror.tfrc, which Git ignores.
    :param places: patterns of folders that may be a mirror.
    :raises SystemExit: TERRAFORM_PROVIDER_MIRROR does not name a mirror, or every provider that was
        found is too old.
    """
    given = os.environ.get("TF_CLI_CONFIG_FILE")
    if given and Path(given).is_file():
        return Path(given)
    named = os.environ.get("TERRAFORM_PROVIDER_MIRROR")
    if named and not Path(named, PROVIDER).is_dir():
        raise SystemExit(
            f"TERRAFORM_PROVIDER_MIRROR is {named}, but there is no {PROVIDER} in it: it must name "
            "the folder that holds the folder registry.terraform.io."
        )
    if not named and Path("~/.terraformrc").expanduser().is_file():
        return None
    refusals = []
    for mirror in [Path(named)] if named else _search(places):
        if not (refusal := _too_old(mirror, terraform)):
            return _write(mirror.absolute(), terraform / ".terraform/mirror.tfrc")
        refusals.append(refusal)
    if refusals:
        raise SystemExit(refusals[0])
    return None


def _search(places: tuple[str, ...]) -> Iterator[Path]:
    """Find the mirrors that have the provider for this machine."""
    for place in places:
        for found in sorted(glob(os.path.expanduser(place))):  # noqa: PTH111, PTH207 (hidden ones)
            if versions(Path(found), this_platform()):
                yield Path(found)


def this_platform() -> str:
    """Return this machine's platform in Terraform's words, linux_arm64 for example."""
    machine = platform.machine().lower()
    processor = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}_{processor}"


def versions(mirror: Path, target: str) -> list[str]:
    """Return the provider's versions in a mirror for a platform (linux_arm64), the newest last."""
    folder = mirror / PROVIDER
    found = [path.parent.name for path in folder.glob(f"*/{target}")]
    found += [path.name.split("_")[1] for path in folder.glob(f"*_{target}.zip")]
    return sorted(found, key=numbers)


def numbers(version: str) -> list[int]:
    """Return a version's numbers, to compare it with another."""
    return [int(number) for number in re.findall(r"[0-9]+", version)]


def _too_old(mirror: Path, terraform: Path) -> str:
    """Say that a mirror's newest provider is older than versions.tf asks for; "" if it is not."""
    file = terraform / "versions.tf"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    asked = re.search(r'"hashicorp/aws"\n *version *= *">= *([0-9.]+).*?"(?: *# (.+))?', text)
    has = versions(mirror, this_platform())
    if not asked or not has or numbers(has[-1]) >= numbers(asked[1]):
        return ""
    why = f": {asked[2]}" if asked[2] else ""
    return (
        f"The mirror {mirror} has the AWS provider {has[-1]}, but this service needs {asked[1]} or "
        f"newer (terraform/versions.tf{why}). Add a newer one to the mirror (`terraform providers "
        "mirror`), name another in TERRAFORM_PROVIDER_MIRROR, or, to use Terraform's registry, run "
        "`touch ~/.terraformrc`."
    )


def _write(mirror: Path, output: Path) -> Path:
    """Write a configuration that takes the AWS provider from a mirror, and all else as usual."""
    path, only = json.dumps(str(mirror), ensure_ascii=False), f'["{PROVIDER}"]'
    text = (
        "# Written by tools/deploy/mirror.py.\nprovider_installation {\n"
        f"  filesystem_mirror {{\n    path    = {path}\n    include = {only}\n  }}\n"
        f"  direct {{\n    exclude = {only}\n  }}\n}}\n"
    )
    if not output.is_file() or output.read_text(encoding="utf-8") != text:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another Terraform may read it at the same time.
        temporary = output.with_suffix(f".{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(output)
    return output

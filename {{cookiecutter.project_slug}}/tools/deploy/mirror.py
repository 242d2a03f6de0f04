"""Finds the AWS provider in a folder, a mirror, where Terraform's registry cannot be reached.

    python tools/deploy/mirror.py      prints the value for TF_CLI_CONFIG_FILE, nothing if none

The user's own configuration, TF_CLI_CONFIG_FILE or ~/.terraformrc, is used as it is. Next comes the
folder that TERRAFORM_PROVIDER_MIRROR names, then the first of PLACES that has the provider for this
machine. Whether its version will do is left to Terraform: a parser of version constraints is not
worth its code. Without a mirror, Terraform asks the registry.

It imports only the standard library, so that any Python can run it as a file.
"""

from __future__ import annotations

import json
import os
import platform
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
    :raises SystemExit: TERRAFORM_PROVIDER_MIRROR does not name a mirror.
    """
    given = os.environ.get("TF_CLI_CONFIG_FILE")
    if given and Path(given).is_file():
        return Path(given)
    if named := os.environ.get("TERRAFORM_PROVIDER_MIRROR"):
        if not Path(named, PROVIDER).is_dir():
            raise SystemExit(
                f"TERRAFORM_PROVIDER_MIRROR is {named}, but there is no {PROVIDER} in it: it must "
                "name the folder that holds the folder registry.terraform.io."
            )
        return _write(Path(named).absolute(), terraform / ".terraform/mirror.tfrc")
    if Path("~/.terraformrc").expanduser().is_file():
        return None
    machine = platform.machine().lower()
    processor = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    for place in places:
        for found in sorted(glob(os.path.expanduser(place))):  # noqa: PTH111, PTH207 (hidden ones)
            if has_provider(Path(found), f"{platform.system().lower()}_{processor}"):
                return _write(Path(found).absolute(), terraform / ".terraform/mirror.tfrc")
    return None


def has_provider(mirror: Path, target: str) -> bool:
    """Tell whether a mirror has the provider for a platform, linux_arm64 for example."""
    folder = mirror / PROVIDER
    return any(folder.glob(f"*/{target}")) or any(folder.glob(f"*_{target}.zip"))


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


if __name__ == "__main__":
    print(cli_config() or "", end="")

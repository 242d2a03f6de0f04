"""tools/deploy/mirror.py of the service, on machines of fakes."""

import json
import os
import platform
import subprocess
from pathlib import Path

import pytest
from conftest import Render, need
from tools.deploy.mirror import PLACES, cli_config

VERSIONS = """
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}
"""
PROCESSOR = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
HERE = f"{platform.system().lower()}_{PROCESSOR}"


class Machine:
    """A home, a folder to search in place of /opt, and the answer there."""

    def __init__(self, folder: Path) -> None:
        self.home, self.root, self.terraform = (folder / name for name in ("home", "opt", "code"))
        for made in (self.home, self.root, self.terraform):
            made.mkdir()
        self.output = self.terraform / ".terraform" / "mirror.tfrc"

    def mirror(self, folder: Path, target: str = HERE, version: str = "5.100.0") -> Path:
        provider = folder / "registry.terraform.io" / "hashicorp" / "aws"
        (provider / version / target).mkdir(parents=True)
        return folder

    def ask(self, constraint: str) -> None:
        text = VERSIONS.replace('">= 5.100, < 7.0"', constraint)
        (self.terraform / "versions.tf").write_text(text, encoding="utf-8")

    def answer(self) -> Path | None:
        own = (place for place in PLACES if place.startswith("~/"))
        return cli_config(self.terraform, (*own, f"{self.root}/*"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("HOME", str(made.home))
    for name in ("TF_CLI_CONFIG_FILE", "TERRAFORM_PROVIDER_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return made


def mirror_in(config: Path | None) -> str:
    assert config is not None
    (line,) = [line for line in config.read_text(encoding="utf-8").splitlines() if "path" in line]
    return str(json.loads(line.partition("=")[2]))


def test_nothing_found_is_nothing_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(machine.home / "missing"))
    assert machine.answer() is None
    assert not machine.output.exists()


def test_the_users_own_configuration_is_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.mirror(machine.root / "mirror")
    own = machine.home / "own.tfrc"
    own.touch()
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(own))
    assert machine.answer() == own
    monkeypatch.delenv("TF_CLI_CONFIG_FILE")
    (machine.home / ".terraformrc").touch()
    assert machine.answer() is None
    assert not machine.output.exists()


def test_a_mirror_is_found_and_used(machine: Machine) -> None:
    mirror = machine.mirror(machine.root / "mirror")
    config = machine.answer()
    assert config == machine.output
    assert mirror_in(config) == str(mirror)
    assert 'include = ["registry.terraform.io/hashicorp/aws"]' in config.read_text()
    assert 'exclude = ["registry.terraform.io/hashicorp/aws"]' in config.read_text()
    assert [path.name for path in config.parent.iterdir()] == ["mirror.tfrc"]


def test_what_is_written_is_not_written_again(machine: Machine) -> None:
    mirror = machine.mirror(machine.root / "mirror")
    machine.answer()
    before = machine.output.stat().st_ino  # what is written is another file
    assert mirror_in(machine.answer()) == str(mirror)
    assert machine.output.stat().st_ino == before
    mirror.rename(machine.root / "elsewhere")
    assert mirror_in(machine.answer()) == str(machine.root / "elsewhere")


def test_the_variable_names_a_mirror(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.mirror(machine.root / "found")
    named = machine.mirror(machine.home / 'my "mirror"')
    monkeypatch.setenv("TERRAFORM_PROVIDER_MIRROR", str(named))
    assert mirror_in(machine.answer()) == str(named)


def test_a_variable_that_names_no_mirror_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFORM_PROVIDER_MIRROR", "/nowhere")
    with pytest.raises(SystemExit, match="TERRAFORM_PROVIDER_MIRROR is /nowhere, but there is no"):
        machine.answer()


@pytest.mark.parametrize("folder", [".terraform.d/plugins", ".local/share/terraform/plugins"])
def test_where_terraform_looks_by_itself_comes_first(machine: Machine, folder: str) -> None:
    machine.mirror(machine.root / "mirror")
    own = machine.mirror(machine.home / folder)
    assert mirror_in(machine.answer()) == str(own)


def test_a_mirror_for_another_machine_is_none(machine: Machine) -> None:
    machine.mirror(machine.root / "mirror", "plan9_mips")
    assert machine.answer() is None


def test_a_mirror_may_hold_archives(machine: Machine) -> None:
    provider = machine.root / "mirror" / "registry.terraform.io" / "hashicorp" / "aws"
    provider.mkdir(parents=True)
    (provider / "terraform-provider-aws_5.100.0_plan9_mips.zip").touch()
    assert machine.answer() is None
    (provider / f"terraform-provider-aws_6.1.0_{HERE}.zip").touch()
    assert mirror_in(machine.answer()) == str(machine.root / "mirror")


def test_a_mirror_with_too_old_a_provider_is_named(machine: Machine) -> None:
    mirror = machine.mirror(machine.root / "mirror")
    machine.mirror(machine.root / "other", version="6.9.1")  # by number, older than 6.20
    machine.ask('">= 6.20, < 7.0" # older ones refuse Lambda\'s Python 3.14')
    with pytest.raises(SystemExit) as refused:
        machine.answer()
    assert str(refused.value).startswith(
        f"The mirror {mirror} has the AWS provider 5.100.0, but this service needs 6.20 or newer "
        "(terraform/versions.tf: older ones refuse Lambda's Python 3.14). Add a newer one"
    )
    assert not machine.output.exists()
    machine.mirror(machine.root / "other", version="6.20.0")
    assert mirror_in(machine.answer()) == str(machine.root / "other")


def test_a_named_mirror_with_too_old_a_provider_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.mirror(machine.root / "found", version="6.20.0")
    provider = machine.home / "registry.terraform.io" / "hashicorp" / "aws"
    provider.mkdir(parents=True)
    (provider / f"terraform-provider-aws_6.3.0_{HERE}.zip").touch()
    monkeypatch.setenv("TERRAFORM_PROVIDER_MIRROR", str(machine.home))
    machine.ask('">= 6.20.0"')
    with pytest.raises(SystemExit, match=r"has the AWS provider 6\.3\.0.*versions\.tf\)\. Add"):
        machine.answer()


@pytest.mark.parametrize("constraint", ['">= 5.100, < 7.0"', '"~> 6.20"', '"< 7.0"'])
def test_other_constraints_are_left_to_terraform(machine: Machine, constraint: str) -> None:
    mirror = machine.mirror(machine.root / "mirror")
    machine.ask(constraint)
    assert mirror_in(machine.answer()) == str(mirror)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"python_version": "3.14"}, False),
        ({"python_version": "3.14", "compute": "fargate"}, True),
        ({"python_version": "3.13"}, True),
    ],
)
def test_what_a_service_says_of_its_provider_is_heeded(
    machine: Machine, render: Render, answers: dict[str, str], found: bool
) -> None:
    mirror = machine.mirror(machine.root / "mirror")
    (machine.terraform / "versions.tf").symlink_to(render(**answers) / "terraform/versions.tf")
    if found:
        assert mirror_in(machine.answer()) == str(mirror)
    else:
        with pytest.raises(SystemExit, match=r"needs 6\.20 or newer .* Python 3\.14\)"):
            machine.answer()


@pytest.mark.parametrize("folder", ["a/b", ".hidden"])
def test_neither_deep_nor_hidden_folders_are_searched(machine: Machine, folder: str) -> None:
    machine.mirror(machine.root / folder)
    assert machine.answer() is None


@pytest.mark.parametrize(("folder", "found"), [("terraform-mirror", True), ("Documents", False)])
def test_the_home_folder_is_searched_by_name(machine: Machine, folder: str, found: bool) -> None:
    machine.mirror(machine.home / folder)
    assert (machine.answer() is not None) == found


def test_terraform_takes_the_provider_from_the_mirror(machine: Machine) -> None:
    """It reads the configuration, and looks for the provider in the mirror and nowhere else."""
    need("terraform")
    mirror = machine.mirror(machine.root / "mirror")
    provider = mirror / "registry.terraform.io" / "hashicorp" / "aws" / "5.100.0" / HERE
    (provider / "terraform-provider-aws_v5.100.0").write_text("#!/bin/sh\n")
    (machine.terraform / "versions.tf").write_text(VERSIONS, encoding="utf-8")
    done = subprocess.run(
        ["terraform", f"-chdir={machine.terraform}", "init", "-no-color", "-input=false"],
        env={**os.environ, "TF_CLI_CONFIG_FILE": str(machine.answer())},
        capture_output=True,
        text=True,
    )
    assert "Installed hashicorp/aws v5.100.0" in done.stdout, done.stdout + done.stderr

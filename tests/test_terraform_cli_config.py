"""scripts/terraform_cli_config.py of the rendered service, in folders of fakes."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import need

SCRIPTS = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}" / "scripts"

# The template's folder stays clean: what lies in it is rendered.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SCRIPTS))
import terraform_cli_config  # noqa: E402
from terraform_cli_config import MirrorError, allows, cli_config  # noqa: E402

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
    """A home, a root to search, and the script's answer there."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.root = folder / "opt"
        self.versions = folder / "versions.tf"
        self.output = folder / "out" / "mirror.tfrc"
        self.versions.write_text(VERSIONS, encoding="utf-8")
        self.home.mkdir()
        self.root.mkdir()

    def mirror(self, folder: Path, version: str = "5.100.0", target: str = HERE) -> Path:
        provider = folder / "registry.terraform.io" / "hashicorp" / "aws"
        (provider / version / target).mkdir(parents=True)
        return folder

    def answer(self, **environment: str) -> Path | None:
        return cli_config(environment, self.home, [self.root], self.versions, self.output)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def mirror_in(config: Path | None) -> str:
    assert config is not None
    (line,) = [line for line in config.read_text(encoding="utf-8").splitlines() if "path" in line]
    return str(json.loads(line.partition("=")[2]))


def test_nothing_found_is_nothing_written(machine: Machine) -> None:
    assert machine.answer(TF_CLI_CONFIG_FILE=str(machine.home / "missing")) is None
    assert not machine.output.exists()


def test_the_users_own_configuration_rules(machine: Machine) -> None:
    machine.mirror(machine.root / "mirror")
    own = machine.home / "own.tfrc"
    own.touch()
    assert machine.answer(TF_CLI_CONFIG_FILE=str(own)) == own
    assert not machine.output.exists()


def test_a_mirror_is_found_and_used(machine: Machine) -> None:
    mirror = machine.mirror(machine.root / "terraform" / "mirror")
    config = machine.answer()
    assert config == machine.output
    assert mirror_in(config) == str(mirror)
    assert 'include = ["registry.terraform.io/hashicorp/aws"]' in config.read_text()
    assert 'exclude = ["registry.terraform.io/hashicorp/aws"]' in config.read_text()
    assert [path.name for path in config.parent.iterdir()] == ["mirror.tfrc"]


def test_the_variable_names_a_mirror(machine: Machine) -> None:
    machine.mirror(machine.root / "found")
    named = machine.mirror(machine.home / 'my "mirror"', version="99.0.0")
    assert mirror_in(machine.answer(TERRAFORM_PROVIDER_MIRROR=str(named))) == str(named)


def test_a_variable_that_names_no_mirror_is_refused(machine: Machine) -> None:
    with pytest.raises(MirrorError, match="TERRAFORM_PROVIDER_MIRROR is /nowhere, but there is no"):
        machine.answer(TERRAFORM_PROVIDER_MIRROR="/nowhere")


def test_terraformrc_in_the_home_folder_is_left_to_terraform(machine: Machine) -> None:
    machine.mirror(machine.root / "mirror")
    (machine.home / ".terraformrc").touch()
    assert machine.answer() is None


@pytest.mark.parametrize(
    "folder",
    [".terraform.d/plugins", ".local/share/terraform/plugins", "data/terraform/plugins"],
)
def test_where_terraform_looks_by_itself_nothing_is_written(machine: Machine, folder: str) -> None:
    machine.mirror(machine.root / "mirror")
    machine.mirror(machine.home / folder)
    assert machine.answer(XDG_DATA_DIRS=f"/nowhere:{machine.home / 'data'}") is None
    assert not machine.output.exists()


@pytest.mark.parametrize(
    ("version", "target"), [("5.99.0", HERE), ("7.0.0", HERE), ("5.100.0", "plan9_mips")]
)
def test_a_mirror_without_a_fitting_provider_is_none(
    machine: Machine, version: str, target: str
) -> None:
    machine.mirror(machine.root / "mirror", version, target)
    assert machine.answer() is None


def test_a_mirror_may_hold_archives(machine: Machine) -> None:
    provider = machine.root / "mirror" / "registry.terraform.io" / "hashicorp" / "aws"
    provider.mkdir(parents=True)
    (provider / "terraform-provider-aws_5.100.0_plan9_mips.zip").touch()
    assert machine.answer() is None
    (provider / f"terraform-provider-aws_6.1.0_{HERE}.zip").touch()
    assert mirror_in(machine.answer()) == str(machine.root / "mirror")


@pytest.mark.parametrize("folder", ["a/b/c", ".hidden"])
def test_neither_deep_nor_hidden_folders_are_searched(machine: Machine, folder: str) -> None:
    machine.mirror(machine.root / folder)
    assert machine.answer() is None


@pytest.mark.parametrize(("folder", "found"), [("terraform-mirror", True), ("Documents", False)])
def test_the_home_folder_is_searched_by_name(machine: Machine, folder: str, found: bool) -> None:
    machine.mirror(machine.home / folder)
    assert (machine.answer() is not None) == found


def test_the_mirror_of_the_last_time_needs_no_search(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = machine.mirror(machine.root / "mirror")
    machine.answer()
    before = machine.output.stat()
    monkeypatch.setattr(terraform_cli_config, "SECONDS", -1)
    assert mirror_in(machine.answer()) == str(mirror)
    assert machine.output.stat() == before
    mirror.rename(machine.root / "elsewhere")
    assert machine.answer() is None


def test_a_search_takes_no_longer_than_it_may(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (machine.root / str(number)).mkdir()
    monkeypatch.setattr(terraform_cli_config, "SECONDS", 0.05)
    slow = terraform_cli_config.subfolders

    def subfolders(folder: Path) -> list[Path]:
        time.sleep(0.05)
        return slow(folder)

    monkeypatch.setattr(terraform_cli_config, "subfolders", subfolders)
    started = time.monotonic()
    machine.answer()
    assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    ("constraint", "yes", "no"),
    [
        (">= 5.100, < 7.0", "5.100.0 5.100.1 6.99.9", "5.99.9 7.0.0 4.200.0 6.0.0-beta1"),
        ("~> 5.100", "5.100.0 5.101.0", "5.99.0 6.0.0"),
        ("~> 5.100.1", "5.100.1 5.100.9", "5.100.0 5.101.0"),
        ("= 5.100.0", "5.100.0", "5.100.1"),
        ("6.2.0", "6.2.0", "6.2.1"),
        ("> 5.1, != 5.3.0, <= 5.4", "5.2.0 5.4.0", "5.1.0 5.3.0 5.4.1"),
        ("", "1.0.0", "latest"),
    ],
)
def test_terraforms_version_constraints(constraint: str, yes: str, no: str) -> None:
    assert [version for version in yes.split() if not allows(constraint, version)] == []
    assert [version for version in no.split() if allows(constraint, version)] == []


def test_the_services_own_constraint_is_read() -> None:
    text = terraform_cli_config.version_constraint(SCRIPTS.parent / "terraform" / "versions.tf")
    assert allows(text, "5.100.0")
    assert not allows(text, "1.0.0")


def test_terraform_takes_the_provider_from_the_mirror(machine: Machine, tmp_path: Path) -> None:
    """It reads the configuration, and looks for the provider in the mirror and nowhere else."""
    need("terraform")
    mirror = machine.root / "mirror"
    machine.mirror(mirror)
    provider = mirror / "registry.terraform.io" / "hashicorp" / "aws" / "5.100.0" / HERE
    (provider / "terraform-provider-aws_v5.100.0").write_text("#!/bin/sh\n")
    code = tmp_path / "code"
    code.mkdir()
    (code / "versions.tf").write_text(VERSIONS, encoding="utf-8")
    done = subprocess.run(
        ["terraform", f"-chdir={code}", "init", "-no-color", "-input=false"],
        env={**os.environ, "TF_CLI_CONFIG_FILE": str(machine.answer())},
        capture_output=True,
        text=True,
    )
    assert "Installed hashicorp/aws v5.100.0" in done.stdout, done.stdout + done.stderr


def test_the_command_prints_the_path(tmp_path: Path) -> None:
    own = tmp_path / "own.tfrc"
    own.touch()
    command = [sys.executable, str(SCRIPTS / "terraform_cli_config.py")]

    def run(**environment: str) -> "subprocess.CompletedProcess[str]":
        clean = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **environment}
        return subprocess.run(command, env=clean, capture_output=True, text=True)

    assert run(TF_CLI_CONFIG_FILE=str(own)).stdout == f"{own}\n"
    wrong = run(TERRAFORM_PROVIDER_MIRROR=str(tmp_path))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("terraform_cli_config: TERRAFORM_PROVIDER_MIRROR is")

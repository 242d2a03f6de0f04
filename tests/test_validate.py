"""`make validate`: code and settings of both environments; it leaves nothing in terraform/."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Render, lend_environment, need, one_provider
from test_service import refused
from tools.deploy import validate
from tools.errors import ToolError
from tools.project import project

# Writes a lock file where it is initialised, as Terraform does; prints what the folder of the
# environment says.
STAND_IN = """#!/bin/sh
folder=${1#-chdir=}
shift
case "$1" in
fmt) cat unformatted 2>/dev/null && exit 3 ;;
init) echo 'this machine only' >>"$folder/.terraform.lock.hcl" ;;
console) cat "$folder/environments/$TF_WORKSPACE.says" ;;
*) echo "$folder $1" ;;
esac
exit 0
"""
UNKNOWN = """
Warning: Value for undeclared variable

The root module does not declare a variable named "memory_siz" but a value
was found in file "environments/dev.tfvars". If you meant to use this value,
add a "variable" block to the configuration.

To silence these warnings, use TF_VAR_... environment variables to provide

"""


@pytest.fixture
def service(render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a service's settings, and a stand-in for Terraform on the PATH."""
    environments = tmp_path / "terraform" / "environments"
    environments.mkdir(parents=True)
    for name in ("dev", "prod"):
        (environments / f"{name}.says").touch()
    for name in (".python-version", "pyproject.toml"):
        (tmp_path / name).write_text((render() / name).read_text("utf-8"), encoding="utf-8")
    program = tmp_path / "bin" / "terraform"
    program.parent.mkdir()
    program.write_text(STAND_IN, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr("tools.deploy.terraform.cli_config", lambda: None)
    monkeypatch.setattr("tools.events.models", lambda: {"order.created": None})
    monkeypatch.chdir(tmp_path)
    project.cache_clear()
    yield tmp_path
    project.cache_clear()


def check() -> None:
    validate.command.main([], standalone_mode=False)


@pytest.mark.parametrize("lock", ["", "# locked for all machines\n"])
def test_terraforms_lock_file_stays_as_it_is(
    service: Path, lock: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = service / "terraform" / ".terraform.lock.hcl"
    if lock:
        file.write_text(lock, encoding="utf-8")
    check()
    assert capfd.readouterr().out == "terraform init\n.terraform validate\n.terraform test\n"
    assert (file.read_text(encoding="utf-8") if file.exists() else "") == lock
    assert not (service / ".terraform").exists()


def test_an_unknown_variable_is_an_error_in_terraforms_words(
    service: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (service / "terraform/environments/dev.says").write_text(UNKNOWN, encoding="utf-8")
    with pytest.raises(ToolError, match=r"^Wrong settings: correct terraform/environments/dev\.tf"):
        check()
    printed, said = capfd.readouterr()
    assert said == UNKNOWN.replace("Warning", "Error").partition("\nTo silence")[0] + "\n"
    assert "test" not in printed
    assert not (service / ".terraform").exists()


def test_code_that_is_not_formatted_is_named_with_what_to_do(service: Path) -> None:
    (service / "unformatted").write_text("environments/prod.tfvars\n", encoding="utf-8")
    with pytest.raises(ToolError, match=r"`make format`.* in terraform/:\nenvironments/prod\.tf"):
        check()


@pytest.mark.slow
def test_settings_of_both_environments_are_checked_by_terraform(fresh: Render) -> None:
    for tool in ("make", "terraform"):
        need(tool)
    service = fresh()
    lend_environment(service)
    for name, text in {
        "dev": '\nmemory_siz = 1024\n\nlog_level = "LOUD"\n',
        "prod": '\nmemory_size = 64\n\ntimeout = "long"\n',
    }.items():
        with (service / f"terraform/environments/{name}.tfvars").open("a") as file:
            file.write(text)
    with one_provider(service):
        said = " ".join(refused("make", "validate", cwd=service).split())
    for sentence in (
        'does not declare a variable named "memory_siz" but a value was found in file '
        '"environments/dev.tfvars".',
        "log_level must be DEBUG, INFO, WARN or ERROR (failed messages are logged at ERROR), not "
        '"LOUD".',
        "on environments/prod.tfvars line 15",
        "memory_size must be a whole number from 128 to 10240 (MB), not 64.",
        "The given value is not suitable for var.timeout",
        "and terraform/environments/prod.tfvars, or the default in variables.tf.",
    ):
        assert sentence in said
    assert not (service / "terraform" / ".terraform.lock.hcl").exists()

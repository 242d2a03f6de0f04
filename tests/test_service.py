"""The rendered service at work: its own make targets, as a developer would run them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import HOST, Render, lend_environment, need, need_provider, one_provider, run
from test_isolation import HOSTILE
from test_pictures import in_demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(render: Render) -> Path:
    """Render the default service, but for this Python, into a folder of its own.

    first_week.py's service is installed from its own lock.
    """
    need("make")
    folder = render(python_version=HOST["python_version"])
    lend_environment(folder)
    return folder


@pytest.mark.usefixtures("known_types")
def test_its_checks_and_unit_tests_pass(service: Path) -> None:
    in_demo(3, run("make", "lint", "typecheck", "test", cwd=service).stdout)


def test_nothing_changes_when_it_is_formatted(service: Path) -> None:
    run("git", "init", "--quiet", cwd=service)
    run("git", "add", ".", cwd=service)
    run("make", "format", cwd=service)
    assert run("git", "status", "--porcelain", "--", ".", cwd=service).stdout.count("\nAM") == 0


# What an owner may add: none of it disturbs the end-to-end tests, and the code gets all of it.
OWN = [
    ("local.env", "LOG_LEVEL=INFO\n", "LOG_LEVEL=INFO\n\n# mine\nMINE=1\n"),
    (
        "terraform/service.tf",
        "added_environment_variables = {}",
        'added_environment_variables = { COLOUR = "red" }',
    ),
    (
        "terraform/service.tf",
        "added_permissions = []",
        'added_permissions = [{ Sid = "Read", Effect = "Allow", '
        'Action = "secretsmanager:GetSecretValue", Resource = "*" }]',
    ),
    (
        "tests/world.py",
        "return {}",
        'aws.client("secretsmanager").create_secret(Name="key", SecretString="secret")\n'
        '    return {"PRICES_URL": "http://127.0.0.1:1"}',
    ),
    (
        "order_events/service.py",
        "logger =",
        "import os, boto3\n"
        'boto3.client("secretsmanager").get_secret_value(SecretId="key")\n'
        'os.environ["COLOUR"], os.environ["PRICES_URL"]\n'
        "logger =",
    ),
]


def test_the_whole_chain_carries_messages_on_a_local_aws(service: Path) -> None:
    need_provider(service)
    in_demo(4, run("make", "package", cwd=service).stdout)
    texts = {name: (service / name).read_text(encoding="utf-8") for name, _, _ in OWN}
    try:
        for name, old, new in OWN:
            text = (service / name).read_text(encoding="utf-8")
            assert text.count(old) == 1
            (service / name).write_text(text.replace(old, new), encoding="utf-8")
        with one_provider(service):
            done = run("make", "e2e", cwd=service, **HOSTILE)
    finally:
        for name, text in texts.items():
            (service / name).write_text(text, encoding="utf-8")
    assert "went through" in done.stdout
    assert "local.env lacks COLOUR: unit tests and `make invoke` run without" in done.stdout
    assert "only local.env sets MINE: on AWS, the code runs without; see service.tf" in done.stdout
    in_demo(5, done.stdout)


def refused(*command: str, cwd: Path, **environment: str) -> str:
    """Run a command that must fail; return what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_an_unknown_environment_is_refused(service: Path) -> None:
    assert "ENV is 'staging': it must be dev, prod or local." in refused(
        "make", "plan", "ENV=staging", cwd=service
    )


@pytest.mark.parametrize("target", ["init", "plan", "validate", "e2e", "local"])
def test_a_missing_terraform_is_named(service: Path, tmp_path: Path, target: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "make", "cat", "find", "uname", "dirname", "touch", "mkdir", "rm", "grep"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    backend = service / "terraform" / "environments" / "dev.s3.tfbackend"
    text = backend.read_text(encoding="utf-8")
    try:
        backend.write_text(text.replace('= ""', '= "states"'), encoding="utf-8")
        said = refused("make", target, cwd=service, PATH=str(tools))
    finally:
        backend.write_text(text, encoding="utf-8")
    version = (service / ".terraform-version").read_text().strip()
    assert f"Terraform is missing: install version {version}, see https://" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("target", ["init", "unlock"])
def test_without_a_state_bucket_it_is_said_where_to_set_it(service: Path, target: str) -> None:
    need("terraform")
    said = refused("make", target, cwd=service)
    assert "is not set: write its name into terraform/environments/dev.s3.tfbackend" in said

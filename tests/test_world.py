"""tests/world.py, the owner's: what the local AWS holds besides the service, in local runs."""

import subprocess
import sys
from pathlib import Path

from conftest import Render
from test_isolation import HOSTILE, WORLD

LOOK = """
import boto3
from tools.local.world import local_world

with local_world("eu-central-1") as variables:
    for name in ("LOG_LEVEL", "MINE", "PRICES_URL"):
        print(variables[name])
    there = {"endpoint_url": variables["AWS_ENDPOINT_URL"]}
    secrets = boto3.client("secretsmanager", **there)
    print(secrets.get_secret_value(SecretId="api-key")["SecretString"])
    print(*boto3.client("dynamodb", **there).list_tables()["TableNames"])
"""


def run(service: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", *arguments]
    return subprocess.run(command, cwd=service, env=variables, capture_output=True, text=True)


def test_the_local_aws_holds_the_owners_world(fresh: Render) -> None:
    service = fresh()
    (service / "tests" / "world.py").write_text(WORLD)
    with (service / "local.env").open("a") as file:
        file.write('\n# mine\n\nMINE="with quotes"=x\nPRICES_URL=overridden\n')
    done = run(service, "-c", LOOK, **HOSTILE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "INFO",
        '"with quotes"=x',
        "http://127.0.0.1:8080",
        "secret",
        "orders",
    ]


def test_an_error_in_it_is_shown_with_its_place(fresh: Render) -> None:
    service = fresh()
    (service / "tests" / "world.py").write_text(WORLD.replace("SecretString=", "SecretText="))
    done = run(service, "-m", "tools", "invoke")
    assert done.returncode == 1
    assert done.stderr.startswith("tests/world.py failed:\nTraceback ")
    assert f'{service}/tests/world.py", line 3, in surroundings\n' in done.stderr
    assert 'Unknown parameter in input: "SecretText"' in done.stderr
    assert done.stderr.count("Traceback") == 1

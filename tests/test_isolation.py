"""Local runs and tests heed nothing of the user's AWS: no profile, file, credential or endpoint."""

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TEMPLATE, Render, lend_environment, need
from tools.local.isolation import isolated

RUNNING = "{}.{}".format(*sys.version_info)

DEAD = "http://127.0.0.1:9"
BROKEN = str(TEMPLATE / "LICENSE")

# Each leads to another AWS, or to none. The tests of the service at work set them, too.
HOSTILE = {
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_CONFIG_FILE": BROKEN,
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": DEAD,
    "AWS_DATA_PATH": "/nowhere",
    "AWS_DEFAULT_PROFILE": "corp",
    "AWS_DEFAULT_REGION": "nowhere-1",
    "AWS_ENDPOINT_URL": DEAD,
    "AWS_ENDPOINT_URL_DYNAMODB": DEAD,
    "AWS_PROFILE": "corp",
    "AWS_REGION": "nowhere-1",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/real",
    "AWS_SDK_LOAD_CONFIG": "1",
    "AWS_SHARED_CREDENTIALS_FILE": BROKEN,
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set these, a proxy, and a home folder with broken files."""
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text("[default\nregion = nowhere\n")
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), DEAD)
    for name, value in {**HOSTILE, **proxies, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def service(render: Render) -> Iterator[Path]:
    """Render a service that uses an AWS in its unit tests."""
    return render(idempotency="yes")


def run(service: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", *arguments], cwd=service, capture_output=True, text=True
    )


@pytest.mark.usefixtures("hostile")
def test_only_what_leads_to_no_aws_is_left() -> None:
    left = {name for name in isolated() if name.startswith("AWS_")}
    assert left == {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"}
    assert isolated()["HOME"] == os.environ["HOME"]


@pytest.mark.usefixtures("hostile")
def test_the_unit_tests_pass(service: Path) -> None:
    done = run(service, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit")
    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("hostile")
def test_the_local_aws_is_the_only_one(service: Path) -> None:
    code = """
import boto3
from tools.local.server import local_aws

with local_aws("eu-central-1") as aws:
    print(aws.client("sns").create_topic(Name="topic")["TopicArn"])
    print(boto3.client("sts").get_caller_identity()["Account"])
"""
    done = run(service, "-c", code)
    arn = "arn:aws:sns:eu-central-1:123456789012:topic"
    assert done.stdout.split() == [arn, "123456789012"], done.stderr


# ---- the unit tests never reach AWS -----------------------------------------------------------

# An owner's business logic that writes to a table, by a client made when the module is imported,
# which reads a secret and the table, too.
STORE = """

import os
import boto3

client = boto3.client("dynamodb")
prices_url = os.environ["PRICES_URL"]
secret = boto3.client("secretsmanager").get_secret_value(SecretId="api-key")["SecretString"]
begun_with = client.scan(TableName="orders")["Count"]
checked = process


def process(event_type: str, event: Event) -> None:
    checked(event_type, event)
    store(event.id)


def store(key: str) -> None:
    client.put_item(TableName="orders", Item={"id": {"S": key}})
"""
WORLD = """
def surroundings(aws):
    aws.client("secretsmanager").create_secret(Name="api-key", SecretString="secret")
    return {"PRICES_URL": "http://127.0.0.1:8080"}


def resources(aws):
    aws.client("dynamodb").create_table(
        TableName="orders",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
"""
LIST_QUEUES = """
import boto3
from botocore.config import Config

boto3.client("sqs", config=Config(retries={"total_max_attempts": 1})).list_queues()
"""
OWN_TESTS = (
    f"""
LIST_QUEUES = {LIST_QUEUES!r}
"""
    + """
import os, subprocess, sys
import boto3, pytest
from order_events import service

def ids():
    return [item["id"]["S"] for item in service.client.scan(TableName="orders")["Items"]]

@pytest.mark.parametrize("key", ["first", "second"])
def test_the_fixture_has_the_owners_world_anew_for_each_test(aws, key):
    service.store(key)
    assert ids() == [key]
    secret = boto3.client("secretsmanager").get_secret_value(SecretId="api-key")["SecretString"]
    assert secret == service.secret == "secret"
    assert service.begun_with == 0
    assert os.environ["MINE"] == "1"
    assert service.prices_url == os.environ["PRICES_URL"] == "http://127.0.0.1:8080"

@pytest.mark.parametrize("made", [None, "http://127.0.0.1:1"])
def test_without_it_the_error_says_what_to_do(made):
    client = boto3.client("dynamodb", endpoint_url=made) if made else service.client
    with pytest.raises(RuntimeError, match="A unit test called AWS, http.*: give it the fixture"):
        client.list_tables()

def test_a_process_that_a_test_starts_reaches_nobody_either():
    command = [sys.executable, "-c", LIST_QUEUES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:9/"' in done.stderr
"""
)


class Listener(socketserver.ThreadingTCPServer):
    """Stands in for AWS, or for the proxy before it: counts connections and answers none."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.connections = 0

    def verify_request(self, *_: object) -> bool:
        self.connections += 1
        return False


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def real(listener: Listener, tmp_path: Path) -> dict[str, str]:
    """Return an environment that leads to the listener, with credentials that look real."""
    key = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "x" * 40}
    lines = [f"{name} = {value}" for name, value in key.items()]
    section = ["region = eu-central-1", f"endpoint_url = {listener.url}", *lines]
    (tmp_path / "config").write_text("\n".join(["[default]", *section, "[profile corp]", *section]))
    (tmp_path / "credentials").write_text("\n".join(["[corp]", *lines]))
    endpoints = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    return {
        **{name.upper(): value for name, value in key.items()},
        **dict.fromkeys((*endpoints, *proxies), listener.url),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_PROFILE": "corp",
        "AWS_REGION": "eu-central-1",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "NO_PROXY": "",
        "no_proxy": "",
    }


@pytest.mark.parametrize("ignored", ["false", "true"], ids=["endpoint", "proxy"])
def test_the_listener_would_see_what_reaches_aws(
    listener: Listener, real: dict[str, str], ignored: str
) -> None:
    subprocess.run(
        [sys.executable, "-c", LIST_QUEUES],
        env={**os.environ, **real, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": ignored},
        capture_output=True,
    )
    assert listener.connections == 1


def test_make_test_reaches_no_aws(fresh: Render, listener: Listener, real: dict[str, str]) -> None:
    need("make")
    folder = fresh(python_version=RUNNING)
    lend_environment(folder)
    with (folder / "order_events" / "service.py").open("a") as file:
        file.write(STORE)
    (folder / "tests" / "world.py").write_text(WORLD)
    with (folder / "local.env").open("a") as file:
        file.write("\n# mine\nMINE=1\n")
    (folder / "tests" / "unit" / "test_service.py").write_text(OWN_TESTS)
    # The owner's tests here are few.
    real["PYTEST_ADDOPTS"] = "--cov-fail-under=0"
    done = subprocess.run(
        ["make", "test"], cwd=folder, env={**os.environ, **real}, capture_output=True, text=True
    )
    assert listener.connections == 0
    assert done.returncode == 0, done.stdout

"""Local runs and tests heed nothing of the user's AWS: no profile, file, credential or endpoint."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TEMPLATE, Render
from tools.local.isolation import isolated

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

"""The function's environment, and an AWS for tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.httpsession import URLLib3Session
from moto import mock_aws

from tests.world import resources, surroundings
from tools.local.isolation import isolate, pointed_at
from tools.local.server import LocalAws
from tools.project import read_environment

ROOT = Path(__file__).parents[2]

# What follows, and the import of moto, comes before any test imports the service: its modules may
# read the environment and make boto3 clients. No test reaches AWS: the keys are made up, and at
# this address nobody answers.
AWS = LocalAws("http://127.0.0.1:9", "us-east-1")
isolate(**read_environment(ROOT / "local.env"))
os.environ.update(pointed_at(AWS.url, AWS.region, "local"))


def refuse(_: URLLib3Session, request: Any) -> None:
    """Raise instead of sending a request of boto3's that no mock has answered."""
    raise RuntimeError(f"A unit test called AWS, {request.url}: give it the fixture `aws`.")


# moto's mocks answer AWS's own addresses only, so boto3 does not heed the one above.
ConfiguredEndpointProvider.provide = lambda _: None
URLLib3Session.send = refuse

# While pytest imports the tests, and the service with them, there is an AWS: it may read a secret.
IMPORTING = mock_aws()
IMPORTING.start()
os.environ.update(surroundings(AWS))
resources(AWS)


def pytest_collection_finish() -> None:
    """Leave no AWS to a test without the fixture."""
    IMPORTING.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Give the test an AWS of its own (moto's), with what tests/world.py creates.

    All boto3 clients use it, also those that a module made when it was imported.
    """
    with mock_aws():
        for name, value in surroundings(AWS).items():
            monkeypatch.setenv(name, value)
        resources(AWS)
        yield AWS

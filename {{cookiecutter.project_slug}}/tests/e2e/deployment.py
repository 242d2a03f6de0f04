"""What is deployed, and what the tests do with it."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.local_aws.server import LocalAws

ROOT = Path(__file__).parents[2]

Json = dict[str, Any]
Say = Callable[[str], None]
# Waits until the queue is worked off; returns the lines of the log since the last time.
WorkOff = Callable[[], list[Json]]


@dataclass(frozen=True)
class Deployment:
    """What Terraform made, as the local AWS tells it; outputs are Terraform's.

    environment has the variables that the handler is given.
    """

    aws: LocalAws
    topic_name: str
    outputs: dict[str, str]
    environment: dict[str, str]


def built(variable: str) -> Path:
    """Return the package that a variable of make's names."""
    package = Path(os.environ.get(variable, "dist/lambda.zip"))
    if not package.is_absolute():
        package = ROOT / package
    if not package.is_file():
        pytest.fail(f"There is no {package}: run `make e2e`, which builds it.", pytrace=False)
    return package


def depth(sqs: Any, queue_url: str) -> int:
    """Return how many messages a queue holds, those that are being worked on included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    # Thrice: what becomes visible between two counts is in neither.
    counted = [
        sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        for _ in range(3)
    ]
    return max(sum(int(count[name]) for name in names) for count in counted)


def log_lines(text: str) -> list[Json]:
    """Return the structured lines of a log."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

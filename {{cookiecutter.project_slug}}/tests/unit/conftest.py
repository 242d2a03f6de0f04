"""The function's environment, and SQS records in the shape that Lambda uses."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.local.isolation import isolate

ROOT = Path(__file__).parents[2]

# No test can reach an account.
isolate(AWS_DEFAULT_REGION="us-east-1")

# Before any test imports the handler, which reads its environment at that point.
for line in (ROOT / "local.env").read_text(encoding="utf-8").splitlines():
    name, _, value = line.partition("=")
    os.environ[name] = value


@pytest.fixture
def sample() -> Callable[[str], dict[str, Any]]:
    """Read a sample event, `events/<name>.json`."""

    def read(name: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(
            (ROOT / "events" / f"{name}.json").read_text(encoding="utf-8")
        )
        return event

    return read


@pytest.fixture
def record(sample: Callable[[str], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Make an SQS record: that of `events/one_message.json` with another body or attributes."""

    def make(body: str | None = None, **attributes: str) -> dict[str, Any]:
        made: dict[str, Any] = sample("one_message")["Records"][0]
        if body is not None:
            made["body"] = body
        for key, text in attributes.items():
            made["messageAttributes"][key] = {"stringValue": text, "dataType": "String"}
        return made

    return make

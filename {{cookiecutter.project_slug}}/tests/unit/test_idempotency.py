import io
import json
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from moto import mock_aws

import handler as entry_point
from {{ cookiecutter.package_name }} import idempotency
from {{ cookiecutter.package_name }}.message import Event
from tests.unit.messages import MODELS, enveloped, record

Log = Callable[[], list[dict[str, Any]]]

TABLE = "processed"
CONTEXT = cast(LambdaContext, SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000))


@pytest.fixture
def table() -> Iterator[Any]:
    """Make the table in a mocked AWS; return a client of DynamoDB."""
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        yield client


class Effects(list[tuple[str, str]]):
    """Business logic that keeps (event type, event id), or raises if there is a failure."""

    failure: BaseException | None = None

    def __call__(self, event_type: str, event: Event) -> None:
        if self.failure:
            raise self.failure
        self.append((event_type, event.id))


@pytest.fixture
def effects(table: Any, monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Let the handler process events once; collect what reaches the business logic."""
    effects = Effects()
    monkeypatch.setattr(entry_point, "EVENTS", MODELS)
    monkeypatch.setattr(entry_point, "process", idempotency.once(effects, TABLE))
    return effects


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a function that returns the lines of the log, parsed from JSON."""
    stream = io.StringIO()
    monkeypatch.setattr(entry_point.logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def failed(message: dict[str, Any]) -> list[str]:
    """Run the handler; return the ids of the messages that it reports as failed."""
    response = entry_point.handler({"Records": [message]}, CONTEXT)
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


def test_a_duplicate_is_not_processed_again_and_the_log_says_so(
    effects: Effects, logged: Log
) -> None:
    # A message of its own: SQS and SNS give it another id, the producer does not.
    again = enveloped()
    assert failed(record()) == failed(again) == []
    assert len(effects) == 1
    (line,) = [line for line in logged() if "processed before" in line["message"]]
    assert line["message_id"] == again["messageId"]


@pytest.mark.parametrize("error", [KeyError, SystemExit, KeyboardInterrupt, CancelledError])
def test_an_event_that_failed_is_retried(
    effects: Effects, table: Any, logged: Log, error: type[BaseException]
) -> None:
    effects.failure = error()
    assert len(failed(record())) == 1
    assert logged()[0]["error"] == error.__name__
    assert table.scan(TableName=TABLE)["Items"] == []
    effects.failure = None
    assert failed(record()) == []
    assert len(effects) == 1


def test_the_table_holds_nothing_of_the_event(effects: Effects, table: Any) -> None:
    failed(record())
    ((event_type, event_id),) = effects
    (item,) = table.scan(TableName=TABLE)["Items"]
    assert set(item) == {"id", "status", "data", "expiration", "in_progress_expiration"}
    assert item["data"] == {"S": "null"}
    assert event_type not in item["id"]["S"]
    assert event_id not in item["id"]["S"]

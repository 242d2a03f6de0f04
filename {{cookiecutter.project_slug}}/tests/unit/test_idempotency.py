import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from moto import mock_aws

import handler as entry_point
from {{ cookiecutter.package_name }} import idempotency
from {{ cookiecutter.package_name }}.events import Event, MessageError
from {{ cookiecutter.package_name }}.service import process

TABLE = "processed"


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the table in a mocked AWS; give a client of DynamoDB."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(idempotency._lease, "context", None)
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        yield client


def items(table: Any) -> list[dict[str, Any]]:
    """Return what the table holds, without DynamoDB's type names."""
    found = table.scan(TableName=TABLE, ConsistentRead=True)["Items"]
    return [{name: next(iter(value.values())) for name, value in item.items()} for item in found]


@dataclass
class Effects:
    """Business logic that keeps what it was given, and raises or waits if it is told to."""

    done: list[tuple[str, str]] = field(default_factory=list)
    failure: Exception | None = None
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self, event_type: str, event: Event) -> None:
        self.meanwhile()
        if self.failure:
            raise self.failure
        self.done.append((event_type, event.id))


def event(event_id: str = "event-1", **data: str) -> Event:
    return Event(id=event_id, occurred_at=datetime.now(UTC), data=data)


def test_an_event_that_comes_twice_is_processed_once(table: Any) -> None:
    effects = Effects()
    process = idempotency.once(effects, TABLE)
    for _ in range(3):
        process("order.created", event())
    assert effects.done == [("order.created", "event-1")]


def test_other_ids_and_other_types_are_other_events(table: Any) -> None:
    effects = Effects()
    process = idempotency.once(effects, TABLE)
    for event_type, event_id in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "1")]:
        process(event_type, event(event_id))
    assert effects.done == [("a", "1"), ("a", "2"), ("b", "1")]
    # Type and id can't run into each other.
    process("a b", event("c"))
    process("a", event("b c"))
    assert len(effects.done) == 5


def test_the_table_holds_hashes_and_times_and_nothing_of_the_event(table: Any) -> None:
    idempotency.once(Effects(), TABLE)("order.created", event("event-1", total="19.90"))
    (item,) = items(table)
    service, _, digest = item.pop("id").partition("#")
    assert service == os.environ["SERVICE"]
    assert len(digest) == 64
    assert bytes.fromhex(digest)
    now = time.time()
    remembered = idempotency.REMEMBERED.total_seconds()
    assert now - 60 < float(item.pop("expiration")) - remembered <= now
    assert float(item.pop("in_progress_expiration")) / 1000 > now - 60
    assert item == {"status": "COMPLETED", "data": "null"}


def test_a_failed_event_is_tried_again(table: Any) -> None:
    effects = Effects(failure=KeyError("19.90"))
    process = idempotency.once(effects, TABLE)
    with pytest.raises(KeyError):
        process("order.created", event())
    assert items(table) == []
    effects.failure = None
    process("order.created", event())
    assert effects.done == [("order.created", "event-1")]


def test_an_event_in_progress_comes_back(table: Any) -> None:
    said: list[str] = []

    def twice() -> None:
        with pytest.raises(MessageError) as error:
            idempotency.once(Effects(), TABLE)("order.created", event())
        said.append(str(error.value))

    effects = Effects(meanwhile=twice)
    idempotency.once(effects, TABLE)("order.created", event())
    assert said == ["the same event is in progress; this message comes back"]
    assert effects.done == [("order.created", "event-1")]


class KilledError(BaseException):
    """Stands for the end of the process: nothing tidies up after it."""


def killed() -> None:
    raise KilledError


def test_what_a_dead_process_had_in_hand_is_processed_when_its_lease_is_over(table: Any) -> None:
    idempotency.register_context(context(0))
    with pytest.raises(KilledError):
        idempotency.once(Effects(meanwhile=killed), TABLE)("order.created", event())
    (item,) = items(table)
    assert item["status"] == "INPROGRESS"
    # Over for certain, whatever the clock's resolution.
    table.update_item(
        TableName=TABLE,
        Key={"id": {"S": item["id"]}},
        UpdateExpression="SET in_progress_expiration = :past",
        ExpressionAttributeValues={":past": {"N": str(int(item["in_progress_expiration"]) - 1000)}},
    )
    effects = Effects()
    idempotency.once(effects, TABLE)("order.created", event())
    assert effects.done == [("order.created", "event-1")]


def context(milliseconds: int) -> LambdaContext:
    """Return the context of an invocation that has so much time left."""
    return cast(LambdaContext, SimpleNamespace(get_remaining_time_in_millis=lambda: milliseconds))


@pytest.mark.parametrize(
    ("given", "lease"), [(None, 30_000), (context(900_000), 30_000), (context(1_500), 1_500)]
)
def test_the_lease_ends_with_the_invocation(given: LambdaContext | None, lease: int) -> None:
    idempotency.register_context(given)
    assert idempotency._lease.get_remaining_time_in_millis() == lease


def test_the_lease_is_renewed_while_the_event_is_processed(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE", timedelta(seconds=0.3))

    def until_renewed() -> None:
        first = items(table)[0]["in_progress_expiration"]
        wait_for(lambda: items(table)[0]["in_progress_expiration"] > first)

    process = idempotency.once(Effects(meanwhile=until_renewed), TABLE)
    process("order.created", event())
    assert items(table)[0]["status"] == "COMPLETED"
    assert not [thread for thread in threading.enumerate() if "_renew" in thread.name]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.02)


def test_a_renewal_makes_no_record_of_what_is_gone(
    table: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(idempotency, "LEASE", timedelta(seconds=0.3))
    monkeypatch.setattr(entry_point.package_logger, "propagate", True)  # to caplog

    def until_it_failed() -> None:
        table.delete_item(TableName=TABLE, Key={"id": {"S": items(table)[0]["id"]}})
        wait_for(lambda: "could not be renewed" in caplog.text)

    with pytest.raises(KeyError):
        idempotency.once(Effects(failure=KeyError(), meanwhile=until_it_failed), TABLE)(
            "order.created", event()
        )
    assert items(table) == []


def test_without_the_table_nothing_is_processed(table: Any) -> None:
    table.delete_table(TableName=TABLE)
    effects = Effects()
    with pytest.raises(MessageError, match=r"ResourceNotFound.*; this message comes back"):
        idempotency.once(effects, TABLE)("order.created", event())
    assert effects.done == []


def test_a_table_that_goes_away_in_between_fails_the_message(table: Any) -> None:
    """The effect is there, but nothing remembers it: it will be repeated."""
    effects = Effects(meanwhile=lambda: table.delete_table(TableName=TABLE))
    with pytest.raises(MessageError, match=r"state to success.*ResourceNotFound"):
        idempotency.once(effects, TABLE)("order.created", event())


def test_why_processing_failed_is_told_though_the_table_is_away(table: Any) -> None:
    away = Effects(failure=KeyError("why"), meanwhile=lambda: table.delete_table(TableName=TABLE))
    with pytest.raises(KeyError, match="why"):
        idempotency.once(away, TABLE)("order.created", event())


# In the handler


@pytest.fixture
def effects(table: Any, monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Let the handler process events once; collect what reaches the business logic."""
    effects = Effects()
    monkeypatch.setattr(entry_point, "process", idempotency.once(effects, TABLE))
    return effects


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that gives the lines of the log, which are JSON each."""
    stream = io.StringIO()
    monkeypatch.setattr(entry_point.logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def failed(batch: dict[str, Any]) -> list[str]:
    response = entry_point.handler(batch, context(30_000))
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


def test_a_duplicate_is_done_with_and_the_log_says_so(
    sample: Callable[[str], dict[str, Any]],
    effects: Effects,
    logged: Callable[[], list[dict[str, Any]]],
    table: Any,
) -> None:
    batch = sample("one_message")
    # As a message of its own: SQS and SNS number it anew, the producer does not.
    again = sample("enveloped_message")
    assert failed(batch) == failed(batch) == failed(again) == []
    assert len(effects.done) == 1
    lines = [line for line in logged() if "processed before" in line["message"]]
    assert [line["message_id"] for line in lines] == [
        batch["Records"][0]["messageId"],
        again["Records"][0]["messageId"],
    ]
    assert {line["idempotency_key"] for line in lines} == {items(table)[0]["id"]}
    assert "19.90" not in json.dumps(logged())


def test_only_good_messages_touch_the_table(
    sample: Callable[[str], dict[str, Any]],
    record: Callable[..., dict[str, Any]],
    effects: Effects,
    table: Any,
) -> None:
    batch = sample("mixed_batch")
    batch["Records"].append(record("{}", event_type=entry_point.SMOKE_TEST))
    assert len(failed(batch)) == 3
    assert len(items(table)) == len(effects.done) == 2


def test_a_table_that_is_away_fails_each_message_with_one_clear_line(
    sample: Callable[[str], dict[str, Any]],
    effects: Effects,
    logged: Callable[[], list[dict[str, Any]]],
    table: Any,
) -> None:
    table.delete_table(TableName=TABLE)
    batch = sample("one_message")
    assert failed(batch) == [batch["Records"][0]["messageId"]]
    assert effects.done == []
    (line,) = logged()
    assert (line["level"], line["message"]) == ("ERROR", "Message failed")
    assert "ResourceNotFoundException" in line["error"]
    assert "19.90" not in json.dumps(line)


def test_requests_with_their_credentials_are_never_logged() -> None:
    assert not logging.getLogger("botocore.endpoint").isEnabledFor(logging.DEBUG)


def test_without_a_table_every_event_is_processed() -> None:
    assert idempotency.process is process

"""Idempotency in this process: its rules, with moto's DynamoDB.

tests/test_idempotency_process.py kills the function; the service's own tests keep what its owner
must not lose.
"""

import importlib
import importlib.util
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.parsers import ResponseParserError
from conftest import Render, importable
from moto import mock_aws
from tools.events import record as sqs_record

TABLE = "processed"

Process = Callable[[str, Any], None]


def record(event_id: str = "event-1", event_type: str = "order.created", **other: Any) -> Any:
    """Return an SQS record with a valid event, or with other fields."""
    event = {"id": event_id, "occurred_at": "2026-01-01T10:00:00Z"}
    event |= {"data": {"order_id": "order-1", "total": "19.90"}} | other
    return sqs_record(json.dumps(event), event_type=event_type)


class Service(SimpleNamespace):
    """The modules of a rendered service: handler, idempotency, message, service."""

    def event(self, event_id: str = "event-1") -> Any:
        return self.message.Event(id=event_id, occurred_at=datetime.now(UTC))

    def once(self, effects: "Effects") -> Process:
        """Return what processes each event once."""
        process: Process = self.idempotency.once(effects, TABLE)
        return process

    def failed(self, *records: Any) -> list[str]:
        """Run the handler; return the ids of the messages that it reports as failed."""
        response = self.handler.handler({"Records": [*records]}, context(30_000))
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


@pytest.fixture(scope="module")
def service(render: Render) -> Iterator[Service]:
    """Render and import a service."""
    folder = render(idempotency="yes")
    with importable(folder):
        names = ("idempotency", "message", "service")
        modules = {name: importlib.import_module(f"order_events.{name}") for name in names}
        yield Service(handler=importlib.import_module("handler"), **modules)


@pytest.fixture(autouse=True)
def table(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the table in a mocked AWS; return a client of DynamoDB."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(service.idempotency._lease, "context", None)
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


def context(milliseconds: int) -> Any:
    """Return the context of an invocation that has so much time left."""
    return SimpleNamespace(get_remaining_time_in_millis=lambda: milliseconds)


@dataclass
class Effects:
    """Business logic that keeps what it was given, and raises or waits if it is told to."""

    done: list[tuple[str, str]] = field(default_factory=list)
    failure: Exception | None = None
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self, event_type: str, event: Any) -> None:
        self.meanwhile()
        if self.failure:
            raise self.failure
        self.done.append((event_type, event.id))


def test_other_ids_and_other_types_are_other_events(service: Service) -> None:
    effects = Effects()
    process = service.once(effects)
    for event_type, event_id in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "1")]:
        process(event_type, service.event(event_id))
    assert effects.done == [("a", "1"), ("a", "2"), ("b", "1")]
    # Type and id can't be mixed up.
    process("a b", service.event("c"))
    process("a", service.event("b c"))
    assert len(effects.done) == 5


def test_a_record_has_the_services_name_a_status_and_times(service: Service, table: Any) -> None:
    service.once(Effects())("order.created", service.event())
    (item,) = items(table)
    name, _, digest = item.pop("id").partition("#")
    assert name == "order-events"
    assert len(bytes.fromhex(digest)) == 32
    now = time.time()
    remembered = service.idempotency.REMEMBERED.total_seconds()
    assert now - 60 < float(item.pop("expiration")) - remembered <= now
    assert float(item.pop("in_progress_expiration")) / 1000 > now - 60
    assert item == {"status": "COMPLETED", "data": "null"}


def test_an_event_in_progress_comes_back(service: Service) -> None:
    said: list[str] = []

    def twice() -> None:
        with pytest.raises(service.message.MessageError) as error:
            service.once(Effects())("order.created", service.event())
        said.append(str(error.value))

    effects = Effects(meanwhile=twice)
    service.once(effects)("order.created", service.event())
    assert said == ["the same event is in progress; this message comes back"]
    assert effects.done == [("order.created", "event-1")]


class KilledError(BaseException):
    """Stands for the end of the process."""


def killed() -> None:
    raise KilledError


def test_an_event_of_a_dead_process_is_processed_when_its_lease_is_over(
    service: Service, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.idempotency.register_context(context(0))
    monkeypatch.setattr(service.idempotency.Table, "_delete_record", lambda *_, **__: None)
    with pytest.raises(KilledError):
        service.once(Effects(meanwhile=killed))("order.created", service.event())
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
    service.once(effects)("order.created", service.event())
    assert effects.done == [("order.created", "event-1")]


@pytest.mark.parametrize(
    ("given", "lease"), [(None, 30_000), (context(900_000), 30_000), (context(1_500), 1_500)]
)
def test_the_lease_ends_with_the_invocation(service: Service, given: Any, lease: int) -> None:
    service.idempotency.register_context(given)
    assert service.idempotency._lease.get_remaining_time_in_millis() == lease


def test_the_lease_is_renewed_while_the_event_is_processed(
    service: Service, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.idempotency, "LEASE", timedelta(seconds=0.3))

    def until_renewed() -> None:
        first = items(table)[0]["in_progress_expiration"]
        wait_for(lambda: items(table)[0]["in_progress_expiration"] > first)

    service.once(Effects(meanwhile=until_renewed))("order.created", service.event())
    assert items(table)[0]["status"] == "COMPLETED"
    assert not [thread for thread in threading.enumerate() if "_renew" in thread.name]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.02)


def test_a_renewal_makes_no_record_of_what_is_gone(
    service: Service,
    table: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(service.idempotency, "LEASE", timedelta(seconds=0.3))
    monkeypatch.setattr(service.handler.package_logger, "propagate", True)  # to caplog

    def until_it_failed() -> None:
        table.delete_item(TableName=TABLE, Key={"id": {"S": items(table)[0]["id"]}})
        wait_for(lambda: "Could not renew the lease" in caplog.text)

    effects = Effects(failure=KeyError(), meanwhile=until_it_failed)
    with pytest.raises(KeyError):
        service.once(effects)("order.created", service.event())
    assert items(table) == []


def test_an_answer_that_is_not_aws_s_hides_no_failure(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.idempotency, "LEASE", timedelta(seconds=0.03))
    renewals = threading.Semaphore(0)

    def answer(operation_model: Any, **_: object) -> None:
        if operation_model.name == "UpdateItem":
            renewals.release()
        if operation_model.name != "PutItem":
            raise ResponseParserError("<html>")

    session = boto3.session.Session()
    session.events.register("before-parse", answer)
    monkeypatch.setattr(boto3.session, "Session", lambda: session)
    ended: list[object] = []
    monkeypatch.setattr(threading, "excepthook", ended.append)

    def until_renewed_twice() -> None:
        for _ in range(2):
            assert renewals.acquire(timeout=60)

    with pytest.raises(KeyError):
        service.once(Effects(failure=KeyError(), meanwhile=until_renewed_twice))(
            "order.created", service.event()
        )
    assert ended == []


def test_without_the_table_nothing_is_processed(service: Service, table: Any) -> None:
    table.delete_table(TableName=TABLE)
    effects = Effects()
    with pytest.raises(
        service.message.MessageError, match=r"ResourceNotFound.*; this message comes back"
    ):
        service.once(effects)("order.created", service.event())
    assert effects.done == []


def test_a_table_that_disappears_in_between_fails_the_message(service: Service, table: Any) -> None:
    """The effect is there, but nothing remembers it: it will be repeated."""
    effects = Effects(meanwhile=lambda: table.delete_table(TableName=TABLE))
    with pytest.raises(service.message.MessageError, match=r"state to success.*ResourceNotFound"):
        service.once(effects)("order.created", service.event())


def test_why_processing_failed_is_raised_although_the_table_is_gone(
    service: Service, table: Any
) -> None:
    gone = Effects(failure=KeyError("why"), meanwhile=lambda: table.delete_table(TableName=TABLE))
    with pytest.raises(KeyError, match="why"):
        service.once(gone)("order.created", service.event())


def test_without_a_table_every_event_is_processed(service: Service) -> None:
    assert service.idempotency.process is service.service.process


# In the handler


@pytest.fixture
def effects(service: Service, monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Let the handler process events once; collect what reaches the business logic."""
    effects = Effects()
    monkeypatch.setattr(service.handler, "process", service.once(effects))
    return effects


def test_only_valid_messages_reach_the_table(
    service: Service, effects: Effects, table: Any
) -> None:
    bad = record("event-2", occurred_at="x"), record("event-3", "order.paid"), record("")
    smoke_test = record("event-4", service.handler.SMOKE_TEST)
    assert len(service.failed(record(), *bad, smoke_test, record("event-5"))) == 3
    assert len(items(table)) == len(effects.done) == 2


def test_a_group_waits_while_its_event_is_in_progress_elsewhere(
    service: Service, render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = render(idempotency="yes", sns_topic_name="events.fifo") / "handler.py"
    spec = importlib.util.spec_from_file_location("fifo_handler", path)
    assert spec
    assert spec.loader
    fifo = Service(handler=importlib.util.module_from_spec(spec))
    spec.loader.exec_module(fifo.handler)
    here = Effects()
    monkeypatch.setattr(fifo.handler, "process", service.once(here))

    def in_group(group: str, event_id: str) -> Any:
        return sqs_record(record(event_id)["body"], group=group, event_type="order.created")

    records = [in_group("a", "event-1"), in_group("a", "event-2"), in_group("b", "event-3")]
    came_back: list[str] = []
    elsewhere = Effects(meanwhile=lambda: came_back.extend(fifo.failed(*records)))
    service.once(elsewhere)("order.created", service.event("event-1"))
    assert came_back == [one["messageId"] for one in records[:2]]
    assert here.done == [("order.created", "event-3")]

    assert fifo.failed(*records[:2]) == []  # event-1 is known, and no longer in the way
    assert here.done[1:] == [("order.created", "event-2")]


def test_a_missing_table_fails_each_message_with_one_clear_line(
    service: Service, effects: Effects, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(service.handler.logger.registered_handler, "stream", log)
    table.delete_table(TableName=TABLE)
    message = record()
    assert service.failed(message) == [message["messageId"]]
    assert effects.done == []
    line = json.loads(log.getvalue())
    assert (line["level"], line["message"]) == ("ERROR", "Message failed")
    assert "ResourceNotFoundException" in line["error"]
    assert "19.90" not in log.getvalue()

import asyncio
import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

import handler as entry_point
from {{ cookiecutter.package_name }}.message import Event
from tests.unit.messages import EVENT_TYPE, MODELS, Happened, enveloped, mixed_batch, record

Log = Callable[[], list[dict[str, Any]]]

CONTEXT = cast(LambdaContext, None)


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the handler know the tests' events only."""
    monkeypatch.setattr(entry_point, "EVENTS", MODELS)


def failed(*records: dict[str, Any]) -> list[str]:
    """Run the handler; return the ids of the messages that it reports as failed."""
    response = entry_point.handler({"Records": [*records]}, CONTEXT)
    assert list(response) == ["batchItemFailures"]
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a function that returns the lines of the log, parsed from JSON."""
    stream = io.StringIO()
    monkeypatch.setattr(entry_point.logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def processed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Collect (event type, event id) of what reaches the business logic."""
    calls: list[tuple[str, str]] = []

    def process(event_type: str, event: Event) -> None:
        calls.append((event_type, event.id))

    monkeypatch.setattr(entry_point, "process", process)
    return calls


@pytest.mark.parametrize("make", [record, enveloped])
def test_raw_and_enveloped_messages_are_both_processed(
    processed: list[tuple[str, str]], make: Callable[[], dict[str, Any]]
) -> None:
    assert failed(make()) == []
    assert processed == [(EVENT_TYPE, "event-1")]


def test_an_invalid_message_does_not_fail_others(processed: list[tuple[str, str]]) -> None:
    records = mixed_batch()
    assert failed(*records) == [record["messageId"] for record in records[1:4]]
    assert [event_id for _, event_id in processed] == ["event-1", "event-5"]


def test_an_empty_batch_is_a_success() -> None:
    assert failed() == []


def test_an_exception_in_the_business_logic_is_logged_without_its_text(
    monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    def process(_event_type: str, event: Event) -> None:
        assert isinstance(event, Happened)
        raise KeyError(event.data["total"])

    monkeypatch.setattr(entry_point, "process", process)
    message = record()
    assert failed(message) == [message["messageId"]]
    line = logged()[0]
    assert line["level"] == "ERROR"
    assert line["error"] == "KeyError"
    assert Path(__file__).name in line["stack"][-1]
    assert "19.90" not in json.dumps(line)


def test_the_log_names_what_caused_an_error_and_what_aws_refused(
    monkeypatch: pytest.MonkeyPatch, logged: Log
) -> None:
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "card 4111"}}, "PutItem")

    def process(_event_type: str, _event: Event) -> None:
        try:
            raise KeyError("card 4111") from denied
        except KeyError as error:
            raise RuntimeError("card 4111") from error

    monkeypatch.setattr(entry_point, "process", process)
    failed(record())
    line = logged()[0]
    assert line["error"] == "RuntimeError"
    assert line["causes"] == "KeyError, ClientError (PutItem: AccessDenied)"
    assert "card 4111" not in json.dumps(line)


async def cancel() -> None:
    """Be cancelled, as by a client that gives up."""
    asyncio.current_task().cancel()  # type: ignore[union-attr]
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError("card 4111"),
        SystemExit("card 4111"),
        KeyboardInterrupt("card 4111"),
        GeneratorExit("card 4111"),
        BaseExceptionGroup("card 4111", [KeyboardInterrupt("card 4111")]),
        None,
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_message_raises_fails_it_alone(
    monkeypatch: pytest.MonkeyPatch, logged: Log, error: BaseException | None
) -> None:
    def process(_event_type: str, event: Event) -> None:
        if event.id == "event-1":
            if error is None:
                asyncio.run(cancel())
            raise error or AssertionError("asyncio.run has to raise")

    monkeypatch.setattr(entry_point, "process", process)
    records = mixed_batch()
    assert failed(*records) == [record["messageId"] for record in records[:4]]
    line = logged()[0]
    assert line["error"] == (type(error).__name__ if error else "CancelledError")
    assert f"{Path(__file__).name}:" in " ".join(line["stack"])
    assert "card 4111" not in json.dumps(logged())


@pytest.mark.filterwarnings("ignore:No application metrics")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_while_a_message_is_processed(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def leave(*_: object) -> None:
        sys.exit(0)

    def process(_event_type: str, _event: Event) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(entry_point, "process", process)
    before = signal.signal(number, leave)
    try:
        with pytest.raises(SystemExit):
            entry_point.handler({"Records": [record()]}, CONTEXT)
    finally:
        signal.signal(number, before)


def test_an_event_type_that_the_service_did_not_ask_for_comes_back(
    processed: list[tuple[str, str]], logged: Log
) -> None:
    message = record(event_type="test.other")
    assert failed(message) == [message["messageId"]]
    assert processed == []
    assert logged()[0]["error"] == f"event_type is none of EVENTS, {EVENT_TYPE}"


def test_a_message_without_event_type_comes_back() -> None:
    message = record()
    del message["messageAttributes"]["event_type"]
    assert failed(message) == [message["messageId"]]


@pytest.mark.usefixtures("processed")
def test_a_binary_attribute_is_ignored() -> None:
    message = record()
    message["messageAttributes"]["picture"] = {"binaryValue": "AAEC", "dataType": "Binary"}
    assert failed(message) == []


def test_a_smoke_test_has_no_business_effect(processed: list[tuple[str, str]], logged: Log) -> None:
    assert failed(record("{}", event_type=entry_point.SMOKE_TEST)) == []
    assert processed == []
    assert logged()[0]["message"] == "Smoke test received"


@pytest.mark.usefixtures("processed")
def test_the_log_has_ids_and_no_payload(logged: Log) -> None:
    records = mixed_batch()
    failed(*records)
    lines = logged()
    assert [line["message_id"] for line in lines] == [record["messageId"] for record in records]
    assert [line.get("correlation_id") for line in lines] == [
        "correlation-1",
        "correlation-2",
        "correlation-3",
        None,
        "correlation-5",
    ]
    assert "19.90" not in json.dumps(lines)


@pytest.mark.usefixtures("processed")
def test_the_message_id_stands_in_for_a_correlation_id(logged: Log) -> None:
    message = record()
    del message["messageAttributes"]["correlation_id"]
    failed(message)
    assert logged()[0]["correlation_id"] == message["messageId"]


@pytest.mark.usefixtures("processed")
def test_metrics_count_what_was_processed_and_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed(*mixed_batch())
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["MessagesProcessed"], metrics["MessagesFailed"]) == ([2.0], [3.0])
    assert "environment" in metrics

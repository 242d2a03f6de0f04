"""The messages of a message group keep their order, whatever becomes of one of them."""

import io
import json
import signal
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

import handler as entry_point
from {{ cookiecutter.package_name }}.message import Event
from tests.unit.messages import MODELS, body, record

Log = Callable[[], list[dict[str, Any]]]
Record = dict[str, Any]

CONTEXT = cast(LambdaContext, None)
LAST_RECEIVE = 3


class Effects(list[str]):
    """Business logic that keeps the events' ids in order; raises what is in failures, by id."""

    def __init__(self) -> None:
        """Begin without failures."""
        self.failures: dict[str, BaseException] = {}

    def __call__(self, _event_type: str, event: Event) -> None:
        if event.id in self.failures:
            raise self.failures[event.id]
        self.append(event.id)


@pytest.fixture(autouse=True)
def effects(monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Let the handler know the tests' events only; collect what reaches the business logic."""
    effects = Effects()
    monkeypatch.setattr(entry_point, "EVENTS", MODELS)
    monkeypatch.setattr(entry_point, "process", effects)
    monkeypatch.setattr(entry_point, "MAX_RECEIVE_COUNT", LAST_RECEIVE)
    return effects


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a function that returns the lines of the log, parsed from JSON."""
    stream = io.StringIO()
    monkeypatch.setattr(entry_point.logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def message(event_id: str, receives: int = 1) -> Record:
    """Return the message of an event: b-1's group is b. SQS's id for it is the event's."""
    made = record(body(event_id), group=event_id.partition("-")[0])
    made["messageId"] = event_id
    made["attributes"]["ApproximateReceiveCount"] = str(receives)
    return made


def returned(*records: Record) -> list[str]:
    """Run the handler; return the ids of the messages that come back."""
    response = entry_point.handler({"Records": [*records]}, CONTEXT)
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


def unreadable(one: Record) -> None:
    """Make a message's body something else than JSON."""
    one["body"] = "{not JSON"


def untyped(one: Record) -> None:
    """Take a message's event type away."""
    one["messageAttributes"] = {}


def test_messages_are_processed_in_order(effects: Effects) -> None:
    assert returned(*map(message, ["a-1", "b-1", "a-2", "b-2"])) == []
    assert effects == ["a-1", "b-1", "a-2", "b-2"]


@pytest.mark.parametrize("error", [KeyError(), SystemExit(), KeyboardInterrupt()])
def test_a_group_waits_behind_a_message_that_fails_and_others_go_on(
    effects: Effects, error: BaseException
) -> None:
    effects.failures["a-2"] = error
    ids = ["a-1", "a-2", "b-1", "a-3", "b-2", "a-4"]
    assert returned(*map(message, ids)) == ["a-2", "a-3", "a-4"]
    assert effects == ["a-1", "b-1", "b-2"]


@pytest.mark.parametrize("spoil", [unreadable, untyped])
def test_a_group_waits_behind_a_message_that_cannot_be_read(
    effects: Effects, spoil: Callable[[Record], None]
) -> None:
    first, *others = map(message, ["a-1", "b-1", "a-2"])
    spoil(first)
    assert returned(first, *others) == ["a-1", "a-2"]
    assert effects == ["b-1"]


def test_a_group_goes_on_when_the_dead_letter_queue_gets_its_message(effects: Effects) -> None:
    effects.failures = {"a-1": KeyError(), "a-3": KeyError()}
    records = [message("a-1", LAST_RECEIVE), *map(message, ["a-2", "a-3", "a-4"])]
    assert returned(*records) == ["a-1", "a-3", "a-4"]
    assert effects == ["a-2"]


def test_a_group_that_is_to_be_held_never_goes_on(
    effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_point, "MAX_RECEIVE_COUNT", sys.maxsize)
    effects.failures["a-1"] = KeyError()
    assert returned(message("a-1", 1000), message("a-2")) == ["a-1", "a-2"]
    assert effects == []


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_signal_lets_no_later_message_through(
    effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def process(event_type: str, event: Event) -> None:
        if event.id == "a-1":
            signal.raise_signal(signal.SIGTERM)
        effects(event_type, event)

    monkeypatch.setattr(entry_point, "process", process)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with pytest.raises(SystemExit):
            returned(message("a-1"), message("a-2"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert effects == []


def test_a_smoke_test_keeps_to_its_place(logged: Log, effects: Effects) -> None:
    effects.failures["a-1"] = KeyError()
    smoke = record("{}", group="smoke-test", event_type=entry_point.SMOKE_TEST)
    late = record("{}", group="a", event_type=entry_point.SMOKE_TEST)
    assert returned(message("a-1"), smoke, late) == ["a-1", late["messageId"]]
    assert [line["message"] for line in logged()] == [
        "Message failed",
        "Smoke test received",
        "Message held back",
    ]


def test_the_log_says_who_waits_for_whom(logged: Log, effects: Effects) -> None:
    effects.failures = {"a-1": KeyError(), "b-1": KeyError()}
    unread = message("c-1")
    unreadable(unread)
    records = [message("a-1"), message("b-1", LAST_RECEIVE), *map(message, ["a-2", "b-2"]), unread]
    returned(*records)
    names = ("message", "level", "message_id", "message_group_id", "group", "waits_for")
    assert [tuple(line.get(name) for name in names) for line in logged()] == [
        ("Message failed", "ERROR", "a-1", "a", "waits", None),
        ("Message failed", "ERROR", "b-1", "b", "goes on", None),
        ("Message held back", "WARNING", "a-2", "a", None, "a-1"),
        ("Message processed", "INFO", "b-2", "b", None, None),
        ("Message failed", "ERROR", "c-1", "c", "waits", None),
    ]


def test_metrics_tell_what_failed_from_what_was_held_back(
    capsys: pytest.CaptureFixture[str], effects: Effects
) -> None:
    effects.failures["a-1"] = KeyError()
    returned(*map(message, ["a-1", "a-2", "a-3", "b-1"]))
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = ("MessagesProcessed", "MessagesFailed", "MessagesHeldBack")
    assert [metrics[name] for name in names] == [[1.0], [1.0], [2.0]]


def test_an_event_written_by_hand_needs_no_group(effects: Effects) -> None:
    effects.failures["a-1"] = KeyError()
    records = [message("a-1"), message("a-2")]
    for one in records:
        del one["attributes"]
    assert returned(*records) == ["a-1", "a-2"]

import json
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest

from {{ cookiecutter.package_name }} import events
from {{ cookiecutter.package_name }}.events import Event, MessageError, decode_event

GOOD: dict[str, Any] = {"id": "1", "occurred_at": "2026-01-01T10:00:00Z", "data": {"total": 19}}


def test_an_event_is_read() -> None:
    assert decode_event(json.dumps(GOOD)) == Event(
        id="1", occurred_at=datetime(2026, 1, 1, 10, tzinfo=UTC), data={"total": 19}
    )


def test_unknown_fields_are_ignored_so_that_producers_can_add_fields() -> None:
    assert decode_event(json.dumps({**GOOD, "new": 1})).id == "1"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": ""}, "$.id"),
        ({"id": 1}, "$.id"),
        ({"id": "x" * 129}, "$.id"),
        ({"occurred_at": "yesterday"}, "$.occurred_at"),
        ({"occurred_at": "2026-01-01T10:00:00"}, "$.occurred_at"),
        ({"data": []}, "$.data"),
    ],
)
def test_an_invalid_field_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(MessageError) as error:
        decode_event(json.dumps({**GOOD, **change}))
    assert named in str(error.value)


def test_an_invalid_choice_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Order(msgspec.Struct):
        kind: Literal["new", "changed"]

    monkeypatch.setattr(events, "_decode", msgspec.json.Decoder(Order).decode)
    with pytest.raises(MessageError) as error:
        decode_event('{"kind": "secret"}')
    assert str(error.value) == "Invalid value - at `$.kind`"


@pytest.mark.parametrize("field", ["id", "occurred_at", "data"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(MessageError) as error:
        decode_event(json.dumps({key: GOOD[key] for key in GOOD if key != field}))
    assert field in str(error.value)


@pytest.mark.parametrize("body", ["", "{", "null", "[]", '"text"'])
def test_anything_but_an_event_is_refused(body: str) -> None:
    with pytest.raises(MessageError):
        decode_event(body)

import json
from typing import Any, Literal

import pytest

from {{ cookiecutter.package_name }}.message import Event, MessageError, decode_event
from tests.unit.messages import EVENT_TYPE, MODELS, Happened, body

GOOD: dict[str, Any] = json.loads(body())


def test_an_event_gets_the_model_of_its_type() -> None:
    event = decode_event(MODELS, EVENT_TYPE, body())
    assert isinstance(event, Happened)
    assert (event.id, event.occurred_at.year, event.data) == ("event-1", 2026, {"total": "19.90"})


class Exact(Happened, frozen=True):
    """The model of one type."""


class Prefix(Happened, frozen=True):
    """The model of a prefix."""


class LongerPrefix(Happened, frozen=True):
    """The model of a longer prefix."""


@pytest.mark.parametrize(
    ("event_type", "model"),
    [
        ("order.paid", Exact),
        ("order.paid.twice", LongerPrefix),
        ("order.", LongerPrefix),
        ("orders", Prefix),
        ("order", Prefix),
        ("payment", None),
    ],
)
def test_the_exact_name_comes_first_and_then_the_longest_prefix(
    event_type: str, model: type[Event] | None
) -> None:
    models = {"order*": Prefix, "order.*": LongerPrefix, "order.paid": Exact, "orders.x": Exact}
    if model is None:
        with pytest.raises(MessageError, match="none of EVENTS, order"):
            decode_event(models, event_type, body())
    else:
        assert type(decode_event(models, event_type, body())) is model


def test_a_star_alone_fits_every_type() -> None:
    assert isinstance(decode_event({"*": Happened}, "anything", body()), Happened)


def test_unknown_fields_are_ignored_so_that_producers_can_add_fields() -> None:
    assert decode_event(MODELS, EVENT_TYPE, json.dumps({**GOOD, "new": 1})).id == "event-1"


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
        decode_event(MODELS, EVENT_TYPE, json.dumps({**GOOD, **change}))
    assert named in str(error.value)


class Choice(Event, frozen=True, kw_only=True):
    """An event with a choice."""

    kind: Literal["new", "changed"]


def test_an_invalid_choice_is_not_quoted() -> None:
    with pytest.raises(MessageError) as error:
        decode_event({EVENT_TYPE: Choice}, EVENT_TYPE, json.dumps({**GOOD, "kind": "secret"}))
    assert str(error.value) == "Invalid value - at `$.kind`"


@pytest.mark.parametrize("field", ["id", "occurred_at", "data"])
def test_a_missing_field_is_named(field: str) -> None:
    incomplete = {key: value for key, value in GOOD.items() if key != field}
    with pytest.raises(MessageError) as error:
        decode_event(MODELS, EVENT_TYPE, json.dumps(incomplete))
    assert field in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"text"'])
def test_anything_but_an_event_is_refused(text: str) -> None:
    with pytest.raises(MessageError):
        decode_event(MODELS, EVENT_TYPE, text)

import json

import pytest

from {{ cookiecutter.package_name }}.events import EVENTS, OrderEvent
from {{ cookiecutter.package_name }}.message import MessageError, decode_event
from tools.events import fresh, samples


@pytest.mark.parametrize("event_type", samples())
def test_a_sample_is_an_event(event_type: str) -> None:
    decode_event(EVENTS, event_type, fresh(samples()[event_type]))


def test_a_total_must_be_a_number() -> None:
    event = {
        "id": "event-1",
        "occurred_at": "2026-01-01T10:00:00Z",
        "data": {"order_id": "order-1", "total": "much"},
    }
    with pytest.raises(MessageError, match="total"):
        decode_event({"order": OrderEvent}, "order", json.dumps(event))

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from {{ cookiecutter.package_name }}.events import Order, OrderEvent
from {{ cookiecutter.package_name }}.message import Event, MessageError
from {{ cookiecutter.package_name }}.service import CLOCK_SKEW, process


def order_event(age: timedelta = timedelta(0), total: str = "19.90") -> OrderEvent:
    return OrderEvent(
        id="event-1",
        occurred_at=datetime.now(UTC) - age,
        data=Order(order_id="order-1", total=Decimal(total)),
    )


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=14), -CLOCK_SKEW / 2])
def test_an_event_of_now_or_the_past_is_processed(age: timedelta) -> None:
    process("order.created", order_event(age))


def test_an_event_from_the_future_is_refused() -> None:
    with pytest.raises(MessageError, match="in the future"):
        process("order.created", order_event(-2 * CLOCK_SKEW))


def test_a_negative_total_is_refused() -> None:
    with pytest.raises(MessageError, match="negative"):
        process("order.created", order_event(total="-1"))


def test_an_event_that_process_has_no_case_for_is_refused() -> None:
    with pytest.raises(MessageError, match="no case for Event"):
        process("order.created", Event(id="event-1", occurred_at=datetime.now(UTC)))

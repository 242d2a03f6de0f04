from datetime import UTC, datetime, timedelta

import pytest

from {{ cookiecutter.package_name }}.events import Event, MessageError
from {{ cookiecutter.package_name }}.service import CLOCK_SKEW, process


def event(occurred_at: datetime) -> Event:
    return Event(id="1", occurred_at=occurred_at, data={})


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=14), -CLOCK_SKEW / 2])
def test_an_event_of_now_or_the_past_is_processed(age: timedelta) -> None:
    process("order.created", event(datetime.now(UTC) - age))


def test_an_event_from_the_future_is_refused() -> None:
    with pytest.raises(MessageError, match="in the future"):
        process("order.created", event(datetime.now(UTC) + 2 * CLOCK_SKEW))

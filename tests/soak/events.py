"""Events for the soak test only: their data says what goes wrong with them.

It takes the place of ``events.py`` in the rendered package before that is built.
"""

from typing import Any

from .message import Event


class SoakEvent(Event, frozen=True, kw_only=True):
    """An event with any data."""

    data: dict[str, Any]


EVENTS: dict[str, type[Event]] = {"order.created": SoakEvent, "refund.*": SoakEvent}

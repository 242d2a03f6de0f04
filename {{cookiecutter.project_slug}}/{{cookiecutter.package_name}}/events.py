"""The events that this service receives: a model for each type. Start here: write your own."""

from decimal import Decimal
from typing import Annotated

import msgspec

from {{ cookiecutter.package_name }}.message import Event


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, as a worked example. Fields that are not named here are ignored."""

    order_id: Annotated[str, msgspec.Meta(min_length=1)]
    total: Decimal


class OrderEvent(Event, frozen=True, kw_only=True):
    """An event about an order: ``id`` and ``occurred_at``, which every event has, and its data."""

    data: Order


# Each event type with its model. This is the one list of types: the subscription's filter lets
# these through, and each has a sample in events/. A type that ends in * stands for all that begin
# with what is before it; an exact name comes first, then the longest such prefix.
EVENTS: dict[str, type[Event]] = {
{% for event_type in cookiecutter.event_types.split(",") | map("trim") | unique(case_sensitive=true) %}
    "{{ event_type }}": OrderEvent,
{% endfor %}
}

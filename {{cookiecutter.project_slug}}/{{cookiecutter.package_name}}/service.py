"""What this service does with an event. Start here: write your own body of ``process``."""

import logging
from datetime import UTC, datetime, timedelta

from {{ cookiecutter.package_name }}.events import OrderEvent
from {{ cookiecutter.package_name }}.message import Event, MessageError

logger = logging.getLogger(__name__)

# How far a producer's clock may be ahead of ours.
CLOCK_SKEW = timedelta(minutes=5)


def process(event_type: str, event: Event) -> None:
    """Process one event, which has the model that ``EVENTS`` gives its type.

    If this returns, the message is deleted; if it raises, only this message is retried, and ends up
    in the dead-letter queue if it keeps failing. SQS delivers at least once, so the same event may
    come twice: make this safe to repeat.

    :raises MessageError: the event breaks a rule; its text is logged, so put no payload into it.
    """
    age = datetime.now(UTC) - event.occurred_at
    if age < -CLOCK_SKEW:
        raise MessageError(f"occurred_at is {-age} in the future, more than {CLOCK_SKEW}")
    match event:
        case OrderEvent(data=order):
            if order.total < 0:
                raise MessageError("total must not be negative")
        case _:
            raise MessageError(f"process has no case for {type(event).__name__}")
    logger.debug("%s is %s old", event_type, age)

"""What this service does with an event. Start here: replace the body of ``process`` by your own."""

import logging
from datetime import UTC, datetime, timedelta

from {{ cookiecutter.package_name }}.events import Event, MessageError

logger = logging.getLogger(__name__)

# How far a producer's clock may be ahead of ours.
CLOCK_SKEW = timedelta(minutes=5)


def process(event_type: str, event: Event) -> None:
    """Process one event.

    Returning means done: the message is deleted. Raising means not done: the message comes back and
    ends in the dead-letter queue when it keeps failing. SQS delivers at least once, so the same
    event may come twice: make it safe to repeat.

    :raises MessageError: the event breaks a rule; its text is logged, so no payload in it.
    """
    age = datetime.now(UTC) - event.occurred_at
    if age < -CLOCK_SKEW:
        raise MessageError(f"occurred_at is {-age} in the future, more than {CLOCK_SKEW}")
    logger.debug("%s is %s old", event_type, age)

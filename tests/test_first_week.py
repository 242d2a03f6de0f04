"""An owner's first week with a Lambda function that takes messages from a FIFO queue."""

import pytest
from first_week import live_through
from test_update import Make, created, made, template  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_types")]


def test_an_owners_first_week(made: Make) -> None:  # noqa: F811
    live_through(made, sns_topic_name="events.fifo")

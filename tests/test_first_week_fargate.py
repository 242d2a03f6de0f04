"""An owner's first week with a FIFO service on Fargate; apart, so that both run at a time."""

import pytest
from first_week import live_through
from test_update import Make, created, made, template  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_types")]


def test_an_owners_first_week_on_fargate(made: Make) -> None:  # noqa: F811
    answers = {"compute": "fargate", "sns_topic_name": "events.fifo", "idempotency": "yes"}
    live_through(made, **answers)

"""`make local` on Fargate, as a person uses it: in a terminal, with other commands beside it."""

from collections.abc import Iterator

import pytest
from conftest import Render, need
from local_session import Local, rendered
from local_story import End, Story
from try_locally import REHEARSED, play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Run one `make local` for all tests of this file."""
    with rendered(render, tmp_path_factory.mktemp("local"), compute="fargate") as local:
        local.start("RETRY=3")  # the least that SQS's visibility timeout is for the worker
        local.until("Press Ctrl-C")
        yield local


class TestStory(Story):
    """What is the same on Lambda."""


@pytest.mark.parametrize("alarm", REHEARSED["fargate"])
def test_the_runbook_s_try_it_locally(local: Local, alarm: str) -> None:
    if alarm == "memory-high":
        need("ps")  # it tells how much memory a task has
    play(local, alarm)


class TestEnd(End):
    """What ends the one `make local` of this file."""

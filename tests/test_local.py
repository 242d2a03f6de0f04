"""`make local` on Lambda, as a person uses it: in a terminal, with other commands beside it.

Its topic is FIFO, that of test_local_fargate.py a standard one.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOST, Render, lend_environment
from interrupting import ctrl_c, kill_9
from local_session import Local, control, rendered
from local_story import NOBODY, End, Story, publish, with_code
from page_in_browser import drive
from test_pictures import in_local
from try_locally import REHEARSED, play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Run one `make local` for all tests of this file."""
    base = tmp_path_factory.mktemp("local")
    with rendered(render, base, sns_topic_name="events.fifo") as local:
        local.start("RETRY=2")
        local.until("Press Ctrl-C")
        yield local


class TestStory(Story):
    """What is the same on Fargate."""


def test_the_picture_shows_what_it_prints(local: Local) -> None:
    in_local(local.shown().replace(".fifo", ""))


def test_an_earlier_version_runs_its_own_code_after_a_roll_back(local: Local) -> None:
    with_code(local, 'logger.info("the newest code")')
    assert "\n      2 " in local.make("versions", "ENV=local")  # the story has applied it
    local.make("rollback", "ENV=local", "VERSION=1")
    publish(local)
    assert "the newest code" not in local.until("Message processed")
    local.make("rollback", "ENV=local", "VERSION=latest")
    publish(local)
    local.until("the newest code")
    local.until("Message processed")


def test_invoke_uses_the_running_local_aws(local: Local) -> None:
    asked = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    with_code(local, asked)
    assert "assumed-role/order-events-local" in local.make("invoke")
    with_code(local)


def test_the_page(local: Local) -> None:
    drive(local)


def test_another_service_beside_it_without_a_network_and_not_in_a_terminal(
    render: Render, local: Local, tmp_path: Path
) -> None:
    """It is killed; the next one works, until it is interrupted."""
    (tmp_path / "tmp").mkdir()
    other = Local(Path(shutil.copytree(render(**HOST), tmp_path / "other")), tmp_path / "tmp")
    lend_environment(other.folder)
    nowhere = "http://127.0.0.1:9"
    no_network = {"UV_OFFLINE": "1", "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}
    for way in (kill_9, ctrl_c):
        text = other.interrupt(way, lambda text: "terraform apply" in text, "local", **no_network)
        assert control(text) == []
        assert "Traceback" not in text
        assert NOBODY in other.refused("status", "ENV=local")
    assert "order-events-local" in local.make("status", "ENV=local")


@pytest.mark.parametrize("alarm", REHEARSED["lambda"])
def test_the_runbook_s_try_it_locally(local: Local, alarm: str) -> None:
    play(local, alarm)


def test_a_blocked_group(local: Local) -> None:
    play(local, "A message group is blocked")


class TestEnd(End):
    """What ends the one `make local` of this file."""

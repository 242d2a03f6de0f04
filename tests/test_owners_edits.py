"""What owners do with their files turns only their own tests red, never one of the template's."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Render

MORE = ("--tb=short", "--continue-on-collection-errors")
OWNERS = {"tests/unit/test_events.py", "tests/unit/test_service.py"}


def replace(path: Path, *pairs: tuple[str, str]) -> None:
    """Replace texts in a file, which must have them."""
    text = path.read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def rename_a_field(service: Path) -> None:
    replace(service / "order_events" / "events.py", ("total", "amount"))


def type_data(service: Path) -> None:
    replace(service / "order_events" / "events.py", ("data: Order", "data: list[int]"))


def add_a_type(service: Path) -> None:
    events = service / "order_events" / "events.py"
    model = "class Paid(Event, frozen=True, kw_only=True):\n    method: str\n\n\n# Each event type"
    entry = '    "order.paid": Paid,\n    "order.created"'
    replace(events, ("# Each event type", model), ('    "order.created"', entry))


def replace_all(service: Path) -> None:
    """Write other events, with other samples, and business logic that refuses all."""
    (service / "order_events" / "events.py").write_text(
        "from order_events.message import Event\n\n\nclass Sent(Event, frozen=True):\n"
        '    """An invoice was sent."""\n\n\nEVENTS: dict[str, type[Event]] = {"invoice.*": Sent}\n'
    )
    (service / "order_events" / "service.py").write_text(
        "def process(event_type: str, event: object) -> None:\n    raise RuntimeError(event_type)\n"
    )
    for sample in (service / "events").iterdir():
        sample.unlink()


@pytest.mark.parametrize("edit", [rename_a_field, type_data, add_a_type, replace_all])
def test_an_owners_edit_turns_only_their_own_tests_red(
    fresh: Render, edit: Callable[[Path], None]
) -> None:
    service = fresh(idempotency="yes")
    edit(service)
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", *MORE],
        cwd=service,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    red = re.findall(r"^(?:FAILED|ERROR) ([^:\s]+)", done.stdout, re.MULTILINE)
    assert set(red) <= OWNERS, done.stdout
    # All of the template's tests were there.
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout + done.stderr
    assert int(passed[1]) > 40

"""The runbook's "try it locally": each alarm has its rows, and they work as they are written.

Here only what needs no running service. The rows themselves are played by test_local.py and
test_local_fargate.py, which run one `make local` each: `play` reads them out of the service's
RUNBOOK.md, makes their edits, runs their commands, and waits for what they say is to be seen.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from conftest import Render
from test_documentation import alarms_of

# The alarms whose rows are played, in an order that waits least.
REHEARSED = {
    "lambda": [
        *("dead-letter-queue-not-empty", "messages-failed", "errors", "duration"),
        *("undelivered-queue-not-empty", "message-too-old"),
    ],
    "fargate": [
        *("dead-letter-queue-not-empty", "messages-failed", "memory-high"),
        *("undelivered-queue-not-empty", "message-too-old"),
    ],
}
# Seconds until what a row promises must be seen, beyond those that the row itself mentions.
LIMIT = 90.0
# Commands that only look. They are repeated until they show what the row says.
LOOKS = ("status", "dlq-peek", "undelivered-peek")
# Seconds between two looks: `make status` takes one or two itself.
BETWEEN = 1.0

SECTION = re.compile(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| (cause|see|repair) \| (.*) \|$", re.MULTILINE)
START = re.compile(r"^\| try it locally \| with `(make local RETRY=\d)`", re.MULTILINE)
STEP = re.compile(
    r"After (?P<wait>a minute|\d+ seconds)"
    r"|In `(?P<file>[^`]+)`, (?P<where>above|below) `(?P<line>[^`]+)`, add `(?P<new>[^`]+)`"
    r"|In `(?P<changed>[^`]+)`, replace `(?P<old>[^`]+)` with `(?P<by>[^`]+)`"
    r"|(?P<undo>Remove that line|Undo the edit)"
    r"|`(?P<command>make [^`]+)`(?P<rest>[^`.;]*)"
)


class Session(Protocol):
    """A running `make local`."""

    folder: Path

    def make(self, *words: str, check: bool = True) -> str:
        """Run make beside it, and return what it printed; fail the test if it fails."""

    def shown(self) -> str:
        """Return all that `make local` itself has shown so far."""


@dataclass(frozen=True)
class Section:
    """What the runbook says of trying an alarm: the rows, or why there are none."""

    started_with: list[str]
    rows: dict[str, str]
    instead: str


def sections(service: Path) -> dict[str, Section]:
    """Return the runbook's sections by their headings."""
    text = (service / "RUNBOOK.md").read_text(encoding="utf-8")
    return {
        name: Section(
            START.findall(body),
            dict(ROW.findall(body)),
            "".join(re.findall(r"^Locally, .*$", body, re.MULTILINE)),
        )
        for name, body in SECTION.findall(text)
    }


def steps(cell: str) -> list[re.Match[str]]:
    """Return a cell's steps. All that it promises must be among them."""
    rest = STEP.sub("", cell)
    assert not re.search(r"[`*]", rest), f"no step: {rest!r}"
    return list(STEP.finditer(cell))


def play(session: Session, alarm: str) -> None:
    """Do what the runbook's rows for an alarm say, and see what they say."""
    begin = len(session.shown())
    with edits(session) as edit:
        for cell in sections(session.folder)[alarm].rows.values():
            limit = LIMIT
            for step in steps(cell):
                if step["wait"]:
                    limit += 60 if step["wait"] == "a minute" else int(step["wait"].split()[0])
                elif step["command"]:
                    _run(session, step, alarm, begin, limit)
                else:
                    edit(step)


@contextmanager
def edits(session: Session) -> Iterator[Callable[[re.Match[str]], None]]:
    """Yield what makes an edit, or takes it back; in the end, the files are as they were."""
    before: dict[Path, str] = {}

    def put_back() -> None:
        while before:
            path, text = before.popitem()
            path.write_text(text, encoding="utf-8")

    def edit(step: re.Match[str]) -> None:
        shown = len(session.shown())
        if step["undo"]:
            assert before, "there is nothing to undo"
            put_back()
        else:
            path = session.folder / (step["file"] or step["changed"])
            before[path] = path.read_text(encoding="utf-8")
            path.write_text(edited(before[path], step), encoding="utf-8")
        until(lambda: len(session.shown()) > shown, LIMIT, f"`make local` about: {step[0]}")

    try:
        yield edit
    finally:
        put_back()


def edited(text: str, step: re.Match[str]) -> str:
    """Make a row's edit; a line is indented as the one that it goes beside."""
    if step["changed"]:
        assert text.count(step["old"]) == 1
        return text.replace(step["old"], step["by"])
    lines = text.splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines) if line.strip() == step["line"]]
    margin = re.match(" *", lines[at])
    assert margin
    lines.insert(at + (step["where"] == "below"), f"{margin[0]}{step['new']}\n")
    return "".join(lines)


def _run(session: Session, step: re.Match[str], alarm: str, begin: int, limit: float) -> None:
    """Run a row's command; repeat one that only looks until it shows what the row says."""
    _, *words = step["command"].split()
    promised = re.findall(r"\*([^*]+)\*", step["rest"])
    gone = "no longer shows the alarm" in step["rest"]
    if words == ["local"]:
        until(lambda: all(text in session.shown()[begin:] for text in promised), limit, step[0])
    elif words[0] in LOOKS:

        def look() -> bool:
            shown = session.make(*words, check=False)
            if gone:
                return f"-local-{alarm} since" not in shown and "alarms firing" in shown
            return all(text in shown for text in promised)

        until(look, limit, step[0])
    else:
        for _ in range(2 if "twice" in step["rest"] else 1):
            shown = session.make(*words)
            assert all(text in shown for text in promised), f"{step[0]}:\n{shown}"


def until(seen: Callable[[], bool], limit: float, what: str) -> None:
    """Wait until something is seen."""
    deadline = time.monotonic() + limit
    while not seen():
        assert time.monotonic() < deadline, f"not seen after {limit:.0f} s: {what}"
        time.sleep(BETWEEN)


@pytest.mark.parametrize("compute", REHEARSED)
def test_every_alarm_can_be_tried_or_the_runbook_says_why_not(render: Render, compute: str) -> None:
    service = render(compute=compute)
    found, alarms = sections(service), alarms_of(service)
    assert {name for name in alarms if found[name].rows} == {*REHEARSED[compute]}
    for name in alarms:
        if found[name].rows:
            assert [*found[name].rows] == ["cause", "see", "repair"]
            assert len(found[name].started_with) == 1
            assert not found[name].instead
        else:
            assert re.search(r": .+\.$", found[name].instead), f"{name}: why can't it be tried?"
    assert len({start for name in alarms for start in found[name].started_with}) == 1


@pytest.mark.parametrize("compute", REHEARSED)
def test_the_rows_say_what_there_is(render: Render, compute: str) -> None:
    """Their edits can be made, and what is to be seen is the section's own alarm."""
    service = render(compute=compute)
    for name in REHEARSED[compute]:
        rows = {row: steps(cell) for row, cell in sections(service)[name].rows.items()}
        for step in rows["cause"]:
            if file := step["file"] or step["changed"]:
                changed = edited((service / file).read_text(encoding="utf-8"), step)
                if file.endswith(".py"):
                    compile(changed, file, "exec")
        assert any(step["command"] for step in rows["cause"])
        assert f"*order-events-local-{name}*" in "".join(step[0] for step in rows["see"])
        assert any(step["undo"] for step in rows["repair"]) == any(
            step["file"] or step["changed"] for step in rows["cause"]
        )

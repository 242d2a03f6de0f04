"""Plays the rows of the runbook's "try it locally" beside a running `make local`.

`play` reads an alarm's rows out of the service's RUNBOOK.md, makes their edits, runs their commands
and waits until that is seen which they say. test_local.py and test_local_fargate.py play them;
test_try_locally.py checks what can be checked without a running service.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local_session import Local

# The alarms whose rows are played, in an order that waits least.
REHEARSED = {
    "lambda": [
        *("dead-letter-queue-not-empty", "messages-failed", "errors", "duration"),
        *("undelivered-queue-not-empty", "message-too-old"),
    ],
    "fargate": ["messages-failed", "memory-high"],
}
# Their rows are the same on both, and local_story.py does on both what they have of the compute.
ON_LAMBDA_ONLY = ("undelivered-queue-not-empty", "dead-letter-queue-not-empty", "message-too-old")
# Seconds until what a row promises must be seen.
LIMIT = 90.0
# Commands that only look. They are repeated until they show what the row says.
LOOKS = ("status", "dlq-peek", "undelivered-peek")
# Seconds between the first two looks; a quarter more each time, up to the longest: `make status`
# takes half a second of CPU time.
BETWEEN, LONGEST = 2.0, 5.0

SECTION = re.compile(r"^## ([\w -]+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| (cause|see|repair) \| (.*) \|$", re.MULTILINE)
START = re.compile(r"^\| try it locally \| with `(make local RETRY=\d)`", re.MULTILINE)
STEP = re.compile(
    r"After (?P<wait>a minute|\d+ seconds)"
    r"|In `(?P<file>[^`]+)`, (?P<where>above|below) `(?P<line>[^`]+)`, add `(?P<new>[^`]+)`"
    r"|In `(?P<changed>[^`]+)`, replace `(?P<old>[^`]+)` with `(?P<by>[^`]+)`"
    r"|(?P<undo>Remove that line|Undo the edit)"
    r"|`(?P<command>make [^`]+)`(?P<rest>[^`.;]*)"
)


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


def play(local: Local, alarm: str) -> None:
    """Do what the runbook's rows for an alarm say, and see what they say."""
    begin = len(local.shown())
    with edits(local) as edit:
        for cell in sections(local.folder)[alarm].rows.values():
            for step in steps(cell):
                if step["wait"]:
                    time.sleep(60 if step["wait"] == "a minute" else int(step["wait"].split()[0]))
                elif step["command"]:
                    _run(local, step, alarm, begin)
                else:
                    edit(step)


@contextmanager
def edits(local: Local) -> Iterator[Callable[[re.Match[str]], None]]:
    """Yield what makes an edit, or takes it back; in the end, the files are as they were."""
    before: dict[Path, str] = {}

    def put_back() -> None:
        while before:
            path, text = before.popitem()
            path.write_text(text, encoding="utf-8")

    def edit(step: re.Match[str]) -> None:
        begin = len(local.shown())
        if step["undo"]:
            (path,) = before
            put_back()
        else:
            path = local.folder / (step["file"] or step["changed"])
            before[path] = path.read_text(encoding="utf-8")
            path.write_text(edited(before[path], step), encoding="utf-8")
        name = re.escape(str(path.relative_to(local.folder)))
        said = re.compile(rf"Reloaded: .*{name}|Not r|{name}.* changed")
        until(lambda: "" if said.search(shown := local.shown()[begin:]) else f"{shown!r}", step)

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


def _run(local: Local, step: re.Match[str], alarm: str, begin: int) -> None:
    """Run a row's command; repeat one that only looks until it shows what the row says."""
    _, *words = step["command"].split()
    promised = re.findall(r"\*([^*]+)\*", step["rest"])
    gone = "no longer shows the alarm" in step["rest"]

    def lacks(shown: str) -> str:
        if gone:
            return shown if f"-local-{alarm} since" in shown or "alarms firing" not in shown else ""
        return "" if all(text in shown for text in promised) else shown

    if words == ["local"]:
        until(lambda: lacks(local.shown()[begin:]), step)
    elif words[0] in LOOKS:

        def look() -> str:
            try:
                return lacks(local.make(*words))
            except pytest.fail.Exception as failure:  # a queue that is empty yet
                return str(failure)

        until(look, step)
    else:
        for _ in range(2 if "twice" in step["rest"] else 1):
            assert not (shown := lacks(local.make(*words))), f"{step[0]}: it printed\n{shown}"


def until(look: Callable[[], str], step: re.Match[str]) -> None:
    """Wait until a look returns "", and not what was seen instead."""
    deadline, pause = time.monotonic() + LIMIT, BETWEEN
    while instead := look():
        assert time.monotonic() < deadline, f"{step[0]}: after {LIMIT:.0f} s, still\n{instead}"
        time.sleep(pause)
        pause = min(pause * 1.25, LONGEST)

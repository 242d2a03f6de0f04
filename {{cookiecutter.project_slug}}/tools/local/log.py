"""The log of the code that `make local` runs: on the console, and in the log group as on AWS."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.backends import get_backend

from tools.display import describe, parse
from tools.errors import problem_of

if TYPE_CHECKING:  # it takes longer than all that `make invoke` needs of this module
    from tools.local.monitoring import Monitoring


@dataclass(frozen=True)
class Outcome:
    """A batch that the code has been given.

    time is when that ended, in seconds since 1970; messages are their ids; outcome is "processed",
    or begins with "failed: "; lines are what the code has logged meanwhile.
    """

    time: float
    messages: list[str]
    outcome: str
    milliseconds: float
    lines: list[str]


class Log:
    """Takes lines from any thread. A closed console ends nothing here: `closed` then says so."""

    def __init__(self, aws: Any, outputs: dict[str, str], monitoring: Monitoring) -> None:
        """Begin with a log group that Terraform has made; it is in moto, in this process."""
        self.closed = False
        account = outputs["service_arn"].split(":")[4]
        self._logs = get_backend("logs")[account][aws.region]
        self._group = outputs["log_group_name"]
        self._monitoring = monitoring
        self._tell = self.once()
        self._lock = threading.Lock()

    def write(self, stream: str, line: str) -> None:
        """Take a line that the code wrote; stream is the log stream of its process."""
        if not line.strip():
            return
        if text := describe(parse(line)):
            self.say(text)
        self._keep(stream, line)
        self._monitoring.line(line)

    def platform(self, stream: str, kind: str, record: dict[str, Any]) -> None:
        """Take what Lambda itself logs: not for the console."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._keep(stream, json.dumps({"time": now, "type": f"platform.{kind}", "record": record}))

    def say(self, text: str) -> None:
        """Print on the console only, with the time."""
        with self._lock:
            try:
                print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
            except (OSError, ValueError):  # the reader or the terminal is gone
                self.closed = True

    def once(self) -> Callable[[str], None]:
        """Return a function that says a problem, unless it is that of the last call; "" is none."""
        last = ""

        def tell(problem: str) -> None:
            nonlocal last
            if problem and problem != last:
                self.say(problem)
            last = problem

        return tell

    def _keep(self, stream: str, line: str) -> None:
        problem = ""
        try:
            with self._lock:
                event = {"timestamp": int(time.time() * 1000), "message": line}
                self._logs.ensure_log_stream(self._group, stream)
                self._logs.put_log_events(self._group, stream, [event])
        except Exception as error:  # the log group may be gone
            problem = f"The log group {self._group} does not take this log: {problem_of(error)}"
        self._tell(problem)


def follow(log: Path, take: Callable[[str], None]) -> Callable[..., None]:
    """Return a function that hands on the lines that a file has got since its last call.

    Its argument is taken for more of the file: a last line may have no end. The file is open only
    meanwhile: nobody need close it.
    """
    place, rest = 0, b""

    def go_on(more: bytes = b"") -> None:
        nonlocal place, rest
        with log.open("rb") as file:
            file.seek(place)
            new = file.read()
        place += len(new)
        *lines, rest = (rest + new + more).split(b"\n")
        for line in lines:
            take(line.decode(errors="replace"))

    return go_on

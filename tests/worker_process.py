"""A worker as ECS runs it: a process of its own, with the queue of a local AWS."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from conftest import SERVICE

# Generous: only a failure takes that long.
DEADLINE = 120

# A STOP_TIMEOUT in seconds for workers that have nothing in flight when they are stopped: they wait
# for the end of a long poll, which depends on it.
SHORT = "6"

SETTINGS = {
    "AWS_DEFAULT_REGION": "eu-central-1",
    "BATCH_SIZE": "1",
    "POLLERS": "1",
    "VISIBILITY_TIMEOUT": "300",
    "TIMEOUT": "300",
    "STOP_TIMEOUT": "30",
    "SERVICE": "order-events",
    "ENVIRONMENT": "order-events-dev",
    "LOG_LEVEL": "INFO",
    "POWERTOOLS_SERVICE_NAME": "order-events",
    "POWERTOOLS_METRICS_NAMESPACE": "order-events",
    "PYTHONUNBUFFERED": "1",
}


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Wait for a condition; return its value.

    :raises TimeoutError: it isn't met in time (seconds).
    """
    ends, pause = time.monotonic() + deadline, 0.05
    while not (value := condition()):
        if time.monotonic() > ends:
            raise TimeoutError(f"After {deadline:g} s: {what}")
        time.sleep(pause)
        pause = min(1.3 * pause, 0.5)  # to ask takes CPU time, which others need
    return value


def children_of(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started: a container may have no `ps`."""
    if Path("/proc/self/stat").exists():
        stats = [(path, read(path)) for path in Path("/proc").glob("[0-9]*/stat")]
        pairs = [(path.parent.name, text.rpartition(")")[2].split()[1:2]) for path, text in stats]
        return [int(child) for child, parent in pairs if parent == [str(pid)]]
    listed = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True)
    split = [line.split() for line in listed.splitlines()]
    return [int(child) for child, parent in split if int(parent) == pid]


def read(path: Path) -> str:
    """Return what is in a file of /proc; "" once the process has ended."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class Process:
    """A worker that runs, and what it logs."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.environment = {**os.environ, **SETTINGS, **environment, "TMPDIR": str(log.parent)}
        self.command = [sys.executable, "-P", str(folder / "worker.py")]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command, env=self.environment, cwd=log.parent, stdout=output, stderr=output
            )

    def kill(self) -> None:
        """End it by SIGKILL, and what it started with it, as a container ends."""
        children = children_of(self.popen.pid)
        self.popen.kill()
        self.popen.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def lines(self, message: str = "") -> list[dict[str, Any]]:
        """Return the lines of its log that have this message; those that are whole so far."""
        text = self.log.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]
        return [line for line in lines if message in str(line.get("message"))]

    def until_logged(self, message: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many lines with a message; return them."""
        what = f"no {message!r} in its log"
        try:
            found: list[dict[str, Any]] = until(
                lambda: (lines := self.lines(message))[count - 1 :] and lines, what
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n{self.log.read_text(encoding='utf-8')}") from None
        return found

    def health(self) -> int:
        """Return the exit code of the container's health check."""
        ecs = (SERVICE / "terraform" / "ecs.tf").read_text(encoding="utf-8")
        (found,) = re.findall(r"healthCheck = {\s+command\s+= (.+)\n", ecs)
        kind, program, *arguments = json.loads(found)
        assert (kind, program) == ("CMD", "python")
        check = [sys.executable, "-X", "importtime", *arguments]
        done = subprocess.run(check, env=self.environment, capture_output=True)
        # Imports of the worker's take longer than ECS waits, if handlers use a small task's CPU.
        assert b"botocore" not in done.stderr
        return done.returncode

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(DEADLINE)


@contextmanager
def worker(folder: Path, log: Path, **environment: str) -> Iterator[Process]:
    """Run the worker.py in a folder; it is killed at the end if it still runs.

    :param log: the file for what it writes; its own temporary files lie beside it.
    """
    process = Process(folder, environment, log)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.kill()


def put_together(folder: Path, handler: str) -> Path:
    """Make a folder with the worker, which has no Jinja in it, and this handler; return it."""
    folder.mkdir()
    shutil.copy(SERVICE / "worker.py", folder)
    (folder / "handler.py").write_text(handler, encoding="utf-8")
    return folder

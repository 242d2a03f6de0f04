"""A Fargate task on this machine: a process that runs worker.py."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.local.patches_fargate import RECEIVERS, STOPPING

# Kills a process, and what it has started, once its parent has ended, in whatever way. Python runs
# it at its start: so no worker outlives `make local`, and no handler its worker.
GUARD = """
import os, signal, threading, time

def guard(parent=os.getppid()):
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)

if os.getpgrp() == os.getpid():
    threading.Thread(target=guard, daemon=True).start()
"""

Json = dict[str, Any]


class Task:
    """A worker, in a folder with app/ and tmp/; environment has the keys of its role.

    described is what ECS says of it. line gets each line that it writes. Times are of
    time.monotonic.
    """

    def __init__(
        self,
        python: Path,
        folder: Path,
        environment: dict[str, str],
        described: Json,
        line: Callable[["Task", str], None],
    ) -> None:
        """Start it."""
        self.folder, self.key = folder, environment["AWS_ACCESS_KEY_ID"]
        self.described = described
        self.began = time.monotonic()
        self.kill_at = 0.0  # once it has been told to stop
        self.process = subprocess.Popen(
            [python, "worker.py"],
            cwd=folder / "app",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for `make local` alone
        )
        self.reader = threading.Thread(target=self._read, args=(line,), daemon=True)
        self.reader.start()

    def _read(self, line: Callable[["Task", str], None]) -> None:
        for text in self.process.stdout or ():
            line(self, text.rstrip("\n"))

    @property
    def receives(self) -> bool:
        """Tell whether it asks for messages: then it has imported the handler."""
        return self.key in RECEIVERS

    def stop(self, stop_timeout: float, reason: str) -> None:
        """Tell it to stop, as ECS does: it gets no more messages, and finishes what it has."""
        STOPPING.add(self.key)
        self.described |= {"desiredStatus": "STOPPED", "stoppedReason": reason}
        self.described["stopCode"] = "ServiceSchedulerInitiated"
        self.process.terminate()
        self.kill_at = time.monotonic() + stop_timeout

    def end(self) -> int:
        """Kill it, if it still runs, and remove its files; return how it ended."""
        if self.process.poll() is None:
            for pid in [*family(self.process.pid), self.process.pid]:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        code = self.process.wait()
        self.reader.join(0.2)  # what holds its output open longer is not the worker's
        STOPPING.discard(self.key)
        RECEIVERS.discard(self.key)
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def family(root: int) -> dict[int, tuple[float, float]]:
    """Return the processes that descend from one, with it: their memory in MB, and CPU in percent.

    Empty where there is no `ps`.
    """
    command = ["ps", "-A", "-o", "pid=,ppid=,rss=,pcpu="]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return {}
    rows = [line.split() for line in said.splitlines()]
    found: dict[int, tuple[float, float]] = {}
    parents = {root}
    while parents:
        now = {int(row[0]): row for row in rows if int(row[0]) in parents}
        found |= {pid: (int(row[2]) / 1024, float(row[3])) for pid, row in now.items()}
        parents = {int(row[0]) for row in rows if int(row[1]) in now and int(row[0]) not in found}
    return found

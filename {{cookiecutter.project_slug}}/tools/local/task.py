"""A Fargate task on this machine: a process that runs worker.py.

It is started before it is needed, and has imported the libraries when its code comes.
"""

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

# What the process does before its code comes: a line on stdin names the folder. Then it is
# worker.py's, without a difference that code could see.
PREPARED = """
import boto3, os, runpy, sys
import aws_lambda_powertools.metrics
boto3.client("sqs")
folder = sys.stdin.readline().rstrip("\\n")
if not folder:
    sys.exit()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.chdir(folder)
sys.argv, sys.path[0] = ["worker.py"], folder
runpy.run_path("worker.py", run_name="__main__")
"""

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
    """A process that becomes a worker; environment has the keys of its role.

    line gets each line that it writes. Times are of time.monotonic.
    """

    def __init__(
        self, python: Path, environment: dict[str, str], line: Callable[["Task", str], None]
    ) -> None:
        """Start it."""
        self.environment = environment
        self.described: Json = {}  # what ECS says of it
        self.code = Path()
        self.began = 0.0
        self.kill_at = 0.0  # once it has been told to stop
        self.process = subprocess.Popen(
            [python, "-c", PREPARED],
            env=environment,
            stdin=subprocess.PIPE,
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
    def key(self) -> str:
        """Return its access key ID."""
        return self.environment["AWS_ACCESS_KEY_ID"]

    @property
    def receives(self) -> bool:
        """Tell whether it asks for messages: then it has imported the handler."""
        return self.key in RECEIVERS

    def begin(self, code: Path, described: Json) -> None:
        """Let it run the worker.py in a folder."""
        self.code, self.described, self.began = code, described, time.monotonic()
        if self.process.stdin:
            with contextlib.suppress(OSError):  # it has ended: that is seen later
                self.process.stdin.write(f"{code}\n")
                self.process.stdin.close()

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
        for folder in {self.code, Path(self.environment["TMPDIR"])} - {Path()}:
            shutil.rmtree(folder, ignore_errors=True)
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

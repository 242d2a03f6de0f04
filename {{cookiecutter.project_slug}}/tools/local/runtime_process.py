"""One process of a function, as in Lambda's Python runtime."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum, auto
from importlib.metadata import PackageNotFoundError, distribution
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from tools.errors import ToolError

# What Lambda's Python runtimes have besides the standard library.
RUNTIME_DISTRIBUTIONS = (
    *("awslambdaric", "simplejson", "snapshot-restore-py"),
    *("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"),
)
BOOTSTRAP = Path(__file__).with_name("runtime_bootstrap.py")
# Seconds between two looks at the process. On macOS a look takes a process of its own.
LOOK_EVERY = 0.02 if sys.platform == "linux" else 0.5
# Bytes of a response, as JSON: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
# says 6 MB, and Lambda's error names this number.
RESPONSE_LIMIT = 6_291_556
TOO_LARGE = {
    "errorType": "Function.ResponseSizeTooLarge",
    "errorMessage": "Response payload size exceeded maximum allowed payload size"
    f" ({RESPONSE_LIMIT} bytes).",
}
# Kills a process group when its standard input ends: so nothing outlives make, even if it is
# killed while the group is frozen.
GUARD = 'read _; kill -s KILL -- "-$1"'


class End(Enum):
    """How importing the handler, or processing an event, ended."""

    DONE = auto()
    BROKEN = auto()  # no import, or too large a response: the outcome says why
    EXITED = auto()  # the process has ended without an outcome
    OUT_OF_MEMORY = auto()
    TIMED_OUT = auto()


class Process:
    """A function's process, in the folder of its log, with task/, runtime/ and tmp/.

    outcome is the response and the error to the last event, or None. Memory is in bytes. watch is
    called while it is waited for.
    """

    def __init__(
        self,
        log: Path,
        handler: str,
        environment: dict[str, str],
        memory_limit: int,
        watch: Callable[[], None],
    ) -> None:
        """Start it."""
        folder = log.parent
        self.memory_limit = memory_limit
        self.watch = watch
        self.peak_memory = 0
        self.outcome: tuple[Any, dict[str, Any] | None] | None = None
        self.working: list[str] = []  # what went on when it asked for the next event
        self.connection, theirs = Pipe()
        # -S, -s: nothing of this virtual environment or user. -P: nothing of the script's folder.
        command = [sys.executable, "-S", "-s", "-P", "-X", "utf8", str(BOOTSTRAP)]
        paths = [str(folder / "task"), str(folder / "runtime")]
        with log.open("ab") as output, theirs:
            self.popen = subprocess.Popen(
                [*command, str(theirs.fileno()), *paths, handler],
                cwd=folder / "task",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a group of its own, so that its children end with it
            )
        self.guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.popen.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def give(self, head: dict[str, Any], event: bytes) -> None:
        """Hand it an event; head is awslambdaric's InvocationRequest without the event."""
        self.outcome = None
        self.signal(signal.SIGCONT)
        with contextlib.suppress(OSError):  # it has ended: wait says how
            self.connection.send_bytes(json.dumps(head).encode() + b"\n" + event)

    def wait(self, deadline: float) -> End:
        """Wait until it asks for an event: then, on Lambda too, it is done with the one before.

        deadline is of time.monotonic.
        """
        while True:
            self.watch()
            exited = self.popen.poll() is not None
            left = deadline - time.monotonic()
            try:
                ready = self.connection.poll(max(0, min(left, LOOK_EVERY)))
                message = self.connection.recv_bytes() if ready else b""
            except (EOFError, OSError):  # it has ended, or is about to
                message = b""
                time.sleep(LOOK_EVERY)
            self.peak_memory = max(self.peak_memory, resident_memory(self.popen.pid))
            if self.peak_memory > self.memory_limit:
                return End.OUT_OF_MEMORY
            kind, _, body = message.partition(b"\n")
            match kind:
                case b"next":
                    self.working = [f"the thread {name}" for name in json.loads(body)]
                    return End.DONE
                case b"response" if len(body) > RESPONSE_LIMIT:
                    self.outcome = None, TOO_LARGE
                    return End.BROKEN
                case b"response":
                    self.outcome = json.loads(body), None
                case b"error":
                    self.outcome = None, json.loads(body)
                case b"init error":
                    self.outcome = None, json.loads(body)
                    return End.BROKEN
                case _ if exited:
                    return End.DONE if self.outcome else End.EXITED
                case _ if left <= 0:
                    return End.TIMED_OUT

    def freeze(self) -> str:
        """Stop it with its children until the next event, as Lambda does; say what was at work."""
        self.signal(signal.SIGSTOP)
        children = group_size(self.popen.pid) - 1
        working = self.working + ["a process that it started"] * (children > 0)
        said = "Still running after the handler returned, and frozen until the next event: "
        return said + ", ".join(working) if working else ""

    def signal(self, number: int) -> None:
        """Send a signal to it and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def end(self) -> None:
        """Kill it with its children."""
        self.guard.kill()
        self.guard.communicate()
        self.signal(signal.SIGKILL)
        self.popen.wait()
        self.connection.close()


def link_runtime(folder: Path) -> None:
    """Make a folder with links to what Lambda's runtime has, as far as it is installed here."""
    # venv.sh copies it last; another make may be making .venv anew just now.
    if not Path(sys.prefix, "requirements-dev.txt").exists():
        raise ToolError(".venv is not complete. Run `make install`, unless it is running.")
    folder.mkdir()
    for name in RUNTIME_DISTRIBUTIONS:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for part in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            (folder / part).symlink_to(Path(str(found.locate_file(part))).resolve())


def resident_memory(pid: int) -> int:
    """Return the bytes that a process has resident: on Linux at its peak; 0 once it has ended."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            if peak := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
                return int(peak[1]) * 1024
        return 0
    command = ["/bin/ps", "-o", "rss=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return int(said) * 1024 if said.isdigit() else 0


def group_size(group: int) -> int:
    """Return how many processes of a group run; elsewhere than on Linux 1."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            found += int(number) == group and state != "Z"
    return max(1, found)


def exit_reason(code: int) -> str:
    """Return how Lambda words the end of a process; a negative code is a signal."""
    if code == 0:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    return f"Runtime exited with error: signal: {(signal.strsignal(-code) or str(-code)).lower()}"

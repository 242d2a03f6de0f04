"""Starts make targets and interrupts them, as a terminal, `kill` and `kill -9` do."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REGION = "eu-central-1"
BUCKET = "my-company-terraform-state"
NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are in /proc"
)
# Seconds. It is never waited for unless something is wrong.
LONG = 180


def ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """Do as a terminal does: SIGINT to make and all below it."""
    os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Do as `kill` and supervisors do: SIGTERM to make alone."""
    process.terminate()


def kill_9(process: subprocess.Popen[bytes]) -> None:
    """Do as the kernel and impatient people do: SIGKILL to make and all below it."""
    os.killpg(process.pid, signal.SIGKILL)


Way = Callable[[subprocess.Popen[bytes]], None]


def eventually(condition: Callable[[], Any], what: str, between: float = 0.05) -> None:
    """Wait until a condition is met.

    :param between: seconds from one look to the next.
    """
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {LONG} s"
        time.sleep(between)


@dataclass
class Checkout:
    """A folder with a Makefile, and what is started in it."""

    folder: Path
    temporary: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.settings, "TMPDIR": str(self.temporary), **more}

    def make(self, *arguments: str) -> str:
        """Run a target that must succeed; return what it printed."""
        code, text = self._run(*arguments)
        assert code == 0, f"make {' '.join(arguments)}:\n{text}"
        return text

    def refused(self, *arguments: str) -> str:
        """Run a target that must fail; return what it printed."""
        code, text = self._run(*arguments)
        assert code != 0, f"make {' '.join(arguments)} was not refused:\n{text}"
        return text

    def _run(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def interrupt(
        self, way: Way, reached: Callable[[str], Any], *arguments: str, **more: str
    ) -> str:
        """Start a target, interrupt it at a point, and wait until all that it started has gone.

        :param reached: tells from what was printed so far whether the point is reached.
        :param more: variables to add to the environment.
        :returns: what was printed.
        """
        log = self.temporary.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["make", "--no-print-directory", *arguments],
                cwd=self.folder,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Tests that run in the background have it ignored, and so would all below them.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

        def there() -> bool:
            assert process.poll() is None, f"it ended too early:\n{log.read_text()}"
            return bool(reached(log.read_text()))

        try:
            eventually(there, f"make {' '.join(arguments)}: the point where to interrupt it")
            way(process)
            process.wait(LONG)
            assert process.returncode, log.read_text()
            eventually(lambda: not self.left(), f"the end of {self.left()}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return log.read_text()

    def left(self) -> list[str]:
        """Return the processes that were started here, or work in a folder that was made here."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                marked = mark in (process / "environ").read_bytes().split(b"\0")
                within = (process / "cwd").readlink().is_relative_to(self.temporary)
                if marked or within:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended, or is another user's
        return found

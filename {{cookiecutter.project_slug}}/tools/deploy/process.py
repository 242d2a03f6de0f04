"""Runs Terraform, or what runs it, with clean interrupts.

Terraform has a session of its own. However this command is stopped, by Ctrl-C or by `kill` to it
or to make, Terraform is interrupted once: it stops at the next safe point, writes down what it has
done and unlocks the state. A second Ctrl-C makes it stop at once.

Nobody can catch `kill -9`. On Linux the kernel then interrupts Terraform; elsewhere Terraform
carries on to its end. Either way it unlocks the state: its stderr is a file, not a pipe that ends
with this process, so writing to it cannot kill Terraform.
"""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent dies


def interruptible(
    command: list[str],
    variables: dict[str, str],
    capture: bool,
    folder: Path = Path(),
    given: str = "",
    alive: Callable[[bytes], None] | None = None,
) -> tuple[int, str, str]:
    """Run Terraform, or what runs it, in a folder; return exit code, captured stdout and stderr.

    With `alive` it deploys to a local AWS: interrupted, it is soon killed.
    """
    asked: list[int] = []
    started: list[subprocess.Popen[str]] = []
    count = itertools.count()

    def stop(number: int, _: object) -> None:
        # A signal to all processes comes twice, since make passes it on; only Ctrl-C is meant so.
        # One handler may interrupt another; counting is one step.
        if next(count) == 0 or number == signal.SIGINT:
            asked.append(number)
            for process in started:
                process.send_signal(signal.SIGINT)

    sys.stdout.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until there is a process to interrupt
        before = [signal.signal(number, stop) for number in STOPS]
        process = start(command, variables, capture, folder, stderr)
        if asked:  # a thread, which `make local` has, took the signal all the same
            process.send_signal(signal.SIGINT)
        started.append(process)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        printed = communicate(process, given if capture else None, alive, asked)
        for number, handler in zip(STOPS, before, strict=True):
            signal.signal(number, handler)
        stderr.seek(0)
        code = 128 + asked[0] if asked else process.returncode
        return (code if code >= 0 else 128 - code), printed, stderr.read()


def start(
    command: list[str], variables: dict[str, str], capture: bool, folder: Path, stderr: IO[str]
) -> subprocess.Popen[str]:
    """Start it in a session of its own, with pipes for stdin and stdout if it is captured."""
    pipe = subprocess.PIPE if capture else None
    return subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=pipe,
        stdout=pipe,
        stderr=stderr,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=_in_the_child,
    )


def communicate(
    process: subprocess.Popen[str],
    given: str | None,
    alive: Callable[[bytes], None] | None,
    asked: list[int],
) -> str:
    """Wait until a process has ended; return what it printed, if that is captured.

    With `alive`, it deploys to a local AWS that ends with this process: once asked to end, it may
    leave all undone, and has a second.
    """
    seconds = 0
    while True:
        try:
            return process.communicate(given, timeout=1 if alive else None)[0] or ""
        except subprocess.TimeoutExpired as waiting:
            given, seconds = None, seconds + 1
            if asked:
                os.killpg(process.pid, signal.SIGKILL)
            elif alive and seconds % 10 == 0:
                alive(waiting.output or b"")


def _in_the_child() -> None:
    """Have the new process interrupted when this one dies, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

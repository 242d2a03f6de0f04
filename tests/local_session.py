"""`make local` as a person has it: in a terminal of 80 columns, with other commands beside it."""

import os
import pty
import re
import shutil
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import HOST, Render, lend_environment, need, need_provider, one_provider
from interrupting import LONG, Checkout, eventually

COLUMNS = 80
# What make returns when Ctrl-C ended it and all below it: its own end by SIGINT, or 0.
ENDED = {0, 130, -signal.SIGINT}


@dataclass
class Local(Checkout):
    """A service's folder, and the terminal in which `make local` runs in it."""

    process: subprocess.Popen[bytes] | None = None
    printed: bytes = b""  # by all runs so far
    seen: int = 0  # how much of the text `until` has gone through

    def start(self, *variables: str) -> None:
        """Start `make local` with these variables of make."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, COLUMNS))
        self.process = subprocess.Popen(
            ["make", "--no-print-directory", "local", *variables],
            cwd=self.folder,
            env=self.environment(TERM="xterm"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # A session of its own, with the terminal: Ctrl-C is for all that is in it.
            preexec_fn=lambda: os.login_tty(theirs),
        )
        os.close(theirs)
        self.terminal = ours
        self.reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self.reader.start()

    def _read(self, terminal: int) -> None:
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the last process that had it has ended
                break
            if not part:
                break
            self.printed += part
        os.close(terminal)

    def shown(self) -> str:
        """Return all that `make local` has printed so far."""
        return self.printed.decode(errors="replace").replace("\r\n", "\n")

    def mark(self) -> None:
        """Let `until` look only at what is printed from now on."""
        self.seen = len(self.shown())

    def until(self, text: str) -> str:
        """Wait for a text on the console, after what was waited for before; return what came."""
        begin = self.seen

        def there() -> bool:
            found = self.shown().find(text, begin)
            if found < 0:
                assert self.process is not None
                assert self.process.poll() is None, f"it ended:\n{self.shown()}"
                return False
            self.seen = found + len(text)
            return True

        try:
            eventually(there, repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error}\nmake local printed:\n{self.shown()}") from None
        return self.shown()[begin : self.seen]

    def since(self) -> str:
        """Return what was printed since the last mark or match."""
        return self.shown()[self.seen :]

    def eventually_in(self, target: str, text: str) -> str:
        """Repeat a command that only looks until it shows a text; return what it printed then.

        Runs of blanks count as one.
        """
        shown = ""

        def there() -> bool:
            nonlocal shown
            shown = self._run(target, "ENV=local")[1]
            return " ".join(text.split()) in " ".join(shown.split())

        # Half a second of CPU time each.
        eventually(there, f"{text!r} in `make {target}`", between=2)
        return shown

    def save(self, name: str, text: str) -> None:
        """Save a file of the service's, as an editor does."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def ctrl_c(self) -> int:
        """Press Ctrl-C in the terminal; return make's exit code once all that ran has ended."""
        assert self.process is not None
        os.write(self.terminal, b"\x03")
        code = self.process.wait(LONG)
        self.reader.join(LONG)
        eventually(lambda: not self.left(), f"the end of {self.left()}")
        return code

    def end(self) -> None:
        """End what still runs."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@contextmanager
def rendered(render: Render, base: Path, **answers: str) -> Iterator[Local]:
    """Yield a rendered service with an environment, and one AWS provider for all of Terraform."""
    need("make")
    source = render(**HOST, **answers)
    need_provider(source)
    folder = Path(shutil.copytree(source, base / source.name))
    lend_environment(folder)
    (base / "tmp").mkdir()
    local = Local(folder, base / "tmp")
    with one_provider(folder / "terraform"):
        try:
            yield local
        finally:
            local.end()


def wide(text: str) -> list[str]:
    """Return the lines that do not fit into the terminal."""
    return [line for line in text.split("\n") if len(line) > COLUMNS]


def control(text: str) -> list[str]:
    """Return what acts on a terminal, but for the ends of lines."""
    return re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x09\x0b-\x1f\x7f]", text)

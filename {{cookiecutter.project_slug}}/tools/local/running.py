"""The local AWS that `make local` keeps running: found by its lock, and by what it wrote down.

Any Python from 3.9 on can import this: ``make doctor`` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from tools.errors import ToolError
from tools.local.isolation import isolate, pointed_at

FOLDER = Path(".local")
NONE = "No local AWS is running: start it with `make local`, in another terminal."


@dataclass(frozen=True)
class Running:
    """A running local AWS: its URL, region, access key ID and process.

    code: the environment variables of the code as it is deployed, with the role's keys; empty until
    it is.
    """

    url: str
    region: str
    key: str
    pid: int
    code: dict[str, str] = field(default_factory=dict)


def find() -> Running | None:
    """Return the one that runs for this service; None if there is none, or it still starts."""
    try:
        with (FOLDER / "lock").open("rb") as lock:
            if _acquire(lock, fcntl.LOCK_SH):
                return None
        return Running(**json.loads((FOLDER / "running.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def connect() -> Running:
    """Give this process, and what it starts, that one as the only AWS there is.

    :raises ToolError: there is none.
    """
    running = find()
    if running is None:
        raise ToolError(NONE)
    isolate(**pointed_at(running.url, running.region, running.key))
    return running


def refuse(environment: str) -> None:
    """Make sure that a real environment's commands would not ask the one that runs.

    :raises ToolError: a variable leads there.
    """
    running = find()
    for name, value in os.environ.items():
        if running and name.startswith("AWS_ENDPOINT_URL") and value.rstrip("/") == running.url:
            raise ToolError(
                f"{name} is the local AWS of `make local`, and ENV is {environment}: unset it, "
                "or use ENV=local."
            )


@contextlib.contextmanager
def hold() -> Iterator[Callable[[Running], None]]:
    """Be the one that runs for this service; give a function that writes down what others need.

    :raises ToolError: another one runs.
    """
    FOLDER.mkdir(exist_ok=True)
    place = FOLDER / "running.json"
    with (FOLDER / "lock").open("ab") as lock:
        # For the moment that `find` has it, too.
        deadline = time.monotonic() + 1
        try:
            while not (held := _acquire(lock, fcntl.LOCK_EX)) and time.monotonic() < deadline:
                time.sleep(0.1)
        except OSError as error:
            raise ToolError(
                f"{lock.name} can't be locked ({error.strerror}): the service's folder must be on "
                "a disk that has locks, such as one of this machine."
            ) from None
        if not held:
            running = find()
            where = f", at {running.url}" if running else ""
            raise ToolError(
                f"A local AWS is running for this service already{where}: use it with ENV=local, "
                "or end it with Ctrl-C where it runs."
            )
        place.unlink(missing_ok=True)

        def write(running: Running) -> None:
            text = json.dumps(asdict(running))
            if place.exists() and place.read_text(encoding="utf-8") == text:
                return
            new = place.with_suffix(".new")
            new.unlink(missing_ok=True)
            new.touch(0o600, exist_ok=False)  # it has a key
            new.write_text(text, encoding="utf-8")
            new.replace(place)

        try:
            yield write
        finally:
            place.unlink(missing_ok=True)


def _acquire(lock: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

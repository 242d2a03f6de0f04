"""Run the package as the container does, without Docker and without AWS.

    with Runtime(Path("dist/lambda.zip"), environment={}) as runtime:
        invocation = runtime.invoke({"Records": []})

As in the container: the package, with a Python that has nothing else, and worker.py, in its own
process or in the one that it makes for the handler. Not so: the file system is this machine's.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import uuid
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from tools.build.package import unpack
from tools.hcl import number

LOOK_EVERY = 0.05  # seconds between two looks at the handler's process
START_TIMEOUT = 120  # seconds for importing the handler: worker.py's


@dataclass(frozen=True)
class Invocation:
    """What the handler returned, or how it failed."""

    response: Any | None
    error: dict[str, Any] | None
    duration: float  # milliseconds
    warning: str = ""  # none: nothing is frozen between batches, as on Lambda

    def figures(self) -> str:
        """Say what it took."""
        return f"{self.duration:.0f} ms"


def container(temporary: Path, region: str) -> dict[str, str]:
    """Return the environment variables that a container has besides the task definition's."""
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": region,
        "HOME": str(temporary),
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
    }


class Runtime:
    """The container's content; a context manager.

    watch is called all the time while the handler runs: what it writes is in the file log.
    """

    def __init__(
        self,
        package: Path,
        *,
        environment: Mapping[str, str],
        timeout: float = 1800,
        region: str = "us-east-1",
    ) -> None:
        """Take the container's environment variables, and the seconds that a batch may take.

        It gets no others, but for made-up credentials: what runs here reaches no account by itself.
        """
        self.package = package
        self.timeout = timeout
        self.watch: Callable[[], None] = lambda: None
        self._temporary = tempfile.TemporaryDirectory(prefix="container-")
        self.folder = Path(self._temporary.name)
        self.log = self.folder / "log"
        self.environment = {**container(self.folder / "tmp", region), **environment}

    @classmethod
    def with_settings(
        cls, package: Path, settings: Mapping[str, Any], environment: Mapping[str, str]
    ) -> Runtime:
        """Make one with Terraform's settings."""
        timeout, region = number(settings, "timeout"), settings["aws_region"]
        return cls(package, environment=environment, timeout=timeout, region=region)

    def __enter__(self) -> Runtime:
        """Unpack the package. Raises ToolError if that fails."""
        unpack(self.package, self.folder / "app")
        venv.create(self.folder / "venv", symlinks=True)
        (self.folder / "tmp").mkdir()
        self.log.touch()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove all files."""
        self._temporary.cleanup()

    def start(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start worker.py; its output goes to the end of the file `log`."""
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [self.folder / "venv" / "bin" / "python", "worker.py", *arguments],
                cwd=self.folder / "app",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
            )

    def invoke(self, event: object) -> Invocation:
        """Hand an event (a JSON value) to the handler and wait for the result.

        A failure of the handler is in the result. Raises TypeError for an event that isn't JSON.
        """
        ours, theirs = Pipe()
        with ours:
            with theirs:
                number = theirs.fileno()
                process = self.start("handler", str(number), pass_fds=(number,))
            try:
                answer = self._receive(ours, START_TIMEOUT)  # that the handler has been imported
                started = time.monotonic()
                if "error" not in answer:
                    deadline = time.time() + self.timeout
                    request = {"id": str(uuid.uuid4()), "deadline": deadline, "event": event}
                    ours.send_bytes(json.dumps(request).encode())
                    answer = self._receive(ours, self.timeout)
                duration = (time.monotonic() - started) * 1000
            finally:
                process.kill()
                process.wait()
        error = None
        if "error" in answer:
            text = answer.get("text") or "; ".join(answer.get("stack", []))
            error = {"errorType": answer["error"], "errorMessage": text}
        return Invocation(answer.get("response"), error, duration)

    def _receive(self, connection: Connection, timeout: float) -> dict[str, Any]:
        """Return the process's answer; an error if it has ended or takes longer, in seconds."""
        deadline = time.monotonic() + timeout
        try:
            while not connection.poll(LOOK_EVERY):
                self.watch()
                if time.monotonic() > deadline:
                    return {"error": "TimedOut", "text": f"it took more than {timeout:g} seconds"}
            answer: dict[str, Any] = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return {"error": "Exited", "text": "the handler's process has ended"}
        return answer

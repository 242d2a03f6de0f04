"""Run a deployment package as AWS Lambda does, without Docker and without AWS.

    with Runtime(Path("dist/lambda.zip"), environment={}) as runtime:
        invocation = runtime.invoke({"Records": []})

As on Lambda: AWS's runtime client; the import path (the package, then the client and boto3 with
their dependencies); the environment variables; the timeout; the memory limit; the limits of event
and response; a new process after one that has failed; between invocations the process with all that
it started is frozen. Not as on Lambda: CPU is not limited; the file system is this machine's, with
the package read-only (though not for root); and memory is what the process has resident, since
libraries reserve more address space than they use.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from moto.utilities.utils import get_partition

from tools.build.package import make_read_only, remove, unpack, write_files
from tools.errors import ToolError
from tools.hcl import number
from tools.local.runtime_process import End, Process, exit_reason, link_runtime

# Seconds of the init phase; after that it is tried once more, as part of the first invocation:
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
INIT_LIMIT = 10.0
MIB = 1024 * 1024
EVENT_LIMIT = 6 * MIB


@dataclass(frozen=True)
class Invocation:
    """What the handler returned, or the error as Lambda reports it; logs is stdout and stderr.

    Durations are in milliseconds, memory in MiB. Only a process's first invocation has an
    init_duration. warning says what went on after the handler returned.
    """

    request_id: str
    response: Any | None
    error: dict[str, Any] | None
    logs: str
    init_duration: float | None
    duration: float
    memory_size: int
    max_memory_used: int
    warning: str = ""

    def figures(self) -> str:
        """Say what it took: time and memory."""
        init = f", and {self.init_duration:.0f} ms to start" if self.init_duration else ""
        memory = f"{self.max_memory_used} of {self.memory_size} MB of memory"
        return f"{self.duration:.0f} ms{init}; {memory}"


@dataclass
class Runtime:
    """One execution environment of a function; a context manager. One invocation at a time.

    timeout is in seconds, memory_size in MiB. Of environment variables the function gets those in
    environment and Lambda's own. watch is called all the time while the function runs: what it
    writes is in the file log. The package may be a folder, where one is unpacked; own is then the
    service's own code, as of own_code. All files are in a new folder in parent, if that is given.
    """

    package: Path
    _: KW_ONLY
    own: Mapping[str, tuple[bytes, bool]] = field(default_factory=dict)
    parent: Path | None = None
    version: str = "$LATEST"
    alias: str = ""
    handler: str = "handler.handler"
    environment: Mapping[str, str]
    timeout: float = 30
    memory_size: int = 256
    function_name: str = "local"
    region: str = "us-east-1"
    watch: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Begin without a process."""
        self._process: Process | None = None
        self._init_duration: float | None = None
        self.stream = ""

    def __enter__(self) -> Runtime:
        """Unpack the package. Raises ToolError if that fails."""
        folder = Path(tempfile.mkdtemp(prefix="lambda-", dir=self.parent))
        self.log = folder / "output.log"  # of all that writes here to stdout or stderr
        try:
            self.log.touch()
            (folder / "tmp").mkdir()
            link_runtime(folder / "runtime")
            task = folder / "task"
            if self.package.is_dir():
                task.mkdir()
                for path in self.package.iterdir():
                    (task / path.name).symlink_to(path.absolute())
                write_files(self.own, task)
            else:
                unpack(self.package, task)
            make_read_only(task)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and remove all files."""
        self._end_process()
        remove(self.log.parent)

    @classmethod
    def with_settings(
        cls, package: Path, settings: Mapping[str, Any], environment: Mapping[str, str]
    ) -> Runtime:
        """Make one with Terraform's settings."""
        return cls(
            package,
            environment=environment,
            timeout=number(settings, "timeout"),
            memory_size=int(number(settings, "memory_size")),
            region=settings["aws_region"],
        )

    def kill(self) -> None:
        """End the process from another thread, where it is invoked: that then fails."""
        if process := self._process:
            process.signal(signal.SIGKILL)

    def start(self) -> dict[str, Any] | None:
        """Let a process import the handler before the first event; return the error, if it can't.

        The first event then tries once more, as on Lambda.
        """
        process, end, milliseconds = self._init(INIT_LIMIT)
        if end is End.DONE:
            self._init_duration = milliseconds
            process.freeze()
            return None
        self._end_process()
        return self._outcome(end, process, "init", INIT_LIMIT)[1]

    def invoke(self, event: object, request_id: str = "") -> Invocation:
        """Hand an event (a JSON value) to the function and wait for the result.

        A failure of the function is in the result. Raises TypeError or ValueError for an event that
        isn't JSON, and ToolError for one that is too large.
        """
        body = json.dumps(event, allow_nan=False).encode()
        if (size := size_of(event)) > EVENT_LIMIT:
            limit = f"Lambda takes at most {EVENT_LIMIT} (6 MB)"
            raise ToolError(f"The event has {size} bytes, and {limit}.")
        try:
            return self._invoke(request_id or str(uuid.uuid4()), body)
        except BaseException:  # Ctrl-C above all: nobody knows what the process is doing now
            self._end_process()
            raise

    def _invoke(self, request_id: str, body: bytes) -> Invocation:
        logged, started = self.log.stat().st_size, time.monotonic()
        process, end, init_duration = self._process, End.DONE, self._init_duration
        self._init_duration = None
        if process is None:
            process, end, milliseconds = self._init(INIT_LIMIT)
            if end is End.DONE:
                init_duration, started = milliseconds, time.monotonic()
            elif end is End.TIMED_OUT:
                self._end_process()
                started = time.monotonic()
                process, end, _ = self._init(self.timeout)
        if end is End.DONE:
            process.give(self._head(request_id, started + self.timeout), body)
            end = process.wait(started + self.timeout)
        duration = self.timeout if end is End.TIMED_OUT else time.monotonic() - started
        response, error = self._outcome(end, process, request_id, self.timeout)
        warning = ""
        if end is not End.DONE or process.popen.poll() is not None:
            self._end_process()
        else:
            warning = process.freeze()
        return Invocation(
            request_id=request_id,
            response=response,
            error=error,
            logs=self._logs_after(logged),
            init_duration=init_duration,
            duration=duration * 1000,
            memory_size=self.memory_size,
            max_memory_used=math.ceil(process.peak_memory / MIB),
            warning=warning,
        )

    def _init(self, limit: float) -> tuple[Process, End, float]:
        """Start a process and let it import the handler; return its milliseconds, too."""
        began = time.monotonic()
        self.stream = f"{time.strftime('%Y/%m/%d')}/[{self.version}]{uuid.uuid4().hex}"
        given, memory = self._variables(), self.memory_size * MIB
        process = self._process = Process(self.log, self.handler, given, memory, self.watch)
        end = process.wait(began + limit)
        return process, end, (time.monotonic() - began) * 1000

    def _variables(self) -> dict[str, str]:
        """Return the process's environment variables; what follows the function's is reserved.

        https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html; the credentials are
        made up, and the home folder is empty: a function that runs here reaches no account.
        """
        folder = self.log.parent
        return {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "HOME": str(folder / "tmp"),
            "LANG": "en_US.UTF-8",
            # Some builds of Python find their own library by it.
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": str(folder / "tmp"),
            "TZ": ":UTC",
            **self.environment,
            "AWS_EXECUTION_ENV": "AWS_Lambda_python{}.{}".format(*sys.version_info),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_size),
            "AWS_LAMBDA_FUNCTION_NAME": self.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": self.version,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.function_name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": self.stream,
            "LAMBDA_RUNTIME_DIR": str(folder / "runtime"),
            "LAMBDA_TASK_ROOT": str(folder / "task"),
            "_HANDLER": self.handler,
        }

    def _logs_after(self, place: int) -> str:
        with self.log.open("rb") as file:
            file.seek(place)
            return file.read().decode(errors="replace")

    def _outcome(
        self, end: End, process: Process, request_id: str, limit: float
    ) -> tuple[Any, dict[str, Any] | None]:
        """Return the response, and the error as Lambda words it."""
        match end:
            case End.DONE | End.BROKEN:
                return process.outcome or (None, None)
            case End.TIMED_OUT:
                kind, text = "Sandbox.Timedout", f"Task timed out after {limit:.2f} seconds"
            case End.OUT_OF_MEMORY:
                kind, text = "Runtime.OutOfMemory", exit_reason(-signal.SIGKILL)
            case End.EXITED:
                kind, text = "Runtime.ExitError", exit_reason(process.popen.wait())
        return None, {"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {text}"}

    def _end_process(self) -> None:
        if self._process:
            self._process.end()
            self._process = None

    def _head(self, request_id: str, deadline: float) -> dict[str, Any]:
        """Return what comes with an event; deadline is of time.monotonic."""
        place = f"{get_partition(self.region)}:lambda:{self.region}"
        name = f"{self.function_name}:{self.alias}" if self.alias else self.function_name
        arn = f"arn:{place}:123456789012:function:{name}"
        root = f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
        return {
            "invoke_id": request_id,
            "invoked_function_arn": arn,
            "deadline_time_in_ms": int((time.time() + deadline - time.monotonic()) * 1000),
            "content_type": "application/json",
            "x_amzn_trace_id": f"{root};Parent={uuid.uuid4().hex[:16]};Sampled=0",
            **dict.fromkeys(("client_context", "cognito_identity", "tenant_id", "invocation_id")),
        }


def size_of(event: object) -> int:
    """Return how many bytes an event has as JSON."""
    return len(json.dumps(event, ensure_ascii=False).encode(errors="surrogatepass"))

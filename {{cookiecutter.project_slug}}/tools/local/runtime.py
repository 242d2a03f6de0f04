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
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from tools.build.package import unpack
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
    writes is in the file log.
    """

    package: Path
    _: KW_ONLY
    handler: str = "handler.handler"
    environment: Mapping[str, str]
    timeout: float = 30
    memory_size: int = 256
    function_name: str = "local"
    region: str = "us-east-1"
    watch: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Begin without a process or files."""
        self._one_at_a_time = threading.Lock()
        self._process: Process | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Runtime:
        """Unpack the package. Raises ToolError if that fails."""
        self._folder = Path(tempfile.mkdtemp(prefix="lambda-"))
        try:
            (self._folder / "tmp").mkdir()
            link_runtime(self._folder / "runtime")
            unpack(self.package, self._folder / "task")
            self.log.touch()
            for folder in self._folder.glob("task/**/"):
                folder.chmod(0o555)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and remove all files."""
        self.close()

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

    @property
    def log(self) -> Path:
        """Return the file that everything here writes to, stdout and stderr."""
        return self._inside / "output.log"

    @property
    def _inside(self) -> Path:
        if self._folder is None:
            raise ToolError("A Runtime works inside a `with` statement only.")
        return self._folder

    def close(self) -> None:
        """End the process and remove all files; may be called twice."""
        self._end_process()
        if self._folder:
            for folder in self._folder.glob("task/**/"):
                folder.chmod(0o755)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def invoke(self, event: object) -> Invocation:
        """Hand an event (a JSON value) to the function and wait for the result.

        A failure of the function is in the result. Raises TypeError or ValueError for an event that
        isn't JSON, and ToolError for one that is too large.
        """
        body = json.dumps(event, allow_nan=False).encode()
        if (size := size_of(event)) > EVENT_LIMIT:
            limit = f"Lambda takes at most {EVENT_LIMIT} (6 MB)"
            raise ToolError(f"The event has {size} bytes, and {limit}.")
        with self._one_at_a_time:
            try:
                return self._invoke(str(uuid.uuid4()), body)
            except BaseException:  # Ctrl-C above all: nobody knows what the process is doing now
                self._end_process()
                raise

    def _invoke(self, request_id: str, body: bytes) -> Invocation:
        end, init_duration, started = End.DONE, None, time.monotonic()
        process = self._process
        if process is None:
            process, end, init_duration, started = self._init()
        if end is End.DONE:
            process.give(self._head(request_id, started + self.timeout), body)
            end = process.wait(started + self.timeout)
        duration = self.timeout if end is End.TIMED_OUT else time.monotonic() - started
        response, error = self._outcome(end, process, request_id)
        warning = ""
        if end is not End.DONE or process.popen.poll() is not None:
            self._end_process()
        else:
            warning = process.freeze()
        return Invocation(
            request_id=request_id,
            response=response,
            error=error,
            logs=process.new_logs(),
            init_duration=init_duration,
            duration=duration * 1000,
            memory_size=self.memory_size,
            max_memory_used=math.ceil(process.peak_memory / MIB),
            warning=warning,
        )

    def _init(self) -> tuple[Process, End, float | None, float]:
        """Start a process and let it import the handler.

        :returns: it; how that ended; its milliseconds, unless they count as the invocation's; when
            the invocation began, by time.monotonic.
        """
        began = time.monotonic()
        process = self._start()
        end = process.wait(began + INIT_LIMIT)
        now = time.monotonic()
        if end is End.DONE:
            return process, end, (now - began) * 1000, now
        if end is not End.TIMED_OUT:
            return process, end, None, began
        self._end_process()
        process = self._start()
        return process, process.wait(now + self.timeout), None, now

    def _outcome(
        self, end: End, process: Process, request_id: str
    ) -> tuple[Any, dict[str, Any] | None]:
        """Return the response, and the error as Lambda words it."""
        match end:
            case End.DONE | End.BROKEN:
                return process.outcome or (None, None)
            case End.TIMED_OUT:
                kind, text = "Sandbox.Timedout", f"Task timed out after {self.timeout:.2f} seconds"
            case End.OUT_OF_MEMORY:
                kind, text = "Runtime.OutOfMemory", exit_reason(-signal.SIGKILL)
            case End.EXITED:
                kind, text = "Runtime.ExitError", exit_reason(process.popen.wait())
        return None, {"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {text}"}

    def _start(self) -> Process:
        variables = self._variables(self._inside)
        memory = self.memory_size * MIB
        self._process = Process(self.log, self.handler, variables, memory, self.watch)
        return self._process

    def _end_process(self) -> None:
        if self._process:
            self._process.end()
            self._process = None

    def _head(self, request_id: str, deadline: float) -> dict[str, Any]:
        """Return what comes with an event; deadline is of time.monotonic."""
        place = f"{partition(self.region)}:lambda:{self.region}"
        arn = f"arn:{place}:123456789012:function:{self.function_name}"
        root = f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
        return {
            "invoke_id": request_id,
            "invoked_function_arn": arn,
            "deadline_time_in_ms": int((time.time() + deadline - time.monotonic()) * 1000),
            "content_type": "application/json",
            "x_amzn_trace_id": f"{root};Parent={uuid.uuid4().hex[:16]};Sampled=0",
            **dict.fromkeys(("client_context", "cognito_identity", "tenant_id", "invocation_id")),
        }

    def _variables(self, folder: Path) -> dict[str, str]:
        """Return the process's environment variables.

        https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html; the credentials are
        made up, and the home folder is empty: a function that runs here reaches no account.
        """
        defaults = {
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
        }
        stream = f"{time.strftime('%Y/%m/%d')}/[$LATEST]{uuid.uuid4().hex}"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        reserved = {
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_size),
            "AWS_LAMBDA_FUNCTION_NAME": self.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.function_name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "LAMBDA_RUNTIME_DIR": str(folder / "runtime"),
            "LAMBDA_TASK_ROOT": str(folder / "task"),
            "_HANDLER": self.handler,
        }
        return {**defaults, **self.environment, **reserved}


def partition(region: str) -> str:
    """Return the AWS partition of a region, from botocore's data: importing botocore takes long."""
    file = distribution("botocore").locate_file("botocore/data/partitions.json")
    found = json.loads(Path(str(file)).read_text(encoding="utf-8"))["partitions"]
    return next((str(p["id"]) for p in found if re.match(p["regionRegex"], region)), "aws")


def size_of(event: object) -> int:
    """Return how many bytes an event has as JSON."""
    return len(json.dumps(event, ensure_ascii=False).encode(errors="surrogatepass"))

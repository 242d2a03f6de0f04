"""Run a deployment package as AWS Lambda does, without Docker and without AWS.

``Runtime`` is one execution environment: the unpacked zip, read-only, and a process of its
own in which AWS's runtime client (awslambdaric) loads the handler. It asks for events at a Runtime
API that this module serves on 127.0.0.1:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

    with Runtime(Path("dist/lambda.zip"), environment={}, timeout=30, memory_size=256) as it:
        invocation = it.invoke({"Records": []})

What is as on Lambda: the import path (the package, then only what the runtime has: the runtime
client and boto3 with their dependencies), the environment variables, the time-out, the end of the
process when it fails, and a new one for the next event.

What is not: the processor has no limit of its own, and the file system is this machine's (but for
root, who may write anywhere, the package is read-only). Memory is what the process has resident
(on Linux its peak, as the kernel counts it; on macOS what it has when an invocation ends). One
that goes above memory_size is killed and reported as Lambda does. An address space limit would be
stricter than Lambda: libraries reserve more than they use.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.errors import ToolError

# What Lambda's Python runtimes have beside the standard library.
RUNTIME_DISTRIBUTIONS = {
    *("awslambdaric", "simplejson", "snapshot-restore-py"),
    *("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"),
}
STAND_IN = Path(__file__).with_name("runtime_client.py")

# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html: the init phase has
# 10 seconds; after that it is tried once more as part of the first invocation.
INIT_LIMIT = 10.0
PREFIX = "/2018-06-01/runtime"
MIB = 1024 * 1024

# Runs in the function's process. Reading the pipe ends when this module's process has gone, however
# it went: then the function's process goes too, with its children.
LAUNCH = """
import os, signal, site, sys, threading
pipe, task, runtime, handler = int(sys.argv[1]), *sys.argv[2:]
def end_with_parent():
    os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_parent, daemon=True).start()
site.setquit()
site.sethelper()
sys.path[:0] = [task]
sys.path.append(runtime)
sys.argv = ["bootstrap", handler]
from awslambdaric.__main__ import main
main(sys.argv)
"""


@dataclass(frozen=True)
class Invocation:
    """What one invocation gave.

    response is the handler's result, None if it failed; error is what Lambda would report
    (errorType, errorMessage and, from the handler, stackTrace), None if it didn't fail. logs is
    what the function wrote to stdout and stderr, loading the handler included. Durations are in
    milliseconds; init_duration is None unless this was a process's first invocation.
    max_memory_used is in MiB.
    """

    request_id: str
    response: Any | None
    error: dict[str, Any] | None
    logs: str
    init_duration: float | None
    duration: float
    max_memory_used: int


class Runtime:
    """One execution environment of a function; a context manager. One invocation at a time."""

    def __init__(
        self,
        package: Path,
        *,
        handler: str = "handler.handler",
        environment: Mapping[str, str],
        timeout: float,
        memory_size: int,
        function_name: str = "local",
        region: str = "us-east-1",
    ) -> None:
        """Take the function's settings: timeout in seconds, memory_size in MiB.

        environment is what the function's configuration would set; nothing of this process's own
        environment reaches the function.
        """
        self.package = package
        self.handler = handler
        self.environment = dict(environment)
        self.timeout = timeout
        self.memory_size = memory_size
        self.function_name = function_name
        self.region = region
        self._one_at_a_time = threading.Lock()
        self._process: _Process | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Runtime:
        """Unpack the package. Raises ToolError if that isn't possible."""
        self._folder = Path(tempfile.mkdtemp(prefix="lambda-"))
        try:
            for name in ("task", "runtime", "tmp"):
                (self._folder / name).mkdir()
            link_runtime(self._folder / "runtime")
            unpack(self.package, self._folder / "task")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process and remove all files."""
        self.close()

    def close(self) -> None:
        """End the process and remove all files; may be called twice."""
        self._end_process()
        if self._folder:
            task = self._folder / "task"
            for folder in (task, *task.rglob("*/")):
                folder.chmod(0o755)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def invoke(self, event: object) -> Invocation:
        """Hand an event (a JSON value) to the function and wait for what comes of it.

        Failures of the function are in the result, as Lambda would report them. Raises TypeError
        or ValueError for an event that isn't JSON.
        """
        body = json.dumps(event, allow_nan=False).encode()
        with self._one_at_a_time:
            try:
                return self._invoke(str(uuid.uuid4()), body)
            except BaseException:  # Ctrl-C above all: what the process does is unknown now
                self._end_process()
                raise

    def _invoke(self, request_id: str, body: bytes) -> Invocation:
        init_duration = None
        started = time.monotonic()
        deadline = started + self.timeout
        process, ended = self._process, ""
        if process is None:
            process = self._process = self._start()
            ended = process.wait_for("ready", started + INIT_LIMIT)
            if ended == "timeout":
                self._end_process()
                started = time.monotonic()
                deadline = started + self.timeout
                process = self._process = self._start()
                ended = process.wait_for("ready", deadline)
            elif not ended and not process.init_failed:
                init_duration = (time.monotonic() - started) * 1000
                started = time.monotonic()
                deadline = started + self.timeout
        if not ended and not process.init_failed:
            process.give(request_id, body, self._event_headers(request_id, deadline))
            ended = process.wait_for("outcome", deadline)
            if not ended:
                # Lambda's invocation lasts until the runtime asks for the next event.
                ended = process.wait_for("ready", deadline)
                ended = "" if ended == "exit" else ended
        duration = (time.monotonic() - started) * 1000

        response, error = process.outcome
        if ended == "timeout":
            duration = self.timeout * 1000
            response, error = (
                None,
                {
                    "errorType": "Sandbox.Timedout",
                    "errorMessage": f"RequestId: {request_id} Error: Task timed out after "
                    f"{self.timeout:.2f} seconds",
                },
            )
        elif ended:
            response, error = (
                None,
                {
                    "errorType": "Runtime.OutOfMemory"
                    if ended == "memory"
                    else "Runtime.ExitError",
                    "errorMessage": f"RequestId: {request_id} Error: "
                    + exit_reason(-signal.SIGKILL if ended == "memory" else process.popen.wait()),
                },
            )
        if ended or process.init_failed or process.popen.poll() is not None:
            self._end_process()
        return Invocation(
            request_id=request_id,
            response=response,
            error=error,
            logs=process.new_logs(),
            init_duration=init_duration,
            duration=duration,
            max_memory_used=math.ceil(process.peak_memory / MIB),
        )

    def _start(self) -> _Process:
        if self._folder is None:
            raise ToolError("Runtime works inside a `with` statement only.")
        return _Process(self, self._folder)

    def _end_process(self) -> None:
        if self._process:
            self._process.end()
            self._process = None

    def _event_headers(self, request_id: str, deadline: float) -> dict[str, str]:
        """Return the headers that come with an event; deadline is of time.monotonic."""
        trace = (
            f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]}"
        )
        milliseconds = int((time.time() + deadline - time.monotonic()) * 1000)
        return {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(milliseconds),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:{self.region}:123456789012"
            f":function:{self.function_name}",
            "Lambda-Runtime-Trace-Id": f"{trace};Sampled=0",
        }


class _Process:
    """The function's process, and the Runtime API that this process alone talks to."""

    def __init__(self, settings: Runtime, folder: Path) -> None:
        self.memory_size = settings.memory_size
        self.peak_memory = 0
        # What the Runtime API's threads and the one that invokes tell each other.
        self.changed = threading.Condition()
        self.ready = False  # the runtime client waits for an event
        self.event: tuple[bytes, dict[str, str]] | None = None
        self.reported: tuple[Any | None, dict[str, Any] | None] | None = None
        self.init_failed = False
        self.closed = False

        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_RuntimeApi, self), bind_and_activate=True
        )
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        log = folder / f"{self.server.server_port}-{uuid.uuid4()}.log"
        self.pipe = os.pipe()
        task, runtime = str(folder / "task"), str(folder / "runtime")
        # -S and -s: nothing of this virtual environment or user. -P: nothing of the current folder.
        command = [sys.executable, "-S", "-s", "-P", "-X", "utf8", "-c", LAUNCH]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [*command, str(self.pipe[0]), task, runtime, settings.handler],
                cwd=task,
                env=lambda_environment(settings, folder, self.server.server_port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self.pipe[0]],
                start_new_session=True,  # a group of its own, so that its children end with it
            )
        self.logs = log.open("rb")

    @property
    def outcome(self) -> tuple[Any | None, dict[str, Any] | None]:
        """Return response and error of the last event."""
        return self.reported or (None, None)

    def give(self, request_id: str, body: bytes, headers: dict[str, str]) -> None:
        """Let the runtime client have an event."""
        with self.changed:
            self.request_id = request_id
            self.ready, self.reported, self.event = False, None, (body, headers)
            self.changed.notify_all()

    def wait_for(self, what: str, deadline: float) -> str:
        """Wait until the process is ready or has reported an outcome; "" if that came about.

        Else the reason why it did not: exit, memory, or timeout at the deadline (time.monotonic).
        """
        while True:
            exited = self.popen.poll() is not None
            with self.changed:
                done = self.reported is not None if what == "outcome" else self.ready
                done = done or self.init_failed
                left = deadline - time.monotonic()
                if not done and not exited and left > 0:
                    self.changed.wait(min(left, 0.02 if sys.platform == "linux" else 0.5))
            self.peak_memory = max(self.peak_memory, resident_memory(self.popen.pid))
            if self.peak_memory > self.memory_size * MIB:
                return "memory"
            if done:
                return ""
            if exited:
                return "exit"
            if left <= 0:
                return "timeout"

    def new_logs(self) -> str:
        """Return what the process has written since the last call."""
        return self.logs.read().decode(errors="replace")

    def end(self) -> None:
        """Kill the process with its children and stop the Runtime API."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        for end in self.pipe:
            os.close(end)


class _RuntimeApi(BaseHTTPRequestHandler):
    """Lambda's Runtime API, as far as the runtime client uses it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True

    def __init__(self, process: _Process, *arguments: Any) -> None:
        self.process = process
        # The process may be gone before it has its answer.
        with contextlib.suppress(ConnectionError):
            super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer /invocation/next with an event, as soon as there is one."""
        process = self.process
        if self.path != f"{PREFIX}/invocation/next":
            self.answer(404, b"{}", {})
            return
        with process.changed:
            process.ready = True
            process.changed.notify_all()
            process.changed.wait_for(lambda: process.event or process.closed)
            event, process.event = process.event, None
        if event:
            self.answer(200, *event)
        else:
            self.close_connection = True

    def do_POST(self) -> None:
        """Take a result or an error."""
        process = self.process
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        with process.changed:
            if self.path == f"{PREFIX}/init/error":
                process.init_failed = True
                process.reported = None, body
            elif self.path == f"{PREFIX}/invocation/{process.request_id}/response":
                process.reported = body, None
            elif self.path == f"{PREFIX}/invocation/{process.request_id}/error":
                process.reported = None, body
            else:
                self.answer(404, b"{}", {})
                return
            process.changed.notify_all()
        self.answer(202, b'{"status": "OK"}', {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write no access log."""


def lambda_environment(settings: Runtime, folder: Path, port: int) -> dict[str, str]:
    """Return the process's environment variables.

    Names: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html. The keys are no
    one's, and there is no home with others in it: a function that runs here reaches no account.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    ours = {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_REGION": settings.region,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        **settings.environment,
    }
    reserved = {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_size),
        "AWS_LAMBDA_FUNCTION_NAME": settings.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{settings.function_name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{time.strftime('%Y/%m/%d')}/[$LATEST]{uuid.uuid4().hex}",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "LAMBDA_RUNTIME_DIR": str(folder / "runtime"),
        "LAMBDA_TASK_ROOT": str(folder / "task"),
        "_HANDLER": settings.handler,
    }
    defaults = {"LANG": "en_US.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin", "TZ": ":UTC"}
    # Some builds of Python find their own library by it.
    if library_path := os.environ.get("LD_LIBRARY_PATH"):
        defaults["LD_LIBRARY_PATH"] = library_path
    return {**defaults, **ours, **reserved}


def unpack(package: Path, folder: Path) -> None:
    """Unpack a deployment package, read-only. Raises ToolError if it is not a zip."""
    try:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
            for entry in archive.infolist():
                (folder / entry.filename).chmod((entry.external_attr >> 16) & 0o555 | 0o400)
    except FileNotFoundError:
        raise ToolError(f"There is no {package}. Run `make package`.") from None
    except zipfile.BadZipFile:
        raise ToolError(f"{package} is not a zip. Run `make package`.") from None
    for path in (folder, *folder.rglob("*/")):
        path.chmod(0o555)


def link_runtime(folder: Path) -> None:
    """Fill folder with links to what Lambda's runtime has, as far as it is installed here."""
    names: set[str] = set()
    for distribution_name in RUNTIME_DISTRIBUTIONS:
        try:
            found = distribution(distribution_name)
        except PackageNotFoundError:
            if distribution_name == "awslambdaric":
                raise ToolError(
                    "awslambdaric, AWS's runtime client, is not installed for this Python. "
                    "Run `make install`."
                ) from None
            continue
        for name in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            (folder / name).symlink_to(Path(str(found.locate_file(name))).resolve())
            names.add(name)
    if not any(name.startswith("runtime_client.") for name in names):
        # Only Linux has the compiled half of awslambdaric.
        (folder / "runtime_client.py").symlink_to(STAND_IN.resolve())


def resident_memory(pid: int) -> int:
    """Return the memory that a process has resident, in bytes; 0 if it has ended.

    On Linux this is the peak over the process's life.
    """
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        return int(peak[1]) * 1024 if peak else 0
    command = ["/bin/ps", "-o", "rss=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return int(said) * 1024 if said.isdigit() else 0


def exit_reason(code: int) -> str:
    """Return how Lambda puts the end of a process; a negative code is a signal."""
    if code == 0:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    return f"Runtime exited with error: signal: {(signal.strsignal(-code) or str(-code)).lower()}"

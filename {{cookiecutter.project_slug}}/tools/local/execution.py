"""One execution environment of the function, whose log goes where Lambda's goes."""

from __future__ import annotations

import json
import math
import uuid
from collections import deque
from typing import Any

from tools.local.log import Log, follow
from tools.local.runtime import Invocation, Runtime

LINES_KEPT = 200  # of the log of one batch, for the page


class ExecutionEnvironment:
    """A Runtime, and its log with Lambda's own lines."""

    def __init__(self, runtime: Runtime, log: Log) -> None:
        """Take one that is ready for its first process."""
        self.runtime = runtime
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)  # since the last invocation began
        self._log, self._stream, self._request = log, "", ""
        folder = str(runtime.log.parent)
        self._folders = {folder, json.dumps(folder)[1:-1]}
        self._go_on = follow(runtime.log, self._take)
        runtime.watch = self._watch

    def start(self) -> dict[str, Any] | None:
        """Import the handler; return the error, if that fails."""
        error = self.runtime.start()
        self._finish()
        return error

    def invoke(self, event: object) -> Invocation:
        """Hand an event to the function and wait for the result."""
        self.lines.clear()
        self._request = str(uuid.uuid4())
        done = self.runtime.invoke(event, self._request)
        self._finish()
        self._log.platform(self._stream, "report", report(done))
        return done

    def _finish(self) -> None:
        self._watch()
        self._go_on(b"\n")

    def _watch(self) -> None:
        """Take over what the function has written by now."""
        version = self.runtime.version
        if self.runtime.stream != self._stream:
            self._stream = self.runtime.stream
            record = {"initializationType": "on-demand", "phase": "init"}
            about = {"functionName": self.runtime.function_name, "functionVersion": version}
            self._log.platform(self._stream, "initStart", record | about)
        if self._request:
            started = {"requestId": self._request, "version": version}
            self._log.platform(self._stream, "start", started)
            self._request = ""
        self._go_on()

    def _take(self, line: str) -> None:
        for folder in self._folders:  # paths in tracebacks: as from the service's folder
            line = line.replace(f"{folder}/task/", "").replace(f"{folder}/runtime/", "")
        if line.strip():
            self.lines.append(line)
            self._log.write(self._stream, line)


def summary(error: dict[str, Any]) -> tuple[str, str]:
    """Return an error's type, and its text on one line, without the request that Lambda names."""
    text = str(error.get("errorMessage") or "")
    text = text.rpartition(" Error: ")[2] if text.startswith("RequestId: ") else text
    return str(error.get("errorType")), text.partition("\n")[0]


def report(done: Invocation) -> dict[str, Any]:
    """Return the record of a platform.report.

    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
    """
    metrics = {
        "durationMs": round(done.duration, 3),
        "billedDurationMs": math.ceil(done.duration + (done.init_duration or 0)),
        "memorySizeMB": done.memory_size,
        "maxMemoryUsedMB": done.max_memory_used,
    }
    if done.init_duration:
        metrics["initDurationMs"] = round(done.init_duration, 3)
    record: dict[str, Any] = {"requestId": done.request_id, "metrics": metrics}
    if done.error is None:
        return {**record, "status": "success"}
    kind = done.error.get("errorType")
    if kind == "Sandbox.Timedout":
        return {**record, "status": "timeout"}
    return {**record, "status": "error", "errorType": kind}

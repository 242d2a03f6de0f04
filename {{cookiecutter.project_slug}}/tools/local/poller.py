"""One execution environment of the function for each version, fed from the queue by a thread."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tools.errors import explain
from tools.local import working_tree
from tools.local.event_source import Batch, EventSource
from tools.local.log import Log, Outcome, follow
from tools.local.runtime import Invocation, Runtime

if TYPE_CHECKING:
    from tools.local.feed import Feed, Settings

LINES_KEPT = 200  # of the log of one batch, for the page


@dataclass(frozen=True)
class Function:
    """One version of the function, as it is deployed."""

    version: str
    handler: str
    timeout: float
    memory_size: int
    environment: dict[str, str]
    alias: str
    sha256: str
    package: bytes = field(compare=False, repr=False)

    @classmethod
    def of(cls, version: Any, alias: str) -> Function:
        """Take what moto has of a version, for which an alias stands."""
        said = version.get_configuration()
        return cls(
            version=str(version.version),
            handler=said["Handler"],
            timeout=float(said["Timeout"]),
            memory_size=int(said["MemorySize"]),
            environment=dict((said.get("Environment") or {}).get("Variables", {})),
            alias=alias,
            sha256=said["CodeSha256"],
            package=version.code_bytes,
        )


class Environment:
    """An execution environment whose log goes where Lambda's goes."""

    def __init__(self, runtime: Runtime, log: Log) -> None:
        """Take one that is ready for its first process."""
        self.runtime = runtime
        self.lines: list[str] = []  # of the log, since the last invocation began
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
        self.lines, self._request = [], str(uuid.uuid4())
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
            self.lines = [*self.lines[1 - LINES_KEPT :], line]
            self._log.write(self._stream, line)


class Poller(threading.Thread):
    """Feeds the code, as it was at one moment, until it is stopped or a file has changed.

    ended is when it ended by itself, by time.monotonic; 0 as long as it has not.
    """

    def __init__(
        self, feed: Feed, settings: Settings | None, code: working_tree.Snapshot, why: str
    ) -> None:
        """Take what to run; why is said once it does."""
        super().__init__(daemon=True)
        self.ended = 0.0
        self._feed, self._settings, self._code, self._why = feed, settings, code, why
        self._environments: dict[str, Environment] = {}
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._closing = self._working = False
        self._said = {""}
        self._problem = ""

    def stop(self) -> None:
        """Begin no other batch; end at once, unless there is one at work."""
        with self._lock:
            self._stopped.set()
            if self._working:
                return
        self._kill()

    def close(self) -> None:
        """End, whatever is at work."""
        self._closing = True
        self._stopped.set()
        self._kill()

    def run(self) -> None:
        """Import the code, then feed it."""
        try:
            with self._stack:
                self._start()
                if self._settings and self._settings.enabled:
                    self._feed_all(self._settings)
        except Exception as error:
            self._tell(error)
        if not self._stopped.is_set():
            self.ended = time.monotonic()

    def _start(self) -> None:
        settings, began, error = self._settings, time.monotonic(), None
        if settings and settings.newest in settings.shares and self._code.own:
            error = self._environment(settings.newest).start()
        if self._stopped.is_set():
            return
        if error:
            self._say(f"Not running: {error.get('errorType')}. Save again, and it is tried again.")
        elif self._why:
            self._say(f"{self._why} ({time.monotonic() - began:.2f} s)")

    def _feed_all(self, settings: Settings) -> None:
        feed, source = self._feed, None
        while not self._ends():
            try:
                source = source or EventSource(
                    feed.aws.client("sqs", feed.keys),
                    feed.outputs["queue_url"],
                    self._environment(settings.choose()),
                    batch_size=settings.batch_size,
                    report_batch_item_failures=settings.report_batch_item_failures,
                    window=settings.window,
                    retry_with=None if feed.retry is None else feed.aws.client("sqs"),
                    retry_after=feed.retry or 0,
                    stopped=self._ends,
                )
                source.waiting, feed.waiting = feed.waiting + source.waiting, []
                self._poll(source, settings)
                self._problem = ""
            except Exception as error:  # of the local AWS: a queue that is gone, a denial
                self._tell(error)
                self._stopped.wait(1)
        if source:
            feed.waiting += source.waiting

    def _ends(self) -> bool:
        """Tell whether other code is to get the next batch."""
        return self._stopped.is_set() or self._code.stats != working_tree.code_stats()

    def _poll(self, source: EventSource, settings: Settings) -> None:
        messages = source.take(wait=1)
        with self._lock:
            self._working = bool(messages) and not self._ends()
        if not self._working:
            source.waiting = messages + source.waiting
            return
        try:
            environment = self._environment(settings.choose())
            source.function = environment
            self._report(source.work(messages), environment)
        finally:
            self._working = False

    def _environment(self, version: str) -> Environment:
        """Return the one that runs a version."""
        if version not in self._environments:
            feed, settings, code = self._feed, self._settings, self._code
            assert settings
            function = settings.functions[version]
            newest = version == settings.newest
            runtime = Runtime(
                code.dependencies,
                own=code.own if newest else working_tree.own_in(function.package),
                parent=feed.folder,
                handler=function.handler,
                environment={**function.environment, **feed.added},
                timeout=function.timeout,
                memory_size=function.memory_size,
                function_name=feed.outputs["service_name"],
                version=version,
                alias=function.alias,
                region=feed.aws.region,
            )
            opened = self._stack.enter_context(runtime)
            self._environments[version] = Environment(opened, feed.log)
        return self._environments[version]

    def _report(self, batch: Batch, environment: Environment) -> None:
        if self._closing:
            return
        done, ids = batch.outcome, [record["messageId"] for record in batch.records]
        outcome = "processed"
        if done.error:
            outcome = f"failed: {summary(done.error)}"
            self._say(f"ERROR     Invocation {outcome} ({done.figures()})")
        elif batch.failed:
            outcome = f"failed: {len(batch.failed)} of {len(ids)} messages"
        kept = Outcome(time.time(), ids, outcome, done.duration, environment.lines)
        self._feed.recent.append(kept)
        values = {"Invocations": 1, "Errors": int(bool(done.error)), "Throttles": 0}
        dimensions = {"FunctionName": self._feed.outputs["service_name"]}
        put: Callable[..., None] = self._feed.monitoring.put
        for name, value in values.items():
            put("AWS/Lambda", name, dimensions, float(value))
        put("AWS/Lambda", "Duration", dimensions, done.duration, "Milliseconds")
        for text in {done.warning, self._advice()} - self._said:
            self._said.add(text)
            self._say(text)

    def _advice(self) -> str:
        """Say what the code was not allowed to do, if there is anything new."""
        advice = self._feed.aws.permissions.advice()
        if advice:
            self._feed.aws.permissions.record.clear()
        return str(advice)

    def _tell(self, error: Exception) -> None:
        """Show a problem, unless it is the one of before."""
        problem = self._advice() or problem_of(error)
        if problem != self._problem:
            self._say(problem)
        self._problem = problem

    def _say(self, text: str) -> None:
        if not self._closing:
            self._feed.log.say(text)

    def _kill(self) -> None:
        for environment in list(self._environments.values()):
            environment.runtime.kill()


def problem_of(error: Exception) -> str:
    """Say in one line what has failed here, not in the code."""
    return explain(error) or f"{type(error).__name__}: {error}"


def summary(error: dict[str, Any]) -> str:
    """Return an error of Lambda's on one line, without the request that it names."""
    text = str(error.get("errorMessage") or "")
    first = text.rpartition(" Error: ")[2] if text.startswith("RequestId: ") else text
    return ": ".join(filter(None, [str(error.get("errorType")), first.partition("\n")[0]]))


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

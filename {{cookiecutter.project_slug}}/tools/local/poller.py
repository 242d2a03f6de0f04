"""A thread that feeds the function from its queue: one execution environment for each version."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tools.errors import problem_of
from tools.local import working_tree
from tools.local.event_source import Batch, EventSource
from tools.local.execution import ExecutionEnvironment, summary
from tools.local.log import Outcome
from tools.local.runtime import Runtime

if TYPE_CHECKING:
    from tools.local.feed import Feed, Settings

RELOADED = "Reloaded: "  # begins what is said once saved code runs


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


class Poller(threading.Thread):
    """Feeds the code, as it was at one moment, until it is stopped or a file has changed.

    own is the service's own code, and stats its state; dependencies are those of the moment, too.
    ended is when it ended by itself, by time.monotonic; 0 as long as it has not.
    """

    def __init__(
        self,
        feed: Feed,
        settings: Settings | None,
        own: working_tree.Code,
        stats: working_tree.Stats,
    ) -> None:
        """Take what to run."""
        super().__init__(daemon=True)
        self.ended = 0.0
        self._feed, self._settings = feed, settings
        self._own, self._stats, self._dependencies = own, stats, feed.dependencies.folder
        self._environments: dict[str, ExecutionEnvironment] = {}
        self._stack = contextlib.ExitStack()
        self._stopped = threading.Event()
        self._importing, self._closing = True, False
        self._said = {""}
        self._tell = feed.tell_for_poller

    def stop(self) -> None:
        """Begin no other batch; end once the one at work is done."""
        self._stopped.set()
        if self._importing:
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
                while not self._stopped.wait(0.2) and not self._ends():
                    self._give_back()
        except Exception as error:
            self._tell(self._problem(error))
        if not self._stopped.is_set():
            self.ended = time.monotonic()

    def _start(self) -> None:
        settings, began, error = self._settings, time.monotonic(), None
        if settings and settings.newest in settings.shares and self._own:
            error = self._environment(settings, settings.newest).start()
        self._importing = False
        if self._stopped.is_set():
            return
        whys, self._feed.whys = self._feed.whys, []
        for why in whys:
            took = f" ({time.monotonic() - began:.2f} s)"
            self._say(why + (took if why.startswith(RELOADED) and not error else ""))
        if error:
            kind = error.get("errorType")
            self._say(f"The code can't be imported ({kind}): batches fail until you save a fix.")

    def _feed_all(self, settings: Settings) -> None:
        feed, source = self._feed, None
        while not self._ends():
            try:
                source = source or EventSource(
                    feed.sqs,
                    feed.outputs["queue_url"],
                    self._environment(settings, settings.choose()),
                    batch_size=settings.batch_size,
                    report_batch_item_failures=settings.report_batch_item_failures,
                    window=settings.window,
                    retry_with=None if feed.retry is None else feed.sqs_for_retry,
                    retry_after=feed.retry or 0,
                    stopped=self._ends,
                )
                source.waiting = self._left_over() + source.waiting
                self._poll(source, settings)
                self._tell("")
            except Exception as error:  # of the local AWS: a queue that is gone, a denial
                self._tell(self._problem(error))
                self._stopped.wait(1)
        if source:
            feed.waiting.extend(source.waiting)

    def _left_over(self) -> list[dict[str, Any]]:
        """Return what other pollers have received and not handed on: they may add to it now."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._feed.waiting.popleft())
        return found

    def _give_back(self) -> None:
        """Show what was received just before a pause to others again."""
        for message in self._left_over():
            self._feed.sqs_for_retry.change_message_visibility(
                QueueUrl=self._feed.outputs["queue_url"],
                ReceiptHandle=message["ReceiptHandle"],
                VisibilityTimeout=0,
            )

    def _ends(self) -> bool:
        """Tell whether other code is to get the next batch."""
        return self._stopped.is_set() or self._stats != working_tree.code_stats()

    def _poll(self, source: EventSource, settings: Settings) -> None:
        messages = source.take(wait=1)
        if not messages or self._ends():
            source.waiting = messages + source.waiting
            return
        environment = self._environment(settings, settings.choose())
        source.function = environment
        self._report(source.work(messages), environment)

    def _environment(self, settings: Settings, version: str) -> ExecutionEnvironment:
        """Return the one that runs a version."""
        if version not in self._environments:
            feed = self._feed
            function = settings.functions[version]
            newest = version == settings.newest
            runtime = Runtime(
                self._dependencies,
                own=self._own if newest else working_tree.own_in(function.package),
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
            self._environments[version] = ExecutionEnvironment(opened, feed.log)
        return self._environments[version]

    def _report(self, batch: Batch, environment: ExecutionEnvironment) -> None:
        if self._closing:
            return
        done, ids = batch.outcome, [record["messageId"] for record in batch.records]
        outcome = "processed"
        if done.error:
            outcome = "failed: " + ": ".join(filter(None, summary(done.error)))
            first, text = summary(done.error)
            shown = first if any(text in line for line in environment.lines) else outcome[8:]
            self._say(f"ERROR     Invocation failed: {shown} ({done.figures()})")
        elif batch.failed:
            outcome = f"failed: {len(batch.failed)} of {len(ids)} messages"
        kept = Outcome(time.time(), ids, outcome, done.duration, [*environment.lines])
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

    def _problem(self, error: Exception) -> str:
        """Say what went wrong; nothing when it is because of the end."""
        return "" if self._closing else self._advice() or problem_of(error)

    def _say(self, text: str) -> None:
        if not self._closing:
            self._feed.log.say(text)

    def _kill(self) -> None:
        for environment in list(self._environments.values()):
            environment.runtime.kill()

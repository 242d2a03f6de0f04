"""Feeds the function from its queue while `make local` runs, as the local AWS is set up to.

The newest version is the working tree's code; an older one, after a rollback or by the alias's
weights, is what was deployed. What counts is looked up all the time: the mapping (state, batch
size, window), the alias with its weights, and each version's timeout, memory, environment, handler.
Any change, and any save, makes a new execution environment, while an invocation in the old one goes
on to its end, as on AWS. There is one at a time, whatever maximum_concurrency allows.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from moto.backends import get_backend

from tools.build.package import remove
from tools.errors import ToolError, problem_of
from tools.local import working_tree
from tools.local.log import Log, Outcome
from tools.local.poller import RELOADED, Function, Poller
from tools.local.running import FOLDER
from tools.local.working_tree import Dependencies

KEPT = 50  # outcomes, for the page
PAUSED = "Paused: messages wait in the queue until `make resume ENV=local`."
GONE = (
    "Nothing feeds the code any more: `make plan ENV=local`, then `make apply ENV=local`, deploy "
    "it again. If it has another name now, start `make local` again."
)
# A poller that has ended by itself, and that no save follows, begins again after so many seconds.
AGAIN_AFTER = 2.0


@dataclass(frozen=True)
class Settings:
    """What the local AWS says of the feed; functions are by version, and shares of the batches."""

    enabled: bool
    batch_size: int
    window: int
    report_batch_item_failures: bool
    newest: str
    shares: dict[str, float]
    functions: dict[str, Function]

    def choose(self) -> str:
        """Return the version that gets the next batch."""
        return random.choices([*self.shares], [*self.shares.values()])[0]  # noqa: S311


class Feed:
    """Feeds the function; see the module. recent is the last batches, the newest last."""

    SHORTEST_RETRY = 1  # seconds

    def __init__(
        self,
        aws: Any,
        outputs: dict[str, str],
        added: dict[str, str],
        log: Log,
        monitoring: Any,
        retry: int | None,
    ) -> None:
        """Take what is deployed, and what its code gets of environment variables besides.

        :param retry: seconds after which failed messages are visible again; None: as on AWS.
        """
        self.aws, self.outputs, self.log, self.monitoring = aws, outputs, log, monitoring
        self.retry = retry
        self.recent: deque[Outcome] = deque(maxlen=KEPT)
        self.waiting: deque[dict[str, Any]] = deque()  # received, for the next poller
        self.whys: list[str] = []  # to be said once the next poller's code runs
        self.folder = (FOLDER / "code").absolute()
        self.keys = aws.grant(outputs["role_arn"])
        self.added = {"AWS_ENDPOINT_URL": aws.url, "LOCAL_RUN": "1", **self.keys, **added}
        # The event source may do what the role may; that a message comes back early is not AWS's.
        self.sqs, self.sqs_for_retry = aws.client("sqs", self.keys), aws.client("sqs")
        self.dependencies = Dependencies(self.folder)
        self._stats: working_tree.Stats = {}
        self._pollers: list[Poller] = []
        self._settings: Settings | None = None
        self._tell, self.tell_for_poller = log.once(), log.once()

    @property
    def code(self) -> dict[str, str]:
        """Return the environment variables of the code as it is deployed."""
        settings = self._settings
        if settings is None:
            return self.added
        version = max(settings.shares, key=lambda one: settings.shares[one])
        return {**settings.functions[version].environment, **self.added}

    def start(self) -> None:
        """Begin."""
        remove(self.folder)  # of a run that was killed
        self.folder.mkdir(parents=True)
        self.dependencies.update()
        self._settings = self._read()
        self._stats = working_tree.code_stats()
        self._begin()

    def look(self) -> None:
        """Take over what has changed in the local AWS; the main loop calls this all the time."""
        self._pollers = [one for one in self._pollers if one.is_alive() or one is self._current]
        settings: Settings | None = None
        problem = ""
        try:
            settings = self._read()
        except Exception as error:  # what is deployed may be gone, or half changed
            problem = problem_of(error)
        self._tell(problem)
        if settings != self._settings:
            before, self._settings = self._settings, settings
            self._begin(difference(before, settings))
        elif (ended := self._current.ended) and time.monotonic() - ended > AGAIN_AFTER:
            self._begin()

    def reload(self) -> None:
        """Run the code as it is saved now."""
        self.look()
        before = self.dependencies.folder
        try:
            self.dependencies.update()
        except ToolError as error:
            self.log.say(f"Still using the earlier dependencies: {error}")
        if self._settings and self._settings.newest not in self._settings.shares:
            live = ", ".join(self._settings.shares)
            self.log.say(f"Version {live} is live, so the code that you saved doesn't run.")
        if self.dependencies.folder != before:
            self._begin(RELOADED + "the dependencies")
        elif self._current.ended or self._stats != working_tree.code_stats():
            self._begin()

    def close(self) -> None:
        """End all that was started."""
        for poller in self._pollers:
            poller.close()
        for poller in self._pollers:
            poller.join(2)
        remove(self.folder)

    @property
    def _current(self) -> Poller:
        return self._pollers[-1]

    def _begin(self, why: str = "") -> None:
        """Put a new poller in the last one's place; why, and what was saved, is said by it."""
        for poller in self._pollers:
            poller.stop()
        before, self._stats = self._stats, working_tree.code_stats()
        if why:
            self.whys.append(why)
        if names := working_tree.changed(before, self._stats):
            self.whys.append(RELOADED + ", ".join(names))
        if why or names:  # not if it only tries again
            self.tell_for_poller = self.log.once()
        try:
            own = working_tree.own()
        except (ToolError, OSError) as error:
            self.log.say(f"Not reloaded: {error}")
            own = {}
        poller = Poller(self, self._settings, own, self._stats)
        self._pollers.append(poller)
        poller.start()

    def _read(self) -> Settings:
        """Ask the local AWS, from inside: this is done too often for requests."""
        _, _, _, region, account, _, name = self.outputs["service_arn"].split(":")
        backend = get_backend("lambda")[account][region]
        mappings = [*backend.list_event_source_mappings(self.outputs["queue_arn"], "")]
        if not mappings:
            raise ToolError(GONE)
        mapping = mappings[0].get_configuration()
        qualifier = mapping["FunctionArn"].split(":")[7]
        alias = backend.get_alias(qualifier, name)
        routing: Any = alias.routing_config or {}
        weights = routing.get("AdditionalVersionWeights") or {}
        shares = {alias.function_version: 1 - sum(weights.values()), **weights}
        versions = {str(one.version): one for one in backend.list_versions_by_function(name)}
        newest = max(versions.keys() - {"$LATEST"}, key=int)
        return Settings(
            enabled=mapping["State"] == "Enabled",
            batch_size=mapping["BatchSize"],
            window=mapping.get("MaximumBatchingWindowInSeconds") or 0,
            report_batch_item_failures="ReportBatchItemFailures"
            in (mapping.get("FunctionResponseTypes") or []),
            newest=newest,
            shares={version: share for version, share in shares.items() if share > 0},
            functions={version: Function.of(versions[version], qualifier) for version in shares},
        )


def difference(before: Settings | None, now: Settings | None) -> str:
    """Say what has changed in the local AWS."""
    if now is None:
        return ""
    if before is None or before.enabled != now.enabled:
        return "Taking messages from the queue." if now.enabled else PAUSED
    if before.shares != now.shares:
        shares = ", ".join(f"version {v} ({s:.0%})" for v, s in now.shares.items())
        return f"Live: {shares}."
    return "What is deployed has changed: a new process runs the code."

"""Carries a mix of messages with faults through a deployed chain: producer and event source.

One thread publishes, receives and deletes; as many functions as the mapping's maximum concurrency
work at the same time, each in a process of its own. A second thread at the queues would bring in
faults of the local AWS, which is not made for it, and none of SQS's.
"""

import functools
import itertools
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from tools.local.event_source import REQUEST_LIMIT, EventSource, failures
from tools.local.runtime import Invocation, Runtime
from tools.local.server import LocalAws

from .ledger import Ledger
from .messages import (
    AGAIN,
    DEAD,
    ENVELOPE,
    RELEASE,
    THROTTLED,
    TOPIC,
    Fault,
    Message,
    envelope,
)

# Messages that are published and not finished with: the local AWS looks at every message in a queue
# for each receive.
BACKLOG = 200

# Seconds for which a message is invisible while it is processed: as long as that takes on a busy
# machine, where starting a process alone can take longer than the queue's visibility timeout.
HIDDEN = 3600

# Seconds after which a message that failed comes back. On AWS that takes the queue's visibility
# timeout, six times the function's or more; retries, counts and dead letters are the same. After a
# function was killed or timed out, the test waits for that timeout, too: nothing could return the
# messages sooner.
HAND_BACK = 1

# A whole batch is lost only while each of its messages has had at most this many receives of five,
# so that no message ends up in the dead-letter queue only because of other messages' faults.
YOUNG = 2

POLL_EVERY = 0.3  # seconds, when the queue has no more
SAY_EVERY = 10  # seconds


@dataclass(frozen=True)
class Chain:
    """A deployed service: its topic, queues, function and event source mapping.

    function and mapping are Lambda's GetFunctionConfiguration and ListEventSourceMappings.
    package is what runs, broken_package one that can't be imported.
    """

    aws: LocalAws
    topic_arn: str
    queue_url: str
    dead_letter_queue_url: str
    undelivered_queue_url: str
    max_receive_count: int
    function: dict[str, Any]
    mapping: dict[str, Any]
    package: Path
    broken_package: Path


@dataclass(frozen=True)
class Delivery:
    """One time that a message was handed to the function, or would have been.

    verdict: done (and deleted), kept (done, but the deletion is lost), failed (the function named
    it), held (the function handed it back without trying it), lost (with its batch). reason is what
    the function logged or what ended it; of a message that was held, the one that it waits for.
    """

    name: str
    batch: int
    receive_count: int
    verdict: str
    reason: str = ""


@dataclass
class Traffic:
    """All that was seen of a mix of messages."""

    deliveries: dict[str, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    refused: set[str] = field(default_factory=set)
    batches: Counter[str] = field(default_factory=Counter)  # by what became of the whole
    dead_letters: list[str] = field(default_factory=list)
    undelivered: list[str] = field(default_factory=list)
    in_order: list[tuple[str, int]] = field(default_factory=list)  # effects: event and batch
    sent: list[str] = field(default_factory=list)  # in order
    contents: dict[int, list[str]] = field(default_factory=dict)  # of each batch, in order
    ended: dict[str, int] = field(default_factory=dict)  # effects before a last receive was over
    seconds: float = 0

    @functools.cached_property
    def effects(self) -> Counter[tuple[str, int]]:
        """Return how often each event had its effect, by event id and batch."""
        return Counter(self.in_order)


class DeadlineError(Exception):
    """The messages were not finished in time; says which are missing."""


Say = Callable[[str], None]

# What becomes of a whole batch.
KILLED, TIMED_OUT, IMPORT_ERROR = "killed", "timed out", "import error"

# How SNS and SQS refuse a message for its size.
TOO_LARGE = ("InvalidParameter", "InvalidParameterValue")

# The service's event source only receives; the slots run the function.
NOBODY: Any = None


def carry(
    chain: Chain,
    messages: Sequence[Message],
    folder: Path,
    *,
    deadline: float,
    say: Say,
    hand_back: int = HAND_BACK,
    backlog: int = BACKLOG,
) -> Traffic:
    """Publish the messages, and process the queue until it is empty.

    :param folder: an empty one, for the function's ledger.
    :param deadline: seconds.
    :param hand_back: seconds after which a message that failed comes back.
    :param backlog: messages that are published and not finished with, at most.
    :raises DeadlineError: it takes longer.
    """
    ledger = Ledger(folder / "ledger.sqlite")
    with ExitStack() as stack:
        stack.callback(ledger.close)
        slots = [
            stack.enter_context(_Slot(chain, number, ledger))
            for number in range(chain.mapping["ScalingConfig"]["MaximumConcurrency"])
        ]
        executor = stack.enter_context(ThreadPoolExecutor(len(slots)))
        run = _Run(chain, messages, ledger, slots, executor, say, hand_back, backlog)
        run.until_done(deadline)
        run.traffic.in_order = ledger.in_order()
    return run.traffic


class _Slot:
    """One execution environment: the release that is deployed, in its own process."""

    def __init__(self, chain: Chain, number: int, ledger: Ledger) -> None:
        self.chain = chain
        self.number = number
        self.environment = {
            **chain.function["Environment"]["Variables"],
            "AWS_ENDPOINT_URL": chain.aws.url,
            "SOAK_LEDGER": str(ledger.path),
            "SOAK_SLOT": str(number),
        }
        self.runtime: Runtime | None = None

    def __enter__(self) -> "_Slot":
        return self

    def __exit__(self, *_: object) -> None:
        if self.runtime:
            self.runtime.__exit__()

    def runs(self, package: Path) -> bool:
        """Tell whether it runs this release."""
        return self.runtime is not None and self.runtime.package == package

    def invoke(self, package: Path, records: list[dict[str, Any]]) -> Invocation:
        """Hand a batch to a release's function; a new release is a new process."""
        if self.runtime is None or not self.runs(package):
            self.__exit__()
            function = self.chain.function
            self.runtime = Runtime(
                package,
                handler=function["Handler"],
                environment=self.environment,
                timeout=function["Timeout"],
                memory_size=function["MemorySize"],
                function_name=function["FunctionName"],
                region=self.chain.aws.region,
            ).__enter__()
        return self.runtime.invoke({"Records": records})


Batch = tuple[int, list[dict[str, Any]]]  # its number, and messages of ReceiveMessage


class _Run:
    def __init__(
        self,
        chain: Chain,
        messages: Sequence[Message],
        ledger: Ledger,
        slots: list[_Slot],
        executor: ThreadPoolExecutor,
        say: Say,
        hand_back: int,
        backlog: int,
    ) -> None:
        self.chain = chain
        self.ledger = ledger
        self.free = deque(slots)
        self.executor = executor
        self.say = say
        self.hand_back = hand_back
        self.backlog = backlog
        self.sns, self.sqs = chain.aws.client("sns"), chain.aws.client("sqs")
        self.source = EventSource(
            self.sqs,
            chain.queue_url,
            NOBODY,
            batch_size=chain.mapping["BatchSize"],
            report_batch_item_failures=True,
        )
        queue = self.sqs.get_queue_attributes(
            QueueUrl=chain.queue_url, AttributeNames=["VisibilityTimeout"]
        )
        self.visibility_timeout = int(queue["Attributes"]["VisibilityTimeout"])
        self.known = {message.name: message for message in messages}
        self.unpublished = deque(messages)
        self.published = self.open = 0
        self.waiting: list[dict[str, Any]] = []  # received, not yet in a batch
        self.window_ends = self.poll_at = 0.0
        self.working: dict[Future[Invocation], tuple[_Slot, Batch]] = {}
        self.struck: set[str] = set()  # messages whose fault at the event source is over
        self.numbers = 0
        self.traffic = Traffic()

    def until_done(self, deadline: float) -> None:
        """Go on until everything is published and the queue is empty."""
        started = said = time.monotonic()
        empty = 0
        while True:
            now = time.monotonic()
            self.traffic.seconds = now - started
            if now - said > SAY_EVERY:
                said = now
                self.say(self._progress())
            if now - started > deadline:
                raise DeadlineError(f"After {deadline:g} s: {self._progress()}{self._missing()}")
            self._publish()
            self._receive()
            while self.free and (taken := self._batch()):
                self._start(*taken)
            patience = 0 if self.unpublished and self.open < self.backlog else 0.02
            for future in wait(self.working, patience, FIRST_COMPLETED).done:
                slot, batch = self.working.pop(future)
                self.free.append(slot)
                self._finish(batch, future.result())
            if self.unpublished or self.waiting or self.working:
                empty = 0
                continue
            # Both counts are approximate: a message that becomes visible in between is in neither.
            empty = empty + 1 if depth(self.sqs, self.chain.queue_url) == 0 else 0
            if empty == 3:
                break
            time.sleep(POLL_EVERY)
        self.traffic.dead_letters = self._names(self.chain.dead_letter_queue_url)
        self.traffic.undelivered = self._names(self.chain.undelivered_queue_url)

    def _progress(self) -> str:
        lost = sum(self.traffic.batches.values()) - self.traffic.batches["returned"]
        return (
            f"{self.traffic.seconds:.0f} s: {self.published} of {len(self.known)} sent, "
            f"{self.open} not done with, {self.numbers} batches, {lost} of them lost"
        )

    def _missing(self) -> str:
        missing = [
            name
            for name in self.known
            if not any(d.verdict == "done" for d in self.traffic.deliveries[name])
            and len(self.traffic.deliveries[name]) < self.chain.max_receive_count
            and self.known[name].meets.arrives
        ]
        return f"; not done with: {', '.join(missing[:20])}{' …' if len(missing) > 20 else ''}"

    ##### The producer

    def _publish(self) -> None:
        """Publish ten messages by the same route, if few enough are open; large ones alone."""
        if not self.unpublished or self.open >= self.backlog:
            return
        first = self.unpublished[0]
        group = [
            message
            for message in itertools.islice(self.unpublished, 50)
            if message.route == first.route and len(message.body) < 10_000
        ][:10]
        group = group if first in group else [first]
        for message in group:
            self.unpublished.remove(message)
            self.open += message.meets.arrives
            self.traffic.sent.append(message.name)
        self.published += len(group)
        to_topic = first.route == TOPIC
        entries = []
        for number, message in enumerate(group):
            attributes, body = message.attributes, message.body
            if message.route == ENVELOPE:
                attributes, body = {}, envelope(message)
            entries.append(
                {
                    "Id": str(number),
                    "Message" if to_topic else "MessageBody": body,
                    "MessageAttributes": {
                        name: {"DataType": "String", "StringValue": value}
                        for name, value in attributes.items()
                    },
                    **message.in_group,
                }
            )
        try:
            if len(entries) == 1:
                del entries[0]["Id"]
                if to_topic:
                    self.sns.publish(TopicArn=self.chain.topic_arn, **entries[0])
                else:
                    self.sqs.send_message(QueueUrl=self.chain.queue_url, **entries[0])
                return
            if to_topic:
                answer = self.sns.publish_batch(
                    TopicArn=self.chain.topic_arn, PublishBatchRequestEntries=entries
                )
            else:
                answer = self.sqs.send_message_batch(QueueUrl=self.chain.queue_url, Entries=entries)
        except ClientError as error:
            if error.response["Error"]["Code"] not in TOO_LARGE:
                raise
            self.traffic.refused |= {message.name for message in group}
        else:
            assert not answer.get("Failed"), answer["Failed"]

    ##### The event source

    def _receive(self) -> None:
        """Receive what one batch has room for, as soon as a function is free for it."""
        size = self.chain.mapping["BatchSize"]
        room = min(REQUEST_LIMIT, size - len(self.waiting))
        now = time.monotonic()
        if not self.free or room <= 0 or now < self.poll_at:
            return
        received = self.source.receive(room, VisibilityTimeout=HIDDEN)
        if len(received) < room:
            self.poll_at = now + POLL_EVERY
        if received and not self.waiting:
            window = self.chain.mapping.get("MaximumBatchingWindowInSeconds", 0)
            self.window_ends = time.monotonic() + window
        self.waiting += received

    def _batch(self) -> tuple[Batch, str, bool] | None:
        """Take a batch from what is waiting, if one is complete, and decide what befalls it.

        Which messages share a batch is chance. So that each fault strikes, those that take a batch
        with them wait for the next one where a neighbour has had too many tries to lose another;
        their groups wait with them. Where that neighbour is of their own group, they don't strike.

        :returns: the batch; throttled, the release that can't be imported, or "" for neither; and
            whether the function may die or hang of it.
        """
        full = len(self.waiting) >= self.chain.mapping["BatchSize"]
        if not self.waiting or not (full or time.monotonic() >= self.window_ends):
            return None
        old = {self._unit(m) for m in self.waiting if not self._may_be_lost(m)}
        wait = {self._unit(m) for m in self.waiting if old and self._strikes(m)} - old
        may_strike = not old
        later = [m for m in self.waiting if self._unit(m) in wait]
        batch = [message for message in self.waiting if message not in later]
        self.waiting = later
        self.numbers += 1
        befalls = ""
        for fault in (THROTTLED, RELEASE):
            names = {name_of(m) for m in batch if self._strikes(m) and self._fault(m) == fault}
            if names and may_strike:
                self.struck |= names
                befalls = fault
                break
        return (self.numbers, batch), befalls, may_strike

    def _fault(self, message: dict[str, Any]) -> str:
        return self.known[name_of(message)].fault

    def _meets(self, message: dict[str, Any]) -> Fault:
        return self.known[name_of(message)].meets

    def _unit(self, message: dict[str, Any]) -> str:
        """Return what must stay together: a message's group, or the message itself."""
        return self.known[name_of(message)].group or str(message["MessageId"])

    def _strikes(self, message: dict[str, Any]) -> bool:
        """Tell whether a message will take its batch with it."""
        strikes = self._meets(message).strikes and name_of(message) not in self.struck
        return strikes and count_of(message) <= YOUNG

    def _may_be_lost(self, message: dict[str, Any]) -> bool:
        """Tell whether a message can lose this receive and still has enough for its own fault."""
        if self._meets(message).ends == DEAD:
            return count_of(message) < self.chain.max_receive_count
        return count_of(message) <= YOUNG

    def _start(self, batch: Batch, befalls: str, may_strike: bool) -> None:
        """Hand a batch to a free function."""
        number, messages = batch
        self.traffic.contents[number] = [name_of(message) for message in messages]
        if befalls == THROTTLED:
            self._lose(batch, "throttled", self.hand_back)
            return
        package = self.chain.broken_package if befalls == RELEASE else self.chain.package
        # Another release is another process, which takes time to start.
        slot = next((slot for slot in self.free if slot.runs(package)), self.free[0])
        self.free.remove(slot)
        self.ledger.announce(slot.number, number, may_strike)
        records = [self.source.record(message) for message in messages]
        self.working[self.executor.submit(slot.invoke, package, records)] = slot, batch

    def _finish(self, batch: Batch, outcome: Invocation) -> None:
        """Delete what succeeded, and note for each message what became of it."""
        number, messages = batch
        if outcome.error is not None:
            reason = ended(outcome.error)
            if reason in (KILLED, TIMED_OUT):
                # The first of them did it; the function never got to the others.
                self.struck |= set([name_of(m) for m in messages if self._strikes(m)][:1])
            waits = reason in (KILLED, TIMED_OUT)
            self._lose(batch, reason, self.visibility_timeout if waits else self.hand_back)
            return
        self.traffic.batches["returned"] += 1
        failed = failures(outcome, [m["MessageId"] for m in messages], True)
        failures_logged = stated(outcome.logs, "Message failed", "error")
        held_logged = stated(outcome.logs, "Message held back", "waits_for")
        names = {message["MessageId"]: name_of(message) for message in messages}
        done, back = [], []
        kept: set[str] = set()  # groups: what follows a message that isn't deleted isn't, either
        for message in messages:
            name, count, own_id = name_of(message), count_of(message), message["MessageId"]
            group = self.known[name].group
            if own_id in failed:
                verdict, reason = "failed", failures_logged.get(own_id, "")
                if own_id in held_logged:
                    verdict, reason = "held", names.get(held_logged[own_id], "")
                back.append(message)
                if count >= self.chain.max_receive_count:
                    self._end(message)
            elif group in kept or self._stays(message, messages):
                self.struck.add(name)
                kept |= {group} if group else set()
                verdict, reason = "kept", ""
                back.append(message)
            else:
                verdict, reason = "done", ""
                done.append(message)
                self.open -= 1
            self.traffic.deliveries[name].append(Delivery(name, number, count, verdict, reason))
        self._delete(done)
        self._hand_back(back, self.hand_back)

    def _stays(self, message: dict[str, Any], batch: list[dict[str, Any]]) -> bool:
        """Tell whether the deletion of a message is lost, with those behind it in its group."""
        group = self.known[name_of(message)].group
        others = [m for m in batch if group and self.known[name_of(m)].group == group]
        return (
            self._fault(message) == AGAIN
            and count_of(message) <= YOUNG
            and name_of(message) not in self.struck
            and all(count_of(other) < self.chain.max_receive_count for other in others)
        )

    def _lose(self, batch: Batch, reason: str, hidden: int) -> None:
        """Leave a whole batch in the queue, hidden for some more seconds."""
        number, messages = batch
        self.traffic.batches[reason] += 1
        for message in messages:
            name, count = name_of(message), count_of(message)
            if count >= self.chain.max_receive_count:
                self._end(message)
            self.traffic.deliveries[name].append(Delivery(name, number, count, "lost", reason))
        self._hand_back(messages, hidden)

    def _end(self, message: dict[str, Any]) -> None:
        """Note that a message was received for the last time, and will be a dead letter."""
        self.open -= 1
        self.traffic.ended[name_of(message)] = self.ledger.count()

    def _delete(self, messages: list[dict[str, Any]]) -> None:
        for entries in _by_ten(messages):
            answer = self.sqs.delete_message_batch(QueueUrl=self.chain.queue_url, Entries=entries)
            assert not answer.get("Failed"), answer["Failed"]

    def _hand_back(self, messages: list[dict[str, Any]], hidden: int) -> None:
        for entries in _by_ten(messages, VisibilityTimeout=hidden):
            answer = self.sqs.change_message_visibility_batch(
                QueueUrl=self.chain.queue_url, Entries=entries
            )
            assert not answer.get("Failed"), answer["Failed"]

    def _names(self, queue_url: str) -> list[str]:
        """Take all messages from a queue, and return their names."""
        source = EventSource(
            self.sqs, queue_url, NOBODY, batch_size=REQUEST_LIMIT, report_batch_item_failures=True
        )
        names: list[str] = []
        while messages := source.receive(REQUEST_LIMIT):
            names += [name_of(message) for message in messages]
            for entries in _by_ten(messages):
                self.sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)
        return names


def _by_ten(messages: list[dict[str, Any]], **more: Any) -> Iterator[list[dict[str, Any]]]:
    """Return entries for SQS's requests for up to ten messages."""
    for start in range(0, len(messages), 10):
        yield [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], **more}
            for number, message in enumerate(messages[start : start + 10])
        ]


def name_of(message: dict[str, Any]) -> str:
    """Return the name that a producer gave a message of ReceiveMessage: its correlation_id."""
    attributes = message.get("MessageAttributes")
    if attributes is None:
        wrapped = json.loads(message["Body"])["MessageAttributes"]
        return str(wrapped["correlation_id"]["Value"])
    return str(attributes["correlation_id"]["StringValue"])


def count_of(message: dict[str, Any]) -> int:
    """Return how often a message of ReceiveMessage has been received."""
    return int(message["Attributes"]["ApproximateReceiveCount"])


def depth(sqs: Any, queue_url: str) -> int:
    """Return how many messages a queue holds, including those in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return sum(int(queue["Attributes"][name]) for name in names)


def ended(error: dict[str, Any]) -> str:
    """Return what ended an invocation, in words."""
    kind, text = error["errorType"], error["errorMessage"]
    if kind == "Sandbox.Timedout":
        return TIMED_OUT
    if kind == "Runtime.ExitError" and "signal: killed" in text:
        return KILLED
    return IMPORT_ERROR if kind == "Runtime.ImportModuleError" else f"{kind}: {text}"


def stated(logs: str, message: str, key: str) -> dict[str, str]:
    """Return what the function logged under a key for each message id, in lines with a message."""
    found: dict[str, str] = {}
    for line in logs.splitlines():
        with suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("message") == message:
                found[entry["message_id"]] = entry.get(key, "")
    return found

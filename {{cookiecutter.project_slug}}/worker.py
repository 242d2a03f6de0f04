"""Feeds the handler from the queue: on Fargate, this does what Lambda's event source mapping does.

It runs until SIGTERM.

Each poller is a thread with a process of its own in which the handler runs. The thread receives a
batch, hands it to that process, extends the messages' visibility timeout while the handler works,
and deletes those that succeeded, by Lambda's rules. So a handler may block, exit or be killed: the
thread that holds its messages carries on. A message is deleted when it has been processed and not
before: whatever happens to a process, a task or the network, the message becomes visible in the
queue again after the visibility timeout.

A FIFO queue gives the messages of a group to one poller at a time, until their visibility timeout
is over. If it can't be extended, the handler is killed before that: otherwise it would go on with a
group that another task may have received by then.
"""

import base64
import contextlib
import importlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from time import monotonic
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

# All times are in seconds; points in time are monotonic()'s.
LONG_POLL = 20  # SQS's maximum
MAX_IN_FLIGHT = 43_200  # SQS hides a message for 12 hours from its receipt, extensions included
MAX_TIMEOUT = 42_600  # leaves ten minutes of these for deleting and stopping
MAX_BACKOFF = 60  # between retries while the handler can't start or the queue can't be read
MAX_BACKOFF_AFTER_BATCH = 10  # after a batch that failed as a whole: others have to go on
KILL_BEFORE = 10  # the end of a FIFO queue's visibility timeout; at most a third of it
START_TIMEOUT = 120  # for importing the handler
STUCK_AFTER = 180  # without progress; three attempts of a request on a dead network take 110
MAX_REMEMBERED = 100_000  # ids of messages that succeeded and could not be deleted
TICK = 1  # between looks at everything that is waited for
NEVER, FOREVER = float("-inf"), float("inf")

# Task scale-in protection. AWS doesn't say how soon ECS stops a task that has given it up.
PROTECTED_FOR = 3600  # it expires then, unless it is renewed
RELEASE_WHEN_IDLE_FOR = 10  # so that short batches don't switch it on and off
RELEASE_AFTER = 900  # under constant load: a deployment can't wait forever
REST = 30  # without protection, for ECS to stop the task

# Touched every second as long as one poller makes progress; ECS's health check looks at its age.
HEALTH_FILE = Path(tempfile.gettempdir()) / "worker-health"

# The environment's numbers: minimum, maximum, and what they are.
NUMBERS = {
    "BATCH_SIZE": (1, 10, "messages per batch"),
    "POLLERS": (1, 100, "batches that are processed at the same time"),
    "VISIBILITY_TIMEOUT": (3, MAX_IN_FLIGHT, "the queue's, in seconds"),
    "TIMEOUT": (1, MAX_TIMEOUT, "seconds that a batch may take"),
    "STOP_TIMEOUT": (2, 120, "seconds between SIGTERM and SIGKILL, ECS's stopTimeout"),
}

logger = Logger(
    json_serializer=json.JSONEncoder(default=str, separators=(",", ":")).encode, use_rfc3339=True
)

# Warnings, and what libraries log, get the same format.
logging.captureWarnings(True)
logging.getLogger("py.warnings").handlers = [logger.registered_handler]
logging.lastResort = logger.registered_handler

CHANGE_VISIBILITY = "change_message_visibility_batch"

GIVEN_UP = "The visibility timeout can't be extended: the batch was given up to keep the order"

Message = dict[str, Any]
AwsError = (BotoCoreError, ClientError, ResponseParserError)


class SettingsError(Exception):
    """What is wrong with the environment variables, a sentence each."""


class HandlerError(Exception):
    """The handler did not respond as it must; `keys` are for the log."""

    def __init__(self, message: str, **keys: Any) -> None:
        super().__init__(message)
        self.keys = keys


class Stopping(Exception):  # noqa: N818 - not an error
    """The worker stops, and what it was waiting for isn't finished."""


@dataclass(frozen=True)
class Settings:
    """The environment variables; Terraform sets them in the task definition."""

    queue_url: str
    region: str
    batch_size: int
    pollers: int
    visibility_timeout: int
    timeout: int
    stop_timeout: int
    ecs_agent_uri: str

    @property
    def grace_period(self) -> float:
        """Return how long batches may go on after SIGTERM; the rest is for returning them."""
        return self.stop_timeout - min(5, self.stop_timeout / 2)

    @property
    def fifo(self) -> bool:
        """Tell whether the queue keeps the order of each message group."""
        return self.queue_url.endswith(".fifo")

    @property
    def long_poll(self) -> int:
        """Return how long a ReceiveMessage waits: it must end before the grace period does."""
        return max(1, min(LONG_POLL, int(self.grace_period)))


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises SettingsError with all problems."""
    problems = []
    queue_url = environment.get("QUEUE_URL", "")
    if not queue_url.startswith(("https://", "http://")):
        problems.append(f"QUEUE_URL is {queue_url!r}, and must be the queue's URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
    if not region:
        problems.append("neither AWS_REGION nor AWS_DEFAULT_REGION is set")
    numbers = {}
    for name, (minimum, maximum, meaning) in NUMBERS.items():
        value = environment.get(name, "")
        if value.isascii() and value.isdigit() and minimum <= int(value) <= maximum:
            numbers[name.lower()] = int(value)
        else:
            rule = f"a whole number from {minimum} to {maximum}: {meaning}"
            problems.append(f"{name} is {value!r}, and must be {rule}")
    if problems:
        raise SettingsError(*problems)
    agent = environment.get("ECS_AGENT_URI", "")
    return Settings(queue_url, region, **numbers, ecs_agent_uri=agent)


# ---- the handler, in a process of its own ------------------------------------------------------


@dataclass(frozen=True)
class Context:
    """What Lambda gives the handler besides the event, as far as it exists here."""

    aws_request_id: str
    deadline: float  # of time.time()
    function_name: str
    invoked_function_arn: str = ""
    memory_limit_in_mb: str = ""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds that are left of TIMEOUT."""
        return max(0, int((self.deadline - time.time()) * 1000))


def serve(connection: Connection) -> None:
    """Import the handler, report that it is ready, and serve it until the worker hangs up."""
    with contextlib.suppress(EOFError, OSError):
        try:
            handler = importlib.import_module("handler").handler
        except BaseException as error:  # no message is in flight yet: its text holds no payload
            connection.send_bytes(json.dumps({**describe(error), "text": str(error)}).encode())
            return
        connection.send_bytes(b'{"response":null}')
        while True:
            request = json.loads(connection.recv_bytes())
            context = Context(request["id"], request["deadline"], os.environ.get("SERVICE", ""))
            try:
                answer = json.dumps({"response": handler(request["event"], context)})
            except SystemExit:  # not a message's: it ends the process, as it does on Lambda
                raise
            except BaseException as error:
                answer = json.dumps(describe(error))
            connection.send_bytes(answer.encode())


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception's type and stack. Its text may quote the payload, so it stays here."""
    stack = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]
    return {"error": type(error).__name__, "stack": places}


class HandlerProcess:
    """The process in which the handler runs: started when needed, and again after it has ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None  # None: not running
        self.connection: Connection  # the worker's end of the pipe to it; set by start
        self.busy = False  # it has a batch

    def start(self, heartbeat: Callable[[], None]) -> None:
        """Make sure that it runs and has imported the handler. Raises HandlerError."""
        if self.process is not None and self.process.poll() is None:
            return
        self.kill()
        self.connection, theirs = Pipe()
        with theirs:
            # A session of its own, so that what the handler starts ends with it.
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, __file__, "handler", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._wait_for_response(monotonic() + START_TIMEOUT, heartbeat)
        except HandlerError:
            self.kill()
            raise

    def invoke(self, event: object, timeout: float, heartbeat: Callable[[], None]) -> Any:
        """Hand an event to the handler; return its response.

        :param timeout: seconds; after these the process is killed.
        :param heartbeat: is called every second; if it raises, the process is killed, too.
        :raises HandlerError: the handler raised, its process ended, or it timed out.
        """
        request = {"id": str(uuid.uuid4()), "deadline": time.time() + timeout, "event": event}
        self.busy = True
        with contextlib.suppress(OSError):  # it has ended: waiting for its response tells how
            self.connection.send_bytes(json.dumps(request).encode())
        return self._wait_for_response(monotonic() + timeout, heartbeat)

    def _wait_for_response(self, deadline: float, heartbeat: Callable[[], None]) -> Any:
        answer = None
        try:
            while not self.connection.poll(max(0, min(TICK, deadline - monotonic()))):
                if self.process and self.process.poll() is not None:
                    raise EOFError
                if monotonic() >= deadline:
                    raise HandlerError("The handler timed out and was killed")
                heartbeat()
            answer = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise HandlerError("The handler's process ended", exit=self.kill(TICK)) from None
        finally:
            self.busy = False
            if answer is None:
                self.kill()
        if "error" in answer:
            raise HandlerError("The handler failed", **answer)
        return answer["response"]

    def kill(self, after: float = 0) -> str:
        """Kill the process unless it ends in time, and what it started; return how it ended."""
        if self.process is None:
            return "not running"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(after)
        self.send_sigkill()
        code = self.process.wait()
        self.connection.close()
        self.process = None
        return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def send_sigkill(self) -> None:
        """Send SIGKILL to the process and what it started; any thread may do this."""
        if (process := self.process) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


# ---- what all pollers share --------------------------------------------------------------------


class ErrorState:
    """An error that may last: it is logged when it begins, changes or ends, not at every retry."""

    def __init__(self, summary: str) -> None:
        self.summary = summary
        self.lock = threading.Lock()  # several pollers may report the same error
        self.reason = ""  # what was logged last; "" while there is no error

    def failed(self, reason: str, **keys: Any) -> None:
        """Log the error, unless it is the one that was logged last."""
        with self.lock:
            if reason != self.reason:
                logger.error(f"{self.summary}; retrying", reason=reason, **keys)
            self.reason = reason

    def recovered(self) -> None:
        """Log that the error is over, if there was one."""
        with self.lock:
            if self.reason:
                logger.info("Recovered", error=f"{self.summary}: {self.reason}")
            self.reason = ""


class TaskProtection:
    """ECS's task scale-in protection: a `with` block per batch in flight.

    Protection is enabled for the first batch, and released when there has been none for a while.
    Under constant load that would never happen, and neither a deployment nor scaling in could stop
    the task. So after a quarter of an hour the pollers rest: they receive nothing until no batch is
    in flight, and for half a minute after protection was released.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
    """

    def __init__(self, agent_uri: str) -> None:
        self.url = agent_uri and f"{agent_uri}/task-protection/v1/state"  # "" outside ECS
        self.error_state = ErrorState("The task can't be protected from scaling in")
        self.lock = threading.Lock()  # for all that follows
        self.batches = 0  # in flight
        self.enabled = False  # as the agent has confirmed
        self.unknown = False  # the last request failed, but ECS may have carried it out
        self.enabled_at = NEVER  # when that began; renewals don't count
        self.requested_at = NEVER  # when the agent was last asked, whatever it answered
        self.idle_since = NEVER  # when the last batch ended
        self.rest_until = NEVER  # until when the pollers receive nothing

    def __enter__(self) -> None:
        with self.lock:
            self.batches += 1
            retry_after = MAX_BACKOFF if self.unknown else TICK
            if not self.enabled and monotonic() - self.requested_at > retry_after:
                self._request(True)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.batches -= 1
            self.idle_since = monotonic()

    def resting(self) -> bool:
        """Tell whether the pollers must receive nothing now."""
        now = monotonic()
        return now < self.rest_until or (self.enabled and now - self.enabled_at > RELEASE_AFTER)

    def tick(self) -> None:
        """Renew or release the protection when it is time."""
        with self.lock:
            now = monotonic()
            if self.batches:
                renew_after = PROTECTED_FOR / 2 if self.enabled else MAX_BACKOFF
                if now - self.requested_at > renew_after:
                    self._request(True)
            elif self.enabled:
                if self.resting():
                    self.rest_until = now + REST
                if self.resting() or now - self.idle_since > RELEASE_WHEN_IDLE_FOR:
                    self._request(False)
            elif self.unknown and now - self.requested_at > MAX_BACKOFF:
                self._request(False)

    def _request(self, enable: bool) -> None:
        """Ask ECS's agent. If that fails, protection counts as off, and work goes on."""
        if not self.url:
            return
        self.requested_at = monotonic()
        self.unknown = True
        was_enabled, self.enabled = self.enabled, False
        expiry = {"ExpiresInMinutes": PROTECTED_FOR // 60} if enable else {}
        body = json.dumps({"ProtectionEnabled": enable, **expiry}).encode()
        request = urllib.request.Request(  # noqa: S310 - ECS's own address
            self.url, body, {"Content-Type": "application/json"}, method="PUT"
        )
        try:
            # The agent is in the task: never through a proxy.
            agent = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                response = agent.open(request, timeout=5)  # it waits 4 s for ECS itself
            except urllib.error.HTTPError as error:
                response = error  # its content tells why
            with response:
                answer = json.load(response)
            if "protection" not in answer:
                raise ValueError(f"the agent answered {answer}")
        except Exception as error:
            self.error_state.failed(type(error).__name__, text=str(error))
            return
        self.error_state.recovered()
        self.enabled, self.unknown = enable, False
        if enable and not was_enabled:
            self.enabled_at = self.requested_at


# ---- one poller --------------------------------------------------------------------------------


class Poller(threading.Thread):
    """Takes one batch after the other from the queue to the handler."""

    def __init__(self, worker: "Worker") -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.settings = worker.settings
        self.handler = HandlerProcess()
        self.failures = 0  # in a row: the more, the longer the next wait
        self.handler_imported = False  # at least once
        self.progress_at = monotonic()  # when the queue last answered, or a batch was waited for
        # The batch in flight:
        self.received_at = NEVER  # when it was received
        self.extended_at = NEVER  # when its visibility timeout began or was last extended
        self.extension_failed = False  # at least once, which is in the log
        self.given_up = False  # its handler was killed because it was overdue

    def run(self) -> None:
        """Poll until the worker stops."""
        while not self.worker.stopping.is_set():
            try:
                self.poll_once()
            except Stopping:
                break
            except AwsError as error:
                self.progress_at = monotonic()
                reason = type(error).__name__
                if isinstance(error, ClientError):
                    reason = error.response["Error"]["Code"]
                self.worker.queue_error.failed(reason, text=str(error))
                self.back_off()
            except Exception as error:  # a bug in this file must not end the thread silently
                logger.error("Bug in the worker", **describe(error))
                self.back_off()
        self.handler.kill()

    def healthy(self) -> bool:
        """Tell whether the handler could be imported, and the poller isn't stuck."""
        return self.handler_imported and monotonic() - self.progress_at < STUCK_AFTER

    def back_off(self, maximum: float = MAX_BACKOFF) -> None:
        """Wait before the next attempt: 1, 2, 4 … seconds."""
        self.worker.stopping.wait(min(maximum, 2**self.failures))
        self.failures = min(self.failures + 1, 10)

    def poll_once(self) -> None:
        """Process one batch, if there is one. Raises AwsError if the queue can't be read."""
        if not self.start_handler():
            self.back_off()
            return
        if self.worker.protection.resting():
            self.worker.stopping.wait(TICK)
            return
        asked_at = monotonic()
        messages = self.receive()
        self.progress_at = self.received_at = self.extended_at = monotonic()
        if self.settings.fifo:  # their timeout may have begun long before SQS's answer arrived
            self.received_at = self.extended_at = asked_at
        self.extension_failed = self.given_up = False
        self.worker.queue_error.recovered()
        if messages and self.worker.stopping.is_set():
            self.return_to_queue(messages)
        elif messages:
            with self.worker.protection:
                longest_wait = self.process(messages)
            if longest_wait:
                self.back_off(longest_wait)
                return
        self.failures = 0

    def start_handler(self) -> bool:
        """Start the handler's process if it doesn't run; return False if that fails.

        This comes before messages are received: a handler that can't be imported must not use up
        their receives and send them to the dead-letter queue.
        """
        try:
            self.handler.start(self.stop_waiting)
        except HandlerError as error:
            reason = error.keys.get("error") or error.keys.get("exit") or ""
            self.worker.start_error.failed(f"{error} {reason}".strip(), **error.keys)
            return False
        self.worker.start_error.recovered()
        self.handler_imported = True
        self.progress_at = monotonic()
        return True

    def stop_waiting(self) -> None:
        """Raise Stopping once the worker stops."""
        if self.worker.stopping.is_set():
            raise Stopping

    def receive(self) -> list[Message]:
        """Wait for messages; return none or up to BATCH_SIZE. Raises AwsError."""
        self.worker.find_queue()
        received = self.worker.sqs.receive_message(
            QueueUrl=self.settings.queue_url,
            MaxNumberOfMessages=self.settings.batch_size,
            WaitTimeSeconds=self.settings.long_poll,
            VisibilityTimeout=self.settings.visibility_timeout,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(received.get("Messages", []))

    def process(self, messages: list[Message]) -> float:
        """Hand a batch to the handler, and delete what succeeded.

        What failed is left alone, as Lambda does: it comes back when its visibility timeout is
        over, which is soon, since every extension is one timeout. What succeeded before but could
        not be deleted then is only deleted.

        :returns: for how long to back off at most: 0 if all is well. Without a valid response of
            the handler, all messages count as failed.
        """
        done = [message for message in messages if message["MessageId"] in self.worker.processed]
        new = [message for message in messages if message not in done]
        if done:
            logger.info("Deleting messages that were processed before", message_ids=ids(done))
        longest_wait, failed = 0, set[str]()
        started = monotonic()
        try:
            if new:
                event = {"Records": [record(message, self.worker.queue_arn) for message in new]}
                heartbeat = partial(self.heartbeat, messages)
                if self.settings.fifo:
                    heartbeat()
                if self.overdue():
                    raise HandlerError(GIVEN_UP)
                response = self.handler.invoke(event, self.settings.timeout, heartbeat)
                failed = failed_ids(response, ids(new))
        except Stopping:
            self.return_to_queue(messages)
            return 0
        except HandlerError as error:
            seconds = round(monotonic() - started, 1)
            text = GIVEN_UP if self.given_up else str(error)
            logger.error(text, message_ids=ids(new), seconds=seconds, **error.keys)
            count_failed(len(new))
            longest_wait, failed = MAX_BACKOFF_AFTER_BATCH, set(ids(new))
        succeeded = [message for message in messages if message["MessageId"] not in failed]
        if not self.delete(succeeded, self.extended_at + self.settings.visibility_timeout):
            longest_wait = MAX_BACKOFF
        return longest_wait

    def heartbeat(self, messages: list[Message]) -> None:
        """Extend the messages' visibility timeout when a third of it is over.

        :raises Stopping: the grace period is over.
        """
        now = self.progress_at = monotonic()
        if now > self.worker.grace_ends_at:
            raise Stopping
        if now - self.extended_at < self.settings.visibility_timeout / 3:
            return
        left = int(MAX_IN_FLIGHT - (now - self.received_at)) - 1  # SQS refuses more
        seconds = min(self.settings.visibility_timeout, left)
        failed = self.request(CHANGE_VISIBILITY, messages, VisibilityTimeout=seconds)
        if not (failed and self.settings.fifo):  # there, only what SQS has confirmed counts
            self.extended_at = now
        if failed and not self.extension_failed:
            self.extension_failed = True
            text = "Can't extend the visibility timeout; messages may be delivered twice"
            logger.error(text, reason=codes(failed), message_ids=ids(messages))

    def overdue(self) -> bool:
        """Tell whether a FIFO queue may soon give the messages to another poller."""
        timeout = self.settings.visibility_timeout
        ends = self.extended_at + timeout - min(KILL_BEFORE, timeout / 3)
        return self.settings.fifo and monotonic() >= ends

    def give_up_if_overdue(self) -> None:
        """Kill the handler if it is overdue. Another thread does this: a request may hang."""
        if self.handler.busy and self.overdue():
            self.given_up = True
            self.handler.send_sigkill()

    def delete(self, messages: list[Message], deadline: float) -> bool:
        """Delete messages that succeeded; retry until the deadline, when they become visible.

        :returns: False if some are left: they are remembered, and deleted when they come back.
        """
        self.worker.remember(messages)
        pause = 0.1
        while messages:
            failed = self.request("delete_message_batch", messages)
            left = [messages[int(entry["Id"])] for entry in failed]
            self.worker.forget(message for message in messages if message not in left)
            messages = left
            self.progress_at = now = monotonic()
            too_late = now + pause > min(deadline, self.worker.grace_ends_at)
            # With only SenderFaults, SQS would refuse a retry, too.
            if messages and (too_late or all(entry["SenderFault"] for entry in failed)):
                text = "Can't delete messages that succeeded; they will be delivered again"
                logger.error(text, reason=codes(failed), message_ids=ids(messages))
                return False
            if messages:
                time.sleep(pause)
                pause = min(5, pause * 2)
        return True

    def return_to_queue(self, messages: list[Message]) -> None:
        """Make messages that were not processed visible again at once, for another task."""
        if failed := self.request(CHANGE_VISIBILITY, messages, VisibilityTimeout=0):
            text = "Can't return messages to the queue; they come back after the visibility timeout"
            logger.error(text, reason=codes(failed), message_ids=ids(messages))
        else:
            logger.info("Returned messages to the queue", message_ids=ids(messages))

    def request(self, name: str, messages: list[Message], **fields: Any) -> list[dict[str, Any]]:
        """Make a batch request to SQS; return the entries that failed, by position as `Id`."""
        entries = [
            {"Id": str(position), "ReceiptHandle": message["ReceiptHandle"], **fields}
            for position, message in enumerate(messages)
        ]
        try:
            action = getattr(self.worker.sqs, name)
            response = action(QueueUrl=self.settings.queue_url, Entries=entries)
        except AwsError as error:
            failure = {"Code": str(error), "SenderFault": False}
            return [{"Id": entry["Id"], **failure} for entry in entries]
        return list(response.get("Failed", []))


def ids(messages: Sequence[Message]) -> list[str]:
    """Return the ids of messages, for the log."""
    return [message["MessageId"] for message in messages]


def codes(failed: Sequence[dict[str, Any]]) -> str:
    """Return the error codes of a batch request's failed entries, for the log."""
    return ", ".join(sorted({entry["Code"] for entry in failed}))


def failed_ids(response: Any, ids: Sequence[str]) -> set[str]:
    """Return the ids of the messages that failed, by Lambda's rules.

    None failed if the response or its list is empty or null; otherwise those that it names.

    :param ids: the batch's.
    :raises HandlerError: it has another shape, or names what isn't in the batch: all have failed.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    items = response.get("batchItemFailures") if isinstance(response, dict) else None
    if response is None or (isinstance(response, dict) and items is None):
        return set()
    if isinstance(items, list):
        named = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in items]
        if all(isinstance(name, str) and name in ids for name in named):
            return {str(name) for name in named}
    raise HandlerError("The handler's response is not a partial batch response")


def count_failed(number: int) -> None:
    """Add messages of a batch that failed as a whole to the handler's own metric."""
    dimensions = {"environment": os.environ.get("ENVIRONMENT", "")}
    with single_metric("MessagesFailed", MetricUnit.Count, number, default_dimensions=dimensions):
        pass


def record(message: Message, queue_arn: str) -> dict[str, Any]:
    """Return a message of SQS in the shape in which Lambda hands it to a function."""
    attributes = message.get("MessageAttributes", {})
    made = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {name: message_attribute(attributes[name]) for name in attributes},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        made["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return made


def message_attribute(attribute: dict[str, Any]) -> dict[str, Any]:
    """Return a message attribute of SQS in Lambda's shape; bytes are in Base64."""
    value: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    if "StringValue" in attribute:
        value["stringValue"] = attribute["StringValue"]
    if "BinaryValue" in attribute:
        value["binaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
    return {**value, "dataType": attribute["DataType"]}


def refuse_pages(response_dict: dict[str, Any], **_: object) -> None:
    """Refuse a proxy's page, which boto3 takes for success without content. Raises AwsError."""
    if response_dict["status_code"] < 500 and response_dict["body"].lstrip()[:1] not in (b"", b"{"):
        raise ResponseParserError("Something other than AWS answered, such as a proxy")


# ---- the worker --------------------------------------------------------------------------------


class Worker:
    """The pollers and what they share."""

    def __init__(self, settings: Settings) -> None:
        # Here, since the handler's processes don't need them.
        import boto3
        from botocore.config import Config

        self.settings = settings
        config = Config(
            region_name=settings.region,
            connect_timeout=5,
            read_timeout=settings.long_poll + 10,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=settings.pollers,
            tcp_keepalive=True,
        )
        self.sqs = boto3.client("sqs", config=config)
        self.sqs.meta.events.register("before-parse", refuse_pages)
        self.queue_arn = ""  # set by find_queue
        self.lock = threading.Lock()  # for the next line
        self.processed: dict[str, None] = {}  # ids of messages that are still to be deleted
        self.stopping = threading.Event()  # no more messages are received
        self.grace_ends_at = FOREVER  # batches that aren't finished then are returned
        self.protection = TaskProtection(settings.ecs_agent_uri)
        self.queue_error = ErrorState("Can't read the queue")
        self.start_error = ErrorState("Can't start the handler")
        self.health_error = ErrorState("Can't write the health check's file")
        self.pollers = [Poller(self) for _ in range(settings.pollers)]

    def remember(self, messages: Iterable[Message]) -> None:
        """Note that messages succeeded and are still to be deleted; forget the oldest of many."""
        with self.lock:
            self.processed.update((message["MessageId"], None) for message in messages)
            while len(self.processed) > MAX_REMEMBERED:
                del self.processed[next(iter(self.processed))]

    def forget(self, messages: Iterable[Message]) -> None:
        """Note that messages were deleted."""
        with self.lock:
            for message in messages:
                self.processed.pop(message["MessageId"], None)

    def find_queue(self) -> None:
        """Look up the queue's ARN, once. Raises AwsError."""
        if not self.queue_arn:
            found = self.sqs.get_queue_attributes(
                QueueUrl=self.settings.queue_url, AttributeNames=["QueueArn"]
            )
            self.queue_arn = found["Attributes"]["QueueArn"]

    def run(self, signals: list[int]) -> None:
        """Work until there is a signal in the list; then stop, within STOP_TIMEOUT."""
        logger.info("Worker started", pollers=self.settings.pollers)
        for poller in self.pollers:
            poller.start()
        if self.settings.fifo:
            threading.Thread(target=self.keep_order, daemon=True).start()
        self.monitor(lambda: bool(signals), FOREVER)
        logger.info("Worker stopping")
        self.grace_ends_at = monotonic() + self.settings.grace_period
        self.stopping.set()
        # Half of the time that is left then is for returning messages.
        last = self.grace_ends_at + (self.settings.stop_timeout - self.settings.grace_period) / 2
        self.monitor(lambda: not any(poller.is_alive() for poller in self.pollers), last)
        for poller in self.pollers:
            if poller.is_alive():
                poller.handler.kill()
        logger.info("Worker stopped")

    def keep_order(self) -> None:
        """Kill each handler that is overdue. This thread never waits for anything else."""
        while True:
            for poller in self.pollers:
                poller.give_up_if_overdue()
            time.sleep(min(TICK, self.settings.visibility_timeout / 30))

    def monitor(self, ended: Callable[[], bool], deadline: float) -> None:
        """Keep the task protected and reported healthy until `ended`, or until the deadline."""
        while not ended() and monotonic() < deadline:
            self.protection.tick()
            if any(poller.healthy() for poller in self.pollers):
                try:
                    HEALTH_FILE.touch()
                    self.health_error.recovered()
                except OSError as error:
                    self.health_error.failed(f"{error.filename}: {error.strerror}")
            time.sleep(TICK)


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    # Whole lines only, or those of several processes would be mixed up.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, write_through=False)
    match arguments:
        case []:
            pass
        case ["handler", descriptor]:
            os.set_inheritable(int(descriptor), False)
            with Connection(int(descriptor)) as connection:
                serve(connection)
            return 0
        case _:
            print("usage: python worker.py", file=sys.stderr)
            return 2
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        logger.critical("Invalid environment variables", problems=error.args)
        return 2
    signals: list[int] = []  # a lock could already be held by what a signal interrupts
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    Worker(settings).run(signals)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

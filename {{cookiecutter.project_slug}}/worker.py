"""Feeds the handler from the queue: on Fargate, this does what Lambda's event source mapping does.

    python worker.py          take messages to handler.handler until SIGTERM
    python worker.py health   exit code 0 if that works: ECS's container health check

Each poller is a thread that receives a batch, hands it to a process of its own in which the handler
runs, extends the messages' visibility as long as the handler works, and deletes those that
succeeded, by Lambda's rules. So a handler may block, exit or be killed: the thread that holds its
messages goes on. A message is deleted when it is done and not before: whatever happens to a
process, a task or the network, it is visible in the queue again after the visibility time-out.
"""

import base64
import contextlib
import importlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from time import monotonic
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from botocore.exceptions import BotoCoreError, ClientError

# All times are in seconds.
LONG_POLL = 20  # the longest that SQS has
LONGEST_VISIBILITY = (
    43_200  # SQS holds a message for 12 hours from its receipt, extensions included
)
LONGEST_TIMEOUT = 42_600  # leaves ten minutes of these for what comes after
LONGEST_WAIT = 60  # between two tries while there is no handler or no queue
LONGEST_REST = 10  # after a batch that failed as a whole: others have to go on
START_LIMIT = 120  # for importing the handler
STUCK_AFTER = 180  # a poller without progress; three tries of a request on a dead network take 110
FRESH = 60  # a health file that is older is nobody's
TICK = 1

# Scale-in protection. AWS has no figure for how soon ECS makes use of a task that gave it up.
PROTECTED_FOR = 3600  # after that it lapses, if nobody renews it
IDLE_BEFORE_RELEASE = 10  # so that short batches don't switch it on and off
RELEASE_AFTER = 900  # under constant load: a deployment must not wait for ever
REST = 30

# The environment's numbers: least, most, and what they are.
NUMBERS = {
    "BATCH_SIZE": (1, 10, "messages that the handler gets at once"),
    "POLLERS": (1, 100, "batches that are worked on at the same time"),
    "VISIBILITY_TIMEOUT": (3, LONGEST_VISIBILITY, "the queue's, in seconds"),
    "TIMEOUT": (1, LONGEST_TIMEOUT, "seconds that a batch may take"),
    "STOP_TIMEOUT": (2, 120, "seconds between SIGTERM and SIGKILL, ECS's stopTimeout"),
}

logger = Logger(json_serializer=partial(json.dumps, default=str, separators=(",", ":")))

Message = dict[str, Any]
AwsError = (BotoCoreError, ClientError)


class SettingsError(Exception):
    """What is wrong with the environment, a sentence each."""


class FunctionError(Exception):
    """The handler did not answer as it should; `keys` are for the log."""

    def __init__(self, message: str, **keys: Any) -> None:
        super().__init__(message)
        self.keys = keys


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
    def grace(self) -> float:
        """Return how long batches may go on after SIGTERM; the rest is for giving them back."""
        return self.stop_timeout - min(5, self.stop_timeout / 2)

    @property
    def long_poll(self) -> int:
        """Return how long a ReceiveMessage waits: it must be over before the grace is."""
        return max(1, min(LONG_POLL, int(self.grace)))


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises SettingsError with all problems."""
    problems = []
    queue_url = environment.get("QUEUE_URL", "")
    if not queue_url.startswith(("https://", "http://")):
        problems.append(f"QUEUE_URL is {queue_url!r}, and has to be the queue's URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
    if not region:
        problems.append("neither AWS_REGION nor AWS_DEFAULT_REGION is set")
    numbers = {}
    for name, (least, most, meaning) in NUMBERS.items():
        value = environment.get(name, "")
        if value.isascii() and value.isdigit() and least <= int(value) <= most:
            numbers[name.lower()] = int(value)
        else:
            rule = f"a whole number from {least} to {most}: {meaning}"
            problems.append(f"{name} is {value!r}, and has to be {rule}")
    if problems:
        raise SettingsError(*problems)
    return Settings(
        queue_url, region, **numbers, ecs_agent_uri=environment.get("ECS_AGENT_URI", "")
    )


# ---- the handler, in a process of its own ------------------------------------------------------


@dataclass(frozen=True)
class Context:
    """What Lambda tells the handler beside the event, as far as there is such a thing here."""

    aws_request_id: str
    deadline: float  # of time.time()
    function_name: str
    function_version: str = "$LATEST"
    invoked_function_arn: str = ""
    memory_limit_in_mb: str = ""
    log_group_name: str = ""
    log_stream_name: str = ""
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds that are left until TIMEOUT."""
        return max(0, int((self.deadline - time.time()) * 1000))


def serve(connection: Connection) -> None:
    """Import the handler, say that it is ready, and answer with it until the worker hangs up."""
    # A line at a time, whole, or those of several processes would run into each other.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, write_through=False)
    with contextlib.suppress(EOFError, OSError):
        try:
            handler = importlib.import_module("handler").handler
        except Exception as error:  # without a message in hand: its text holds no payload
            connection.send_bytes(json.dumps({**described(error), "text": str(error)}).encode())
            return
        connection.send_bytes(b'{"response":null}')
        while True:
            request = json.loads(connection.recv_bytes())
            context = Context(request["id"], request["deadline"], os.environ.get("SERVICE", ""))
            try:
                answer = {"response": handler(request["event"], context)}
            except SystemExit:  # ends the process, as it does on Lambda
                raise
            except BaseException as error:
                answer = described(error)
            try:
                text = json.dumps(answer)
            except (TypeError, ValueError, RecursionError):
                text = json.dumps({"error": "the response is not JSON"})
            connection.send_bytes(text.encode())


def described(error: BaseException) -> dict[str, Any]:
    """Return an exception's type and place. Its text may quote the payload, so it stays here."""
    stack = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]
    return {"error": type(error).__name__, "stack": places}


class Function:
    """The handler's process. It is started when it is needed, and again when it has ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection

    def start(self, meanwhile: Callable[[], None]) -> None:
        """See that the process runs and has imported the handler. Raises FunctionError."""
        if self.process is not None and self.process.poll() is None:
            return
        self.end()
        self.connection, theirs = Pipe()
        with theirs:
            # A session of its own, so that what the handler starts ends with it.
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, __file__, "function", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self.answer(monotonic() + START_LIMIT, meanwhile)
        except FunctionError:
            self.end()
            raise

    def invoke(self, event: object, timeout: float) -> None:
        """Hand an event to the handler; it has so many seconds."""
        request = {"id": str(uuid.uuid4()), "deadline": time.time() + timeout, "event": event}
        with contextlib.suppress(OSError):  # it has ended: answer() says how
            self.connection.send_bytes(json.dumps(request).encode())

    def answer(self, deadline: float, meanwhile: Callable[[], None]) -> Any:
        """Return the handler's response.

        :param deadline: of monotonic(); then the process is ended.
        :param meanwhile: is called every second; if it raises, the process is ended, too.
        :raises FunctionError: the handler raised, or its process ended.
        """
        answered = False
        try:
            while not self.connection.poll(max(0, min(TICK, deadline - monotonic()))):
                if self.process and self.process.poll() is not None:
                    raise EOFError
                if monotonic() >= deadline:
                    raise FunctionError("The handler took too long and was ended")
                meanwhile()
            answer = json.loads(self.connection.recv_bytes())
            answered = True
        except (EOFError, OSError):
            raise FunctionError("The handler's process has ended", exit=self.exit()) from None
        finally:
            if not answered:
                self.end()
        if "error" in answer:
            raise FunctionError("The handler failed", **answer)
        return answer["response"]

    def exit(self) -> str:
        """Return how the process ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(TICK) if self.process else 0
            return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return "it closed its connection"

    def end(self) -> None:
        """Kill the process, with those that it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.connection.close()
            self.process = None


# ---- what all pollers share --------------------------------------------------------------------


class Trouble:
    """Something that may go wrong again and again, and is logged when that changes only."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.lock = threading.Lock()
        self.known = ""

    def tell(self, reason: str, **keys: Any) -> None:
        """Log what is wrong, unless it is what was wrong before."""
        with self.lock:
            if reason != self.known:
                logger.error(f"{self.what}; trying again", reason=reason, **keys)
            self.known = reason

    def over(self) -> None:
        """Log that it works again, if it did not."""
        with self.lock:
            if self.known:
                logger.info("It works again", was=f"{self.what}: {self.known}")
            self.known = ""


class Protection:
    """ECS's task scale-in protection: `with` it, messages are in hand.

    It is switched on for the first batch, and off when there has been none for a while. Under
    constant load it would never be, and neither a deployment nor scaling in could stop the task: so
    from time to time the pollers take no more (`resting`) until nothing is in hand, and rest a
    while without protection.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
    """

    def __init__(self, agent_uri: str) -> None:
        self.url = agent_uri and f"{agent_uri}/task-protection/v1/state"
        self.trouble = Trouble("The task can't be protected from scaling in")
        self.lock = threading.Lock()
        self.in_hand = 0
        self.on = False
        # When it was switched on, when it was asked for last, when the last batch ended, and until
        # when to rest; of monotonic().
        self.since = self.asked = self.idle_since = self.rest_until = float("-inf")

    def __enter__(self) -> None:
        with self.lock:
            self.in_hand += 1
            if not self.on and monotonic() - self.asked > TICK:
                self._switch(True)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.in_hand -= 1
            self.idle_since = monotonic()

    def resting(self) -> bool:
        """Tell whether no messages are to be taken now."""
        now = monotonic()
        return now < self.rest_until or (self.on and now - self.since > RELEASE_AFTER)

    def tick(self) -> None:
        """Renew it, or switch it off."""
        with self.lock:
            now = monotonic()
            if self.on and self.in_hand == 0 and now - self.since > RELEASE_AFTER:
                self._switch(False)
                self.rest_until = now + REST
            elif self.on and self.in_hand == 0 and now - self.idle_since > IDLE_BEFORE_RELEASE:
                self._switch(False)
            elif self.in_hand and now - self.asked > (
                PROTECTED_FOR / 2 if self.on else LONGEST_WAIT
            ):
                self._switch(True)

    def _switch(self, on: bool) -> None:
        """Ask the agent. What it refuses counts as off: it lapses by itself, and work goes on."""
        if not self.url:
            return
        self.asked = monotonic()
        was_on, self.on = self.on, False
        state = {
            "ProtectionEnabled": on,
            **({"ExpiresInMinutes": PROTECTED_FOR // 60} if on else {}),
        }
        request = urllib.request.Request(  # noqa: S310 - ECS's own address
            self.url, json.dumps(state).encode(), {"Content-Type": "application/json"}, method="PUT"
        )
        try:
            # The agent is in the task: never through a proxy.
            agent = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with agent.open(request, timeout=2) as response:
                answer = json.load(response)
            if "protection" not in answer:
                raise ValueError(f"the agent answered {answer}")
        except Exception as error:
            self.trouble.tell(type(error).__name__, text=str(error))
            return
        self.trouble.over()
        self.on = on
        if on and not was_on:
            self.since = self.asked


# ---- one poller --------------------------------------------------------------------------------


class Stopped(Exception):  # noqa: N818 - no error
    """The worker stops, and what it was at isn't done."""


class Poller(threading.Thread):
    """Takes one batch after the other from the queue to the handler."""

    def __init__(self, worker: "Worker") -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.settings = worker.settings
        self.function = Function()
        self.tries = 0  # in a row that went wrong
        self.progress = monotonic()
        self.works = False  # the handler has been imported

    def run(self) -> None:
        """Work until the worker stops."""
        while not self.worker.stopping.is_set():
            try:
                self.turn()
            except Stopped:
                break
            except AwsError as error:
                self.progress = monotonic()
                reason = type(error).__name__
                if isinstance(error, ClientError):
                    reason = error.response["Error"]["Code"]
                self.worker.queue_trouble.tell(reason, text=str(error))
                self.back_off()
            except Exception as error:  # a defect of this file must not end the thread in silence
                logger.error("The worker has a defect", **described(error))
                self.back_off()
        self.function.end()

    def is_well(self) -> bool:
        """Tell whether the handler could be imported, and the poller isn't stuck."""
        return self.works and monotonic() - self.progress < STUCK_AFTER

    def back_off(self, longest: float = LONGEST_WAIT) -> None:
        """Wait before the next try: 1, 2, 4 … seconds."""
        self.worker.stopping.wait(min(longest, 2**self.tries))
        self.tries = min(self.tries + 1, 10)

    def turn(self) -> None:
        """Take one batch, if there is one. Raises AwsError if the queue can't be read."""
        try:
            # First of all: what can't be imported shall not take messages towards the dead letters.
            self.function.start(self.stop_starting)
        except FunctionError as error:
            reason = error.keys.get("error") or error.keys.get("exit") or ""
            self.worker.start_trouble.tell(f"{error} {reason}".strip(), **error.keys)
            self.back_off()
            return
        self.worker.start_trouble.over()
        self.works = True
        self.progress = monotonic()
        if self.worker.protection.resting():
            self.worker.stopping.wait(TICK)
            return
        messages = self.receive()
        self.progress = monotonic()
        self.worker.queue_trouble.over()
        if not messages:
            self.tries = 0
        elif self.worker.stopping.is_set():
            self.give_back(messages)
        else:
            with self.worker.protection:
                succeeded = self.work(messages)
            if succeeded:
                self.tries = 0
            else:
                self.back_off(LONGEST_REST)

    def stop_starting(self) -> None:
        """Raise Stopped once the worker stops."""
        if self.worker.stopping.is_set():
            raise Stopped

    def receive(self) -> list[Message]:
        """Wait for messages; return none or up to a batch. Raises AwsError."""
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

    def work(self, messages: list[Message]) -> bool:
        """Hand a batch to the handler, and delete what succeeded.

        Messages that failed are left to themselves, as Lambda does: they come back when their
        visibility time-out is over, which is soon, since it was extended by one at the most.

        :returns: False if the handler gave no answer that counts.
        """
        started = extended = monotonic()
        ids = [message["MessageId"] for message in messages]
        complained = False

        def meanwhile() -> None:
            """Extend the messages' visibility when a third of it is over."""
            nonlocal extended, complained
            now = self.progress = monotonic()
            if now > self.worker.give_back_at:
                raise Stopped
            if now - extended < self.settings.visibility_timeout / 3:
                return
            # SQS refuses what would exceed its 12 hours.
            left = int(LONGEST_VISIBILITY - (now - started)) - 1
            problem = self.change_visibility(messages, min(self.settings.visibility_timeout, left))
            extended = now
            if problem and not complained:
                complained = True
                text = "The visibility of messages can't be extended; they may be delivered twice"
                logger.error(text, reason=problem, message_ids=ids)

        try:
            records = [record(message, self.worker.queue_arn) for message in messages]
            self.function.invoke({"Records": records}, self.settings.timeout)
            response = self.function.answer(started + self.settings.timeout, meanwhile)
            failed = failures(response, ids)
        except Stopped:
            self.give_back(messages)
            return True
        except FunctionError as error:
            seconds = round(monotonic() - started, 1)
            logger.error(str(error), message_ids=ids, seconds=seconds, **error.keys)
            count_failed(len(messages))
            return False
        done = [message for message in messages if message["MessageId"] not in failed]
        self.delete(done, extended + self.settings.visibility_timeout)
        return True

    def delete(self, messages: list[Message], deadline: float) -> None:
        """Delete messages that are done; try again until they would be visible again."""
        left = {str(number): message for number, message in enumerate(messages)}
        pause = 0.1
        while left:
            try:
                response = self.worker.sqs.delete_message_batch(
                    QueueUrl=self.settings.queue_url, Entries=entries(left)
                )
                failed = response.get("Failed", [])
                reason = ", ".join(sorted({entry["Code"] for entry in failed}))
                if all(entry.get("SenderFault") for entry in failed):
                    deadline = 0  # SQS would say the same again
                deleted = {entry["Id"] for entry in response.get("Successful", [])}
                left = {name: message for name, message in left.items() if name not in deleted}
            except AwsError as error:
                reason = str(error)
            self.progress = now = monotonic()
            if left and now + pause > min(deadline, self.worker.give_back_at):
                ids = [message["MessageId"] for message in left.values()]
                text = "Messages that are done can't be deleted; they will be delivered again"
                logger.error(text, reason=reason, message_ids=ids)
                return
            if left:
                time.sleep(pause)
                pause = min(5, pause * 2)

    def give_back(self, messages: list[Message]) -> None:
        """Make messages that are not done visible again at once, for another task."""
        problem = self.change_visibility(messages, 0)
        ids = [message["MessageId"] for message in messages]
        if problem:
            text = "Messages can't be given back; they return after their visibility time-out"
            logger.error(text, reason=problem, message_ids=ids)
        else:
            logger.info("Gave messages back to the queue", message_ids=ids)

    def change_visibility(self, messages: list[Message], seconds: int) -> str:
        """Let messages be visible after so many seconds; return what went wrong, "" if nothing."""
        named = {str(number): message for number, message in enumerate(messages)}
        try:
            response = self.worker.sqs.change_message_visibility_batch(
                QueueUrl=self.settings.queue_url,
                Entries=[{**entry, "VisibilityTimeout": seconds} for entry in entries(named)],
            )
        except AwsError as error:
            return str(error)
        return ", ".join(sorted({entry["Code"] for entry in response.get("Failed", [])}))


def entries(messages: Mapping[str, Message]) -> list[dict[str, Any]]:
    """Return the entries of a batch request to SQS."""
    return [
        {"Id": name, "ReceiptHandle": message["ReceiptHandle"]}
        for name, message in messages.items()
    ]


def failures(response: Any, ids: Iterable[str]) -> set[str]:
    """Return the ids of a batch's messages that failed, by Lambda's rules.

    None with an empty or null response or list; else those that the response names. All have, and
    FunctionError is raised, where it is of another form or names what isn't in the batch.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    items = response.get("batchItemFailures") if isinstance(response, dict) else None
    if response is None or (isinstance(response, dict) and items is None):
        return set()
    if isinstance(items, list):
        named = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in items]
        if all(isinstance(name, str) and name in ids for name in named):
            return {str(name) for name in named}
    raise FunctionError("The handler's response is no partial batch response")


def count_failed(number: int) -> None:
    """Count messages of a batch that failed as a whole in the handler's metric for failed ones."""
    environment = {"environment": os.environ.get("ENVIRONMENT", "")}
    with single_metric("MessagesFailed", MetricUnit.Count, number, default_dimensions=environment):
        pass


def record(message: Message, queue_arn: str) -> dict[str, Any]:
    """Return a message of SQS's in the shape in which Lambda hands it to a function."""
    found = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: message_attribute(value)
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        found["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return found


def message_attribute(attribute: dict[str, Any]) -> dict[str, Any]:
    """Return a message attribute of SQS's in Lambda's shape; bytes are in Base64."""
    value: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    if "StringValue" in attribute:
        value["stringValue"] = attribute["StringValue"]
    if "BinaryValue" in attribute:
        value["binaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
    return {**value, "dataType": attribute["DataType"]}


# ---- the worker --------------------------------------------------------------------------------


class Worker:
    """The pollers and what they share."""

    def __init__(self, settings: Settings) -> None:
        # Here, since neither the health check nor the handler's processes need them.
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
        self.queue_arn = ""
        self.stopping = threading.Event()
        self.give_back_at = float("inf")  # of monotonic()
        self.protection = Protection(settings.ecs_agent_uri)
        self.queue_trouble = Trouble("The queue can't be read")
        self.start_trouble = Trouble("The handler can't be started")
        self.health_trouble = Trouble("The file for the health check can't be written")
        self.pollers = [Poller(self) for _ in range(settings.pollers)]

    def find_queue(self) -> None:
        """Ask for the queue's ARN, once. Raises AwsError."""
        if not self.queue_arn:
            found = self.sqs.get_queue_attributes(
                QueueUrl=self.settings.queue_url, AttributeNames=["QueueArn"]
            )
            self.queue_arn = found["Attributes"]["QueueArn"]

    def run(self, signals: "queue.SimpleQueue[int]") -> None:
        """Work until there is a signal; then stop, in STOP_TIMEOUT at the most."""
        logger.info("Worker started", pollers=self.settings.pollers)
        for poller in self.pollers:
            poller.start()
        self.watch(lambda: not signals.empty(), float("inf"))
        logger.info("Worker stops")
        self.give_back_at = monotonic() + self.settings.grace
        self.stopping.set()
        # What is left after the grace is to give messages back; half of it has to do.
        last = self.give_back_at + (self.settings.stop_timeout - self.settings.grace) / 2
        self.watch(lambda: not any(poller.is_alive() for poller in self.pollers), last)
        for poller in self.pollers:
            if poller.is_alive():
                poller.function.end()
        logger.info("Worker stopped")

    def watch(self, ended: Callable[[], bool], deadline: float) -> None:
        """Look after protection and health until something has ended, or the deadline."""
        while not ended() and monotonic() < deadline:
            self.protection.tick()
            if any(poller.is_well() for poller in self.pollers):
                try:
                    health_file().touch()
                    self.health_trouble.over()
                except OSError as error:
                    self.health_trouble.tell(f"{error.filename}: {error.strerror}")
            time.sleep(TICK)


def health_file() -> Path:
    """Return the file that is touched as long as one poller gets on."""
    return Path(tempfile.gettempdir()) / "worker-health"


def health() -> int:
    """Return 0 if a worker is well here, else 1."""
    try:
        age = time.time() - health_file().stat().st_mtime
    except OSError:
        age = float("inf")
    print(f"The worker was last well {age:.0f} s ago; up to {FRESH} s are healthy.")
    return 0 if age <= FRESH else 1


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    match arguments:
        case []:
            pass
        case ["health"]:
            return health()
        case ["function", descriptor]:
            os.set_inheritable(int(descriptor), False)
            with Connection(int(descriptor)) as connection:
                serve(connection)
            return 0
        case _:
            print("usage: python worker.py [health]", file=sys.stderr)
            return 2
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        logger.critical("The worker can't run with this environment", problems=error.args)
        return 2
    # Nothing else is safe in a signal's handler. The first signal counts, another does no harm.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    Worker(settings).run(signals)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What moto's SQS lacks: attributes, use by many at once, message move tasks; see patches.py.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-dlq-redrive.html
"""

import itertools
import json
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import unix_time, unix_time_millis
from moto.sqs.exceptions import QueueDoesNotExist, ReceiptHandleIsInvalid, SQSException
from moto.sqs.models import Queue, SQSBackend
from moto.sqs.responses import SQSResponse

from tools.local.patches import replaces

HIGHEST_RATE = 500  # messages a second
TASKS_LISTED = 10
DELETED_KEPT = 1000  # receipt handles of deleted messages: deleting these again is no error
INVALID = "InvalidParameterValue"


@replaces(Queue, "_set_attributes")
def sqs_redrive_allow_policy(original: Any, queue: Any, attributes: Any, now: Any = None) -> None:
    """A queue has the attribute RedriveAllowPolicy; setting it to "" removes it."""
    original(queue, attributes, now)
    queue.redrive_allow_policy = getattr(queue, "redrive_allow_policy", None) or None
    queue.BASE_ATTRIBUTES = [*Queue.BASE_ATTRIBUTES, "RedriveAllowPolicy"]


@replaces(Queue, "_set_attributes")
def sqs_policy_is_kept(original: Any, queue: Any, attributes: Any, now: Any = None) -> None:
    """SetQueueAttributes changes the attributes that it names and leaves the policy otherwise."""
    if "Policy" not in attributes:
        attributes = {**attributes, "Policy": queue.policy}
    original(queue, attributes, now)


@replaces(SQSBackend, "get_queue_attributes")
def sqs_redrive_policy_is_compact(original: Any, backend: Any, *given: Any) -> dict[str, Any]:
    """GetQueueAttributes returns RedrivePolicy as JSON without white space."""
    attributes: dict[str, Any] = original(backend, *given)
    if policy := attributes.get("RedrivePolicy"):
        attributes["RedrivePolicy"] = json.dumps(json.loads(policy), separators=(",", ":"))
    return attributes


@replaces(Queue, "delete_message")
def sqs_calls_at_once(_original: Any, queue: Any, receipt_handle: str) -> None:
    """Calls at the same time neither lose a message nor hand it out twice."""
    if not isinstance(queue.deleted_messages, deque):
        queue.deleted_messages = deque(maxlen=DELETED_KEPT)
    with queue._messages_lock:
        if receipt_handle in queue.deleted_messages:
            return
        for message in queue._messages:
            if message.had_receipt_handle(receipt_handle):
                queue.pending_messages.discard(message)
                queue.deleted_messages.extend(message.all_receipt_handles)
                queue._messages.remove(message)
                return
    raise ReceiptHandleIsInvalid


@replaces(SQSBackend, "receive_message")
@replaces(SQSBackend, "change_message_visibility")
@replaces(SQSBackend, "purge_queue")
def sqs_calls_at_once_wait(
    original: Any, backend: Any, queue_name: str, *given: Any, **named: Any
) -> Any:
    """Calls to a queue take turns; a receiver that waits for messages lets the others in."""
    with backend.get_queue(queue_name)._messages_lock:
        return original(backend, queue_name, *given, **named)


@replaces(SQSBackend, "is_message_valid_based_on_retention_period")
def sqs_retention_is_looked_up(_original: Any, backend: Any, queue_name: str, message: Any) -> bool:
    """A queue's retention period counts when it is set; moto counts all messages to find it."""
    period = backend.get_queue(queue_name).message_retention_period
    return bool(message.sent_timestamp / 1000 + period > unix_time())


@replaces(Queue, "messages")
def sqs_counts_at_one_moment(_original: Any, queue: Any) -> list[Any]:
    """The counts of a queue, and what is visible, are of one moment; moto asks the time for each
    message, so that each call takes a tenth of a second where ten thousand wait.
    """
    now = unix_time_millis()
    return [one for one in queue._messages if one.visible_at < now and one.delayed_until <= now]


@replaces(Queue, "approximate_number_of_messages_not_visible")
def sqs_counts_at_one_moment_in_flight(_original: Any, queue: Any) -> int:
    """The number of messages in flight is of one moment, too."""
    now = unix_time_millis()
    return sum(one.visible_at >= now for one in queue._messages)


@replaces(Queue, "approximate_number_of_messages_delayed")
def sqs_counts_at_one_moment_delayed(_original: Any, queue: Any) -> int:
    """So is the number of delayed messages."""
    now = unix_time_millis()
    return sum(one.delayed_until > now for one in queue._messages)


@replaces(Queue, "add_message")
def sqs_queue_feeds_no_function(original: Any, queue: Any, message: Any) -> None:
    """A queue keeps a message until somebody receives it; moto would hand it to a function."""
    queue.lambda_event_source_mappings.clear()
    original(queue, message)


@dataclass
class MoveTask:
    """A message move task: SQS's names of its parts are those of `shown`."""

    source: str
    destination: str | None
    rate: int | None
    to_move: int
    moved: int = 0
    status: str = "RUNNING"
    reason: str | None = None
    started: int = field(default_factory=lambda: int(time.time() * 1000))
    handle: str = field(default_factory=lambda: str(uuid.uuid4()))
    cancelled: threading.Event = field(default_factory=threading.Event)

    def shown(self) -> dict[str, Any]:
        """Return what ListMessageMoveTasks says: a handle only of a task that is running."""
        answer = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source,
            "DestinationArn": self.destination,
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.reason,
            "StartedTimestamp": self.started,
        }
        return {name: value for name, value in answer.items() if value is not None}

    def run(self, backend: Any) -> None:
        """Move messages, the oldest first, until none is visible or the task is cancelled."""
        try:
            while not self.cancelled.is_set() and self.move_one(backend):
                self.moved += 1
                self.cancelled.wait(1 / (self.rate or HIGHEST_RATE))
            self.status = "CANCELLED" if self.cancelled.is_set() else "COMPLETED"
        except SQSException as error:
            self.status, self.reason = "FAILED", error.code

    def move_one(self, backend: Any) -> bool:
        """Send one visible message on, as a new one, and delete it; False if there is none."""
        queue = queue_of(backend, self.source)
        with queue._messages_lock:
            message = next(iter(queue.messages), None)
            if message is None:
                return False
            queue._messages.remove(message)
        try:
            target = self.destination or message.source_arn
            if target is None:  # nor does SQS know where a message belongs that was sent there
                raise SQSException("CouldNotDetermineMessageSource", message.id)
            backend.send_message(
                queue_of(backend, target).name,
                message.body,
                message_attributes=message.message_attributes,
                # A new one: where it goes, the old one may be known.
                deduplication_id=str(uuid.uuid4()) if queue.fifo_queue else None,
                group_id=message.group_id,
                system_attributes=message.system_attributes,
            )
        except SQSException:
            with queue._messages_lock:
                queue._messages.insert(0, message)
            raise
        return True


def queue_of(backend: Any, arn: str, parameter: str = "") -> Any:
    """Return the queue with an ARN, which a request gave in a parameter, if in any."""
    for queue in backend.queues.values():
        if queue.queue_arn == arn:
            return queue
    if not parameter:
        raise QueueDoesNotExist
    text = f"The resource that you specified for the {parameter} parameter doesn't exist."
    raise SQSException("ResourceNotFoundException", text)


def tasks_of(backend: Any) -> dict[str, list[MoveTask]]:
    """Return the tasks of each source, by its ARN, the newest first."""
    tasks: dict[str, list[MoveTask]] = backend.__dict__.setdefault("move_tasks", {})
    return tasks


@replaces(Queue, "add_message")
def sqs_message_move_tasks(original: Any, queue: Any, message: Any) -> None:
    """SQS moves the messages of a dead-letter queue back to the queues that they came from."""
    # The queue that it was in before, whose dead letter it is; None if it was sent here.
    message.source_arn = getattr(message, "queue_arn", None)
    message.queue_arn = queue.queue_arn
    original(queue, message)


@replaces(SQSResponse, "start_message_move_task")
def sqs_message_move_tasks_are_started(_original: Any, response: Any) -> ActionResult:
    """StartMessageMoveTask moves a dead-letter queue's messages: one task at a time."""
    backend, source = response.sqs_backend, response._get_param("SourceArn")
    queue = queue_of(backend, source, "SourceArn")
    if destination := response._get_param("DestinationArn"):
        queue_of(backend, destination, "DestinationArn")
    rate = response._get_param("MaxNumberOfMessagesPerSecond")
    tasks = tasks_of(backend).setdefault(source, [])
    if not backend.list_dead_letter_source_queues(queue.name):
        raise SQSException(INVALID, "Source queue must be configured as a Dead Letter Queue.")
    if rate is not None and not 1 <= rate <= HIGHEST_RATE:
        name = "MaxNumberOfMessagesPerSecond"
        text = f"Value {rate} for parameter {name} is invalid. Reason: Must be between 1 and 500."
        raise SQSException(INVALID, text)
    if any(task.status in ("RUNNING", "CANCELLING") for task in tasks):
        text = "Only one active task is allowed for a source queue arn at a given time."
        raise SQSException(INVALID, f"There is already a task running. {text}")
    task = MoveTask(source, destination, rate, len(queue.messages))
    tasks[:] = [task, *tasks][:TASKS_LISTED]
    threading.Thread(target=task.run, args=(backend,), daemon=True).start()
    return ActionResult({"TaskHandle": task.handle})


@replaces(SQSResponse, "list_message_move_tasks")
def sqs_message_move_tasks_are_listed(_original: Any, response: Any) -> ActionResult:
    """ListMessageMoveTasks lists the latest tasks of a source, one if no number is given."""
    backend, source = response.sqs_backend, response._get_param("SourceArn")
    queue_of(backend, source, "SourceArn")
    most = response._get_param("MaxResults") or 1
    tasks = tasks_of(backend).get(source, [])
    return ActionResult({"Results": [task.shown() for task in tasks[:most]]})


@replaces(SQSResponse, "cancel_message_move_task")
def sqs_message_move_tasks_are_cancelled(_original: Any, response: Any) -> ActionResult:
    """CancelMessageMoveTask stops a task that is running; what it has moved stays moved."""
    handle = response._get_param("TaskHandle")
    every = itertools.chain.from_iterable(tasks_of(response.sqs_backend).values())
    task = next((one for one in every if one.handle == handle), None)
    if task is None:
        raise SQSException("ResourceNotFoundException", "Task does not exist.")
    if task.status != "RUNNING":
        text = "A message movement task can only be cancelled while it is RUNNING."
        raise SQSException("UnsupportedOperation", text)
    task.status = "CANCELLING"
    task.cancelled.set()
    return ActionResult({"ApproximateNumberOfMessagesMoved": task.moved})

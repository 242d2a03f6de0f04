"""What moto's FIFO queues and topics lack of AWS; see patches.py.

They are put around those of patches_queues.py, which come first by their name.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
"""

import functools
import hashlib
import itertools
from typing import Any

from moto.core.utils import unix_time_millis
from moto.sns.exceptions import SNSInvalidParameter
from moto.sns.models import SNSBackend, Topic
from moto.sqs.exceptions import MissingParameter, ReceiptHandleIsInvalid
from moto.sqs.models import Queue, SQSBackend

from tools.local.patches import replaces

REMEMBERED = 5 * 60 * 1000  # milliseconds that a deduplication ID counts
NUMBERS = itertools.count(10**19)  # sequence numbers have twenty digits


def sqs_fifo_groups_in_order() -> None:
    """Messages of a group are received in order, all that are there, and none while one of the
    group is in flight; they count as visible nevertheless.
    """
    visible = vars(Queue)["messages"].fget

    def messages(queue: Any) -> Any:
        if not queue.fifo_queue:
            return visible(queue)
        now = unix_time_millis()
        groups: dict[str, list[Any]] = {}
        locked = set()
        for message in queue._messages:
            if message.visible_at >= now:
                locked.add(message.group_id)
            elif message.delayed_until <= now:
                groups.setdefault(message.group_id, []).append(message)
        free = [some for group, some in groups.items() if group not in locked]
        return list(itertools.chain.from_iterable(free))

    counted = {"messages": messages, "approximate_number_of_messages": lambda q: len(visible(q))}
    # moto locks a group itself, but forgets it too late, or while a receiver waits.
    for name, found in {**counted, "pending_message_groups": lambda _: set()}.items():
        setattr(Queue, name, property(found))


def sqs_fifo_sequence_numbers() -> None:
    """The sequence numbers of a queue's messages rise."""

    @replaces(Queue, "add_message")
    def add_message(original: Any, queue: Any, message: Any) -> None:
        with queue._messages_lock:
            if queue.fifo_queue:
                message.sequence_number = str(next(NUMBERS))
            original(queue, message)


def sqs_fifo_deduplication() -> None:
    """A message with a deduplication ID of the last five minutes is accepted, answered as the first
    one, and dropped, whatever has become of that, within the queue's deduplication scope.
    """

    @replaces(Queue, "add_message")
    def add_message(original: Any, queue: Any, message: Any) -> None:
        if not queue.fifo_queue:
            original(queue, message)
            return
        now, given = unix_time_millis(), message.deduplication_id
        key = (message.group_id if queue.deduplication_scope == "messageGroup" else None, given)
        with queue._messages_lock:
            known = vars(queue).setdefault("deduplicated", {})
            while known and (oldest := next(iter(known.items())))[1][0] <= now - REMEMBERED:
                del known[oldest[0]]
            if key in known:
                _, message.id, message.sequence_number = known[key]
                return
            message.deduplication_id = None  # moto looks for it in all groups
            original(queue, message)
            message.deduplication_id = given
            known[key] = now, message.id, message.sequence_number


def sqs_fifo_dead_letters() -> None:
    """In the dead-letter queue a message's deduplication ID is its message ID, so that none is
    dropped as a duplicate, and its time begins anew.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html
    """

    @replaces(Queue, "add_message")
    def add_message(original: Any, queue: Any, message: Any) -> None:
        if queue.fifo_queue and message.approximate_receive_count:
            message.deduplication_id, message.sent_timestamp = message.id, int(unix_time_millis())
        original(queue, message)


class Expired(ReceiptHandleIsInvalid):
    """A receipt handle of a message that is visible, or has been received again."""

    def __init__(self, handle: str, reason: str) -> None:
        super().__init__()
        text = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}"
        self.code, self.message = "InvalidParameterValue", text


def sqs_fifo_receipt_handles_expire() -> None:
    """A receipt handle counts as long as its message is in flight, and no longer. Who waits for
    messages gets a group's next one as soon as it is free.
    """
    reasons = {
        "delete_message": "The receipt handle has expired.",
        "change_message_visibility": "Message does not exist or is not available for visibility "
        "timeout change.",
    }

    def checked(
        reason: str,
        original: Any,
        backend: Any,
        queue_name: str,
        receipt_handle: str,
        *more: Any,
        **named: Any,
    ) -> None:
        queue = backend.get_queue(queue_name)
        with queue._messages_lock:
            had = (one for one in queue._messages if one.had_receipt_handle(receipt_handle))
            message = next(had, None) if queue.fifo_queue else None
            if message and (message.visible or message.receipt_handle != receipt_handle):
                raise Expired(receipt_handle, reason)
            original(backend, queue_name, receipt_handle, *more, **named)
            queue._messages_lock.notify_all()

    for method, reason in reasons.items():
        replaces(SQSBackend, method)(functools.partial(checked, reason))


def sns_fifo_topics() -> None:
    """A FIFO topic refuses a message without a group as an invalid parameter, and makes missing
    deduplication IDs from the bodies, where it may.
    """

    @replaces(SNSBackend, "publish")
    def publish(original: Any, backend: Any, *given: Any, **named: Any) -> Any:
        try:
            return original(backend, *given, **named)
        except MissingParameter:
            text = "Invalid parameter: The MessageGroupId parameter is required for FIFO topics"
            raise SNSInvalidParameter(text) from None

    @replaces(Topic, "publish")
    def to_subscriptions(original: Any, topic: Any, message: str, **named: Any) -> Any:
        if topic.fifo_topic and not named.get("deduplication_id"):
            named["deduplication_id"] = hashlib.sha256(message.encode()).hexdigest()
        return original(topic, message, **named)


PATCHES = [
    sqs_fifo_groups_in_order,
    sqs_fifo_sequence_numbers,
    sqs_fifo_deduplication,
    sqs_fifo_dead_letters,
    sqs_fifo_receipt_handles_expire,
    sns_fifo_topics,
]

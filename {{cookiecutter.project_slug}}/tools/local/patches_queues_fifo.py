"""What moto's FIFO queues and topics lack of AWS; see patches.py.

They are put around those of patches_queues.py, whose name comes first.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
"""

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


@replaces(Queue, "messages")
def sqs_fifo_groups_in_order(original: Any, queue: Any) -> Any:
    """Messages of a group are received in order, all that are there, and none while one of the
    group is in flight.
    """
    if not queue.fifo_queue:
        return original(queue)
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


@replaces(Queue, "approximate_number_of_messages")
def sqs_fifo_groups_in_order_are_counted(_original: Any, queue: Any) -> int:
    """A group's messages count as visible also while another one of it is in flight."""
    now = unix_time_millis()
    return sum(one.visible_at < now and one.delayed_until <= now for one in queue._messages)


@replaces(Queue, "pending_message_groups")
def sqs_fifo_groups_in_order_by_their_messages(_original: Any, _queue: Any) -> set[str]:
    """moto's own lock of a group comes off too late, or while a receiver waits: it has none."""
    return set()


@replaces(Queue, "add_message")
def sqs_fifo_sequence_numbers(original: Any, queue: Any, message: Any) -> None:
    """The sequence numbers of a queue's messages rise."""
    with queue._messages_lock:
        if queue.fifo_queue:
            message.sequence_number = str(next(NUMBERS))
        original(queue, message)


@replaces(Queue, "add_message")
def sqs_fifo_deduplication(original: Any, queue: Any, message: Any) -> None:
    """A message with a deduplication ID of the last five minutes is accepted, answered as the first
    one, and dropped, whatever has become of that, within the queue's deduplication scope.
    """
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


@replaces(Queue, "add_message")
def sqs_fifo_dead_letters(original: Any, queue: Any, message: Any) -> None:
    """In the dead-letter queue a message's deduplication ID is its message ID, so that none is
    dropped as a duplicate, and its time begins anew.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html
    """
    if queue.fifo_queue and message.approximate_receive_count:
        message.deduplication_id, message.sent_timestamp = message.id, int(unix_time_millis())
    original(queue, message)


class Expired(ReceiptHandleIsInvalid):
    """A receipt handle of a message that is visible, or has been received again."""

    def __init__(self, handle: str, reason: str) -> None:
        super().__init__()
        text = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}"
        self.code, self.message = "InvalidParameterValue", text


@replaces(SQSBackend, "delete_message")
def sqs_fifo_receipt_handles_expire(
    original: Any, backend: Any, queue_name: str, receipt_handle: str
) -> None:
    """A receipt handle counts as long as its message is in flight, and no longer. Who waits for
    messages gets a group's next one as soon as it is free.
    """
    queue = backend.get_queue(queue_name)
    with queue._messages_lock:
        refuse_expired(queue, receipt_handle, "The receipt handle has expired.")
        original(backend, queue_name, receipt_handle)
        queue._messages_lock.notify_all()


@replaces(SQSBackend, "change_message_visibility")
def sqs_fifo_receipt_handles_expire_for_changes(
    original: Any, backend: Any, queue_name: str, receipt_handle: str, visibility_timeout: int
) -> None:
    """Nor does ChangeMessageVisibility take one that has expired."""
    queue = backend.get_queue(queue_name)
    reason = "Message does not exist or is not available for visibility timeout change."
    with queue._messages_lock:
        refuse_expired(queue, receipt_handle, reason)
        original(backend, queue_name, receipt_handle, visibility_timeout)
        queue._messages_lock.notify_all()


def refuse_expired(queue: Any, receipt_handle: str, reason: str) -> None:
    """Raise Expired for a receipt handle of a message that is not in flight by it."""
    for message in queue._messages if queue.fifo_queue else []:
        current = message.receipt_handle == receipt_handle and not message.visible
        if message.had_receipt_handle(receipt_handle) and not current:
            raise Expired(receipt_handle, reason)


@replaces(SNSBackend, "publish")
def sns_fifo_topics(original: Any, backend: Any, *given: Any, **named: Any) -> Any:
    """A FIFO topic refuses a message without a group as an invalid parameter."""
    try:
        return original(backend, *given, **named)
    except MissingParameter:
        text = "Invalid parameter: The MessageGroupId parameter is required for FIFO topics"
        raise SNSInvalidParameter(text) from None


@replaces(Topic, "publish")
def sns_fifo_topics_deduplicate(original: Any, topic: Any, message: str, **named: Any) -> Any:
    """A FIFO topic makes a missing deduplication ID from the body."""
    if topic.fifo_topic and not named.get("deduplication_id"):
        named["deduplication_id"] = hashlib.sha256(message.encode()).hexdigest()
    return original(topic, message, **named)

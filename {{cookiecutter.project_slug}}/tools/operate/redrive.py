"""Send messages back to the service's queue: dead letters, and what SNS could not deliver."""

import time
from typing import Any

import click

from tools.errors import ToolError
from tools.events import is_fifo
from tools.operate import queues
from tools.operate.queues import Message
from tools.operate.service import Service, deployed
from tools.project import Environment, between, environment_option

# Seconds between two looks at how far a redrive is.
POLL_SECONDS = 2.0
# Seconds until SQS's counts are right: they may be a minute old.
COUNT_SECONDS = 60.0


def _latest_move(service: Service) -> dict[str, Any]:
    """Return what SQS says of the latest redrive of dead letters; empty if there was none."""
    arn = service.dead_letter_queue_arn
    listed = service.client("sqs").list_message_move_tasks(SourceArn=arn, MaxResults=1)
    return next(iter(listed.get("Results", [])), {})


def redrive(service: Service, max_rate: int | None) -> None:
    """Let SQS move the dead-letter queue's messages back to the queue, and show how far it is.

    :param max_rate: messages a second, 1 to 500; SQS's choice without.
    :raises ToolError: the queue is empty, SQS gave up, or messages are left.
    """
    queue = service.dead_letter_queue_url
    before = _latest_move(service)
    if before.get("Status") == "RUNNING":
        print(f"A redrive of {queues.name_of(queue)} is under way already: no other is started.")
        before = {}
    else:
        _start(service, max_rate)
    try:
        move = _follow(service, before.get("StartedTimestamp"))
    except BaseException:  # Ctrl-C, or AWS can't be reached any more
        again = service.make("dlq-redrive")
        print(f"\nSQS goes on. {again} shows how far it is; with CANCEL=1 it stops.")
        raise
    moved = move.get("ApproximateNumberOfMessagesMoved", 0)
    if move["Status"] != "COMPLETED":
        reason = move.get("FailureReason", "it was cancelled")
        raise ToolError(
            f"The redrive ended as {move['Status']} after about {moved} messages: {reason}. About "
            f"{queues.total(service, queue)} are still in the dead-letter queue."
        )
    _wait_until_empty(service, queue)
    print(f"Done: about {moved} messages are back in {service.queue_name}.")


def _start(service: Service, max_rate: int | None) -> None:
    """Start a redrive of dead letters. Raises ToolError if there is nothing to move, or no way."""
    queue = service.dead_letter_queue_url
    if not queues.depth(service, queue)["waiting"]:
        raise ToolError(f"{queues.empty(service, queue)} (SQS's count may be a minute old.)")
    if is_fifo(queue) and not queues.tries(service)[1]:
        raise ToolError(
            f"SQS moves nothing to {service.queue_name} while hold_failed_groups is true: then it "
            f"has no dead-letter queue. Save the messages with {service.make('dlq-peek SAVE=file')}"
            f" and send them with {service.make('replay FILE=file')}, or redrive once it is false."
        )
    rate = {"MaxNumberOfMessagesPerSecond": max_rate} if max_rate else {}
    service.client("sqs").start_message_move_task(SourceArn=service.dead_letter_queue_arn, **rate)
    speed = f"at most {max_rate} a second" if max_rate else "at a rate that SQS chooses"
    print(f"Moving {queues.name_of(queue)}'s messages to {service.queue_name}, {speed}.")
    queues.say_order(service)


def _wait_until_empty(service: Service, queue_url: str) -> None:
    """See that a queue is empty. Raises ToolError that says what is left, and why."""
    deadline = time.monotonic() + COUNT_SECONDS
    while sum((count := queues.depth(service, queue_url)).values()):
        if time.monotonic() > deadline:
            total, in_flight = sum(count.values()), count["in_flight"]
            why = "they arrived in the meantime. Run this again"
            if in_flight:
                why = (
                    f"{in_flight} of them in flight: someone else is looking at them or moving "
                    "them, or an answer of SQS was lost. Run this again in "
                    f"{queues.HOLD_SECONDS} s"
                )
            name = queues.name_of(queue_url)
            raise ToolError(f"{name} still has about {total} messages, {why}.")
        time.sleep(POLL_SECONDS)


def _follow(service: Service, before: int | None) -> dict[str, Any]:
    """Show how far a redrive is until it has ended; return what SQS says of it then.

    :param before: when the one before it started: SQS lists a new one only after a moment.
    """
    shown = ""
    while True:
        move = _latest_move(service)
        if move and move["StartedTimestamp"] != before:
            text = f"  moved {move.get('ApproximateNumberOfMessagesMoved', 0)}"
            if "ApproximateNumberOfMessagesToMove" in move:
                text += f" of {move['ApproximateNumberOfMessagesToMove']}"
            if text != shown:
                print(text, flush=True)
            shown = text
            if move["Status"] not in ("RUNNING", "CANCELLING"):
                return move
        time.sleep(POLL_SECONDS)


def cancel_redrive(service: Service) -> None:
    """Stop a redrive that is under way; what has been moved stays moved.

    :raises ToolError: none is under way.
    """
    move = _latest_move(service)
    if move.get("Status") != "RUNNING":
        name = queues.name_of(service.dead_letter_queue_url)
        raise ToolError(f"No redrive of {name} is under way: nothing to cancel.")
    answer = service.client("sqs").cancel_message_move_task(TaskHandle=move["TaskHandle"])
    moved = answer.get("ApproximateNumberOfMessagesMoved", 0)
    print(f"Cancelled after about {moved} messages. The others stay in the dead-letter queue.")


@click.command
@environment_option
@click.option("--max-rate", envvar="MAX_RATE", callback=between(1, 500), help="messages a second")
@click.option("--cancel", envvar="CANCEL", is_flag=True, help="stop the one under way")
def dlq_redrive(environment: Environment, max_rate: int | None, cancel: bool) -> None:
    """Send the dead-letter queue's messages back to the service's queue."""
    service = deployed(environment)
    if cancel:
        cancel_redrive(service)
    else:
        redrive(service, max_rate)


@click.command
@environment_option
def undelivered_redrive(environment: Environment) -> None:
    """Send on what SNS could not deliver: receive, send to the service's queue, then delete.

    SQS's own redrive refuses queues that SNS feeds. A message is deleted only once SQS has
    confirmed that the queue has it; whatever goes wrong, it is in one of the queues, or in both.

    :raises ToolError: the queue is empty, or a message could not be sent or deleted; the others
        stay.
    """
    service = deployed(environment)
    source, sqs = service.undelivered_queue_url, service.client("sqs")
    fifo, sent, deleted = is_fifo(source), set[str](), set[str]()

    def forward(message: Message) -> None:
        queues.send(service, message, deduplication_id=message["MessageId"])
        sent.add(message["MessageId"])
        # Before the next of its group is sent: sent once more, it would come after that one.
        sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
        deleted.add(message["MessageId"])

    some: list[Message] = []
    problems: dict[str, str] = {}
    try:
        while not problems and (some := queues.receive(service, source)):
            problems = queues.each(some, forward, in_order=fifo)
    finally:
        held = [message for message in some if message["MessageId"] not in deleted]
        queues.show_again(service, source, held)
        print(f"Sent {len(sent)} messages of {queues.name_of(source)} to {service.queue_name}.")
    if problems:
        doubled = "sent but could not be deleted, so it is in both queues"
        rows = [
            f"{name} was {doubled if name in sent else 'not sent'}: {why}"
            for name, why in problems.items()
        ]
        if fifo and sent & problems.keys():
            rows.append("Run this again within five minutes, and SQS drops the second message.")
        raise ToolError("\n".join(rows))
    if not sent:
        raise queues.empty(service, source)
    queues.say_order(service)
    _wait_until_empty(service, source)

"""Each event is processed once, although it is delivered at least once.

A DynamoDB table remembers the events: one item each, under a hash of the event's type and its
producer's id, with a status and times, and nothing of the payload. The item is "in progress" while
the event is processed, is then completed, and is deleted if processing fails, so that the event can
be retried. README.md says what this can't promise.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyPersistenceLayerError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from {{ cookiecutter.package_name }}.message import Event, MessageError
from {{ cookiecutter.package_name }}.service import process as process_always

# Set by Terraform. If empty, as in local.env, every event is processed.
TABLE = os.environ["IDEMPOTENCY_TABLE"]

# How long a duplicate is recognised: a message may be redriven after 14 days in the dead-letter
# queue, and then wait in the queue for 7 more.
REMEMBERED = timedelta(days=21)

# How long an event counts as in progress, renewed after every third of it: a retry need not wait
# longer for a process that has died. It must end before the queue's visibility timeout does, or the
# message comes back too early and wastes a receive.
LEASE = timedelta(seconds=30)

# Seconds. A table that is slow or unavailable fails soon, which leaves time for the other messages.
CLIENT = Config(
    connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3}
)

# What boto3 raises; the last where another than AWS answers, such as a proxy.
AwsError = (BotoCoreError, ClientError, ResponseParserError)

Process = Callable[[str, Event], None]


class _NotProcessedError(Exception):
    """Stands for what `process` raised, its argument, where that is no Exception."""


logger = logging.getLogger(__name__)


class Lease(LambdaContext):
    """Tells powertools how long an event counts as in progress."""

    def __init__(self) -> None:
        """Start without a context: only LEASE limits the time."""
        self.context: LambdaContext | None = None

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]
        """Return LEASE, or the time that is left of the invocation if that is less."""
        lease = int(LEASE.total_seconds() * 1000)
        return min(lease, self.context.get_remaining_time_in_millis()) if self.context else lease


_lease = Lease()


def register_context(context: LambdaContext | None) -> None:
    """Note the context of an invocation, before its messages are processed."""
    _lease.context = context


class Table(DynamoDBPersistenceLayer):
    """The table, as powertools uses it, with a lease that is renewed."""

    def _put_record(self, data_record: DataRecord) -> None:
        super()._put_record(data_record)
        self._key = self._get_key(data_record.idempotency_key)

    def _delete_record(self, data_record: DataRecord) -> None:
        # Otherwise this error would hide why processing failed.
        try:
            super()._delete_record(data_record)
        except AwsError as error:
            logger.warning("The event stays in progress until its lease ends: %s", error)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease of the record that was put last, until the end of the block."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, done: threading.Event) -> None:
        while not done.wait(LEASE.total_seconds() / 3):
            now = datetime.now(UTC).timestamp() * 1000
            try:
                self.client.update_item(
                    TableName=self.table_name,
                    Key=self._key,
                    UpdateExpression="SET #expiration = :expiration",
                    ConditionExpression="#status = :in_progress",
                    ExpressionAttributeNames={
                        "#expiration": self.in_progress_expiry_attr,
                        "#status": self.status_attr,
                    },
                    ExpressionAttributeValues={
                        ":expiration": {"N": str(int(now + _lease.get_remaining_time_in_millis()))},
                        ":in_progress": {"S": "INPROGRESS"},
                    },
                )
            except AwsError as error:
                logger.warning("Could not renew the lease: %s", error)


def once(process: Process, table: str) -> Process:
    """Return a function that processes each event once.

    Two events are the same if they have the same type and the same producer's id.

    :param table: the DynamoDB table's name.

    Besides what `process` raises, the function raises MessageError if the event is in progress
    elsewhere or the table can't be used. The message comes back in both cases.
    """
    records = Table(table, boto_config=CLIENT)
    config = IdempotencyConfig(
        expires_after_seconds=int(REMEMBERED.total_seconds()),
        hash_function="sha256",
        lambda_context=_lease,
        response_hook=_processed_before,
    )

    # powertools sees only the key of the event. It deletes the record after an Exception only.
    def run(event_type: str, event: Event, *, key: list[str]) -> None:
        try:
            with records.renewed():
                process(event_type, event)
        except Exception:
            raise
        except BaseException as error:
            raise _NotProcessedError(error) from None

    run_once = idempotent_function(
        run,
        data_keyword_argument="key",
        persistence_store=records,
        config=config,
        key_prefix=os.environ["SERVICE"],
    )

    def process_once(event_type: str, event: Event) -> None:
        try:
            run_once(event_type, event, key=[event_type, event.id])
        except _NotProcessedError as error:
            raise error.args[0] from None
        except IdempotencyAlreadyInProgressError:
            raise MessageError("the same event is in progress; this message comes back") from None
        except IdempotencyPersistenceLayerError as error:
            raise MessageError(f"{error}; this message comes back") from error

    return process_once


def _processed_before(response: Any, idempotent_data: DataRecord) -> Any:
    """Log a duplicate with its record's key; powertools prescribes the parameters' names."""
    logger.info(
        "The event was processed before; skipping it",
        extra={"idempotency_key": idempotent_data.idempotency_key},
    )
    return response


process: Process = once(process_always, TABLE) if TABLE else process_always

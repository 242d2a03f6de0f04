"""An idempotent service whose process dies: what becomes of the event.

tests/test_idempotency.py has the rules; test_first_week.py runs such a service's own checks.
"""

import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from tools.local.event_source import Batch, EventSource
from tools.local.runtime import Runtime
from tools.local.server import LocalAws, local_aws

pytestmark = pytest.mark.slow

REGION = "us-east-1"
TIMEOUT = 8  # seconds; an event counts as in progress for no longer

# The business logic: an effect each time, and one that is tied to the event's id.
PROCESS = """
import os, signal
from pathlib import Path

folder = Path(os.environ["FOLDER"])

def process(event_type, event):
    with (folder / "effects").open("a") as file:
        file.write(event.id + "\\n")
    try:
        (folder / f"effect-of-{event.id}").touch(exist_ok=False)
    except FileExistsError:
        pass
    else:
        with (folder / "tied-effects").open("a") as file:
            file.write(event.id + "\\n")
    die("after the effect")

def die(when):
    order = folder / "die"
    if order.exists() and order.read_text() == when:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
"""

# Around the service's own handler.
HANDLER = """
import handler
from order_events.service import die

def handle(event, context):
    response = handler.handler(event, context)
    die("before the acknowledgement")
    return response
"""


@pytest.fixture(scope="module")
def package(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the service with the business logic above and with this Python's own libraries."""
    service = render(idempotency="yes")
    package = tmp_path_factory.mktemp("package") / "lambda.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("around.py", HANDLER)
        archive.writestr("order_events/service.py", PROCESS)
        for path in (service / "handler.py", *(service / "order_events").glob("*.py")):
            if path.name != "service.py":
                archive.write(path, path.relative_to(service))
        for name in ("aws-lambda-powertools", "msgspec", "typing-extensions"):
            found = distribution(name)
            for file in found.files or []:
                if ".." not in file.parts and file.suffix != ".pyc":
                    archive.write(str(found.locate_file(file)), str(file))
    return package


@dataclass(frozen=True)
class Chain:
    """A queue with the function behind it, and the folder that its effects are in."""

    aws: LocalAws
    source: EventSource
    folder: Path

    def effects(self, name: str) -> list[str]:
        return (self.folder / name).read_text().split()

    def deliver(self, event_id: str) -> list[Batch]:
        """Send an event, and deliver it until nothing of it is in the queue; return the tries."""
        data = {"order_id": "order-1", "total": "19.90"}
        event = {"id": event_id, "occurred_at": "2026-01-01T10:00:00Z", "data": data}
        attribute = {"DataType": "String", "StringValue": "order.created"}
        self.source.sqs.send_message(
            QueueUrl=self.source.queue_url,
            MessageBody=json.dumps(event),
            MessageAttributes={"event_type": attribute},
        )
        tries: list[Batch] = []
        deadline = time.monotonic() + 120
        while self.depth():
            assert time.monotonic() < deadline, f"still there after {len(tries)} tries"
            if batch := self.source.poll(wait=1):
                tries.append(batch)
            if batch is None or batch.failed:
                time.sleep(0.5)  # instead of the visibility timeout
        return tries

    def depth(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queue = self.source.sqs.get_queue_attributes(
            QueueUrl=self.source.queue_url, AttributeNames=names
        )
        return sum(int(queue["Attributes"][name]) for name in names)

    def records(self) -> list[dict[str, Any]]:
        return list(self.aws.client("dynamodb").scan(TableName="processed")["Items"])


@pytest.fixture
def chain(package: Path, tmp_path: Path) -> Iterator[Chain]:
    with local_aws(REGION) as aws:
        aws.client("dynamodb").create_table(
            TableName="processed",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        sqs = aws.client("sqs")
        environment = {
            "SERVICE": "order-events",
            "ENVIRONMENT": "test",
            "LOG_LEVEL": "DEBUG",
            "POWERTOOLS_SERVICE_NAME": "order-events",
            "POWERTOOLS_METRICS_NAMESPACE": "test",
            "IDEMPOTENCY_TABLE": "processed",
            "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
            "AWS_ENDPOINT_URL": aws.url,
            "FOLDER": str(tmp_path),
        }
        with Runtime(
            package,
            handler="around.handle",
            environment=environment,
            timeout=TIMEOUT,
            memory_size=512,
            region=REGION,
        ) as function:
            source = EventSource(
                sqs,
                sqs.create_queue(QueueName="main")["QueueUrl"],
                function,
                batch_size=10,
                report_batch_item_failures=True,
                retry_with=sqs,
            )
            yield Chain(aws, source, tmp_path)


def test_killed_after_the_effect_it_comes_back_and_is_processed_again(chain: Chain) -> None:
    """The window that README.md names: the effect twice, unless it is tied to the event's id."""
    (chain.folder / "die").write_text("after the effect")
    killed, *between, last = chain.deliver("event-1")
    assert "killed" in killed.outcome.error["errorMessage"]
    # Nothing is acknowledged that is not done.
    assert all(batch.failed for batch in (killed, *between))
    assert all("is in progress" in batch.outcome.logs for batch in between)
    assert not last.failed
    assert chain.effects("effects") == ["event-1", "event-1"]
    assert chain.effects("tied-effects") == ["event-1"]
    assert [record["status"]["S"] for record in chain.records()] == ["COMPLETED"]
    # From now on it is remembered.
    chain.deliver("event-1")
    assert chain.effects("effects") == ["event-1", "event-1"]


def test_killed_before_the_acknowledgement_it_comes_back_and_is_not_processed_again(
    chain: Chain,
) -> None:
    (chain.folder / "die").write_text("before the acknowledgement")
    killed, again = chain.deliver("event-1")
    assert "killed" in killed.outcome.error["errorMessage"]
    assert "processed before" in again.outcome.logs
    assert chain.effects("effects") == ["event-1"]


def test_not_even_debugging_writes_credentials_to_the_log(chain: Chain) -> None:
    (batch,) = chain.deliver("event-1")
    assert '"DEBUG"' in batch.outcome.logs
    for word in ("Authorization", "Signature", "x-amz-security-token"):
        assert word.lower() not in batch.outcome.logs.lower()

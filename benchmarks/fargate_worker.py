"""Measure Fargate's worker against a plain boto3 loop, with the same queue and the same handler.

The queue is in a moto server, in a process of its own: what it takes for ReceiveMessage and
DeleteMessageBatch is in both figures, as AWS's time would be. Only for Linux, whose clocks of other
processes' CPU time benchmarks/clocked.py reads. Called by bench.py.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from tools.local.isolation import isolated

HERE = Path(__file__).resolve().parent
BATCHES = 60  # of ten, in the queue before the program starts
WARM_UP = 10  # the first batches, which don't count

SETTINGS = {
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "BATCH_SIZE": "10",
    "POLLERS": "1",
    "VISIBILITY_TIMEOUT": "300",
    "TIMEOUT": "300",
    "STOP_TIMEOUT": "30",
    "SERVICE": "order-events",
    "ENVIRONMENT": "order-events-dev",
    "LOG_LEVEL": "INFO",
    "POWERTOOLS_SERVICE_NAME": "order-events",
    "POWERTOOLS_METRICS_NAMESPACE": "order-events",
}
# For each message that it gives out, moto counts all that are in the queue: all of its time.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend
SQSBackend.is_message_valid_based_on_retention_period = lambda *_: True
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def prepare(service: Path) -> None:
    """Put the clocks around a rendered service's handler, and the loop beside its worker."""
    (service / "handler.py").rename(service / "service_handler.py")
    shutil.copy(HERE / "clocked.py", service / "handler.py")
    shutil.copy(HERE / "loop.py", service / "loop.py")


def measure(service: Path) -> dict[str, float]:
    """Let the worker and the loop empty a queue, one after the other.

    :returns: for each of them ("worker", "loop") the milliseconds from the end of one batch's
        handler to the start of the next ("gap"), those of CPU time for a batch ("cpu"), and the
        messages per second of CPU time ("rate").
    """
    values: dict[str, float] = {}
    with server() as environment:
        for name, program in (("worker", "worker.py"), ("loop", "loop.py")):
            lines = run(service, program, environment)[WARM_UP:]
            gaps = [began - ended for (_, ended, _), (began, *_) in itertools.pairwise(lines)]
            cpu = (lines[-1][2] - lines[0][2]) / (len(lines) - 1)
            values[f"{name} gap"] = statistics.median(gaps) * 1000
            values[f"{name} cpu"] = cpu * 1000
            values[f"{name} rate"] = 10 / cpu
    return values


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """Run a moto server; yield the environment variables of what uses it."""
    environment = {**isolated(), **SETTINGS, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        yield {**environment, "AWS_ENDPOINT_URL": url}


def run(service: Path, program: str, environment: dict[str, str]) -> list[tuple[float, ...]]:
    """Fill a queue, run a program until it is empty, and return the lines of clocked.py."""
    sqs = boto3.client(
        "sqs",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=SETTINGS["AWS_DEFAULT_REGION"],
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    url = sqs.create_queue(QueueName=Path(program).stem)["QueueUrl"]
    for number in range(BATCHES):
        sqs.send_message_batch(QueueUrl=url, Entries=[entry(number, one) for one in range(10)])
    clocked = service / "clocked.txt"
    clocked.unlink(missing_ok=True)
    more = {"QUEUE_URL": url, "CLOCKED": str(clocked), "TMPDIR": str(service)}
    if program == "worker.py":  # whose handler has a process of its own
        more["CLOCKED_PARENT"] = "1"
    process = subprocess.Popen(
        [sys.executable, service / program],
        env={**environment, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 120
        lines: list[str] = []
        while len(lines) < BATCHES:
            if time.monotonic() > ends or process.poll() is not None:
                sys.exit(f"{program} processed {len(lines)} batches of {BATCHES}")
            time.sleep(0.2)
            lines = clocked.read_text().splitlines() if clocked.exists() else []
    finally:
        process.kill()  # its handler's process ends with it: its pipe is closed
        process.wait()
    sqs.delete_queue(QueueUrl=url)
    return [tuple(float(value) for value in line.split()) for line in lines]


def entry(batch: int, number: int) -> dict[str, Any]:
    """Return a message that the service processes, for SendMessageBatch."""
    name = f"{batch}-{number}"
    body = {
        "id": f"event-{name}",
        "occurred_at": "2026-01-01T10:00:00Z",
        "data": {"order_id": f"order-{name}", "total": "19.90"},
    }
    attributes = {"event_type": "order.created", "correlation_id": f"correlation-{name}"}
    return {
        "Id": str(number),
        "MessageBody": json.dumps(body),
        "MessageAttributes": {
            key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()
        },
    }

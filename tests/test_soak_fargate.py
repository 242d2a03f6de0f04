"""Fault injection on Fargate: messages with faults, and workers that are stopped and killed.

`make soak` sends more messages.
"""

import zipfile
from pathlib import Path

import pytest
from hostile import FACTOR
from soak.deployment import build, queues_only, render
from soak.fargate import (
    FIFO_MAX_RECEIVE_COUNT,
    MAX_RECEIVE_COUNT,
    WORKER_FAULTS,
    WORKER_FIFO_FAULTS,
    Queues,
    carry,
)
from soak.ledger import Ledger
from soak.messages import mix

MESSAGES = 200 if FACTOR == 1 else 1000
FIFO_MESSAGES, GROUPS = 500, 100
LONG = pytest.mark.skipif(FACTOR == 1, reason="`make soak` runs it; test_soak_order.py is short")
DEADLINE = 600  # seconds; generous: only a failure takes that long


@pytest.mark.slow
@pytest.mark.parametrize("fifo", [False, pytest.param(True, marks=LONG)], ids=["standard", "FIFO"])
def test_every_message_is_accounted_for(tmp_path: Path, fifo: bool) -> None:
    """With message groups, each keeps its order."""
    topic, batch_size, receives = "events", "5", MAX_RECEIVE_COUNT
    messages = mix(seed=6, count=MESSAGES, faults=WORKER_FAULTS)
    if fifo:
        topic, batch_size, receives = "events.fifo", "1", FIFO_MAX_RECEIVE_COUNT
        messages = mix(seed=6, count=FIFO_MESSAGES, faults=WORKER_FIFO_FAULTS, groups=GROUPS)
    service = render(tmp_path, compute="fargate", sns_topic_name=topic)
    package = build(service)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "app")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.announce(0, 0, True)
    with queues_only(service, package, receives, fifo=fifo) as chain:
        environment = {
            **chain.function["Environment"]["Variables"],
            **{"SOAK_LEDGER": str(ledger.path), "SOAK_SLOT": "0"},
            **{"QUEUE_URL": chain.queue_url, "AWS_DEFAULT_REGION": chain.aws.region},
            **{"BATCH_SIZE": batch_size, "POLLERS": "4", "TIMEOUT": "12"},
        }
        wrong = carry(
            Queues(chain.aws, vars(chain)),
            messages,
            tmp_path / "app",
            environment,
            ledger,
            tmp_path,
            deadline=DEADLINE,
        )
    ledger.close()
    assert wrong == []

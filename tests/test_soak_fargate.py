"""Fault injection on Fargate: messages with faults, and workers that are stopped and killed.

`make soak` sends more messages.
"""

import zipfile
from pathlib import Path

import pytest
from hostile import FACTOR
from soak.deployment import build, queues_only, render
from soak.fargate import MAX_RECEIVE_COUNT, WORKER_FAULTS, Queues, carry
from soak.ledger import Ledger
from soak.messages import mix
from worker_process import one_at_a_time

MESSAGES = 200 if FACTOR == 1 else 1000
DEADLINE = 600  # seconds; generous: only a failure takes that long


@pytest.mark.slow
def test_every_message_is_accounted_for(tmp_path: Path) -> None:
    service = render(tmp_path, compute="fargate")
    package = build(service)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "app")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.announce(0, 0, True)
    one_at_a_time()
    with queues_only(service, package, MAX_RECEIVE_COUNT) as chain:
        environment = {
            **chain.function["Environment"]["Variables"],
            **{"SOAK_LEDGER": str(ledger.path), "SOAK_SLOT": "0"},
            **{"QUEUE_URL": chain.queue_url, "AWS_DEFAULT_REGION": chain.aws.region},
            **{"BATCH_SIZE": "5", "POLLERS": "4", "TIMEOUT": "12"},
        }
        wrong = carry(
            Queues(chain.aws, vars(chain)),
            mix(seed=6, count=MESSAGES, faults=WORKER_FAULTS),
            tmp_path / "app",
            environment,
            ledger,
            tmp_path,
            deadline=DEADLINE,
        )
    ledger.close()
    assert wrong == []

"""An idempotent service on Fargate at work, by the make targets of test_service.py."""

import pytest
from conftest import Render, need, run
from test_isolation import HOSTILE

pytestmark = pytest.mark.slow


def test_its_own_checks_pass_and_the_chain_carries_messages(render: Render) -> None:
    for tool in ("make", "terraform"):
        need(tool)
    targets = ("install", "lint", "typecheck", "test", "validate", "e2e", "invoke")
    done = run("make", *targets, cwd=render(compute="fargate", idempotency="yes"), **HOSTILE)
    assert "Fargate arn:aws:ecs:" in done.stdout
    assert "\n0 of 1 messages failed.\n" in done.stdout
    assert "SIGTERM: the worker has shut down cleanly" in done.stdout
    assert "was delivered 6 times was processed once" in done.stdout

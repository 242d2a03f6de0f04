"""Fault injection on Lambda: a small run; what is found when the handler is broken.

The queues are like Terraform's but made without it, which takes a minute. `make soak` deploys.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from soak.accounting import Account, account
from soak.chain import Chain, DeadlineError, Delivery, Traffic, carry
from soak.deployment import build, changed, queues_only, render
from soak.messages import DEAD, FAULTS, Message, mix

# Generous: only a failure takes that long.
DEADLINE = 600


def test_a_seed_gives_the_same_mix() -> None:
    assert mix(seed=1, count=500) == mix(seed=1, count=500) != mix(seed=2, count=500)


# Those that don't take their batch with them: they need no visibility timeout.
FEW_FAULTS = {name: fault for name, fault in FAULTS.items() if not fault.strikes}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package of a service with the soak test's business logic."""
    return build(render(tmp_path_factory.mktemp("soak")))


@pytest.fixture
def chain(package: Path) -> Iterator[Chain]:
    """Make topic, queues and subscription."""
    with queues_only(package.parents[1], package) as made:
        yield made


@pytest.mark.slow
def test_every_message_is_accounted_for(chain: Chain, tmp_path: Path) -> None:
    """All faults."""
    messages = mix(seed=1, count=200)
    traffic = carry(chain, messages, tmp_path, deadline=DEADLINE, say=print)
    result = account(messages, traffic, chain.max_receive_count)
    print(result.table())
    assert set(result.rows) == set(FAULTS)
    assert result.problems() == ""


##### A handler that is broken on purpose


SWALLOWS_EXCEPTIONS = """
_process = process
def process(event_type, event):
    try:
        _process(event_type, event)
    except Exception:
        pass
"""
ACKNOWLEDGES_EVERYTHING = """
_handler = handler
def handler(event, context):
    _handler(event, context)
    return {"batchItemFailures": []}
"""
DROPS_UNKNOWN_EVENTS = """
from order_events.message import find_model
_checked = _succeeds
def _succeeds(record):
    try:
        known = find_model(EVENTS, _open(record)[1]["event_type"])
    except MessageError:
        known = False
    return _checked(record) if known else True
"""
RAISES = {"error that heals", "error that never heals"}
UNKNOWN = {"no event_type", "unknown event_type"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("addition", "hit"),
    [
        (SWALLOWS_EXCEPTIONS, RAISES),
        (ACKNOWLEDGES_EVERYTHING, {n for n, f in FEW_FAULTS.items() if f.ends == DEAD} | RAISES),
        (DROPS_UNKNOWN_EVENTS, UNKNOWN),
    ],
    ids=["swallows exceptions", "acknowledges everything", "drops unknown events"],
)
def test_a_broken_handler_is_found_out(
    chain: Chain, tmp_path: Path, addition: str, hit: set[str]
) -> None:
    change = {"handler.py": lambda text: text + addition}
    chain = replace(chain, package=changed(chain.package, f"{tmp_path.name}.zip", change))
    messages = mix(seed=2, count=60, faults=FEW_FAULTS)
    traffic = carry(chain, messages, tmp_path, deadline=DEADLINE, say=print)
    result = account(messages, traffic, chain.max_receive_count)
    names = [message.name for message in messages if message.fault in hit]
    text = "acknowledged without being processed"
    assert {text: set(found) for text, found in result.findings.items()} == {text: set(names)}
    assert sum(row["acknowledged unprocessed"] for row in result.rows.values()) == len(names)


@pytest.mark.slow
def test_with_idempotency_each_event_has_its_effect_once(tmp_path: Path) -> None:
    """All faults, duplicates and processes killed between effect and acknowledgement included."""
    service = render(tmp_path, idempotency="yes")
    messages = mix(seed=4, count=150)
    with queues_only(service, build(service)) as chain:
        traffic = carry(chain, messages, tmp_path, deadline=DEADLINE, say=print)
    result = account(messages, traffic, chain.max_receive_count, once=True)
    print(result.table())
    assert result.problems() == ""


def test_a_run_that_takes_too_long_says_which_messages_are_missing(
    chain: Chain, tmp_path: Path
) -> None:
    messages = mix(seed=3, count=60, faults=FEW_FAULTS)
    with pytest.raises(DeadlineError, match="not done with: seed3-"):
        carry(chain, messages, tmp_path, deadline=0, say=print)


##### The accounting itself


def good(name: str = "a", event_id: str = "e") -> Message:
    return Message(name, "none", event_id, "order.created", "{}", "topic")


def traffic_of(*verdicts: str, effects: int = 1, dead: bool = False) -> Traffic:
    """Return what was seen of message a: its deliveries, in batches 1, 2, …; the effect in 1."""
    deliveries = [Delivery("a", n, n, verdict, "R") for n, verdict in enumerate(verdicts, 1)]
    return Traffic(
        deliveries={"a": deliveries},
        dead_letters=["a"] if dead else [],
        in_order=[("e", 1)] * effects,
    )


def of(fault: str) -> Message:
    return replace(good(), fault=fault)


@pytest.mark.parametrize(
    ("message", "traffic", "finding"),
    [
        (good(), traffic_of("done"), ""),
        (good(), traffic_of("lost", effects=0), "neither processed nor dead-lettered"),
        (good(), traffic_of(effects=0), "neither processed nor dead-lettered"),
        (good(), traffic_of("done", effects=0), "acknowledged without being processed"),
        (good(), traffic_of("kept", "done"), "acknowledged without being processed"),
        (good(), traffic_of("failed", "done"), "processed, yet reported as failed"),
        (good(), traffic_of("done", dead=True), "both processed and dead-lettered"),
        (good(), traffic_of("lost", dead=True), "both processed and dead-lettered"),
        (good(), traffic_of("failed", effects=0, dead=True), "dead-lettered (R), not processed"),
        (
            of("missing field"),
            traffic_of("failed", effects=0, dead=True),
            "dead-lettered for {'R'}",
        ),
        (
            of("missing field"),
            traffic_of("failed", effects=0, dead=True),
            "after 1 receives, not 5",
        ),
        (
            of("missing field"),
            traffic_of("done", effects=0),
            "acknowledged without being processed",
        ),
        (of("too large for SNS"), traffic_of("done"), "not refused, as they had to be"),
        (of("unknown event_type, to the topic"), traffic_of("done"), "not filtered out, as"),
        (of("throttled"), traffic_of("done"), "of fault “throttled” that never struck"),
    ],
)
def test_what_is_found(message: Message, traffic: Traffic, finding: str) -> None:
    result = account([message], traffic, max_receive_count=5)
    assert finding in result.problems()
    assert bool(result.findings) == bool(finding)
    assert ("a" in result.problems()) == bool(finding)


def test_what_nobody_sent_is_found() -> None:
    traffic = traffic_of("done")
    traffic.dead_letters = ["stranger"]
    traffic.undelivered = ["lost"]
    problems = account([good()], traffic, max_receive_count=5).problems()
    assert "unknown messages in the dead-letter queue: stranger" in problems
    assert "undelivered by SNS: lost" in problems


def test_an_idempotent_service_has_each_effect_once() -> None:
    """Two messages with one event: the second is done without an effect of its own."""
    messages = [good("a"), good("b")]
    traffic = traffic_of("done")
    traffic.deliveries["b"] = [Delivery("b", 2, 1, "done")]

    def accounted(once: bool) -> Account:
        return account(messages, traffic, max_receive_count=5, once=once)

    assert accounted(once=True).problems() == ""
    assert "acknowledged without being processed: b" in accounted(once=False).problems()
    traffic.effects["e", 2] = 1
    assert "processed 2 times, not once: e" in accounted(once=True).problems()
    assert accounted(once=False).problems() == ""

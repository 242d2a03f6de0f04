"""Fault injection with message groups: a small run; what is found when groups are ignored.

The queues are like Terraform's but made without it. `make soak FIFO=yes` deploys.
"""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SERVICE
from moto.sqs.models import SQSBackend
from soak.accounting import Account, account
from soak.chain import Delivery, Traffic, carry
from soak.deployment import build, changed, queues_only, render
from soak.fargate import Queues, note_deaths, order_problems
from soak.ledger import Ledger
from soak.messages import FIFO_FAULTS, RELEASE, REPEATED, Fault, Message, mix
from soak.order import EARLY, LATE
from worker_process import until, worker

# Generous: only a failure takes that long.
DEADLINE = 600

# Without what starts many processes, or waits for the function's timeout.
QUICK_FAULTS = {name: f for name, f in FIFO_FAULTS.items() if name not in (RELEASE, "timeout")}
# Without what takes whole batches: in a few batches of ten that would strike in no run or in each.
FEW_FAULTS = {name: fault for name, fault in FIFO_FAULTS.items() if not fault.strikes}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package of a FIFO service with the soak test's business logic."""
    return build(render(tmp_path_factory.mktemp("soak"), sns_topic_name="events.fifo"))


def accounted(
    package: Path, folder: Path, batch_size: int, count: int, faults: dict[str, Fault]
) -> Account:
    """Carry a small mix through a package's handler; return the account."""
    service = package.parents[1]
    with queues_only(
        service, package, fifo=True, batch_size=batch_size, visibility_timeout=2
    ) as chain:
        messages = mix(seed=7, count=count, faults=faults, groups=8)
        # A small backlog, so that much is repeated only after the first one was deleted.
        traffic = carry(
            chain, messages, folder, deadline=DEADLINE, say=print, hand_back=0, backlog=30
        )
        result = account(messages, traffic, chain.max_receive_count)
    print(result.table())
    return result


@pytest.mark.slow
def test_every_group_keeps_its_order(package: Path, tmp_path: Path) -> None:
    """One message in a batch, as a FIFO service has it unless somebody changes that."""
    result = accounted(package, tmp_path, 1, 150, QUICK_FAULTS)
    assert set(result.rows) == set(QUICK_FAULTS)
    assert result.problems() == ""


IGNORES_GROUPS = """
_handler = handler
def handler(event, context):
    answers = [_handler({"Records": [record]}, context) for record in event["Records"]]
    return {"batchItemFailures": [one for answer in answers for one in answer["batchItemFailures"]]}
"""


@pytest.mark.slow
@pytest.mark.parametrize("addition", ["", IGNORES_GROUPS], ids=["as it is", "ignores groups"])
def test_a_handler_that_ignores_groups_is_found_out(
    package: Path, tmp_path: Path, addition: str
) -> None:
    """Ten messages in a batch; the handler as it is holds back what is behind a failed one."""
    change = {"handler.py": lambda text: text + addition}
    package = changed(package, f"{tmp_path.name}.zip", change)
    result = accounted(package, tmp_path, 10, 80, FEW_FAULTS)
    assert set(result.findings) == ({EARLY, "not held back"} if addition else set())


HAS_NO_GUARD = """
Poller.overdue = lambda poller: False
"""


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False], ids=["as it is", "has no guard"])
def test_a_worker_whose_heartbeat_is_broken_is_found_out(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """SQS refuses every heartbeat, and the first try of the first message takes too long.

    The worker as it is kills the handler before another poller gets the message.
    """
    app = tmp_path / "app"
    with zipfile.ZipFile(package) as archive:
        archive.extractall(app)
    text = (SERVICE / "worker.py").read_text(encoding="utf-8")
    end = 'if __name__ == "__main__":'
    (app / "worker.py").write_text(text if guarded else text.replace(end, HAS_NO_GUARD + end))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.announce(0, 0, True)
    messages = mix(seed=8, count=4, faults={"none": FIFO_FAULTS["none"]}, groups=1)
    stalling = messages[0].body.replace('"data": {', '"data": {"stalls": 12, ')
    messages[0] = replace(messages[0], body=stalling)
    with queues_only(package.parents[1], package, fifo=True) as chain:
        queues = Queues(chain.aws, vars(chain))
        ended = note_deaths(chain.dead_letter_queue_url, ledger)
        monkeypatch.setattr(SQSBackend, "change_message_visibility_batch", refuse)
        environment = {
            **chain.function["Environment"]["Variables"],
            **{"SOAK_LEDGER": str(ledger.path), "SOAK_SLOT": "0", "STOP_TIMEOUT": "2"},
            **{"QUEUE_URL": chain.queue_url, "AWS_DEFAULT_REGION": chain.aws.region},
            **{"POLLERS": "2", "VISIBILITY_TIMEOUT": "6", "TIMEOUT": "60"},
        }
        with worker(app, tmp_path / "worker.log", **environment) as process:
            for message in messages:
                assert queues.publish(message)
            until(lambda: queues.depth() == 0, "the queue is not empty", DEADLINE)
            if not guarded:
                until(lambda: ledger.count() > len(messages), "the first try has no effect")
            process.stop()
        dead = queues.dead_letters()
    found = order_problems(messages, ledger, {n: ended[i] for n, i in dead.items()})
    assert found == ([] if guarded else [f"{messages[0].name} was {LATE}"]), process.log.read_text()
    assert len(ledger.effects()) == len(messages)
    ledger.close()


def refuse(_backend: object, _queue: str, entries: list[dict[str, str]]) -> tuple[list, list]:
    """Refuse to change any message's visibility timeout, as SQS may."""
    failure = {"SenderFault": False, "Code": "InternalError", "Message": "refused on purpose"}
    return [], [{"Id": entry["Id"], **failure} for entry in entries]


def test_the_mix_is_in_groups() -> None:
    messages = mix(seed=1, count=500, faults=FIFO_FAULTS, groups=7)
    assert len(messages) == 500
    assert {message.group for message in messages} == {f"customer-{n}" for n in range(7)}
    by_name = {message.name: message for message in messages}
    repeated = [message for message in messages if message.fault == REPEATED]
    assert repeated
    for message in repeated:
        first = by_name[message.repeats]
        assert messages.index(first) < messages.index(message)
        assert (first.in_group, first.body) == (message.in_group, message.body)
    ids = [m.in_group["MessageDeduplicationId"] for m in messages if m.fault != REPEATED]
    assert len(set(ids)) == len(ids), "what is published twice has two"


##### The accounting itself: messages a, b and c of one group, d of another


def of(name: str, fault: str = "none", event: str = "", group: str = "g") -> Message:
    event_id = f"event-{event or name}"
    return Message(name, fault, event_id, "order.created", "{}", "topic", group=group)


ABC = [of("a"), of("b"), of("c")]


def seen(*batches: str, effects: str = "", dead: str = "", ended: int = 0) -> Traffic:
    """Return what was seen: of each batch the messages and what became of them, "a:done b:held/a".

    :param effects: messages and batches, in order: "a1 b2".
    :param dead: the dead letters, in order; how many effects there had been is `ended`.
    """
    traffic = Traffic(sent=["a", "b", "c", "d"], dead_letters=dead.split())
    for number, batch in enumerate(batches, 1):
        traffic.contents[number] = [part[0] for part in batch.split()]
        for part in batch.split():
            name, _, verdict = part.partition(":")
            verdict, _, reason = verdict.partition("/")
            count = 5 if verdict == "last" else len(traffic.deliveries[name]) + 1
            verdict = "failed" if verdict == "last" else verdict
            traffic.deliveries[name].append(Delivery(name, number, count, verdict, reason))
    traffic.in_order = [(f"event-{effect[0]}", int(effect[1:])) for effect in effects.split()]
    traffic.ended = dict.fromkeys(traffic.dead_letters, ended)
    return traffic


@pytest.mark.parametrize(
    ("traffic", "finding"),
    [
        # One message in a batch.
        (seen("a:done", "b:done", "c:done", effects="a1 b2 c3"), ""),
        (seen("b:done", "a:done", "c:done", effects="b1 a2 c3"), f"{EARLY}: b"),
        (seen("a:lost", "b:done", "a:done", "c:done", effects="a1 b2 a3 c4"), f"{LATE}: a"),
        (seen("a:lost", "a:done", "b:done", "c:done", effects="a1 a2 b3 c4"), ""),
        (seen("a:kept", "a:done", "b:done", "c:done", effects="a1 a2 b3 c4"), ""),
        # A message that fails holds back its group, until it is a dead letter.
        (seen("a:failed b:held/a", "a:done b:done", "c:done", effects="a2 b2 c3"), ""),
        (seen("a:failed b:done", "a:done", "c:done", effects="b1 a2 c3"), f"{EARLY}: b"),
        (seen("a:failed b:done", "a:done", "c:done", effects="b1 a2 c3"), "not held back: b"),
        (seen("a:failed d:held/a", "a:done d:done", effects="a2 d2"), "held back for nothing: d"),
        (seen("a:failed b:held/d", "a:done b:done", effects="a2 b2"), "for another one: b"),
        (seen("a:last b:done", "c:done", effects="b1 c2", dead="a", ended=1), ""),
        (seen("a:last b:held/a", "b:done", effects="b2", dead="a"), "held back for nothing: b"),
        (seen("a:last", "b:done", "c:done", effects="b2 c3", dead="a"), ""),
        (seen("b:done", "a:last", "c:done", effects="b1 c3", dead="a", ended=1), f"{EARLY}: b"),
        (seen("b:done a:last", "c:done", effects="b1 c2", dead="a", ended=1), f"{EARLY}: b"),
        (seen("a:last", "b:last", dead="b a"), "dead letters after later ones of their groups: a"),
        # A batch that was cut off is repeated as a whole.
        (seen("a:lost b:lost", "a:done b:done", "c:done", effects="a1 b1 a2 b2 c3"), ""),
        (seen("a:kept b:kept", "a:done b:done", "c:done", effects="a1 b1 a2 b2 c3"), ""),
        (seen("a:lost b:done", "a:done", "c:done", effects="a1 b1 a2 c3"), f"{LATE}: a"),
        (seen("a:lost", "b:lost", "a:done b:done", effects="a1 b2 a3 b3"), f"{LATE}: a"),
        # Other groups don't matter.
        (seen("d:done", "a:done", "b:done", "c:done", effects="d1 a2 b3 c4"), ""),
    ],
)
def test_what_is_found(traffic: Traffic, finding: str) -> None:
    faults = dict.fromkeys(traffic.dead_letters, "error that never heals")
    messages = [replace(m, fault=faults.get(m.name, "none")) for m in [*ABC, of("d", group="h")]]
    messages = [m for m in messages if traffic.deliveries[m.name]]
    problems = account(messages, traffic, max_receive_count=5).problems().splitlines()
    # What is amiss with the dead letters themselves is test_soak.py's.
    problems = [line for line in problems if not line.split(" ", 1)[1].startswith("dead-lettered")]
    assert any(finding in line for line in problems) if finding else not problems, problems


@pytest.mark.parametrize(
    ("effects", "finding"),
    [("a1 b2 a3", ""), ("a1 a2 b3", ""), ("b1 a2 a3", EARLY), ("a1 b2 a3 b4", LATE)],
)
def test_an_event_that_is_published_twice(effects: str, finding: str) -> None:
    """Messages a and c have one event: which of them an effect belongs to isn't written on it.

    In the second case a's was repeated, and c is still to come.
    """
    messages = [of("a"), of("b"), of("c", event="a")]
    names = {"a": iter("ac"), "b": iter("bb")}
    batches = [f"{next(names[effect[0]], 'c')}:done" for effect in effects.split()]
    problems = account(messages, seen(*batches, effects=effects), max_receive_count=5).problems()
    assert (EARLY in problems, LATE in problems) == (finding == EARLY, finding == LATE)


@pytest.mark.parametrize(("effects", "finding"), [("a1 b2", ""), ("b2 a3", f"{EARLY}: b")])
def test_with_idempotency_the_first_of_two_messages_has_the_effect(
    effects: str, finding: str
) -> None:
    messages = [of("a"), of("b"), of("c", event="a")]
    traffic = seen("a:done", "b:done", "c:done", effects=effects)
    assert finding in account(messages, traffic, 5, once=True).problems()
    assert bool(account(messages, traffic, 5, once=True).findings) == bool(finding)


def test_an_error_that_would_have_healed_may_die_behind_another_one() -> None:
    message = of("b", "error that heals")
    tries = [Delivery("b", n, n, "held", "a") for n in range(1, 5)]
    died = Delivery("b", 5, 5, "failed", "ConnectionError")
    for deliveries, is_right in (
        ([*tries, died], True),
        ([*tries[:3], died], False),
        ([*tries, replace(died, reason="KeyError")], False),
        ([replace(died, batch=n, receive_count=n) for n in range(1, 6)], False),
    ):
        traffic = Traffic(deliveries={"b": deliveries}, dead_letters=["b"])
        problems = account([message], traffic, max_receive_count=5).problems()
        assert ("dead-lettered" not in problems) == is_right, problems


def test_what_repeats_a_deduplication_id_must_be_dropped() -> None:
    messages = [of("a"), replace(of("b", REPEATED, event="a"), repeats="a")]
    right = seen("a:done", effects="a1")
    assert account(messages, right, max_receive_count=5).problems() == ""
    wrong = seen("a:done", "b:done", effects="a1 a2")
    assert "not dropped, as they had to be: b" in account(messages, wrong, 5).problems()

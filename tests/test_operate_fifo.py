"""The operator's commands where the topic and the queues are FIFO: tools/operate on moto."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_operate
import test_operate_faults
from moto import mock_aws
from moto.sqs.models import sqs_backends
from test_operate import (
    ACCOUNT,
    ATTRIBUTES,
    NAME,
    ORDER,
    REGION,
    Deployed,
    client,
    deploy,
    own_clock,
)
from tools.deploy import terraform
from tools.operate import queues, redrive
from tools.project import project

# Fixtures of the operator's commands; pytest finds them by these names.
_quick = test_operate._quick
new_clients = test_operate.new_clients
failing = test_operate.failing
wire = test_operate_faults.wire

LATER = "They come after the messages of their groups that went on in the meantime.\n"
HIDDEN = "SQS shows the first ten messages of a group; the others once these are gone.\n"
FAILED = {"level": "ERROR", "message": "Message failed", "error": "KeyError"}
DONE = {"level": "INFO", "message": "Message processed"}


class Fifo(Deployed):
    """The same service with FIFO queues and a FIFO topic."""

    def put(self, queue: str, group: str, *bodies: str) -> list[str]:
        """Send messages of a group; to dlq as dead letters. Returns their ids."""
        ids = [
            client("sqs").send_message(
                QueueUrl=self.urls[queue],
                MessageBody=body,
                MessageAttributes=ATTRIBUTES,
                MessageGroupId=group,
                MessageDeduplicationId=f"{group} {body}",
            )["MessageId"]
            for body in bodies
        ]
        if queue == "dlq":
            for message in sqs_backends[ACCOUNT][REGION].queues[f"{NAME}-dlq.fifo"]._messages:
                message.source_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}.fifo"
        return ids

    def by_group(self, queue: str) -> dict[str, list[str]]:
        """Take all messages of a queue as the service would; return each group's bodies."""
        found = defaultdict(list)
        url = self.urls[queue]
        while (
            received := client("sqs")
            .receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["MessageGroupId"]
            )
            .get("Messages")
        ):
            for message in received:
                found[message["Attributes"]["MessageGroupId"]].append(message["Body"])
                client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return dict(found)


@pytest.fixture
def fifo(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fifo]:
    pyproject = tmp_path / "pyproject.toml"
    table = "[tool.cookiecutter-lambda-python]\n"
    assert table in pyproject.read_text()
    pyproject.write_text(pyproject.read_text().replace(table, f"{table}fifo = true\n"))
    project.cache_clear()
    with mock_aws(config={"lambda": {"use_docker": False}}):
        made = Fifo(*deploy(tmp_path, ".fifo"), capfd)
        monkeypatch.setattr(terraform, "outputs", lambda environment: dict(made.outputs))
        yield made
    project.cache_clear()


def numbered(start: int, end: int) -> list[str]:
    return [f"b{n:02}" for n in range(start, end)]


##### publish, smoke


def test_publish_puts_a_message_into_a_group(fifo: Fifo) -> None:
    said = [fifo.done("publish", "--group", "order-1") for _ in range(2)]
    assert all(re.search(r", correlation_id test-\S+, group order-1\.\n", one) for one in said)
    assert len(fifo.by_group("queue")["order-1"]) == 2


def test_publish_without_a_group_is_in_one_of_its_own(fifo: Fifo, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps({**ORDER, "id": "Größe 5"}))  # SNS takes no such group
    said = [fifo.done("publish", *more) for more in ([], [], ["--body-file", file])]
    own = [found[1] for one in said if (found := re.search(r", group (\S+)\.\n", one))]
    assert sorted(fifo.by_group("queue")) == sorted(own)
    assert len(set(own)) == 3
    assert own[2].startswith("test-")


def test_a_group_that_sns_refuses_is_refused(fifo: Fifo) -> None:
    said = fifo.refused("publish", "--group", "a\x1b[2J")
    assert said.startswith(r"GROUP is 'a\x1b[2J': it must have")
    assert said.count("\n") == 1
    assert fifo.by_group("queue") == {}


def test_smoke_tests_do_not_wait_for_each_other(
    fifo: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_seconds: float) -> None:
        for message in fifo.messages("queue"):
            fifo.log({"message_id": message["MessageId"], "message": "Smoke test received"}, ago=0)

    own_clock(monkeypatch, "tools.operate.send", sleep=sleep)
    for _ in range(2):
        assert f"{NAME} works" in fifo.done("smoke")
    assert [group[:11] for group in fifo.by_group("queue")] == ["smoke-test-"] * 2


##### peek


def test_peek_shows_groups_and_the_queues_order(fifo: Fifo) -> None:
    ids = [fifo.put("dlq", f"order-{n % 2}", str(n))[0] for n in range(4)]
    for message in sqs_backends[ACCOUNT][REGION].queues[f"{NAME}-dlq.fifo"]._messages:
        message.sent_timestamp -= message.sent_timestamp % 60_000  # all at once
    said = fifo.done("dlq-peek")
    assert re.findall(r"message id:  (\S+)", said) == ids
    assert re.findall(r"group:       (.*)", said) == ["order-0", "order-1"] * 2
    sequence = re.findall(r"sequence:    (\d{20})\n", said)
    assert sequence == sorted(set(sequence))
    assert len(sequence) == 4
    assert said.count("here since:  20") == 4
    assert HIDDEN not in said
    assert fifo.by_group("dlq") == {"order-0": ["0", "2"], "order-1": ["1", "3"]}


def test_peek_shows_a_group_of_ten_whole_and_of_a_longer_one_the_first(fifo: Fifo) -> None:
    for group in ("a", "b", "c"):  # SQS's tens end in the middle of b, and of what is left of it
        fifo.put("dlq", group, *numbered(0, 6))
    assert HIDDEN not in (said := fifo.done("dlq-peek"))
    assert "18 of about 18 messages" in said
    fifo.put("dlq", "a", *numbered(6, 15))
    assert HIDDEN not in fifo.done("dlq-peek", "--max", "12")
    said = fifo.done("dlq-peek", "--max", "50")
    assert "22 of about 27 messages" in said
    assert said.endswith(HIDDEN)


def test_peek_finds_why_in_the_log_of_before_the_message_was_moved(fifo: Fifo) -> None:
    [message_id] = fifo.put("dlq", "order-1", "{}")  # a dead letter's time begins anew
    failed = {**FAILED, "message_id": message_id, "message_group_id": "order-1"}
    for ago in (170, 140, 110, 80):
        fifo.log({**failed, "group": "waits"}, ago=ago)
    fifo.log({**failed, "group": "goes on"}, ago=50)
    said = fifo.done("dlq-peek")
    assert "why:         ERROR     Message failed  error=KeyError  group=goes on\n" in said
    assert "errors in the log: 5" in said


##### save and replay


def test_what_peek_saves_replay_sends_in_order(fifo: Fifo, tmp_path: Path) -> None:
    expected = {f"order-{n}": numbered(0, 4 + n) for n in range(4)}
    for place in range(7):
        for group, bodies in expected.items():
            fifo.put("dlq", group, *bodies[place : place + 1])
    file = tmp_path / "saved.jsonl"
    fifo.done("dlq-peek", "--save", file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    sequence = [line["sequence_number"] for line in lines]
    assert sequence == sorted(set(sequence), key=int)
    for _ in range(2):  # each a repeat that is meant: nothing of it is dropped as a duplicate
        assert LATER in fifo.done("replay", "--file", file)
        assert fifo.by_group("queue") == expected
    assert fifo.by_group("dlq") == expected


def test_a_group_that_cannot_be_saved_whole(fifo: Fifo, tmp_path: Path) -> None:
    fifo.put("dlq", "a", *numbered(0, 15))
    file = tmp_path / "saved.jsonl"
    code, out, err = fifo.run("dlq-peek", "--save", file)
    assert (code, len(file.read_text().splitlines())) == (1, 10)
    assert HIDDEN in out
    assert err.startswith(f"Saved 10 of about 15 messages to {file}: do not delete the others yet.")
    assert "A group has more than ten, or someone else" in err


def test_a_file_of_a_standard_service_and_the_other_way_round(fifo: Fifo, tmp_path: Path) -> None:
    file = save(tmp_path, ("order-1", "b0"), (None, "b1"))
    said = fifo.refused("replay", "--file", file)
    assert said.startswith(f"{file}, line 2 has no message_group_id, and {NAME}.fifo is a FIFO")
    assert said.count("\n") == 1
    assert fifo.by_group("queue") == {}
    # A standard queue takes groups, as a fair queue does, and keeps no order.
    standard = client("sqs").create_queue(QueueName=NAME)["QueueUrl"]
    fifo.outputs |= {"queue_url": standard, "queue_name": NAME}
    fifo.urls["queue"] = standard
    assert LATER not in fifo.done("replay", "--file", file)
    assert sorted(fifo.bodies("queue")) == ["b0", "b1"]


def save(folder: Path, *messages: tuple[str | None, str]) -> Path:
    """Write a file as peek saves it, of groups and bodies."""
    file = folder / "saved.jsonl"
    rows = [
        json.dumps({"body": body, "message_attributes": {}, "message_group_id": group})
        for group, body in messages
    ]
    file.write_text("\n".join(rows))
    return file


def test_replay_stops_a_group_where_it_fails(
    fifo: Fifo, tmp_path: Path, failing: Callable[..., None]
) -> None:
    file = save(tmp_path, *((f"order-{n % 3}", f"b{n:02}") for n in range(24)))
    failing("send_message", lambda _queue, body, *_: body == "b04")
    code, out, err = fifo.run("replay", "--file", file)
    assert code == 1
    assert "Sent 8 of 24" in out
    assert "Stopped. Not sent, or not confirmed: all from line 11 on.\n" in out
    assert sorted(err.splitlines()) == [
        "line 5 was not sent: SendMessage failed: Planted (InvalidParameterValue)",
        "line 8 was not sent: it comes after line 5",
    ]
    assert fifo.by_group("queue") == {
        "order-0": ["b00", "b03", "b06", "b09"],
        "order-1": ["b01"],
        "order-2": ["b02", "b05", "b08"],
    }


def test_an_interrupted_replay_goes_on_where_it_stopped(
    fifo: Fifo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = numbered(0, 40)
    file = save(tmp_path, *((f"order-{int(body[1:]) % 7}", body) for body in bodies))
    send = queues.send

    def stop(service: Any, message: Any) -> None:
        if message["Body"] == "b14":
            raise KeyboardInterrupt
        send(service, message)

    with monkeypatch.context() as patched:
        patched.setattr(queues, "send", stop)
        code, out, _ = fifo.run("replay", "--file", file)
    assert code == 130
    named = re.search(r"Not sent, or not confirmed: (.*)all from line (\d+) on\.", out)
    assert named is not None
    rest = {*map(int, re.findall(r"\d+", named[1])), *range(int(named[2]), 41)}
    assert 15 in rest
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[number - 1] for number in sorted(rest)))
    fifo.done("replay", "--file", file)
    assert fifo.by_group("queue") == {f"order-{n}": bodies[n::7] for n in range(7)}


##### Redrives


def test_redrive_keeps_groups_and_order(fifo: Fifo) -> None:
    expected = {f"order-{n}": numbered(0, 12 - n) for n in range(3)}
    for group, bodies in expected.items():
        fifo.put("dlq", group, *bodies)
    said = fifo.done("dlq-redrive")
    assert said.count(LATER) == 1
    assert said.endswith(f"Done: about 33 messages are back in {NAME}.fifo.\n")
    assert fifo.by_group("queue") == expected
    assert fifo.by_group("dlq") == {}


def test_a_redrive_to_a_queue_that_holds_its_groups_says_what_to_do(fifo: Fifo) -> None:
    fifo.put("dlq", "order-1", "b")
    hold_groups(fifo)
    said = fifo.refused("dlq-redrive")
    assert said.startswith(f"SQS moves nothing to {NAME}.fifo while hold_failed_groups is true")
    assert "`make dlq-peek SAVE=file` and send them with `make replay FILE=file`" in said
    assert said.count("\n") == 1


def hold_groups(fifo: Fifo) -> None:
    """Do what hold_failed_groups does: the queue has no redrive policy."""
    url = fifo.urls["queue"]
    client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})


@pytest.mark.parametrize("command", ["dlq-redrive", "undelivered-redrive"])
def test_a_redrive_is_not_done_while_another_look_holds_a_group(
    fifo: Fifo, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "COUNT_SECONDS", 0.1)
    queue = command.partition("-")[0]
    for group in ("a", "b"):
        fifo.put(queue, group, *numbered(0, 3))
    client("sqs").receive_message(QueueUrl=fifo.urls[queue], VisibilityTimeout=60)
    said = fifo.refused(command)
    # SQS locks all three, though it has handed out one.
    assert said.startswith(f"{NAME}-{queue}.fifo still has about 3 messages, 1 of them in flight:")
    assert fifo.by_group("queue") == {"b": numbered(0, 3)}


def test_undelivered_messages_are_sent_on_in_order(fifo: Fifo) -> None:
    expected = {f"order-{n}": numbered(0, 1 + 12 * n) for n in range(3)}
    for group, bodies in expected.items():
        fifo.put("undelivered", group, *bodies)
    said = fifo.done("undelivered-redrive")
    assert said == f"Sent 39 messages of {NAME}-undelivered.fifo to {NAME}.fifo.\n{LATER}"
    assert fifo.by_group("queue") == expected
    assert fifo.by_group("undelivered") == {}


def test_a_message_that_cannot_be_sent_on_keeps_its_group_back(
    fifo: Fifo, failing: Callable[..., None]
) -> None:
    ids = [fifo.put("undelivered", f"order-{n % 2}", f"b{n}")[0] for n in range(6)]
    failing("send_message", lambda _queue, body, *_: body == "b1")
    code, out, err = fifo.run("undelivered-redrive")
    assert (code, "Sent 3 messages" in out) == (1, True)
    assert err.splitlines() == [
        f"{ids[1]} was not sent: SendMessage failed: Planted (InvalidParameterValue)",
        f"{ids[3]} was not sent: it comes after {ids[1]}",
        f"{ids[5]} was not sent: it comes after {ids[1]}",
    ]
    assert fifo.by_group("queue") == {"order-0": ["b0", "b2", "b4"]}
    assert fifo.by_group("undelivered") == {"order-1": ["b1", "b3", "b5"]}


def test_what_cannot_be_deleted_is_not_doubled_and_nothing_overtakes_it(
    fifo: Fifo, failing: Callable[..., None]
) -> None:
    ids = fifo.put("undelivered", "order-1", "b0", "b1", "b2")
    fails = iter([True])
    failing("delete_message", lambda *_: next(fails, False))
    said = fifo.refused("undelivered-redrive")
    assert f"{ids[0]} was sent but could not be deleted, so it is in both queues" in said
    assert "Run this again within five minutes, and SQS drops the second message." in said
    assert f"{ids[1]} was not sent: it comes after {ids[0]}" in said
    fifo.done("undelivered-redrive")
    assert fifo.by_group("queue") == {"order-1": ["b0", "b1", "b2"]}


@pytest.mark.parametrize("wanted", ["SendMessage", "DeleteMessage"])
def test_answers_that_are_lost_double_nothing(
    fifo: Fifo, wire: test_operate_faults.Wire, wanted: str
) -> None:
    expected = {f"order-{n}": numbered(0, 8) for n in range(3)}
    for group, bodies in expected.items():
        fifo.put("undelivered", group, *bodies)
    wire(test_operate_faults.lost(wanted, every=5))
    fifo.done("undelivered-redrive")
    assert fifo.by_group("queue") == expected


##### status, logs


def test_status_names_the_groups_that_wait(fifo: Fifo) -> None:
    def line(number: int, of: str, **fields: str) -> dict[str, Any]:
        message_id = f"{number:08}-0000-4000-8000-000000000000"
        return {**FAILED, "message_id": message_id, "message_group_id": of, **fields}

    none = "groups:       none blocked, as far as the log of the last 60 s shows\n"
    assert none in fifo.done("status")
    fifo.log(line(1, "of an empty queue", group="waits"), ago=10)
    assert none in fifo.done("status")
    fifo.log({**line(1, "of an empty queue"), **DONE}, ago=5)
    fifo.put("queue", "order-1", "b0")
    fifo.log(line(9, "long-ago", group="waits"), ago=90)  # SQS tries again after 30 s
    fifo.log(line(2, "succeeded", group="waits"), ago=40)
    fifo.log({**line(2, "succeeded"), **DONE}, ago=10)
    fifo.log(line(3, "dead-letter", group="waits"), ago=40)
    fifo.log(line(3, "dead-letter", group="goes on"), ago=35)  # after another 30 s it is moved
    fifo.log({**FAILED, "message_id": "of-standard"}, '{"message": "Message failed"', "[]")
    assert none in fifo.done("status")
    for ago in (100, 70, 40):
        fifo.log(line(4, "order-4", group="waits"), ago=ago)
    fifo.log({**line(5, "order-4"), "message": "Message held back"}, ago=5)
    fifo.log(line(8, "order-8", group="waits"), ago=30)
    fifo.log(line(8, "order-8", group="goes on"), ago=10)
    fifo.log(line(6, "a  b\n\x1b[2J", group="waits"), ago=20)
    fifo.log({**line(7, "forged", group="waits"), "message_id": '" || x'}, ago=20)
    said = fifo.done("status")
    rows = re.search(
        r"groups:       3 blocked, as far as the log of the last 60 s shows\n(( {14}.*\n)+)", said
    )
    assert rows is not None
    first, second, third = rows[1].splitlines()
    assert re.fullmatch(
        r" {14}order-4 since [\d: -]+Z, by message 00000004-\S+, failed tries: 3", first
    )
    assert re.fullmatch(
        r" {14}order-8 since .*, failed tries: 2, a dead letter by [\d: -]+Z", second
    )
    assert re.fullmatch(r' {14}"a  b\\n\\u001b\[2J" since .*, failed tries: 1', third)
    assert test_operate_faults.harmless(said)


def test_status_of_groups_that_are_held_until_somebody_decides(fifo: Fifo) -> None:
    """Without a redrive policy, a message may have failed for longer than the log is read."""
    hold_groups(fifo)
    fifo.put("queue", "order-1", "b0")
    for ago in (3590, 20):
        waits = {"message_id": "m-1", "message_group_id": "order-1", "group": "waits"}
        fifo.log({**FAILED, **waits}, ago=ago)
    assert re.search(
        r"order-1 since \S+ \S+Z or earlier, by message m-1, failed tries: 2", fifo.done("status")
    )


def test_status_shows_a_few_of_many_groups(fifo: Fifo) -> None:
    fifo.put("queue", "order-1", "b0")
    for number in range(12):
        waits = {"message_id": f"m-{number}", "message_group_id": f"order-{number}"}
        fifo.log({**FAILED, **waits, "group": "waits"}, ago=50 - number)
    said = fifo.done("status")
    assert "groups:       12 blocked" in said
    assert re.findall(r"order-(\d+) since", said) == ["0", "1", "2", "3", "4"]
    assert f"\n{'':14}…\n" in said


def test_status_of_a_standard_service_has_no_groups(fifo: Fifo) -> None:
    standard = client("sqs").create_queue(QueueName=NAME)["QueueUrl"]
    fifo.outputs |= {"queue_url": standard, "queue_name": NAME}
    assert "groups" not in fifo.done("status")


def test_logs_show_what_is_held_back(fifo: Fifo) -> None:
    held = {"level": "WARNING", "message": "Message held back", "message_id": "m-2"}
    fifo.log({**held, "message_group_id": "order-1", "waits_for": "m-1"})
    said = "WARNING   Message held back  message_id=m-2  message_group_id=order-1  waits_for=m-1\n"
    assert said in fifo.done("logs", "--once")

"""What met the operator's commands in the field: hostile text, full queues, a network that lies."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import test_operate
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.parsers import ResponseParserError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from test_operate import COMMANDS, NAME, Deployed, client, own_clock, update_code
from tools.display import describe, parse
from tools.errors import explain
from tools.operate import queues, redrive, service

# Fixtures of the operator's commands; pytest finds them by these names.
_quick = test_operate._quick
deployed = test_operate.deployed
failing = test_operate.failing
new_clients = test_operate.new_clients

# What must not reach a terminal: escapes, in 7 and 8 bits, what turns the line's direction, what
# starts a line, in ASCII and Unicode, and half a character.
ACTS = ["\x1b[2J", "\x9b2J", "\u202e", "\r", "\n", "\u2028", "\x07", "\x00", "\ud83d", "\u200b"]


def harmless(said: str) -> bool:
    """Tell whether text has nothing that acts on a terminal, but for the ends of its lines."""
    return all(one.isprintable() for one in said.split("\n"))


##### Text that others wrote


def test_a_body_with_hostile_keys_is_shown_and_so_are_those_behind_it(deployed: Deployed) -> None:
    forged = "a: text}\n\n9. message id:  forged"
    bodies = [json.dumps({key: 1}) for key in (*ACTS, forged, "a: text, b")]
    deployed.send("dlq", *bodies, '{"order": 1}')
    said = deployed.done("dlq-peek")
    assert harmless(said)
    assert len(re.findall(r"(?m)^\d+\. message id:", said)) == len(bodies) + 1
    assert '{"\\ud83d": number}' in said
    assert '{"\\u001b[2J": number}' in said
    assert '{"a: text, b": number}' in said
    assert "{order: number}" in said


def test_attributes_of_a_message_forge_nothing(deployed: Deployed) -> None:
    value = "x  correlation_id=forged\n2. message id:  forged\x9b2J"
    deployed.send("dlq", "{}", event_type={"DataType": "String", "StringValue": value})
    said = deployed.done("dlq-peek")
    assert harmless(said)
    assert said.count("message id:") == 2
    assert len(re.findall(r"(?m)^\d+\. message id:", said)) == 1
    assert 'event_type="x  correlation_id=forged\\n2. message id:  forged\\u009b2J"' in said


@pytest.mark.parametrize("act", ACTS)
def test_log_lines_forge_nothing(act: str) -> None:
    text = f"a{act}2026-01-01 10:00:00Z  ERROR     forged"
    lines: list[str | dict[str, Any]] = [
        {"message": text, "level": "ERROR"},
        {"message": "failed", "level": text},
        {"message": "failed", "event_type": text},
        {"message": "failed", text: 1},
        {"message": "failed", "stack": [text], "exception": text},
        {"errorType": text, "errorMessage": text},
        {"type": "platform.report", "record": {"status": text, "errorType": text}},
        text,
    ]
    for line in lines:
        whole = line if isinstance(line, str) else json.dumps(line)
        said = describe(parse(whole))
        assert harmless(said), line
        assert "forged" in said
        assert all(row.startswith("    ") for row in said.split("\n")[1:])


def test_a_field_is_not_taken_for_two() -> None:
    line = {"message": "failed", "event_type": "x  correlation_id=forged", "error": "no such x"}
    said = describe(parse(json.dumps(line)))
    assert said == 'failed  event_type="x  correlation_id=forged"  error=no such x'


# Valid JSON, though not what the fields stand for elsewhere, and JSON that is too deep.
ODD_LINES = [
    "[" * 60_000,
    '{"a":' * 60_000,
    '{"message": "deep", "a": ' + "[" * 900 + "]" * 900 + "}",
    "9" * 5000,
    '{"message": "odd", "level": ["ERROR"]}',
    '{"message": ["odd"], "level": {"a": 1}, "message_id": ["a"]}',
    '{"type": "platform.report", "record": 5}',
    '{"type": "platform.report", "record": {"status": "timeout", "metrics": 5}}',
    '{"type": "platform.report", "record": {"status": ["timeout"]}}',
    '{"message": null, "errorType": null, "stack": null, "stackTrace": [null, {"a": 1}]}',
]


def test_every_log_line_is_shown_whatever_it_is(deployed: Deployed) -> None:
    deployed.log(*ODD_LINES, "the last one")
    said = deployed.done("logs", "--once")
    assert "the last one" in said
    assert harmless(said)
    assert said.count("Z  ") == len(ODD_LINES) + 1
    assert "last errors:" in deployed.done("status")


def test_hostile_text_of_aws_is_escaped_in_status_and_versions(deployed: Deployed) -> None:
    test_operate.put_alarm(f"{NAME}-errors", "ALARM")
    client("cloudwatch").set_alarm_state(
        AlarmName=f"{NAME}-errors", StateValue="ALARM", StateReason="\x9b2J forged\nundelivered: 9"
    )
    deployed.log({"level": "ERROR", "message": "forged\x1b[2J\nundelivered: 9"})
    said = deployed.done("status")
    assert harmless(said)
    assert not re.search("(?m)^undelivered: 9", said)
    update_code()
    client("lambda").publish_version(FunctionName=NAME, Description="\x9b2J\n    9  forged")
    said = deployed.done("versions")
    assert harmless(said)
    assert len(said.splitlines()) == 3


def test_hostile_text_in_a_saved_file_is_escaped_where_it_is_refused(
    deployed: Deployed, tmp_path: Path
) -> None:
    file = tmp_path / "saved.jsonl"
    for line in ({"body": "x", "message_attributes": {"\x1b[2J\nforged": {}}}, "[" * 60_000):
        file.write_text(line if isinstance(line, str) else json.dumps(line))
        said = deployed.refused("replay", "--file", file)
        assert harmless(said)
        assert "line 1 is not a saved message" in said
        assert len(said.splitlines()) == 1


def test_a_terminal_that_lacks_characters_gets_escapes(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.log("Grüße 漢字")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert test_operate.main(["logs", "--once"]) == 0
    sys.stdout.flush()
    assert "Grüße \\u6f22\\u5b57".encode("latin-1") in written.getvalue()


##### Saved is what is there


@pytest.mark.parametrize(
    ("command", "queue"), [("dlq-peek", "dlq"), ("undelivered-peek", "undelivered")]
)
@pytest.mark.parametrize("most", [[], ["--max", "5"]])
def test_save_saves_all_messages_whatever_is_shown(
    deployed: Deployed, tmp_path: Path, command: str, queue: str, most: list[str]
) -> None:
    ids = deployed.send(queue, *["{}"] * 50)
    file = tmp_path / "saved.jsonl"
    said = deployed.done(command, "--save", file, *most)
    assert said.count("message id:") == (5 if most else 20)
    assert f"Saved all 50 messages with their bodies to {file}." in said
    assert sorted(
        json.loads(line)["message_id"] for line in file.read_text().splitlines()
    ) == sorted(ids)
    assert len(deployed.bodies(queue)) == 50


def test_save_fails_where_others_hold_messages(deployed: Deployed, tmp_path: Path) -> None:
    deployed.send("dlq", *["{}"] * 15)
    client("sqs").receive_message(
        QueueUrl=deployed.urls["dlq"], VisibilityTimeout=60, MaxNumberOfMessages=3
    )
    file = tmp_path / "saved.jsonl"
    code, _, said = deployed.run("dlq-peek", "--save", file)
    assert code == 1
    assert said.startswith(f"Saved 12 of about 15 messages to {file}: do not delete the others")
    assert len(file.read_text().splitlines()) == 12


def test_save_ends_though_messages_come_back_before_it_is_through(
    deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are so many that the first are visible again before the last are received."""
    monkeypatch.setattr(queues, "HOLD_SECONDS", 0)
    deployed.send("dlq", *["{}"] * 25)
    code, _, _ = deployed.run("dlq-peek", "--save", tmp_path / "saved.jsonl")
    saved_ = len((tmp_path / "saved.jsonl").read_text().splitlines())
    assert code == (0 if saved_ == 25 else 1)


##### What the log says of a message that was killed after its effect


def test_peek_says_that_a_message_was_processed(deployed: Deployed) -> None:
    killed, failed, never = deployed.send("dlq", "{}", "{}", "{}")
    done = {"level": "INFO", "message": "Message processed"}
    for ago in (50, 40, 30):
        deployed.log({**done, "message_id": killed}, ago=ago)
    deployed.log({**done, "message_id": failed}, ago=50)
    deployed.log({"level": "ERROR", "message": "Message failed", "message_id": failed})
    said = re.split(r"\n\d+\. ", deployed.done("dlq-peek"))[1:]
    of = {name: next(one for one in said if name in one) for name in (killed, failed, never)}
    assert "the log has no error" in of[killed]
    assert "not have begun" not in of[killed]
    assert "processed 3 times, the last at" in of[killed]
    assert "a redrive repeats its effect" in of[killed]
    assert "errors in the log: 1" in of[failed]
    assert "processed once, at" in of[failed]
    assert "a redrive repeats its effect" in of[failed]
    assert "not have begun" in of[never]
    assert "repeats" not in of[never]


##### Redrives count at the end


@pytest.mark.parametrize("command", ["dlq-redrive", "undelivered-redrive"])
def test_a_redrive_is_not_done_while_others_hold_messages(
    deployed: Deployed, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "COUNT_SECONDS", 0.1)
    queue = command.partition("-")[0]
    deployed.send(queue, *[f"b{n}" for n in range(10)])
    client("sqs").receive_message(
        QueueUrl=deployed.urls[queue], VisibilityTimeout=60, MaxNumberOfMessages=3
    )
    code, out, err = deployed.run(command)
    assert code == 1
    assert "Done" not in out
    assert err == (
        f"{NAME}-{queue} still has about 3 messages, 3 of them in flight: someone else is looking "
        "at them or moving them, or an answer of SQS was lost. Run this again in 120 s.\n"
    )
    assert len(deployed.bodies("queue")) == 7


def test_a_redrive_waits_for_sqs_to_count(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS's count may be a minute old."""
    depth, counts = queues.depth, iter([3, 3, 3, 1])

    def old(*arguments: Any) -> dict[str, int]:
        return {**depth(*arguments), "waiting": next(counts, 0)}

    deployed.send("dlq", *["{}"] * 3)
    monkeypatch.setattr(queues, "depth", old)
    assert "Done: about 3 messages" in deployed.done("dlq-redrive")
    assert list(counts) == []


Wire = Callable[[Callable[[Any], Any]], None]


@pytest.fixture
def wire(new_clients: None, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Put something between boto3 and moto: it answers a request, raises, or lets it through."""
    own_clock(monkeypatch, "botocore.endpoint", sleep=lambda _: None)

    def put(between: Callable[[Any], Any]) -> None:
        session = boto3.session.Session()
        session.events.register_first("before-send", lambda request, **_: between(request))
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
        service.client.cache_clear()

    return put


def operation(request: Any) -> str:
    """Return what a request to SQS asks for; "" for another service."""
    target = request.headers.get("X-Amz-Target", b"")
    return (target.decode() if isinstance(target, bytes) else target).partition("AmazonSQS.")[2]


def lost(wanted: str, every: int) -> Callable[[Any], Any]:
    """Return what loses answers to some requests to SQS: moto has done what was asked."""
    asked = 0

    def between(request: Any) -> None:
        nonlocal asked
        if operation(request) == wanted:
            asked += 1
            if asked % every == 0:
                botocore_stubber("before-send", request)
                raise ReadTimeoutError(endpoint_url=request.url)

    return between


@pytest.mark.parametrize("wanted", ["ReceiveMessage", "SendMessage", "DeleteMessage"])
def test_a_redrive_on_a_network_that_loses_answers_tells_what_is_left(
    deployed: Deployed, wire: Wire, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "COUNT_SECONDS", 0.1)
    deployed.send("undelivered", *[f"b{n}" for n in range(40)])
    wire(lost(wanted, every=3))
    code, _, err = deployed.run("undelivered-redrive")
    left = queues.total(service.Service(deployed.outputs), deployed.urls["undelivered"])
    # Each is in one of the queues, at least.
    assert len(set(deployed.bodies("queue"))) + left == 40
    assert code == (1 if left else 0)
    assert (f"still has about {left} messages" in err) == bool(left)
    assert bool(left) == (wanted == "ReceiveMessage")


def test_a_redrive_that_can_no_longer_be_followed_says_that_sqs_goes_on(
    deployed: Deployed, wire: Wire
) -> None:
    deployed.send("dlq", *["{}"] * 9)
    asked = iter(range(99))

    def between(request: Any) -> None:
        if operation(request) == "ListMessageMoveTasks" and next(asked) >= 2:
            raise ReadTimeoutError(endpoint_url=request.url)

    wire(between)
    code, out, err = deployed.run("dlq-redrive", "--max-rate", "1")
    assert code == 1
    assert "SQS goes on" in out
    assert err.startswith("AWS cannot be reached")


##### Another than AWS answers


PAGES = {
    "html": b"<!DOCTYPE html>\n<html><body><br>Sign in</body></html>",
    "xhtml": b"<html><body>\nBlocked</body></html>",
    "text": b"Blocked by policy",
}


def page(request: Any, status: int, kind: str, body: bytes) -> AWSResponse:
    return AWSResponse(request.url, status, {"Content-Type": kind}, MockRawResponse(body))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((200, kind) for kind in PAGES),
        *((403, kind) for kind in PAGES),
        *((status, "html") for status in (302, 407, 500, 503)),
    ],
)
def test_a_page_of_a_proxy_is_one_sentence(
    deployed: Deployed, wire: Wire, tmp_path: Path, status: int, kind: str
) -> None:
    body = PAGES[kind]
    deployed.send("dlq", "{}")
    (tmp_path / "saved.jsonl").write_text('{"body": "x", "message_attributes": {}}')

    def between(request: Any) -> AWSResponse | None:
        # STS lets it through, or nothing else would be asked.
        return None if "sts." in request.url else page(request, status, "text/html", body)

    # AWS itself gives pages with a status from 500 on, and boto3 has retried.
    reason = "Something other than AWS answered"
    reason += r"|failed: [\w ]+ \((500|503)\)" if status >= 500 else ""
    wire(between)
    for command in COMMANDS:
        code, out, err = deployed.run(*command)
        assert code == 1, command
        said = out if command == ["status"] else err
        assert re.search(reason, said), (command, out, err)
        assert "<" not in out + err
        assert len(err.splitlines()) <= 1
    wire(lambda request: page(request, status, "text/html", body))
    for command in COMMANDS:
        assert re.search(reason, deployed.refused(*command)), command


def test_an_answer_that_cannot_be_read_is_explained() -> None:
    error = ResponseParserError("invalid XML received. Further retries may succeed: b'<html>\\n'")
    said = explain(error)
    assert said is not None
    assert said.startswith("Something other than AWS answered")
    assert "<html>" not in said

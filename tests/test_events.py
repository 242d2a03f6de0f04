"""tools/events.py of a service: its event types, its samples, and the messages made of them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from conftest import Render, need, run, working_in
from test_pre_gen_project import load
from tools import events
from tools.errors import ToolError

hook: Any = load("post_gen_project")

# The last two: a name that a folder can't hold as it is, and one that it can't hold at all.
TYPES = ("order.created", "payment.*", "a/b%2F", "订" * 100)


@pytest.fixture
def service(fresh: Render) -> Iterator[Path]:
    """Work in a service with several event types."""
    folder = fresh(event_types=",".join(TYPES))
    with working_in(folder):
        yield folder


def refused() -> str:
    """Run check-samples, which must find something; return what it says."""
    result = CliRunner().invoke(events.check_samples)
    assert isinstance(result.exception, ToolError), result.output
    return str(result.exception)


# ---- event types ----------------------------------------------------------------------------


def test_the_types_are_the_answers(service: Path) -> None:
    assert tuple(events.models()) == TYPES
    assert events.entry_of("payment.received") == "payment.*"
    assert events.entry_of("order.paid") is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import missing", r"ModuleNotFoundError: No module named 'missing' \(.*events.py, line 1"),
        ("EVENTS = {", r"SyntaxError: '{' was never closed \(events.py, line 1\)"),
        ("", r"must be a dict of event types .* and is None"),
        ("EVENTS = {}", r"and is {}\."),
        (
            "EVENTS = {'order.created': dict}",
            "the model of 'order.created' must inherit from Event",
        ),
        (
            "EVENTS = {'order.*paid': type('Model', (), {'occurred_at': None})}",
            r"'order.\*paid' must have 1 to 100 characters, and a \* only at the end",
        ),
    ],
)
def test_what_is_wrong_with_events_py_is_said(service: Path, code: str, said: str) -> None:
    (service / "order_events" / "events.py").write_text(code + "\n", encoding="utf-8")
    with pytest.raises(ToolError, match=rf"(?s)order_events/events.py.*{said}"):
        events.models()


# ---- samples --------------------------------------------------------------------------------


def test_each_type_has_a_sample_and_lint_is_content(service: Path) -> None:
    assert sorted(events.samples()) == ["a/b%2F", "order.created", "payment.example"]
    assert CliRunner().invoke(events.check_samples).exit_code == 0


def test_the_hook_and_the_tools_name_samples_alike(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    names = ["order.created", "payment.*", "*", "a/b%2F", "größe ; |", "订" * 83]
    (tmp_path / "events" / "example.json").write_text("{}", encoding="utf-8")
    hook.write_samples({"event_types": ", ".join(names)}, str(tmp_path))
    there = {path.relative_to(tmp_path) for path in (tmp_path / "events").iterdir()}
    assert there == {events.expected_sample(name) for name in names}


def test_lint_names_a_type_without_sample_and_a_sample_without_type(service: Path) -> None:
    (service / "events" / "order.created.json").rename(service / "events" / "order.creatd.json")
    (service / "events" / "payment.example.json").rename(service / "events" / "payment.paid.json")
    assert refused() == (
        "events/order.creatd.json fits none of EVENTS in order_events/events.py: rename it, "
        "or add its type.\n"
        "There is no sample of order.created: write one to events/order.created.json."
    )


def test_a_sample_is_found_for_a_type_or_else_one_of_the_same_entry(service: Path) -> None:
    sample = service / "events" / "payment.example.json"
    for event_type in ("payment.*", "payment.example", "payment.received"):
        assert events.find_sample(event_type) == sample.relative_to(service)
    sample.with_name("payment.received.json").write_bytes(sample.read_bytes())
    assert events.find_sample("payment.received").name == "payment.received.json"
    with pytest.raises(ToolError, match=r"no sample of order.paid: write one to events/order.paid"):
        events.find_sample("order.paid")


def test_a_fresh_event_has_an_id_and_a_time_of_its_own(service: Path) -> None:
    sample = events.samples()["order.created"]
    first, second = (json.loads(events.fresh(sample)) for _ in range(2))
    assert first["id"] != second["id"]
    age = datetime.now(UTC) - datetime.fromisoformat(first["occurred_at"])
    assert timedelta(0) <= age < timedelta(minutes=10)
    assert first["data"] == second["data"] == json.loads(sample.read_text())["data"]


# ---- the batch of make invoke ---------------------------------------------------------------


def types_in(batch: Any) -> list[str]:
    return [record["messageAttributes"]["event_type"]["stringValue"] for record in batch["Records"]]


def test_a_batch_has_the_events_that_are_named_or_all(service: Path) -> None:
    assert types_in(events.batch("")) == ["a/b%2F", "order.created", "payment.example"]
    two = "events/payment.example.json events/order.created.json"
    assert types_in(events.batch(two)) == ["payment.example", "order.created"]
    assert types_in(events.batch(two, "order.created")) == ["order.created"] * 2
    (service / "my event.json").write_text("{}", encoding="utf-8")
    assert types_in(events.batch("my event.json")) == ["my event"]


def test_a_whole_event_of_lambdas_stays_as_it_is(service: Path) -> None:
    whole = {"Records": [{"messageId": "1"}]}
    (service / "whole.json").write_text(json.dumps(whole), encoding="utf-8")
    assert events.batch("whole.json") == whole


# ---- message groups -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["orders-dev", "https://sqs.x/1/orders-dev", "orders.fifo-dev"])
def test_a_standard_queue_has_no_groups(name: str) -> None:
    assert not events.is_fifo(name)
    assert events.in_group(name, "order-1") == {}
    assert "MessageGroupId" not in events.record("{}")["attributes"]


@pytest.mark.parametrize(
    "name", ["x-dev.fifo", "https://sqs.x/1/x-dev.fifo", "arn:aws:sns:eu-west-1:1:x-dev.fifo"]
)
def test_a_message_in_a_group_is_no_duplicate_of_another(name: str) -> None:
    first, second = (events.in_group(name, "order-1") for _ in range(2))
    assert first["MessageGroupId"] == second["MessageGroupId"] == "order-1"
    assert first["MessageDeduplicationId"] != second["MessageDeduplicationId"]


def test_records_of_a_fifo_queue_have_a_group_and_an_order() -> None:
    records = [events.record("{}", group="order-1", event_type="x") for _ in range(2)]
    first, second = (record["attributes"] for record in records)
    assert first["MessageGroupId"] == second["MessageGroupId"] == "order-1"
    assert len(first["SequenceNumber"]) == len(second["SequenceNumber"]) == 20
    assert first["SequenceNumber"] < second["SequenceNumber"]
    assert events.is_fifo(records[0]["eventSourceARN"])
    assert list(records[0]["messageAttributes"]) == ["event_type"]


@pytest.fixture
def fifo(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service be one of a FIFO topic."""
    answers = replace(events.project(), fifo=True)
    monkeypatch.setattr(events, "project", lambda: answers)


def groups_in(batch: Any) -> list[str]:
    return [record["attributes"]["MessageGroupId"] for record in batch["Records"]]


def test_the_events_of_a_batch_have_groups_of_their_own_or_the_same(fifo: None) -> None:
    two = "events/payment.example.json events/order.created.json"
    batch = events.batch(two)
    assert groups_in(batch) == [json.loads(record["body"])["id"] for record in batch["Records"]]
    assert groups_in(events.batch(two, group="order-1")) == ["order-1"] * 2


def test_a_batch_of_a_standard_queue_has_no_groups(service: Path) -> None:
    assert all("MessageGroupId" not in one["attributes"] for one in events.batch("")["Records"])


def given_group(*arguments: str, **environment: str) -> str:
    """Run a command that takes a group; return what it gets or says."""

    @click.command
    @events.group_option
    def command(group: str) -> None:
        click.echo(group)

    result = CliRunner().invoke(command, arguments, env=environment)
    return result.output.partition("Error: ")[2] or result.output


def test_a_group_is_what_make_is_told(fifo: None, tmp_path: Path) -> None:
    need("make")
    (tmp_path / "Makefile").write_text('all:\n\t@printf %s "$$MAKEFLAGS"\n', encoding="utf-8")
    for more in ((), ("ENV=dev",), ("-s", "ENV=dev")):
        flags = run("make", *more, "GROUP=order 1's", cwd=tmp_path).stdout
        assert given_group(MAKEFLAGS=flags, GROUP="order-1") == "order-1\n"
    for more in ((), ("ENV=dev",), ("EVENT=MY_GROUP=1",)):
        flags = run("make", *more, cwd=tmp_path).stdout
        assert given_group(MAKEFLAGS=flags, GROUP="staff") == "\n"
    assert given_group(GROUP="staff") == "\n"


@pytest.mark.parametrize("group", ["x" * 129, "a b", "größe", "a\nb", " "])
def test_a_group_that_sns_refuses(fifo: None, group: str) -> None:
    said = given_group("--group", group)
    assert said.startswith(f"GROUP is {group!r}: it must have 1 to 128 ASCII letters, digits and")
    assert given_group("--group", "!~" * 64) == "!~" * 64 + "\n"


def test_a_standard_service_has_no_groups(service: Path) -> None:
    assert given_group("--group", "order-1").startswith("GROUP is 'order-1': leave it out")
    assert given_group() == "\n"


@pytest.mark.parametrize("content", ["[]", '"text"', "1"])
def test_an_event_that_is_no_object_is_refused(service: Path, content: str) -> None:
    (service / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(ToolError, match=r"x.json must be an event: a JSON object"):
        events.batch("x.json")

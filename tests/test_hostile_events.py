"""The handler under hostile events: whatever the queue delivers, nothing is lost and nothing leaks.

The service of the default answers is rendered, its handler imported into this process and given
batches of SQS records: with any body, any attributes, in any encoding. What its business logic does
with an event is decided by the event's id.
"""

import contextlib
import importlib.util
import io
import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError
from conftest import Render, importable
from hostile import FACTOR, FRAGMENTS, UNUSABLE, examples, fragments
from hypothesis import Phase, example, given
from hypothesis import strategies as st

Json = dict[str, Any]

# Part of every payload and of every exception's text; nothing that the function writes may have it.
SECRET = "s3cr3tpayl0ad"

# Enough to find each of the broken handlers below. `make soak` takes more.
EXAMPLES = 300 if FACTOR == 1 else 800

SMOKE_TEST = "smoke_test"
EXPECTED = "order.created"  # The default answer to event_types.


# --- The handler -------------------------------------------------------------------------------


@dataclass
class Result:
    """What one invocation did."""

    failed: list[str]
    lines: list[str]
    calls: list[str]


@dataclass
class Function:
    """The handler of a rendered service; keeps what it writes and calls."""

    module: ModuleType

    def invoke(self, records: list[Json]) -> Result:
        """Hand a batch over, as Lambda does; asserts that the response is what SQS expects."""
        calls: list[str] = []
        # As in Lambda: what isn't valid Unicode can't be written.
        log = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", newline="\n")
        real_process = self.module_process

        def process(event_type: str, event: Any) -> None:
            calls.append("raised")
            behave(event, lambda: real_process(event_type, event))
            calls[-1] = "returned"

        self.module.process = process  # type: ignore[attr-defined]
        self.module.logger.registered_handler.stream = log
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            response = self.module.handler({"Records": records}, None)
        log.flush()
        written = log.buffer.getvalue().decode("utf-8")

        response = json.loads(json.dumps(response, allow_nan=False))
        assert set(response) == {"batchItemFailures"}
        for failure in response["batchItemFailures"]:
            assert set(failure) == {"itemIdentifier"}
        failed = [failure["itemIdentifier"] for failure in response["batchItemFailures"]]
        return Result(failed, written.removesuffix("\n").split("\n"), calls)

    def __post_init__(self) -> None:
        self.module_process = self.module.process
        # Else pytest would collect every line.
        logging.getLogger(self.module.logger.name).propagate = False


class UnprintableError(Exception):
    """An exception whose text can't be read."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


class ForgedError(Exception):
    """An exception with what AWS's have, filled by other code."""

    operation_name = SECRET
    response: ClassVar = {"Error": {"Code": SECRET}}


class UnfinishedError(ClientError):
    """An exception of botocore's kind without what these have."""

    def __init__(self) -> None:
        Exception.__init__(self, SECRET)


def recurse(depth: int) -> int:
    return recurse(depth + 1) + 1


def behave(event: Any, real_process: Any) -> None:
    """Do what the event's id asks for: return, raise, or leave it to the service's own code."""
    match event.id.partition("-")[0]:
        case "real":
            real_process()
        case "quoting":
            raise KeyError(SECRET, event)
        case "chained":
            try:
                raise ValueError(SECRET)
            except ValueError as error:
                raise RuntimeError(f"{SECRET}: {event}") from error
        case "noted":
            noted = OSError(5, SECRET, SECRET)
            noted.add_note(SECRET)
            raise noted
        case "group":
            raise ExceptionGroup(SECRET, [ValueError(SECRET), TypeError(SECRET)])
        case "refused":
            code = {"Code": f"{SECRET}: {event}", "Message": SECRET}
            raise RuntimeError(SECRET) from ClientError({"Error": code}, "PutItem")
        case "forged":
            raise ForgedError(SECRET)
        case "unfinished":
            raise UnfinishedError
        case "circle":
            circle = ValueError(SECRET)
            circle.__cause__ = TypeError(SECRET)
            circle.__cause__.__context__ = circle
            raise circle
        case "unprintable":
            raise UnprintableError
        case "recursion":
            recurse(0)
        case "memory":
            raise MemoryError
        case "assertion":
            assert not event.data, SECRET


RAISING = (
    *("quoting", "chained", "noted", "group", "unprintable", "recursion", "memory", "assertion"),
    *("refused", "forged", "unfinished", "circle"),
)


@pytest.fixture(scope="module")
def service(render: Render) -> Iterator[Path]:
    """Render the default service; its package can be imported, its environment is set."""
    folder = render()
    with importable(folder):
        yield folder


numbers = itertools.count()


def load(path: Path) -> Function:
    """Import a handler under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"hostile_handler_{next(numbers)}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Function(module)


# --- Records -----------------------------------------------------------------------------------

# Text in any encoding, halves of surrogate pairs and NUL included.
text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20),
    fragments(unusable=True),
    st.sampled_from(UNUSABLE),
    st.sampled_from(["x" * 70_000, *FRAGMENTS]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**20), 1e308, float("nan"), float("inf"), -0.0]),
    text,
    st.just(SECRET),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(text, st.just(SECRET)), inner, max_size=4),
    ),
    max_leaves=8,
)
event_ids = st.one_of(
    st.sampled_from(["ok", "real", *RAISING]),
    st.builds(lambda kind, rest: f"{kind}-{rest}", st.sampled_from(["ok", "real", *RAISING]), text),
    text,
)
occurred_at = st.one_of(
    st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat()),
    st.sampled_from(
        [
            "2026-01-01T10:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            SECRET,
            "",
        ]
    ),
)


def as_json(value: Any) -> st.SearchStrategy[str]:
    """Write JSON in one of its forms: with escapes or without, dense or wide."""
    return st.builds(
        lambda ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
        st.booleans(),
        st.sampled_from([None, 2]),
    )


events = st.fixed_dictionaries(
    {
        "id": event_ids,
        "occurred_at": occurred_at,
        "data": st.builds(
            lambda more, total: {**more, "order_id": SECRET, "total": total},
            st.dictionaries(text, anything, max_size=3),
            st.sampled_from(["19.90", "19.90", 5, "-1", "NaN", SECRET, None]),
        ),
    },
    optional={"more": anything},
)
almost_events = st.builds(
    lambda event, field, value: {**event, field: value},
    events,
    st.sampled_from(["id", "occurred_at", "data", SECRET]),
    anything,
)
without_a_field = st.builds(
    lambda event, field: {key: value for key, value in event.items() if key != field},
    events,
    st.sampled_from(["id", "occurred_at", "data"]),
)
event_bodies = st.one_of(events, almost_events, without_a_field, anything).flatmap(as_json)
broken_bodies = st.one_of(
    text.map(lambda body: SECRET + body),
    text.map(lambda body: body + SECRET),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "null",
                "{",
                "[]",
                f'{{"{SECRET}',
                "\ufeff{}",
                "NaN",
                "{}{}",
                "\\ud800",
                "\0",
            ),
            *("[" * 100_000, '{"a":' * 100_000, "1" * 10_000, f'"{SECRET}' + "\\" * 999),
            *("1e999999999", f'{{"id": "{SECRET}", "id": "ok", "id": 1}}', "[" * 900 + "]" * 900),
            f'{{"id": "a", "occurred_at": "2026-01-01T10:00:00Z", "data": {{"{SECRET}": 1'
            + "0" * 5000,
            '{"id": "a", "id": "ok", "occurred_at": "2026-01-01T10:00:00Z", "data": 1, "data": {}}',
        ]
    ),
)
event_types = st.one_of(
    st.just(EXPECTED), st.just(EXPECTED), st.sampled_from([SMOKE_TEST, "order.paid", "", "*"]), text
)
wrong_values: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.integers(), st.lists(text, max_size=2), st.just({})
)


def string_attribute(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Make an attribute of a record as Lambda hands it over."""
    return st.fixed_dictionaries(
        {"stringValue": values, "stringListValues": st.just([]), "dataType": st.just("String")}
    )


odd_attribute: st.SearchStrategy[Any] = st.one_of(
    string_attribute(st.just(SECRET)),
    st.just({"binaryValue": SECRET, "dataType": "Binary"}),
    st.just({"stringValue": "1" * 400, "dataType": "Number"}),
    st.just({"dataType": "String"}),
    wrong_values,
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "event_type": st.one_of(
            string_attribute(event_types),
            string_attribute(event_types),
            st.one_of(
                st.just({"binaryValue": SECRET, "dataType": "Binary"}),
                st.just({"dataType": "String"}),
                string_attribute(wrong_values),
                wrong_values,
            ),
        ),
        "correlation_id": st.one_of(
            string_attribute(text),
            string_attribute(text),
            string_attribute(wrong_values),
            wrong_values,
        ),
        "other": odd_attribute,
        SECRET: odd_attribute,
    },
)


def enveloped(messages: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make an SNS envelope around a message, right or with any shape in any place."""
    value = st.fixed_dictionaries({"Type": st.just("String"), "Value": event_types})
    # An event type is not payload: it is logged.
    no_type = anything.filter(lambda value: value != SECRET)
    right = st.fixed_dictionaries(
        {
            "Type": st.just("Notification"),
            "Message": messages,
            "MessageAttributes": st.fixed_dictionaries({"event_type": value}),
            "Subject": st.just(SECRET),
        }
    )
    wrong = st.builds(
        lambda envelope, field, value: {**envelope, field: value},
        right,
        st.sampled_from(["Message", "MessageAttributes", "Type"]),
        st.one_of(
            anything,
            st.dictionaries(st.sampled_from(["event_type", SECRET]), anything),
            st.fixed_dictionaries({"event_type": st.fixed_dictionaries({"Value": no_type})}),
        ),
    )
    return st.one_of(right, right, wrong).flatmap(as_json)


bodies = st.one_of(
    event_bodies, event_bodies, broken_bodies, enveloped(st.one_of(event_bodies, broken_bodies))
)
ORDER = {"order_id": SECRET, "total": "19.90"}
GOOD_EVENT = {"id": "ok", "occurred_at": "2026-01-01T10:00:00Z", "data": ORDER}
expected = st.fixed_dictionaries({"event_type": string_attribute(st.just(EXPECTED))})
good_records = st.fixed_dictionaries(
    {"body": as_json(GOOD_EVENT), "messageAttributes": expected},
)
# Right as well, but their processing fails.
failing_records = st.fixed_dictionaries(
    {
        "body": st.sampled_from(RAISING).flatmap(lambda kind: as_json({**GOOD_EVENT, "id": kind})),
        "messageAttributes": expected,
    }
)
hostile_records = st.one_of(
    st.fixed_dictionaries({"body": bodies, "messageAttributes": attributes}),
    st.fixed_dictionaries({"body": enveloped(event_bodies), "messageAttributes": st.just({})}),
    st.fixed_dictionaries(
        {}, optional={"body": st.one_of(bodies, wrong_values), "messageAttributes": anything}
    ),
)


@st.composite
def batches(draw: st.DrawFn) -> list[Json]:
    """Make a batch of one to six records, each with its own id, as SQS does."""
    records = draw(
        st.lists(
            st.one_of(
                good_records, good_records, failing_records, hostile_records, hostile_records
            ),
            min_size=1,
            max_size=6,
        )
    )
    common = {"receiptHandle": SECRET, "eventSource": "aws:sqs"}
    return [
        {
            "messageId": f"message-{i}",
            "attributes": {"ApproximateReceiveCount": "1", "SenderId": SECRET},
            **common,
            **record,
        }
        for i, record in enumerate(records)
    ]


# A record for each way to fail: what is generated need not have all of them.
EACH_FAILURE = [
    {
        "messageId": f"message-{kind}",
        "receiptHandle": SECRET,
        "body": json.dumps({**GOOD_EVENT, "id": kind}),
        "messageAttributes": {"event_type": {"stringValue": EXPECTED, "dataType": "String"}},
        "attributes": {"ApproximateReceiveCount": "1", "SenderId": SECRET},
        "eventSource": "aws:sqs",
    }
    for kind in RAISING
]


# --- The properties ----------------------------------------------------------------------------


def event_type_of(record: Json) -> Any:
    """Read a record's event type independently of the handler: from attributes or envelope."""
    try:
        return record["messageAttributes"]["event_type"]["stringValue"]
    except (KeyError, TypeError):
        pass
    try:
        return json.loads(record["body"])["MessageAttributes"]["event_type"]["Value"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def is_good(record: Json) -> bool:
    """Tell whether a record must be acknowledged."""
    try:
        return list(record["messageAttributes"]) == ["event_type"] and (
            event_type_of(record) == EXPECTED and json.loads(record["body"]) == GOOD_EVENT
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return False


def check_lines(result: Result, records: list[Json], held_back: tuple[str, ...] = ()) -> None:
    """Check what an invocation wrote: JSON objects, a line about each message, no payload.

    held_back are ids of messages that come back although they did not fail.
    """
    lines = []
    for text in result.lines:
        assert SECRET not in text
        line = json.loads(text)
        assert isinstance(line, dict)
        lines.append(line)
    expected = dict.fromkeys(result.failed, "ERROR") | dict.fromkeys(held_back, "WARNING")
    for record in records:
        levels = {line["level"] for line in lines if line.get("message_id") == record["messageId"]}
        assert levels == {expected.get(record["messageId"], "INFO")}
    (metrics,) = (line for line in lines if "_aws" in line)
    assert metrics["MessagesProcessed"] == [len(records) - len(result.failed)]
    assert metrics["MessagesFailed"] == [len(result.failed) - len(held_back)]
    assert metrics.get("MessagesHeldBack", [0]) == [len(held_back)]


def check_batch(function: Function, records: list[Json]) -> int:
    """Check an invocation with a batch against one with each of its records alone.

    Returns how many of them failed.
    """
    expected = []
    for record in records:
        alone = function.invoke([record])
        check_lines(alone, [record])
        assert alone.failed in ([], [record["messageId"]])
        if alone.failed:
            expected.append(record["messageId"])
            assert alone.calls in ([], ["raised"])
            assert not is_good(record)
        elif event_type_of(record) == SMOKE_TEST:
            assert alone.calls == []
        else:
            assert alone.calls == ["returned"]
            assert event_type_of(record) == EXPECTED
    together = function.invoke(records)
    assert together.failed == expected
    check_lines(together, records)
    return len(expected)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_leaks(service: Path) -> None:
    function = load(service / "handler.py")
    seen = {"acknowledged": 0, "failed": 0}

    @given(batches())
    @examples(EXAMPLES)
    def property_of(records: list[Json]) -> None:
        failed = check_batch(function, records)
        seen["failed"] += failed
        seen["acknowledged"] += len(records) - failed

    property_of()
    print(seen)
    assert min(seen.values()) * 10 > sum(seen.values()), seen  # enough of both


# --- In order ----------------------------------------------------------------------------------

LAST_RECEIVE = 5


@st.composite
def ordered_batches(draw: st.DrawFn) -> list[Json]:
    """Make a batch of a FIFO queue: of few groups, with what SNS lets a group's name be."""
    records = draw(batches())
    for record in records:
        receives = draw(st.sampled_from([1, LAST_RECEIVE - 1, LAST_RECEIVE]))
        record["attributes"] |= {"ApproximateReceiveCount": str(receives)}
        if (group := draw(st.sampled_from(["a", "a", """!"'%s{}\\u0000`~""", None]))) is not None:
            record["attributes"] |= {"MessageGroupId": group}
    return records


def check_order(function: Function, records: list[Json]) -> int:
    """Check an invocation of a FIFO queue's handler against one with each record alone.

    Returns how many messages were held back.
    """
    failed: list[str] = []
    held_back: list[str] = []
    calls: list[str] = []
    waiting = set()
    for record in records:
        attributes = record["attributes"]
        if (group := attributes.get("MessageGroupId")) in waiting:
            held_back.append(record["messageId"])
            continue
        alone = function.invoke([record])
        calls += alone.calls
        failed += alone.failed
        if alone.failed and int(attributes["ApproximateReceiveCount"]) < LAST_RECEIVE:
            waiting.add(group)
    together = function.invoke(records)
    assert together.failed == failed + held_back
    assert together.calls == calls
    check_lines(together, records, tuple(held_back))
    return len(held_back)


def test_no_event_breaks_the_order(
    service: Path, render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_RECEIVE_COUNT", str(LAST_RECEIVE))
    function = load(render(sns_topic_name="events.fifo") / "handler.py")
    held_back = 0

    @given(ordered_batches())
    @examples(EXAMPLES // 5)
    def property_of(records: list[Json]) -> None:
        nonlocal held_back
        held_back += check_order(function, records)

    property_of()
    assert held_back * 10 > EXAMPLES // 5, held_back


# --- What the log says of an exception ----------------------------------------------------------


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Raise an exception, from another or while that is handled; return it."""
    try:
        raise error from cause
    except BaseException as same:
        return same


def while_handling(first: BaseException, error: BaseException) -> BaseException:
    """Raise an exception while another is handled; return it."""
    try:
        raise first
    except BaseException:
        try:
            raise error
        except BaseException as same:
            return same


def hidden() -> BaseException:
    """Return an exception that was raised `from None` while another was handled."""
    error = while_handling(KeyError(SECRET), ValueError(SECRET))
    error.__suppress_context__ = True
    return error


def refused(operation: str, code: str) -> ClientError:
    """Return what botocore raises where AWS refuses a request."""
    return ClientError({"Error": {"Code": code, "Message": SECRET}}, operation)


def circle() -> BaseException:
    """Return an exception that led to itself."""
    error = caught(ValueError(SECRET), TypeError(SECRET))
    assert error.__cause__
    error.__cause__.__context__ = error
    return error


def long() -> BaseException:
    """Return an exception that has led on for a long time, as in a loop that never gives up."""
    error: BaseException = KeyError(SECRET)
    for _ in range(100):
        error = while_handling(error, OSError(SECRET))
    return error


NAMED: dict[str, tuple[BaseException, str, str]] = {
    "no cause": (ValueError(SECRET), "ValueError", ""),
    "AWS": (refused("PutItem", "AccessDenied"), "ClientError (PutItem: AccessDenied)", ""),
    "a code that is a number": (refused("HeadObject", "404"), "ClientError (HeadObject: 404)", ""),
    "a queue": (
        refused("SendMessage", "AWS.SimpleQueueService.NonExistentQueue"),
        "ClientError (SendMessage: AWS.SimpleQueueService.NonExistentQueue)",
        "",
    ),
    "a code that is a text": (refused("PutItem", f"no {SECRET}"), "ClientError", ""),
    "a code that ends in a line": (refused("PutItem", f"{SECRET}\n"), "ClientError", ""),
    "an operation that is a text": (refused(f"Put {SECRET}", "X"), "ClientError", ""),
    "no code": (ClientError({}, "PutItem"), "ClientError", ""),
    "from": (
        caught(RuntimeError(SECRET), refused("GetItem", "ThrottlingException")),
        "RuntimeError",
        "ClientError (GetItem: ThrottlingException)",
    ),
    "while handling": (
        while_handling(KeyError(SECRET), ValueError(SECRET)),
        "ValueError",
        "KeyError",
    ),
    "from None": (hidden(), "ValueError", ""),
    "a circle": (circle(), "ValueError", "TypeError"),
    "a long story": (long(), "OSError", ", ".join(["OSError"] * 10)),
    "a group": (
        ExceptionGroup(SECRET, [ValueError(SECRET), caught(TypeError(SECRET), OSError(SECRET))]),
        "ExceptionGroup",
        "ValueError, TypeError, OSError",
    ),
}


def log_of(function: Function, error: BaseException) -> tuple[Json, list[str]]:
    """Let the business logic raise an exception; return the message's line, and all lines."""

    def process(_event_type: str, _event: Any) -> None:
        raise error

    function.module_process = process
    attributes = {"event_type": {"stringValue": EXPECTED, "dataType": "String"}}
    body = json.dumps({**GOOD_EVENT, "id": "real"})
    before = error.__context__, error.__traceback__
    result = function.invoke([{"messageId": "1", "body": body, "messageAttributes": attributes}])
    error.__context__, error.__traceback__ = before
    assert result.failed == ["1"]
    (line,) = (line for line in map(json.loads, result.lines) if line.get("message_id") == "1")
    return line, result.lines


@pytest.mark.parametrize("case", NAMED)
def test_the_log_names_an_exception_and_what_led_to_it(service: Path, case: str) -> None:
    error, name, causes = NAMED[case]
    line, lines = log_of(load(service / "handler.py"), error)
    assert (line["error"], line.get("causes", "")) == (name, causes)
    assert "stack" in line
    assert SECRET not in "".join(lines)


def test_a_local_run_logs_whole_tracebacks(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RUN", "1")
    error = caught(RuntimeError(SECRET), refused("PutItem", "AccessDenied"))
    line, _ = log_of(load(service / "handler.py"), error)
    assert line["error"] == "RuntimeError"
    for part in (
        f"An error occurred (AccessDenied) when calling the PutItem operation: {SECRET}\n",
        "The above exception was the direct cause of the following exception:\n",
        f"RuntimeError: {SECRET}\n",
        f'File "{__file__}", line ',
    ):
        assert part in line["exception"]


@pytest.mark.parametrize("compute", ["lambda", "fargate"])
def test_what_is_deployed_is_no_local_run(render: Render, compute: str) -> None:
    folder = render(compute=compute)
    assert "LOCAL_RUN" in (folder / "handler.py").read_text(encoding="utf-8")
    deployed = [
        *folder.glob("terraform/**/*.tf*"),
        *folder.glob("Dockerfile"),
        folder / "local.env",
    ]
    for path in (*deployed, *folder.glob("worker.py")):
        assert "LOCAL_RUN" not in path.read_text(encoding="utf-8"), path


# --- The properties find faults ----------------------------------------------------------------

# A handler that is broken on purpose: what is done to it, and the text that is replaced.
MUTANTS = {
    "an exception is swallowed": (
        'logger.error("Message failed", **_describe(',
        'return True\n        logger.error("Message failed", **_describe(',
    ),
    "everything is acknowledged": ("for message_id in failed]", "for message_id in failed[:0]]"),
    "nothing is acknowledged": ("if not _succeeds(record)]", "if not _succeeds(record) or True]"),
    "unknown events are dropped": (
        "            process(event",
        "            if event_type not in EVENTS: return True\n            process(event",
    ),
    "messages are not processed": (
        "process(event_type, decode",
        "str(decode_event(EVENTS, event_type, body)) or (lambda *_: 0)(event_type, decode",
    ),
    "processed twice": (
        "            process(event",
        "            process(event_type, decode_event(EVENTS, event_type, body))\n"
        "            process(event",
    ),
    "a failure is reported twice": ("for message_id in failed]", "for message_id in failed * 2]"),
    "one failure fails the whole batch": (
        "for message_id in failed]",
        "for message_id in [r['messageId'] for r in records if failed]]",
    ),
    "an exception escapes": ("except BaseException as error", "except ValueError as error"),
    "the body is logged": (
        'logger.info("Message processed"',
        'logger.info("Message processed", body=body',
    ),
    "the exception's text is logged": (
        "**_describe(error), **keys",
        "error=repr(error), **keys",
    ),
    "the exception is logged": (
        "_describe(error), **keys)",
        "_describe(error), exc_info=True, **keys)",
    ),
    "AWS's code can be any text": ("if AWS_CODE.fullmatch(code)", "if str(code)"),
    "anything can be AWS's error": (
        "isinstance(error, botocore.ClientError)",
        "hasattr(error, 'response')",
    ),
    "AWS's error must be whole": ("suppress(AttributeError, ", "suppress("),
    "a line is no JSON": (
        '            logger.info("Message processed"',
        '            print("done")\n            logger.info("Message processed"',
    ),
    "a failure is not logged": ('logger.error("Message failed"', 'dict(x="Message failed"'),
    "the metrics count wrong": ("MetricUnit.Count, len(failed)", "MetricUnit.Count, len(records)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_handler_is_found(service: Path, tmp_path: Path, name: str) -> None:
    right, wrong = MUTANTS[name]
    text = (service / "handler.py").read_text(encoding="utf-8")
    assert right in text, "the handler has changed: it can no longer be broken in this way"
    broken = tmp_path / "handler.py"
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    function = load(broken)

    @given(batches())
    @example(EACH_FAILURE)
    @examples(EXAMPLES, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
    def property_of(records: list[Json]) -> None:
        check_batch(function, records)

    # Any exception: one that escapes from the handler is a fault, too.
    with pytest.raises(Exception) as found:  # noqa: PT011
        property_of()
    assert not isinstance(found.value, (SyntaxError, NameError)), "it is broken in another way"

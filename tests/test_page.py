"""The page of `make local`: who may see it, what it shows, and what its buttons run."""

import json
import re
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from browser import browser
from conftest import SERVICE, Render, working_in
from tools.local.page import Page
from tools.local.server import LocalAws, local_aws
from tools.operate import service as operated
from tools.operate.service import Service
from werkzeug.test import Client, TestResponse

REGION = "eu-central-1"
NAME = "order-events-local"
KEY = "local0123456789ABCDEF"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
ONLY_ITS_OWN = "Only this page itself may ask that."


@dataclass
class Outcome:
    """An invocation, as the feed keeps it."""

    messages: list[str]
    outcome: str = "processed"
    lines: list[str] = field(default_factory=list)
    time: float = 1_767_261_600.0  # 2026-01-01 10:00:00 UTC
    milliseconds: float = 12.3


@dataclass
class Chain:
    """A topic, queues and a log in a local AWS, and the page of it."""

    aws: LocalAws
    outputs: dict[str, str]
    feed: Any
    page: Page
    end: Callable[[], None]

    def client(self) -> Client:
        """Return a browser that has opened the address with the token."""
        client = Client(self.page)
        assert client.get(f"/?token={KEY}", base_url=self.aws.url).status_code == 303
        return client

    def state(self) -> dict[str, Any]:
        answer = self.client().get("/state", base_url=self.aws.url)
        assert answer.status_code == 200
        return dict(json.loads(answer.text))

    def press(self, line: str, **headers: str) -> TestResponse:
        given = {"Origin": self.aws.url, "Sec-Fetch-Site": "same-origin"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self.client().post("/run", data=line, headers=given, base_url=self.aws.url)

    def ended(self) -> str:
        """Wait until a button's command has ended; return what it printed."""
        while (state := self.state())["running"]:
            time.sleep(0.05)
        return str(state["output"])

    def send(self, queue: str, event_type: str, body: str = "{}") -> str:
        sent = self.aws.client("sqs").send_message(
            QueueUrl=self.outputs[queue],
            MessageBody=body,
            MessageAttributes={"event_type": {"DataType": "String", "StringValue": event_type}},
        )
        return str(sent["MessageId"])

    def log(self, **line: str) -> None:
        self.aws.client("logs").put_log_events(
            logGroupName=self.outputs["log_group_name"],
            logStreamName="stream",
            logEvents=[{"timestamp": int(time.time() * 1000), "message": json.dumps(line)}],
        )


@pytest.fixture(scope="module")
def service(render: Render) -> Iterator[Path]:
    with working_in(render(aws_region=REGION)):
        yield Path()


@pytest.fixture
def chain(service: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    server = ExitStack()
    page: Page
    with server:
        aws = server.enter_context(
            local_aws(REGION, key=KEY, page=lambda environ, start: page(environ, start))
        )
        operated.client.cache_clear()
        sqs, sns, logs = aws.client("sqs"), aws.client("sns"), aws.client("logs")
        queues = {
            output: sqs.create_queue(QueueName=f"{NAME}{end}")["QueueUrl"]
            for output, end in (
                ("queue_url", ""),
                ("dead_letter_queue_url", "-dlq"),
                ("undelivered_queue_url", "-undelivered"),
            )
        }
        group = f"/aws/lambda/{NAME}"
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="stream")
        outputs = {
            **queues,
            "service_name": NAME,
            "service_arn": f"arn:aws:lambda:{REGION}:123456789012:function:{NAME}",
            "topic_arn": sns.create_topic(Name="events-local")["TopicArn"],
            "log_group_name": group,
            "event_source_mapping_uuid": "00000000-0000-0000-0000-000000000000",
        }
        feed = SimpleNamespace(recent=deque(maxlen=50))
        page = Page(aws, outputs, feed, KEY)
        yield Chain(aws, outputs, feed, page, server.close)
        page.close()
    operated.client.cache_clear()


def test_without_a_token_there_is_one_sentence(chain: Chain) -> None:
    for path in ("/", "/?token=", "/?token=local0", "/?token=%C3%A9", "/state", "/moto-api/"):
        answer = Client(chain.page).get(path, base_url=chain.aws.url)
        assert answer.status_code == 403, path
        assert answer.text == "Open the address that `make local` shows: it ends in a token."
        assert "Set-Cookie" not in answer.headers
    for path in ("/run", "/", f"/?token={KEY}"):
        answer = Client(chain.page).post(path, base_url=chain.aws.url)
        assert answer.status_code == 403, path


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(
    chain: Chain,
) -> None:
    answer = Client(chain.page).get(f"/?token={KEY}", base_url=chain.aws.url)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert KEY not in cookie
    assert chain.client().get("/", base_url=chain.aws.url).status_code == 200
    wrong = Client(chain.page)
    wrong.set_cookie(chain.page.cookie, "wrong", domain="127.0.0.1")
    assert wrong.get("/", base_url=chain.aws.url).status_code == 403
    with_the_key = Client(chain.page)
    with_the_key.set_cookie(chain.page.cookie, KEY, domain="127.0.0.1")
    assert with_the_key.get("/state", base_url=chain.aws.url).status_code == 403


def test_another_host_is_refused_whatever_it_knows(chain: Chain) -> None:
    """A name that another site has made to lead here (DNS rebinding) opens nothing."""
    port = chain.aws.url.rpartition(":")[2]
    client = chain.client()
    for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1:1"):
        for path in ("/", f"/?token={KEY}", "/state"):
            answer = client.get(path, base_url=chain.aws.url, headers={"Host": host})
            assert answer.status_code == 403, (host, path)
            assert answer.text == f"The address must begin with {chain.aws.url}."


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # the same site, on another port
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_no_other_site_can_press_a_button(chain: Chain, headers: dict[str, str]) -> None:
    answer = chain.press("make dlq-redrive ENV=local", **headers)
    assert (answer.status_code, answer.text) == (403, ONLY_ITS_OWN)
    assert not chain.state()["command"]


def test_no_other_site_can_read_the_state(chain: Chain) -> None:
    client = chain.client()
    for site in ("cross-site", "same-site"):
        answer = client.get("/state", base_url=chain.aws.url, headers={"Sec-Fetch-Site": site})
        assert (answer.status_code, answer.text) == (403, ONLY_ITS_OWN)


def test_every_answer_lets_nothing_else_in(chain: Chain) -> None:
    client = chain.client()
    for answer in (
        client.get("/", base_url=chain.aws.url),
        client.get("/state", base_url=chain.aws.url),
        client.get("/favicon.ico", base_url=chain.aws.url),
        client.get(f"/?token={KEY}", base_url=chain.aws.url),
        Client(chain.page).get("/", base_url=chain.aws.url),
    ):
        policy = answer.headers["Content-Security-Policy"]
        rules = {
            name: value for name, _, value in (one.partition(" ") for one in policy.split("; "))
        }
        assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
        for kind in ("script-src", "style-src"):
            assert re.fullmatch(r"('sha256-[\w+/]{43}=' ?){2}", rules[kind])
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert client.get("/favicon.ico", base_url=chain.aws.url).status_code == 404


def test_the_page_asks_no_other_site_and_never_takes_text_for_html() -> None:
    html = (SERVICE / "tools/local/page.html").read_text(encoding="utf-8")
    for word in ("//", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        lines = [line for line in html.splitlines() if word in line]
        assert [line for line in lines if not line.lstrip().startswith("//")] == [], word
    assert not re.search(r"<[^>]+ on\w+=|<[^>]+ style=|javascript:", html)


def test_the_state_counts_messages_and_says_why_they_are_dead(chain: Chain) -> None:
    chain.send("queue_url", "order.created")
    chain.send("queue_url", "order.created")
    chain.aws.client("sqs").receive_message(QueueUrl=chain.outputs["queue_url"])
    dead = chain.send("dead_letter_queue_url", HOSTILE)
    chain.send("undelivered_queue_url", "order.created")
    chain.log(level="ERROR", message="Message failed", message_id=dead, reason=HOSTILE)
    line = json.dumps({"level": "INFO", "message": HOSTILE})
    chain.feed.recent += [Outcome(["m-1"]), Outcome(["m-2", "m-3"], "failed: KeyError", [line])]
    state = chain.state()
    assert (state["name"], state["topic"]) == (NAME, "events-local")
    assert state["queue"] == {"name": NAME, "waiting": 1, "in flight": 1, "delayed": 0}
    assert state["dead"]["waiting"] == state["undelivered"]["waiting"] == 1
    (letter,) = state["letters"]
    assert (letter["id"], letter["type"], letter["received"]) == (dead, HOSTILE, 0)
    assert letter["group"] is None
    assert letter["why"].startswith("ERROR     Message failed")
    assert HOSTILE in letter["why"]
    latest, first = state["invocations"]
    assert latest == {
        "at": "10:00:00Z",
        "messages": ["m-2", "m-3"],
        "outcome": "failed: KeyError",
        "milliseconds": 12,
        "log": f"INFO      {HOSTILE}",
    }
    assert (first["messages"], first["log"]) == (["m-1"], "")
    # What it shows it takes from no queue.
    assert chain.state()["letters"] == state["letters"]


def test_after_destroy_the_page_says_so(chain: Chain) -> None:
    chain.aws.client("sqs").delete_queue(QueueUrl=chain.outputs["queue_url"])
    answer = chain.client().get("/state", base_url=chain.aws.url)
    assert (answer.status_code, answer.text[:35]) == (410, "Nothing is deployed any more: make ")


def test_what_cannot_be_found_out_is_said_and_hides_nothing_else(chain: Chain) -> None:
    state = chain.state()
    assert all(row.partition(": ")[2].startswith("unknown: ") for row in state["code"])
    assert state["alarms"] == ["0 of 0 alarms firing"]


def test_each_button_runs_the_command_it_names(
    chain: Chain, service: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that prints its arguments takes Python's place."""
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\nprintf "%s|" "$@"\necho "$PYTHONUNBUFFERED"\necho bad >&2; exit 3\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    sample = service / "events" / "it's $HOME.json"
    sample.write_text("{}", encoding="utf-8")
    try:
        expected = {
            "make publish EVENT=events/order.created.json ENV=local": [
                *("publish", "--event=events/order.created.json")
            ],
            """make publish 'EVENT=events/it'"'"'s $$HOME.json' ENV=local""": [
                *("publish", "--event=events/it's $HOME.json")
            ],
            "make dlq-redrive ENV=local": ["dlq-redrive"],
            "make undelivered-redrive ENV=local": ["undelivered-redrive"],
            "make pause ENV=local": ["pause"],
            "make resume ENV=local": ["resume"],
        }
        assert {one["line"] for one in chain.state()["buttons"]} == expected.keys()
        for line, command in expected.items():
            assert chain.press(line).status_code == 202
            arguments = "|".join(["-m", "tools", *command, "--env=local"])
            assert chain.ended() == f"{arguments}|1\nbad\nExit code 3.\n"
            assert chain.state()["command"] == line
        assert chain.press("make publish EVENT=events/order.created.json ENV=local\n$1 x").status
        assert "|--env=local|--group=$1 x|1\n" in chain.ended()
        line = "make publish EVENT=events/order.created.json 'GROUP=$$1 x' ENV=local"
        assert chain.state()["command"] == line
    finally:
        sample.unlink()


def test_only_buttons_run_and_one_at_a_time(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho begun\nexec sleep 60\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    wrong = ("", "\ngroup", "make destroy ENV=local", "make pause ENV=prod")
    for line in (*wrong, "make pause ENV=local; ls"):
        assert chain.press(line).status_code == 409
    assert chain.press("make pause ENV=local").status_code == 202
    answer = chain.press("make resume ENV=local")
    assert (answer.status_code, answer.text) == (409, "make pause ENV=local is still running.")
    process = chain.page.running
    assert process is not None
    chain.page.close()
    assert process.poll() is not None
    assert chain.ended().endswith("Exit code -15.\n")


def test_the_state_is_cheap(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a new dead letter, and the rows of `make status` every other second, take requests."""
    asked: list[str] = []
    call = BaseClient._make_api_call

    def look(client: BaseClient, operation: str, parameters: Any) -> Any:
        asked.append(operation)
        return call(client, operation, parameters)

    ids = [chain.send("dead_letter_queue_url", "order.created") for _ in range(12)]
    monkeypatch.setattr(BaseClient, "_make_api_call", look)
    monkeypatch.setattr("tools.local.page.ROWS_SECONDS", 3600.0)
    chain.page.state()
    assert asked.count("FilterLogEvents") == 2  # a pattern has ten ids at most
    assert "ReceiveMessage" not in asked
    asked.clear()
    assert [letter["id"] for letter in chain.page.state()["letters"]] == ids
    assert asked == []


def test_a_browser_shows_texts_as_text_and_says_when_it_has_ended(chain: Chain) -> None:
    """With a real browser: nothing in a message is HTML, and no other site is asked."""
    dead = chain.send("dead_letter_queue_url", HOSTILE)
    chain.log(level="ERROR", message="Message failed", message_id=dead, reason=HOSTILE)
    chain.feed.recent.append(Outcome(["m-1"], f"failed: {HOSTILE}", [HOSTILE]))
    with browser() as page:
        page.open(f"{chain.aws.url}/")
        assert page.text() == "Open the address that `make local` shows: it ends in a token."
        page.driver.get_log("browser")  # which has that refusal
        page.open(f"{chain.aws.url}/?token={KEY}")
        page.until(lambda: page.text("#letters") and page.text("#invocations"), "all is shown")
        assert page.run("return location.href") == f"{chain.aws.url}/"
        assert page.run("return document.cookie") == ""
        page.run("document.querySelector('details').open = true")
        for part, times in (("#letters", 2), ("#invocations", 2)):
            assert page.text(part).count(HOSTILE) == times, part
            assert (
                page.run(f"return document.querySelectorAll('{part} :is(img, script)').length") == 0
            )

        # What is open stays open, and what is selected selected: only what is new is added.
        page.run("document.querySelector('details').seen = true")
        chain.feed.recent.append(Outcome(["m-2"]))
        page.until(lambda: "12 ms: processed" in page.text("#invocations"), "the new one is shown")
        (opened,) = page.run(
            "return [...document.querySelectorAll('details[open]')].map(x => x.seen)"
        )
        assert opened is True
        assert page.run("return document.querySelectorAll('#invocations > li').length") == 2

        line = "make publish EVENT=events/order.created.json ENV=local"
        assert line not in page.text()
        page.press("Show the command of each button")
        assert line in page.text()
        page.press("Publish order.created")
        page.until(lambda: "has ended" in page.text("#running"), "the command has ended")
        assert page.text("#running") == f"{line} has ended:"
        assert page.text("#output").startswith("No local AWS is running: start it with")

        # With a FIFO topic there is a field for the message group.
        assert page.run("return document.getElementById('grouped').hidden") is True
        topic = {"topic_arn": f"{chain.outputs['topic_arn']}.fifo"}
        chain.page.service = Service({**chain.outputs, **topic})
        page.until(lambda: "Message group" in page.text("#chain"), "the field is shown")
        page.run("document.getElementById('group').value = ' order-1 '")
        page.press("Publish order.created")
        grouped = line.replace("ENV=", "GROUP=order-1 ENV=")
        page.until(lambda: page.text("#running") == f"{grouped} has ended:", "it has ended")

        for width in (400, 1200):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run("return document.title") == f"{NAME}: make local"
        asked = page.run("return performance.getEntriesByType('resource').map(one => one.name)")
        assert {one for one in asked if not one.startswith(f"{chain.aws.url}/")} == set()
        errors = [one["message"] for one in page.driver.get_log("browser")]
        assert [one for one in errors if "favicon.ico" not in one] == []

        chain.end()
        page.until(lambda: "The local AWS has ended" in page.text("#ended"), "that it has ended")
        assert "order-events-local-dlq" in page.text()

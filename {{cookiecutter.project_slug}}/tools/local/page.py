"""The page of `make local`: where the messages are, what became of them, and buttons.

It is for the one who started `make local`: only the address with the token, which the console
shows, opens it. Other sites can neither read it nor press its buttons, and it needs none: what is
in page.html is all. (moto's own dashboard loads its scripts from other sites, so it is not used.)
"""

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from moto.backends import get_backend
from werkzeug.wrappers import Request, Response

from tools import events
from tools.display import describe_all
from tools.local.server import LocalAws
from tools.operate import compute, logs, messages, queues, status
from tools.operate.service import Service

ROWS_SECONDS = 2.0  # how old the rows of `make status` may be: they take longer than all the rest
SHOWN = 20  # dead letters, as many as `make dlq-peek` shows, and invocations
OUTPUT_LINES = 500
INDENT = f"\n{'':16}"  # of the rows below `why:` in what dlq-peek prints
PAUSED = "messages wait until"  # what `make status` says of the feed then
POLICY = (
    "connect-src 'self'; default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
GONE = "Nothing is deployed any more: make apply ENV=local deploys the service again."
COLOURS = re.compile(r"\x1b\[[\d;]*m")  # Terraform's
Json = dict[str, Any]


class Page:
    """A WSGI application. feed has `recent`, the latest invocations; key is the token."""

    def __init__(self, aws: LocalAws, outputs: dict[str, str], feed: Any, key: str) -> None:
        self.service, self.url, self.feed, self.key = Service(outputs), aws.url, feed, key
        # The browser sends a cookie to every port of this address: another name for each, and not
        # the key itself, which other programs there need not know.
        self.cookie, self.session = f"local-{aws.url.rpartition(':')[2]}", token_urlsafe()
        self.html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        # No script or style runs but the page's own.
        parts = re.findall(r"(?s)<(?:script|style)>(.*?)</(?:script|style)>", self.html)
        hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in parts]
        own = " ".join(f"'sha256-{one.decode()}'" for one in hashes)
        self.headers = {
            "Content-Security-Policy": f"script-src {own}; style-src {own}; {POLICY}",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        self.lock = threading.RLock()  # of all that follows
        self.rows: tuple[float, Json] = (-ROWS_SECONDS, {})
        self.reasons: dict[tuple[str, int], str] = {}
        self.running: subprocess.Popen[str] | None = None
        self.command = ""
        self.output: deque[str] = deque(maxlen=OUTPUT_LINES)

    def __call__(self, environ: Json, start_response: Any) -> Iterable[bytes]:
        """Answer a request that is not signed."""
        request = Request(environ)
        answer = self.answer(request)
        answer.headers.extend(self.headers)
        return answer(environ, start_response)

    def answer(self, request: Request) -> Response:
        """Return the answer to a request, after asking where it comes from."""
        if request.host != self.url.removeprefix("http://"):
            return Response(f"The address must begin with {self.url}.", 403)
        asked, token = f"{request.method} {request.path}", request.args.get("token", "")
        if asked == "GET /" and compare_digest(token.encode(), self.key.encode()):
            answer = Response(status=303, headers={"Location": "/"})
            answer.set_cookie(self.cookie, self.session, httponly=True, samesite="Strict")
            return answer
        cookie = request.cookies.get(self.cookie, "")
        if not compare_digest(cookie.encode(), self.session.encode()):
            return Response("Open the address that `make local` shows: it ends in a token.", 403)
        other = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if other or (request.method == "POST" and request.headers.get("Origin") != self.url):
            return Response("Only this page itself may ask that.", 403)
        if asked == "GET /":
            return Response(self.html, mimetype="text/html")
        if asked == "GET /state":
            try:
                return Response(json.dumps(self.state()), mimetype="application/json")
            except KeyError:  # a queue is gone
                return Response(GONE, 410)
        if asked == "POST /run":
            line, _, group = request.get_data(as_text=True).partition("\n")
            return self.run(line, group)
        return Response("There is no such page.", 404)

    def state(self) -> Json:
        """Return all that the page shows."""
        with self.lock:
            if time.monotonic() - self.rows[0] > ROWS_SECONDS:
                self.rows = time.monotonic(), self.status()
            return {
                "name": self.service.service_name,
                "topic": self.service.topic_arn.rpartition(":")[2],
                "fifo": events.is_fifo(self.service.topic_arn),
                "queue": self.counts(self.service.queue_url),
                "dead": self.counts(self.service.dead_letter_queue_url),
                "undelivered": self.counts(self.service.undelivered_queue_url),
                **self.rows[1],
                "letters": self.letters(),
                "invocations": [invocation(one) for one in [*self.feed.recent][: -SHOWN - 1 : -1]],
                "buttons": buttons(),
                "command": self.command,
                "output": COLOURS.sub("", "".join([*self.output])),
                "running": self.running is not None,
            }

    def status(self) -> Json:
        """Return what `make status` says of the code and of the alarms."""
        sections = (*compute.SECTIONS, ("alarms", status.alarm_status))
        rows = {title: status.rows_of(self.service, section)[0] for title, section in sections}
        alarms = rows.pop("alarms")
        code = [f"{title}: {row}" for title, found in rows.items() for row in found]
        return {"code": code, "alarms": alarms, "paused": any(PAUSED in row for row in code)}

    def queue(self, url: str) -> Any:
        """Return moto's own object of a queue: to look at its messages is no receive."""
        name = queues.name_of(url)
        return get_backend("sqs")[self.service.account][self.service.region].queues[name]

    def counts(self, url: str) -> Json:
        """Count a queue's messages, as SQS does."""
        queue = self.queue(url)
        return {
            "name": queue.name,
            "waiting": queue.approximate_number_of_messages,
            "in flight": queue.approximate_number_of_messages_not_visible,
            "delayed": queue.approximate_number_of_messages_delayed,
        }

    def letters(self) -> list[Json]:
        """Return the oldest dead letters, each with why it failed, in the words of dlq-peek."""
        dead = self.queue(self.service.dead_letter_queue_url)._messages[:SHOWN]
        found = {(one.id, one.approximate_receive_count): one for one in dead}
        new = [
            {"MessageId": one.id, "Attributes": {"SentTimestamp": one.sent_timestamp}}
            for key, one in found.items()
            if key not in self.reasons
        ]
        why = messages.reasons_of(self.service, new) if new else {}
        self.reasons = {key: self.reasons.get(key) or why[key[0]] for key in found}
        return [
            {
                "id": one.id,
                "type": one.message_attributes.get("event_type", {}).get("StringValue", "none"),
                "group": one.group_id,
                "received": one.approximate_receive_count,
                "why": self.reasons[key].replace(INDENT, "\n"),
            }
            for key, one in found.items()
        ]

    def run(self, line: str, group: str) -> Response:
        """Start what a button does, if no other command runs; group is that of an event."""
        found = [one["tools"] for one in buttons() if one["line"] == line]
        if group:
            found = [[*found[0], f"--group={group}"]] if found else []
            quoted = shlex.quote(f"GROUP={group}").replace("$", "$$")
            line = line.replace(" ENV=local", f" {quoted} ENV=local")
        with self.lock:
            if not found or self.running:
                busy = f"{self.command} is still running." if found else "There is no such button."
                return Response(busy, 409)
            self.command = line
            self.output.clear()
            self.running = subprocess.Popen(
                [sys.executable, "-m", "tools", *found[0]],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        threading.Thread(target=self.follow, args=(self.running,), daemon=True).start()
        return Response(status=202)

    def follow(self, process: subprocess.Popen[str]) -> None:
        """Keep what a command prints, until it ends."""
        with process:
            self.output.extend(process.stdout or ())
        if process.returncode:
            self.output.append(f"Exit code {process.returncode}.\n")
        with self.lock:
            self.rows, self.running = (-ROWS_SECONDS, {}), None

    def close(self) -> None:
        """End the command that runs."""
        if process := self.running:
            process.terminate()
            process.wait()


def invocation(one: Any) -> Json:
    """Return what the page shows of an invocation, with its log as `make logs` prints it."""
    return {
        "at": logs.clock(one.time * 1000)[11:],
        "messages": list(one.messages),
        "outcome": one.outcome,
        "milliseconds": round(one.milliseconds),
        "log": describe_all(one.lines),
    }


def buttons() -> list[Json]:
    """Return the buttons: where each is, its label, and its command for make and for tools."""
    samples = [(name, f"EVENT={file}") for name, file in events.samples().items()]
    made = [
        *(("topic", f"Publish {name}", "publish", file) for name, file in samples),
        ("code", "Pause", "pause"),
        ("code", "Resume", "resume"),
        ("dead", "Redrive", "dlq-redrive"),
        ("undelivered", "Send on", "undelivered-redrive"),
    ]
    return [
        {
            "place": place,
            "label": label,
            # make expands a $ in what it is given.
            "line": shlex.join(["make", command, *given, "ENV=local"]).replace("$", "$$"),
            "tools": [command, *(f"--event={one[6:]}" for one in given), "--env=local"],
        }
        for place, label, command, *given in made
    ]

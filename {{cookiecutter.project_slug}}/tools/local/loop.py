"""`make local`: a local AWS that stays up, with the service deployed to it and its code running.

Whatever is saved meanwhile runs with the next message. What fails is shown and ends nothing; Ctrl-C
ends everything, and all that was in the local AWS is gone.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from tools import events, hcl
from tools.errors import problem_of
from tools.local import running, working_tree
from tools.local.log import Log
from tools.project import Environment, between, project

TICK = 0.05  # seconds between two looks at the files
# Or so many times what a look has taken, so that many files cost a tenth of a CPU; at most these
# seconds.
SHARE, MOST = 10, 1.0
# Prints the types in EVENTS: in a process of its own, since Python imports a module only once.
TYPES = "import json; from tools import events; print(json.dumps([*events.models()]))"


@click.command
@click.option("--port", envvar="PORT", callback=between(1, 65535), help="default: a free one")
@click.option(
    "--retry",
    envvar="RETRY",
    callback=between(1, 43200),
    help="seconds until failed messages come back; default: the queue's visibility timeout",
)
def command(port: int | None, retry: int | None) -> None:
    """Keep a local AWS running, with the service in it."""
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    with running.hold() as write:
        try:
            _serve(write, port or 0, retry)
        except (KeyboardInterrupt, SystemExit) as end:
            if getattr(end, "code", 130) != 130:  # Ctrl-C while Terraform runs
                raise
            click.echo("\nEnded.")
        finally:
            gc.freeze()  # or Python looks through all of moto once more, which takes a second


def _serve(write: Callable[[running.Running], None], port: int, retry: int | None) -> None:
    """Start everything, and go on until a signal ends it."""
    say("starting a local AWS")
    region = hcl.settings(Environment("dev"))["aws_region"]
    # Imported only now: moto takes more than a second.
    from tools.local.deployment import deploy
    from tools.local.permissions import Permissions
    from tools.local.server import local_aws

    key, page = f"local{secrets.token_hex(16)}", Later()
    permissions = Permissions(record=deque(maxlen=1000))
    with local_aws(region, key=key, port=port, page=page, permissions=permissions) as aws:
        say(f"local AWS for {region} at {aws.url}")
        known = running.Running(aws.url, region, key, os.getpid())
        write(known)
        deployment = deploy(aws, say)
        outputs = deployment.outputs
        with feeding(aws, outputs, deployment.surroundings, retry) as (feed, log, tick):
            say("starting the code")
            feed.start()
            loop = Loop(feed, log, [tick, Code(feed, known, write).note])
            with ExitStack() as stack:
                page.show(stack, aws, outputs, feed, key)
                print(listening(aws, outputs, feed, f"{aws.url}/?token={key}"), flush=True)
                loop.run()


def say(text: str) -> None:
    """Say what is done, or waited for."""
    print(f"  {text}", flush=True)


@dataclass
class Code:
    """Writes down the environment variables of the code, whenever they have changed."""

    feed: Any
    known: running.Running
    write: Callable[[running.Running], None]

    def note(self) -> None:
        """Look whether they have."""
        now = replace(self.known, code=self.feed.code)
        if now != self.known:
            self.known = now
            self.write(now)


class Later:
    """A WSGI application that answers once there is a page."""

    def __init__(self) -> None:
        self._page: Any = None

    def show(
        self, stack: ExitStack, aws: Any, outputs: dict[str, str], feed: Any, key: str
    ) -> None:
        """Make the page; it ends with the stack."""
        from tools.local.page import Page

        self._page = Page(aws, outputs, feed, key)
        stack.callback(self._page.close)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request that is not signed."""
        if self._page is None:
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"The service is not deployed yet.\n"]
        answer: Iterable[bytes] = self._page(environ, start_response)
        return answer


@contextmanager
def feeding(
    aws: Any, outputs: dict[str, str], added: dict[str, str], retry: int | None
) -> Iterator[tuple[Any, Log, Callable[[], None]]]:
    """Make the feed, its log, and what is to be called every second; end them all."""
    from tools.local.feed import Feed
    from tools.local.monitoring import Monitoring

    monitoring = Monitoring(aws, outputs)
    log = Log(aws, outputs, monitoring)
    feed = Feed(aws, outputs, added, log, monitoring, retry)
    try:
        yield feed, log, monitoring.tick
    finally:
        feed.close()
        log.close()


def listening(aws: Any, outputs: dict[str, str], feed: Any, page: str) -> str:
    """Say what runs, and what to try."""
    name = "VisibilityTimeout"
    queue = aws.client("sqs").get_queue_attributes(
        QueueUrl=outputs["queue_url"], AttributeNames=[name]
    )
    seconds, least = feed.retry or queue["Attributes"][name], feed.SHORTEST_RETRY
    again = "" if feed.retry else f", as on AWS; with `make local RETRY={least}`, after {least} s"
    return f"""
Listening: this folder's code takes messages from {outputs["queue_name"]}.

In another terminal:
  make publish ENV=local    publish a sample; its log lines appear here
  make status ENV=local     show its health; so do logs, dlq-peek, versions …
  make pause ENV=local      stop taking messages; resume, rollback … work, too
In the browser:
  {page}

Save a file, and the next message runs the new code. A failed message comes back
after {seconds} s{again}.
Press Ctrl-C to stop; nothing in it is kept.
"""


class Watch:
    """Tells what has been saved, once it has stayed the same for one look."""

    def __init__(self, state: Callable[[], working_tree.Stats]) -> None:
        """Begin with what there is now."""
        self._state = state
        self._known = self._last = state()

    def look(self) -> list[str]:
        """Return the names of what was saved."""
        now = self._state()
        if now != self._last or now == self._known:
            self._last = now
            return []
        names = working_tree.changed(self._known, now)
        self._known = now
        return names


class Loop:
    """What goes on while everything runs."""

    def __init__(self, feed: Any, log: Log, each_second: list[Callable[[], None]]) -> None:
        """Take what looks all the time, and what is called each second."""
        self._feed, self._log, self._each_second = feed, log, each_second
        self._code = Watch(lambda: working_tree.code_stats() | working_tree.dependency_stats())
        self._terraform = Watch(terraform_stats)
        self._types: list[str] = [*events.models()]
        self._problems: dict[str, str] = {}

    def run(self) -> None:
        """Go on until a signal, or until nobody reads what is printed."""
        ticked = 0.0
        while not self._log.closed:
            began = time.monotonic()
            saved = self._code.look(), self._terraform.look()
            took = time.monotonic() - began
            self._try(partial(self._saved, *saved))
            self._try(self._feed.look)
            if began - ticked >= 1:
                ticked = began
                for step in self._each_second:
                    self._try(step)
            time.sleep(min(max(TICK, SHARE * took), MOST))
        raise BrokenPipeError

    def _saved(self, code: list[str], terraform: list[str]) -> None:
        if terraform:
            self._hint(", ".join(terraform))
        if code:
            self._feed.reload()
        if f"{project().package}/events.py" in code and (types := current_types()):
            before, self._types = self._types, types
            if before != types:
                self._hint("EVENTS")

    def _hint(self, what: str) -> None:
        self._log.say(
            f"{what} changed: `make plan ENV=local` shows what that changes, "
            "`make apply ENV=local` applies it."
        )

    def _try(self, step: Callable[[], None]) -> None:
        """Do a step; show what goes wrong, once, and go on."""
        problem, name = "", getattr(step, "__qualname__", "saved")
        try:
            step()
        except Exception as error:
            problem = problem_of(error)
        if problem and problem != self._problems.get(name):
            self._log.say(problem)
        self._problems[name] = problem


def terraform_stats() -> working_tree.Stats:
    """Return the state of what a plan depends on besides the code."""
    folder = Path("terraform")
    files = [*folder.glob("*.tf"), Environment("dev").tfvars]
    try:
        return {str(file): working_tree.stat_of(file) for file in files if file.exists()}
    except OSError as error:  # it is being replaced just now
        return {str(error): ()}


def current_types() -> list[str]:
    """Return the event types in EVENTS as it is saved now; none if it can't be imported."""
    done = subprocess.run([sys.executable, "-B", "-c", TYPES], capture_output=True, text=True)
    types: list[str] = json.loads(done.stdout) if done.returncode == 0 else []
    return types

"""`make local`: a local AWS that stays up, with the service deployed to it and its code running.

Whatever is saved meanwhile runs with the next message. What fails is shown and ends nothing; Ctrl-C
ends everything, and all that was in the local AWS is gone.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from tools import events, hcl
from tools.errors import problem_of
from tools.local import running, working_tree
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
    from werkzeug.wrappers import Response

    from tools.local.deployment import deploy
    from tools.local.feed import Feed
    from tools.local.log import Log
    from tools.local.monitoring import Monitoring
    from tools.local.page import Page
    from tools.local.server import local_aws

    key = f"local{secrets.token_hex(16)}"
    pages: list[Any] = [Response("The service is not deployed yet.\n", 403)]  # the last answers

    def page(*request: Any) -> Any:
        return pages[-1](*request)

    with local_aws(region, key=key, port=port, page=page) as aws:
        aws.permissions.record = deque(maxlen=1000)
        say(f"local AWS for {region} at {aws.url}")
        known = running.Running(aws.url, region, key, os.getpid())
        write(known)
        deployment = deploy(aws, say)
        outputs, added = deployment.outputs, deployment.surroundings
        monitoring = Monitoring(aws, outputs)
        log = Log(aws, outputs, monitoring)
        with closing(Feed(aws, outputs, added, log, monitoring, retry)) as feed:
            say("starting the code")
            feed.start()
            loop = Loop(feed, log, [monitoring.tick, lambda: write(replace(known, code=feed.code))])
            with closing(Page(aws, outputs, feed, key)) as shown:
                pages.append(shown)
                print(listening(aws, outputs, feed, f"{aws.url}/?token={key}"), flush=True)
                loop.run()


def say(text: str) -> None:
    """Say what is done, or waited for."""
    print(f"  {text}", flush=True)


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


def watch(state: Callable[[], working_tree.Stats]) -> Callable[[], list[str]]:
    """Return a function that tells what was saved, once it has stayed the same for one look."""
    known = last = state()

    def look() -> list[str]:
        nonlocal known, last
        before, last = last, state()
        if last != before or last == known:
            return []
        names = working_tree.changed(known, last)
        known = last
        return names

    return look


class Loop:
    """What goes on while everything runs."""

    def __init__(self, feed: Any, log: Any, each_second: list[Callable[[], None]]) -> None:
        """Take what looks all the time, and what is called each second."""
        self._feed, self._log, self._each_second = feed, log, each_second
        self._code = watch(lambda: working_tree.code_stats() | working_tree.dependency_stats())
        self._terraform = watch(terraform_stats)
        self._types: list[str] = [*events.models()]
        self._tell: dict[str, Callable[[str], None]] = defaultdict(log.once)  # for each step

    def run(self) -> None:
        """Go on until a signal, or until nobody reads what is printed."""
        ticked = 0.0
        while not self._log.closed:
            began = time.monotonic()
            saved = self._code(), self._terraform()
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
        problem = ""
        try:
            step()
        except Exception as error:
            problem = problem_of(error)
        self._tell[getattr(step, "__qualname__", "saved")](problem)


def terraform_stats() -> working_tree.Stats:
    """Return the state of what a plan depends on besides the code."""
    files = [*Path("terraform").glob("*.tf"), Environment("dev").tfvars]
    return working_tree.stats_of(lambda: filter(Path.exists, files))


def current_types() -> list[str]:
    """Return the event types in EVENTS as it is saved now; none if it can't be imported."""
    done = subprocess.run([sys.executable, "-B", "-c", TYPES], capture_output=True, text=True)
    types: list[str] = json.loads(done.stdout) if done.returncode == 0 else []
    return types

"""The handler in a process of its own: what it logs, whatever happens, is JSON without payload."""

import json
import os
import subprocess
import sys

import pytest
from conftest import Render
from tools.project import read_environment

# What runs instead of the service's process(); each quotes the payload.
CODE = """
import asyncio, os, signal, sys, threading, warnings
import handler
from tools.events import record

def process(event_type, event):
    {}

handler.process = process
body = open("events/order.created.json").read()
event = {{"Records": [record(body, event_type="order.created")]}}
try:
    print(handler.json.dumps(handler.handler(event, None)))
    handler.handler({{}}, None)
except KeyError:
    pass
"""
THREAD = "thread = threading.Thread(target={}); thread.start(); thread.join()"
FINALIZER = """
    class Object:
        def __del__(self): raise ValueError("card 4111")
    Object()"""
ASYNC = """
    async def work(): raise ValueError("card 4111")
    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
    asyncio.run(main())"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('sys.exit("card 4111")', "SystemExit"),
        ('warnings.warn("an old way")', "an old way"),
        (THREAD.format("lambda: {}['card 4111']"), "KeyError"),
        (THREAD.format("lambda: (_ for _ in ()).throw(KeyboardInterrupt('card 4111'))"), "Interru"),
        (FINALIZER, "ValueError"),
        (ASYNC, "never retrieved"),
        ("signal.signal(15, lambda *_: sys.exit()); os.kill(os.getpid(), 15)", "No application"),
    ],
    ids=["exit", "warning", "thread", "thread's interrupt", "finalizer", "task", "SIGTERM"],
)
def test_the_log_is_json_without_payload(render: Render, code: str, said: str) -> None:
    folder = render()
    done = subprocess.run(
        [sys.executable, "-B", "-c", CODE.format(code)],
        cwd=folder,
        env={**os.environ, **read_environment(folder / "local.env")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    logged = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert said in str(logged)
    assert "card 4111" not in str(logged)

"""AWS's own runtime emulator says what the local runtime must do, outcome by outcome.

aws-lambda-rie is at https://github.com/aws/aws-lambda-runtime-interface-emulator/releases, and in
the wheel of aws-sam-cli. These tests are collected only with a path to it in LAMBDA_RIE.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_runtime import write_package
from tools.local.runtime import Runtime
from tools.local.runtime_process import RESPONSE_LIMIT

EMULATOR = os.environ.get("LAMBDA_RIE", "")
pytestmark = pytest.mark.slow

HANDLER = """
import asyncio, os, sys, time
{}
def handler(event, context):
    match event["do"]:
        case "return": return {{"ü": os.getpid()}}
        case "raise": raise ValueError("it is broken")
        case "cancel": raise asyncio.CancelledError("cancelled")
        case "exit": sys.exit(3)
        case "exit with 0": sys.exit(0)
        case "exit at once": os._exit(3)
        case "crash": os.kill(os.getpid(), 11)
        case "time out": time.sleep(60)
        case "no JSON": return {{1, 2}}
        case "large": return "x" * event["size"]
"""
TIMEOUT = 3


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class Emulator:
    """AWS's emulator with a handler."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        self.url = f"http://{address}/2015-03-31/functions/function/invocations"
        options = ["--runtime-interface-emulator-address", address]
        options += ["--runtime-api-address", f"127.0.0.1:{free_port()}"]
        with (folder / "log").open("w") as log:
            self.popen = subprocess.Popen(
                [EMULATOR, *options, sys.executable, "-m", "awslambdaric", "handler.handler"],
                cwd=folder,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(folder),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT),
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def invoke(self, event: Any) -> tuple[Any, str, str]:
        """Return the response, and the error's type and message."""
        request = urllib.request.Request(self.url, json.dumps(event).encode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        if b"Task timed out" in body:
            return None, "Sandbox.Timedout", body.decode()
        answer = json.loads(body)
        if isinstance(answer, dict) and "errorType" in answer:
            return None, answer["errorType"], answer["errorMessage"]
        return answer, "", ""


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[Emulator]:
    made = Emulator(folder)
    try:
        yield made
    finally:
        os.killpg(made.popen.pid, signal.SIGKILL)
        made.popen.wait()


def compare(tmp_path: Path, code: str, *events: dict[str, Any]) -> None:
    """Hand events to both; what they say and which of them shared a process must be the same."""
    (tmp_path / "handler.py").write_text(HANDLER.format(code), encoding="utf-8")
    package = write_package(tmp_path / "lambda.zip", HANDLER.format(code))
    with emulator(tmp_path) as theirs:
        expected = [theirs.invoke(event) for event in events]
    found = []
    with Runtime(package, environment={}, timeout=TIMEOUT) as ours:
        for event in events:
            done = ours.invoke(event)
            error = done.error or {"errorType": "", "errorMessage": ""}
            found.append((done.response, error["errorType"], error["errorMessage"]))
    assert comparable(found) == comparable(expected)


def comparable(outcomes: list[tuple[Any, str, str]]) -> list[Any]:
    """Return outcomes without request ids, and with processes by their order."""
    pids = list(dict.fromkeys(r["ü"] for r, *_ in outcomes if isinstance(r, dict)))
    return [
        (
            pids.index(response["ü"]) if isinstance(response, dict) else response and len(response),
            kind,
            message.rpartition("Error: ")[2],
        )
        for response, kind, message in outcomes
    ]


RETURN = {"do": "return"}


@pytest.mark.parametrize(
    "do",
    ["raise", "no JSON", "cancel", "exit", "exit with 0", "exit at once", "crash", "time out"],
)
def test_a_failure_is_the_same_and_so_is_what_follows(tmp_path: Path, do: str) -> None:
    compare(tmp_path, "", RETURN, {"do": do}, RETURN, RETURN)


@pytest.mark.parametrize("more", [0, 1])
def test_the_limit_of_a_response_is_the_same(tmp_path: Path, more: int) -> None:
    large = {"do": "large", "size": RESPONSE_LIMIT - 2 + more}  # without the quotes
    compare(tmp_path, "", RETURN, large, RETURN)


@pytest.mark.parametrize("code", ["raise KeyError('TABLE')", "import not_packed"])
def test_what_can_not_be_imported_is_the_same(tmp_path: Path, code: str) -> None:
    compare(tmp_path, code, RETURN, RETURN)

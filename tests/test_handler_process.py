"""The handler in a process of its own: what it logs, whatever happens, is JSON without payload."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    logged = lines(render(), CODE.format(code))
    assert said in str(logged)
    assert "card 4111" not in str(logged)


def lines(folder: Path, code: str, **environment: str) -> list[dict[str, Any]]:
    """Run code in a process of its own; return the lines that it prints, each JSON."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=folder,
        env={**os.environ, **read_environment(folder / "local.env"), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]


# One message of each kind, and a line of the package's, of Powertools' and of a library's.
ALL_KINDS = """
import logging
logging.getLogger().addHandler(logging.StreamHandler())
logging.getLogger().setLevel("INFO")  # as Lambda's runtime does
import handler
from aws_lambda_powertools import Logger
from tools.events import record

def process(event_type, event):
    logging.getLogger("order_events.service").info("ours")

handler.process = process
body = open("events/order.created.json").read()
kinds = {"order.created": body, handler.SMOKE_TEST: "{}", "unknown": body}
records = [record(body, event_type=kind) for kind, body in kinds.items()]
for one, name in zip(records, kinds):
    one["messageId"] = name
handler.handler({"Records": records}, None)
Logger(service="another", use_rfc3339=True).info("of a second logger")
logging.getLogger("library").info('{"message": "of a library"}')
"""
# RFC 3339, with milliseconds.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d")
# What Lambda takes for a level; a line without one, or without a timestamp, has level INFO.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


def passes(line: dict[str, Any], application_log_level: str) -> bool:
    """Tell whether Lambda lets a line through to CloudWatch Logs."""
    level = str(line.get("level")) if TIMESTAMP.fullmatch(str(line.get("timestamp"))) else "INFO"
    return LEVELS.index(level if level in LEVELS else "INFO") >= LEVELS.index(application_log_level)


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_metrics_errors_and_smoke_tests_are_seen_at_every_log_level(
    render: Render, level: str
) -> None:
    printed = lines(render(), ALL_KINDS, LOG_LEVEL=level, AWS_LAMBDA_LOG_LEVEL="INFO")
    assert all(TIMESTAMP.fullmatch(line["timestamp"]) for line in printed if "level" in line)
    through = [line for line in printed if passes(line, "INFO")]
    [metrics] = [line for line in through if "_aws" in line]
    assert (metrics["MessagesProcessed"], metrics["MessagesFailed"]) == ([2.0], [1.0])
    said = {(line.get("message"), line.get("message_id")) for line in through}
    always = {("Smoke test received", "smoke_test"), ("Message failed", "unknown")}
    of_info = {
        ("ours", "order.created"),
        ("Message processed", "order.created"),
        ("of a second logger", None),
        ("of a library", None),
    }
    assert said - {(None, None)} == (always | of_info if level == "INFO" else always)


ASKS_AWS = """
import json
import logging
from contextlib import suppress

printer = logging.StreamHandler()
printer.format = lambda line: json.dumps(line.getMessage())
logging.getLogger().addHandler(printer)
logging.getLogger().setLevel("DEBUG")  # as Lambda's runtime does
import handler
import boto3
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from tools.events import batch

once = Config(retries={"total_max_attempts": 1})
nowhere = {"endpoint_url": "http://127.0.0.1:1", "config": once}

def process(event_type, event):
    logging.getLogger("order_events.service").debug("ours")
    with suppress(EndpointConnectionError):
        boto3.client("sqs", **nowhere).send_message(QueueUrl="q", MessageBody="card 4111")
    with suppress(EndpointConnectionError):
        boto3.resource("dynamodb", **nowhere).Table("t").put_item(Item={"id": "card 4111"})

handler.process = process
handler.handler(batch(""), None)
"""


def test_requests_to_aws_are_not_logged_with_payload_and_credentials(render: Render) -> None:
    aws = {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "a-credential",
    }
    level = {"LOG_LEVEL": "DEBUG", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}
    printed = str(lines(render(), ASKS_AWS, **aws, **level))
    assert "ours" in printed
    assert "Message processed" in printed
    assert "card 4111" not in printed
    assert "a-credential" not in printed

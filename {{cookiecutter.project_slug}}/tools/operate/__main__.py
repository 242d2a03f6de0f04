"""Operate the deployed service: what `make status`, `make logs`, `make dlq-peek` and the like run.

    terraform output -json | python scripts/operate.py --outputs - status

Credentials come from where boto3 looks for them; region and account from the outputs. Each command
says what it did. Exit code 0: done; 1: not done, with one sentence that says why; 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from tools.operate import ecs, function, logs, queues, topic
from tools.errors import ToolError
from tools.operate.service import Service, read_service
from tools.operate.smoke import smoke
from tools.operate.status import status


def _between(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of numbers that refuses what is out of bounds."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return number

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers that refuses what is out of bounds."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the list of all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{message}\n")


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="operate.py", description="Operate the deployed service.", allow_abbrev=False
    )
    parser.add_argument(
        "--outputs", required=True, help="file with `terraform output -json`; - for standard input"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("status", help="one screen: what runs, queues, alarms, last errors")

    command = commands.add_parser("logs", help="follow the log")
    command.add_argument("--since", type=_between(0, 43200), default=10, help="minutes; 10")
    command.add_argument("--once", action="store_true", help="print what is there, and stop")

    command = commands.add_parser("publish", help="publish a test message to the topic")
    command.add_argument("--event-type", help="default: the first that the service takes")
    command.add_argument("--correlation-id", help="default: made up")
    body = command.add_mutually_exclusive_group()
    body.add_argument("--body", help="the message, JSON with id, occurred_at and data")
    body.add_argument("--body-file", type=Path, help="a file that holds it")

    for queue in ("dlq", "undelivered"):
        command = commands.add_parser(
            f"{queue}-peek", help="show the queue's messages and leave them there"
        )
        command.add_argument("--max", type=_whole(1, 10000), default=20, help="how many; 20")
        command.add_argument("--save", type=Path, help="new file for the messages, for `replay`")

    command = commands.add_parser("dlq-redrive", help="send dead letters back to the queue")
    command.add_argument("--max-rate", type=_whole(1, 500), help="messages a second, 1 to 500")
    command.add_argument("--cancel", action="store_true", help="stop the one under way")

    commands.add_parser("undelivered-redrive", help="send on what SNS could not deliver")

    command = commands.add_parser("replay", help="send saved messages to the service's queue")
    command.add_argument("file", type=Path, help="saved by dlq-peek or undelivered-peek")

    command = commands.add_parser(
        "smoke", help="send a harmless message and wait for it in the log"
    )
    command.add_argument("--package", type=Path, help="zip or image that must be what is deployed")
    command.add_argument(
        "--timeout", type=_between(1, 3600), help="seconds; 120 on Lambda, 900 on Fargate"
    )

    command = commands.add_parser("versions", help="list the published versions")
    command.add_argument("--check", type=_whole(1, 10**9), help="a version that must be there")
    return parser


def _run(service: Service, options: argparse.Namespace) -> bool:
    """Run the command; returns whether it did all that it should."""
    compute = ecs if service.cluster_name else function
    match options.command:
        case "status":
            return status(service, compute.SECTIONS)
        case "logs":
            logs.follow(service, options.since, options.once)
        case "publish":
            topic.publish(
                service,
                options.event_type,
                options.correlation_id,
                options.body,
                options.body_file,
            )
        case "dlq-peek":
            queues.peek(service, service.dead_letter_queue_url, options.max, options.save)
        case "undelivered-peek":
            # They never reached the handler, so the log can't say why.
            url = service.undelivered_queue_url
            queues.peek(service, url, options.max, options.save, why=False)
        case "dlq-redrive" if options.cancel:
            queues.cancel_redrive(service)
        case "dlq-redrive":
            queues.redrive(service, options.max_rate)
        case "undelivered-redrive":
            queues.redrive_undelivered(service)
        case "replay":
            queues.replay(service, options.file)
        case "smoke":
            compute.check(service, options.package)
            smoke(service, options.timeout or compute.SMOKE_SECONDS)
        case "versions":
            compute.versions(service, options.check)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _arguments().parse_args(arguments)
    try:
        service = read_service(options.outputs)
        service.check_account()
        return 0 if _run(service, options) else 1
    except ToolError as error:
        print(error, file=sys.stderr)
    except (BotoCoreError, ClientError) as error:
        print(explain(error), file=sys.stderr)
    except BrokenPipeError:
        # The reader has seen enough, as with `| head`; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        # The way out of `logs`; anything else is cut short.
        return 0 if options.command == "logs" else 130
    return 1


if __name__ == "__main__":
    sys.exit(main())

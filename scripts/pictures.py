"""Create the documentation's pictures, docs/pictures/*.svg, from real runs.

    pictures.py [name …]    creates the named ones, or all of them

Each shows a service with the default answers. Whatever differs between machines and runs (paths,
durations, a free port) is removed, so that a picture changes only when its content does.
tests/test_pictures.py compares their words with what the commands print now.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import draw

TEMPLATE = Path(__file__).parents[1]
# The service's tools have no Jinja, so they can be imported from the template. Caches beside them
# would be rendered, too.
sys.dont_write_bytecode = True
sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))
from tools.deploy.mirror import cli_config  # noqa: E402
from tools.deploy.summary import summarise  # noqa: E402

PICTURES = TEMPLATE / "docs" / "pictures"
WIDTH = 104  # characters

# What differs from machine to machine and from run to run, and what is shown instead.
DIFFERENT = (
    (r"(^.*WARNING: .*\n)+(^(\x1b\[[0-9;]*m)+\n)*", ""),  # pip's warnings about this machine
    (r"^ *… \d+ s\b.*\n", ""),  # the progress of a long command
    (r" in \d+[\d.:]*s?( \([\d:]+\))?(?=\S* *=)", ""),  # pytest
    (r"(?<=127\.0\.0\.1:)\d+", "5000"),
    (r"(?<=Python 3\.)\d+\.\d+", "13"),
    (r"\S+/(?=python3\.)", ""),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "8f1c2f5e-6d1b-4c0e-9a51-0b7a3c2d4e5f"),
    (r"1-[0-9a-f]{8}-[0-9a-f]{24}", "1-69565c20-7a3c2d4e5f8f1c2f5e6d1b4c"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "2026-01-01 10:00:00,000"),
    (r"^\d\d:\d\d:\d\d(?=  )", "10:00:00"),
    (r"(?<=token=local)[0-9a-f]+", "…"),
    (r"\(\d\.\d\d s\)", "(0.50 s)"),
    (r"\b0:00:\d\d\.\d+", "0:00:00.500000"),
)

# A run of Terraform's own test with AWS mocked: deploys the service, then changes settings. None of
# them creates a new version of the function, because only AWS could number that.
TERRAFORM = """
mock_provider "aws" {
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:order-events" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/services/order-events-prod" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:us-east-1:123456789012:function:order-events-prod" }
  }
  mock_resource "aws_lambda_alias" {
    defaults = { arn = "arn:aws:lambda:us-east-1:123456789012:function:order-events-prod:live" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:us-east-1:123456789012:order-events-prod" }
  }
  mock_data "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:events-prod" }
  }
}

variables {
  python_version = "3.13"
  architecture   = "arm64"
  event_types    = ["order.created"]
  package_hash   = "deployed"
}

run "deployed" {}

run "changed" {
  command = plan

  variables {
    log_retention_in_days        = 90
    max_receive_count            = 8
    message_age_alarm_in_seconds = 600
  }
}
"""

# An hour in which a downstream system was unavailable for some minutes: the usual value of each
# metric, and how much was added in that time.
SAMPLES = {
    "NumberOfMessagesPublished": (180.0, 0.0),
    "NumberOfNotificationsFailed": (0.0, 0.0),
    "NumberOfMessagesSent": (60.0, 0.0),
    "NumberOfMessagesReceived": (61.0, 55.0),
    "NumberOfMessagesDeleted": (60.0, -45.0),
    "ApproximateNumberOfMessagesVisible": (2.0, 40.0),
    "ApproximateNumberOfMessagesNotVisible": (3.0, 160.0),
    "ApproximateAgeOfOldestMessage": (4.0, 540.0),
    "Invocations": (12.0, 9.0),
    "Errors": (0.0, 0.0),
    "Throttles": (0.0, 0.0),
    "order-events-prod-dlq": (0.0, 0.0),
    "order-events-prod-undelivered": (0.0, 0.0),
    "Duration p50": (85.0, 240.0),
    "Duration p99": (310.0, 2400.0),
    "ConcurrentExecutions": (2.0, 5.0),
    "MessagesProcessed": (60.0, -45.0),
    "MessagesFailed": (0.0, 52.0),
}
FAILED = ["order.created", "A message failed", "ConnectionError at service.py"]
# What the handler logs of a message that it is done with.
PROCESSED = "Message processed"

ERRORS = [
    ["2026-01-01 10:38:12.041", "8f1c2f5e-6d1b-4c0e", *FAILED],
    ["2026-01-01 10:37:12.877", "51d0a4b7-90c2-47aa", *FAILED],
    ["2026-01-01 10:36:11.902", "c3e9be04-2f7d-4e15", *FAILED],
]


def terminal(
    *command: str | Path,
    cwd: Path,
    home: Path,
    typed: Callable[[str], str] = lambda shown: "",
    ends: tuple[int, ...] = (0,),
) -> str:
    """Run a command in a terminal of its own and return its output.

    :param home: the home folder, without anybody's settings.
    :param typed: gets all that was shown so far, each time that there is more, and returns what is
        typed then.
    :param ends: the exit codes that a command that succeeds may have.
    :raises RuntimeError: the command failed.
    """
    unset = ("CI", "NO_COLOR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(home), "TERM": "xterm-256color", "PYTHONDONTWRITEBYTECODE": "1"}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    line = [str(part) for part in command]
    process = subprocess.Popen(
        line,
        cwd=cwd,
        env={**environment, "COLUMNS": str(WIDTH)},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=lambda: os.login_tty(slave),  # Ctrl-C is for all that runs in it
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # Linux: the command has ended
            break
        if not read:  # macOS
            break
        shown += read
        os.write(master, typed(shown.decode(errors="replace")).encode())
    os.close(master)
    text = shown.decode(errors="replace").replace("\r\n", "\n")
    if process.wait() not in ends:
        raise RuntimeError(f"`{' '.join(line)}` ended with {process.returncode}:\n{text}")
    return text


def clean(shown: str, *places: Path) -> str:
    """Remove what differs between machines and runs.

    :param places: folders that are shown as `~`, the innermost first.
    """
    for place in places:
        shown = re.sub(rf"{re.escape(str(place.resolve()))}|{re.escape(str(place))}", "~", shown)
    for pattern, shown_instead in DIFFERENT:
        shown = re.sub(pattern, shown_instead, shown, flags=re.MULTILINE)
    return shown


def shorten(shown: str, last: int) -> str:
    """Keep the heading and the last lines of each step of the demo."""
    _before, *steps = re.split(r"(?m)^(?===> )", shown)
    short = []
    for step in steps:
        heading, *lines = step.rstrip().splitlines()
        short += ["", f"\x1b[1m{heading}\x1b[0m", *(["…"] if len(lines) > last else [])]
        short += lines[-last:]
    return "\n".join(short[1:])


class Service:
    """A service with the default answers in a folder of its own, rendered when first needed."""

    def __init__(self, work: Path) -> None:
        """Work in an empty folder."""
        self.work = work
        self.home = work / "home"
        self.home.mkdir()

    @cached_property
    def questions(self) -> str:
        """What cookiecutter prints when each question is answered with Enter."""
        command = (sys.executable, "-m", "cookiecutter", "--default-config", TEMPLATE)

        def enter(shown: str) -> str:
            asks = re.search(r"\)(\x1b\[[0-9;]*m)*: (\x1b\[[0-9;]*m)*$", shown)
            return "\n" if asks else ""

        return terminal(*command, cwd=self.work, home=self.home, typed=enter)

    @cached_property
    def folder(self) -> Path:
        """The service's folder."""
        assert self.questions
        return self.work / "order-events"

    @cached_property
    def terraform(self) -> dict[str, Any]:
        """The results of Terraform's test run: `test_state` and `test_plan`."""
        (self.folder / "terraform/tests/pictures.tftest.hcl").write_text(TERRAFORM)
        config = cli_config(self.folder / "terraform")
        environment = {**os.environ, "TF_CLI_CONFIG_FILE": str(config or "")}
        environment.pop("TF_WORKSPACE", None)

        def run(*arguments: str, **more: str) -> str:
            command = ["terraform", "-chdir=terraform", *arguments]
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**environment, **more},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
            return done.stdout

        run("init", "-input=false", "-backend=false")
        test = ("test", "-json", "-verbose", "-filter=tests/pictures.tftest.hcl")
        said: dict[str, Any] = {}
        for line in run(*test, TF_WORKSPACE="prod").splitlines():
            said |= json.loads(line)
        return said


def questions(service: Service) -> str:
    """Cookiecutter asks its questions; Enter accepts each default."""
    asked = clean(service.questions, service.work)
    command = "\x1b[1m$ cookiecutter gh:stratasan/cookiecutter-lambda-python\x1b[0m\n"
    return draw.terminal("questions", questions.__doc__ or "", command + asked, WIDTH)


def help(service: Service) -> str:
    """The service's make lists its targets."""
    shown = "\x1b[1m$ make\x1b[0m\n" + terminal("make", cwd=service.folder, home=service.home)
    return draw.terminal("help", help.__doc__ or "", shown, WIDTH)


def demo(service: Service) -> str:
    """The template's make demo, shortened, from rendering to a message that went through."""
    shown = clean(terminal("make", "demo", cwd=TEMPLATE, home=service.home), TEMPLATE)
    shown = "\x1b[1m$ make demo\x1b[0m\n\n" + shorten(shown, 11)
    return draw.terminal("demo", demo.__doc__ or "", shown, WIDTH)


def local(service: Service) -> str:
    """The service on a local AWS: a message goes through, and after a change the next one."""
    folder, home = service.folder, service.home
    terminal("make", "install", cwd=folder, home=home)
    publish, published = ("make", "publish", "ENV=local"), [0]

    def another_terminal(shown: str) -> str:
        """Publish when the service listens; change the code, publish again; then end it."""
        if "Listening" not in shown or shown.count(PROCESSED) < len(published) - 1:
            return ""
        if len(published) == 3:
            return "\x03"
        if len(published) == 2 and "Reloaded" not in shown:
            code = folder / "order_events" / "service.py"
            code.write_text(code.read_text().replace("logger.debug(", "logger.info("))
            return ""
        published.append(len(shown.replace("\r\n", "\n")))
        terminal(*publish, cwd=folder, home=home)
        return ""

    make, ends = ("make", "local"), (0, 2, 130, -signal.SIGINT)
    shown = terminal(*make, cwd=folder, home=home, typed=another_terminal, ends=ends)
    shown = shown.partition("^C")[0]
    parts = [shown[a:b] for a, b in itertools.pairwise([*published, len(shown)])]
    said = f"\x1b[1m$ {' '.join(publish)}\x1b[0m      (in another terminal)\n"
    shown = clean("\x1b[1m$ make local\x1b[0m\n" + said.join(parts), service.work.resolve())
    return draw.terminal("local", local.__doc__ or "", shown, WIDTH)


def plan(service: Service) -> str:
    """The comment on a pull request that changes settings: retries, an alarm, log retention."""
    text = summarise(service.terraform["test_plan"], "", "order-events", "prod")
    shown, _, folded = text.partition("<details><summary>")
    shown += f"▸ {folded.partition('<')[0]}\n"
    return draw.markdown("plan", plan.__doc__ or "", shown, 128, "github-actions commented")


def dashboard(service: Service) -> str:
    """The service's dashboard for an hour in which a downstream system was unavailable."""
    resources = service.terraform["test_state"]["root_module"]["resources"]
    (found,) = (r for r in resources if r["type"] == "aws_cloudwatch_dashboard")
    alarms = {
        resource["values"]["arn"]: resource["values"]["alarm_name"]
        for resource in resources
        if resource["type"] == "aws_cloudwatch_metric_alarm"
    }
    body = found["values"]["dashboard_body"]
    for arn, name in alarms.items():
        body = body.replace(f'"{arn}"', json.dumps(f"alarm:{name}"))
    on = {f"alarm:{name}": name.endswith("messages-failed") for name in alarms.values()}
    return draw.dashboard(
        "dashboard", dashboard.__doc__ or "", json.loads(body), SAMPLES, on, ERRORS
    )


MADE_BY: dict[str, Callable[[Service], str]] = {
    made_by.__name__: made_by for made_by in (questions, help, demo, local, plan, dashboard)
}


def main(names: list[str]) -> int:
    """Create the named pictures, or all of them; return the exit code."""
    unknown = sorted({*names} - {*MADE_BY})
    if unknown:
        print(f"Unknown picture: {', '.join(unknown)}. ONLY must name one of {', '.join(MADE_BY)}.")
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder))
        for name in names or MADE_BY:
            path = PICTURES / f"{name}.svg"
            path.write_text(MADE_BY[name](service), encoding="utf-8")
            print(path.relative_to(TEMPLATE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

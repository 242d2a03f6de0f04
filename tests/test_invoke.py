"""tools/local/invoke.py: `make invoke` and `make debug`."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import SERVICE, TEMPLATE, Render, lend_environment, need, run
from tools.__main__ import COMMANDS
from tools.errors import ToolError
from tools.events import record
from tools.local import invoke as tool

ARCHITECTURE, OTHER_ARCHITECTURE = ("x86_64", "arm64")
if os.uname().machine in ("arm64", "aarch64"):
    ARCHITECTURE, OTHER_ARCHITECTURE = OTHER_ARCHITECTURE, ARCHITECTURE
RUNNING = "{}.{}".format(*sys.version_info)
CHOICES = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))

HANDLER = """
import json, os, sys, time

def handler(event, context):
    for record in event["Records"]:
        match record["body"]:
            case "raise":
                raise ValueError("it is broken")
            case "sleep":
                print("pid", os.getpid(), flush=True)
                time.sleep(600)
            case "about":
                left = context.get_remaining_time_in_millis()
                names = "TABLE", "AWS_REGION", "LOCAL_RUN"
                print(json.dumps({"message": "about", "left": left,
                    **{name: os.environ.get(name) for name in names}}))
            case "odd":
                return None
            case "log":
                print('{"level": "INFO", "message": "a", "cold_start": true, "event_type": "x"}')
                print('{"_aws": {}, "MessagesFailed": [0.0]}')
                print("plain \\x1b[2J ü")
                sys.stdout.write('{"level": "ERROR", "message": "b", "exception": "Trace\\\\n  x"}')
    failed = [one["messageId"] for one in event["Records"] if one["body"] == "fail"]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}
"""

VARIABLES = """
variable "timeout" {
  default = 30

  validation {
    condition     = var.timeout >= 1
    error_message = "timeout must be 1 or more, not ${var.timeout}."
  }
}

variable "memory_size" {
  default = 300
}

variable "aws_region" {
  default = "us-east-1"
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a service's folder with a built package, settings and local.env; work in it."""
    (tmp_path / "events").mkdir()
    with zipfile.ZipFile(tmp_path / "lambda.zip", "w") as archive:
        archive.writestr("handler.py", HANDLER)
    (tmp_path / "local.env").write_text('# a comment\n\nTABLE="orders"=x\n')
    (tmp_path / "terraform" / "environments").mkdir(parents=True)
    (tmp_path / "terraform" / "variables.tf").write_text(VARIABLES)
    (tmp_path / "terraform" / "environments" / "dev.tfvars").write_text(
        'timeout = 50 # seconds\naws_region = "eu-central-1"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tool, "runnable", lambda: Path("lambda.zip"))
    return tmp_path


def write_event(*bodies: str) -> None:
    """Write an event with messages of these bodies, whose ids are 1, 2 …."""
    records = [{"messageId": f"{n}", "body": body} for n, body in enumerate(bodies, 1)]
    Path("events/one.json").write_text(json.dumps({"Records": records}), encoding="utf-8")


def invoke(*bodies: str) -> Result:
    """Run the command as make does; with bodies of messages, on a batch of these."""
    if bodies:
        write_event(*bodies)
    return CliRunner().invoke(tool.invoke, env={"EVENT": "events/one.json"})


def refused(*bodies: str) -> str:
    """Run the command, which must fail with a sentence; return that."""
    result = invoke(*bodies)
    assert isinstance(result.exception, ToolError), result
    return str(result.exception)


# ---- what it prints -------------------------------------------------------------------------


def test_it_prints_the_log_for_people_what_it_took_and_that_none_failed(folder: Path) -> None:
    result = invoke("log", "fine")
    assert result.exception is None
    where, *log, empty, took, end = result.stdout.split("\n")[:-1]
    assert where == "On an empty local AWS, with what tests/world.py creates."
    assert log == [
        "INFO      a  event_type=x",
        r"plain \x1b[2J ü",
        "ERROR     b",
        "    Trace",
        "      x",
    ]
    assert empty == ""
    assert re.fullmatch(r"It took \d+ ms, and \d+ ms to start; \d+ of 300 MB of memory\.", took)
    assert end == "0 of 2 messages failed."


def test_messages_that_failed_are_counted_and_named(folder: Path) -> None:
    assert refused("fail", "fine", "fail") == "2 of 3 messages failed: 1, 3."


def test_what_was_held_back_behind_them_is_named_too() -> None:
    batch = {"Records": [record("{}", group="order-1") for _ in range(3)]}
    response = {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}
    with pytest.raises(ToolError, match=r"2 of 3 messages failed or were held back: 1, 2\."):
        tool.result(response, batch)


def test_a_handler_that_raises_is_an_error_after_its_log(folder: Path) -> None:
    result = invoke("raise")
    assert str(result.exception) == "The handler failed: ValueError: it is broken"
    assert "it is broken" in result.stdout
    assert "LAMBDA_WARNING" not in result.stdout
    assert "It took " in result.stdout
    assert "messages failed" not in result.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.environ['ORDERS']", "KeyError: 'ORDERS'\nIf .* set it in local.env."),
        ("import shop", "No module named 'shop'\n`make test` shows where. .* `dependencies`"),
        ("from os import shop", "name 'shop'.*\n`make test` shows where. .* `dependencies`"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_an_error_that_says_what_to_do(
    folder: Path, code: str, said: str
) -> None:
    with zipfile.ZipFile(folder / "lambda.zip", "w") as archive:
        archive.writestr("handler.py", code)
    result = invoke("fine")
    assert re.search(said, str(result.exception))
    assert "LAMBDA_WARNING" not in result.stdout


def test_a_handler_that_does_not_say_what_failed(folder: Path) -> None:
    assert refused("odd") == "The handler must return which messages failed, and returned null."


def test_the_settings_are_terraforms_and_the_environment_is_a_local_one(folder: Path) -> None:
    (line,) = (one for one in invoke("about").stdout.split("\n") if one.startswith("about"))
    seen = dict(part.split("=", 1) for part in line.split("  ")[1:])
    assert 30_000 < int(seen.pop("left")) <= 50_000
    assert seen == {"TABLE": '"orders"=x', "AWS_REGION": "eu-central-1", "LOCAL_RUN": "1"}


def test_it_stops_after_the_timeout_in_the_settings(folder: Path) -> None:
    Path("terraform/environments/dev.tfvars").write_text("timeout = 1\n")
    assert "Task timed out after 1.00 seconds" in refused("sleep")


def test_a_setting_that_is_no_number(folder: Path) -> None:
    Path("terraform/environments/dev.tfvars").write_text('timeout = "soon"\n')
    assert refused("fine") == "Terraform's setting timeout is 'soon': it must be a number."


# ---- bad input ------------------------------------------------------------------------------


def test_an_event_file_that_is_missing(folder: Path) -> None:
    assert refused().startswith("There is no event file events/one.json. ")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{'a': 1}", b"\xff", b"[" * 100_000],
    ids=["empty", "cut off", "single quotes", "not UTF-8", "too deep"],
)
def test_an_event_file_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / "events" / "one.json").write_bytes(content)
    assert refused().startswith("events/one.json must be JSON: ")


@pytest.mark.parametrize("line", ["TABLE", "=orders", "MY TABLE=orders", "export TABLE=x"])
def test_a_line_of_local_env_that_sets_nothing(folder: Path, line: str) -> None:
    (folder / "local.env").write_text(f"# first\n{line}\n")
    assert refused("fine") == f"local.env, line 2, is '{line}': it must be NAME=value."


def test_a_local_env_that_is_missing(folder: Path) -> None:
    (folder / "local.env").unlink()
    assert refused("fine").startswith("There is no local.env")


def test_what_the_function_writes_is_shown_at_once_and_ctrl_c_ends_all(folder: Path) -> None:
    write_event("sleep")
    temporary = folder / "tmp"
    temporary.mkdir()
    code = (
        "import sys, pathlib, tools.__main__ as tools; from tools.local import invoke; "
        "invoke.runnable = lambda: pathlib.Path('lambda.zip'); sys.exit(tools.main(['invoke']))"
    )
    with subprocess.Popen(
        [sys.executable, "-B", "-c", code],
        env={
            **os.environ,
            "EVENT": "events/one.json",
            "PYTHONPATH": str(SERVICE),
            "TMPDIR": str(temporary),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A run in the background ignores it, and so would all below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("On an empty local AWS")
        said = process.stdout.readline()  # the function sleeps for ten minutes after it
        pid = re.fullmatch(r"pid (\d+)\n", said)
        assert pid
        os.kill(int(pid[1]), 0)  # it is still there
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, "", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid[1]), 0)
    assert list(temporary.iterdir()) == []


# ---- the service itself ---------------------------------------------------------------------


@pytest.mark.slow
def test_make_invoke_runs_the_samples_and_fails_if_a_message_does(fresh: Render) -> None:
    need("make")
    folder = fresh(python_version=RUNNING, architecture=ARCHITECTURE)
    lend_environment(folder)
    said = run("make", "invoke", cwd=folder).stdout
    assert "INFO      Message processed  message_id=" in said
    assert said.endswith("\n0 of 1 messages failed.\n")
    record = {"messageId": "1", "body": "payload", "messageAttributes": {}}
    (folder / "bad.json").write_text(json.dumps({"Records": [record]}))
    for event, problem in (
        ("bad.json", "1 of 1 messages failed: 1."),
        ("events/none.json", "There is no event file events/none.json. "),
    ):
        command = ["make", "invoke", f"EVENT={event}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(problem)
        assert "payload" not in done.stdout


# ---- the debugger ---------------------------------------------------------------------------


class Terminal:
    """A command that runs on a terminal."""

    def __init__(self, *command: str, cwd: Path, **environment: str) -> None:
        """Start it."""
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment, "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def read(self, until: str = "") -> str:
        """Return what it prints, to a text or to the end; fail after two minutes."""
        said, deadline = b"", time.monotonic() + 120
        while not until or until.encode() not in said:
            assert select.select([self.end], [], [], deadline - time.monotonic())[0], said
            try:
                more = os.read(self.end, 65536)
            except OSError:  # how Linux says that it has ended
                more = b""
            if not more:
                assert not until, said
                break
            said += more
        return said.decode().replace("\r\n", "\n")

    def write(self, line: str) -> None:
        """Type a line."""
        os.write(self.end, f"{line}\n".encode())


def break_in(service: Path) -> None:
    """Put a breakpoint into the business logic."""
    path = service / "order_events" / "service.py"
    text = path.read_text(encoding="utf-8")
    head, name, body = text.partition("def process(")
    heading, colon, body = body.partition(" -> None:\n")
    assert name
    assert colon
    path.write_text(f"{head}{name}{heading}{colon}    breakpoint()\n{body}", encoding="utf-8")


def test_a_breakpoint_in_the_business_logic_opens_the_debugger(fresh: Render) -> None:
    need("make")
    service = fresh()
    lend_environment(service)
    break_in(service)
    terminal = Terminal("make", "debug", cwd=service)
    try:
        assert f"{service}/order_events/service.py(" in terminal.read("(Pdb) ")
        terminal.write("p event_type")
        assert "'order.created'" in terminal.read("(Pdb) ")
        terminal.write("c")
        said = terminal.read()
        assert "INFO      Message processed  message_id=" in said
        assert said.endswith("\n0 of 1 messages failed.\n")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.process.kill()


def test_the_debugger_says_where_a_missing_variable_goes(fresh: Render) -> None:
    service = fresh()
    with (service / "order_events" / "service.py").open("a", encoding="utf-8") as file:
        file.write('\nimport os\n\nTABLE = os.environ["ORDERS"]\n')
    command = [sys.executable, "-B", "-m", "tools", "debug"]
    done = subprocess.run(command, cwd=service, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'{service}/order_events/service.py", line ' in done.stderr
    hint = "If this is an environment variable, set it in local.env."
    assert done.stderr.endswith(f"KeyError: 'ORDERS'\n{hint}\n")


def test_vs_code_debugs_by_the_same_command(fresh: Render) -> None:
    service = fresh()
    launch = json.loads((service / ".vscode" / "launch.json").read_text(encoding="utf-8"))
    for configuration in launch["configurations"]:
        assert configuration["module"] == "tools"
        assert configuration["python"] == "${workspaceFolder}/.venv/bin/python"
        command, *options = configuration["args"]
        assert command in COMMANDS
        assert options in ([], ["--event", "${file}"])
    if shutil.which("git"):
        run("git", "init", "--quiet", cwd=service)
        ignored = ["git", "check-ignore", "--quiet", ".vscode/launch.json"]
        assert subprocess.run(ignored, cwd=service, check=False).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("python", sorted({*CHOICES["python_version"]} - {RUNNING}))
def test_the_service_runs_on_every_python_that_it_may_have(fresh: Render, python: str) -> None:
    """Checks and unit tests pass, and its package works; that is for the other CPU architecture."""
    need("make")
    folder = fresh(python_version=python, architecture=OTHER_ARCHITECTURE)
    found = subprocess.run(
        ["sh", "tools/find_python.sh", python],
        cwd=folder,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
    )
    if found.returncode:
        # Under CI=true as well: one version is enough to develop the template.
        pytest.skip(f"this machine has no Python {python}: {found.stderr.strip()}")
    # How ruff formats, and what mypy accepts, depends on the version: seen in the newest.
    checks = ("lint", "typecheck") if python == max(CHOICES["python_version"]) else ()
    said = run("make", *checks, "test", "invoke", cwd=folder).stdout
    assert "dist/lambda-host.zip" in said
    assert said.endswith("\n0 of 1 messages failed.\n")

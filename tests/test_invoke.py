"""tools/local/invoke.py: `make invoke`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import SERVICE, TEMPLATE, Render, lend_environment, need, run
from tools.errors import ToolError
from tools.local import invoke as tool

EVENTS = [path.name for path in sorted((SERVICE / "events").glob("*.json"))]
ARCHITECTURE, OTHER_ARCHITECTURE = ("x86_64", "arm64")
if os.uname().machine in ("arm64", "aarch64"):
    ARCHITECTURE, OTHER_ARCHITECTURE = OTHER_ARCHITECTURE, ARCHITECTURE
RUNNING = "{}.{}".format(*sys.version_info)
CHOICES = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
OLDEST = min(CHOICES["python_version"], key=lambda version: int(version.partition(".")[2]))

# The messages in the sample events that fail.
FAILURES = {
    "enveloped_message.json": [],
    "mixed_batch.json": [f"00000000-0000-4000-8000-00000000000{number}" for number in (2, 3, 4)],
    "one_message.json": [],
}

HANDLER = """
import os, sys, time

def handler(event, context):
    print("hello", os.environ.get("TABLE"))
    if event == "raise":
        raise ValueError("it is broken")
    if event == "sleep":
        print("pid", os.getpid(), flush=True)
        time.sleep(600)
    return {"ü": event}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a service's folder with a package that is built, events and local.env; work in it."""
    (tmp_path / "events").mkdir()
    with zipfile.ZipFile(tmp_path / "lambda.zip", "w") as archive:
        archive.writestr("handler.py", HANDLER)
    (tmp_path / "events" / "one.json").write_text('{"a": 1}')
    (tmp_path / "events" / "two.json").write_text('"raise"')
    (tmp_path / "local.env").write_text('# a comment\n\nTABLE="orders"=x\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tool, "runnable", lambda: Path("lambda.zip"))
    return tmp_path


def invoke(event: str = "events/one.json") -> Result:
    """Run the command as make does."""
    return CliRunner().invoke(tool.command, env={"EVENT": event})


def refused(event: str = "events/one.json") -> str:
    """Run the command, which must fail with a sentence; return that."""
    result = invoke(event)
    assert isinstance(result.exception, ToolError), result
    return str(result.exception)


# ---- what it prints -------------------------------------------------------------------------


def test_it_prints_what_lambda_logs_and_the_response(folder: Path) -> None:
    result = invoke()
    assert result.exception is None
    start, hello, end, report, word, *response = result.stdout.splitlines()
    request = re.fullmatch(r"START RequestId: (\S+) Version: \$LATEST", start)
    assert request
    assert hello == 'hello "orders"=x'
    assert end == f"END RequestId: {request[1]}"
    figures = re.fullmatch(
        rf"REPORT RequestId: {request[1]}\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms"
        r"\tMemory Size: 256 MB\tMax Memory Used: (\d+) MB\tInit Duration: ([\d.]+) ms",
        report,
    )
    assert figures
    duration, billed, memory, init = map(float, figures.groups())
    assert duration + init <= billed <= duration + init + 1
    assert 5 < memory < 256
    assert word == "Response:"
    assert json.loads("".join(response)) == {"ü": {"a": 1}}


def test_a_handler_that_raises_is_an_error_after_the_report(folder: Path) -> None:
    result = invoke("events/two.json")
    assert str(result.exception) == "The handler failed: ValueError: it is broken"
    assert "hello" in result.stdout
    assert "REPORT RequestId" in result.stdout
    assert "Response:" not in result.stdout


# ---- bad input ------------------------------------------------------------------------------


def test_an_event_file_that_is_missing(folder: Path) -> None:
    assert refused("events/three.json") == (
        "There is no event file events/three.json. EVENT can be events/one.json, events/two.json."
    )


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
    assert refused() == f"local.env, line 2, is '{line}': it must be NAME=value."


def test_a_local_env_that_is_missing(folder: Path) -> None:
    (folder / "local.env").unlink()
    assert refused().startswith("There is no local.env")


def test_ctrl_c_ends_it_and_the_function(folder: Path) -> None:
    (folder / "events" / "one.json").write_text('"sleep"')
    temporary = folder / "tmp"
    temporary.mkdir()
    code = (
        "import sys, pathlib, tools.__main__ as tools; from tools.local import invoke; "
        "invoke.runnable = lambda: pathlib.Path('lambda.zip'); sys.exit(tools.main(['invoke']))"
    )
    process = subprocess.Popen(
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
    )
    pid = None
    end = time.monotonic() + 120
    while pid is None and time.monotonic() < end:
        time.sleep(0.05)
        for log in temporary.glob("*/*.log"):
            pid = re.search(r"pid (\d+)", log.read_text())
    assert pid
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, "", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid[1]), 0)
    assert list(temporary.iterdir()) == []


# ---- the service's own sample events --------------------------------------------------------


def test_what_the_sample_events_come_to_is_known() -> None:
    assert list(FAILURES) == EVENTS


def check_response(out: str, event: str) -> None:
    """Check what an invocation with a sample event printed."""
    response = json.loads(out[out.index("Response:\n") + len("Response:\n") :])
    failed = [item["itemIdentifier"] for item in response["batchItemFailures"]]
    assert failed == FAILURES[event]
    assert out.count('"Message failed"') == len(failed)
    # Nothing of a message's payload is in the logs.
    assert "19.90" not in out


@pytest.mark.slow
def test_make_invoke_runs_each_sample_event(fresh: Render) -> None:
    need("make")
    folder = fresh(python_version=RUNNING, architecture=ARCHITECTURE)
    lend_environment(folder)
    for event in EVENTS:
        check_response(run("make", "invoke", f"EVENT=events/{event}", cwd=folder).stdout, event)
    done = subprocess.run(
        ["make", "invoke", "EVENT=events/none.json"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stderr.startswith("There is no event file events/none.json. EVENT can be events/")


@pytest.mark.slow
def test_the_service_runs_on_the_oldest_python_that_it_may_have(fresh: Render) -> None:
    """Its unit tests pass, and its package works; that is for the other CPU architecture."""
    need("make")
    folder = fresh(python_version=OLDEST, architecture=OTHER_ARCHITECTURE)
    found = subprocess.run(
        ["sh", "tools/find_python.sh", OLDEST],
        cwd=folder,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
    )
    if found.returncode:
        # Under CI=true as well: one version is enough to develop the template.
        pytest.skip(f"this machine has no Python {OLDEST}: {found.stderr.strip()}")
    out = run("make", "test", "invoke", "EVENT=events/mixed_batch.json", cwd=folder).stdout
    assert "dist/lambda-host.zip" in out
    check_response(out[out.index("START RequestId") :], "mixed_batch.json")

"""scripts/invoke.py of the rendered service, and `make invoke`."""

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
from conftest import SERVICE, Render, need, run

SCRIPT = SERVICE / "scripts" / "invoke.py"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
EVENTS = [path.name for path in sorted((SERVICE / "events").glob("*.json"))]

# What the sample events come to: the messages that fail.
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
    if event == "exit":
        sys.exit(3)
    if event == "sleep":
        print("pid", os.getpid(), flush=True)
        time.sleep(60)
    return {"ü": event}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a package in dist/ and an event."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "events").mkdir()
    write_handler(tmp_path, HANDLER)
    (tmp_path / "events" / "one.json").write_text('{"a": 1}')
    (tmp_path / "events" / "two.json").write_text('"raise"')
    return tmp_path


def write_handler(folder: Path, text: str) -> None:
    with zipfile.ZipFile(folder / "dist" / "lambda.zip", "w") as archive:
        archive.writestr("handler.py", text)


def invoke(folder: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run invoke.py in a folder."""
    return subprocess.run(
        [sys.executable, SCRIPT, *options],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def refuse(folder: Path, *options: str | Path) -> str:
    """Run invoke.py, which must fail with one message; return that."""
    done = invoke(folder, *options)
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    message = done.stderr.strip()
    assert message.startswith("invoke: ")
    return message


# ---- what it prints -------------------------------------------------------------------------


def test_it_prints_what_lambda_logs_and_the_response(folder: Path) -> None:
    (folder / "local.env").write_text('# a comment\n\nTABLE="orders"=x\n')
    done = invoke(
        folder,
        *("--event", "events/one.json", "--environment-file", "local.env"),
        *("--memory-size", "192"),
    )
    assert done.returncode == 0, done.stderr
    start, hello, end, report, word, *response = done.stdout.splitlines()
    request = re.fullmatch(r"START RequestId: (\S+) Version: \$LATEST", start)
    assert request
    assert hello == 'hello "orders"=x'
    assert end == f"END RequestId: {request[1]}"
    figures = re.fullmatch(
        rf"REPORT RequestId: {request[1]}\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms"
        r"\tMemory Size: 192 MB\tMax Memory Used: (\d+) MB\tInit Duration: ([\d.]+) ms",
        report,
    )
    assert figures
    duration, billed, memory, init = map(float, figures.groups())
    assert duration + init <= billed <= duration + init + 1
    assert 5 < memory < 192
    assert word == "Response:"
    assert json.loads("".join(response)) == {"ü": {"a": 1}}


def test_a_handler_that_raises_is_an_error_after_the_report(folder: Path) -> None:
    done = invoke(folder, "--event", "events/two.json")
    assert done.returncode == 1
    assert "hello None" in done.stdout
    assert "REPORT RequestId" in done.stdout
    assert "Response:" not in done.stdout
    assert done.stderr == "invoke: the function failed: ValueError: it is broken\n"


# ---- bad input ------------------------------------------------------------------------------


def test_an_event_file_that_is_missing(folder: Path) -> None:
    message = refuse(folder, "--event", "events/three.json")
    assert "There is no event file events/three.json" in message
    assert "There are: events/one.json, events/two.json." in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{'a': 1}", b"\xff", b"[" * 100_000],
    ids=["empty", "cut off", "single quotes", "not UTF-8", "too deep"],
)
def test_an_event_file_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / "events" / "one.json").write_bytes(content)
    assert "events/one.json is not JSON: " in refuse(folder, "--event", "events/one.json")


def test_an_event_that_is_a_folder(folder: Path) -> None:
    assert "events: Is a directory" in refuse(folder, "--event", "events")


@pytest.mark.parametrize("line", ["TABLE", "=orders", "MY TABLE=orders", "export TABLE=x"])
def test_a_line_of_the_environment_file_that_sets_nothing(folder: Path, line: str) -> None:
    (folder / "local.env").write_text(f"# first\n{line}\n")
    message = refuse(folder, "--event", "events/one.json", "--environment-file", "local.env")
    assert f"local.env, line 2: '{line}' is not of the form NAME=value." in message


def test_an_environment_file_that_is_missing(folder: Path) -> None:
    message = refuse(folder, "--event", "events/one.json", "--environment-file", "no.env")
    assert "There is no environment file no.env." in message


def test_a_package_that_is_missing_or_no_zip(folder: Path) -> None:
    package = folder / "dist" / "lambda.zip"
    package.write_bytes(b"PK")
    assert "dist/lambda.zip is not a zip. Run `make package`." in refuse(
        folder, "--event", "events/one.json"
    )
    package.unlink()
    assert "There is no dist/lambda.zip. Run `make package`." in refuse(
        folder, "--event", "events/one.json"
    )


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("raise KeyError('TABLE')", "invoke: the function failed: KeyError: 'TABLE'"),
        ("import not_packed", "Runtime.ImportModuleError"),
        ("def handler(:", "Runtime.UserCodeSyntaxError"),
        ("import os; os._exit(3)", "Runtime.ExitError"),
        ("def handler(event, context): raise SystemExit(3)", "Runtime.ExitError"),
        (
            "import time\ndef handler(event, context): time.sleep(60)",
            "Task timed out after 1.00 seconds",
        ),
    ],
    ids=["raises", "import", "syntax", "exits", "handler exits", "sleeps"],
)
def test_a_handler_that_cannot_work(folder: Path, handler: str, said: str) -> None:
    write_handler(folder, handler)
    before = (folder / "dist" / "lambda.zip").read_bytes()
    message = refuse(folder, "--event", "events/one.json", "--timeout", "1")
    assert said in message
    assert (folder / "dist" / "lambda.zip").read_bytes() == before


def test_ctrl_c_ends_it_and_the_function(folder: Path) -> None:
    (folder / "events" / "one.json").write_text('"sleep"')
    temporary = folder / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--event", "events/one.json"],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
    assert (process.returncode, out, err) == (130, "", "")
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
    assert "Init Duration: " in out
    assert out.count('"Message failed"') == len(failed)
    # Nothing of a message's payload is in the logs.
    assert "19.90" not in out


def need_python(folder: Path, version: str) -> None:
    """Skip the test where the machine has no Python of that version."""
    assert (folder / "scripts" / "find_python.sh").exists()
    found = subprocess.run(
        ["sh", "scripts/find_python.sh", version],
        cwd=folder,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
    )
    if found.returncode:
        # Under CI=true as well: one version is enough to develop the template.
        pytest.skip(f"this machine has no Python {version}: {found.stderr.strip()}")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_make_invoke_runs_each_sample_event(fresh: Render, version: str) -> None:
    need("make")
    folder = fresh(python_version=version)
    need_python(folder, version)
    for event in EVENTS:
        check_response(run("make", "invoke", f"EVENT=events/{event}", cwd=folder).stdout, event)
    packages = {path: path.read_bytes() for path in (folder / "dist").glob("*.zip")}
    assert packages
    said = make_fails("invoke", "EVENT=events/none.json", cwd=folder)
    assert "There is no event file events/none.json. There are: events/" in said
    (folder / "handler.py").write_text("def handler(:\n")
    assert "handler.py" in make_fails("invoke", cwd=folder)
    # Nor has make removed what it could not build anew.
    assert packages == {path: path.read_bytes() for path in (folder / "dist").glob("*.zip")}


def make_fails(*arguments: str, cwd: Path) -> str:
    """Run make, which must fail; return what it said."""
    done = subprocess.run(["make", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr

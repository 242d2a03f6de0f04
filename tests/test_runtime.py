"""tools/local/runtime.py of the rendered service: what a function meets, and how it ends."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE
from tools.errors import ToolError
from tools.local import runtime as runtime_module
from tools.local.runtime import Invocation, Runtime
from tools.local.runtime_process import RESPONSE_LIMIT

# The event names what the handler does.
HANDLER = """
import importlib, json, os, subprocess, sys, threading, time

print("loaded")
count = 0

def handler(event, context):
    global count
    count += 1
    print("working")
    return globals()[event["do"]](event, context)

def echo(event, context):
    return {"event": event, "count": count, "pid": os.getpid()}

def fail(event, context):
    raise ValueError("it is broken")

def unserializable(event, context):
    return {1, 2}

def leave(event, context):
    os._exit(3)

def sleep(event, context):
    child = subprocess.Popen(["sleep", "60"])
    print("child", child.pid, "pid", os.getpid(), flush=True)
    time.sleep(60)

def spin(event, context):
    print("pid", os.getpid(), flush=True)
    while True:
        pass

def allocate(event, context):
    kept = bytearray(event["bytes"])
    for at in range(0, len(kept), 4096):
        kept[at] = 1
    time.sleep(0.1)
    return len(kept)

def load(event, context):
    result = {}
    for name in event["modules"]:
        try:
            result[name] = importlib.import_module(name).__name__
        except ImportError:
            result[name] = None
    return result

def surroundings(event, context):
    return {
        "environment": dict(os.environ),
        "path": sys.path,
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "threads": threading.active_count(),
        "files": sorted(os.listdir()),
        "stdin": sys.stdin.read(),
    }

def about(event, context):
    first = context.get_remaining_time_in_millis()
    time.sleep(0.05)
    return {
        "id": context.aws_request_id,
        "name": context.function_name,
        "arn": context.invoked_function_arn,
        "version": context.function_version,
        "memory": context.memory_limit_in_mb,
        "remaining": first,
        "spent": first - context.get_remaining_time_in_millis(),
    }

def go_on(event, context):
    def work():
        for _ in range(10_000):  # longer than a busy machine takes to freeze it
            time.sleep(0.01)
            with open(event["path"], "a") as file:
                file.write("x")
    threading.Thread(target=work, daemon=True, name="worker").start()

def go_on_in_a_process(event, context):
    code = "import os, sys, time\\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\\n"
    code += "open(sys.argv[2], 'w').write('x')"
    subprocess.Popen([sys.executable, "-S", "-c", code, event["go"], event["path"]])

def keep_idle_threads(event, context):
    from concurrent.futures import ThreadPoolExecutor
    global pool
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    time.sleep(0.5)  # its thread goes back to waiting meanwhile

def log(event, context):
    import logging
    logging.getLogger("library").info("of a library")

def large(event, context):
    return "x" * event["size"]

def write(event, context):
    with open(event["path"], "w") as file:
        file.write("x")
"""

Start = Callable[..., Runtime]


def write_package(path: Path, handler: str = HANDLER) -> Path:
    """Write a package that holds a handler alone."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("handler.py", textwrap.dedent(handler))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Make execution environments that end with the test."""
    with contextlib.ExitStack() as stack:

        def make(handler: str = HANDLER, **settings: Any) -> Runtime:
            package = write_package(tmp_path / "lambda.zip", handler)
            defaults = {"environment": {}, "timeout": 20, "memory_size": 128}
            return stack.enter_context(Runtime(package, **{**defaults, **settings}))

        yield make


def has_gone(pid: int, within: float = 60) -> bool:
    """Tell whether a process ends in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            # An orphan stays as a zombie where there is no init that collects it.
            if sys.platform == "linux" and "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def error_type(invocation: Invocation) -> str:
    assert invocation.error, invocation
    return str(invocation.error["errorType"])


# ---- what works -----------------------------------------------------------------------------


def test_one_process_serves_all_events(start: Start) -> None:
    runtime = start()
    first = runtime.invoke({"do": "echo", "text": "ü \u2028 😀", "n": [1.5, None, True]})
    assert first.error is None
    assert first.response["event"] == {"do": "echo", "text": "ü \u2028 😀", "n": [1.5, None, True]}
    assert first.logs == "loaded\nworking\n"
    assert first.init_duration is not None
    assert first.init_duration > 0
    assert 0 < first.duration < 20_000
    assert 5 < first.max_memory_used < 128
    second = runtime.invoke({"do": "echo"})
    assert second.response["count"] == 2
    assert second.response["pid"] == first.response["pid"]
    assert second.logs == "working\n"
    assert second.init_duration is None
    assert second.request_id != first.request_id


def test_large_events_and_responses_arrive_whole(start: Start) -> None:
    text = "x" * 5_000_000
    assert start().invoke({"do": "echo", "text": text}).response["event"]["text"] == text


def test_the_context_is_lambdas(start: Start) -> None:
    runtime = start(timeout=9, memory_size=192, function_name="orders-dev", region="cn-north-1")
    invocation = runtime.invoke({"do": "about"})
    about = invocation.response
    assert about["id"] == invocation.request_id
    assert about["name"] == "orders-dev"
    assert about["arn"] == "arn:aws-cn:lambda:cn-north-1:123456789012:function:orders-dev"
    assert about["version"] == "$LATEST"
    assert int(about["memory"]) == 192
    assert 8_000 < about["remaining"] <= 9_000
    assert about["spent"] >= 49


# ---- isolation ------------------------------------------------------------------------------


def test_it_has_the_runtimes_libraries_and_no_other_of_this_environment(start: Start) -> None:
    assert pytest.__file__  # it is here, but not there
    modules = ["boto3", "botocore", "urllib3", "dateutil", "awslambdaric"]
    others = ["pytest", "moto", "flask", "uv", "pip", "tools", "conftest", "runtime_bootstrap"]
    loaded = start().invoke({"do": "load", "modules": modules + others}).response
    assert {name for name, found in loaded.items() if found} == set(modules)


def test_nothing_of_this_processs_environment_reaches_it(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret.py").write_text("")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SOME_TOKEN", "mine")
    monkeypatch.chdir(tmp_path)
    runtime = start(environment={"TABLE": "orders", "AWS_REGION": "no", "LOG_LEVEL": "DEBUG"})
    seen = runtime.invoke({"do": "surroundings"}).response
    environment = seen["environment"]
    assert "mine" not in environment.values()
    assert environment["TABLE"] == "orders"
    assert environment["_HANDLER"] == "handler.handler"
    assert environment["LAMBDA_TASK_ROOT"] == seen["cwd"] == seen["path"][0]
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert environment["TZ"] == ":UTC"
    assert "SOME_TOKEN" not in environment
    assert str(tmp_path) not in seen["path"]
    # Python keeps byte-code where root, who may write anywhere, runs the tests.
    assert set(seen["files"]) - {"__pycache__"} == {"handler.py"}
    assert seen["stdin"] == ""
    assert not [path for path in seen["path"] if path.endswith("site-packages")]
    assert runtime.invoke({"do": "load", "modules": ["secret"]}).response == {"secret": None}


def test_libraries_log_from_level_info_on(start: Start) -> None:
    """As on Lambda, where the root logger has the level of the function's application log."""
    logs = start().invoke({"do": "log"}).logs
    assert '"level": "INFO", "message": "of a library"' in logs


def test_the_package_is_read_only_and_the_temporary_folder_is_not(start: Start) -> None:
    runtime = start()
    environment = runtime.invoke({"do": "surroundings"}).response["environment"]
    task = Path(environment["LAMBDA_TASK_ROOT"])
    for path in (task, task / "handler.py"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
    if os.geteuid() != 0:  # root may write anywhere
        refused = runtime.invoke({"do": "write", "path": str(task / "new")})
        assert error_type(refused) == "PermissionError"
    written = runtime.invoke({"do": "write", "path": environment["TMPDIR"] + "/new"})
    assert written.error is None


# ---- between invocations --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["go_on", "go_on_in_a_process"])
def test_between_invocations_everything_is_frozen(start: Start, tmp_path: Path, how: str) -> None:
    runtime, path, go = start(), tmp_path / "effects", tmp_path / "go"
    first = runtime.invoke({"do": how, "path": str(path), "go": str(go)})
    assert first.error is None
    what = "the thread worker" if how == "go_on" else "a process"
    assert what in first.warning
    assert "frozen" in first.warning
    before = path.exists() and path.read_text()
    go.touch()
    time.sleep(0.6)
    assert (path.exists() and path.read_text()) == before
    runtime.invoke({"do": "about"})  # then it goes on
    end = time.monotonic() + 60
    while not path.exists() or path.read_text() == before:
        runtime.invoke({"do": "about"})
        assert time.monotonic() < end


def test_nothing_that_only_waits_for_work_is_warned_about(start: Start) -> None:
    runtime = start()
    assert runtime.invoke({"do": "keep_idle_threads"}).warning == ""
    assert runtime.invoke({"do": "echo"}).warning == ""


# ---- failures -------------------------------------------------------------------------------


def test_a_handler_that_raises_is_reported_and_the_process_goes_on(start: Start) -> None:
    runtime = start()
    pid = runtime.invoke({"do": "echo"}).response["pid"]
    failed = runtime.invoke({"do": "fail"})
    assert failed.response is None
    assert failed.error
    assert failed.error["errorType"] == "ValueError"
    assert failed.error["errorMessage"] == "it is broken"
    assert "in fail" in "".join(failed.error["stackTrace"])
    assert runtime.invoke({"do": "echo"}).response["pid"] == pid


def test_a_response_that_is_not_json_is_an_error(start: Start) -> None:
    assert error_type(start().invoke({"do": "unserializable"})) == "Runtime.MarshalError"


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("raise KeyError('TABLE')", "KeyError", "TABLE"),
        ("import not_packed", "Runtime.ImportModuleError", "not_packed"),
        ("def handler(:", "Runtime.UserCodeSyntaxError", "invalid syntax"),
        ("other = 1", "Runtime.HandlerNotFound", "handler"),
        ("import sys; sys.exit(3)", "Runtime.ExitError", ""),
        ("import os; os._exit(3)", "Runtime.ExitError", "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "Runtime.ExitError", "signal"),
    ],
    ids=["raises", "import", "syntax", "no handler", "exits", "exits at once", "crashes"],
)
def test_a_handler_that_cannot_be_loaded_is_reported(
    start: Start, handler: str, kind: str, message: str
) -> None:
    runtime = start(f"print('begins')\n{handler}\n" if "(:" not in handler else handler)
    for _ in range(2):  # each event tries again with a new process
        failed = runtime.invoke({})
        assert failed.error
        assert failed.error["errorType"] == kind
        assert message in failed.error["errorMessage"]
        assert failed.response is None
        assert failed.init_duration is None
        if "(:" not in handler:
            assert "begins" in failed.logs


def test_a_process_that_exits_is_reported_and_replaced(start: Start) -> None:
    runtime = start()
    pid = runtime.invoke({"do": "echo"}).response["pid"]
    failed = runtime.invoke({"do": "leave"})
    assert error_type(failed) == "Runtime.ExitError"
    assert "exit status 3" in str(failed.error)
    assert failed.logs == "working\n"
    after = runtime.invoke({"do": "echo"})
    assert after.init_duration is not None
    assert after.response["count"] == 1
    assert after.response["pid"] != pid


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_a_time_out_ends_the_process_with_its_children(start: Start, how: str) -> None:
    runtime = start(timeout=3)
    begun = time.monotonic()
    failed = runtime.invoke({"do": how})
    assert time.monotonic() - begun < 50
    assert error_type(failed) == "Sandbox.Timedout"
    assert "Task timed out after 3.00 seconds" in str(failed.error)
    assert failed.duration == 3000
    pids = [int(pid) for pid in re.findall(r"(?:child|pid) (\d+)", failed.logs)]
    assert len(pids) == (2 if how == "sleep" else 1)
    assert all(has_gone(pid) for pid in pids)
    assert runtime.invoke({"do": "echo"}).response["count"] == 1


def test_a_handler_that_is_never_imported_is_a_timeout(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "INIT_LIMIT", 0.5)
    failed = start("import time; time.sleep(600)", timeout=1).invoke({})
    assert error_type(failed) == "Sandbox.Timedout"
    assert failed.init_duration is None
    assert failed.duration == 1000


def test_after_the_init_limit_it_is_tried_again_within_the_invocation(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hang = tmp_path / "hang"
    hang.touch()
    handler = f"""
        import os, time
        if os.path.exists({str(hang)!r}):
            time.sleep(600)
        def handler(event, context):
            return event
    """
    end = runtime_module.Process.end

    def end_and_repair(process: runtime_module.Process) -> None:
        end(process)
        hang.unlink(missing_ok=True)

    monkeypatch.setattr(runtime_module, "INIT_LIMIT", 0.5)
    monkeypatch.setattr(runtime_module.Process, "end", end_and_repair)
    done = start(handler, timeout=120).invoke({"x": 1})
    assert done.response == {"x": 1}
    assert done.init_duration is None


def test_above_the_memory_size_it_is_killed(start: Start) -> None:
    runtime = start(memory_size=64)
    within = runtime.invoke({"do": "allocate", "bytes": 20_000_000})
    assert within.response == 20_000_000
    assert 20 < within.max_memory_used <= 64
    failed = runtime.invoke({"do": "allocate", "bytes": 200_000_000})
    assert error_type(failed) == "Runtime.OutOfMemory"
    assert failed.max_memory_used > 64
    assert runtime.invoke({"do": "echo"}).response["count"] == 1


def test_an_event_that_is_not_json_is_refused(start: Start) -> None:
    runtime = start()
    with pytest.raises(TypeError):
        runtime.invoke({"x": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        runtime.invoke({"x": float("nan")})
    assert runtime.invoke({"do": "echo"}).error is None


def test_a_response_above_lambdas_limit_is_an_error(start: Start) -> None:
    runtime = start()
    limit = RESPONSE_LIMIT
    within = runtime.invoke({"do": "large", "size": limit - 2})  # without the quotes
    assert within.error is None
    assert len(within.response) == limit - 2
    above = runtime.invoke({"do": "large", "size": limit - 1})
    assert above.response is None
    assert above.error == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size"
        " (6291556 bytes).",
    }
    # AWS's runtime client doesn't survive that.
    assert runtime.invoke({"do": "echo"}).response["count"] == 1


def test_an_event_above_lambdas_limit_is_refused(start: Start) -> None:
    runtime = start()
    limit = runtime_module.EVENT_LIMIT
    rest = len('{"do": "echo", "text": ""}')
    assert runtime.invoke({"do": "echo", "text": "x" * (limit - rest)}).error is None
    with pytest.raises(ToolError, match=r"The event has 6291457 bytes, .* at most 6291456"):
        runtime.invoke({"do": "echo", "text": "x" * (limit - rest + 1)})


def test_a_package_that_is_missing_or_no_zip_says_so(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"environment": {}, "timeout": 1, "memory_size": 128}
    with (
        pytest.raises(ToolError, match=r"There is no .*lambda.zip. Run `make package`"),
        Runtime(tmp_path / "lambda.zip", **settings),
    ):
        pass
    (tmp_path / "lambda.zip").write_text("no zip")
    with (
        pytest.raises(ToolError, match=r"lambda\.zip is not a zip"),
        Runtime(tmp_path / "lambda.zip", **settings),
    ):
        pass


# ---- nothing is left behind -----------------------------------------------------------------

PARENT = """
import pathlib, signal, sys
sys.dont_write_bytecode = True
sys.path.insert(0, {scripts!r})
from tools.local.runtime import Runtime
with Runtime(pathlib.Path({package!r}), environment={{}}, timeout=60, memory_size=128) as it:
    print(it.invoke({{"do": "echo"}}).response["pid"], it.log.parent, flush=True)
    it.invoke({{"do": {do!r}}})
"""


@pytest.mark.parametrize("do", ["sleep", "spin"])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_the_process_ends_with_the_one_that_started_it(
    tmp_path: Path, sent: signal.Signals, do: str
) -> None:
    package = write_package(tmp_path / "lambda.zip")
    code = PARENT.format(scripts=str(SERVICE), package=str(package), do=do)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout
    pid, folder = parent.stdout.readline().split()
    log = next(Path(folder).glob("*.log"))
    end = time.monotonic() + 120
    while f"pid {pid}" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    children = [int(child) for child in re.findall(r"child (\d+)", log.read_text())]
    assert len(children) == (do == "sleep")
    parent.send_signal(sent)
    parent.wait()
    assert all(has_gone(one) for one in (int(pid), *children))
    # kill -9 leaves the files: nobody is there to remove them.
    assert Path(folder).exists() == (sent == signal.SIGKILL)


def test_a_frozen_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    package = write_package(tmp_path / "lambda.zip")
    code = PARENT.format(scripts=str(SERVICE), package=str(package), do="echo")
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\n    sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline().split()[0])
        parent.kill()
    assert has_gone(pid)


def test_leaving_the_with_statement_ends_the_process_and_removes_its_files(tmp_path: Path) -> None:
    with Runtime(write_package(tmp_path / "lambda.zip"), environment={}) as runtime:
        seen = runtime.invoke({"do": "echo"}).response
        assert runtime.log.exists()
    assert has_gone(seen["pid"])
    assert not runtime.log.parent.exists()

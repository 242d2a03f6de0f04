"""tools/local/runtime_fargate.py: the handler in the worker's process, as in the container."""

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE
from tools.errors import ToolError
from tools.local.runtime_fargate import Invocation, Runtime

# The worker logs with one library and knows the errors of another; here neither is used.
STUBS = {
    "aws_lambda_powertools/__init__.py": "class Logger:\n"
    "    registered_handler = None\n    def __init__(*_, **__): ...\n",
    "aws_lambda_powertools/metrics.py": "MetricUnit = single_metric = None\n",
    "botocore/exceptions.py": "BotoCoreError = ClientError = OSError\n",
    "botocore/parsers.py": "ResponseParserError = OSError\n",
}

HANDLER = """
import os, time

print("loaded")

def handler(event, context):
    print("working")
    if event == "raise":
        raise ValueError("it quotes the payload")
    if event == "exit":
        os._exit(3)
    if event == "sleep":
        time.sleep(600)
    left = context.get_remaining_time_in_millis()
    return {"event": event, "variables": dict(os.environ), "left": left}
"""


# What was in the log when the runtime looked.
watched: list[str] = []


def invoke(folder: Path, event: Any, handler: str = HANDLER, **environment: str) -> Invocation:
    package = folder / "lambda.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(SERVICE / "worker.py", "worker.py")
        for name, text in {**STUBS, "handler.py": handler}.items():
            archive.writestr(name, text)
    settings = {"timeout": 1, "aws_region": "eu-central-1"}
    with Runtime.with_settings(package, settings, environment) as runtime:
        runtime.watch = lambda: watched.append(runtime.log.read_text(encoding="utf-8"))
        done = runtime.invoke(event)
        runtime.watch()
        return done


def test_the_handler_gets_event_context_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("PYTHONPATH", "mine")
    done = invoke(tmp_path, {"Records": ["ü"]}, TABLE="orders")
    assert done.error is None
    assert done.response["event"] == {"Records": ["ü"]}
    assert 0 < done.response["left"] <= 1000
    assert done.response["variables"]["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert done.response["variables"]["TABLE"] == "orders"
    assert "mine" not in done.response["variables"].values()
    assert watched[-1] == "loaded\nworking\n"
    assert re.fullmatch(r"\d+ ms", done.figures())


def test_it_has_no_library_of_this_environment(tmp_path: Path) -> None:
    assert pytest.__file__  # it is here, but not there
    failed = invoke(tmp_path, {}, "import pytest\n")
    assert failed.error == {
        "errorType": "ModuleNotFoundError",
        "errorMessage": "No module named 'pytest'",
    }


@pytest.mark.parametrize(
    ("event", "handler", "kind", "text"),
    [
        ("raise", HANDLER, "ValueError", "handler.py:9 handler"),
        ("exit", HANDLER, "Exited", "the handler's process has ended"),
        ("sleep", HANDLER, "TimedOut", "it took more than 1 seconds"),
        ("", "def handler(:", "SyntaxError", "invalid syntax"),
        ("", "import os; os._exit(3)", "Exited", "the handler's process has ended"),
    ],
    ids=["raises", "exits", "sleeps", "syntax", "exits when it is imported"],
)
def test_a_failure_is_the_result(
    tmp_path: Path, event: str, handler: str, kind: str, text: str
) -> None:
    failed = invoke(tmp_path, event, handler)
    assert failed.response is None
    assert failed.error
    assert failed.error["errorType"] == kind
    assert text in failed.error["errorMessage"]
    assert "it quotes the payload" not in failed.error["errorMessage"]


def test_the_log_can_be_watched_while_the_handler_works(tmp_path: Path) -> None:
    watched.clear()
    assert invoke(tmp_path, "sleep").error
    assert watched[-1] == "loaded\nworking\n"


def test_a_package_that_is_missing_or_no_zip_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "lambda.zip"
    with pytest.raises(ToolError, match="There is no"), Runtime(package, environment={}):
        pass
    package.write_text("no zip")
    with pytest.raises(ToolError, match="is not a zip"), Runtime(package, environment={}):
        pass

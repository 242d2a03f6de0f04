"""The next release of a Lambda function, and back, also with drift and half-failed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Render
from delivery import ACCOUNT, REGION, RUN, Checkout, checked_out
from test_git import commit, git
from tools.deploy.settings import HEADING

pytestmark = pytest.mark.slow
NAME = "order-events-dev"
# What the deploy role may not make, and the function depends on.
REFUSED = """
resource "aws_kinesis_stream" "orders" {
  name        = "orders"
  shard_count = 1
}

"""


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    with checked_out(
        render, tmp_path_factory.mktemp("rollback"), "dev", record="rollback"
    ) as checkout:
        yield checkout


def live(checkout: Checkout) -> str:
    """Return the version that gets the messages."""
    alias = checkout.aws.client("lambda").get_alias(FunctionName=NAME, Name="live")
    return str(alias["FunctionVersion"])


def feeds(checkout: Checkout) -> str:
    """Return the state of what feeds the function."""
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}"
    found = checkout.aws.client("lambda").list_event_source_mappings(EventSourceArn=queue)
    return str(found["EventSourceMappings"][0]["State"])


def test_a_release_is_rolled_back_and_comes_again(checkout: Checkout, tmp_path: Path) -> None:
    make, refused, settings = checkout.make, checkout.refused, checkout.settings("dev")
    folder = checkout.folder
    before = settings.read_text()
    commit(folder)
    make("plan")
    make("apply")
    checkout.change_code("second")
    git(folder, "commit", "--all", "--quiet", "--message=Second")
    second = git(folder, "rev-parse", "HEAD").strip()
    make("plan", **RUN)
    assert f"| change | lambda function <code>{NAME}</code> | the code" in checkout.summary("dev")
    make("apply")
    assert live(checkout) == "2"

    # Without a version that there is, the answer is the list of those that there are.
    title, newest = make("versions").splitlines()[:2]
    assert f"at commit {second[:12]}," in title
    said = refused("rollback", "VERSION=9")
    assert newest in said
    assert "There is no version 9" in said
    said = refused("rollback")
    assert newest in said
    assert "Which one? make rollback ENV=dev VERSION=n" in said
    assert "must be a whole number" in refused("rollback", "VERSION=x;id")

    # What is on main and not deployed does not go along: code, settings, Python. Nor does what was
    # changed by hand.
    checkout.change_code("third")
    checkout.set("dev", memory_size=1024)
    before = settings.read_text().replace("log_retention_in_days = 14", "log_retention_in_days = 7")
    settings.write_text(before)
    python, installed = folder / ".python-version", folder / ".venv" / "requirements-dev.txt"
    of_this = python.read_text()
    python.write_text("3.12\n")
    installed.touch()
    service = folder / "terraform" / "service.tf"
    more = "added_environment_variables = {\n    STREAM = aws_kinesis_stream.orders.name"
    text = service.read_text().replace("added_environment_variables = {", more)
    service.write_text(REFUSED + text)
    git(folder, "commit", "--all", "--quiet", "--message=Third")
    functions = checkout.aws.client("lambda")
    functions.update_function_configuration(FunctionName=NAME, Timeout=31)
    page = tmp_path / "summary.md"
    said = make("rollback", "VERSION=1", **RUN, GITHUB_STEP_SUMMARY=str(page))
    assert f"dev has commit {second[:12]}: starting from it." in said
    assert "Left as they are, though the code differs: aws_lambda_function.this." in said
    assert live(checkout) == "1"
    assert settings.read_text() == f'{before}\n{HEADING}\nlive_version = "1"\n'
    assert "keeps the messages at version 1" in page.read_text()

    # An apply fails after it has changed the log group. A pause works all the same.
    settings.write_text(before)
    python.write_text(of_this)
    installed.touch()
    git(folder, "commit", "--all", "--quiet", "--message=Fourth")
    make("plan", **RUN)
    assert "this takes back the rollback to version 1" in checkout.summary("dev")
    code, text = checkout._run("deploy", "apply")
    assert code, text
    said = make("pause")
    assert f"dev has commit {second[:12]}: starting from it." in said
    assert (feeds(checkout), live(checkout)) == ("Disabled", "1")
    assert settings.read_text() == f"{before}\n{HEADING}\npaused = true\n"

    # With the deployed code again the next plan shows no surprise but that log group.
    git(folder, "checkout", "--quiet", "--force", second)
    installed.touch()
    checkout.set("dev", live_version="1", paused=True)
    functions.update_function_configuration(FunctionName=NAME, Timeout=30)
    make("plan", **RUN)
    assert "\n**1 to change; nothing is destroyed.**\n" in checkout.summary("dev")
    assert "keeps the messages at version 1" in checkout.summary("dev")

    # All that differs from the deployed commit goes along only where it is asked for.
    functions.update_function_configuration(FunctionName=NAME, Timeout=31)
    make("rollback", "VERSION=latest", "ALL=1")
    assert live(checkout) == "3"  # a change of the configuration is a version, too
    assert functions.get_function_configuration(FunctionName=NAME)["Timeout"] == 30
    assert "live_version" not in settings.read_text()

    # The end: nothing of it is left but the state, which is empty.
    make("destroy", TF_CLI_ARGS_destroy="-auto-approve")
    assert functions.list_functions()["Functions"] == []

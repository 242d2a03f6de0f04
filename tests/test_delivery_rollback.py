"""The next release of a Lambda function, and back."""

from collections.abc import Iterator

import pytest
from conftest import Render
from delivery import RUN, Checkout, checked_out
from tools.deploy.settings import HEADING

pytestmark = pytest.mark.slow
NAME = "order-events-dev"


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


def test_a_release_is_rolled_back_and_comes_again(checkout: Checkout) -> None:
    make, refused, settings = checkout.make, checkout.refused, checkout.settings("dev")
    service = checkout.folder / "order_events" / "service.py"
    before = settings.read_text()
    make("plan")
    make("apply")
    checkout.change_code("second")
    second = service.read_text()
    make("plan", **RUN)
    assert f"| change | lambda function <code>{NAME}</code> | the code" in checkout.summary("dev")
    make("apply")
    assert live(checkout) == "2"

    # Without a version that there is, the answer is the list of those that there are.
    newest = make("versions").splitlines()[1]
    said = refused("rollback", "VERSION=9")
    assert newest in said
    assert "There is no version 9" in said
    said = refused("rollback")
    assert newest in said
    assert "Which one? make rollback ENV=dev VERSION=n" in said
    assert "must be a whole number" in refused("rollback", "VERSION=x;id")

    # A local change of the code does not go along.
    checkout.change_code("third")
    make("rollback", "VERSION=1")
    assert live(checkout) == "1"
    assert settings.read_text() == f'{before}\n{HEADING}\nlive_version = "1"\n'

    # With the deployed code again the next plan shows no surprise.
    service.write_text(second)
    make("plan", **RUN)
    assert "**Nothing changes.**" in checkout.summary("dev")
    assert "keeps the messages at version 1" in checkout.summary("dev")
    make("rollback", "VERSION=latest")
    assert live(checkout) == "2"
    assert settings.read_text() == before

    # The end: nothing of it is left but the state, which is empty.
    make("pause")
    assert "\npaused = true\n" in settings.read_text()
    make("destroy", TF_CLI_ARGS_destroy="-auto-approve")
    assert checkout.aws.client("lambda").list_functions()["Functions"] == []

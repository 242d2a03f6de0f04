"""The next release and back: what an operator changes on AWS without a deployment, on Lambda."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Render, lend_environment, need
from delivery import BUCKET, REGION, Checkout, made_for_delivery
from moto.core import DEFAULT_ACCOUNT_ID
from tools.deploy.settings import HEADING
from tools.local.server import local_aws

pytestmark = pytest.mark.slow
NAME = "order-events-dev"


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    need("terraform")
    need("make")
    source = render(
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        python_version="{}.{}".format(*sys.version_info),
    )
    folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("back") / source.name))
    lend_environment(folder)
    with local_aws(REGION) as aws:
        made_for_delivery(aws, "dev")
        yield Checkout(folder, aws)


def live(checkout: Checkout) -> str:
    """Return the version that gets the messages."""
    alias = checkout.aws.client("lambda").get_alias(FunctionName=NAME, Name="live")
    return str(alias["FunctionVersion"])


def mapping(checkout: Checkout) -> set[str]:
    """Return the state of what takes messages from the queue."""
    arn = f"arn:aws:sqs:{REGION}:{DEFAULT_ACCOUNT_ID}:{NAME}"
    found = checkout.aws.client("lambda").list_event_source_mappings(EventSourceArn=arn)
    return {item["State"] for item in found["EventSourceMappings"]}


def test_a_release_is_rolled_back_and_the_queue_paused(checkout: Checkout) -> None:
    make, refused, settings = checkout.make, checkout.refused, checkout.settings("dev")
    service = checkout.folder / "order_events" / "service.py"
    before = settings.read_text()
    make("plan")
    make("apply")
    checkout.change_code("second")
    second = service.read_text()
    make("plan")
    assert f"| change | Lambda function <code>{NAME}</code> | the code" in checkout.summary("dev")
    make("apply")
    assert live(checkout) == "2"

    versions = make("versions").splitlines()
    for said in (refused("rollback", "VERSION=9"), refused("rollback")):
        assert versions[1] in said
    assert "There is no version 9: choose one of the list above." in refused(
        "rollback", "VERSION=9"
    )
    assert "must be a whole number" in refused("rollback", "VERSION=x;id")

    # Local changes of something else, or of the code, do not go along.
    settings.write_text(f"{before}\nmemory_size = 1024\n")
    said = refused("rollback", "VERSION=1")
    assert "Nothing was changed: beside aws_lambda_alias.live" in said
    assert "live_version" not in settings.read_text()
    settings.write_text(before)
    checkout.change_code("third")
    make("rollback", "VERSION=1")
    assert live(checkout) == "1"
    assert settings.read_text() == f'{before}\n{HEADING}\nlive_version = "1"\n'

    # With the deployed code again the next plan shows no surprise.
    service.write_text(second)
    make("plan")
    assert "**Nothing changes.**" in checkout.summary("dev")
    assert "keeps the messages at version 1" in checkout.summary("dev")
    make("rollback", "VERSION=latest")
    assert live(checkout) == "2"
    assert settings.read_text() == before

    make("pause")
    assert mapping(checkout) == {"Disabled"}
    assert settings.read_text() == f"{before}\n{HEADING}\npaused = true\n"
    make("resume")
    assert mapping(checkout) == {"Enabled"}
    assert settings.read_text() == before
    checkout.assert_roles_allow_what_was_asked()

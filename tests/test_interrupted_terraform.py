"""Ctrl-C, `kill` and `kill -9` while Terraform works: the state is unlocked, nothing is left half.

Each test holds Terraform at a known point, by an AWS that does not answer, and interrupts it there.
test_deploy.py has every way to interrupt, with a stand-in for Terraform.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST, Render, lend_environment, need, need_provider, one_provider
from interrupting import BUCKET, LONG, NEEDS_PROC, REGION, Checkout, ctrl_c, kill_9
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import BaseResponse
from tools.local.server import LocalAws, local_aws

pytestmark = [pytest.mark.slow, NEEDS_PROC]


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return the service, installed and packaged."""
    need("make")
    source = render(
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        **HOST,
    )
    need_provider(source)
    base = tmp_path_factory.mktemp("interrupted")
    (base / "tmp").mkdir()
    made = Checkout(Path(shutil.copytree(source, base / source.name)), base / "tmp")
    lend_environment(made.folder)
    made.make("package")
    return made


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws(REGION) as running:
        place = {"LocationConstraint": REGION}
        running.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        running.client("sns").create_topic(Name="events-dev")
        yield running


def lock(aws: LocalAws) -> list[str]:
    """Return the locks in the state's bucket."""
    found = aws.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [item["Key"] for item in found if item["Key"].endswith(".tflock")]


class Held:
    """An AWS that does not answer one action of Terraform's, as long as it is held."""

    def __init__(self, patch: pytest.MonkeyPatch, action: str) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()
        original = BaseResponse.call_action

        def call_action(response: BaseResponse) -> Any:
            terraform = "Terraform" in response.headers.get("User-Agent", "")
            if terraform and response._get_action() == action and not self.over.is_set():
                self.reached.set()
                self.over.wait(LONG)
                return 503, {}, ""
            return original(response)

        patch.setattr(BaseResponse, "call_action", call_action)


@contextmanager
def held(action: str) -> Iterator[Callable[[str], bool]]:
    """Hold an action; yields what tells whether Terraform asked for it."""
    with pytest.MonkeyPatch.context() as patch:
        hold = Held(patch, action)
        try:
            yield lambda _: hold.reached.is_set()
        finally:
            hold.over.set()


def test_plan(checkout: Checkout, aws: LocalAws) -> None:
    with held("ListTopics") as reached:
        checkout.interrupt(kill_9, lambda text: reached(text) and lock(aws), "plan")
        assert lock(aws) == []
    assert "There is no plan for dev" in checkout.refused("apply")


def test_apply_and_pause(checkout: Checkout, aws: LocalAws) -> None:
    checkout.make("init")
    with one_provider(checkout.folder / "terraform"):
        checkout.make("plan")
    with held("CreateQueue") as reached:
        # One request at a time: what AWS is making at that moment, Terraform can't know of.
        text = checkout.interrupt(kill_9, reached, "apply", TF_CLI_ARGS_apply="-parallelism=1")
        assert lock(aws) == [], text
    with one_provider(checkout.folder / "terraform"):
        checkout.make("plan")
        checkout.make("apply")
    arn = f"arn:aws:sqs:{REGION}:{DEFAULT_ACCOUNT_ID}:order-events-dev"

    def feeds() -> str:
        found = aws.client("lambda").list_event_source_mappings(EventSourceArn=arn)
        (mapping,) = found["EventSourceMappings"]
        return str(mapping["State"])

    # Pausing plans first, and refuses if what was interrupted has left anything else to change.
    settings = checkout.folder / "terraform" / "environments" / "dev.tfvars"
    before = settings.read_text()
    with held("UpdateEventSourceMapping") as reached:
        checkout.interrupt(ctrl_c, reached, "pause")
    assert lock(aws) == []
    assert settings.read_text() == before
    assert "There is no plan for dev" in checkout.refused("apply")
    with one_provider(checkout.folder / "terraform"):
        checkout.make("pause")
        assert "\npaused = true\n" in settings.read_text()
        assert feeds() == "Disabled"
        checkout.make("resume")
    assert settings.read_text() == before
    assert feeds() == "Enabled"

"""Delivery: the make targets in the workflow's order, from a pull request to production."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Render, run
from delivery import BUCKET, REGION, RUN, Checkout, checked_out
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sqs.models import sqs_backends
from tools.local.event_source import EventSource
from tools.local.runtime import Runtime

pytestmark = pytest.mark.slow
NAME = "order-events-prod"


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    with checked_out(
        render, tmp_path_factory.mktemp("delivery"), "prod", record="lambda"
    ) as checkout:
        yield checkout


def objects(checkout: Checkout) -> list[str]:
    """Return the keys of all objects in the bucket of the state."""
    found = checkout.aws.client("s3").list_objects_v2(Bucket=BUCKET)
    return [item["Key"] for item in found.get("Contents", [])]


def next_job(checkout: Checkout) -> None:
    """Remove what a job does not leave to the next one: the plan."""
    for file in (checkout.folder / "dist").glob("*.tfplan*"):
        file.unlink()


def smoke(checkout: Checkout) -> str:
    """Run the smoke test; the packaged function handles its message."""
    # moto would run the function in Docker; this test runs it, and writes its log.
    sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues[NAME].lambda_event_source_mappings.clear()
    sqs, logs = checkout.aws.client("sqs"), checkout.aws.client("logs")
    url = sqs.get_queue_url(QueueName=NAME)["QueueUrl"]
    configuration = checkout.aws.client("lambda").get_function_configuration(FunctionName=NAME)
    group = {"logGroupName": f"/aws/lambda/{NAME}", "logStreamName": "test"}
    logs.create_log_stream(**group)
    code = "from tools.build.package import build; build('host')"
    run(".venv/bin/python", "-B", "-c", code, cwd=checkout.folder)
    ended = threading.Event()

    def work() -> None:
        with Runtime(
            checkout.folder / "dist" / "lambda-host.zip",
            handler=configuration["Handler"],
            environment=configuration["Environment"]["Variables"],
            timeout=configuration["Timeout"],
            memory_size=configuration["MemorySize"],
            function_name=NAME,
            region=REGION,
        ) as function:
            source = EventSource(sqs, url, function, batch_size=10, report_batch_item_failures=True)
            while not ended.is_set():
                if batch := source.poll(wait=1):
                    lines = batch.outcome.logs.splitlines()
                    now = int(time.time() * 1000)
                    events = [{"timestamp": now, "message": line} for line in lines if line]
                    logs.put_log_events(**group, logEvents=events)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        return checkout.make("smoke", "ENV=prod")
    finally:
        ended.set()
        worker.join()


def test_from_a_pull_request_to_production(checkout: Checkout, tmp_path: Path) -> None:
    make, refused = checkout.make, checkout.refused
    output = tmp_path / "output"
    in_run = {**RUN, "ENV": "prod", "GITHUB_OUTPUT": str(output)}

    # The package is built once. Pull request: nothing is written, no workspace is made, no plan
    # applied.
    make("package", "sbom")
    assert (checkout.folder / "dist" / "lambda.cdx.json").exists()
    package = checkout.sha256()
    hash_ = f"PACKAGE_SHA256={package}"
    said = refused("plan", "READ_ONLY=1", "ENV=prod", hash_, role="plan")
    assert "Somebody who may write it runs `make init ENV=prod` once, or" in said
    assert "There is no plan for prod: run `make plan ENV=prod`" in refused("apply", "ENV=prod")
    assert objects(checkout) == []

    # main: plan without the right to write, and keep the plan.
    make("init", "ENV=prod")
    in_run["PACKAGE_SHA256"] = package
    make("plan", "READ_ONLY=1", role="main-plan", **in_run)
    assert "to add; nothing is destroyed.**" in checkout.summary("prod")
    make("save-plan", role="main-plan", **in_run)
    told = dict(line.split("=") for line in output.read_text().splitlines())
    assert told["changes"] == "true"
    kept = [key for key in objects(checkout) if key.startswith("plans/order-events/prod/77/")]
    assert len(kept) == 2

    # Approval: that very plan is applied, with that very package, and kept until the smoke test
    # has passed.
    next_job(checkout)
    approved = {**in_run, "PLAN_SHA256": told["sha256"]}
    other_run = {**approved, "GITHUB_RUN_ID": "78"}
    assert "its smoke test has passed, or it has expired" in refused("fetch-plan", **other_run)
    forged = {**approved, "PLAN_SHA256": "0" * 64}
    assert "but the plan that was shown has 0000" in refused("fetch-plan", **forged)
    next_job(checkout)
    make("fetch-plan", **approved)
    make("check-plan", **approved)
    assert "the plan that was shown has 0000" in refused("apply", **forged)
    zipped = checkout.folder / "dist" / "lambda.zip"
    content = zipped.read_bytes()
    zipped.write_bytes(content + b"x")
    assert "is for the package with SHA-256" in refused("apply", **approved)
    assert "is not the package with SHA-256" in refused("plan", **in_run)
    zipped.write_bytes(content)
    make("apply", **approved)
    # Had the smoke test failed: the failed job runs again, and does not apply again.
    make("fetch-plan", **approved)
    assert "prod has this plan already" in make("apply", **approved)
    assert f"{NAME} works" in smoke(checkout)
    make("forget-plan", **approved)
    assert not [key for key in objects(checkout) if key.startswith("plans/")]

    # Somebody holds the lock of the state, or died with it.
    lock = {"ID": "4711", "Who": "me@laptop", "Created": "2026-01-01T10:00:00Z"}
    place = {"Bucket": BUCKET, "Key": f"{objects(checkout)[0]}.tflock"}
    checkout.aws.client("s3").put_object(**place, Body=json.dumps(lock).encode())
    said = " ".join(refused("plan", "ENV=prod").split())
    assert "Who: me@laptop" in said
    assert "The state of prod is locked." in said
    assert "make unlock ENV=prod LOCK=4711" in said
    assert "the lock's ID is 4711: nothing was done" in refused("unlock", "ENV=prod", "LOCK=12")
    make("unlock", "ENV=prod", "LOCK=4711")
    assert "Nobody holds the lock of prod." in make("unlock", "ENV=prod")

    # A plan that changes nothing is not kept, and nobody is asked to approve it.
    make("plan", "READ_ONLY=1", role="plan", **RUN, ENV="prod")
    assert "**Nothing changes.**" in checkout.summary("prod")
    output.write_text("")
    make("save-plan", role="main-plan", **in_run)
    assert "changes=false\n" in output.read_text()
    assert not [key for key in objects(checkout) if key.startswith("plans/")]

"""Plans that wait for approval in S3, from the job that plans prod to the smoke test.

Each job has nothing but what S3 holds. Terraform is a stand-in, as in test_deploy.py.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import boto3
import pytest
from conftest import TEMPLATE
from moto import mock_aws
from test_deploy import PROD, calls, service, stand_in  # noqa: F401 (fixtures)
from tools.deploy import kept, plans
from tools.errors import ToolError
from tools.operate import compute

FOLDER = "plans/order-events/prod/77/"


class Run:
    """A run of the workflow: its jobs, which share nothing but outputs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = patch
        patch.setattr(boto3, "client", functools.cache(boto3.client))  # it takes long to make
        self.s3 = boto3.client("s3", region_name="eu-central-1")
        place = {"LocationConstraint": "eu-central-1"}
        self.s3.create_bucket(Bucket="my-state", CreateBucketConfiguration=place)
        self.output = {"changes": "", "sha256": ""}

    def _job(self, **variables: str) -> None:
        for name in ("PLAN_RUN", "PLAN_SHA256", "PACKAGE_SHA256"):
            self.patch.delenv(name, raising=False)
        for name, value in {"GITHUB_RUN_ID": "77", **variables}.items():
            self.patch.setenv(name, value)
        plans.remove(PROD.plan)

    def plan(self, *, changes: bool) -> None:
        """Keep a plan as `make plan` writes it."""
        output, summary = self.folder / "output", self.folder / "summary"
        self._job(GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary))
        output.write_text("")
        summary.write_text("")
        PROD.plan.write_bytes(os.urandom(8))
        hashes = [plans.sha256(file) for file in (PROD.plan, compute.ARTIFACT)]
        note = plans.Note("prod", *hashes, changes=changes)
        plans.note_of(PROD.plan).write_text(json.dumps(asdict(note)))
        kept.save_plan.main(["--env", "prod"], standalone_mode=False)
        self.output = dict(line.split("=") for line in output.read_text().splitlines())

    def deploy(self, **variables: str) -> None:
        """Fetch the plan and apply it, the first two steps of the job that deploys to prod."""
        self._job(PLAN_SHA256=self.output["sha256"], **variables)
        calls(self.folder)
        kept.fetch_plan.main(["--env", "prod"], standalone_mode=False)
        plans.apply.main(["--env", "prod"], standalone_mode=False)

    def applied(self) -> int:
        """Return how often Terraform was asked to apply since the job began."""
        return len([line for line in calls(self.folder) if line.startswith("apply")])

    def smoked(self) -> None:
        """Forget the plan: its smoke test has passed."""
        kept.forget_plan.main(["--env", "prod"], standalone_mode=False)

    def kept(self) -> list[str]:
        found = self.s3.list_objects_v2(Bucket="my-state").get("Contents", [])
        return [item["Key"] for item in found]

    def state(self) -> str:
        body = self.s3.get_object(Bucket="my-state", Key=f"{FOLDER}prod.tfplan.json")["Body"]
        return str(json.loads(body.read())["state"])


@pytest.fixture
def run(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:  # noqa: F811
    with mock_aws():
        yield Run(stand_in, monkeypatch)


def test_a_plan_is_kept_until_the_smoke_test_has_passed(run: Run) -> None:
    run.plan(changes=True)
    assert run.output["changes"] == "true"
    assert run.output["sha256"] == plans.sha256(PROD.plan)
    assert run.kept() == [f"{FOLDER}prod.tfplan", f"{FOLDER}prod.tfplan.json"]
    run.deploy()
    assert run.applied() == 1
    assert len(run.kept()) == 2
    run.smoked()
    assert run.kept() == []
    run.plan(changes=False)
    assert run.output["changes"] == "false"
    assert run.kept() == []


def test_failed_jobs_run_again_without_applying_again(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.plan(changes=True)
    run.deploy()
    run.deploy()
    assert run.applied() == 0
    said = "prod has this plan already; what is left is the smoke test."
    assert said in capsys.readouterr().out


def test_all_jobs_run_again_after_a_failed_smoke_test(run: Run) -> None:
    run.plan(changes=True)
    run.deploy()
    run.plan(changes=False)
    assert run.output["changes"] == "true"
    said = "prod has what this run planned before; what is left is the smoke test."
    assert said in (run.folder / "summary").read_text()
    run.deploy()
    assert run.applied() == 0
    run.smoked()
    run.plan(changes=False)
    assert run.output["changes"] == "false"


def test_all_jobs_run_again_and_find_more_to_change(run: Run) -> None:
    run.plan(changes=True)
    run.deploy()
    run.plan(changes=True)
    assert run.output["changes"] == "true"
    # What was applied before has had no smoke test yet, whoever makes the rest.
    assert run.state() == "begun"
    run.deploy()
    assert run.applied() == 1
    assert run.state() == "applied"


def test_an_apply_that_failed_is_tried_again_and_needs_its_smoke_test(run: Run) -> None:
    run.plan(changes=True)
    fails = (run.folder / "bin" / "terraform").read_text() + 'sys.exit(arguments[0] == "apply")\n'
    (run.folder / "bin" / "terraform").write_text(fails)
    with pytest.raises(SystemExit):
        run.deploy()
    assert run.state() == "begun"
    with pytest.raises(SystemExit):
        run.deploy()
    assert run.applied() == 1
    # It had done everything: nothing is left to change, but nothing was tried out either.
    run.plan(changes=False)
    assert run.output["changes"] == "true"


def test_a_plan_can_be_kept_outside_of_a_workflow(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run.plan(changes=True)
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name)
    kept.save_plan.main(["--env", "prod"], standalone_mode=False)
    assert "Kept the plan for prod in s3://my-state/" in capsys.readouterr().out
    kept.fetch_plan.main(["--env", "prod"], standalone_mode=False)


def test_a_run_approves_the_plan_of_another(run: Run) -> None:
    run.plan(changes=True)
    run.output["sha256"] = ""  # it has planned nothing itself
    run.deploy(GITHUB_RUN_ID="78", PLAN_RUN="77")
    assert run.applied() == 1
    assert run.state() == "applied"
    run.smoked()
    assert run.kept() == []


def no_note(run: Run) -> None:
    run.s3.delete_object(Bucket="my-state", Key=f"{FOLDER}prod.tfplan.json")


def damaged_note(run: Run) -> None:
    run.s3.put_object(Bucket="my-state", Key=f"{FOLDER}prod.tfplan.json", Body=b"\xff{")


def damaged_plan(run: Run) -> None:
    run.s3.put_object(Bucket="my-state", Key=f"{FOLDER}prod.tfplan", Body=b"?")


def another_package(_: Run) -> None:
    compute.ARTIFACT.write_bytes(b"another package")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (no_note, f"There is no plan in s3://my-state/{FOLDER}: its smoke test has passed, or it"),
        (damaged_note, f"s3://my-state/{FOLDER}prod.tfplan.json is not what `make save-plan`"),
        (damaged_plan, "dist/prod.tfplan is not the file that `make plan` wrote"),
        (another_package, "dist/prod.tfplan is for the package with SHA-256 "),
    ],
)
def test_what_is_not_the_plan_that_was_shown_is_refused(
    run: Run, fault: Callable[[Run], None], words: str
) -> None:
    run.plan(changes=True)
    fault(run)
    with pytest.raises(ToolError) as refused:
        run.deploy()
    assert str(refused.value).startswith(words)
    assert 're-run the job "Plan prod" of run 77 and read its plan.' in str(refused.value)
    assert run.applied() == 0


def test_the_bootstrap_keeps_plans_as_long_as_is_said(run: Run) -> None:
    bucket = (TEMPLATE / "terraform" / "bootstrap" / "state.tf").read_text()
    (days,) = re.findall(r'"plans/"\s+}[^}]*\n    expiration {\s+days = (\d+)', bucket)
    with pytest.raises(ToolError, match=f"expired after {days} days"):
        run.deploy()


def test_a_note_that_cannot_be_read_does_not_spare_the_smoke_test(run: Run) -> None:
    run.plan(changes=True)
    damaged_note(run)
    run.plan(changes=False)
    assert run.output["changes"] == "true"
    run.deploy()
    assert run.applied() == 0

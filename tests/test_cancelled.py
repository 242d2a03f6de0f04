"""A cancelled or timed-out step of the workflow: Terraform ends at once, and unlocks the state.

What a step gets when it is to end is read in the runner's source (actions/runner, commit 258d6c8):

- src/Runner.Sdk/ProcessInvoker.cs: SIGINT to the step's own process, and to no other; SIGTERM to it
  7.5 s later; SIGKILL to it 2.5 s after that.
- src/Runner.Worker/JobExtension.cs: what is left at the job's end is killed, too; it is known by
  the environment variable RUNNER_TRACKING_ID.
- src/Runner.Worker/StepsRunner.cs: when the job is cancelled, the condition of the step that runs
  is evaluated again, with the job's new status. If it is true, the step gets no signal. The step's
  own timeout and a runner that shuts down don't ask it.
- src/Runner.Listener/JobDispatcher.cs: 15 s before the time ends that GitHub gives to a cancelled
  job, the runner kills the worker. That time is 5 minutes, says
  https://docs.github.com/en/actions/reference/workflow-cancellation-reference
- src/Runner.Worker/Handlers/ScriptHandlerHelpers.cs: how a script is run.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import HOST, Render, lend_environment, need
from interrupting import BUCKET, LONG, NEEDS_PROC, REGION, eventually
from tools.local.server import LocalAws, local_aws

pytestmark = [pytest.mark.slow, NEEDS_PROC]

# Seconds from SIGINT to SIGTERM, and from there to SIGKILL, four times what GitHub gives: a step
# that ends in time ends at once, and this machine may be busy.
PATIENCE = (4 * 7.5, 4 * 2.5)
TRACKING = "RUNNER_TRACKING_ID"
# It needs no provider, and is at work until it is interrupted.
SLOW = """
variable "commit" {{}}

resource "terraform_data" "slow" {{
  provisioner "local-exec" {{
    command = "touch {0}; exec sleep 600"
  }}
}}
"""


def steps(folder: Path) -> list[dict[str, Any]]:
    """Return the steps of all workflows."""
    workflows = [yaml.safe_load(file.read_text()) for file in folder.glob(".github/workflows/*")]
    jobs = [job for workflow in workflows for job in workflow["jobs"].values()]
    return [step for job in jobs for step in job["steps"]]


def applying(folder: Path) -> list[dict[str, Any]]:
    """Return the two steps that apply a plan."""
    return [step for step in steps(folder) if step.get("name") == "Apply"]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws(REGION, for_terraform=False) as running:
        place = {"LocationConstraint": REGION}
        running.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        yield running


@pytest.fixture(scope="module")
def service(render: Render, tmp_path_factory: pytest.TempPathFactory, aws: LocalAws) -> Path:
    """Return the service with a resource in place of its own that takes ten minutes to make."""
    need("make")
    need("terraform")
    need("timeout")
    source = render(terraform_state_bucket=BUCKET, aws_region=REGION, **HOST)
    folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("cancelled") / source.name))
    for file in (folder / "terraform").glob("*.tf"):
        if file.name != "backend.tf":
            file.unlink()
    (folder / "terraform" / "slow.tf").write_text(SLOW.format(folder / "reached"))
    (folder / "terraform" / "versions.tf").touch()
    (folder / "terraform" / "environments" / "dev.tfvars").write_text("")
    lend_environment(folder)
    return folder


def left(mark: str) -> list[int]:
    """Return the processes with this value of RUNNER_TRACKING_ID, as the runner finds them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{TRACKING}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def cancel(process: subprocess.Popen[bytes]) -> None:
    """End a step as the runner does."""
    for number, patience in zip((signal.SIGINT, signal.SIGTERM), PATIENCE, strict=True):
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return
    process.kill()
    process.wait()


def time_out(process: subprocess.Popen[bytes]) -> None:
    """Let the time limit of `timeout` be over: it has set itself an alarm."""
    process.send_signal(signal.SIGALRM)
    process.wait(LONG)


def objects(aws: LocalAws) -> dict[str, bytes]:
    """Return the state and its lock, those that are there."""
    s3 = aws.client("s3")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix="env:/").get("Contents", [])
    return {
        Path(item["Key"]).name: s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in found
    }


def test_a_cancelled_run_finishes_what_it_applies(service: Path) -> None:
    """The condition stays true when the run is cancelled, but not after a step that failed."""
    dev, prod = applying(service)
    assert dev["if"] == prod["if"] == "${{ always() && steps.plan.outcome == 'success' }}"
    assert "timeout-minutes" not in {*dev, *prod}


@pytest.mark.parametrize("compute", ["lambda", "fargate"])
def test_whoever_takes_the_lock_hears_of_the_end(render: Render, compute: str) -> None:
    """These targets change the state or take its lock; with READ_ONLY=1 a plan does neither."""
    takes = re.compile(r"make (apply|plan(?!.* READ_ONLY=1)|init|registry|destroy|\"\$ACTION\")")
    found = [
        step["run"] for step in steps(render(compute=compute)) if takes.search(step.get("run", ""))
    ]
    assert len(found) == {"lambda": 4, "fargate": 5}[compute]
    for run in found:
        assert re.match(r"exec timeout --verbose --signal=INT --kill-after=\dm \d\dm make ", run)


@pytest.mark.parametrize("end", [cancel, time_out])
def test_a_step_that_must_end_unlocks_the_state(
    service: Path, aws: LocalAws, tmp_path: Path, end: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    (run,) = {step["run"] for step in applying(service)}
    reached, script, log = service / "reached", tmp_path / "script.sh", tmp_path / "log"
    reached.unlink(missing_ok=True)
    script.write_text(run)
    environment = {**os.environ, "PACKAGE_SHA256": "none", TRACKING: str(tmp_path)}
    make = ["make", "--no-print-directory", "plan"]
    subprocess.run(make, cwd=service, env=environment, check=True)
    with log.open("wb") as output:
        step = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script],
            cwd=service,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: reached.exists() or step.poll() is not None, "Terraform at work")
        assert "terraform.tfstate.tflock" in objects(aws), log.read_text()
        end(step)
    finally:
        for pid in left(str(tmp_path)):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not left(str(tmp_path)), "the end of all processes")
    there, said = objects(aws), log.read_text()
    assert list(there) == ["terraform.tfstate"], said
    assert b'"status": "tainted"' in there["terraform.tfstate"], said
    assert "Gracefully shutting down" in said
    assert step.returncode

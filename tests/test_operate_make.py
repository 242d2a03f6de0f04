"""The operating targets as an operator types them: make, and one clear sentence for bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SERVICE, Render, lend_environment, need
from moto.sqs.models import sqs_backends
from test_operate import ACCOUNT, ATTRIBUTES, NAME, REGION, client, deploy, move_tasks  # noqa: F401

sys.path.insert(0, str(SERVICE))
from tools.local.server import local_aws

TARGETS = [
    *("status", "logs", "publish", "dlq-peek", "dlq-redrive", "undelivered-peek"),
    *("undelivered-redrive", "replay", "smoke", "versions", "rollback", "pause", "resume"),
]


@dataclass
class Operator:
    """Somebody with a checkout of the service, which is deployed."""

    folder: Path
    urls: dict[str, str]

    def make(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a target; return its exit code and what it printed, without make's own words."""
        done = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, re.sub(r"(?m)^make(\[\d+\])?: \*\*\* .*\n", "", done.stdout)

    def done(self, *arguments: str) -> str:
        """Run a target that must succeed; return what it printed."""
        code, text = self.make(*arguments)
        assert code == 0, text
        return text

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run a target that must fail, with one sentence on one line; return it."""
        code, text = self.make(*arguments, **environment)
        assert code != 0, text
        assert text.count("\n") == 1, text
        return text

    def send(self, queue: str, body: str) -> None:
        client("sqs").send_message(
            QueueUrl=self.urls[queue], MessageBody=body, MessageAttributes=ATTRIBUTES
        )


@pytest.fixture(scope="module")
def installed(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the service with this process's virtual environment."""
    need("make")
    folder = render(
        python_version="{}.{}".format(*sys.version_info), terraform_state_bucket="my-company-state"
    )
    folder = Path(shutil.copytree(folder, tmp_path_factory.mktemp("operated") / folder.name))
    lend_environment(folder)
    return folder


@pytest.fixture
def operator(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Operator]:
    """Deploy to a local AWS; what Terraform would print of it is printed by a stand-in."""
    client.cache_clear()
    with local_aws(REGION):
        outputs, _, urls = deploy(tmp_path)
        # moto's own event source would take the messages away unseen; the mapping stays listed.
        sqs_backends[ACCOUNT][REGION].queues[NAME].lambda_event_source_mappings.clear()
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "terraform").write_text(f"#!/bin/sh\nexec cat '{outputs}'\n")
        (programs / "terraform").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        marker = installed / "terraform" / ".terraform" / "dev" / "initialised"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        yield Operator(installed, urls)
        marker.unlink()
    client.cache_clear()


@pytest.mark.parametrize("target", TARGETS)
def test_an_unknown_environment(installed: Path, target: str) -> None:
    said = Operator(installed, {}).refused(target, "ENV=staging")
    assert said == "ENV=staging: there are two environments, dev and prod.\n"


@pytest.mark.slow
@pytest.mark.usefixtures("move_tasks")
def test_what_went_wrong_is_looked_at_and_repaired(operator: Operator, tmp_path: Path) -> None:
    assert "none of 0 fires" in operator.done("status")
    assert "  live  " in operator.done("versions")
    assert "Published to" in operator.done("publish")

    saved = tmp_path / "saved.jsonl"
    for queue in ("dlq", "undelivered"):
        operator.send(queue, json.dumps({"from": queue}))
        said = operator.done(f"{queue}-peek", "MAX=5", f"SAVE={saved}-{queue}")
        assert f"1 of about 1 messages in {NAME}-{queue}:" in said
        assert queue in operator.done(f"{queue}-redrive")
    said = operator.done("replay", f"FILE={saved}-dlq")
    assert f"Sent 1 of 1 messages from {saved}-dlq to {NAME}." in said


@pytest.mark.slow
@pytest.mark.usefixtures("move_tasks")
def test_bad_input_is_one_sentence(operator: Operator, tmp_path: Path) -> None:
    for target in ("dlq-peek", "dlq-redrive", "undelivered-redrive"):
        assert "is empty: nothing to do." in operator.refused(target)
    assert "make replay FILE=saved.jsonl" in operator.refused("replay")
    missing = tmp_path / "it's missing"
    assert f"{missing}: can't read" in operator.refused("replay", f"FILE={missing}")
    assert f"{missing}: can't read" in operator.refused("publish", f"BODY_FILE={missing}")
    assert "is not a whole number from 1" in operator.refused("dlq-peek", "MAX=0")
    assert "can't read the package" in operator.refused("smoke")


@pytest.mark.slow
def test_no_credentials(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("terraform")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nobody = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    code, text = Operator(installed, {}).make("dlq-peek", **nobody)
    assert code != 0
    assert text.splitlines()[-1].startswith("No AWS credentials: sign in"), text

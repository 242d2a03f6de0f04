"""The operating targets as an operator types them: what only make shows.

What the commands do is in test_operate.py: here make's variables reach them, whatever is in them,
and a refusal is one sentence and make's exit code.
"""

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
from conftest import Render, lend_environment, need, need_provider
from test_operate import ATTRIBUTES, NAME, REGION, client, deploy
from tools.local.server import local_aws


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

    def refused(self, *arguments: str) -> str:
        """Run a target that must fail, with one sentence on one line; return it."""
        code, text = self.make(*arguments)
        assert code != 0, text
        assert text.count("\n") == 1, text
        return text


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
        programs = tmp_path / "bin"
        programs.mkdir()
        printed = json.dumps({name: {"value": value} for name, value in outputs.items()})
        (programs / "terraform").write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\n")
        (programs / "terraform").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        # A stand-in takes any provider, also one that is too old for this Python.
        (programs / "any.tfrc").touch()
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(programs / "any.tfrc"))
        marker = installed / "terraform" / ".terraform" / "dev" / "initialised"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        yield Operator(installed, urls)
        marker.unlink()
    client.cache_clear()


def test_an_unknown_environment(installed: Path) -> None:
    for target in ("status", "rollback"):
        said = Operator(installed, {}).refused(target, "ENV=staging")
        assert said == "ENV is 'staging': it must be dev, prod or local.\n"


@pytest.mark.slow
def test_variables_reach_the_commands(operator: Operator, tmp_path: Path) -> None:
    client("sqs").send_message(
        QueueUrl=operator.urls["dlq"], MessageBody="{}", MessageAttributes=ATTRIBUTES
    )
    saved = tmp_path / 'it\'s "saved" $HOME.jsonl'
    variable = str(saved).replace("$", "$$")
    code, said = operator.make("dlq-peek", "MAX=5", f"SAVE={variable}")
    assert (code, f"1 of about 1 messages in {NAME}-dlq:" in said) == (0, True), said
    code, said = operator.make("replay", f"FILE={variable}")
    assert (code, f"Sent 1 of 1 messages from {saved} to {NAME}." in said) == (0, True), said

    assert "MAX is '0': it must be" in operator.refused("dlq-peek", "MAX=0")
    assert "MAX_RATE is '501': it must be" in operator.refused("dlq-redrive", "MAX_RATE=501")
    assert "make replay FILE=saved.jsonl" in operator.refused("replay", "FILE=")
    missing = tmp_path / "it's missing"
    said = operator.refused("publish", f"BODY_FILE={missing}")
    assert said == f"Cannot read or write {missing}: No such file or directory.\n"


@pytest.mark.slow
def test_no_credentials(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_provider(installed)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nobody = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    code, text = Operator(installed, {}).make("dlq-peek", **nobody)
    assert code != 0
    assert text.splitlines()[-1].startswith("There are no AWS credentials: sign in"), text

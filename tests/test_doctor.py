"""tools/doctor.py of the rendered service, on machines of fakes and before moto's AWS."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import boto3
import pytest
from botocore.exceptions import ClientError
from conftest import SERVICE, Render, need, run
from moto.server import ThreadedMotoServer

sys.path.insert(0, str(SERVICE))
from tools import doctor

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ACCOUNT = "123456789012"
TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:events-dev"
TERRAFORM = """#!/bin/sh
echo '{"terraform_version": "1.11.4"}'
"""


class Machine:
    """A service, and a machine that has few commands beside a Python and a Terraform."""

    def __init__(self, service: Path, folder: Path) -> None:
        self.service = service
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(folder),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in ("sh", "sed"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.command(f"python{VERSION}", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self.command("terraform", TERRAFORM)
        (service / ".venv").mkdir()
        (service / ".venv" / "requirements-dev.txt").touch()

    def command(self, name: str, text: str = "#!/bin/sh\n") -> None:
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def doctor(self, *options: str, environment: str = "") -> tuple[int, dict[str, str], str]:
        """Run the doctor, for an environment if one is named.

        Returns its exit code, the state of each thing, and all that it said.
        """
        done = subprocess.run(
            [sys.executable, *options, "-m", "tools.doctor", *environment.split()],
            cwd=self.service,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        assert "Traceback" not in done.stdout
        lines = re.findall(r"(?m)^  (ok|missing|unknown) +(.+?)(?:  |$)", done.stdout)
        return done.returncode, {name: state for state, name in lines}, done.stdout


@pytest.fixture
def machine(fresh: Render, tmp_path: Path) -> Machine:
    folder = tmp_path / "machine"
    folder.mkdir()
    service = fresh(terraform_state_bucket="the-state", python_version=VERSION)
    return Machine(service, folder)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run moto's server; return its address."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(machine: Machine, server: str) -> Machine:
    """Give the machine credentials, and the account a bucket and a topic."""
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    machine.environment |= {"AWS_ENDPOINT_URL": server, **keys}
    session = boto3.Session("testing", "testing", region_name="us-east-1")
    session.client("s3", endpoint_url=server).create_bucket(Bucket="the-state")
    session.client("sns", endpoint_url=server).create_topic(Name="events-dev")
    return machine


def put(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_complete_machine_passes(aws: Machine) -> None:
    code, states, said = aws.doctor()
    assert code == 0, said
    things = {"Python", ".venv", "Terraform", "credentials", "state bucket", "SNS topic"}
    assert states == dict.fromkeys(things, "ok")
    assert f"account {ACCOUNT}" in said
    assert TOPIC in said
    assert said.endswith("\nThis machine: ready. To deploy to dev: ready.\n")
    assert aws.doctor(environment="dev")[0] == 0


def test_a_ready_machine_passes_whatever_aws_lacks_unless_an_environment_is_named(
    machine: Machine,
) -> None:
    code, states, said = machine.doctor()
    assert (code, states["credentials"], states["SNS topic"]) == (0, "missing", "unknown")
    assert said.endswith("\nThis machine: ready. To deploy to dev: not ready.\n")
    code, _, said = machine.doctor(environment="prod")
    assert code == 1
    assert said.endswith("\nThis machine: ready. To deploy to prod: not ready.\n")


def test_a_machine_that_is_not_ready_fails_whatever_aws_has(aws: Machine) -> None:
    (aws.bin / "terraform").unlink()
    code, _, said = aws.doctor()
    assert code == 1
    assert said.endswith("\nThis machine: not ready. To deploy to dev: ready.\n")


@pytest.mark.parametrize("given", ["make", "environment", ""])
def test_make_tells_whether_an_environment_is_named(render: Render, given: str) -> None:
    need("make")
    arguments = ["ENV=dev"] if given == "make" else []
    environment = {"ENV": "dev"} if given == "environment" else {}
    said = run("make", "--dry-run", "doctor", *arguments, cwd=render(), **environment).stdout
    assert said.rstrip().endswith('-m tools.doctor "$ENV"' if given else "-m tools.doctor")


def test_an_empty_machine_gets_the_whole_list_at_once(machine: Machine) -> None:
    (machine.service / ".venv" / "requirements-dev.txt").unlink()
    (machine.bin / "terraform").unlink()
    (machine.bin / f"python{VERSION}").unlink()
    replace(machine.service / "terraform/environments/dev.s3.tfbackend", '"the-state"', '""')
    (machine.service / ".python-version").write_text("3.99\n", encoding="utf-8")
    code, states, said = machine.doctor()
    assert code == 1
    missing = {name for name, state in states.items() if state == "missing"}
    assert missing == {"Python", ".venv", "Terraform", "credentials", "state bucket"}
    assert "pyenv install 3.99" in said
    assert "Run `make install`." in said
    assert "Run `make install`, which fetches version 1.11.4." in said
    assert "There are no AWS credentials" in said
    assert "write its name into terraform/environments/dev.s3.tfbackend." in said
    assert said.endswith("\nThis machine: not ready. To deploy to dev: not ready.\n")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_uv_is_named_and_installs_nothing(machine: Machine) -> None:
    log = machine.bin.parent / "log"
    machine.command(
        "uv", f'#!/bin/sh\necho "$1 $2 $UV_PYTHON_DOWNLOADS $UV_OFFLINE" >> {log}\nexit 1\n'
    )
    (machine.service / ".python-version").write_text("3.99\n", encoding="utf-8")
    _, states, said = machine.doctor()
    assert states["Python"] == "ok"
    assert "`make install` lets uv get it" in said
    assert all(line.endswith(" never 1") for line in log.read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("terraform", "state", "said"),
    [
        ('echo \'{"terraform_version": "1.10.5"}\'', "missing", "1.10.5, but it must be >= 1.11"),
        ('echo \'{"terraform_version": "1.12.0"}\'', "ok", "1.12.0; the workflow has 1.11.4"),
        ("echo broken; exit 1", "missing", "`terraform version` fails: broken"),
    ],
)
def test_terraforms_version_is_compared(
    machine: Machine, terraform: str, state: str, said: str
) -> None:
    machine.command("terraform", f"#!/bin/sh\n{terraform}\n")
    _, states, text = machine.doctor()
    assert states["Terraform"] == state
    assert said in text


def test_an_environment_older_than_its_lock_is_missing(machine: Machine) -> None:
    os.utime(machine.service / ".venv" / "requirements-dev.txt", (0, 0))
    _, states, said = machine.doctor()
    assert states[".venv"] == "missing"
    assert "older than requirements-dev.txt" in said


def test_the_wrong_account_is_named(aws: Machine) -> None:
    tfvars = aws.service / "terraform/environments/dev.tfvars"
    put(tfvars, '\nallowed_account_ids = [\n  "210987654321",\n]\n')
    code, states, said = aws.doctor(environment="dev")
    assert (code, states["credentials"], states["state bucket"]) == (1, "missing", "unknown")
    assert f"of account {ACCOUNT}, but dev is in 210987654321" in said


def test_a_bucket_and_a_topic_that_are_not_there_are_named(aws: Machine) -> None:
    replace(aws.service / "terraform/environments/dev.s3.tfbackend", "the-state", "no-such-bucket")
    put(aws.service / "terraform/environments/dev.tfvars", '\nsns_topic_name = "no-such-topic"\n')
    code, states, said = aws.doctor(environment="dev")
    assert (code, states["state bucket"], states["SNS topic"]) == (1, "missing", "missing")
    assert "there is no no-such-bucket" in said
    assert f"there is no arn:aws:sns:us-east-1:{ACCOUNT}:no-such-topic" in said
    assert "sns_topic_name in terraform/environments/dev.tfvars" in said


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "the-state: access denied\nAsk its owner"),
        (301, "the-state is in another region\nCorrect region in"),
    ],
)
def test_a_bucket_that_denies_access_is_named(
    render: Render, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.chdir(render(terraform_state_bucket="the-state", python_version=VERSION))
    refused = ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "HeadBucket")
    s3 = mock.Mock(head_bucket=mock.Mock(side_effect=refused))
    s3.exceptions.ClientError = ClientError
    aws = doctor.Aws("dev")
    monkeypatch.setattr(aws, "client", lambda *_: s3)
    with pytest.raises(doctor.ToolError, match=re.escape(said)):
        aws.bucket()


def test_each_environment_has_its_own_topic(aws: Machine) -> None:
    _, states, said = aws.doctor(environment="prod")
    assert states["SNS topic"] == "missing"
    assert ":events-prod" in said


def test_without_boto3_it_says_what_to_do(aws: Machine) -> None:
    _, states, said = aws.doctor("-S")
    assert {states[name] for name in ("credentials", "state bucket", "SNS topic")} == {"unknown"}
    assert "could not be checked: run `make install` first" in said


def test_an_aws_that_does_not_answer_is_reported(aws: Machine) -> None:
    aws.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    code, states, said = aws.doctor(environment="dev")
    assert (code, states["credentials"]) == (1, "missing")
    assert "AWS cannot be reached" in said


def test_there_are_two_environments(machine: Machine) -> None:
    with pytest.raises(AssertionError, match="ENV is 'stage': it must be dev, prod or local"):
        machine.doctor(environment="stage")


def test_a_broken_file_is_reported(machine: Machine) -> None:
    (machine.service / ".python-version").unlink()
    code, states, _ = machine.doctor()
    assert code == 1
    assert states[".venv"] == "unknown"


def test_settings_that_are_not_hcl_are_named(aws: Machine) -> None:
    put(aws.service / "terraform" / "environments" / "dev.tfvars", "timeout = = 3\n")
    code, states, said = aws.doctor(environment="dev")
    assert (code, states["credentials"]) == (1, "missing")
    assert re.search(r"terraform/environments/dev\.tfvars, line \d+: this is not HCL", said)


def test_on_fargate_only_deploying_needs_docker_and_skopeo(machine: Machine, fresh: Render) -> None:
    machine.service = fresh(compute="fargate", python_version=VERSION)
    _, states, text = machine.doctor()
    assert (states["Docker"], states["skopeo"]) == ("missing", "missing")
    assert "Docker" not in text.partition("To deploy to dev")[0]
    assert "Docker" not in machine.doctor(environment="local")[1]
    machine.command("docker", '#!/bin/sh\n[ "$1" = info ] || [ "$1" = buildx ]\n')
    machine.command("skopeo", "#!/bin/sh\necho skopeo version 1.18.0\n")
    _, states, _ = machine.doctor()
    assert (states["Docker"], states["skopeo"]) == ("ok", "ok")
    machine.command("docker", '#!/bin/sh\n[ "$1" = info ]\n')
    assert "Docker with buildx is missing: install it" in machine.doctor()[2]
    machine.command("docker", '#!/bin/sh\n[ "$1" = buildx ]\n')
    assert "Docker's daemon does not answer: start Docker." in machine.doctor()[2]


def test_a_service_on_lambda_needs_no_docker(machine: Machine) -> None:
    assert "Docker" not in machine.doctor()[1]


def test_make_runs_it_without_an_installed_environment(fresh: Render) -> None:
    need("make")
    service = fresh()
    done = subprocess.run(["make", "doctor"], cwd=service, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Run `make install`." in done.stdout
    assert not list(service.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("python3", "runs"),
    [
        ("echo >&2 'pyenv: python3: command not found'; exit 127", True),
        ('exec {python} -c "import sys; sys.version_info = (3, 6); $2"', True),
        ("exit 127", False),
    ],
    ids=["pyenv's shim", "too old", "none"],
)
def test_make_passes_over_a_python_that_cannot_run_it(
    machine: Machine, python3: str, runs: bool
) -> None:
    need("make")
    shutil.rmtree(machine.service / ".venv")
    for name in ("cat", "make"):
        (machine.bin / name).symlink_to(str(shutil.which(name)))
    machine.command("python3", f"#!/bin/sh\n{python3.format(python=sys.executable)}\n")
    if not runs:
        (machine.bin / f"python{VERSION}").unlink()
    done = subprocess.run(
        ["make", "doctor"],
        cwd=machine.service,
        env=machine.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    said = "This machine: not ready." if runs else "There is no Python on this machine, or only an"
    assert said in done.stdout
    assert "python" not in done.stderr


def test_the_list_of_targets_is_aligned_and_can_be_completed(render: Render) -> None:
    need("make")
    text = run("make", cwd=render()).stdout
    rows = re.findall(r"(?m)^  (\S+)( +)\S", text)
    assert len({len(name + gap) for name, gap in rows}) == 1
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name, _ in rows)

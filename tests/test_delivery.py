"""Delivery: the scripts behind the workflow, and its make targets in the workflow's order."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, Render, granted, need, run
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import BaseResponse
from moto.sqs.models import sqs_backends

# The template's folder stays clean: what lies in it is rendered.
sys.dont_write_bytecode = True
sys.path[:0] = [str(SERVICE / "scripts"), str(SERVICE)]
import saved_plan  # noqa: E402
import tfvars  # noqa: E402
from tools.local.runtime import Runtime  # noqa: E402
from tools.local.event_source import EventSource  # noqa: E402
from tools.local.server import LocalAws, local_aws  # noqa: E402
from plan_summary import summarise  # noqa: E402
from sbom import bill_of_materials  # noqa: E402

SCRIPTS = SERVICE / "scripts"

# Characters of a comment; more gets "body is too long (maximum is 65536 characters)".
GITHUB_TAKES = 65_536


def ended(*command: str | Path, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def program(folder: Path, name: str, script: str) -> Path:
    """Put a program of that name into a folder, to be found before the real one."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


##### scripts/saved_plan.py


@pytest.fixture
def planned(tmp_path: Path) -> argparse.Namespace:
    """Return the options of `saved_plan.py check` for a plan of dev that may be applied."""
    plan, package = tmp_path / "dev.tfplan", tmp_path / "lambda.zip"
    plan.write_bytes(b"plan")
    package.write_bytes(b"package")
    note = saved_plan.Note("dev", saved_plan.sha256(plan), saved_plan.sha256(package), True)
    saved_plan.note_of(plan).write_text(json.dumps(asdict(note)))
    return argparse.Namespace(
        service="order-events", environment="dev", plan=plan, package=package, backend=None
    )


def test_a_plan_that_belongs_is_accepted(planned: argparse.Namespace) -> None:
    assert saved_plan.check(planned).changes


def no_plan(options: argparse.Namespace) -> None:
    options.environment, options.plan = "prod", options.plan.with_name("prod.tfplan")


def a_plan_of_another_environment(options: argparse.Namespace) -> None:
    options.environment = "prod"


def a_changed_plan(options: argparse.Namespace) -> None:
    options.plan.write_bytes(b"another plan")


def a_changed_package(options: argparse.Namespace) -> None:
    options.package.write_bytes(b"another package")


def no_package(options: argparse.Namespace) -> None:
    options.package.unlink()


def a_note_of_something_else(options: argparse.Namespace) -> None:
    saved_plan.note_of(options.plan).write_text("{}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (no_plan, "There is no plan for prod (there is one for dev): run `make plan ENV=prod`"),
        (a_plan_of_another_environment, "is for dev, not for prod: run `make plan ENV=prod`"),
        (a_changed_plan, "is not the file that `make plan` wrote: run `make plan ENV=dev`"),
        (a_changed_package, "is not the package that was planned (SHA-256 "),
        (no_package, "is not the package that was planned (SHA-256 none instead of "),
        (a_note_of_something_else, "is not what `make plan` wrote: run `make plan ENV=dev`"),
    ],
)
def test_a_plan_that_does_not_belong_is_refused(
    planned: argparse.Namespace, fault: Callable[[argparse.Namespace], None], words: str
) -> None:
    fault(planned)
    with pytest.raises(saved_plan.PlanError, match="run `make plan ENV=") as error:
        saved_plan.check(planned)
    assert words in str(error.value)


def test_the_workflow_says_which_plan_and_which_package(
    planned: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAN_SHA256", saved_plan.sha256(planned.plan))
    monkeypatch.setenv("PACKAGE_SHA256", saved_plan.sha256(planned.package))
    saved_plan.check(planned)
    monkeypatch.setenv("PACKAGE_SHA256", "0" * 64)
    with pytest.raises(saved_plan.PlanError, match="not the package that was planned"):
        saved_plan.check(planned)
    monkeypatch.setenv("PLAN_SHA256", "0" * 64)
    with pytest.raises(saved_plan.PlanError, match="but the plan that was shown has 0000"):
        saved_plan.check(planned)


##### scripts/tfvars.py

TFVARS = "# Comment\n\nlog_retention_in_days = 90\n\n# live_version = 1\n"


def test_a_setting_is_added_changed_and_taken_out_again() -> None:
    added = tfvars.with_setting(TFVARS, "live_version", '"7"')
    assert added == f'{TFVARS}\n{tfvars.HEADING}\nlive_version = "7"\n'
    second = tfvars.with_setting(added, "paused", "true")
    changed = tfvars.with_setting(second, "live_version", '"8"')
    assert changed == second.replace('"7"', '"8"')
    out = tfvars.with_setting(changed, "live_version", "")
    assert out == f"{TFVARS}\n{tfvars.HEADING}\npaused = true\n"
    assert tfvars.with_setting(out, "paused", "") == TFVARS
    assert tfvars.with_setting(TFVARS, "live_version", "") == TFVARS


def test_a_setting_that_somebody_wrote_is_changed_where_it_is() -> None:
    text = 'memory_size  = 512\nlive_version = "3"\ntimeout      = 30\n'
    assert tfvars.with_setting(text, "live_version", "") == text.replace('live_version = "3"\n', "")
    assert '\nlive_version = "4"\n' in tfvars.with_setting(text, "live_version", '"4"')
    assert tfvars.with_setting(text, "version", '"4"').count("version = ") == 2


##### scripts/sbom.py


def test_the_bill_of_materials_lists_what_is_in_the_package(tmp_path: Path) -> None:
    package = tmp_path / "lambda.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("handler.py", "")
        archive.writestr(
            "Two_Words.x-2.0.dist-info/METADATA",
            "Metadata-Version: 2.4\nName: Two_Words.x\nVersion: 2.0\nLicense-Expression: MIT\n",
        )
        archive.writestr(
            "a-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1.0\nSummary: ü\n"
        )
        archive.writestr("a/vendored-1.dist-info/METADATA", "Name: no\nVersion: 1\n")
    bill = bill_of_materials("order-events", package)
    assert bill == bill_of_materials("order-events", package)
    assert bill["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(package.read_bytes()).hexdigest()}
    ]
    assert [(c["purl"], c.get("licenses")) for c in bill["components"]] == [
        ("pkg:pypi/a@1.0", None),
        ("pkg:pypi/two-words-x@2.0", [{"expression": "MIT"}]),
    ]


##### scripts/terraform.py


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        (
            "Error: Error acquiring the state lock\n  ID:        abc-123\n  Who:       me@laptop",
            [
                '"Lock Info" above says by whom (Who)',
                "TF_DATA_DIR=.terraform/prod terraform -chdir=terraform force-unlock abc-123",
                "nothing unlocks by itself",
            ],
        ),
        ("Error: Saved plan is stale", ["plan again and read it", "make plan ENV=prod"]),
        ("Error: Inconsistent dependency lock file", ["run `make lock`"]),
        ("Error: something else", []),
    ],
)
def test_an_error_of_terraforms_says_what_to_do(
    tmp_path: Path, says: str, advice: list[str]
) -> None:
    terraform = program(tmp_path, "terraform", f"echo out; cat >&2 <<'END'\n{says}\nEND\nexit 3")
    code, text = ended(sys.executable, SCRIPTS / "terraform.py", "prod", terraform, cwd=tmp_path)
    assert code == 3
    assert text.startswith(f"out\n{says}\n")
    rest = " ".join(text.removeprefix(f"out\n{says}\n").split())
    assert all(words in rest for words in advice), rest
    assert bool(rest) is bool(advice)


def test_what_goes_well_is_passed_on(tmp_path: Path) -> None:
    shell = ("sh", "-c", "echo 'state lock' >&2; echo x")
    code, text = ended(sys.executable, SCRIPTS / "terraform.py", "prod", *shell, cwd=tmp_path)
    assert (code, sorted(text.split("\n"))) == (0, ["", "state lock", "x"])


##### scripts/lock_providers.sh


def lock_providers(folder: Path, mirror_has: str = "") -> tuple[int, str, str]:
    """Run it with a Terraform whose registry or mirror has some platforms only.

    :returns: exit code, what it printed, and what Terraform was asked for.
    """
    binaries = folder / "bin"
    binaries.mkdir()
    has = f'case "$*" in {mirror_has}) ;; *) exit 1 ;; esac' if mirror_has else ""
    program(binaries, "terraform", f'echo "$@" >> {folder}/calls\n{has}')
    config = folder / "mirror.tfrc"
    if mirror_has:
        config.write_text(
            'provider_installation {\n  filesystem_mirror {\n    path    = "/a mirror"\n  }\n}\n'
        )
    path = f"{binaries}:{os.environ['PATH']}"
    code, text = ended(
        *("sh", SCRIPTS / "lock_providers.sh"),
        cwd=folder,
        PATH=path,
        TF_CLI_CONFIG_FILE=str(config),
    )
    return code, " ".join(text.split()), (folder / "calls").read_text()


PLATFORMS = ["linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"]


def test_providers_are_locked_for_all_machines(tmp_path: Path) -> None:
    code, text, calls = lock_providers(tmp_path)
    assert (code, text) == (0, "")
    assert calls.splitlines() == [
        "-chdir=terraform providers lock " + " ".join(f"-platform={name}" for name in PLATFORMS)
    ]


def test_a_mirror_with_one_platform_locks_that_and_says_so(tmp_path: Path) -> None:
    code, text, calls = lock_providers(tmp_path, mirror_has="*linux_amd64*")
    assert code == 0
    assert "no hashes for linux_arm64 darwin_amd64 darwin_arm64:" in text
    assert "the provider mirror /a mirror does not hold the provider for them" in text
    assert calls.count("-fs-mirror=/a mirror") == 4


def test_a_mirror_without_the_provider_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "terraform" / ".terraform.lock.hcl"
    lock.parent.mkdir()
    lock.write_text("as it was")
    code, _, _ = lock_providers(tmp_path, mirror_has="nothing")
    assert code != 0
    assert lock.read_text() == "as it was"


def test_an_old_lock_does_not_hold_the_new_one_back(tmp_path: Path) -> None:
    lock = tmp_path / "terraform" / ".terraform.lock.hcl"
    lock.parent.mkdir()
    lock.write_text("as it was")
    assert lock_providers(tmp_path)[0] == 0
    # The Terraform of this test writes none.
    assert lock.read_text() == "as it was"
    program(tmp_path / "bin", "terraform", f"cat {lock} >> {tmp_path}/seen; echo new > {lock}")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    assert ended("sh", SCRIPTS / "lock_providers.sh", cwd=tmp_path, PATH=path)[0] == 0
    assert lock.read_text() == "new\n"
    assert (tmp_path / "seen").read_text() == ""


def test_the_scripts_are_sound_shell() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run(shellcheck, *sorted(SCRIPTS.glob("*.sh")), cwd=SCRIPTS)


##### The make targets, in the workflow's order

REGION = "eu-central-1"
BUCKET = "my-company-terraform-state"


@dataclass(frozen=True)
class Checkout:
    """The rendered service, as a job of the workflow or a laptop has it."""

    folder: Path
    aws: LocalAws
    # What Terraform asked of AWS, as IAM's actions, by whether it ran in a role that only reads.
    asked: dict[bool, set[str]]

    def make(self, *arguments: str, **environment: str) -> str:
        """Run a target that must succeed; return what it printed."""
        code, text = self._run(*arguments, **environment)
        assert code == 0, f"make {' '.join(arguments)}:\n{text}"
        return text

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run a target that must fail; return what it printed."""
        code, text = self._run(*arguments, **environment)
        assert code != 0, f"make {' '.join(arguments)} was not refused:\n{text}"
        return text

    def _run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        reading = "READ_ONLY=1" in arguments
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BaseResponse, "call_action", recorded(self.asked[reading]))
            return ended("make", "--no-print-directory", *arguments, cwd=self.folder, **environment)

    def sha256(self) -> str:
        return hashlib.sha256((self.folder / "dist" / "lambda.zip").read_bytes()).hexdigest()

    def summary(self, environment: str) -> str:
        return (self.folder / "dist" / f"plan-{environment}.md").read_text(encoding="utf-8")

    def change_code(self) -> None:
        with (self.folder / "order_events" / "service.py").open("a") as file:
            file.write(f"\nCHANGED = {time.monotonic_ns()}\n")

    def next_job(self) -> None:
        """Forget what a job does not leave to the next one: the plan."""
        for file in (self.folder / "dist").glob("*.tfplan*"):
            file.unlink()

    def objects(self) -> list[str]:
        found = self.aws.client("s3").list_objects_v2(Bucket=BUCKET)
        return [item["Key"] for item in found.get("Contents", [])]

    def live(self) -> str:
        name = "order-events-prod"
        alias = self.aws.client("lambda").get_alias(FunctionName=name, Name="live")
        return str(alias["FunctionVersion"])

    def smoke(self, environment: str) -> str:
        """Run the smoke test; the packaged function handles its message."""
        name = f"order-events-{environment}"
        # moto would run the function in Docker; this test runs it, and writes its log.
        sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues[name].lambda_event_source_mappings.clear()
        sqs, logs = self.aws.client("sqs"), self.aws.client("logs")
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        configuration = self.aws.client("lambda").get_function_configuration(FunctionName=name)
        group = {"logGroupName": f"/aws/lambda/{name}", "logStreamName": str(time.monotonic_ns())}
        logs.create_log_stream(**group)
        ended_by = threading.Event()

        def work() -> None:
            with Runtime(
                self.folder / "dist" / "lambda-host.zip",
                handler=configuration["Handler"],
                environment=configuration["Environment"]["Variables"],
                timeout=configuration["Timeout"],
                memory_size=configuration["MemorySize"],
                function_name=name,
                region=REGION,
            ) as function:
                source = EventSource(
                    sqs, url, function, batch_size=10, report_batch_item_failures=True
                )
                while not ended_by.is_set():
                    if batch := source.poll(wait=1):
                        lines = batch.outcome.logs.splitlines()
                        now = int(time.time() * 1000)
                        events = [{"timestamp": now, "message": line} for line in lines if line]
                        logs.put_log_events(**group, logEvents=events)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            return self.make("smoke", f"ENV={environment}")
        finally:
            ended_by.set()
            worker.join()


def recorded(actions: set[str]) -> Callable[[BaseResponse], Any]:
    """Return moto's way to answer a call, which writes down what Terraform calls."""
    original = BaseResponse.call_action

    def call_action(response: BaseResponse) -> Any:
        if "Terraform" in response.headers.get("User-Agent", ""):
            service = str(response.service_name).replace("awslambda", "lambda")
            actions.add(f"{service}:{response._get_action()}")
        return original(response)

    return call_action


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    need("terraform")
    need("make")
    source = render(
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        python_version="{}.{}".format(*sys.version_info),
        architecture="arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64",
    )
    folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("delivery") / source.name))
    run("make", "install", "package", "dist/lambda-host.zip", cwd=folder)
    with local_aws(REGION) as aws:
        place = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        for environment in ("dev", "prod"):
            aws.client("sns").create_topic(Name=f"events-{environment}")
        yield Checkout(folder, aws, {False: set(), True: set()})


@pytest.mark.slow
def test_from_a_pull_request_to_production_and_back(checkout: Checkout, tmp_path: Path) -> None:
    make, refused = checkout.make, checkout.refused
    output = tmp_path / "output"
    in_run = {"GITHUB_RUN_ID": "77", "GITHUB_OUTPUT": str(output)}

    # Pull request: nothing is written, no workspace is made, and no plan applied.
    said = refused("plan", "READ_ONLY=1")
    assert "dev has no state yet. Somebody who may write it runs `make init ENV=dev` once." in said
    assert checkout.objects() == []
    assert "There is no plan for dev: run `make plan ENV=dev`" in refused("apply")
    assert checkout.objects() == []

    # main, dev: plan, apply that plan, smoke.
    make("sbom")
    bill = json.loads((checkout.folder / "dist" / "lambda.cdx.json").read_text())
    listed = {component["purl"].partition("@")[0] for component in bill["components"]}
    assert listed >= {"pkg:pypi/aws-lambda-powertools", "pkg:pypi/msgspec"}
    package = checkout.sha256()
    make("plan", PACKAGE_SHA256=package)
    assert "to add; nothing is destroyed.**" in checkout.summary("dev")
    assert "There is no plan for prod (there is one for dev)" in refused("apply", "ENV=prod")
    zipped = checkout.folder / "dist" / "lambda.zip"
    content = zipped.read_bytes()
    zipped.write_bytes(content + b"x")
    assert "is not the package that was planned" in refused("apply")
    assert "is not the package with SHA-256" in refused("plan", PACKAGE_SHA256=package)
    zipped.write_bytes(content)
    make("apply", PACKAGE_SHA256=package)
    assert "order-events-dev works" in checkout.smoke("dev")

    # Somebody holds the lock of the state, or died with it.
    lock = {"ID": "4711", "Who": "me@laptop", "Created": "2026-01-01T10:00:00Z"}
    place = {"Bucket": BUCKET, "Key": f"{checkout.objects()[0]}.tflock"}
    checkout.aws.client("s3").put_object(**place, Body=json.dumps(lock).encode())
    said = " ".join(refused("plan").split())
    assert "Who: me@laptop" in said
    assert "The state of dev is locked." in said
    assert "terraform -chdir=terraform force-unlock 4711" in said
    checkout.aws.client("s3").delete_object(**place)

    # main, prod: plan without the right to write, keep it, approval, apply that very plan, smoke.
    make("init", "ENV=prod")
    prod = {"ENV": "prod", "PACKAGE_SHA256": package}
    make("plan", "READ_ONLY=1", **prod)
    make("save-plan", **prod, **in_run)
    told = dict(line.split("=") for line in output.read_text().splitlines())
    assert told["changes"] == "true"
    kept = [key for key in checkout.objects() if key.startswith("plans/order-events/prod/77/")]
    assert len(kept) == 2
    checkout.next_job()
    other_run = {**prod, "GITHUB_RUN_ID": "78", "PLAN_SHA256": told["sha256"]}
    assert "it was applied, or has expired" in refused("fetch-plan", **other_run)
    approved = {**prod, **in_run, "PLAN_SHA256": told["sha256"]}
    forged = {**approved, "PLAN_SHA256": "0" * 64}
    assert "but the plan that was shown has 0000" in refused("fetch-plan", **forged)
    checkout.next_job()
    make("fetch-plan", **approved)
    assert "the plan that was shown has 0000" in refused("apply", **forged)
    make("apply", **approved)
    make("forget-plan", **approved)
    assert not [key for key in checkout.objects() if key.startswith("plans/")]
    assert "order-events-prod works" in checkout.smoke("prod")

    # The next release, and back.
    checkout.change_code()
    make("plan", "ENV=prod")
    assert "| change | Lambda function <code>order-events-prod</code> | the code" in (
        checkout.summary("prod")
    )
    make("apply", "ENV=prod")
    assert checkout.live() == "2"
    versions = make("versions", "ENV=prod")
    said = refused("rollback", "ENV=prod", "VERSION=9")
    assert "There is no version 9: choose one of the list above." in said
    assert versions.splitlines()[1] in said
    assert "not a whole number" in refused("rollback", "ENV=prod", "VERSION=x;id")
    said = refused("rollback", "ENV=prod")
    assert "Which one? make rollback ENV=prod VERSION=n" in said
    assert versions.splitlines()[1] in said
    settings = checkout.folder / "terraform" / "environments" / "prod.tfvars"
    before = settings.read_text()
    # A local change of something else, or of the code, does not go along.
    settings.write_text(f"{before}\nmemory_size = 1024\n")
    assert "Nothing was changed: beside aws_lambda_alias.live" in (
        refused("rollback", "ENV=prod", "VERSION=1")
    )
    assert "live_version" not in settings.read_text().replace("# live_version", "")
    settings.write_text(before)
    checkout.change_code()
    make("rollback", "ENV=prod", "VERSION=1")
    assert checkout.live() == "1"
    assert '\nlive_version = "1"\n' in settings.read_text()
    assert (
        checkout.aws.client("lambda").get_function_configuration(FunctionName="order-events-prod")[
            "Version"
        ]
        == "$LATEST"
    )

    # The deployed code again, and the next plan shows no surprise.
    service = checkout.folder / "order_events" / "service.py"
    lines = service.read_text().splitlines(keepends=True)
    service.write_text("".join(lines[:-2]))
    make("plan", "ENV=prod")
    assert "**Nothing changes.**" in checkout.summary("prod")
    assert "keeps the messages at version 1" in checkout.summary("prod")
    assert "the package is not compared" in checkout.smoke("prod")

    make("rollback", "ENV=prod", "VERSION=latest")
    assert checkout.live() == "2"
    assert settings.read_text() == before

    # Pause and resume go the same way.
    mapping = checkout.aws.client("lambda").list_event_source_mappings

    def state() -> set[str]:
        arn = f"arn:aws:sqs:{REGION}:{DEFAULT_ACCOUNT_ID}:order-events-prod"
        found: list[dict[str, Any]] = mapping(EventSourceArn=arn)["EventSourceMappings"]
        return {item["State"] for item in found}

    make("pause", "ENV=prod")
    assert state() == {"Disabled"}
    assert "\npaused = true\n" in settings.read_text()
    make("resume", "ENV=prod")
    assert state() == {"Enabled"}
    assert settings.read_text() == before

    # A plan that changes nothing is not kept, and nobody is asked to approve it.
    make("plan", "READ_ONLY=1", "ENV=prod")
    assert "**Nothing changes.**" in checkout.summary("prod")
    output.write_text("")
    make("save-plan", "ENV=prod", **in_run)
    assert "changes=false\n" in output.read_text()
    assert not [key for key in checkout.objects() if key.startswith("plans/")]

    # The roles of the bootstrap allow all that was asked for: moto itself does not mind.
    anybody = {"sts:GetCallerIdentity"}
    assert len(checkout.asked[True]) > 10
    assert checkout.asked[True] - granted("read") - anybody == set()
    assert checkout.asked[False] - granted("read", "deploy") - anybody == set()


@pytest.mark.slow
def test_security_finds_nothing_but_a_planted_fault(checkout: Checkout) -> None:
    checkout.make("security")
    queues = checkout.folder / "terraform" / "sqs.tf"
    text = queues.read_text()
    queues.write_text(text.replace("sqs_managed_sse_enabled    = true", "", 1))
    said = checkout.refused("security")
    queues.write_text(text)
    assert "CKV_AWS_27" in said

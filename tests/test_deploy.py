"""tools/deploy of the service: saved plans, settings, how Terraform is run, provider locks.

Terraform is a stand-in here, a program on the PATH; test_delivery.py has the real one.
"""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, Render
from tools import hcl
from tools.deploy import lock, plans, settings, terraform
from tools.errors import ToolError
from tools.operate import compute
from tools.operate.service import Service
from tools.project import Environment, project

DEV, PROD = Environment("dev"), Environment("prod")
BACKEND = 'bucket = "my-state"\nregion = "eu-central-1"\n'

FROM_MAKE = ("architecture", "python_version", "event_types")
VARIABLES = (
    "TF_DATA_DIR",
    "TF_IN_AUTOMATION",
    "TF_WORKSPACE",
    *(f"TF_VAR_{name}" for name in FROM_MAKE),
)

# Answers as Terraform would: writes down its arguments, and plans what the file `shown` says.
STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path({{folder!r}})
arguments = sys.argv[2:]
with (here / "calls").open("a") as calls:
    print(*arguments, file=calls)
if arguments[0] == "init":
    pathlib.Path(os.environ["TF_DATA_DIR"]).mkdir(parents=True, exist_ok=True)
if arguments[0] == "plan":
    pathlib.Path(arguments[-1].removeprefix("-out=")).write_text("a plan")
if arguments[0] == "show":
    print((here / "shown").read_text() if "-json" in arguments else "the plan")
for name in {VARIABLES}:
    (here / name).write_text(os.environ.get(name, "not set"))
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with the files of a service that tools/deploy reads."""
    folder = tmp_path / "order-events"
    environments = folder / "terraform" / "environments"
    environments.mkdir(parents=True)
    for environment in ("dev", "prod"):
        (environments / f"{environment}.tfvars").write_text(f"# {environment}\n")
        (environments / f"{environment}.s3.tfbackend").write_text(BACKEND)
    for name in ("versions.tf", "backend.tf"):
        (folder / "terraform" / name).touch()
    (folder / ".python-version").write_text("3.13\n")
    (folder / ".terraform-version").write_text("1.11.4\n")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "order-events"\n[tool.cookiecutter-lambda-python]\n'
        'package = "order_events"\nservice_path = "."\narchitecture = "arm64"\n'
    )
    (folder / "dist").mkdir()
    (folder / "dist" / "lambda.zip").write_bytes(b"package")
    for name in ("TF_CLI_CONFIG_FILE", "TERRAFORM_PROVIDER_MIRROR", "READ_ONLY", "ALL", "VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tools.deploy.terraform.cli_config", lambda: None)
    monkeypatch.setattr("tools.events.models", lambda: dict.fromkeys(["order.created", "größe.*"]))
    monkeypatch.chdir(folder)
    project.cache_clear()
    yield folder
    project.cache_clear()


def program(folder: Path, text: str) -> None:
    """Put a stand-in for Terraform into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "terraform").write_text(text)
    (folder / "terraform").chmod(0o755)


@pytest.fixture
def stand_in(service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in on the PATH; return the folder with what it is asked and answers."""
    program(tmp_path / "bin", STAND_IN.format(folder=str(tmp_path)))
    monkeypatch.setattr(settings, "deployed", lambda _: Service({"package_hash": "abc="}))
    (tmp_path / "shown").write_text('{"resource_changes": []}')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def calls(stand_in: Path) -> list[str]:
    """Return what the stand-in was asked since the last time."""
    file = stand_in / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.write_text("")
    return lines


##### Saved plans


@pytest.fixture
def planned(service: Path) -> Path:
    """Write a plan of dev that may be applied."""
    DEV.plan.write_bytes(b"plan")
    note = plans.Note("dev", plans.sha256(DEV.plan), plans.sha256(compute.ARTIFACT), changes=True)
    plans.note_of(DEV.plan).write_text(json.dumps(asdict(note)))
    return service


def test_a_plan_that_belongs_is_accepted(planned: Path) -> None:
    assert plans.check(DEV).changes


def a_copy_for_prod() -> None:
    for file in (DEV.plan, plans.note_of(DEV.plan)):
        file.with_name(file.name.replace("dev", "prod")).write_bytes(file.read_bytes())


@pytest.mark.parametrize(
    ("fault", "environment", "words"),
    [
        (lambda: None, PROD, "There is no plan for prod (there is one for dev): run"),
        (a_copy_for_prod, PROD, "dist/prod.tfplan is for dev, not for prod: run"),
        (lambda: DEV.plan.write_bytes(b"x"), DEV, "is not the file that `make plan` wrote: run"),
        (lambda: compute.ARTIFACT.write_bytes(b"x"), DEV, "but dist/lambda.zip has "),
        (lambda: compute.ARTIFACT.unlink(), DEV, "but dist/lambda.zip has none: run"),
        (lambda: plans.note_of(DEV.plan).write_text("{}"), DEV, "is not what `make plan` wrote"),
    ],
    ids=["none", "another environment", "another plan", "another package", "no package", "no note"],
)
def test_a_plan_that_does_not_belong_is_refused(
    planned: Path, fault: Callable[[], object], environment: Environment, words: str
) -> None:
    fault()
    with pytest.raises(ToolError, match=f"run `make plan ENV={environment.name}`") as error:
        plans.check(environment)
    assert words in str(error.value)


def test_the_workflow_says_which_plan_and_which_package(
    planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAN_SHA256", plans.sha256(DEV.plan))
    monkeypatch.setenv("PACKAGE_SHA256", plans.sha256(compute.ARTIFACT))
    plans.check(DEV)
    monkeypatch.setenv("PACKAGE_SHA256", "0" * 64)
    with pytest.raises(ToolError, match="is for the package with SHA-256"):
        plans.check(DEV)
    monkeypatch.setenv("PLAN_SHA256", "0" * 64)
    with pytest.raises(ToolError, match="but the plan that was shown has 0000"):
        plans.check(DEV)


def test_a_plan_without_its_note_is_not_taken_for_one(stand_in: Path) -> None:
    (stand_in / "shown").unlink()  # `terraform show` fails, as if it were killed
    with pytest.raises(SystemExit):
        plans.make_plan(DEV, DEV.plan, DEV.tfvars, {})
    assert DEV.plan.exists()
    with pytest.raises(ToolError, match="There is no plan for dev: run"):
        plans.check(DEV)


##### Settings

TFVARS = "# Comment\n\nlog_retention_in_days = 90\n\n# live_version = 1\n"


def test_a_setting_is_added_changed_and_taken_out_again() -> None:
    added = settings.with_setting(TFVARS, "live_version", '"7"')
    assert added == f'{TFVARS}\n{settings.HEADING}\nlive_version = "7"\n'
    second = settings.with_setting(added, "paused", "true")
    changed = settings.with_setting(second, "live_version", '"8"')
    assert changed == second.replace('"7"', '"8"')
    out = settings.with_setting(changed, "live_version", "")
    assert out == f"{TFVARS}\n{settings.HEADING}\npaused = true\n"
    assert settings.with_setting(out, "paused", "") == TFVARS
    assert settings.with_setting(TFVARS, "live_version", "") == TFVARS


def test_a_setting_that_somebody_wrote_is_changed_where_it_is() -> None:
    text = 'memory_size  = 512\nlive_version = "3"\ntimeout      = 30\n'
    without = text.replace('live_version = "3"\n', "")
    assert settings.with_setting(text, "live_version", "") == without
    assert '\nlive_version = "4"\n' in settings.with_setting(text, "live_version", '"4"')
    assert settings.with_setting(text, "version", '"4"').count("version = ") == 2


HCL = """# bucket = "no"
/* bucket = "no" */
bucket="a \\"b\\" ü" // yes
  region = "x" # why
size = 3
empty = ""
accounts = [
  "1", # "2"
]
nothing = null
"""


def test_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "dev.tfvars"
    file.write_text(HCL)
    assert hcl.read(file) == {
        **{"bucket": 'a "b" ü', "region": "x", "size": 3, "empty": ""},
        **{"accounts": ["1"], "nothing": None},
    }


@pytest.mark.parametrize("wrong", ['x = "', "x", "x = [1", "x ="])
def test_a_file_that_is_no_hcl_is_a_sentence(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "dev.tfvars"
    file.write_text(f"a = 1\n{wrong}\n")
    with pytest.raises(ToolError, match=r"dev\.tfvars, line [23]: this is not HCL\. `terra"):
        hcl.read(file)


def test_an_environments_settings_are_its_own_and_the_defaults(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(render())
    found = hcl.settings(DEV)
    assert found["log_retention_in_days"] == 14
    assert (found["timeout"], found["memory_size"], found["aws_region"]) == (30, 512, "us-east-1")


def changing(*addresses: str) -> str:
    """Return a plan that changes these resources, as Terraform shows it."""
    return json.dumps(
        {
            "resource_changes": [
                {
                    "address": address,
                    "type": address.partition(".")[0],
                    "name": address.partition(".")[2].partition("[")[0],
                    "change": {"actions": ["update"], "before": {}, "after": {}},
                }
                for address in addresses
            ]
        }
    )


def test_a_change_of_a_setting_keeps_the_deployed_code_and_is_written_down(
    stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stand_in / "shown").write_text(changing(compute.DECIDES_ON_PAUSE))
    settings.pause.main(["--env", "prod"], standalone_mode=False)
    asked = calls(stand_in)
    (planned,) = [line for line in asked if line.startswith("plan ")]
    assert "-var=package_hash=abc=" in planned
    assert "dist/setting/prod.tfvars" in planned
    assert asked[-2].startswith("apply -input=false")
    assert PROD.tfvars.read_text() == f"# prod\n\n{settings.HEADING}\npaused = true\n"
    said = capsys.readouterr().out
    assert "Paused: messages wait in the queue. terraform/environments/prod.tfvars has" in said
    assert not PROD.plan.exists()


def test_a_change_of_a_setting_takes_nothing_else_along_unless_told_to(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in / "shown").write_text(changing(compute.DECIDES_ON_PAUSE, "aws_sqs_queue.main"))
    with pytest.raises(ToolError, match=r"depends on aws_sqs_queue\.main, .* Add ALL=1"):
        settings.pause.main([], standalone_mode=False)
    assert not [line for line in calls(stand_in) if line.startswith("apply")]
    assert DEV.tfvars.read_text() == "# dev\n"
    monkeypatch.setenv("ALL", "1")
    settings.pause.main([], standalone_mode=False)
    assert "paused = true" in DEV.tfvars.read_text()


@pytest.mark.parametrize("version", ["x;id", "0", "01", "1.0", "-1", "\u0661"])
def test_a_version_must_be_a_whole_number(
    service: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("VERSION", version)
    with pytest.raises(ToolError, match="it must be a whole number, or latest"):
        settings.rollback.main([], standalone_mode=False)


##### How Terraform is run


def test_an_environment_is_initialised_when_it_has_to_be(stand_in: Path) -> None:
    terraform.ensure_initialised(PROD)
    assert calls(stand_in) == [
        "init -input=false -reconfigure -backend-config=environments/prod.s3.tfbackend",
        "workspace select -or-create prod",
    ]
    terraform.ensure_initialised(PROD)
    assert calls(stand_in) == []
    later = time.time() + 10
    for file in ("terraform/versions.tf", "terraform/backend.tf", str(PROD.backend)):
        os.utime(file, (later, later))
        terraform.ensure_initialised(PROD)
        assert len(calls(stand_in)) == 2
        os.utime(file, (0, 0))
    terraform.LOCK_FILE.touch()
    os.utime(terraform.LOCK_FILE, (later, later))
    terraform.ensure_initialised(PROD)
    assert calls(stand_in)[0].endswith("-lockfile=readonly")
    terraform.initialise(PROD)
    assert len(calls(stand_in)) == 2


def test_a_workspace_that_was_selected_by_hand_is_not_used(stand_in: Path) -> None:
    terraform.ensure_initialised(PROD)
    selected = PROD.data_dir / "environment"  # Terraform's own file
    selected.write_text("prod")
    calls(stand_in)
    terraform.ensure_initialised(PROD)
    assert calls(stand_in) == []
    selected.write_text("default")  # as docs/removing.md does, to delete prod
    terraform.ensure_initialised(PROD)
    assert "workspace select -or-create prod" in calls(stand_in)


def test_what_may_not_write_makes_no_workspace(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READ_ONLY", "1")
    terraform.ensure_initialised(DEV)
    assert calls(stand_in)[1] == "workspace select dev"
    plans.make_plan(DEV, DEV.plan, DEV.tfvars, {})
    assert calls(stand_in)[0].startswith("plan -input=false -lock=false ")


@pytest.mark.parametrize("backend", ['bucket = ""\nregion = "x"\n', 'region = "x"\n'])
def test_a_state_without_a_bucket_is_refused(stand_in: Path, backend: str) -> None:
    DEV.backend.write_text(backend)
    with pytest.raises(ToolError, match=r"is not set: write its name into terraform/environments/"):
        terraform.ensure_initialised(DEV)
    assert calls(stand_in) == []


def test_terraform_gets_what_belongs_to_the_environment_and_nothing_of_anothers(
    stand_in: Path, service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_WORKSPACE", "prod")
    terraform.run(DEV, "plan", "-out=x")
    assert (stand_in / "TF_DATA_DIR").read_text() == str(service / "terraform/.terraform/dev")
    assert (stand_in / "TF_WORKSPACE").read_text() == "not set"
    # Or it says how to apply what only `make apply` should.
    assert (stand_in / "TF_IN_AUTOMATION").read_text() == "true"
    assert (stand_in / "TF_VAR_architecture").read_text() == "arm64"
    assert (stand_in / "TF_VAR_python_version").read_text() == "3.13"
    assert (stand_in / "TF_VAR_event_types").read_text() == '["order.created", "größe.*"]'


def test_operating_does_not_depend_on_the_owners_code(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ToolError("events.py cannot be imported")

    monkeypatch.setattr("tools.events.models", broken)
    terraform.run(DEV, "output")
    assert (stand_in / "TF_VAR_event_types").read_text() == "not set"
    with pytest.raises(ToolError, match="cannot be imported"):
        terraform.run(DEV, "plan", "-out=x")


def test_a_machine_without_terraform_is_told_so(
    service: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(service))
    with pytest.raises(ToolError, match=r"Terraform is missing: install version 1\.11\.4, see"):
        terraform.run(DEV, "plan")
    lock.lock_providers(upgrade=False)
    assert "was left as it is: Terraform is missing." in capsys.readouterr().out


def test_too_old_a_provider_keeps_no_packages_from_being_locked(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise SystemExit("The mirror has an old provider.")

    monkeypatch.setattr(lock, "cli_config", refuse)
    lock.lock_providers(upgrade=True)
    said = capsys.readouterr().out
    assert said == f"{terraform.LOCK_FILE} was left as it is. The mirror has an old provider.\n"


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        (
            "Error: Error acquiring the state lock\n RequestID: 1\n  ID:        abc-123\n  Who: me",
            [
                '"Lock Info" above says who locked it (Who)',
                "make unlock ENV=prod LOCK=abc-123 or run the workflow order-events-operate with",
                "nothing unlocks by itself",
            ],
        ),
        ("Error: Error acquiring the state lock", ["LOCK=ID"]),
        ("Error: Saved plan is stale", ["make plan ENV=prod", "re-run the job that planned"]),
        ("Error: Inconsistent dependency lock file", ["run `make lock`"]),
        ('Workspace "prod" doesn\'t exist.', ["runs `make init ENV=prod` once, or", "action init"]),
        (
            "Error: Instance cannot be destroyed\n\n  on sqs.tf line 105:\n\nResource "
            "terraform_data.queues_are_protected[0] has\nlifecycle.prevent_destroy set",
            ["queues of prod are protected", "Protection in README.md"],
        ),
        ("Instance cannot be destroyed: aws_dynamodb_table.mine has lifecycle.prevent_destroy", []),
        ("ExpiredToken: expired", ["sign in again"]),
        ("could not connect to registry.terraform.io", ["TERRAFORM_PROVIDER_MIRROR"]),
        ("Error: something {else}", []),
    ],
)
def test_an_error_of_terraforms_says_what_to_do(
    service: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    says: str,
    advice: list[str],
) -> None:
    program(tmp_path / "bin", f"#!/bin/sh\necho out; cat >&2 <<'END'\n{says}\nEND\nexit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(SystemExit) as ended:
        terraform.run(PROD, "plan")
    assert ended.value.code == 3
    out, err = capfd.readouterr()
    assert out == "out\n"
    assert err.startswith(f"{says}\n")
    rest = " ".join(err.removeprefix(f"{says}\n").split())
    assert all(words in rest for words in advice), rest
    assert bool(rest) is bool(advice)


def test_missing_credentials_are_one_sentence() -> None:
    said = terraform.explain("dev", "Error: No valid credential sources found\n and much more\n")
    assert said == (
        "There are no AWS credentials: sign in, or set AWS_PROFILE. "
        "`make doctor ENV=dev` says more.\n"
    )


def test_what_goes_well_is_passed_on(
    service: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    program(tmp_path / "bin", "#!/bin/sh\necho 'state lock' >&2; echo x\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert terraform.run(DEV, "plan") == ""
    assert capfd.readouterr() == ("x\n", "state lock\n")
    assert terraform.run(DEV, "show", capture=True) == "x\n"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("environment", [DEV, terraform.OFFLINE], ids=["dev", "validate"])
def test_killed_terraform_is_explained(
    service: Path,
    environment: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says nothing itself, and leaves its lock."""
    program(tmp_path / "bin", "#!/bin/sh\nkill -9 $$\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(SystemExit) as ended:
        terraform.run(environment, "apply")
    assert ended.value.code == 137
    said = capsys.readouterr().err
    assert "Terraform was killed" in said
    assert ("make unlock ENV=dev" in said) == (environment is DEV)
    assert "ENV=validate" not in said


##### Interrupts

# A command, and one that runs it once more in another checkout, as a rollback does.
HERE = ["-m", "tools", "validate"]
RUN_THERE = "from pathlib import Path; from tools.deploy.settings import apply_there; "
THERE = ["-c", f"{RUN_THERE} apply_there(Path.cwd(), ['validate'])"]
# Writes down each SIGINT, and works until it is told to end.
INTERRUPTED = f"""#!{sys.executable}
import pathlib, signal, sys, time
here = pathlib.Path(sys.argv[0]).parent
def note(*_):
    with (here / "interrupts").open("a") as file:
        file.write("x")
    print("Interrupted", file=sys.stderr, flush=True)
signal.signal(signal.SIGINT, note)
(here / "started").touch()
while not (here / "end").exists():
    time.sleep(0.01)
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("signals", "interrupts"),
    [
        ([signal.SIGINT], 1),
        ([signal.SIGTERM, signal.SIGTERM], 1),
        ([signal.SIGHUP, signal.SIGTERM], 1),
        ([signal.SIGTERM, signal.SIGINT], 2),
        ([signal.SIGINT, signal.SIGINT], 2),
        pytest.param(
            [signal.SIGKILL],
            1,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux alone does it"),
        ),
    ],
)
@pytest.mark.parametrize("program_", [HERE, THERE], ids=["here", "in another checkout"])
def test_terraform_is_interrupted_once_and_by_a_second_ctrl_c(
    service: Path,
    tmp_path: Path,
    signals: list[signal.Signals],
    interrupts: int,
    program_: list[str],
) -> None:
    binaries = tmp_path / "bin"
    program(binaries, INTERRUPTED)
    done, config = binaries / "interrupts", tmp_path / "own.tfrc"
    config.touch()  # else one is written beside the tools
    path = f"{binaries}:{os.environ['PATH']}"

    def wait_for(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with subprocess.Popen(
        [sys.executable, "-B", *program_],
        cwd=service,
        env={
            **os.environ,
            "PYTHONPATH": str(SERVICE),
            "PATH": path,
            "TF_CLI_CONFIG_FILE": str(config),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_for((binaries / "started").exists)
            for count, number in enumerate(signals, 1):
                os.killpg(process.pid, number)  # to all, as a terminal and `timeout` do
                if count <= interrupts:
                    wait_for(lambda at=count: done.exists() and len(done.read_text()) == at)
        finally:
            (binaries / "end").touch()
        assert process.stderr is not None
        said = process.stderr.read()
    assert done.read_text() == "x" * interrupts
    if signals != [signal.SIGKILL]:
        assert process.returncode == 128 + signals[0]
        assert said == "Interrupted\n" * interrupts


def test_terraform_can_ask_its_question(service: Path, tmp_path: Path) -> None:
    """`make destroy` asks first; a session of its own has no terminal, but inherits stdin."""
    program(tmp_path / "bin", f"#!/bin/sh\nread answer && echo $answer > {tmp_path}/answer\n")
    config = tmp_path / "own.tfrc"
    config.touch()
    DEV.data_dir.mkdir(parents=True)
    (DEV.data_dir / "initialised").touch()
    child, terminal = pty.fork()
    if not child:
        os.environ.update(PYTHONPATH=str(SERVICE), TF_CLI_CONFIG_FILE=str(config))
        os.environ["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        os.execv(sys.executable, [sys.executable, "-B", "-m", "tools", "output"])
    os.write(terminal, b"yes\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert (tmp_path / "answer").read_text() == "yes\n"


def test_a_plan_says_what_to_watch_out_for(
    stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = {"resource_changes": [], "variables": {"live_version": {"value": "2"}}}
    (stand_in / "shown").write_text(json.dumps(pinned))
    plans.make_plan(PROD, PROD.plan, PROD.tfvars, {})
    said = capsys.readouterr().out
    assert "the newest version gets no messages. `make rollback ENV=prod VERSION=latest`" in said


def test_a_package_that_lambda_would_not_take_has_no_plan(stand_in: Path) -> None:
    with compute.ARTIFACT.open("wb") as file:
        file.truncate(60 * 1024 * 1024)
    for bucket, planned in (("null", False), ('"the-bucket"', True)):
        (stand_in / "shown").write_text(
            f'{{"resource_changes": [], "variables": {{"artifact_bucket": {{"value": {bucket}}}}}}}'
        )
        refused = pytest.raises(ToolError, match=r"is 60 MB\. .*: set artifact_bucket")
        with contextlib.nullcontext() if planned else refused:
            plans.make_plan(DEV, DEV.plan, DEV.tfvars, {})
        assert plans.note_of(DEV.plan).exists() == planned


##### Provider locks

ALL_PLATFORMS = " ".join(f"-platform={platform}" for platform in lock.PLATFORMS)


@pytest.fixture
def mirror(service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the provider's folder in a mirror that Terraform's configuration names."""
    config = tmp_path / "mirror.tfrc"
    folder = tmp_path / 'a "mirror"'
    config.write_text(
        "provider_installation {\n  filesystem_mirror {\n"
        f"    path    = {json.dumps(str(folder))}\n  }}\n}}\n"
    )
    monkeypatch.setattr(lock, "cli_config", lambda: config)
    provider = folder / "registry.terraform.io/hashicorp/aws"
    provider.mkdir(parents=True)
    return provider


def test_providers_are_locked_for_all_machines(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "cli_config", lambda: None)
    lock.lock_providers(upgrade=False)
    assert calls(stand_in) == [f"providers lock {ALL_PLATFORMS}"]


def test_a_mirror_with_some_platforms_locks_these_and_says_so(
    stand_in: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mirror / "5.100.0" / "linux_amd64").mkdir(parents=True)
    (mirror / "terraform-provider-aws_5.100.0_darwin_arm64.zip").touch()
    lock.lock_providers(upgrade=False)
    folder = str(mirror).partition("/registry")[0]
    assert calls(stand_in) == [
        f"providers lock -fs-mirror={folder} -platform=linux_amd64 -platform=darwin_arm64"
    ]
    said = capsys.readouterr().err
    assert f"no hashes for linux_arm64, darwin_amd64: the mirror {folder} has no provider" in said


def locked_provider(version: str) -> str:
    """Return what Terraform writes into its lock file."""
    return f'provider "registry.terraform.io/hashicorp/aws" {{\n  version     = "{version}"\n}}\n'


def test_a_failure_changes_nothing_and_an_old_lock_does_not_hold_the_new_one_back(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "cli_config", lambda: None)
    terraform.LOCK_FILE.write_text(locked_provider("5.100.0"))
    program(
        stand_in / "bin", "#!/bin/sh\n[ ! -f terraform/.terraform.lock.hcl ] || exit 9\nexit 3\n"
    )
    with pytest.raises(SystemExit) as ended:
        lock.lock_providers(upgrade=True)
    assert ended.value.code == 3
    assert terraform.LOCK_FILE.read_text() == locked_provider("5.100.0")
    new = f"#!/bin/sh\ncat > terraform/.terraform.lock.hcl <<'E'\n{locked_provider('6.1.0')}E\n"
    program(stand_in / "bin", new)
    lock.lock_providers(upgrade=True)
    assert terraform.LOCK_FILE.read_text() == locked_provider("6.1.0")
    assert "  registry.terraform.io/hashicorp/aws: 5.100.0 -> 6.1.0\n" in capsys.readouterr().out


def test_lock_leaves_terraform_the_version_that_is_locked(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "cli_config", lambda: None)
    terraform.LOCK_FILE.write_text(locked_provider("5.100.0"))
    program(stand_in / "bin", "#!/bin/sh\n[ -f terraform/.terraform.lock.hcl ] || exit 9\n")
    lock.lock_providers(upgrade=False)
    assert f"{terraform.LOCK_FILE}:\n  no other versions\n" in capsys.readouterr().out
    says = "does not match configured version constraint; must use terraform init -upgrade"
    program(stand_in / "bin", f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    with pytest.raises(SystemExit):
        lock.lock_providers(upgrade=False)
    assert "keeps to another version: run `make upgrade`" in capsys.readouterr().err


def test_an_interrupt_while_terraform_starts_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads, as in `make local`, blocking signals in one of them does not keep them back."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    start = subprocess.Popen.__init__

    def interrupted(*arguments: Any, **keywords: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        thread.join(0.1)  # it takes the signal meanwhile
        start(*arguments, **keywords)

    monkeypatch.setattr(subprocess.Popen, "__init__", interrupted)
    try:
        code, _, _ = terraform.interruptible(["sleep", "60"], {**os.environ}, capture=True)
    finally:
        ended.set()
    assert code == 130

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
    second = tfvars.with_setting(added, "event_source_mapping_enabled", "false")
    changed = tfvars.with_setting(second, "live_version", '"8"')
    assert changed == second.replace('"7"', '"8"')
    out = tfvars.with_setting(changed, "live_version", "")
    assert out == f"{TFVARS}\n{tfvars.HEADING}\nevent_source_mapping_enabled = false\n"
    assert tfvars.with_setting(out, "event_source_mapping_enabled", "") == TFVARS
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


##### scripts/github.sh


@dataclass(frozen=True)
class Repository:
    """A Git repository with a service in it, and a `gh` that answers what a test says."""

    folder: Path
    service: Path
    binaries: Path

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        return run("git", *identity, *arguments, cwd=self.folder).stdout.strip()

    def commit(self, path: str) -> str:
        """Change a file and commit it; return the commit."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{time.monotonic_ns()}\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", path)
        return self.git("rev-parse", "HEAD")

    def gh(self, script: str) -> None:
        """Let `gh` be a shell script; what it is called with goes to the file `calls`."""
        calls = self.binaries / "calls"
        program(self.binaries, "gh", f'printf "%s\\n" "$*" >> "{calls}"\n{script}')

    def calls(self) -> list[str]:
        calls = self.binaries / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run github.sh as the workflow does."""
        return ended(
            *("sh", SCRIPTS / "github.sh", *arguments),
            cwd=self.service,
            **{
                "PATH": f"{self.binaries}:{os.environ['PATH']}",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "my-company/shop",
                "GITHUB_RUN_ID": "77",
                "GITHUB_RUN_NUMBER": "10",
                "GITHUB_RUN_ATTEMPT": "2",
                "GITHUB_REF": "refs/heads/main",
                "GITHUB_WORKFLOW": "order-events",
                "GITHUB_OUTPUT": str(self.binaries / "output"),
                **environment,
            },
        )

    def changes(self, event: str, **environment: str) -> str:
        """Return the output that `github.sh changes` sets."""
        output = self.binaries / "output"
        output.write_text("")
        code, text = self("changes", GITHUB_EVENT_NAME=event, **environment)
        assert code == 0, text
        return output.read_text()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    need("git")
    folder, binaries = tmp_path / "repository", tmp_path / "bin"
    made = Repository(folder, folder / "services" / "order-events", binaries)
    for directory in (made.service, binaries):
        directory.mkdir(parents=True)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    made.commit("services/order-events/handler.py")
    made.gh("exit 1")
    return made


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("services/order-events/terraform/sqs.tf", "true"),
        (".github/workflows/order-events.yml", "true"),
        (".github/workflows/other.yml", "false"),
        ("services/order-events-2/handler.py", "false"),
        ("README.md", "false"),
    ],
)
def test_only_the_touched_service_works(repository: Repository, path: str, service: str) -> None:
    base = repository.git("rev-parse", "HEAD")
    # A pull request is checked out as its merge with the branch that it goes to.
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit(path)
    repository.git("checkout", "--quiet", "main")
    repository.commit("somebody-elses-file")
    repository.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
    assert repository.changes("pull_request") == f"service={service}\n"
    assert repository.changes("merge_group", MERGE_GROUP_BASE=base) == f"service={service}\n"
    repository.gh(f"echo {base}")
    assert repository.changes("push") == f"service={service}\n"


def test_on_main_all_changes_since_the_last_successful_deployment_count(
    repository: Repository,
) -> None:
    deployed = repository.commit("services/order-events/handler.py")
    failed = repository.commit("services/order-events/handler.py")
    repository.commit("README.md")
    repository.gh(f"echo {deployed}")
    assert repository.changes("push") == "service=true\n"
    assert "--status success" in repository.calls()[-1]
    repository.gh(f"echo {failed}")
    assert repository.changes("push") == "service=false\n"
    # Nothing was deployed yet, or what was is no longer there after a force push.
    for nothing in ("true", "echo 0123456789012345678901234567890123456789"):
        repository.gh(nothing)
        assert repository.changes("push") == "service=true\n"


def test_nothing_is_built_to_roll_back(repository: Repository) -> None:
    assert repository.changes("workflow_dispatch") == "service=false\n"


def test_started_by_hand_from_another_branch_it_says_so(repository: Repository) -> None:
    branch = {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF": "refs/heads/feature/x"}
    code, text = repository("changes", **branch)
    assert code == 1
    assert "::error::Nothing was done: this run was started from feature/x" in text
    assert "only main may deploy" in text


@pytest.mark.parametrize("tool", ["git", "gh"])
def test_a_missing_tool_is_named(repository: Repository, tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {"sh", "git", "gh"} - {tool}:
        (tools / name).symlink_to(str(shutil.which(name) or repository.binaries / name))
    code, text = repository("role", "X", "y", ROLE="z", PATH=str(tools))
    assert (code, text.count("\n")) == (1, 1)
    assert f"::error::{tool} is missing on this runner: install it" in text


README = "https://github.com/my-company/shop/blob/main/services/order-events/README.md#delivery"


def test_a_missing_role_is_named_with_its_place_and_the_readme(repository: Repository) -> None:
    where = "the variables of the environment prod"
    code, text = repository("role", "AWS_DEPLOY_ROLE", where, ROLE="")
    assert code == 1
    assert f"::error::AWS_DEPLOY_ROLE is not set in {where}" in text
    assert README in text
    assert repository("role", "AWS_DEPLOY_ROLE", where, ROLE="arn:aws:iam::1:role/x") == (0, "")


def job(name: str, conclusion: str | None, apply: str | None = None, attempt: int = 1) -> Any:
    """Return a job as GitHub's API does; `apply` is its step's conclusion, or how far it is."""
    steps = [{"name": "Set up job", "status": "completed", "conclusion": "success"}]
    if apply is not None:
        done = apply not in {"queued", "pending", "in_progress"}
        status, result = ("completed", apply) if done else (apply, None)
        steps.append({"name": "Apply", "status": status, "conclusion": result})
    return {"name": name, "conclusion": conclusion, "run_attempt": attempt, "steps": steps}


NOT_YET = {
    "nothing has changed": [job("Deploy to prod", "skipped"), job("Plan prod", "skipped")],
    "rejected": [
        job("Plan prod", "success"),
        {**job("Deploy to prod", "failure"), "steps": []},
    ],
    "waiting for the approval": [
        job("Plan prod", "success"),
        {**job("Deploy to prod", None), "steps": []},
    ],
    "on its way": [job("Plan prod", "success"), job("Deploy to prod", None, "queued")],
    "failed before": [job("Plan prod", "success"), job("Deploy to prod", "failure", "skipped")],
    "in dev only": [job("Deploy to dev", "success", "success"), job("Plan prod", "failure")],
    "planned in a second attempt": [
        *(job("Plan prod", "failure"), job("Deploy to prod", "skipped")),
        *(job("Plan prod", "success", attempt=2), job("Deploy to prod", None, attempt=2)),
    ],
}
DEPLOYED = {
    "deployed": [job("Plan prod", "success"), job("Deploy to prod", "success", "success")],
    "tried out in vain": [job("Deploy to prod", "failure", "success")],
    "half-way": [job("Deploy to prod", "failure", "failure")],
    "being applied": [job("Deploy to prod", None, "in_progress")],
    "as it wants it": [job("Plan prod", "success"), job("Deploy to prod", "skipped")],
    "in an earlier attempt": [
        job("Deploy to prod", "success", "success"),
        job("Deploy to prod", None, attempt=2),
    ],
}


def runs(repository: Repository, newer: list[Any]) -> None:
    """Let `gh` know of three runs: 9, this one, 10, and 11 with these jobs."""
    need("jq")
    found = [{"id": 100 + n, "run_number": n, "head_sha": f"c0ffee{n}"} for n in (11, 10, 9)]
    (repository.binaries / "runs").write_text(json.dumps({"workflow_runs": found}))
    (repository.binaries / "jobs").write_text(json.dumps({"jobs": newer}))
    repository.gh(f"""
for word; do
    case "$word" in
    */actions/workflows/order-events.yml/runs[?]branch=main*event=push*) answer=runs ;;
    */actions/runs/111/jobs*) answer=jobs ;;
    esac
    filter=$word
done
jq --raw-output "$filter" "{repository.binaries}/$answer"
""")


@pytest.mark.parametrize("case", DEPLOYED)
def test_an_older_run_does_not_deploy_over_a_newer_one(repository: Repository, case: str) -> None:
    runs(repository, DEPLOYED[case])
    code, text = repository("newest", "prod")
    assert code == 1
    assert "::error::Nothing was deployed to prod: run 11 of this workflow is newer" in text
    assert "has brought prod to commit c0ffee11" in text
    assert README in text


@pytest.mark.parametrize("case", NOT_YET)
def test_a_newer_run_that_has_not_deployed_holds_up_nobody(
    repository: Repository, case: str
) -> None:
    runs(repository, NOT_YET[case])
    assert repository("newest", "prod") == (0, "")


def test_the_newest_run_deploys_and_asks_for_no_other(repository: Repository) -> None:
    runs(repository, DEPLOYED["deployed"])
    assert repository("newest", "prod", GITHUB_RUN_NUMBER="11") == (0, "")
    assert len(repository.calls()) == 1


def test_nothing_is_deployed_where_github_does_not_answer(repository: Repository) -> None:
    repository.gh("echo 502 >&2; exit 1")
    assert repository("newest", "prod")[0] == 1


def test_a_missing_environment_is_an_error(repository: Repository) -> None:
    repository.gh('case "$2" in *dev) echo branches ;; *) echo 404 >&2; exit 1 ;; esac')
    code, text = repository("environments")
    assert code == 1
    assert "::error::The environment prod does not exist." in text
    assert README in text


@pytest.mark.parametrize(
    ("rules", "warnings"),
    [
        ("required_reviewers branch_policy branches", 0),
        ("branches", 1),
        ("required_reviewers", 2),
        ("", 3),
    ],
)
def test_an_unprotected_environment_is_a_warning(
    repository: Repository, rules: str, warnings: int
) -> None:
    repository.gh(f'echo "{rules}"')
    code, text = repository("environments")
    assert code == 0
    assert text.count("::warning::") == warnings


def test_the_comment_is_written_once_and_then_updated(repository: Repository) -> None:
    (repository.service / "dist").mkdir()
    (repository.service / "dist" / "plan-dev.md").write_text("### the plan for dev\n")
    body = repository.binaries / "body"
    keep = f'for word; do case "$word" in body=@*) cp "${{word#body=@}}" "{body}" ;; esac; done'

    repository.gh(keep)
    code, text = repository("comment", PULL_REQUEST="5")
    assert (code, text) == (0, "Wrote a comment.\n")
    assert "--method POST repos/my-company/shop/issues/5/comments" in repository.calls()[-1]
    written = body.read_text()
    assert written.startswith("<!-- order-events: plans -->\n### the plan for dev\n")
    # prod's plan failed, so that is what the comment says of it.
    assert "no plan for prod" in written
    assert "https://github.com/my-company/shop/actions/runs/77" in written

    repository.gh(f'{keep}\ncase "$*" in *paginate*) echo 123; echo 456 ;; esac')
    code, text = repository("comment", PULL_REQUEST="5")
    assert (code, text) == (0, "Updated the comment.\n")
    assert "--method PATCH repos/my-company/shop/issues/comments/123" in repository.calls()[-1]


def test_two_plans_as_long_as_can_be_fit_into_one_comment(repository: Repository) -> None:
    (repository.service / "dist").mkdir()
    change = {"actions": ["create"], "after": {"name": "ü" * 60}}
    resource = {"type": "aws_sqs_queue", "address": "x", "change": change}
    for environment in ("dev", "prod"):
        plan = {"resource_changes": [resource] * 5000}
        text = summarise(plan, "ü 🚀\n" * 50_000, "order-events", environment, "https://run")
        (repository.service / "dist" / f"plan-{environment}.md").write_text(text)
    body = repository.binaries / "body"
    repository.gh(f'for w; do case "$w" in body=@*) cp "${{w#body=@}}" "{body}" ;; esac; done')
    code, said = repository("comment", PULL_REQUEST="5")
    assert code == 0, said
    written = body.read_text()
    assert 50_000 < len(written) <= GITHUB_TAKES
    assert written.count("the whole plan is [in the run](https://run)") >= 2


def test_a_rollback_ends_in_a_pull_request(repository: Repository) -> None:
    setting = "terraform/environments/prod.tfvars"
    repository.commit(f"services/order-events/{setting}")
    words = {"ACTION": "rollback", "ENV": "prod", "VERSION": "3"}
    assert repository("record", setting, **words) == (0, "main has this setting already.\n")

    (repository.service / setting).write_text('live_version = "3"\n')
    repository.gh("true")
    code, text = repository("record", setting, **words)
    assert code == 0, text
    ref, contents, pull_request = repository.calls()[:3]
    branch = "order-events/rollback-prod-77-2"
    assert f"ref=refs/heads/{branch}" in ref
    assert f"repos/my-company/shop/contents/services/order-events/{setting}" in contents
    assert "content=bGl2ZV92ZXJzaW9uID0gIjMiCg==" in contents
    assert f"pr create --head {branch} --base main" in pull_request
    assert "order-events: rollback prod to version 3" in pull_request

    repository.gh('case "$1" in pr) exit 1 ;; esac')
    code, text = repository("record", setting, **words)
    assert code == 0
    assert "::warning::The branch order-events/rollback-prod-77-2 has the setting" in text
    assert "Commit it by hand, or the next deployment takes it back" in text


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
    assert "\nevent_source_mapping_enabled = false\n" in settings.read_text()
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

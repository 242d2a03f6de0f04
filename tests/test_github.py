"""tools/github of the rendered service, with real Git and a `gh` that answers what a test says."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, need, run

# The template's folder stays clean: what is in it is rendered.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SERVICE))
from tools.deploy.summary import summarise  # noqa: E402
from tools.github.decide import has_deployed  # noqa: E402

# Characters of a comment; more gets "body is too long (maximum is 65536 characters)".
GITHUB_TAKES = 65_536
README = "https://github.com/my-company/shop/blob/main/services/order-events/README.md#delivery"
API = "repos/my-company/shop/"

# Writes down its arguments and the file behind `body=@`, then answers by the first pattern that
# its arguments contain: with the text, or by failing where that is null.
GH = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
line = " ".join(sys.argv[1:])
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(line) + "\\n")
for word in sys.argv[1:]:
    if word.startswith("body=@"):
        (here / "body").write_bytes(pathlib.Path(word[6:]).read_bytes())
for pattern, answer in json.loads((here / "answers").read_text()).items():
    if pattern in line:
        if answer is None:
            sys.exit("HTTP 502")
        print(answer)
        break
"""


@dataclass(frozen=True)
class Repository:
    """A Git repository with a service in it, and a `gh`."""

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

    def gh(self, **answers: Any) -> None:
        """Let `gh` answer with a JSON value where its arguments contain a text."""
        texts = {
            pattern.replace("__", "/"): None if answer is None else json.dumps(answer)
            for pattern, answer in answers.items()
        }
        (self.binaries / "answers").write_text(json.dumps(texts))

    def calls(self) -> list[str]:
        calls = self.binaries / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [json.loads(line) for line in lines]

    def body(self) -> str:
        """Return the text of the last comment."""
        return (self.binaries / "body").read_text(encoding="utf-8")

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a command as the workflow does; return its exit code and what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "tools.github", *arguments],
            cwd=self.service,
            env={
                "PYTHONPATH": str(SERVICE),
                "PYTHONDONTWRITEBYTECODE": "1",
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
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def changes(self, event: str, **environment: str) -> str:
        """Return the output that `changes` sets."""
        output = self.binaries / "output"
        output.write_text("")
        code, text = self("changes", GITHUB_EVENT_NAME=event, **environment)
        assert code == 0, text
        return output.read_text()

    def last_deployed(self, commit: str) -> None:
        """Let GitHub's last successful run be of a commit."""
        self.gh(status=[{"workflow_runs": [{"head_sha": commit}]}])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    need("git")
    folder, binaries = tmp_path / "repository", tmp_path / "bin"
    made = Repository(folder, folder / "services" / "order-events", binaries)
    for directory in (made.service, binaries):
        directory.mkdir(parents=True)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    (made.service / "pyproject.toml").write_text(
        '[tool.uv.sources]\ncommon = { path = "../../libs/common" }\n'
    )
    made.commit("services/order-events/handler.py")
    gh = binaries / "gh"
    gh.write_text(GH.format(python=sys.executable))
    gh.chmod(0o755)
    made.gh(api=None)
    return made


# Changes


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("services/order-events/terraform/sqs.tf", "true"),
        (".github/workflows/order-events.yml", "true"),
        (".github/workflows/other.yml", "false"),
        ("libs/common/src/common/__init__.py", "true"),
        ("libs/common-2/src/common/__init__.py", "false"),
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
    repository.last_deployed(base)
    assert repository.changes("push") == f"service={service}\n"


def test_on_main_all_changes_since_the_last_successful_deployment_count(
    repository: Repository,
) -> None:
    deployed = repository.commit("services/order-events/handler.py")
    failed = repository.commit("services/order-events/handler.py")
    repository.commit("README.md")
    repository.last_deployed(deployed)
    assert repository.changes("push") == "service=true\n"
    assert "order-events.yml/runs?branch=main&event=push&status=success" in repository.calls()[-1]
    repository.last_deployed(failed)
    assert repository.changes("push") == "service=false\n"
    # Nothing was deployed yet, or what was is gone after a force push.
    repository.gh(status=[{"workflow_runs": []}])
    assert repository.changes("push") == "service=true\n"
    repository.last_deployed("0123456789012345678901234567890123456789")
    assert repository.changes("push") == "service=true\n"


def test_nothing_is_built_for_a_rollback(repository: Repository) -> None:
    assert repository.changes("workflow_dispatch") == "service=false\n"


def test_a_run_started_by_hand_from_another_branch_is_refused(repository: Repository) -> None:
    branch = {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF": "refs/heads/feature/x"}
    code, text = repository("changes", **branch)
    assert code == 1
    assert "::error::Nothing was done: this run was started from feature/x" in text
    assert "only main may deploy" in text


@pytest.mark.parametrize("tool", ["git", "gh"])
def test_a_missing_tool_is_named(repository: Repository, tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {"git", "gh"} - {tool}:
        (tools / name).symlink_to(str(shutil.which(name) or repository.binaries / name))
    path = {"PATH": str(tools)}
    command = ("role", "X", "y") if tool == "git" else ("newest", "prod")
    code, text = repository(*command, **path, ROLE="")
    assert (code, text.count("\n")) == (1, 1)
    assert f"::error::{tool} is missing on this runner: install it" in text


def test_an_unknown_command_lists_the_commands(repository: Repository) -> None:
    code, text = repository("deploy")
    assert code == 1
    assert "newest ENVIRONMENT" in text


# Roles and environments


def test_a_missing_role_is_named_with_its_place_and_the_readme(repository: Repository) -> None:
    where = "the variables of the environment prod"
    code, text = repository("role", "AWS_DEPLOY_ROLE", where, ROLE="")
    assert code == 1
    assert f"::error::AWS_DEPLOY_ROLE is not set in {where}" in text
    assert README in text
    assert repository("role", "AWS_DEPLOY_ROLE", where, ROLE="arn:aws:iam::1:role/x") == (0, "")


def test_a_missing_environment_is_an_error(repository: Repository) -> None:
    repository.gh(environments__dev={"deployment_branch_policy": {}}, environments__prod=None)
    code, text = repository("environments")
    assert code == 1
    assert "HTTP 502" in text
    assert "::error::The environment prod does not exist." in text
    assert README in text


REVIEWED = {"protection_rules": [{"type": "required_reviewers"}]}
BRANCHES = {"deployment_branch_policy": {"protected_branches": True}}


@pytest.mark.parametrize(
    ("rules", "warnings"),
    [({**REVIEWED, **BRANCHES}, 0), (BRANCHES, 1), (REVIEWED, 2), ({}, 3)],
)
def test_an_unprotected_environment_is_a_warning(
    repository: Repository, rules: dict[str, Any], warnings: int
) -> None:
    repository.gh(environments=rules)
    code, text = repository("environments")
    assert code == 0
    assert text.count("::warning::") == warnings


# Newer runs


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
    "smoke test failed": [job("Deploy to prod", "failure", "success")],
    "half-way": [job("Deploy to prod", "failure", "failure")],
    "being applied": [job("Deploy to prod", None, "in_progress")],
    "nothing to apply": [job("Plan prod", "success"), job("Deploy to prod", "skipped")],
    "in an earlier attempt": [
        job("Deploy to prod", "success", "success"),
        job("Deploy to prod", None, attempt=2),
    ],
}


@pytest.mark.parametrize("case", DEPLOYED)
def test_a_run_that_began_to_apply_or_had_nothing_to_apply_has_deployed(case: str) -> None:
    assert has_deployed(DEPLOYED[case], "prod")


@pytest.mark.parametrize("case", NOT_YET)
def test_a_run_that_never_began_to_apply_has_not_deployed(case: str) -> None:
    assert not has_deployed(NOT_YET[case], "prod")


def runs(repository: Repository, newer: list[Any]) -> None:
    """Let `gh` know of three runs on two pages: 9, this one, 10, and 11 with these jobs."""
    found = [{"id": 100 + n, "run_number": n, "head_sha": f"c0ffee{n}"} for n in (11, 10, 9)]
    repository.gh(
        runs__111__jobs=[{"jobs": newer[:1]}, {"jobs": newer[1:]}],
        runs=[{"workflow_runs": found[:1]}, {"workflow_runs": found[1:]}],
    )


def test_an_older_run_does_not_deploy_over_a_newer_one(repository: Repository) -> None:
    runs(repository, DEPLOYED["nothing to apply"])
    code, text = repository("newest", "prod")
    assert code == 1
    assert "::error::Nothing was deployed to prod: run 11 of this workflow is newer" in text
    assert "has brought prod to commit c0ffee11" in text
    assert README in text


def test_a_newer_run_that_has_not_deployed_holds_up_nobody(repository: Repository) -> None:
    runs(repository, NOT_YET["rejected"])
    assert repository("newest", "prod") == (0, "")


def test_the_newest_run_deploys_and_asks_for_no_other(repository: Repository) -> None:
    runs(repository, DEPLOYED["deployed"])
    assert repository("newest", "prod", GITHUB_RUN_NUMBER="11") == (0, "")
    assert len(repository.calls()) == 1


def test_nothing_is_deployed_where_github_does_not_answer(repository: Repository) -> None:
    code, text = repository("newest", "prod")
    assert code == 1
    assert "HTTP 502" in text
    assert "::error::`gh api repos/my-company/shop/actions/workflows" in text


# The comment and the pull request


def test_the_comment_is_written_once_and_then_updated(repository: Repository) -> None:
    (repository.service / "dist").mkdir()
    (repository.service / "dist" / "plan-dev.md").write_text("### the plan for dev\n")
    repository.gh(paginate=[[]], POST={})
    assert repository("comment", PULL_REQUEST="5") == (0, "Wrote a comment.\n")
    assert f"{API}issues/5/comments --method POST" in repository.calls()[-1]
    written = repository.body()
    assert written.startswith("<!-- order-events: plans -->\n### the plan for dev\n")
    # prod's plan failed, so that is what the comment says of it.
    assert "no plan for prod" in written
    assert "https://github.com/my-company/shop/actions/runs/77" in written

    bot, person = {"type": "Bot"}, {"type": "User"}
    marked = "<!-- order-events: plans -->\n…"
    others = [{"id": 1, "user": person, "body": marked}, {"id": 2, "user": bot, "body": "hello"}]
    own = [{"id": 123, "user": bot, "body": marked}, {"id": 456, "user": bot, "body": marked}]
    repository.gh(paginate=[others, own], PATCH={})
    assert repository("comment", PULL_REQUEST="5") == (0, "Updated the comment.\n")
    assert f"{API}issues/comments/123 --method PATCH" in repository.calls()[-1]


def test_two_plans_as_long_as_can_be_fit_into_one_comment(repository: Repository) -> None:
    (repository.service / "dist").mkdir()
    change = {"actions": ["create"], "after": {"name": "ü" * 60}}
    resource = {"type": "aws_sqs_queue", "address": "x", "change": change}
    for environment in ("dev", "prod"):
        plan = {"resource_changes": [resource] * 5000}
        text = summarise(plan, "ü 🚀\n" * 50_000, "order-events", environment, "https://run")
        (repository.service / "dist" / f"plan-{environment}.md").write_text(text)
    repository.gh(paginate=[[]], POST={})
    code, said = repository("comment", PULL_REQUEST="5")
    assert code == 0, said
    written = repository.body()
    assert 50_000 < len(written) <= GITHUB_TAKES
    assert written.count("the whole plan is [in the run](https://run)") >= 2


SETTING = "terraform/environments/prod.tfvars"


def test_a_rollback_ends_in_a_pull_request(repository: Repository) -> None:
    repository.commit(f"services/order-events/{SETTING}")
    words = {"ACTION": "rollback", "ENV": "prod", "VERSION": "3"}
    assert repository("record", SETTING, **words) == (0, "main has this setting already.\n")

    (repository.service / SETTING).write_text('live_version = "3"\n')
    repository.gh(api={}, pr="https://github.com/my-company/shop/pull/8")
    code, text = repository("record", SETTING, **words)
    assert code == 0, text
    ref, contents, pull_request = repository.calls()[:3]
    branch = "order-events/rollback-prod-77-2"
    assert f"ref=refs/heads/{branch}" in ref
    assert f"{API}contents/services/order-events/{SETTING} --method PUT" in contents
    assert "content=bGl2ZV92ZXJzaW9uID0gIjMiCg==" in contents
    assert f"pr create --head {branch} --base main" in pull_request
    assert "order-events: rollback prod to version 3" in pull_request

    repository.gh(api={}, pr=None)
    code, text = repository("record", SETTING, **words)
    assert code == 0
    assert f"::warning::The branch {branch} has the setting" in text
    assert "Commit it by hand, or the next deployment takes it back" in text


# The workflow's copy


def service_at(repository: Repository, service_path: str) -> None:
    (repository.service / "pyproject.toml").write_text(
        '[project]\nname = "order-events"\n'
        f'[tool.cookiecutter-lambda-python]\nservice_path = "{service_path}"\n'
    )
    source = repository.service / ".github" / "workflows" / "order-events.yml"
    source.parent.mkdir(parents=True)
    source.write_text("name: order-events\n")


def test_the_copy_is_made_and_compared(repository: Repository) -> None:
    service_at(repository, "services/order-events")
    copy = repository.folder / ".github" / "workflows" / "order-events.yml"
    code, text = repository("check-workflow")
    assert (code, text.count("\n")) == (1, 1)
    assert "is missing or differs" in text
    assert "run `make workflow` and commit it" in text
    code, text = repository("workflow")
    assert (code, text) == (0, f"Copied .github/workflows/order-events.yml to {copy}.\n")
    assert copy.read_text() == "name: order-events\n"
    assert repository("check-workflow") == (0, "")
    copy.write_text("name: another\n")
    assert repository("check-workflow")[0] == 1


def test_in_a_repository_of_its_own_there_is_nothing_to_copy(repository: Repository) -> None:
    service_at(repository, ".")
    assert repository("check-workflow") == (0, "")
    code, text = repository("workflow")
    assert code == 0
    assert "Nothing to copy" in text
    assert not (repository.folder / ".github").exists()


def test_outside_a_repository_the_copy_waits(repository: Repository) -> None:
    service_at(repository, "services/order-events")
    shutil.rmtree(repository.folder / ".git")
    code, text = repository("workflow")
    assert code == 1
    assert "in no Git repository yet" in text
    assert repository("check-workflow")[0] == 0

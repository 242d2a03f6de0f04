"""The workflows, the rendered ones and the template's own: valid, safe, thin, and never hanging."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from combinations import pairwise
from conftest import TEMPLATE, Render, need, run
from test_git import commit, git
from tools.github.__main__ import COMMANDS

BIN = Path(sys.executable).parent

# GitHub's own language service, with what it depends on; it has the parser that GitHub runs.
LANGUAGE_SERVICE = (
    *("@actions/languageservice@0.3.61", "@actions/workflow-parser@0.3.61"),
    *("@actions/expressions@0.3.61", "yaml@2.9.1", "cronstrue@2.61.0"),
    *("vscode-languageserver-textdocument@1.0.16", "vscode-languageserver-types@3.18.5"),
    "vscode-uri@3.2.0",
)

USES = re.compile(
    r"uses: (?P<action>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)"
)
# What comes after the slug in a workflow's name.
SUFFIXES = ("", "-operate", "-upgrade")
# The path of a service in a monorepo, in combinations.py.
MONOREPO = "services/order-events"
# Of the workflows, in this order, and of the action.
MOST_LINES = (300, 100, 60, 60)


@pytest.fixture(scope="module")
def rendered(render: Render) -> list[Path]:
    """Return the service of every combination of answers."""
    return [render(**answers) for answers in pairwise()]


def workflow_of(service: Path, suffix: str = "") -> Path:
    every = (service / ".github" / "workflows").iterdir()
    delivery = min(every, key=lambda path: len(path.name))
    return delivery.with_stem(delivery.stem + suffix)


def action_of(service: Path) -> Path:
    return service / ".github" / "actions" / "setup" / "action.yml"


def files_of(service: Path) -> list[Path]:
    """Return the service's workflows, and its action."""
    return [*(workflow_of(service, suffix) for suffix in SUFFIXES), action_of(service)]


@pytest.fixture
def workflow(render: Render) -> dict[str, Any]:
    return load(workflow_of(render()))


@pytest.fixture
def operate(render: Render) -> dict[str, Any]:
    return load(workflow_of(render(), "-operate"))


@pytest.fixture
def workflows(render: Render) -> list[dict[str, Any]]:
    return [load(workflow_of(render(), suffix)) for suffix in SUFFIXES]


def jobs_of(workflows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return all jobs of workflows; no two have the same name."""
    jobs = [named for workflow in workflows for named in workflow["jobs"].items()]
    assert len(dict(jobs)) == len(jobs)
    return dict(jobs)


def load(path: Path) -> dict[str, Any]:
    parsed: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if True in parsed:
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


def test_both_computes_have_the_same_workflows_but_for_what_is_built(render: Render) -> None:
    texts = {
        compute: "".join(
            path.read_text(encoding="utf-8") for path in files_of(render(compute=compute))
        )
        for compute in ("lambda", "fargate")
    }
    built = {"lambda": "  ARTIFACT: lambda.zip\n", "fargate": "  ARTIFACT: image.tar\n"}
    (registry,) = re.findall(r" +- if: .*\n +run: exec .* make registry .*\n", texts["fargate"])
    same = texts["fargate"].replace(registry, "").replace(built["fargate"], built["lambda"])
    assert same == texts["lambda"]
    for compute, line in built.items():
        assert line in texts[compute]
        makefile = (render(compute=compute) / "Makefile").read_text(encoding="utf-8")
        assert f"\ndist/{line.split()[1]}: " in makefile


def test_each_file_is_read_in_a_sitting(rendered: list[Path]) -> None:
    for service in rendered:
        for path, most in zip(files_of(service), MOST_LINES, strict=True):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= most, path.name


# What checkers say


def test_zizmor_finds_nothing(rendered: list[Path]) -> None:
    assert zizmor(*(service / ".github" for service in rendered)) == ""
    assert zizmor(TEMPLATE / ".github") == ""


def test_the_schemas_find_nothing(rendered: list[Path]) -> None:
    workflows = [path for service in rendered for path in files_of(service)[:-1]]
    assert breaks_schema("vendor.github-workflows", *workflows, *own()) == ""
    assert breaks_schema("vendor.github-actions", *map(action_of, rendered)) == ""
    settings = [service / ".github" / "dependabot.yml" for service in rendered]
    settings = [path for path in settings if path.exists()]
    template = TEMPLATE / ".github" / "dependabot.yml"
    assert breaks_schema("vendor.dependabot", template, *settings) == ""


@pytest.fixture(scope="module")
def language_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install GitHub's language service; return the script that asks it."""
    need("node")
    need("npm")
    folder = tmp_path_factory.mktemp("language-service")
    options = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
    run("npm", "install", *options, "--prefix", folder, *LANGUAGE_SERVICE, cwd=folder)
    return Path(shutil.copy(Path(__file__).with_name("language_service.mjs"), folder))


def findings(script: Path, *services: Path, service_path: str = ".") -> list[str]:
    """Return what GitHub's language service finds in the files of services.

    Those that differ only in slug, region or runner are looked at once.
    """
    up = ["."] if service_path == "." else [".."] * len(service_path.split("/"))
    texts = {}
    for service in services:
        slug = workflow_of(service).stem
        for path in files_of(service):
            text = path.read_text(encoding="utf-8").replace(slug, "slug")
            text = text.replace("-arm'", "'").replace("us-gov-west-1", "us-east-1")
            texts[path.name.replace(slug, ""), text] = f"{service.joinpath(*up)}:{path}"
    found: list[str] = json.loads(run("node", script, *texts.values(), cwd=script.parent).stdout)
    return found


@pytest.mark.slow
def test_githubs_language_service_finds_nothing(
    language_service: Path, rendered: list[Path], tmp_path: Path
) -> None:
    alone, in_monorepo = [], []
    for number, service in enumerate(rendered):
        if f'"{MONOREPO}"' not in workflow_of(service).read_text(encoding="utf-8"):
            alone.append(service)
        else:
            there = tmp_path / str(number) / MONOREPO
            shutil.copytree(service / ".github", there / ".github")
            in_monorepo.append(there)
    assert alone
    assert findings(language_service, *alone) == []
    assert findings(language_service, *in_monorepo, service_path=MONOREPO) == []
    pairs = [f"{TEMPLATE}:{path}" for path in own()]
    assert run("node", language_service, *pairs, cwd=language_service.parent).stdout == "[]\n"


# Each check has to find what it is there for: the file by its place in files_of().
FAULTS = {
    "credentials that stay": (0, "          persist-credentials: false\n", ""),
    "an action without a commit": (1, USES, r"uses: \g<action>@v1"),
    "an action's action without a commit": (3, USES, r"uses: \g<action>@v1"),
    "untrusted text in a shell line": (
        *(0, "      - run: make e2e\n"),
        '      - run: echo "${{ github.event.pull_request.title }}"\n',
    ),
    "an input in an action's shell line": (3, '"$VARIABLE"', '"${{ inputs.variable }}"'),
    "too many rights": (2, "permissions: {}\n", "permissions: write-all\n"),
}


def plant(service: Path, place: int, old: str | re.Pattern[str], new: str) -> Path:
    path = files_of(service)[place]
    text = path.read_text(encoding="utf-8")
    broken = re.sub(old if isinstance(old, re.Pattern) else re.escape(old), new, text, count=1)
    assert broken != text
    path.write_text(broken, encoding="utf-8")
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_zizmor_finds_a_planted_fault(fresh: Render, fault: str) -> None:
    service = fresh()
    path = plant(service, *FAULTS[fault])
    assert path.name in zizmor(service / ".github")


def test_the_schemas_find_a_planted_fault(fresh: Render) -> None:
    service = fresh()
    path = plant(service, 0, "runs-on:", "run-on:")
    assert "run-on" in breaks_schema("vendor.github-workflows", path)
    path = plant(service, 3, "using: composite", "using: compost")
    assert "compost" in breaks_schema("vendor.github-actions", path)


NAMES = {
    "an output that no job has": (0, "needs.check.outputs.sha256", "needs.check.outputs.sha"),
    "a job that isn't needed": (0, "needs: [changes, check, plan-prod]", "needs: [changes, check]"),
    "an input of no workflow": (1, "${{ inputs.action }}", "${{ inputs.acton }}"),
    "an input of no action": (0, "          variable: ", "          varable: "),
    "an action that isn't there": (2, "$/.github/actions/setup", "$/.github/actions/start"),
    "an action's step without a shell": (3, "      shell: bash\n", ""),
    "an action's key that isn't one": (3, "      run: ", "      runs: "),
}


@pytest.mark.slow
def test_githubs_language_service_finds_planted_faults(
    language_service: Path, fresh: Render
) -> None:
    planted = {}
    for fault, change in NAMES.items():
        service = fresh()
        planted[fault] = service, plant(service, *change)
    found = findings(language_service, *(service for service, _ in planted.values()))
    for fault, (_, path) in planted.items():
        assert any(finding.startswith(f"{path}:") for finding in found), fault
    paths = tuple(f"{path}:" for _, path in planted.values())
    assert [finding for finding in found if not finding.startswith(paths)] == []


def test_the_action_has_the_inputs_that_it_uses(render: Render) -> None:
    path = action_of(render())
    used = set(re.findall(r"inputs\.([a-z]+)", path.read_text(encoding="utf-8")))
    assert used == set(load(path)["inputs"])


# What the files say


def test_every_action_is_pinned_and_everywhere_to_the_same_commit(rendered: list[Path]) -> None:
    pins: dict[str, set[tuple[str, str]]] = {}
    for path in [*files_of(rendered[0]), *own()]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line and ' "$/' not in line:
                found = USES.search(line)
                assert found, f"{path.name}: not pinned by commit, with the version: {line}"
                pins.setdefault(found["action"], set()).add((found["commit"], found["version"]))
    assert {action: pin for action, pin in pins.items() if len(pin) > 1} == {}


def test_one_check_reports_on_every_pull_request(workflow: dict[str, Any]) -> None:
    """A required check must always report, or be skipped, which counts as success."""
    jobs = workflow["jobs"]
    passed = jobs["passed"]
    assert set(passed["needs"]) == {"changes", "check", "plan"}
    # It is skipped only where there was nothing to do, never because another job failed.
    assert passed["if"] == (
        "always() && contains("
        """fromJSON('["pull_request", "merge_group", "workflow_dispatch"]'), github.event_name) """
        "&& !(needs.changes.result == 'success' && needs.changes.outputs.service == 'false')"
    )
    # The slug is in its name: in a monorepo every service has one. Of a skipped job, GitHub may not
    # evaluate the name.
    assert passed["name"] == "order-events passed"
    # A path filter would leave the required check waiting for ever.
    for event in ("pull_request", "merge_group", "push"):
        assert "paths" not in (workflow["on"][event] or {})


def test_a_pull_request_reads_only(workflow: dict[str, Any]) -> None:
    """No job of a pull request enters an environment or names a role that may write."""
    jobs = workflow["jobs"]
    for name in ("changes", "check", "plan", "passed"):
        assert "environment" not in jobs[name], name
        assert "AWS_DEPLOY_ROLE" not in json.dumps(jobs[name]), name
        assert "AWS_MAIN_PLAN_ROLE_PROD" not in json.dumps(jobs[name]), name
    condition = "github.event_name == '{}' && needs.changes.outputs.deploy == 'true'"
    assert jobs["plan"]["if"] == condition.format("pull_request")
    assert jobs["deploy-dev"]["if"] == condition.format("push")
    assert "deploy-dev" in jobs["plan-prod"]["needs"]
    assert jobs["deploy-prod"]["if"] == (
        "!failure() && !cancelled() && (github.event_name == 'workflow_dispatch' || "
        "needs.plan-prod.outputs.changes == 'true' "
        """&& contains(fromJSON('["reviewers", "none"]'), needs.changes.outputs.approval))"""
    )
    assert makes(jobs["plan"]) == ["plan READ_ONLY=1 ENV=dev", "plan READ_ONLY=1 ENV=prod"]


def makes(job: dict[str, Any]) -> list[str]:
    """Return what a job's steps make."""
    steps = [step.get("run", "").partition("make ") for step in job["steps"]]
    return [target for _, make, target in steps if make]


def test_what_main_does_comes_in_this_order(workflow: dict[str, Any]) -> None:
    jobs = workflow["jobs"]
    assert "check" in jobs["deploy-dev"]["needs"]
    assert "deploy-dev" in jobs["plan-prod"]["needs"]
    assert "plan-prod" in jobs["deploy-prod"]["needs"]
    assert makes(jobs["deploy-dev"]) == ["plan", "apply", "smoke"]
    assert makes(jobs["plan-prod"]) == ["plan READ_ONLY=1", "save-plan"]
    assert makes(jobs["deploy-prod"]) == ["fetch-plan", "apply", "smoke", "forget-plan"]
    # What is approved is what was planned, with the package that was tested.
    environment = jobs["deploy-prod"]["env"]
    shown = "needs.plan-prod.outputs.sha256 || needs.changes.outputs.plan"
    assert environment["PLAN_SHA256"] == f"${{{{ {shown} }}}}"
    assert environment["PLAN_RUN"] == "${{ needs.changes.outputs.run }}"
    for name in ("plan", "deploy-dev", "plan-prod", "deploy-prod"):
        assert jobs[name]["env"]["PACKAGE_SHA256"] == "${{ needs.check.outputs.sha256 }}"
    (checkout, package) = jobs["deploy-prod"]["steps"][:2]
    assert checkout["with"]["ref"] == "${{ needs.changes.outputs.commit }}"
    assert package["with"]["run-id"] == "${{ env.PLAN_RUN }}"


def test_what_is_attested_is_what_was_built(workflow: dict[str, Any]) -> None:
    """By its hash: an artifact could have been replaced."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    (attest,) = [step for step in steps if "attest" in step.get("uses", "")]
    assert attest["with"] == {
        "subject-name": "${{ env.ARTIFACT }}",
        "subject-digest": "sha256:${{ needs.check.outputs.sha256 }}",
    }


def test_only_one_deployment_to_an_environment_at_a_time(
    workflow: dict[str, Any], operate: dict[str, Any]
) -> None:
    jobs = workflow["jobs"]
    groups = {name: job["concurrency"] for name, job in jobs.items() if "concurrency" in job}
    assert groups == {
        "deploy-dev": "${{ github.workflow }}-dev",
        # A plan for prod waits until the deployment before it has been decided.
        "plan-prod": "${{ github.workflow }}-prod",
        "deploy-prod": "${{ github.workflow }}-prod",
    }
    # A rollback waits behind no deployment that nobody approves: what keeps them apart is the lock.
    assert operate["concurrency"]["group"] == "${{ github.workflow }}-${{ github.run_id }}"
    assert "concurrency" not in operate["jobs"]["operate"]
    for environment in (workflow["env"], operate["env"]):
        assert environment["TF_CLI_ARGS_plan"] == "-lock-timeout=10m"
        assert environment["TF_CLI_ARGS_apply"] == "-lock-timeout=10m"
    # On main the workflow's own group has one run in it, so nothing there is cancelled.
    assert workflow["concurrency"]["group"].endswith("pull_request.number || github.run_id }}")


def test_without_environments_none_is_named(
    workflow: dict[str, Any], operate: dict[str, Any]
) -> None:
    """As in private repositories on GitHub Free; jobs without one have an empty name of it."""
    for environment, name in (("dev", "deploy-dev"), ("prod", "deploy-prod")):
        job, variable = workflow["jobs"][name], f"vars.AWS_DEPLOY_ROLE_{environment.upper()}"
        assert job["environment"] == f"${{{{ !{variable} && '{environment}' || '' }}}}"
        assert f"vars.AWS_DEPLOY_ROLE || {variable} " in json.dumps(job["steps"])
    # What needs no approval names no environment, and gets no role of a deployment.
    asked = "(inputs.all || inputs.action == 'init')"
    job = operate["jobs"]["operate"]
    assert job["environment"].startswith(f"${{{{ {asked} && !vars.AWS_DEPLOY_ROLE_PROD && ")
    # `tools.github operate` decides by the same on the role.
    (setup,) = [step for step in job["steps"] if step.get("id") == "setup"]
    decided = {key: f"${{{{ steps.allowed.outputs.{key} }}}}" for key in ("variable", "role")}
    assert setup["with"] == decided


def test_packages_are_installed_before_there_are_credentials(
    render: Render, workflows: list[dict[str, Any]]
) -> None:
    steps = load(action_of(render()))["runs"]["steps"]
    names = [step.get("uses", step.get("run", "")).split("@")[0] for step in steps]
    assert names == [
        'python3 -m tools.github role "$VARIABLE"',
        "actions/setup-python",
        "make install",
        "aws-actions/configure-aws-credentials",
    ]
    for workflow in workflows:
        for name, job in workflow["jobs"].items():
            lock = {**workflow.get("env", {}), **job.get("env", {})}.get("REQUIREMENTS")
            setups = [step.get("with", {}) for step in job["steps"] if "uses" in step]
            signed_in = any("variable" in given for given in setups)
            assert not signed_in or lock == "requirements-deploy.txt", name
    assert "REQUIREMENTS" not in workflows[0]["jobs"]["check"].get("env", {})
    assert "REQUIREMENTS" not in workflows[0]["env"]


def test_artifacts_are_kept_for_days_and_may_be_replaced(workflows: list[dict[str, Any]]) -> None:
    uploads = {
        step["with"]["name"]: step["with"]
        for job in jobs_of(workflows).values()
        for step in job["steps"]
        if "upload-artifact" in step.get("uses", "")
    }
    assert {name: upload["retention-days"] for name, upload in uploads.items()} == {
        "${{ github.workflow }}-package": "${{ github.event_name == 'push' && 30 || 3 }}",
        "settings": 3,
    }
    assert all(upload["overwrite"] for upload in uploads.values())


RIGHTS = {
    "plan": {"id-token", "pull-requests"},
    "deploy-dev": {"id-token", "attestations"},
    "plan-prod": {"id-token"},
    "deploy-prod": {"id-token"},
    "operate": {"id-token"},
    "record": {"contents", "pull-requests"},
    "upgrade": {"contents", "pull-requests"},
}


def test_rights_are_few_and_given_per_job(workflows: list[dict[str, Any]]) -> None:
    assert [workflow["permissions"] for workflow in workflows] == [{}, {}, {}]
    for name, job in jobs_of(workflows).items():
        rights = job.get("permissions", {})
        writes = {right for right, level in rights.items() if level == "write"}
        assert writes == RIGHTS.get(name, set()), name
        checks_out = "actions/checkout" in str(job)
        expected = "write" if "contents" in writes else "read" if checks_out else None
        assert rights.get("contents") == expected, name


def test_no_job_runs_for_ever(workflows: list[dict[str, Any]]) -> None:
    for name, job in jobs_of(workflows).items():
        assert 5 <= job["timeout-minutes"] <= 60, name
        # What holds the state's lock is interrupted while there is time to unlock it.
        for step in job["steps"]:
            if step.get("name") == "Apply" or "$ACTION" in step.get("run", ""):
                assert "exec timeout --verbose --signal=INT " in step["run"]


def test_what_is_deployed_is_tested_where_it_can_run(render: Render) -> None:
    for architecture, label in (("arm64", "ubuntu-24.04-arm"), ("x86_64", "ubuntu-24.04")):
        service = render(architecture=architecture)
        jobs = jobs_of([load(workflow_of(service, suffix)) for suffix in SUFFIXES])
        runners = {name: job["runs-on"] for name, job in jobs.items()}
        assert runners.pop("check") == f"${{{{ vars.RUNNER || '{label}' }}}}"
        assert set(runners.values()) == {"${{ vars.RUNNER || 'ubuntu-24.04' }}"}


def test_operating_has_the_files_of_the_deployed_commit_where_a_runner_is_used_again(
    workflow: dict[str, Any], operate: dict[str, Any], tmp_path: Path
) -> None:
    """A runner of one's own keeps the clone: deliveries leave one with the files of one commit."""
    origin, workspace = tmp_path / "origin", tmp_path / "workspace"
    for folder in (origin, workspace):
        folder.mkdir()
    (origin / "handler.py").write_text("# deployed\n")
    commit(origin)
    git(origin, "config", "uploadpack.allowFilter", "true")
    (origin / "handler.py").write_text("# newer\n")
    git(origin, "commit", "--quiet", "--all", "--message=Second")
    for job in (workflow["jobs"]["deploy-dev"], operate["jobs"]["operate"]):
        for step in job["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                break
            run("bash", "-ec", step["run"], cwd=workspace / step["working-directory"])
        # As actions/checkout does it: in the clone that is there, if there is one.
        options = [f"--filter={step['with']['filter']}"] if "filter" in step["with"] else []
        if not (workspace / ".git").exists():
            git(workspace, "init", "--quiet")
            git(workspace, "remote", "add", "origin", f"file://{origin}")
        git(workspace, "fetch", "--quiet", *options, "origin")
        git(workspace, "checkout", "--quiet", "--force", "--detach", "origin/main")
    # Its credentials are gone after that, so nothing can be fetched later.
    git(workspace, "remote", "set-url", "origin", "file:///nowhere")
    assert git(workspace, "show", "HEAD^:handler.py") == "# deployed\n"


def test_the_default_branch_is_named_once(workflow: dict[str, Any], render: Render) -> None:
    """What another default branch needs is a change of this line."""
    assert workflow["on"]["push"] == {"branches": ["main", "master"]}
    texts = [path.read_text(encoding="utf-8") for path in files_of(render())]
    lines = [line.partition("#")[0] for text in texts for line in text.splitlines()]
    assert len([line for line in lines if re.search(r"\b(main|master)\b", line)]) == 1


def test_no_expression_stands_in_a_shell_line(rendered: list[Path]) -> None:
    for path in [*files_of(rendered[0]), *own()]:
        parsed = load(path)
        jobs = parsed.get("jobs") or {"action": parsed["runs"]}
        for name, job in jobs.items():
            for step in job["steps"]:
                assert "${{" not in step.get("run", ""), f"{path.name}: {name}"


def test_what_make_is_asked_for_exists(render: Render, workflows: list[dict[str, Any]]) -> None:
    makefile = (render() / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z0-9 -]+):", makefile, re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    for job in jobs_of(workflows).values():
        for words in map(str.split, makes(job)):
            asked = {word for word in words if "=" not in word and "$" not in word}
            assert asked <= targets, words
    inputs = workflows[1]["on"]["workflow_dispatch"]["inputs"]
    assert set(inputs["action"]["options"]) <= targets


def test_what_tools_are_asked_for_exists(workflows: list[dict[str, Any]], render: Render) -> None:
    action = {"action": load(action_of(render()))["runs"]}
    lines = [
        step.get("run", "")
        for job in {**jobs_of(workflows), **action}.values()
        for step in job["steps"]
    ]
    asked = {line.split()[3] for line in lines if "tools.github" in line}
    # The rest is for make.
    assert asked | {"workflow", "check-workflow"} == set(COMMANDS)


def test_make_check_is_all_that_the_workflow_checks_in_its_order(
    render: Render, workflow: dict[str, Any]
) -> None:
    """The steps stay apart in the workflow, so that GitHub shows which one failed."""
    need("make")
    lines = makes(workflow["jobs"]["check"])
    (check,) = re.findall(r"^check: (.*) ## ", (render() / "Makefile").read_text("utf-8"), re.M)
    assert lines == [*check.split(), '"dist/$ARTIFACT" sbom']
    recipe = run("make", "--dry-run", "-j4", "check", cwd=render()).stdout
    order = ("ruff check", "mypy", "tests/unit", "validate", "checkov", "zizmor", "tests/e2e")
    places = [recipe.index(word) for word in order]
    assert places == sorted(places)


def test_slug_path_and_region_arrive(render: Render) -> None:
    service = render(service_path="services/on", project_slug="on", aws_region="us-gov-west-1")
    for suffix in SUFFIXES:
        path = workflow_of(service, suffix)
        assert path.name == f"on{suffix}.yml"
        parsed = load(path)
        assert parsed["name"] == f"on{suffix}"
        assert parsed["defaults"]["run"]["working-directory"] == "services/on"
        assert '"$/services/on/.github/actions/setup"' in path.read_text(encoding="utf-8")
    assert load(workflow_of(service))["env"]["SERVICE_PATH"] == "services/on"
    steps = load(action_of(service))["runs"]["steps"]
    assert {step.get("working-directory", "services/on") for step in steps} == {"services/on"}
    assert steps[-1]["with"]["aws-region"] == "us-gov-west-1"

"""terraform/bootstrap/README.md, run from end to end: on each plan of GitHub, no step fails.

`gh` is a stand-in that has what the plan has, and keeps what it is asked for. GitHub's description
of its API says whether that is right: see scripts/github_requests.py.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, TEMPLATE
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

README = TEMPLATE / "terraform" / "bootstrap" / "README.md"
REQUESTS = json.loads((TEMPLATE / "tests" / "github_requests.json").read_text(encoding="utf-8"))
REPOSITORY = "my-company/order-events"

# What the README marks the commands with that are for a plan.
PLANS = {
    "public": "Public",
    "enterprise": "Enterprise Cloud",
    "team": "Pro or Team",
    "free": "Free",
}

GH = f"""#!{sys.executable}
import json, os, sys
words, plan = sys.argv[1:], os.environ["PLAN"]
body = sys.stdin.read() if "--input" in words else ""
log = open(os.environ["GH_LOG"], "a+")
log.seek(0)
before = log.read()
path = next((word for word in words if word.startswith(("repos/", "users/"))), "")
environment = words[words.index("--env") + 1] if "--env" in words else ""
# Environments and deployment branches: no private repository on Free; required reviewers and
# rulesets: see the pages that the README links.
if "/environments" in path and plan == "free":
    sys.exit("HTTP 404: Not Found")
if '"reviewers"' in body and plan not in ("public", "enterprise"):
    sys.exit("HTTP 422: Failed to create the environment protection rule")
if path.endswith("/rulesets") and plan == "free":
    sys.exit("HTTP 403: Upgrade to GitHub Pro or make this repository public")
if environment and f"/environments/{{environment}}\\"" not in before:
    sys.exit(f"HTTP 404: there is no environment {{environment}}")
log.write(json.dumps({{"words": words, "body": body}}) + "\\n")
if "--jq" in words:
    print(4711)
"""
TERRAFORM = """#!/bin/sh
case "$*" in
  "output -raw github_commands")
    set_="gh variable set AWS_DEPLOY_ROLE"
    if [ "$PLAN" = free ]; then echo "${set_}_PROD --repo my-company/order-events --body arn"
    else echo "$set_ --repo my-company/order-events --env prod --body arn"; fi ;;
esac
"""


def commands(plan: str) -> str:
    """Return the README's commands that are for a plan: those that nothing else is said of, too."""
    text = README.read_text(encoding="utf-8").partition("## Step by step")[2]
    label, found = "", []
    for part in re.findall(r"(?m)^#+ .*|^\*\*[^*]+\*\*|^```sh\n(?:.*\n)*?```$", text):
        if part.startswith("```"):
            found += [part[6:-3]] if not label or PLANS[plan] in label else []
        else:
            label = "" if part.startswith("#") else part
    return "\n".join(found)


def followed(plan: str, folder: Path) -> list[dict[str, Any]]:
    """Run them all, as one would; return what gh was asked for."""
    programs, log = folder / "bin", folder / "log"
    (folder / "work" / ".github").mkdir(parents=True)
    programs.mkdir()
    nothing = dict.fromkeys(("cookiecutter", "git", "make"), "#!/bin/sh\n")
    for name, text in {"gh": GH, "terraform": TERRAFORM, **nothing}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-euc", f"cd() {{ :; }}\n{commands(plan)}"],
        cwd=folder / "work",
        env={
            **os.environ,
            **{"PATH": f"{programs}:{os.environ['PATH']}", "PLAN": plan, "GH_LOG": str(log)},
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


def requests(asked: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
    """Return method, path and body of each request to the API."""
    found = []
    for one in asked:
        program, *words = one["words"]
        if program != "api":
            continue
        method = words[words.index("--method") + 1] if "--method" in words else "GET"
        fields = {}
        for flag, word in itertools.pairwise(words):
            name, _, value = word.partition("=")
            if flag == "-f":
                fields[name] = value
            if flag == "-F":  # a number, true, false or null
                fields[name] = json.loads(value)
        path = next(word for word in words if word.startswith(("repos/", "users/")))
        found.append((method, path, json.loads(one["body"]) if one["body"] else fields))
    return found


def wrong(body: Any, method: str, path: str) -> str | None:
    """Tell why GitHub's API doesn't take a request."""
    for name, schema in REQUESTS.items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", name), f"{method} /{path}"):
            error = best_match(Draft202012Validator(schema).iter_errors(body))
            return error and f"{error.json_path}: {error.message}"
    return f"GitHub has no {method} /{path}"


@pytest.mark.parametrize("plan", PLANS)
def test_no_step_fails_on_any_plan(plan: str, tmp_path: Path) -> None:
    asked = followed(plan, tmp_path)
    calls = requests(asked)
    for method, path, body in calls:
        assert path.startswith((f"repos/{REPOSITORY}", "users/octocat"))
        assert wrong(body, method, path) is None
    made = {path.removeprefix(f"repos/{REPOSITORY}/"): body for _, path, body in calls}
    variables = {tuple(one["words"][2:]) for one in asked if one["words"][0] == "variable"}

    # Who approves prod, and what keeps other branches away.
    reviewed = plan in ("public", "enterprise")
    asks = ("PROD_APPROVAL", "--repo", REPOSITORY, "--body", "dispatch")
    assert (asks in variables) == (not reviewed)
    assert ("environments/prod" in made) == ("rulesets" in made) == (plan != "free")
    for environment in ("dev", "prod") if plan != "free" else ():
        only = {"protected_branches": False, "custom_branch_policies": True}
        assert made[f"environments/{environment}"]["deployment_branch_policy"] == only
        assert made[f"environments/{environment}/deployment-branch-policies"] == {"name": "main"}
    if reviewed:
        assert made["environments/prod"]["reviewers"] == [{"type": "User", "id": 4711}]
        assert made["environments/prod"]["prevent_self_review"]
    permissions = made["actions/permissions/workflow"]
    assert permissions["default_workflow_permissions"] == "read"
    assert permissions["can_approve_pull_request_reviews"] is True


def test_the_rules_leave_nothing_open(tmp_path: Path) -> None:
    calls = requests(followed("team", tmp_path))
    (rules,) = [body for _, path, body in calls if path.endswith("/rulesets")]
    assert rules["enforcement"] == "active"
    assert rules["bypass_actors"] == []
    assert rules["conditions"]["ref_name"] == {"include": ["~DEFAULT_BRANCH"], "exclude": []}
    by_type = {one["type"]: one.get("parameters", {}) for one in rules["rules"]}
    assert {"deletion", "non_fast_forward"} <= {*by_type}
    review = by_type["pull_request"]
    assert review["required_approving_review_count"] == 1
    assert review["dismiss_stale_reviews_on_push"]
    assert review["require_code_owner_review"]
    assert review["require_last_push_approval"]
    # 15368 is GitHub Actions.
    assert by_type["required_status_checks"]["required_status_checks"] == [
        {"context": "order-events passed", "integration_id": 15368}
    ]
    owners = (tmp_path / "work" / ".github" / "CODEOWNERS").read_text(encoding="utf-8")
    assert [line.split()[0] for line in owners.splitlines()] == ["*", "/.github/", "/terraform/"]
    # A name that GitHub doesn't know is found.
    assert "bypass" in (
        wrong({**rules, "bypass": []}, "POST", f"repos/{REPOSITORY}/rulesets") or ""
    )


def test_what_the_readme_starts_is_there(tmp_path: Path) -> None:
    workflows = SERVICE / ".github" / "workflows"
    started = [one["words"] for one in followed("team", tmp_path) if one["words"][0] == "workflow"]
    assert len(started) == 2
    for words in started:
        file = words[2].replace("order-events", "{{cookiecutter.project_slug}}")
        text = (workflows / file).read_text(encoding="utf-8")
        for flag, word in itertools.pairwise(words):
            if flag == "-f":
                name, _, value = word.partition("=")
                assert re.search(
                    rf"^      {name}:\n(?:       .*\n)*?.*\b{value}\b", text, re.MULTILINE
                )

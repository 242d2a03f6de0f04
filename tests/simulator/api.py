"""GitHub's API, as far as `gh` is asked for it: https://docs.github.com/en/rest."""

import itertools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from simulator.github import REPOSITORY, GitHub, Job, Run
from simulator.runner import Call


class ApiError(Exception):
    """An answer of GitHub's that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Answers `gh`."""

    def __init__(self, input_file: Path) -> None:
        """Remember where `gh` leaves what it was given by --input."""
        self.input_file = input_file
        self.unavailable = ""  # a part of the requests that GitHub doesn't answer

    def __call__(self, job: Job, call: Call) -> tuple[int, str]:
        words = call.arguments
        assert call.variables.get("GH_TOKEN"), f"gh is not signed in: {words}"
        fields: dict[str, Any] = {}
        if "--input" in words:
            fields = json.loads(self.input_file.read_text())
        for flag, word in itertools.pairwise(words):
            if flag in {"-f", "-F", "--field", "--raw-field"}:
                name, _, value = word.partition("=")
                file = value.startswith("@")
                fields[name] = Path(value[1:]).read_text() if file else value
        try:
            if self.unavailable and self.unavailable in " ".join(words):
                raise ApiError(502, "Bad Gateway")
            method = words[words.index("--method") + 1] if "--method" in words else ""
            method = method or ("POST" if fields else "GET")
            path = words[1].removeprefix("/").removeprefix(f"repos/{REPOSITORY}").strip("/")
            found = self.answer(job, method, path, fields)
        except ApiError as error:
            return 1, f"gh: {error} (HTTP {error.status})\n"
        if "--jq" in words:
            name = words[words.index("--jq") + 1].removeprefix(".").removesuffix("[]")
            return 0, "\n".join(map(json.dumps, found[name] if name else found))
        return 0, json.dumps(found)

    def answer(self, job: Job, method: str, path: str, fields: dict[str, Any]) -> Any:
        """Return what GitHub answers to a request about this repository."""
        github = job.run.github
        parts, query = urlsplit(path), parse_qs(urlsplit(path).query)
        routes = {
            r"GET actions/workflows/([^/]+)/runs": ("actions", "read", self.runs),
            r"GET actions/runs/(\d+)": ("actions", "read", self.run),
            r"GET actions/runs/(\d+)(?:/attempts/\d+)?/jobs": ("actions", "read", self.jobs),
            r"GET actions/runs/(\d+)/artifacts": ("actions", "read", self.artifacts),
            r"GET environments": ("actions", "read", self.environments),
            r"GET environments/([^/]+)": ("actions", "read", self.environment),
            r"GET issues/(\d+)/comments": ("pull-requests", "read", self.comments),
            r"POST issues/(\d+)/comments": ("pull-requests", "write", self.comment),
            r"PATCH issues/comments/(\d+)": ("pull-requests", "write", self.update),
            r"POST git/refs": ("contents", "write", self.branch),
            r"PATCH git/refs/(.+)": ("contents", "write", self.move),
            r"POST git/trees": ("contents", "write", self.tree),
            r"POST git/commits": ("contents", "write", self.made_commit),
            r"GET commits/(.+)": ("contents", "read", self.commit),
            r"POST pulls": ("pull-requests", "write", self.create),
            r"PATCH pulls/(\d+)": ("pull-requests", "write", self.edit),
            r"GET pulls": ("pull-requests", "read", self.pulls),
        }
        for route, (scope, access, handler) in routes.items():
            if found := re.fullmatch(route, f"{method} {parts.path}"):
                self.require(job, scope, access)
                values = {name: value[0] for name, value in query.items()}
                return handler(github, job, *found.groups(), **{"fields": fields | values})
        raise AssertionError(f"The simulator knows no answer to {method} {path}")

    @staticmethod
    def require(job: Job, scope: str, access: str) -> None:
        """Refuse what the job's token may not do; RECORD_TOKEN may do all."""
        permissions = job.definition.get("permissions")
        permissions = job.run.definition.get("permissions") if permissions is None else permissions
        granted = (permissions or {}).get(scope, "none")
        if job.run.from_outside and granted == "write":
            granted = "read"
        if granted != access and granted != "write":
            raise ApiError(403, f"Resource not accessible by integration: {scope}: {access}")

    # Runs

    @staticmethod
    def describe(run: Run) -> dict[str, Any]:
        return {
            "id": run.id,
            "run_number": run.number,
            "run_attempt": run.attempt,
            "path": run.path,
            "name": run.definition["name"],
            "event": run.event,
            "head_branch": run.ref.removeprefix("refs/heads/"),
            "head_sha": run.sha,
            "status": run.status,
            "conclusion": run.conclusion or None,
            "actor": {"login": run.actor},
            "triggering_actor": {"login": run.actor},
            "html_url": f"https://github.com/{REPOSITORY}/actions/runs/{run.id}",
            "head_repository": {"full_name": REPOSITORY},
        }

    def runs(self, github: GitHub, job: Job, file: str, fields: dict[str, str]) -> Any:
        found = []
        for run in reversed(github.runs):
            described = self.describe(run)
            status = fields.get("status")
            if (
                Path(run.path).name == file
                and fields.get("branch", described["head_branch"]) == described["head_branch"]
                and fields.get("event", run.event) == run.event
                and fields.get("head_sha", run.sha) == run.sha
                and (not status or status in {run.status, run.conclusion})
            ):
                found.append(described)
        return {"workflow_runs": found[: int(fields.get("per_page", 30))]}

    def run(self, github: GitHub, job: Job, number: str, fields: dict[str, str]) -> Any:
        return self.describe(self.find(github, number))

    @staticmethod
    def find(github: GitHub, number: str) -> Run:
        found = [run for run in github.runs if run.id == int(number)]
        if not found:
            raise ApiError(404, "Not Found")
        return found[0]

    def jobs(self, github: GitHub, job: Job, number: str, fields: dict[str, str]) -> Any:
        run = self.find(github, number)
        jobs = [*(run.earlier if fields.get("filter") == "all" else []), *run.jobs.values()]
        return {
            "jobs": [
                {
                    "name": each.name or each.definition.get("name", each.id),
                    "status": "completed" if each.state == "done" else each.state,
                    "conclusion": each.result or None,
                    "run_attempt": each.attempt,
                    "steps": each.steps,
                }
                for each in jobs
            ]
        }

    def artifacts(self, github: GitHub, job: Job, number: str, fields: dict[str, str]) -> Any:
        run = self.find(github, number)
        found = [
            {"name": name, "expired": until < github.day}
            for (of, name), (until, _) in github.artifacts.items()
            if of == run.id
        ]
        return {"artifacts": found, "total_count": len(found)}

    def environments(self, github: GitHub, job: Job, fields: dict[str, str]) -> Any:
        """Environments: private repositories have none on Free, and GitHub says "not found"."""
        if github.private and github.plan == "free":
            raise ApiError(404, "Not Found")
        found = [self.environment(github, job, name, fields) for name in github.environments]
        return {"environments": found, "total_count": len(found)}

    def environment(self, github: GitHub, job: Job, name: str, fields: dict[str, str]) -> Any:
        rules = github.environments.get(name)
        if rules is None:
            raise ApiError(404, "Not Found")
        found: list[dict[str, Any]] = []
        if rules.reviewers:
            reviewers = [{"type": "User", "reviewer": {"login": who}} for who in rules.reviewers]
            prevent = rules.prevent_self_review
            rule = {"prevent_self_review": prevent, "reviewers": reviewers}
            found.append({"type": "required_reviewers"} | rule)
        if rules.branches:
            found.append({"type": "branch_policy"})
        policy = {"protected_branches": False, "custom_branch_policies": True}
        return {
            "name": name,
            "protection_rules": found,
            "deployment_branch_policy": policy if rules.branches else None,
        }

    # Comments, branches, pull requests

    def comments(self, github: GitHub, job: Job, number: str, fields: dict[str, str]) -> Any:
        return [each for each in github.comments if each["issue"] == int(number)]

    def comment(self, github: GitHub, job: Job, number: str, fields: dict[str, str]) -> Any:
        made = {
            "id": len(github.comments) + 1,
            "issue": int(number),
            "user": {"type": "Bot", "login": "github-actions[bot]"},
            "body": fields["body"],
        }
        github.comments.append(made)
        return made

    def update(self, github: GitHub, job: Job, number: str, fields: dict[str, str]) -> Any:
        github.comments[int(number) - 1]["body"] = fields["body"]
        return github.comments[int(number) - 1]

    def branch(self, github: GitHub, job: Job, fields: dict[str, str]) -> Any:
        branch = fields["ref"].removeprefix("refs/heads/")
        if github.git("branch", "--list", branch):
            raise ApiError(422, "Reference already exists")
        github.git("update-ref", f"refs/heads/{branch}", fields["sha"])
        return {"ref": fields["ref"]}

    def move(self, github: GitHub, job: Job, ref: str, fields: dict[str, str]) -> Any:
        github.git("update-ref", f"refs/{ref}", fields["sha"])
        return {"ref": f"refs/{ref}"}

    def tree(self, github: GitHub, job: Job, fields: dict[str, Any]) -> Any:
        environment = {"GIT_INDEX_FILE": str(self.input_file.with_name("index"))}
        github.git("read-tree", fields["base_tree"], **environment)
        for entry in fields["tree"]:
            blob = github.git("hash-object", "-w", "--stdin", stdin=entry["content"])
            cached = f"{entry['mode']},{blob},{entry['path']}"
            github.git("update-index", "--add", "--cacheinfo", cached, **environment)
        return {"sha": github.git("write-tree", **environment)}

    def made_commit(self, github: GitHub, job: Job, fields: dict[str, Any]) -> Any:
        parents = [part for parent in fields["parents"] for part in ("-p", parent)]
        made = github.git("commit-tree", fields["tree"], *parents, "-m", fields["message"])
        return {"sha": made}

    def commit(self, github: GitHub, job: Job, name: str, fields: dict[str, Any]) -> Any:
        return {"commit": {"message": github.git("log", "-1", "--format=%B", unquote(name))}}

    def create(self, github: GitHub, job: Job, fields: dict[str, Any]) -> Any:
        """Open a pull request, which workflows may not by default.

        …/managing-github-actions-settings-for-a-repository: "Allow GitHub Actions to create and
        approve pull requests" is off.
        """
        allowed = github.workflows_may_open_pull_requests or "RECORD_TOKEN" in github.secrets
        if not allowed:
            message = "GitHub Actions is not permitted to create or approve pull requests."
            raise ApiError(403, message)
        number = len(github.pull_requests) + 1
        url = f"https://github.com/{REPOSITORY}/pull/{number}"
        made = {
            "number": number,
            "html_url": url,
            "title": fields["title"],
            "head": {"ref": fields["head"]},
        }
        github.pull_requests.append(made)
        return made

    def edit(self, github: GitHub, job: Job, number: str, fields: dict[str, Any]) -> Any:
        return github.pull_requests[int(number) - 1] | fields

    def pulls(self, github: GitHub, job: Job, fields: dict[str, str]) -> Any:
        head = fields.get("head", "").rpartition(":")[2]
        return [each for each in github.pull_requests if each["head"]["ref"] == head]

"""GitHub as workflows see it: events, runs, jobs, concurrency, approvals, re-runs.

Where GitHub's behaviour is assumed, a docstring names the page below https://docs.github.com/en/
that describes it. Nothing runs in parallel: a job runs as soon as it may, and what shall happen in
the middle of it, a test puts into `during`.
"""

import fnmatch
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.expressions import SUCCESS, Expressions, text

REPOSITORY = "my-company/shop"

# What a job may have; neither a matrix nor continue-on-error, for example.
KNOWN = {"name", "needs", "if", "runs-on", "environment", "concurrency", "outputs", "env", "steps"}
KNOWN |= {"permissions", "timeout-minutes"}


class RefusedError(Exception):
    """What GitHub doesn't let somebody do, in a sentence."""


@dataclass
class Environment:
    """A GitHub environment: who approves, which branches may deploy, and its variables."""

    variables: dict[str, str] = field(default_factory=dict)
    reviewers: tuple[str, ...] = ()
    prevent_self_review: bool = True
    branches: tuple[str, ...] = ()


@dataclass
class Job:
    """A job in one attempt of a run."""

    run: "Run"
    id: str
    definition: dict[str, Any]
    state: str = "queued"  # pending (concurrency), waiting (approval), running, done
    result: str = ""
    attempt: int = 1
    name: str = ""
    environment: str = ""
    group: str = ""
    approved: bool = False
    asked: int = 0  # the day from which it has waited for an approval
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    log: str = ""
    seconds: float = 0
    script: str = ""
    installed: bool = False
    signalled: bool = False  # the run is cancelled, and the step's condition doesn't keep it

    @property
    def needs(self) -> list["Job"]:
        names = self.definition.get("needs") or []
        return [self.run.jobs[name] for name in ([names] if isinstance(names, str) else names)]

    @property
    def before(self) -> list["Job"]:
        """Return all jobs that this one needs, and that these need."""
        found = {job.id: job for need in self.needs for job in (need, *need.before)}
        return list(found.values())

    @property
    def minutes(self) -> int:
        """Return what is billed: each job is rounded up (billing/concepts/…/github-actions)."""
        return -int(-self.seconds // 60)

    def end(self, result: str) -> None:
        self.state, self.result = "done", result


@dataclass
class Run:
    """A run of a workflow."""

    github: "GitHub"
    id: int
    number: int
    path: str
    definition: dict[str, Any]
    event: str
    payload: dict[str, Any]
    sha: str
    ref: str
    actor: str
    day: int = 0
    attempt: int = 1
    cancelled: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)
    earlier: list[Job] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    summary: str = ""

    @property
    def from_outside(self) -> bool:
        """Tell whether it gets no secrets and may only read: from a fork, or Dependabot's.

        actions/reference/security/secure-use, code-security/dependabot/…/dependabot-on-actions.
        """
        request = self.payload.get("pull_request") or {"head": {"repo": {"full_name": REPOSITORY}}}
        fork = request["head"]["repo"]["full_name"] != REPOSITORY
        return self.event == "pull_request" and (fork or self.actor == "dependabot[bot]")

    @property
    def status(self) -> str:
        states = {job.state for job in self.jobs.values()}
        if states == {"done"}:
            return "completed"
        return "waiting" if "waiting" in states else "in_progress"

    @property
    def conclusion(self) -> str:
        """Return how it ended, None while it goes on."""
        results = [job.result for job in self.jobs.values()]
        if self.status != "completed":
            return ""
        bad = [word for word in ("failure", "cancelled") if word in results]
        return bad[0] if bad else "success" if "success" in results else "skipped"

    def results(self) -> dict[str, str]:
        """Return what became of its jobs, without those that were skipped."""
        jobs = self.jobs.values()
        return {job.id: job.result or job.state for job in jobs if job.result != "skipped"}

    @property
    def log(self) -> str:
        return "".join(job.log for job in self.jobs.values())

    @property
    def minutes(self) -> int:
        return sum(job.minutes for job in self.jobs.values())

    def context(self) -> dict[str, Any]:
        """Return the context `github` (actions/reference/workflows-and-actions/contexts)."""
        request = self.payload.get("pull_request", {})
        return {
            "actor": self.actor,
            "api_url": "https://api.github.com",
            "base_ref": request.get("base", {}).get("ref", ""),
            "event": self.payload,
            "event_name": self.event,
            "head_ref": request.get("head", {}).get("ref", ""),
            "ref": self.ref,
            "ref_name": self.ref.removeprefix("refs/heads/").removeprefix("refs/pull/"),
            "repository": REPOSITORY,
            "repository_owner": REPOSITORY.partition("/")[0],
            "run_attempt": str(self.attempt),
            "run_id": str(self.id),
            "run_number": str(self.number),
            "server_url": "https://github.com",
            "sha": self.sha,
            "token": "token",
            "triggering_actor": self.actor,
            "workflow": self.definition["name"],
            "workflow_ref": f"{REPOSITORY}/{self.path}@{self.ref}",
        }


class GitHub:
    """A repository on GitHub, and all that has happened to it."""

    def __init__(
        self,
        folder: Path,
        expressions: Expressions,
        execute: Callable[[Job], str],
        gh: Callable[..., tuple[int, str]],
        make: Callable[..., tuple[int, str, float]],
        plan: str = "enterprise",
        private: bool = True,
        default_branch: str = "main",
    ) -> None:
        """Make an empty repository.

        :param execute: runs a job and returns its result.
        :param gh: answers what a job's scripts ask of `gh`: exit code and text.
        :param make: the same for `make`, with the seconds that it takes.
        :param plan: free, team or enterprise.
        """
        self.folder, self.expressions, self.execute = folder, expressions, execute
        self.gh, self.make = gh, make
        self.plan, self.private, self.default_branch = plan, private, default_branch
        self.variables: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.environments: dict[str, Environment] = {}
        self.runs: list[Run] = []
        self.pull_requests: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.artifacts: dict[tuple[int, str], tuple[int, dict[str, bytes]]] = {}
        self.workflows_may_open_pull_requests = True
        self.trusts: dict[str, tuple[str, ...]] = {}  # AWS roles, and the subjects they trust
        self.attested: list[dict[str, str]] = []
        self.trees: dict[str, dict[str, str]] = {}  # what `files` has read
        self.day = 0
        # What happens as a step begins that has one of these texts in it, by job: once.
        self.during: dict[tuple[str, str], Callable[[], object]] = {}
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--template=", f"--initial-branch={default_branch}")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    # The repository

    def git(self, *arguments: str, stdin: str | None = None, **environment: str) -> str:
        """Run Git in the repository; return what it prints."""
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.folder,
            input=stdin,
            stdout=-1,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        return done.stdout.strip()

    def files(self, commit: str, folder: str) -> dict[str, str]:
        """Return the files in a folder of a commit, by their paths."""
        tree = self.git("rev-parse", f"{commit}:{folder}")
        if tree not in self.trees:
            names = self.git("ls-tree", "--name-only", tree).splitlines()
            self.trees[tree] = {f"{folder}/{n}": self.git("show", f"{tree}:{n}") for n in names}
        return self.trees[tree]

    def commit(self, **files: str) -> str:
        """Write files, given as {"path": text} with ** , and commit them; return the commit."""
        for path, content in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", " ".join(files) or "all")
        return self.git("rev-parse", "HEAD")

    def protect(self, name: str, **rules: Any) -> None:
        """Make an environment, as far as the repository's plan has it.

        actions/how-tos/deploy/configure-and-manage-deployments/manage-environments: private
        repositories have environments with Pro and Team, required reviewers with Enterprise.
        """
        if self.private and self.plan == "free":
            raise RefusedError("Private repositories have no environments on GitHub Free.")
        if self.private and self.plan != "enterprise" and rules.get("reviewers"):
            raise RefusedError("Private repositories have required reviewers on Enterprise only.")
        self.environments[name] = Environment(**rules)

    # Events

    def _start(
        self, event: str, sha: str, ref: str, actor: str, payload: dict[str, Any], only: str = ""
    ) -> list[Run]:
        """Start the workflows of a commit that an event is for; return their runs."""
        runs = []
        for path, content in self.files(sha, ".github/workflows").items():
            definition = self.expressions.parse("workflow", content)
            given = definition["on"]
            if event not in given or (only and Path(path).name != only):
                continue
            branches = (given[event] or {}).get("branches")
            if event == "push" and branches:
                branch = ref.removeprefix("refs/heads/")
                if not any(fnmatch.fnmatch(branch, pattern) for pattern in branches):
                    continue
            number = sum(run.path == path for run in self.runs) + 1
            event_payload = {
                "repository": self._description(),
                "sender": {"login": actor, "type": "User"},
            }
            run = Run(
                github=self,
                id=1000 + len(self.runs),
                number=number,
                path=path,
                definition=definition,
                event=event,
                payload=event_payload | payload,
                sha=sha,
                ref=ref,
                actor=actor,
                day=self.day,
            )
            self.runs.append(run)
            self._queue(run, set(definition["jobs"]))
            self._cancel_replaced(run)
            runs.append(run)
        self.settle()
        return runs

    def _description(self) -> dict[str, Any]:
        return {
            "full_name": REPOSITORY,
            "private": self.private,
            "visibility": "private" if self.private else "public",
            "default_branch": self.default_branch,
        }

    def push(self, actor: str = "ann", **files: str) -> list[Run]:
        """Commit files to the default branch and push it; return the runs that this starts."""
        self.commit(**files)
        return self.pushed(actor)

    def pushed(self, actor: str = "ann") -> list[Run]:
        """Push the default branch."""
        sha, ref = self.git("rev-parse", "HEAD"), f"refs/heads/{self.default_branch}"
        return self._start("push", sha, ref, actor, {"ref": ref, "after": sha})

    def revert(self) -> list[Run]:
        """Revert the newest commit on the default branch, and push that."""
        self.git("revert", "--no-edit", "HEAD")
        return self.pushed()

    def pull_request(self, actor: str = "ann", fork: bool = False, **files: str) -> list[Run]:
        """Open a pull request; its runs are of its merge with the default branch."""
        number = len(self.pull_requests) + 1
        base = self.git("rev-parse", "HEAD")
        self.git("checkout", "--quiet", "-b", f"feature-{number}")
        head = self.commit(**files)
        self.git("checkout", "--quiet", self.default_branch)
        tree = self.git("rev-parse", f"{head}^{{tree}}")
        merge = self.git("commit-tree", tree, "-p", base, "-p", head, "-m", "merge")
        self.git("update-ref", f"refs/pull/{number}/merge", merge)
        request = {
            "number": number,
            "head": {
                "sha": head,
                "ref": f"feature-{number}",
                "repo": {"full_name": "ann/shop" if fork else REPOSITORY},
            },
            "base": {"ref": self.default_branch, "sha": base},
            "user": {"login": actor},
        }
        self.pull_requests.append(request)
        payload = {"number": number, "action": "opened", "pull_request": request}
        return self._start("pull_request", merge, f"refs/pull/{number}/merge", actor, payload)

    def merge_queue(self, actor: str = "ann", **files: str) -> list[Run]:
        """Let a merge queue test files on top of the default branch."""
        base = self.git("rev-parse", "HEAD")
        branch = f"gh-readonly-queue/{self.default_branch}/pr-1-{base}"
        self.git("checkout", "--quiet", "-b", branch)
        head = self.commit(**files)
        self.git("checkout", "--quiet", self.default_branch)
        group = {
            "base_ref": f"refs/heads/{self.default_branch}",
            "base_sha": base,
            "head_ref": f"refs/heads/{branch}",
            "head_sha": head,
        }
        payload = {"action": "checks_requested", "merge_group": group}
        return self._start("merge_group", head, f"refs/heads/{branch}", actor, payload)

    def dispatch(self, workflow: str, actor: str = "ann", ref: str = "", **inputs: Any) -> Run:
        """Start a workflow by hand (actions/how-tos/manage-workflow-runs/manually-run-a-workflow).

        :param workflow: its file's name.
        """
        branch = ref or self.default_branch
        sha = self.git("rev-parse", branch)
        path = f".github/workflows/{workflow}"
        content = self.files(sha, ".github/workflows")[path]
        definition = self.expressions.parse("workflow", content)
        declared = (definition["on"]["workflow_dispatch"] or {}).get("inputs", {})
        assert set(inputs) <= set(declared), f"{workflow} has the inputs {sorted(declared)}"
        for name, options in declared.items():
            default = False if options.get("type") == "boolean" else ""
            if options.get("type") == "choice" and name not in inputs:
                default = options["options"][0]
            inputs.setdefault(name, options.get("default", default))
        payload = {"inputs": inputs, "ref": f"refs/heads/{branch}", "workflow": path}
        (run,) = self._start(
            "workflow_dispatch", sha, f"refs/heads/{branch}", actor, payload, workflow
        )
        return run

    def wait(self, days: int) -> None:
        """Let days pass. A job that nobody approves fails after 30 days (…/review-deployments)."""
        self.day += days
        for job in [job for run in self.runs for job in run.jobs.values()]:
            if job.state == "waiting" and self.day > job.asked + 30:
                job.end("failure")
        self.settle()

    # What people do to runs

    def approve(self, run: Run, by: str = "bob") -> None:
        """Approve the waiting jobs of a run.

        actions/how-tos/manage-workflow-runs/…/review-deployments: "Prevent self-review" is about
        who started the run.
        """
        waiting = [job for job in run.jobs.values() if job.state == "waiting"]
        assert waiting, f"Nothing waits for an approval: {run.results()}"
        for job in waiting:
            rules = self.environments[job.environment]
            if by not in rules.reviewers or (rules.prevent_self_review and by == run.actor):
                raise RefusedError(f"{by} may not approve {job.name}.")
            job.approved, job.state = True, "queued"
        self.settle()

    def reject(self, run: Run) -> None:
        """Reject the waiting jobs of a run: they fail."""
        for job in run.jobs.values():
            if job.state == "waiting":
                job.end("failure")
        self.settle()

    def cancel(self, run: Run) -> None:
        """Cancel a run (actions/reference/workflows-and-actions/workflow-cancellation).

        Jobs that haven't begun are cancelled, unless their condition is true all the same; for the
        steps of those that run, see Runner.
        """
        run.cancelled = True
        for job in run.jobs.values():
            if job.state in {"pending", "waiting"}:
                job.end("cancelled")
        self.settle()

    def rerun(self, run: Run, what: str = "all") -> Run:
        """Run a run again, at the same commit: `all`, `failed`, or one job by its id.

        actions/how-tos/manage-workflow-runs/re-run-workflows-and-jobs: what failed and the jobs
        that need it; the others keep their results, outputs and artifacts. For 30 days from the
        first attempt on.
        """
        if self.day > run.day + 30:
            raise RefusedError("Runs can be run again for 30 days.")
        assert run.status == "completed", run.results()
        chosen = {
            job.id
            for job in run.jobs.values()
            if what in {"all", job.id}
            or (what == "failed" and job.result in {"failure", "cancelled"})
        }
        chosen |= {job.id for job in run.jobs.values() if chosen & {n.id for n in job.before}}
        run.earlier += run.jobs.values()
        run.attempt, run.cancelled = run.attempt + 1, False
        self._queue(run, chosen)
        self.settle()
        return run

    # Jobs

    def _queue(self, run: Run, chosen: set[str]) -> None:
        for name, definition in run.definition["jobs"].items():
            assert set(definition) <= KNOWN, f"The simulator doesn't know all of {set(definition)}"
            if name in chosen:
                run.jobs[name] = Job(run, name, definition, attempt=run.attempt)

    def _cancel_replaced(self, run: Run) -> None:
        """Cancel the run in progress of the same concurrency group, if the workflow says so."""
        rule = run.definition.get("concurrency")
        if not rule:
            return
        for other in [other for other in self.runs if other.path == run.path and other is not run]:
            if other.status != "completed":
                names = [self._evaluate(each, rule)["group"] for each in (run, other)]
                if names[0] == names[1]:
                    self.cancel(other)

    def _evaluate(self, run: Run, piece: Any, job: Job | None = None) -> Any:
        """Evaluate a piece of a workflow, or of a job outside its steps."""
        needs = {n.id: {"result": n.result, "outputs": n.outputs} for n in job.needs} if job else {}
        contexts = {
            "github": run.context(),
            "inputs": run.payload.get("inputs", {}),
            "vars": self.variables,
            "needs": needs,
        }
        before = {each.result for each in job.before} if job else set()
        return self.expressions.evaluate(
            piece,
            contexts,
            success=before <= {"success"} and not run.cancelled,
            failure="failure" in before,
            cancelled=run.cancelled,
        )

    def settle(self) -> None:
        """Run every job that may run, until none may; first what waits for a concurrency group."""
        while True:
            jobs = [job for run in self.runs for job in run.jobs.values()]
            jobs.sort(key=lambda job: job.state != "pending")
            if not any(self._consider(job) for job in jobs):
                return

    def _consider(self, job: Job) -> bool:
        """Begin a job if its time has come; tell whether anything happened.

        actions/reference/workflows-and-actions/workflow-syntax: `needs` (a failure or skip applies
        to all jobs in the chain), `if`, `concurrency`, `environment`.
        """
        if job.state not in {"queued", "pending"}:
            return False
        if job.state == "queued" and not job.approved:
            if any(need.state != "done" for need in job.needs):
                return False
            condition = job.definition.get("if", SUCCESS)
            if not self._evaluate(job.run, condition, job):
                job.end("skipped")
                return True
            self._describe(job)
        if not self._has_group(job):
            return self._wait_for_group(job)
        return self._ask_for_approval(job) or self._run(job)

    def _describe(self, job: Job) -> None:
        keys = ("name", "environment", "concurrency")
        piece = {key: job.definition[key] for key in keys if key in job.definition}
        found = self._evaluate(job.run, piece, job)
        environment, group = found.get("environment") or "", found.get("concurrency") or ""
        job.name = text(found.get("name", job.id))
        job.environment = environment["name"] if isinstance(environment, dict) else environment
        job.group = group["group"] if isinstance(group, dict) else group

    def _members(self, job: Job) -> list[Job]:
        """Return the other jobs that have a job's concurrency group, or wait for it."""
        jobs = [other for run in self.runs for other in run.jobs.values() if other is not job]
        return [other for other in jobs if job.group and other.group == job.group]

    def _has_group(self, job: Job) -> bool:
        """Tell whether nobody else has the job's group: it is taken before an approval."""
        return not any(
            other.state in {"running", "waiting"} or (other.state == "queued" and other.approved)
            for other in self._members(job)
        )

    def _wait_for_group(self, job: Job) -> bool:
        """Let a job wait for its group: one that waits already is cancelled.

        actions/how-tos/write-workflows/…/control-workflow-concurrency.
        """
        if job.state == "pending":
            return False
        for other in self._members(job):
            if other.state == "pending":
                other.end("cancelled")
        job.state = "pending"
        return True

    def _ask_for_approval(self, job: Job) -> bool:
        """Let a job wait or fail as its environment's rules say; tell whether it does.

        actions/reference/workflows-and-actions/deployments-and-environments. An environment that
        does not exist is made, without rules.
        """
        if not job.environment or job.approved:
            return False
        rules = self.environments.setdefault(job.environment, Environment())
        branch = job.run.ref.removeprefix("refs/heads/")
        if rules.branches and branch not in rules.branches:
            job.end("failure")
        elif rules.reviewers:
            job.state, job.asked = "waiting", self.day
        return job.state in {"done", "waiting"}

    def _run(self, job: Job) -> bool:
        job.state = "running"
        job.end(self.execute(job))
        return True

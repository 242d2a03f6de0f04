"""What is deployed to dev and prod, and what `make` does with it: the rules of tools/, as a model.

Terraform's state is a serial number, what was applied, and a lock. tests/test_delivery.py tries the
same rules with Terraform and a local AWS.
"""

import contextlib
import hashlib
import io
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.deploy import commit
from tools.deploy.settings import with_setting
from tools.deploy.summary import RECORD, has_changes, summarise
from tools.errors import ToolError

from simulator.github import Job
from simulator.runner import Call

# Seconds assumed on one of GitHub's runners, the download of Terraform's provider included.
# docs/delivery.md names them.
SECONDS = {
    "install": 20.0,
    "lint": 2.0,
    "typecheck": 15.0,
    "test": 10.0,
    "validate": 40.0,
    "security": 25.0,
    "e2e": 90.0,
    "package": 5.0,
    "plan": 35.0,
    "apply": 65.0,
    "smoke": 10.0,
}
# Which targets need which kind of role.
NEEDS = {
    "plan": ("plan", "main-plan", "deploy"),
    "save-plan": ("main-plan", "deploy"),
    "fetch-plan": ("deploy",),
    "apply": ("deploy",),
    "smoke": ("deploy",),
    "forget-plan": ("deploy",),
    "rollback": ("operate", "deploy"),
    "pause": ("operate", "deploy"),
    "resume": ("operate", "deploy"),
    "unlock": ("operate", "deploy"),
    "versions": ("operate", "deploy"),
    "init": ("deploy",),
}

NEWER = "# a newer version\n"


class MakeError(Exception):
    """What a target prints as it fails."""


@dataclass
class Deployed:
    """A service in an environment, and its state."""

    commit: str = ""
    content: str = ""  # of code and infrastructure
    settings: dict[str, str] = field(default_factory=dict)
    serial: int = 0
    lock: str = ""
    versions: list[str] = field(default_factory=list)  # the content of each, the first is 1
    initialised: bool = False
    drift: bool = False  # somebody changed something by hand, or half of a plan was applied

    @property
    def live(self) -> str:
        """Return the content of the version that gets the messages."""
        version = self.settings.get("live_version")
        return self.versions[int(version.strip('"')) - 1] if version else self.content


@dataclass
class Plan:
    """A plan, as it is kept."""

    serial: int
    commit: str
    content: str
    settings: dict[str, str]
    changes: bool = False
    state: str = ""  # begun, or applied

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr((self.serial, self.content, self.settings)).encode()).hexdigest()


class Aws:
    """Both environments of all services; answers `make`."""

    def __init__(self) -> None:
        self.deployed: dict[tuple[str, str], Deployed] = {}
        self.kept: dict[tuple[str, str, str], Plan] = {}  # in S3, by the run's number
        self.planned: dict[tuple[Path, str], Plan] = {}  # on a runner
        self.smoked: list[tuple[str, bool]] = []
        # What goes wrong, by environment and target, once: see `apply`.
        self.faults: dict[tuple[str, str], str] = {}

    def __call__(self, job: Job, call: Call) -> tuple[int, str, float]:
        """Make targets; return the exit code, what is printed, and the seconds that it took."""
        given = dict(word.split("=", 1) for word in call.arguments if "=" in word)
        call.variables |= given
        targets = [word for word in call.arguments if "=" not in word]
        printed, seconds = "", 0.0
        for target in targets:
            name = "package" if target.startswith("dist/") else target
            seconds += SECONDS.get(name, 3)
            if name != "install" and not job.installed:
                job.installed = True
                seconds += SECONDS["install"]
            job.installed = job.installed or name == "install"
            try:
                printed += self.make(name, job, call)
            except MakeError as error:
                return 2, f"{printed}{error}\nmake: *** [{target}] Error 1\n", seconds
        return 0, printed, seconds

    def make(self, target: str, job: Job, call: Call) -> str:
        """Make one target; return what it prints."""
        environment = call.variables.get("ENV", "dev") if target in NEEDS else ""
        fault = self.faults.pop((environment, target), "")
        roles = NEEDS.get(target, ("",))
        if environment and not any(role.startswith(roles) for role in job.roles):
            raise MakeError(f"AccessDenied: {target} with the roles {job.roles}")
        if target != "apply" and (fault == "fail" or job.signalled):
            raise MakeError(f"{target} failed" if fault else "Interrupted.")
        method = getattr(self, target.replace("-", "_"), None)
        return method(job, call, environment, fault) or "" if method else f"{target}\n"

    def of(self, call: Call, environment: str) -> Deployed:
        """Return what is deployed of a service."""
        return self.deployed.setdefault((name_of(call.folder), environment), Deployed())

    # Building

    def package(self, job: Job, call: Call, *_: str) -> None:
        (call.folder / "dist").mkdir(exist_ok=True)
        artifact(call.folder).write_text(content(call.folder))

    def sbom(self, job: Job, call: Call, *_: str) -> None:
        (call.folder / "dist" / "lambda.cdx.json").write_text("{}")

    def upgrade(self, job: Job, call: Call, *_: str) -> None:
        """Lock newer versions: once, since the next time they are the newest."""
        lock = call.folder / "requirements.txt"
        lock.write_text(lock.read_text().removesuffix(NEWER) + NEWER)
        (call.folder / "dist").mkdir(exist_ok=True)
        (call.folder / "dist" / "upgrade.md").write_text("a newer one\n")

    # Planning and applying

    def plan(self, job: Job, call: Call, environment: str, fault: str) -> str:
        """Plan: only a plan that may write makes a workspace and takes the lock."""
        deployed, read_only = self.of(call, environment), "READ_ONLY" in call.variables
        if not deployed.initialised and read_only:
            raise MakeError(
                f'Workspace "{environment}" does not exist: make init ENV={environment}'
            )
        deployed.initialised = True
        if deployed.lock and not read_only:
            raise MakeError(f"Error acquiring the state lock: {deployed.lock}")
        package = artifact(call.folder)
        expected = call.variables["PACKAGE_SHA256"]
        if hashlib.sha256(package.read_bytes()).hexdigest() != expected:
            raise MakeError(f"{package.name} is not the package with SHA-256 {expected}.")
        commit, printed = self.compare(call, environment, deployed)
        wanted = settings(call.folder, environment)
        made = Plan(deployed.serial, commit, package.read_text(), wanted)
        shown = terraform_shows(deployed, made)
        made.changes = has_changes(shown)
        self.planned[call.folder, environment] = made
        text = summarise(shown, "…", name_of(call.folder), environment)
        (call.folder / "dist" / f"plan-{environment}.md").write_text(text)
        with Path(call.variables["GITHUB_STEP_SUMMARY"]).open("a") as page:
            page.write(text)
        return printed

    @staticmethod
    def compare(call: Call, environment: str, deployed: Deployed) -> tuple[str, str]:
        """Return this commit and what the tools' own comparison with the deployed one prints.

        :raises MakeError: it is older.
        """
        printed = io.StringIO()
        with contextlib.chdir(call.folder), contextlib.redirect_stdout(printed):
            try:
                commit.refuse_older(environment, deployed.commit)
            except ToolError as error:
                raise MakeError(str(error)) from None
            return commit.current(), printed.getvalue()

    def apply(self, job: Job, call: Call, environment: str, fault: str) -> str:
        """Apply what was planned, or mark as done what was.

        :param fault: `fail`: AWS refuses half of it. `too long`: it doesn't end.
        """
        plan, deployed = self.planned[call.folder, environment], self.of(call, environment)
        if plan.state == "applied":
            return f"{environment} has this plan already; what is left is the smoke test.\n"
        if deployed.lock:
            raise MakeError(f"Error acquiring the state lock: {deployed.lock}")
        plan.state = "begun"
        if plan.serial != deployed.serial:
            raise MakeError("Saved plan is stale: something else was deployed since.")
        if fault or job.signalled:
            deployed.serial, deployed.drift = deployed.serial + 1, True
            # Only `exec timeout` passes a signal on to Terraform, which then unlocks the state;
            # tests/test_cancelled.py sends real ones. make alone is killed with what it started.
            if fault != "fail" and not job.script.startswith("exec timeout"):
                deployed.lock = f"lock-{deployed.serial}"
            raise MakeError("Interrupted." if fault != "fail" else "AWS refused half of it.")
        if plan.changes:
            deployed.serial += 1
            if deployed.content != plan.content:
                deployed.versions.append(plan.content)
        deployed.content, deployed.settings, deployed.drift = plan.content, plan.settings, False
        deployed.commit, plan.state = plan.commit, "applied"
        return "Apply complete!\n"

    def smoke(self, job: Job, call: Call, environment: str, fault: str) -> None:
        good = "broken" not in self.of(call, environment).live
        self.smoked.append((environment, good))
        if not good:
            raise MakeError("The message was not processed.")

    # Kept plans

    def key(self, call: Call, environment: str, run: str) -> tuple[str, str, str]:
        return name_of(call.folder), environment, call.variables.get(run, "")

    def save_plan(self, job: Job, call: Call, environment: str, fault: str) -> str:
        """Keep the plan of this run; also an empty one, if what it kept before was begun."""
        key = self.key(call, environment, "GITHUB_RUN_ID")
        plan, begun = self.planned[call.folder, environment], False
        if key in self.kept and self.kept[key].state:
            begun, plan.state = True, "begun" if plan.changes else "applied"
        changes = plan.changes or begun
        if changes:
            self.kept[key] = plan
        with Path(call.variables["GITHUB_OUTPUT"]).open("a") as output:
            output.write(f"changes={str(changes).lower()}\nsha256={plan.sha256}\n")
        return ""

    def fetch_plan(self, job: Job, call: Call, environment: str, fault: str) -> None:
        key = self.key(call, environment, "PLAN_RUN")
        if key not in self.kept:
            raise MakeError("There is no plan: it was applied, or has expired.")
        plan, shown = self.kept[key], call.variables.get("PLAN_SHA256")
        if shown and plan.sha256 != shown:
            raise MakeError(f"The plan has another SHA-256 than the one that was shown, {shown}.")
        self.planned[call.folder, environment] = plan

    def forget_plan(self, job: Job, call: Call, environment: str, fault: str) -> None:
        self.kept.pop(self.key(call, environment, "PLAN_RUN"), None)

    # Operating

    def rollback(self, job: Job, call: Call, environment: str, fault: str) -> str:
        version = call.variables["VERSION"]
        value = "" if version == "latest" else f'"{version}"'
        return self.set(call, environment, "live_version", value)

    def pause(self, job: Job, call: Call, environment: str, fault: str) -> str:
        return self.set(call, environment, "paused", "true")

    def resume(self, job: Job, call: Call, environment: str, fault: str) -> str:
        return self.set(call, environment, "paused", "")

    def set(self, call: Call, environment: str, name: str, value: str) -> str:
        """Change one setting of what is deployed, and in this checkout's .tfvars."""
        deployed = self.of(call, environment)
        if deployed.lock:
            raise MakeError(f"Error acquiring the state lock: {deployed.lock}")
        printed = f"{environment} has commit {deployed.commit}: this starts from there.\n"
        if deployed.drift and not call.variables.get("ALL"):
            printed += "Left as they are, though the code differs: …\n"
        deployed.drift = deployed.drift and not call.variables.get("ALL")
        others = {n: v for n, v in deployed.settings.items() if n != name}
        deployed.settings = others | ({name: value} if value else {})
        deployed.serial += 1
        file = call.folder / "terraform" / "environments" / f"{environment}.tfvars"
        file.write_text(with_setting(file.read_text(), name, value))
        (call.folder / "dist").mkdir(exist_ok=True)
        (call.folder / "dist" / f"plan-{environment}.md").write_text(printed)
        return printed

    def unlock(self, job: Job, call: Call, environment: str, fault: str) -> str:
        deployed, lock = self.of(call, environment), call.variables.get("LOCK", "")
        if lock and lock != deployed.lock:
            raise MakeError(f"LOCK is {lock!r}, but the lock's ID is {deployed.lock!r}.")
        if lock:
            deployed.lock = ""
        return f"ID  {deployed.lock}\n"

    def init(self, job: Job, call: Call, environment: str, fault: str) -> None:
        self.of(call, environment).initialised = True


def terraform_shows(deployed: Deployed, plan: Plan) -> dict[str, Any]:
    """Return a plan as `terraform show -json` describes it, for the tools' own summary."""

    def recorded(side: Deployed | Plan) -> dict[str, Any]:
        values = {name: json.loads(value) for name, value in side.settings.items()}
        return {"input": {"commit": side.commit, "settings": values}}

    record = {"actions": ["update"], "before": recorded(deployed), "after": recorded(plan)}
    changes = [{"address": RECORD, "type": "terraform_data", "change": record}]
    if deployed.content != plan.content or deployed.drift:
        sides = {"before": {"source_code_hash": "x"}, "after": {"source_code_hash": plan.content}}
        change = {"actions": ["update"]} | sides
        kind = "aws_lambda_function"
        changes.append({"address": f"{kind}.this", "type": kind, "change": change})
    return {"resource_changes": changes}


def name_of(folder: Path) -> str:
    """Return the name of the service in a folder."""
    return str(tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"])


def artifact(folder: Path) -> Path:
    """Return the file that is deployed."""
    fargate = (folder / "Dockerfile").is_file()
    return folder / "dist" / ("image.tar" if fargate else "lambda.zip")


def content(folder: Path) -> str:
    """Return a short text for what a checkout deploys; with `broken`, if that is in the handler."""
    files = [folder / "handler.py", *sorted((folder / "terraform").glob("*.tf"))]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return digest + (" broken" if "broken" in files[0].read_text() else "")


def settings(folder: Path, environment: str) -> dict[str, str]:
    """Return the settings in an environment's .tfvars that make writes."""
    text = (folder / "terraform" / "environments" / f"{environment}.tfvars").read_text()
    return dict(re.findall(r"^(live_version|paused)\s*=\s*(.*)$", text, re.M))

"""A runner: checks out, evaluates, and really runs a job's scripts, with its own `make` and `gh`.

Scripts run in bash with the variables that GitHub would set; `python3 -m tools.github …` in them is
the service's own. What `make` and `gh` are asked goes through a pipe to this process.
"""

import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.expressions import SUCCESS, text
from simulator.github import Job

TESTS = Path(__file__).parents[1]
SERVICE = TESTS.parent / "{{cookiecutter.project_slug}}"  # tools/ renders as it is

# Sends its name, folder, arguments and variables; gets an exit code and what to print.
PROGRAM = r"""#!/bin/sh
case " $* " in *" --input - "*) cat > 'FOLDER/input' ;; esac
{ printf '%s\0' "${0##*/}" "$PWD" "$#" "$@"; env -0; printf '\1\0'; } > 'FOLDER/request'
{ IFS= read -r code; if [ "$code" = 0 ]; then cat; else cat >&2; fi; } < 'FOLDER/answer'
exit "$code"
"""

# What GitHub's runners have and macOS has not; the real `timeout` is tests/test_cancelled.py's.
STAND_INS = {
    "timeout": '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nshift\nexec "$@"\n',
    "sha256sum": '#!/bin/sh\nexec shasum -a 256 "$@"\n',
}

# Seconds assumed for GitHub's and AWS's actions, and for a job's own start.
SECONDS = {
    "start": 4,
    "actions/checkout": 2,
    "actions/setup-python": 3,
    "hashicorp/setup-terraform": 3,
    "actions/upload-artifact": 2,
    "actions/download-artifact": 2,
    "actions/attest": 6,
    "actions/attest-build-provenance": 6,
    "aws-actions/configure-aws-credentials": 2,
}


class StepError(Exception):
    """Why a step of the simulator's own actions failed."""


@dataclass
class Call:
    """What a script asked of `make` or `gh`."""

    program: str
    folder: Path
    arguments: list[str]
    variables: dict[str, str]


class Runner:
    """Runs jobs, one after the other; a step's hook may run another in between."""

    def __init__(self, folder: Path) -> None:
        """Make the programs."""
        self.folder = folder
        self.binaries = folder / "bin"
        self.binaries.mkdir(parents=True)
        for name in ("request", "answer"):
            os.mkfifo(folder / name)
        programs = dict.fromkeys(("make", "gh"), PROGRAM.replace("FOLDER", str(folder)))
        programs |= {name: it for name, it in STAND_INS.items() if not shutil.which(name)}
        for name, program in programs.items():
            (self.binaries / name).write_text(program)
            (self.binaries / name).chmod(0o755)
        # Without what the tests have installed: tools/github runs before anything is.
        python = Path(sys.base_prefix, "bin", "python3")
        (self.binaries / "python3").symlink_to(python)
        self.tools = subprocess.Popen(
            [python, "-m", "simulator.forks"],
            env={"PYTHONPATH": f"{TESTS}:{SERVICE}", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=-1,
            stdout=-1,
        )
        # Open for writing, too: it never ends.
        self.requests = os.open(folder / "request", os.O_RDWR)

    def __call__(self, job: Job) -> str:
        """Run a job; return its result."""
        return _Execution(self, job).run()

    def close(self) -> None:
        """End what runs the tools."""
        self.tools.communicate()


class _Execution:
    """One job on its runner."""

    def __init__(self, runner: Runner, job: Job) -> None:
        self.runner, self.job, self.run_, self.github = runner, job, job.run, job.run.github
        self.workspace = runner.folder / "empty"
        self.workspace.mkdir(exist_ok=True)
        self.failed = False
        # A job that begins in a cancelled run, by always(), is not itself cancelled.
        self.begun_cancelled = self.run_.cancelled
        self.exported: dict[str, str] = {}

    def run(self) -> str:
        job = self.job
        job.seconds = SECONDS["start"]
        contexts = self.contexts()
        for level in (self.run_.definition, job.definition):
            contexts["env"] |= self.texts(self.evaluate(level.get("env", {}), contexts))
        for step in job.definition["steps"]:
            self.step(step, contexts)
        job.outputs = self.texts(self.evaluate(job.definition.get("outputs") or {}, contexts))
        return "cancelled" if self.cancelled else "failure" if self.failed else "success"

    @property
    def cancelled(self) -> bool:
        return self.run_.cancelled and not self.begun_cancelled

    @staticmethod
    def texts(values: dict[str, Any]) -> dict[str, str]:
        return {name: text(value) for name, value in values.items()}

    def contexts(self) -> dict[str, Any]:
        environment = self.github.environments.get(self.job.environment)
        own = environment.variables if environment else {}
        needs = {n.id: {"result": n.result, "outputs": n.outputs} for n in self.job.needs}
        return {
            "github": self.run_.context() | {"job": self.job.id, "workspace": str(self.workspace)},
            "inputs": self.run_.payload.get("inputs", {}),
            "vars": self.github.variables | own,
            "secrets": {"GITHUB_TOKEN": "token"}
            | ({} if self.run_.from_outside else self.github.secrets),
            "needs": needs,
            "steps": {},
            "env": {},
            "job": {"status": "success"},
            "runner": {"os": "Linux", "arch": "X64", "temp": str(self.runner.folder)},
        }

    def evaluate(self, piece: Any, contexts: dict[str, Any]) -> Any:
        cancelled = self.cancelled
        return self.github.expressions.evaluate(
            piece,
            contexts,
            success=not self.failed and not cancelled,
            failure=self.failed,
            cancelled=cancelled,
        )

    # Steps

    def step(self, step: dict[str, Any], contexts: dict[str, Any]) -> None:
        """Run a step if its condition is true, and note how it ended."""
        own = contexts | {"env": contexts["env"] | self.exported}
        name = text(self.evaluate(step.get("name"), own)) or text(step.get("run") or step["uses"])
        done = {"name": name, "status": "completed", "conclusion": "skipped"}
        self.job.steps.append(done)
        outputs: dict[str, str] = {}
        condition = step.get("if", SUCCESS)
        if self.evaluate(condition, own):
            done |= {"status": "in_progress", "conclusion": None}
            own["env"] |= self.texts(self.evaluate(step.get("env", {}), own))
            self.hooks(name + text(step.get("run")))
            # While a condition is true all the same, its step runs on, for five minutes; any other
            # step's shell gets a signal (actions/reference/…/workflow-cancellation).
            self.job.signalled = self.cancelled and not self.evaluate(condition, own)
            self.job.script = text(step.get("run"))
            try:
                outputs = self.script(step, own) if "run" in step else self.action(step, own)
                done["conclusion"] = "success"
            except StepError as error:
                self.job.log += f"{error}\n"
                done["conclusion"] = "cancelled" if self.job.signalled else "failure"
                self.failed = self.failed or not step.get("continue-on-error")
            done["status"] = "completed"
        if "id" in step:
            contexts["steps"][step["id"]] = {
                "outputs": outputs,
                "outcome": done["conclusion"],
                "conclusion": done["conclusion"],
            }

    def hooks(self, name: str) -> None:
        for job, part in list(self.github.during):
            if job == self.job.id and part in name:
                self.github.during.pop((job, part))()

    def script(self, step: dict[str, Any], contexts: dict[str, Any]) -> dict[str, str]:
        """Run a script in bash; return the outputs that it sets."""
        defaults = (self.run_.definition.get("defaults") or {}).get("run") or {}
        place = step.get("working-directory", defaults.get("working-directory", "."))
        folder = self.workspace / text(self.evaluate(place, contexts))
        if not folder.is_dir():
            raise StepError(f"::error::There is no {folder}: nothing is checked out.")
        code = text(self.evaluate(step["run"], contexts))
        files = {name: self.runner.folder / name for name in ("output", "summary", "environment")}
        for file in files.values():
            file.write_text("")
        event = self.runner.folder / "event.json"
        event.write_text(json.dumps(self.run_.payload))
        github = contexts["github"]
        names = ("actor", "event_name", "head_ref", "base_ref", "ref", "ref_name", "repository")
        names += ("run_attempt", "run_id", "run_number", "server_url", "sha", "workflow")
        names += ("workflow_ref", "triggering_actor", "api_url", "job", "workspace")
        variables = {f"GITHUB_{name.upper()}": text(github[name]) for name in names} | {
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "GITHUB_ENV": str(files["environment"]),
            "RUNNER_TEMP": str(self.runner.folder),
            "PATH": f"{self.runner.binaries}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.runner.folder),
        }
        variables |= contexts["env"]
        if re.fullmatch(r"make [\w= /.-]+", code):  # no need for a shell
            result, printed = self._ask(Call("make", folder, code.split()[1:], variables))
        elif found := re.fullmatch(r'python3 -m tools\.github ([\w "$/.-]+)', code):
            result, printed = self._fork(found[1], folder, variables)
        else:
            # actions/reference/workflows-and-actions/workflow-syntax: `bash -e` where none is named
            named = step.get("shell", defaults.get("shell")) == "bash"
            options = ("--noprofile", "--norc", "-eo", "pipefail") if named else ("-e",)
            bash = ["bash", *options, "-c", code]
            result, printed = self._start(bash, folder, variables)
        self.job.log += printed
        self.run_.summary += files["summary"].read_text()
        self.exported |= _assignments(files["environment"].read_text())
        if result:
            raise StepError(f"`{code.strip()}` ended with {result}")
        return _assignments(files["output"].read_text())

    def _fork(self, line: str, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
        """Run a command of tools/github; return its exit code and output."""
        tools, output = self.runner.tools, self.runner.folder / "printed"
        words = [
            re.sub(r"\$(\w+)", lambda name: variables.get(name[1], ""), word)
            for word in shlex.split(line)
        ]
        request = {"arguments": words, "folder": str(folder), "variables": variables}
        assert tools.stdin
        assert tools.stdout
        tools.stdin.write(json.dumps(request | {"output": str(output)}).encode() + b"\n")
        tools.stdin.flush()
        try:
            code = self._serve(tools.stdout.fileno())
        except AssertionError:
            os.read(tools.stdout.fileno(), 10)
            raise
        return int(code), output.read_text()

    def _start(
        self, command: list[str], folder: Path, variables: dict[str, str]
    ) -> tuple[int, str]:
        """Run a command; return its exit code and output."""
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=-3, stdout=-1, stderr=subprocess.STDOUT
        )
        assert process.stdout
        printed = b""
        while part := self._serve(process.stdout.fileno()):
            printed += part
        process.stdout.close()
        return process.wait(), printed.decode()

    def _serve(self, descriptor: int) -> bytes:
        """Return what comes from a file; answer `make` and `gh` until then."""
        request = b""
        while True:
            ready = select.select([descriptor, self.runner.requests], [], [])[0]
            if self.runner.requests in ready:
                request += os.read(self.runner.requests, 65536)
                if request.endswith(b"\0\1\0"):
                    self._answer(request.decode().split("\0"))
                    request = b""
            elif descriptor in ready:
                return os.read(descriptor, 65536)

    def _answer(self, words: list[str]) -> None:
        count = int(words[2])
        variables = dict(word.split("=", 1) for word in words[3 + count :] if "=" in word)
        call = Call(words[0], Path(words[1]), words[3 : 3 + count], variables)
        code, printed = 1, "The simulator failed."
        try:
            code, printed = self._ask(call)
        finally:  # or what asks would wait for ever
            with (self.runner.folder / "answer").open("w") as answer:
                answer.write(f"{code}\n{printed}")

    def _ask(self, call: Call) -> tuple[int, str]:
        if call.program == "gh":
            self.run_.calls.append(" ".join(call.arguments))
            self.job.seconds += 1
            return self.github.gh(self.job, call)
        code, printed, seconds = self.github.make(self.job, call)
        self.job.seconds += seconds
        return code, printed

    # Actions

    def action(self, step: dict[str, Any], contexts: dict[str, Any]) -> dict[str, str]:
        """Do what an action does, as far as the workflow relies on it; return its outputs."""
        uses = step["uses"]
        given = self.texts(self.evaluate(step.get("with", {}), contexts))
        if uses.startswith(("./", "$/")):
            return self.composite(uses, given, contexts)
        name = uses.partition("@")[0]
        self.job.seconds += SECONDS.get(name, 1)
        handlers = {
            "actions/checkout": self.checkout,
            "actions/upload-artifact": self.upload,
            "actions/download-artifact": self.download,
            "aws-actions/configure-aws-credentials": self.credentials,
        }
        if name in handlers:
            handlers[name](given)
        elif name.startswith("actions/attest"):
            self.github.attested.append(given)
        return {}

    def composite(
        self, uses: str, given: dict[str, str], contexts: dict[str, Any]
    ) -> dict[str, str]:
        """Run a composite action of this repository: `./` as checked out, `$/` of the run's commit.

        actions/reference/workflows-and-actions/workflow-syntax, `steps.uses`.
        """
        file = self.workspace / uses[2:] / "action.yml"
        if uses.startswith("$/"):
            content = self.github.files(self.run_.sha, uses[2:])[f"{uses[2:]}/action.yml"]
        elif file.is_file():
            content = file.read_text()
        else:
            raise StepError(f"::error::Can't find 'action.yml' under {uses}: check out first.")
        definition = self.github.expressions.parse("action", content)
        own = contexts | {"steps": {}, "inputs": {}, "env": dict(contexts["env"])}
        own["github"] = contexts["github"] | {"action_path": str(file.parent)}
        for unknown in ("vars", "secrets", "needs"):
            own.pop(unknown)
        for name, options in (definition.get("inputs") or {}).items():
            default = self.evaluate((options or {}).get("default", ""), own)
            own["inputs"][name] = given.get(name, text(default))
        failed_before, self.failed = self.failed, False
        for step in definition["runs"]["steps"]:
            self.step(step, own)
        failed, self.failed = self.failed, failed_before
        if failed:
            raise StepError(f"{uses} failed")
        outputs = definition.get("outputs") or {}
        return {n: text(self.evaluate(o["value"], own)) for n, o in outputs.items()}

    def checkout(self, given: dict[str, str]) -> None:
        """Check out the run's commit, or `ref`, with as much history as is asked for."""
        self.require("contents", "read")
        sha = given.get("ref") or self.run_.sha
        assert re.fullmatch("[0-9a-f]{40}", sha), sha
        depth = int(given.get("fetch-depth", 1))
        self.workspace = self.runner.folder / f"{'whole' if depth == 0 else 'shallow'}-{sha}"
        if self.workspace.is_dir():
            for dist in self.workspace.glob("**/dist"):
                shutil.rmtree(dist)
        else:
            self.workspace.mkdir()
            _git(self.workspace, "init", "--quiet", "--template=")
            if depth:
                remote = f"file://{self.github.folder}"
                _git(self.workspace, "fetch", "--quiet", f"--depth={depth}", remote, sha)
        if depth == 0:  # all branches, of today; a clone that borrows the objects is faster
            objects = self.workspace / ".git" / "objects" / "info"
            objects.mkdir(exist_ok=True)
            (objects / "alternates").write_text(f"{self.github.folder}/.git/objects\n")
        _git(self.workspace, "checkout", "--quiet", "--force", "--detach", sha)

    def upload(self, given: dict[str, str]) -> None:
        """Keep files for later jobs (actions/concepts/workflows-and-actions/workflow-artifacts)."""
        files = []
        for line in given["path"].split():
            found = [self.workspace / line] if (self.workspace / line).is_file() else []
            files += found or sorted(f for f in self.workspace.glob(line + "/**/*") if f.is_file())
            files += [] if found else sorted(f for f in self.workspace.glob(line) if f.is_file())
        if not files:
            if given.get("if-no-files-found") == "error":
                raise StepError("::error::No files were found with the provided path.")
            return
        base = Path(os.path.commonpath([file.parent for file in files]))
        kept = {str(file.relative_to(base)): file.read_bytes() for file in files}
        until = self.github.day + int(given.get("retention-days") or 90)
        self.github.artifacts[self.run_.id, given["name"]] = (until, kept)

    def download(self, given: dict[str, str]) -> None:
        """Get files of this run, or of another that `run-id` names; what has expired is gone."""
        number = int(given.get("run-id") or self.run_.id)
        if number != self.run_.id:
            self.require("actions", "read")
        pattern = given.get("pattern") or given.get("name") or "*"
        names = re.escape(pattern).replace(r"\*", ".*")
        found = [
            files
            for (run, name), (until, files) in self.github.artifacts.items()
            if run == number and re.fullmatch(names, name) and until >= self.github.day
        ]
        if not found and "pattern" not in given:
            raise StepError(f"::error::Artifact not found for name: {pattern}")
        for files in found:
            for name, content in files.items():
                target = self.workspace / given.get("path", ".") / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def credentials(self, given: dict[str, str]) -> None:
        """Get a role from AWS, if it trusts this job's token.

        actions/reference/security/oidc: the subject is the environment, the event or the branch.
        """
        self.require("id-token", "write")
        role, job = given["role-to-assume"].rpartition("/")[2], self.job
        subject = f"environment:{job.environment}" if job.environment else f"ref:{job.run.ref}"
        if job.run.event == "pull_request" and not job.environment:
            subject = "pull_request"
        if subject not in self.github.trusts.get(role, ()):
            raise StepError(f"::error::Not authorized to assume {role or 'nothing'} as {subject}")
        self.job.roles.append(role)

    def require(self, scope: str, access: str) -> None:
        """Refuse what the job's token may not do."""
        permissions = self.job.definition.get("permissions")
        permissions = (
            self.run_.definition.get("permissions") if permissions is None else permissions
        )
        granted = (permissions or {}).get(scope, "none")
        if self.run_.from_outside and granted == "write":
            granted = "none" if scope == "id-token" else "read"
        if granted != access and not (access == "read" and granted == "write"):
            raise StepError(f"::error::Resource not accessible: {scope}: {access}")


def _assignments(lines: str) -> dict[str, str]:
    """Read the file of GITHUB_OUTPUT or GITHUB_ENV, heredocs included."""
    found = {}
    pattern = (
        r"(?P<n>[\w-]+)<<(?P<e>.*)\n(?P<t>(?:.*\n)*?)(?P=e)\n?|(?P<name>[\w-]+)=(?P<value>.*)\n?"
    )
    for match in re.finditer(pattern, lines):
        if match["name"]:
            found[match["name"]] = match["value"]
        else:
            found[match["n"]] = match["t"].removesuffix("\n")
    return found


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)

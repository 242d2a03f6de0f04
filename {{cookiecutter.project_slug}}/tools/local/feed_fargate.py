"""Runs worker.py from the working tree as ECS runs it on Fargate, while `make local` runs.

One task is enough, however many the scalable target allows; where it allows none (`make pause`),
none runs. The newest version's code is a copy of the service's own files as they were saved; an
older one, after a rollback, runs its own files, out of the package that was kept. Both have the
dependencies of the package as it is now. What ECS and CloudWatch say of the task is in moto, whose
server is in this process.
"""

from __future__ import annotations

import signal
import sysconfig
import tempfile
import threading
import time
import venv
from collections import deque
from pathlib import Path
from typing import Any

from tools.build.image import KEPT, keep, kept
from tools.build.package import PACKAGES, platform_here, remove, write_files
from tools.display import parse
from tools.errors import ToolError
from tools.local import working_tree
from tools.local.ecs import EcsService
from tools.local.log import Log, Outcome
from tools.local.patches_fargate import RECEIVED
from tools.local.running import FOLDER
from tools.local.runtime import container
from tools.local.task import GUARD, Task, family

LONGEST_PAUSE = 30.0  # seconds between two starts of a worker that ends by itself
WELL_AFTER = 60.0  # seconds: a worker that ends later did start well
MEMORY_EVERY = 5.0  # seconds
CPU_EVERY = 60.0  # ECS's: the number of reports is that of the running tasks
RECENT = 50  # outcomes, and lines of one
PAUSED = "Paused: messages wait in the queue until `make resume ENV=local`."
GONE = (
    "There is no ECS service any more: `make plan ENV=local`, then `make apply ENV=local`, deploy "
    "it again. If it has another name now, start `make local` again."
)


class Feed:
    """Feeds the task; see the module. recent is the last outcomes, the newest last.

    Called from one thread.
    """

    SHORTEST_RETRY = 3  # seconds: worker.py takes no less

    def __init__(
        self,
        aws: Any,
        outputs: dict[str, str],
        added: dict[str, str],
        log: Log,
        monitoring: Any,
        retry: int | None,
    ) -> None:
        """Take what is deployed, and what its code gets of environment variables besides.

        :param retry: seconds after which failed messages are visible again; None: as on AWS.
        """
        self.aws, self.role, self.log, self.monitoring = aws, outputs["role_arn"], log, monitoring
        self.retry, self.ecs = retry and max(retry, self.SHORTEST_RETRY), EcsService(outputs)
        self.keys = aws.grant(self.role)  # those of `make invoke`; each task has its own
        self.added = {"AWS_ENDPOINT_URL": aws.url, "LOCAL_RUN": "1", **added}
        self.recent: deque[Outcome] = deque(maxlen=RECENT)
        self.folder = (FOLDER / "code").absolute()
        self._dependencies = working_tree.Dependencies(self.folder)
        self._stats: working_tree.Stats = {}
        self._lines: deque[str] = deque(maxlen=RECENT)  # since the last outcome
        self._lock = threading.Lock()  # for these two
        self._task: Task | None = None
        self._stopping: list[Task] = []
        self._deployment = ""  # ECS's, which the task belongs to
        self._wanted = 0
        self._why = ""  # what the task was started for, until it receives messages
        self._pause, self._start_at = 1.0, 0.0
        self._memory_at = self._cpu_at = 0.0

    @property
    def code(self) -> dict[str, str]:
        """Return the environment variables of the code as it is deployed."""
        return self._environment(self.keys)

    def _environment(self, keys: dict[str, str]) -> dict[str, str]:
        variables = {one["name"]: one["value"] for one in self.ecs.container()["environment"]}
        if self.retry is not None:
            variables["VISIBILITY_TIMEOUT"] = str(self.retry)
        return {**variables, "AWS_REGION": self.aws.region, **keys, **self.added}

    def start(self) -> None:
        """Begin. Raises ToolError if the dependencies can't be had."""
        for folder in (self.folder, KEPT):  # of a run before this one
            remove(folder)
        keep(PACKAGES[platform_here()])
        venv.create(self.folder / "venv", symlinks=True)
        self._update_dependencies()
        self.look()

    def _update_dependencies(self) -> None:
        """Let the tasks' Python find what requirements.txt asks for now."""
        before = self._dependencies.folder
        self._dependencies.update()
        if self._dependencies.folder == before:
            return
        base = {"base": str(self.folder / "venv")}
        packages = Path(sysconfig.get_path("purelib", "venv", base))
        (packages / "guard_of_make_local.py").write_text(GUARD, encoding="utf-8")
        lines = f"{self._dependencies.folder}\nimport guard_of_make_local\n"
        (packages / "make_local.pth").write_text(lines, encoding="utf-8")

    def look(self) -> None:
        """Take over what has changed: settings in the local AWS, and processes that have ended."""
        self._see_what_ended()
        exists = self.ecs.exists()
        before, self._wanted = self._wanted, min(1, self.ecs.most_tasks()) if exists else 0
        now = time.monotonic()
        if before and not self._wanted:
            self.log.say(PAUSED if exists else GONE)
            self._stop()
            self._start_at = 0.0
        elif not self._wanted:
            pass
        elif self._deployment != self.ecs.deployment()["id"]:
            version = self.ecs.definition().revision
            self._begin(f"Version {version} runs" if self._deployment else "")
        elif not self._task and now >= self._start_at:
            self._begin("" if before else "Taking messages from the queue")
        elif self._task:
            self._see_to(self._task, now)
        if exists:
            self.ecs.count(self._wanted)

    def _see_to(self, task: Task, now: float) -> None:
        """Do what is to be done for a task that runs."""
        if self._why and task.receives:
            self.log.say(f"{self._why} ({now - task.began:.2f} s).")
            self._why = ""
        if now >= self._memory_at:
            self._memory_at = now + MEMORY_EVERY
            self._measure(task.process.pid, now)

    def reload(self) -> None:
        """Run the code as it is saved now."""
        names = working_tree.changed(self._stats, working_tree.code_stats())
        try:
            self._update_dependencies()
        except ToolError as error:
            self.log.say(f"Still using the earlier dependencies: {error}")
        if self.ecs.exists() and not self.ecs.is_newest():
            version = self.ecs.definition().revision
            self.log.say(f"Version {version} is live, so the code that you saved doesn't run.")
        elif self._wanted:
            self._begin("Reloaded: " + ", ".join(names or ["the dependencies"]))

    def _begin(self, why: str) -> None:
        """Start a task with its version's code, and stop the one before it."""
        self._start_at = float("inf")  # if there is no such code: until something changes
        self._stats = working_tree.code_stats()
        self._deployment = self.ecs.deployment()["id"]
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            package = kept(self.ecs.container()["image"])
            newest = self.ecs.is_newest()
            own = working_tree.own() if newest else working_tree.own_in(package.read_bytes())
            write_files(own, folder / "app")
        except (ToolError, OSError) as error:
            self.log.say(f"Not reloaded: {error}")
            return
        self._stop()
        temporary = folder / "tmp"  # the health check's file is there
        temporary.mkdir()
        variables = container(temporary, self.aws.region)
        variables |= self._environment(self.aws.grant(self.role))
        python, task = self.folder / "venv" / "bin" / "python", self.ecs.new_task()
        self._task, self._why = Task(python, folder, variables, task, self._line), why
        self._pause = 1.0 if why else self._pause

    def _stop(self) -> None:
        """Tell the task to stop, if there is one. It gets no more messages, but may finish some."""
        if self._task:
            reason = f"Scaling activity initiated by (deployment {self._deployment})"
            self._task.stop(float(self.ecs.container()["stopTimeout"]), reason)
            self._stopping.append(self._task)
            self._task = None

    def _see_what_ended(self) -> None:
        for task in list(self._stopping):
            if task.process.poll() is not None or time.monotonic() > task.kill_at:
                self._stopping.remove(task)
                self._end(task)
        if self._task and self._task.process.poll() is not None:
            task, self._task = self._task, None
            if time.monotonic() > task.began + WELL_AFTER:
                self._pause = 1.0
            how = exit_of(self._end(task))
            self.log.say(f"worker.py has ended with {how}; it starts again in {self._pause:g} s.")
            self._start_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _end(self, task: Task) -> int:
        """Clean up after a task; return how its process ended, as Python says it."""
        code = task.end()
        # A container's exit code after a signal: 128 and its number.
        self.ecs.task_has_stopped(task.described, code if code >= 0 else 128 - code)
        return code

    def _line(self, task: Task, text: str) -> None:
        """Take a line that a task wrote; its files are named as they are in the service."""
        for folder in (task.folder / "app", self._dependencies.folder):
            text = text.replace(f"{folder}/", "")
        self.log.write(f"task/worker/{task.described['taskArn'].rpartition('/')[2]}", text)
        with self._lock:
            self._lines.append(text)
            if outcome := outcome_of(text, list(self._lines)):
                self.recent.append(outcome)
                self._lines.clear()
        if self._why and task is self._task and "Can't start the handler" in text:
            self._why = ""
            self.log.say("Not reloaded: messages wait until you save a fix.")

    def _measure(self, pid: int, now: float) -> None:
        """Report ECS's metrics, in percent of what the task definition gives a task."""
        definition, found = self.ecs.definition(), family(pid).values()
        dimensions = {"ClusterName": self.ecs.cluster, "ServiceName": self.ecs.name}
        if not found:
            return
        memory = 100 * sum(used for used, _ in found) / int(definition.memory)
        self.monitoring.put("AWS/ECS", "MemoryUtilization", dimensions, memory, "Percent")
        if now >= self._cpu_at:
            self._cpu_at = now + CPU_EVERY
            cpu = sum(used for _, used in found) * 1024 / int(definition.cpu)
            self.monitoring.put("AWS/ECS", "CPUUtilization", dimensions, cpu, "Percent")

    def close(self) -> None:
        """End all that was started."""
        for task in [self._task, *self._stopping]:
            if task:
                task.end()
        remove(self.folder)


def outcome_of(text: str, lines: list[str]) -> Outcome | None:
    """Return the outcome that a line of the log tells of, if any; lines are what led to it."""
    line = parse(text)
    ids = [line["message_id"]] if "message_id" in line else line.get("message_ids", [])
    if line.get("message") in ("Message processed", "Smoke test received"):
        what = "processed"
    elif ids and line.get("level") == "ERROR":
        what = f"failed: {line.get('error', line.get('message'))}"
    else:
        return None
    now = time.time()
    began = min((RECEIVED.get(one, now) for one in ids), default=now)
    return Outcome(now, ids, what, 1000 * (now - began), lines)


def exit_of(code: int) -> str:
    """Say how a process ended: Python's return code is negative for a signal."""
    return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

"""Measure `make local` against `make e2e`, and against serverless-offline, which needs no Docker.

    .venv/bin/python benchmarks/local.py [--rounds 3]

Everything in the table comes from one run. Each round starts `make local`, saves a file ten times
and publishes a message right after, does the same with serverless-offline, and runs `make e2e`.
Memory is measured once, at the end. Writes benchmarks/local.json and the second table in
benchmarks/README.md, if the machine is idle. Works in build/bench-local. Needs make and Terraform,
and npm for serverless-offline: without it that row is left out. Only for Linux, where /proc tells
how much memory a process has.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bench
import boto3
from bench import HERE, MIB, TEMPLATE, say
from fargate_worker import entry, server

BEGIN, END = "<!-- results of make local -->", "<!-- end of results of make local -->"
SAVES = 10  # a round
PEERS = {"serverless": "3.40.0", "serverless-offline": "13.9.0", "serverless-offline-sqs": "8.0.0"}
PATIENCE = 600  # seconds, for anything
FEW, MANY = (100, 1), (10_000, 100)  # messages and reloads before memory is measured

# The line that is saved into the service's code: what a message's log line then says.
MARK = '    logger.info("Saved %s times")\n'
MARKED = re.compile(r'    logger\.info\("Saved \d+ times"\)\n')
LAST_LINE = '    logger.debug("%s is %s old", event_type, age)\n'

SERVERLESS = """
service: peer
frameworkVersion: "3"
provider:
  name: aws
  runtime: python3.11 # the newest that it knows
  region: eu-central-1
  environment: {environment}
plugins: [serverless-offline, serverless-offline-sqs]
functions:
  worker:
    handler: handler.handler
    events:
      - sqs: {{arn: "arn:aws:sqs:eu-central-1:123456789012:peer", batchSize: 10}}
custom:
  serverless-offline-sqs:
    autoCreate: true
    apiVersion: "2012-11-05"
    endpoint: "{endpoint}"
    region: eu-central-1
    accessKeyId: local
    secretAccessKey: local
"""


class Following:
    """A command that runs, and the lines that it prints."""

    def __init__(
        self, command: list[str | Path], folder: Path, environment: dict[str, str]
    ) -> None:
        self.started = time.monotonic()
        self.lines: list[tuple[float, str]] = []  # when it came, in seconds since the start
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.changed:
                self.lines.append((time.monotonic() - self.started, line.rstrip()))
                del self.lines[:-5000]  # this process's memory stays small, too
                self.changed.notify_all()

    def until(self, text: str) -> float:
        """Wait for a line with a text; return when it came, in seconds since the start."""
        with self.changed:
            self._wait(lambda: any(text in line for _, line in self.lines), text)
            return next(when for when, line in self.lines if text in line)

    def _wait(self, condition: Any, what: str) -> None:
        ends = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > ends or self.process.poll() is not None:
                last = "\n".join(line for _, line in self.lines[-40:])
                sys.exit(f"{what!r} did not come. The last lines:\n{last}")
            self.changed.wait(1)

    def stop(self) -> None:
        """Press Ctrl-C, so to speak, and wait."""
        with self.changed:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.reader.join(10)


class Bench:
    """The folders that the measurements work in, and the measurements."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.service = work / "service" / "order-events"
        self.module = self.service / "order_events" / "service.py"
        unwanted = {"PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in unwanted and not name.startswith(("AWS_", "TF_VAR"))
        }
        path = os.environ["PATH"]
        self.environment["PATH"] = f"{TEMPLATE / '.terraform-bin'}{os.pathsep}{path}"
        self.saves = 0
        self.npm = shutil.which("npm")

    def prepare(self) -> None:
        """Render and install the service, and install the peer."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        say("Rendering the service and installing what it needs")
        command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
        answers = [f"python_version={bench.VERSION}", f"architecture={bench.ARCHITECTURE}"]
        self.run(*command, "--output-dir", self.work / "service", TEMPLATE, *answers)
        self.run("make", "install", cwd=self.service)
        if self.npm:
            say("Installing", *PEERS)
            (self.work / "peer").mkdir()
            names = [f"{name}@{version}" for name, version in PEERS.items()]
            self.run("npm", "install", "--no-audit", "--no-fund", *names, cwd=self.work / "peer")
            bench.copy_code(self.service, self.work / "peer")

    def run(self, *command: object, cwd: Path | None = None) -> float:
        """Run a command that must succeed; return how many seconds it took."""
        started = time.monotonic()
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            line = " ".join(str(part) for part in command)
            sys.exit(f"`{line}` ended with {done.returncode}:\n{done.stdout}")
        return time.monotonic() - started

    # ---- measurements ----

    def round(self, first: bool) -> dict[str, float]:
        """Take every measurement once."""
        values: dict[str, float] = {}
        if first:
            shutil.rmtree(self.service / ".local", ignore_errors=True)
            shutil.rmtree(self.service / "dist", ignore_errors=True)
            with self.running() as local:
                values["ready first"] = local.until("Listening")
        with self.running() as local:
            values["ready"] = local.until("Listening")
            values["apply"] = step(local, "terraform apply")
            values["reload"] = statistics.median(self.save(local) for _ in range(SAVES))
        if self.npm:
            values["peer"] = self.peer()
        values["e2e"] = self.run("make", "e2e", cwd=self.service)
        return values

    @contextmanager
    def running(self) -> Iterator[Following]:
        """Run `make local`."""
        command: list[str | Path] = ["make", "--no-print-directory", "local"]
        local = Following(command, self.service, self.environment)
        try:
            yield local
        finally:
            local.stop()

    def client(self, name: str) -> Any:
        """Return a boto3 client of a service of the running local AWS."""
        found = json.loads((self.service / ".local" / "running.json").read_text())
        return boto3.client(
            name,
            endpoint_url=found["url"],
            region_name=found["region"],
            aws_access_key_id=found["key"],
            aws_secret_access_key="local",
        )

    def topic(self) -> tuple[Any, str]:
        """Return a client of SNS in the running local AWS, and the topic's ARN."""
        sns = self.client("sns")
        return sns, sns.list_topics()["Topics"][0]["TopicArn"]

    def save(self, local: Following) -> float:
        """Save a file, publish a message right after; return the seconds until its log line."""
        sns, topic = self.topic()
        message = entry(0, 0)
        started = self.change(self.module)
        sns.publish(
            TopicArn=topic,
            Message=message["MessageBody"],
            MessageAttributes=message["MessageAttributes"],
        )
        return local.started + local.until(f"Saved {self.saves} times") - started

    def change(self, module: Path) -> float:
        """Save a line that says how often it was saved; return when that was."""
        self.saves += 1
        text = MARKED.sub("", module.read_text(encoding="utf-8"))
        started = time.monotonic()
        module.write_text(text.replace(LAST_LINE, MARK % self.saves + LAST_LINE), encoding="utf-8")
        return started

    def peer(self) -> float:
        """Do the same with serverless-offline; return the median of three."""
        folder = self.work / "peer"
        with server() as environment:
            variables = bench.read_environment(self.service / "local.env")
            text = SERVERLESS.format(
                endpoint=environment["AWS_ENDPOINT_URL"], environment=json.dumps(variables)
            )
            (folder / "serverless.yml").write_text(text, encoding="utf-8")
            environment["VIRTUAL_ENV"] = str(self.service / ".venv")  # the Python that it runs
            environment |= {"SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off"}
            program = folder / "node_modules" / ".bin" / "serverless"
            options: list[str | Path] = ["offline", "start", "--reloadHandler"]
            offline = Following([program, *options], folder, environment)
            try:
                offline.until("Starting Offline SQS")
                return statistics.median(self.save_peer(offline, environment) for _ in range(3))
            finally:
                offline.stop()

    def save_peer(self, offline: Following, environment: dict[str, str]) -> float:
        """Save a file of the peer's, send a message; return the seconds until its log line."""
        sqs = boto3.client(
            "sqs",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="eu-central-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        message = {name: value for name, value in entry(0, 0).items() if name != "Id"}
        queue = sqs.create_queue(QueueName="peer")["QueueUrl"]
        started = self.change(self.work / "peer" / "order_events" / "service.py")
        sqs.send_message(QueueUrl=queue, **message)
        return offline.started + offline.until(f"Saved {self.saves} times") - started

    def until_left(self, most: int) -> None:
        """Wait until no more messages are in the queue, or in flight."""
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName="order-events-local")["QueueUrl"]
        ends = time.monotonic() + PATIENCE
        while True:
            counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            waiting = counts["ApproximateNumberOfMessages"]
            if int(waiting) + int(counts["ApproximateNumberOfMessagesNotVisible"]) <= most:
                return
            if time.monotonic() > ends:
                sys.exit(f"{waiting} messages are still in the queue")
            time.sleep(0.1)

    def memory(self) -> dict[str, float]:
        """Return what all processes of `make local` have, in MiB, after few and after many."""
        values = {}
        with self.running() as local:
            local.until("Listening")
            sns, topic = self.topic()
            sent = reloads = 0
            for name, (messages, saves) in (("memory few", FEW), ("memory many", MANY)):
                while sent < messages:
                    sns.publish_batch(
                        TopicArn=topic,
                        PublishBatchRequestEntries=[published(one) for one in range(10)],
                    )
                    sent += 10
                    self.until_left(100)  # not too far ahead
                    if sent * saves >= (reloads + 1) * messages:
                        self.until_left(0)
                        self.save(local)
                        sent, reloads = sent + 1, reloads + 1
                self.until_left(0)
                time.sleep(3)  # what ended has gone
                values[name] = resident(local.process.pid) / MIB
                say(f"{name}: {sent} messages, {reloads} reloads, {values[name]:.0f} MiB")
        return values


def published(number: int) -> dict[str, Any]:
    """Return a message for PublishBatch."""
    message = entry(0, number)
    return {"Message": message.pop("MessageBody"), **message}


def step(local: Following, text: str) -> float:
    """Return how long the step took that a line begins: until the next that is no sign of life."""
    lines = list(local.lines)
    begin = next(place for place, (_, line) in enumerate(lines) if text in line)
    ends = (when for when, line in lines[begin + 1 :] if "…" not in line)
    return next(ends) - lines[begin][0]


def resident(pid: int) -> int:
    """Return the resident memory of a process and of all below it, in bytes.

    Pages that several of them share count once: this is the sum of the proportional set sizes.
    """
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        parents.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for one in family:
        family += parents.get(one, [])
    total = 0
    for one in family:
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.findall(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)[0]) * 1024
    return total


def compare(rounds: list[dict[str, float]], memory: dict[str, float]) -> list[dict[str, Any]]:
    """Return the table's rows."""
    what = "from saving a file to the log line of a message published right after"
    rows = []
    for name, ours, against, peer, goal in (
        (what, "reload", "`make e2e`", "e2e", "1 s"),
        (what, "reload", "serverless-offline, one message in a batch of ten", "peer", None),
        ("`make local` is ready", "ready", "of that, `terraform apply`", "apply", None),
        ("`make local` is ready, the first time", "ready first", "later", "ready", None),
    ):
        if not all(any(key in values for values in rounds) for key in (ours, peer)):
            continue
        value, other = (
            statistics.median(values[key] for values in rounds if key in values)
            for key in (ours, peer)
        )
        row = {"what": name, "value": value, "against": against, "peer": other, "unit": "s"}
        met = None if goal is None else value <= float(goal.split()[0])
        rows.append({**row, "ratio": value / other, "goal": goal, "met": met})
    many, few = memory["memory many"], memory["memory few"]
    rows.append(
        {
            "what": f"memory after {MANY[0]:,} messages and {MANY[1]} reloads",
            "value": many,
            "against": f"after {FEW[0]} and {FEW[1]}",
            "peer": few,
            "unit": "MiB",
            "ratio": many / few,
            "goal": 1.1,
            "met": round(many / few, 2) <= 1.1,
        }
    )
    return rows


def environment(rounds: int, load: float, npm: str | None) -> dict[str, Any]:
    """Return what the figures depend on; load is the load average at the start."""
    about = bench.machine(rounds, load)
    terraform = json.loads(
        subprocess.check_output(["terraform", "version", "-json"], stderr=subprocess.DEVNULL)
    )
    about["versions"]["Terraform"] = terraform["terraform_version"]
    about["versions"] |= PEERS if npm else {}
    return about


def main() -> int:
    """Run everything; return the exit code, 1 if a goal is not met."""
    parser = argparse.ArgumentParser(description="Measure `make local`.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=TEMPLATE / "build" / "bench-local")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the table and write nothing, on any load"
    )
    options = parser.parse_args()
    # `nohup … &` ignores it, and `make local`, which is ended by it, would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    load = bench.load_average(options.dry_run)
    it = Bench(options.work.resolve())
    os.environ["PATH"] = it.environment["PATH"]
    it.prepare()
    rounds = []
    for number in range(options.rounds):
        rounds.append(it.round(first=not number))
        say(f"Round {number + 1} of {options.rounds}:", json.dumps(rounds[-1]))
    memory = it.memory()
    rows = compare(rounds, memory)
    about = environment(options.rounds, load, it.npm)
    table = bench.markdown(rows, about)
    if not options.dry_run:
        document = {**about, "comparisons": rows, "measurements": [*rounds, memory]}
        (options.output / "local.json").write_text(
            json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        bench.write_table(options.output / "README.md", table, BEGIN, END)
    say("", table)
    return 1 if any(row["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the template and the service that it renders against what people use today.

    .venv/bin/python benchmarks/bench.py [--rounds 5]

Everything in the table comes from one run: each round takes every measurement once, so that other
work on the machine affects all of them alike, and every second round goes through them backwards.
A ratio is the median of the rounds' ratios.

Writes benchmarks/results.json and the table in benchmarks/README.md, if the machine is idle: beside
other work the ratios are others, since not all that is measured uses both processors. Works in
build/bench, where it installs the peers from the package index. Needs make, and zip for one of the
comparisons.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent
SERVICE = TEMPLATE / "{{cookiecutter.project_slug}}"

# The template's folder stays clean: what lies in it is rendered.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SERVICE))
import fargate_worker  # noqa: E402
from tools import events  # noqa: E402
from tools.local.runtime import Runtime  # noqa: E402
from tools.local.runtime_process import resident_memory  # noqa: E402
from tools.project import read_environment  # noqa: E402

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = {"aarch64": "arm64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
PEERS = ["aws-sam-cli==1.170.0", "pip==26.3", "uv==0.13.9"]
USUAL = ["aws-xray-sdk>=2.15,<3", "pydantic>=2.13,<3"]
MIB = 1024 * 1024
MAX_LOAD = 1.0  # average number of processes that run or want to, when the benchmark starts
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

# Ten messages, as Lambda hands them to the handler.
BATCH = {
    "Records": [
        events.record(
            json.dumps(
                {
                    "id": f"event-{number}",
                    "occurred_at": "2026-01-01T10:00:00Z",
                    "data": {"order_id": f"order-{number}", "total": "19.90"},
                }
            ),
            event_type="order.created",
            correlation_id=f"correlation-{number}",
        )
        for number in range(10)
    ]
}


@dataclass(frozen=True)
class Comparison:
    """A row of the table: two measurements, and the ratio that we want to stay below."""

    what: str
    ours: str
    against: str
    peer: str
    goal: float | None
    unit: str = "s"


COMPARISONS = [
    Comparison(
        "render with hooks",
        "render",
        "cookiecutter rendering a 20-file template without hooks",
        "render 20 files",
        1.3,
    ),
    Comparison(
        "package, warm cache, with bytecode", "package", "`sam build` + zip", "sam build", 0.35
    ),
    Comparison(
        "package, cold cache",
        "package cold",
        "pip into a folder + zip, cold cache",
        "pip cold",
        0.7,
    ),
    Comparison("nothing changed", "package unchanged", "`sam build --cached`", "sam cached", 0.03),
    Comparison("own code changed", "package own code", "full package, warm cache", "package", 0.3),
    Comparison(
        "zip size without bytecode",
        "size without",
        "level-6 zip of the same files without bytecode",
        "size level 6",
        1.0,
        "MB",
    ),
    Comparison(
        "zip size with bytecode",
        "size",
        "level-6 zip of the same files without bytecode",
        "size level 6",
        2.0,
        "MB",
    ),
    Comparison(
        "init of the default service",
        "init default",
        "an empty handler in the same client",
        "init empty",
        2.2,
        "ms",
    ),
    Comparison(
        "init of the default service",
        "init default",
        "the usual stack, packaged by `sam build` + zip",
        "init usual",
        0.25,
        "ms",
    ),
    Comparison(
        "processing per record, above an empty handler",
        "record default",
        "a stdlib-only handler with the same parsing and partial-batch loop",
        "record stdlib",
        2.5,
        "µs",
    ),
    Comparison(
        "peak memory after 1,000 batches of 10",
        "memory after 1000",
        "after 10 batches",
        "memory after 10",
        1.02,
        "MiB",
    ),
    Comparison(
        "Fargate's worker, per batch of 10, above the handler's own",
        "worker gap",
        "a plain boto3 loop that receives, calls and deletes",
        "loop gap",
        1.5,
        "ms",
    ),
    Comparison(
        "Fargate's worker, CPU time per batch of 10",
        "worker cpu",
        "the loop",
        "loop cpu",
        None,
        "ms",
    ),
    Comparison(
        "Fargate's worker, messages per second and vCPU",
        "worker rate",
        "the loop",
        "loop rate",
        None,
        "/s",
    ),
    Comparison("package, warm cache", "package", "pip into a folder + zip", "pip", None),
    Comparison("package, warm cache", "package", "SAM's uv builder + zip", "sam uv", None),
    Comparison("package, warm cache", "package", "venv + `zip -r9`", "venv zip", None),
]


class Bench:
    """The folders that the measurements work in, and the measurements."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.service = work / "service" / "order-events"
        self.peers = work / "peers"
        self.python = self.peers / "bin" / "python"
        # Of this process's environment: no bytecode would slow all of them down, and pip must not
        # have files that uv hasn't.
        unwanted = {"PYTHONDONTWRITEBYTECODE", "PIP_FIND_LINKS", "PIP_CONFIG_FILE", "VIRTUAL_ENV"}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in unwanted},
            "PATH": f"{self.peers / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "SAM_CLI_TELEMETRY": "0",
        }
        self.changes = 0
        self.variables: dict[str, str] = {}

    # ---- preparation ----

    def prepare(self) -> None:
        """Install the peers, render and install the service, and fill the caches."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        say("Installing the peers:", *PEERS)
        uv = [sys.executable, "-m", "uv"]
        self.run(*uv, "venv", "--quiet", "--python", sys.executable, self.peers)
        install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", self.python]
        self.run(*uv, *install, *PEERS)

        say("Rendering the service and installing what it needs")
        self.render(TEMPLATE, "service")
        self.make("install")
        write_template(self.work / "template")

        say("Preparing the peers' projects")
        lock = (self.service / "requirements.txt").read_text().splitlines()
        pins = [line.split()[0] for line in lock if line[:1].isalnum()]
        for name, method in (("sam", ""), ("sam cached", ""), ("sam uv", "python-uv")):
            write_sam_project(self.work / name, pins, self.service, method)
        write_sam_project(self.work / "usual", [*pins, *USUAL], HERE / "usual")
        (self.work / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins))
        self.sam("sam cached", "--cached")
        self.sam_zip("usual")

        for name in ("empty", "stdlib"):
            zip_folder(HERE / name, self.work / f"{name}.zip")
        python = self.service / ".venv" / "bin" / "python"
        code = "import shutil, sys; from tools.build.package import runnable as package; "
        code += "shutil.copy(package(), sys.argv[1])"
        self.run(python, "-c", code, self.work / "default.zip", cwd=self.service)
        for name in ("empty", "stdlib", "default"):
            timed = self.work / f"timed {name}.zip"
            shutil.copy(self.work / f"{name}.zip", timed)
            with zipfile.ZipFile(timed, "a") as archive:
                archive.write(HERE / "timed.py", "timed.py")
        self.variables = read_environment(self.service / "local.env")
        self.render(TEMPLATE, "worker", "compute=fargate")
        fargate_worker.prepare(self.work / "worker" / "order-events")

    def run(self, *command: object, cwd: Path | None = None, **environment: object) -> float:
        """Run a command; return how many seconds it took. Ends the benchmark if it fails."""
        started = time.perf_counter()
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.work,
            env={**self.environment, **{name: str(value) for name, value in environment.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            line = " ".join(str(part) for part in command)
            sys.exit(f"`{line}` ended with {done.returncode}:\n{done.stdout}")
        return seconds

    def folder(self, name: str) -> Path:
        """Return a folder below the work folder that does not exist."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.work / name

    # ---- measurements ----

    def render(self, template: Path, output: str, *more: str) -> float:
        """Render a template, with more answers; return seconds."""
        command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
        answers = []
        if template == TEMPLATE:
            answers = [f"python_version={VERSION}", f"architecture={ARCHITECTURE}", *more]
        return self.run(*command, "--output-dir", self.folder(output), template, *answers)

    def make(self, target: str, **environment: object) -> float:
        """Run a make target of the service; return seconds."""
        return self.run("make", target, cwd=self.service, **environment)

    def package(self, **environment: object) -> float:
        """Build the whole package; return seconds."""
        shutil.rmtree(self.service / "dist", ignore_errors=True)
        return self.make("package", **environment)

    def package_own_code(self) -> float:
        """Change a line of the service's own code and build; return seconds."""
        self.changes += 1
        module = self.service / "order_events" / "service.py"
        module.write_text(f"{module.read_text()}CHANGED = {self.changes}\n")
        return self.make("package")

    def sam(self, project: str, *options: str) -> float:
        """Run `sam build`; return seconds."""
        return self.run(self.peers / "bin" / "sam", "build", *options, cwd=self.work / project)

    def sam_zip(self, project: str, *options: str) -> float:
        """Run `sam build` and zip what it built; return seconds."""
        shutil.rmtree(self.work / project / ".aws-sam", ignore_errors=True)
        built = self.work / project / ".aws-sam" / "build" / "Function"
        return self.sam(project, *options) + zip_folder(built, self.work / f"{project}.zip")

    def pip_zip(self, cache: Path) -> float:
        """Install with pip into a folder, with the service's code, and zip it; return seconds."""
        target = self.folder("pip target")
        command = [self.python, "-m", "pip", "install", "--quiet", "--target", target]
        seconds = self.run(*command, "-r", self.work / "pins.txt", PIP_CACHE_DIR=cache)
        copy_code(self.service, target)
        return seconds + zip_folder(target, self.work / "pip.zip")

    def venv_zip(self) -> float:
        """Make a venv, install into it, `zip -r9` its packages and the service's code."""
        venv = self.folder("venv")
        seconds = self.run(self.python, "-m", "venv", venv)
        command = [venv / "bin" / "python", "-m", "pip", "install", "--quiet"]
        seconds += self.run(*command, "-r", self.work / "pins.txt")
        output = self.folder("venv.zip.folder") / "venv.zip"
        output.parent.mkdir()
        packages = venv / "lib" / f"python{VERSION}" / "site-packages"
        seconds += self.run("zip", "-qr9", output, ".", cwd=packages)
        return seconds + self.run(
            "zip", "-qr9", output, "handler.py", "order_events", cwd=self.service
        )

    def init(self, package: str) -> float:
        """Start a package three times; return the median of its init duration in ms."""
        durations = []
        for _ in range(3):
            with self.runtime(package) as runtime:
                invocation = runtime.invoke(BATCH)
                if invocation.error:
                    sys.exit(f"{package}: {invocation.error}")
                durations.append(invocation.init_duration or 0.0)
        return statistics.median(durations)

    def per_record(self, package: str) -> float:
        """Return what a handler takes for a record, in µs."""
        with self.runtime(f"timed {package}", handler="timed.measure") as runtime:
            invocation = runtime.invoke({"batch": BATCH, "times": 1000})
            if invocation.error:
                sys.exit(f"{package}: {invocation.error}")
            return float(invocation.response)

    def memory(self) -> dict[str, float]:
        """Return the default service's peak memory after 10 and after 1,000 batches, in MiB."""
        result = {}
        with self.runtime("default") as runtime:
            for number in range(1, 1001):
                runtime.invoke(BATCH)
                if number in (10, 1000):
                    assert runtime._process
                    result[f"memory after {number}"] = (
                        resident_memory(runtime._process.popen.pid) / MIB
                    )
        return result

    def runtime(self, package: str, **settings: Any) -> Runtime:
        """Return an execution environment for one of the packages."""
        return Runtime(
            self.work / f"{package}.zip",
            environment=self.variables,
            timeout=300,
            memory_size=1024,
            **settings,
        )

    def sizes(self) -> dict[str, float]:
        """Return the sizes of the package and of level-6 zips of its files, in MB."""
        package = self.service / "dist" / "lambda.zip"
        with zipfile.ZipFile(package) as archive:
            entries = archive.infolist()
            sources = [entry for entry in entries if not entry.filename.endswith(".pyc")]
            plain = io.BytesIO()
            with zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as other:
                for entry in sources:
                    other.writestr(
                        entry.filename, archive.read(entry), zipfile.ZIP_DEFLATED, compresslevel=6
                    )
        # What a file takes beside its content: local header, central directory, its name in both.
        overhead = {entry.filename: 76 + 2 * len(entry.filename.encode()) for entry in entries}
        bytecode = sum(
            entry.compress_size + overhead[entry.filename]
            for entry in entries
            if entry.filename.endswith(".pyc")
        )
        size = package.stat().st_size
        return {
            "size": size / MIB,
            "size without": (size - bytecode) / MIB,
            "size level 6": len(plain.getvalue()) / MIB,
        }

    def steps(self) -> list[tuple[str, Callable[[], float | dict[str, float]]]]:
        """Return the measurements of a round, in their order."""
        steps: list[tuple[str, Callable[[], float | dict[str, float]]]] = [
            ("render 20 files", lambda: self.render(self.work / "template", "rendered 20")),
            ("render", lambda: self.render(TEMPLATE, "rendered")),
            ("sam build", lambda: self.sam_zip("sam")),
            ("package", self.package_and_what_follows),
            ("pip", lambda: self.pip_zip(self.work / "pip cache")),
            ("sam uv", lambda: self.sam_zip("sam uv", "--beta-features")),
            ("package cold", lambda: self.package(UV_CACHE_DIR=self.folder("uv cache"))),
            ("pip cold", lambda: self.pip_zip(self.folder("cold pip cache"))),
            ("sam cached", lambda: self.sam("sam cached", "--cached")),
            ("init empty", lambda: self.init("empty")),
            ("init default", lambda: self.init("default")),
            ("init usual", lambda: self.init("usual")),
            ("record empty", lambda: self.per_record("empty")),
            ("record stdlib", lambda: self.per_record("stdlib")),
            ("record default", lambda: self.per_record("default")),
            ("memory", self.memory),
            ("size", self.sizes),
        ]
        if sys.platform == "linux":
            worker = self.work / "worker" / "order-events"
            steps.append(("worker", lambda: fargate_worker.measure(worker)))
        if shutil.which("zip"):
            steps.append(("venv zip", self.venv_zip))
        return steps

    def package_and_what_follows(self) -> dict[str, float]:
        """Measure the whole package and, since they need one, the two that begin with it."""
        return {
            "package": self.package(),
            "package unchanged": self.make("package"),
            "package own code": self.package_own_code(),
        }


def say(*words: str) -> None:
    """Print what is going on."""
    print(*words, flush=True)


def copy_code(source: Path, target: Path) -> None:
    """Copy a service's own code, or a sample handler, to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "handler.py", target)
    if (source / "order_events").exists():
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / "order_events", target / "order_events", ignore=without)


def zip_folder(folder: Path, output: Path) -> float:
    """Zip a folder with Python's zipfile at its usual level, 6; return seconds."""
    started = time.perf_counter()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return time.perf_counter() - started


def write_template(folder: Path) -> None:
    """Write a cookiecutter template of 20 files without hooks."""
    inside = folder / "{{cookiecutter.slug}}"
    inside.mkdir(parents=True)
    questions = {f"question_{number}": "answer" for number in range(10)}
    (folder / "cookiecutter.json").write_text(json.dumps({"slug": "rendered", **questions}))
    line = "A line of text as a project has it, and now and then {{ cookiecutter.slug }}.\n"
    for number in range(20):
        (inside / f"file_{number}.txt").write_text(line * 50)


def write_sam_project(folder: Path, pins: list[str], code: Path, method: str = "") -> None:
    """Write a project for the SAM CLI with one function; method chooses another builder."""
    copy_code(code, folder / "src")
    (folder / "src" / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins))
    function: dict[str, Any] = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "CodeUri": "src",
            "Handler": "handler.handler",
            "Runtime": f"python{VERSION}",
            "Architectures": [ARCHITECTURE],
        },
    }
    if method:
        function["Metadata"] = {"BuildMethod": method}
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {"Function": function},
    }
    (folder / "template.yaml").write_text(json.dumps(template))  # JSON is YAML


def measure(bench: Bench, rounds: int) -> list[dict[str, float]]:
    """Take every measurement once a round; return name -> value of each round."""
    results = []
    for number in range(rounds + 1):
        values: dict[str, float] = {}
        steps = bench.steps()
        started = time.monotonic()
        for name, step in reversed(steps) if number % 2 else steps:
            value = step()
            values |= value if isinstance(value, dict) else {name: value}
        if number:  # the first one fills the caches
            results.append(values)
        which = f"Round {number} of {rounds}" if number else "Warming up"
        say(f"{which}: {time.monotonic() - started:.0f} s")
    return results


def compare(results: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return the table's rows."""
    rows = []
    for it in COMPARISONS:
        if it.peer not in results[0]:
            continue
        # What an empty handler takes is the runtime's, not the handlers'.
        base = "record empty" if it.ours.startswith("record") else None
        ours = [values[it.ours] - values.get(base or "", 0.0) for values in results]
        peers = [values[it.peer] - values.get(base or "", 0.0) for values in results]
        ratio = statistics.median(a / b for a, b in zip(ours, peers, strict=True))
        rows.append(
            {
                "what": it.what,
                "value": statistics.median(ours),
                "against": it.against,
                "peer": statistics.median(peers),
                "unit": it.unit,
                "ratio": ratio,
                "goal": it.goal,
                # to the two digits after the point that goals have
                "met": None if it.goal is None else round(ratio, 2) <= it.goal,
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return the table and a line about the machine."""
    lines = [
        "| what | measured | against | measured | ratio | goal | |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for row in rows:
        goal = "" if row["goal"] is None else f"≤ {row['goal']}"
        met = {True: "met", False: "**not met**", None: ""}[row["met"]]
        lines.append(
            f"| {row['what']} | {number(row['value'], row['unit'])} | {row['against']} "
            f"| {number(row['peer'], row['unit'])} | {row['ratio']:.3g} | {goal} | {met} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    load = f"load average {about['load']['start']} at the start, {about['load']['end']} at the end"
    where = f"{about['rounds']} rounds on {about['date']}; {about['machine']}; {load}. {versions}."
    return "\n".join([*lines, "", where])


def number(value: float, unit: str) -> str:
    """Return a measured value with three digits that count."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value * 1000:.0f} ms" if unit == "s" and value < 0.1 else f"{value:.{digits}f} {unit}"


def environment(bench: Bench, rounds: int, load: float) -> dict[str, Any]:
    """Return what the figures depend on; load is the load average at the start."""
    names = ("aws-sam-cli", "pip")
    code = f"import importlib.metadata as m; print(*map(m.version, {names!r}))"
    said = subprocess.run([bench.python, "-c", code], capture_output=True, text=True, check=True)
    about = machine(rounds, load)
    here = ("cookiecutter", "uv", "awslambdaric")
    about["versions"] |= {name: importlib.metadata.version(name) for name in here}
    about["versions"] |= dict(zip(names, said.stdout.split(), strict=True))
    return about


def machine(rounds: int, load: float) -> dict[str, Any]:
    """Return what all figures depend on."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "rounds": rounds,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "load": {"start": round(load, 2), "end": round(os.getloadavg()[0], 2)},
        "versions": {"Python": platform.python_version()},
    }


def load_average(whatever: bool) -> float:
    """Return the machine's load average; end the benchmark if it does other work, but whatever."""
    load = os.getloadavg()[0]
    if load > MAX_LOAD and not whatever:
        sys.exit(
            f"The load average is {load:.2f}, and it must be at most {MAX_LOAD:.0f}, or the ratios "
            "are not those of an idle machine. End other work, wait a minute and try again; or "
            "look at the figures only, with --dry-run."
        )
    return load


def main() -> int:
    """Run everything; return the exit code, 1 if a goal is not met."""
    parser = argparse.ArgumentParser(description="Measure against what people use today.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=TEMPLATE / "build" / "bench")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the table and write nothing, on any load"
    )
    options = parser.parse_args()
    load = load_average(options.dry_run)
    bench = Bench(options.work.resolve())
    bench.prepare()
    results = measure(bench, options.rounds)
    rows = compare(results)
    about = environment(bench, options.rounds, load)
    table = markdown(rows, about)
    if not options.dry_run:
        document = {**about, "comparisons": rows, "measurements": results}
        (options.output / "results.json").write_text(
            json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        write_table(options.output / "README.md", table)
    say("", table)
    return 1 if any(row["met"] is False for row in rows) else 0


def write_table(readme: Path, table: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what is between two marks in a Markdown file."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

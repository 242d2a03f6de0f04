"""The template through Cookiecutter's command line, in a process of its own: exit codes,
messages, where the workflow ends up, and what is left behind.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest
from conftest import TEMPLATE
from cookiecutter.exceptions import CookiecutterException
from cookiecutter.generate import generate_files
from test_pre_gen_project import DEFAULTS

COOKIECUTTER = (sys.executable, "-m", "cookiecutter", "--default-config")

Done = subprocess.CompletedProcess[str]


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which Cookiecutter keeps its files in `home`."""
    return {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make a home folder."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Make a folder to render into, with a folder around it where nothing must appear."""
    work = tmp_path / "around" / "work"
    work.mkdir(parents=True)
    return work


def cookiecutter(work: Path, home: Path, *options: str, **answers: str) -> Done:
    """Render the template into `work`, without questions."""
    pairs = [f"{name}={value}" for name, value in answers.items()]
    return subprocess.run(
        [*COOKIECUTTER, str(TEMPLATE), "--no-input", *options, *pairs],
        cwd=work,
        env=environment(home),
        capture_output=True,
        text=True,
    )


def tree(work: Path) -> dict[str, str | None]:
    """Return all that is in and beside `work`: paths, and the text of files."""
    return {
        str(path.relative_to(work.parent)): path.read_text() if path.is_file() else None
        for path in work.parent.rglob("*")
    }


def named(done: Done) -> list[str]:
    """Return the answers that the messages of the hook name, one for each message."""
    report, _, _ = done.stderr.partition("Nothing was rendered")
    lines = [line for line in report.splitlines() if line[:1].isalpha() and ": " in line]
    return [line.split(": ")[0] for line in lines]


# Bad input

BAD = {
    "project_name": ["", " ", "Order\nEvents", "Order Events\n", "x" * 81],
    "description": ["x" * 201, "one\ntwo", "A sentence.\n", "\x1b[1m"],
    "sns_topic_name": ["events.fifo-dev", "two words", "x" * 252, "events\n", ""],
    "event_types": ["", 'a"b', "a,,b", "${x}", "a*b", "order.created\n"],
    "aws_region": ["us-east", "us-east-1\n"],
    "terraform_state_bucket": ["My_Bucket", "a..b", "192.168.1.1", "xn--a", "state\n"],
    "service_path": ["/abs", "../up", ".\n", "a\tb"],
    "owner": ["", "my-team\n", "a\x01b"],
    "product": ["", "shop\n", "a\x7fb"],
    "package_name": ["class", "json", "handler", "Order", "1a", "a-b", "order_events\n", ""],
}
# As many runs as the longest list has values: each run takes the next value of every answer.
RUNS = [
    {name: value for name, value in zip(BAD, values, strict=True) if value is not None}
    for values in zip_longest(*BAD.values())
]


@pytest.mark.parametrize("bad", RUNS)
def test_bad_answers(work: Path, home: Path, bad: dict[str, str]) -> None:
    done = cookiecutter(work, home, project_slug="order-events", **bad)
    assert done.returncode == 1
    assert named(done) == list(bad)
    assert tree(work) == {"work": None}


@pytest.mark.parametrize(
    "slug", ["a/b", "Order Events", "-x", "x-", "a--b", "x" * 41, "order-events\n"]
)
def test_bad_slug(work: Path, home: Path, slug: str) -> None:
    done = cookiecutter(work, home, project_slug=slug, package_name="order_events")
    assert done.returncode == 1
    assert named(done) == ["project_slug"]
    left = {"work": None, "work/a": None} if slug == "a/b" else {"work": None}
    assert tree(work) == left
    assert (f"{work / 'a'} stays" in done.stderr) is (slug == "a/b")


@pytest.mark.parametrize("slug", ["", ".", ".."])
def test_slug_that_is_an_existing_folder(work: Path, home: Path, slug: str) -> None:
    """Cookiecutter itself refuses these, before any hook runs."""
    done = cookiecutter(work, home, project_slug=slug)
    assert done.returncode == 1
    assert "already exists" in done.stdout
    assert tree(work) == {"work": None}


@pytest.mark.parametrize("name", ["python_version", "architecture", "compute", "idempotency"])
def test_bad_choice(work: Path, home: Path, name: str) -> None:
    """Cookiecutter itself refuses these too, with a traceback that ends in the choices."""
    done = cookiecutter(work, home, **{name: "x\n"})
    assert done.returncode == 1
    assert f"choice variable {name}, but the choices are" in done.stderr
    assert tree(work) == {"work": None}


def test_bad_slug_with_two_dots(work: Path, home: Path) -> None:
    (work / "file").write_text("mine")
    done = cookiecutter(work, home, project_slug="x/..")
    assert done.returncode == 1
    assert done.stderr.endswith("project_slug must not contain ..'\n")
    assert tree(work) == {"work": None, "work/file": "mine", "work/x": None}


# Each is a path: cookiecutter makes its folder elsewhere, or finds one that exists.
PATHS = [
    *("", ".", "..", "../..", "./a", "a/.", "a/b/c", "kept/b", "kept/empty"),
    *("../x", "../x/y", "../kept", "../kept/x", "../kept/empty"),
    *("x/..", "x/../..", "x/../../kept", "x/../kept", "x/../kept/empty", "x/../y", "kept/x/.."),
    *("<work>", "<work>/x", "<work>/x/..", "<work>/x/../kept"),
]


@pytest.mark.parametrize("slug", PATHS)
@pytest.mark.parametrize(
    ("output", "overwrite"), [(".", False), (".", True), ("new", False)], ids=str
)
def test_nothing_that_was_there_before_is_removed(
    work: Path, monkeypatch: pytest.MonkeyPatch, slug: str, output: str, overwrite: bool
) -> None:
    """In this process, since there are many cases; the command line makes the same call."""
    for folder in (work, work.parent):
        (folder / "kept" / "empty").mkdir(parents=True)
        (folder / "kept" / "file").write_text("mine")
    before = tree(work)
    monkeypatch.chdir(work)
    context = {"cookiecutter": {**DEFAULTS, "project_slug": slug.replace("<work>", str(work))}}
    with pytest.raises((CookiecutterException, KeyError), match=r"Hook|exists|project_slug"):
        generate_files(TEMPLATE, context, output, overwrite_if_exists=overwrite)
    after = tree(work)
    assert before.items() <= after.items()
    assert {after[path] for path in after.keys() - before.keys()} <= {None}, "a file was written"


def test_an_existing_service_stays_as_it_was(work: Path, home: Path) -> None:
    service = work / "order-events"
    service.mkdir()
    (service / "handler.py").write_text("mine")
    before = tree(work)
    done = cookiecutter(work, home, "--overwrite-if-exists", aws_region="us-east")
    assert done.returncode == 1
    assert named(done) == ["aws_region"]
    assert "--no-input --overwrite-if-exists" in done.stderr
    assert tree(work) == before


def test_the_owners_files_in_tools_stay_when_the_template_renders_over_a_service(
    work: Path, home: Path
) -> None:
    """Cookiecutter would replace a whole folder whose name `_copy_without_render` matches."""
    own = work / "order-events" / "tools" / "operate" / "own.py"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    done = cookiecutter(work, home, "--overwrite-if-exists")
    assert done.returncode == 0, done.stderr
    assert own.read_text() == "mine"
    assert (own.parent / "status.py").is_file()


def run_again(command: str, home: Path) -> Done:
    """Run a command that the hook printed, as a shell does, in another folder than before."""
    return subprocess.run(
        ["/bin/sh", "-c", command.replace("cookiecutter", shlex.join(COOKIECUTTER), 1)],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
    )


def test_the_printed_command_renders_the_same_answers(work: Path, home: Path) -> None:
    (work / ".git").mkdir()
    typed = {
        "project_name": "O'Brien's \"Größe\" \\ $(id) `id` ~ ! 🚀",
        "description": "{{ '{' }}{ x }} ${x} %{y} # <b> \\",
        "event_types": "a b, order.*",
        "service_path": "elsewhere",
        "project_slug": "orders",
    }
    refused = cookiecutter(work, home, **typed)
    assert refused.returncode == 1
    assert named(refused) == ["service_path"]

    _, _, rest = refused.stderr.partition("run this command:\n\n")
    command, _, _ = rest.partition("\n\n")
    done = run_again(command, home)
    assert done.returncode == 0, done.stderr
    replay = json.loads((home / ".cookiecutter_replay" / f"{TEMPLATE.name}.json").read_text())
    answers = {**typed, "description": "{{ x }} ${x} %{y} # <b> \\", "service_path": "orders"}
    assert {name: replay["cookiecutter"][name] for name in answers} == answers
    assert (work / "orders").is_dir()


# Where the workflow ends up

WORKFLOW = Path(".github", "workflows", "order-events.yml")


def test_no_repository(work: Path, home: Path) -> None:
    done = cookiecutter(work, home)
    assert (done.returncode, done.stderr) == (0, "")
    assert (work / "order-events" / WORKFLOW).is_file()
    assert (work / "order-events" / ".pre-commit-config.yaml").is_file()
    assert (work / "order-events" / ".github" / "dependabot.yml").is_file()
    assert "git init" in done.stdout
    assert str(work / "order-events") in done.stdout
    assert list(tree(work)).count("work/order-events") == len(list(work.iterdir())) == 1


def test_no_cache_of_the_template_is_rendered(work: Path, home: Path) -> None:
    assert cookiecutter(work, home).returncode == 0
    assert [path for path in tree(work) if path.endswith(("__pycache__", "_cache", ".pyc"))] == []


def test_repository_of_its_own(work: Path, home: Path) -> None:
    service = work / "order-events"
    (service / ".git").mkdir(parents=True)
    done = cookiecutter(work, home, "--overwrite-if-exists")
    assert (done.returncode, done.stderr) == (0, "")
    assert (service / WORKFLOW).is_file()
    assert "git init" not in done.stdout
    assert "workflow" not in done.stdout


def test_monorepo(work: Path, home: Path) -> None:
    (work / ".git").mkdir()
    services = work / "services"
    services.mkdir()
    done = cookiecutter(services, home, service_path="services/order-events")
    assert (done.returncode, done.stderr) == (0, "")
    service = services / "order-events"
    assert (work / WORKFLOW).read_bytes() == (service / WORKFLOW).read_bytes()
    assert f"Copied the workflows to {(work / WORKFLOW).parent}" in done.stdout
    for path in (".pre-commit-config.yaml", ".github/dependabot.yml"):
        assert not (service / path).exists()


def test_monorepo_with_a_file_of_that_name(work: Path, home: Path) -> None:
    (work / ".git").mkdir()
    (work / WORKFLOW).parent.mkdir(parents=True)
    (work / WORKFLOW).write_text("mine")
    done = cookiecutter(work, home, service_path="order-events")
    assert done.returncode == 0
    assert (work / WORKFLOW).read_text() == "mine"
    assert "left as it is" in done.stdout
    assert (work / "order-events" / WORKFLOW).is_file()


def test_monorepo_that_is_no_repository_yet(work: Path, home: Path) -> None:
    done = cookiecutter(work, home, service_path="services/order-events")
    assert (done.returncode, done.stderr) == (0, "")
    assert "make workflow" in done.stdout
    assert (work / "order-events" / WORKFLOW).is_file()
    assert not (work / ".github").exists()


def test_wrong_service_path(work: Path, home: Path) -> None:
    (work / ".git").mkdir()
    done = cookiecutter(work, home, "--output-dir", "services", service_path="order-events")
    assert done.returncode == 1
    assert named(done) == ["service_path"]
    assert "service_path=services/order-events" in done.stderr
    assert tree(work) == {"work": None, "work/.git": None, "work/services": None}


@pytest.mark.parametrize(
    ("output", "service_path"),
    [(".", "services/payments"), ("elsewhere", "services/payments"), ("services", "payments")],
)
def test_a_misplaced_service_can_be_corrected_either_way(
    work: Path, home: Path, output: str, service_path: str
) -> None:
    (work / ".git").mkdir()
    done = cookiecutter(
        work, home, "--output-dir", output, service_path=service_path, project_slug="payments"
    )
    assert done.returncode == 1
    commands = [part for part in done.stderr.split("\n\n") if part.startswith("cookiecutter ")]
    assert len(commands) == 2
    real = (Path(output) / "payments").as_posix()
    for command, place in zip(commands, (real, service_path), strict=True):
        assert run_again(command, home).returncode == 0
        assert (work / place / "handler.py").is_file()
        assert f'service_path = "{place}"' in (work / place / "pyproject.toml").read_text()


def test_a_misplaced_service_of_another_name_is_offered_one_way(work: Path, home: Path) -> None:
    (work / ".git").mkdir()
    done = cookiecutter(work, home, service_path="services/payments")
    assert done.stderr.count("cookiecutter /") == 1


def test_warning_of_a_repository_of_its_own_in_another(work: Path, home: Path) -> None:
    (work / ".git").mkdir()
    done = cookiecutter(work, home)
    assert done.returncode == 0
    assert "Warning: service_path" in done.stderr
    assert "service_path=order-events" in done.stderr
    assert not (work / ".github").exists()


def test_a_terminal_that_cannot_show_an_answer(work: Path, home: Path) -> None:
    done = subprocess.run(
        [
            *COOKIECUTTER,
            str(TEMPLATE),
            "--no-input",
            "project_name=Größe 🚀",
            "aws_region=xx-east-1",
        ],
        cwd=work,
        env={**environment(home), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Gr\\xf6\\xdfe" in done.stdout
    assert "Warning: aws_region" in done.stderr


def test_a_closed_pipe(work: Path, home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COOKIECUTTER, str(TEMPLATE), "--no-input"],
        cwd=work,
        env=environment(home),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert (work / "order-events" / "handler.py").is_file()


def test_the_replay_file_renders_the_same_service_again(work: Path, home: Path) -> None:
    """If the template has got a new question since, only that one is asked."""
    answers = {
        "project_name": "Größe & Co",
        "description": 'It\'s "quoted" \\ $(id)',
        "owner": "shop",
    }
    assert cookiecutter(work, home, **answers, project_slug="sizes").returncode == 0
    replayed = home / ".cookiecutter_replay" / f"{TEMPLATE.name}.json"
    kept = json.loads(replayed.read_text(encoding="utf-8"))
    del kept["cookiecutter"]["idempotency"]
    older = home / "older.json"
    older.write_text(json.dumps(kept), encoding="utf-8")
    first = files_of(work / "sizes")

    for file in (replayed, older):
        again = work / file.stem
        again.mkdir()
        command = [*COOKIECUTTER, str(TEMPLATE), "--replay-file", str(file), "-o", str(again)]
        done = subprocess.run(
            command, cwd=work, env=environment(home), capture_output=True, text=True, input="\n"
        )
        assert done.returncode == 0, done.stderr
        assert ("Deduplicate" in done.stdout) is (file is older)
        assert files_of(again / "sizes") == first


@pytest.mark.parametrize("quote", ['"', ""], ids=["quoted", "unquoted"])
def test_default_answers_from_the_users_configuration(work: Path, home: Path, quote: str) -> None:
    """Without quotes, cookiecutter ignores an entry and what follows, as docs/questions.md says."""
    text = (TEMPLATE / "docs" / "questions.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(default_context:\n.*?)```", text, re.DOTALL)
    (home / "config").write_text(example.replace('"', quote))
    line = (sys.executable, "-m", "cookiecutter", "--config-file", home / "config", "--no-input")
    done = subprocess.run(
        [*line, TEMPLATE], cwd=work, env=environment(home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ("Invalid default received" in done.stderr) is (quote == "")
    version = (work / "order-events" / ".python-version").read_text()
    (chosen,) = re.findall(r'python_version: "(.*)"', example)
    assert version == f"{chosen if quote else DEFAULTS['python_version']}\n"
    assert chosen != DEFAULTS["python_version"]
    assert (work / "order-events/tests/e2e/test_idempotency.py").exists() is (quote == '"')


def files_of(service: Path) -> dict[Path, bytes]:
    """Return the files of a service with what is in them."""
    paths = (path for path in service.rglob("*") if path.is_file())
    return {path.relative_to(service): path.read_bytes() for path in paths}

"""What comes out of the template: the right files, complete, and clean by the service's checks."""

import functools
import json
import re
import shutil
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import hcl2
import pytest
import yaml
from combinations import label, pairwise
from conftest import SERVICE, TEMPLATE, Render, need, run
from tools.build import shared
from tools.project import read_environment

PAIRWISE = [pytest.param(answers, id=label(answers)) for answers in pairwise()]

# What is left of Jinja when a file was not rendered, or only in part. `${{ … }}` is GitHub's.
JINJA = re.compile(r"cookiecutter\.|(?<!\$)\{\{ *[a-z_]+ *\||\{%|%\}|\{#")


# yamllint's defaults, but for what GitHub's own YAML looks like.
YAMLLINT = """
extends: default
rules:
  comments: {min-spaces-from-content: 1}
  document-start: disable
  line-length: {max: 120}
  truthy: disable
"""


LIST = "tests/files.txt lists the service's files, each with the answer that asks for it"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def listed_files() -> dict[str, str]:
    """Return the template's files, each with its condition: an answer, or one of two words.

    A "variant" takes another file's place, so no service has it under its own name. A "sample" is
    copied for each event type.
    """
    lines = (Path(__file__).parent / "files.txt").read_text().splitlines()
    return {
        path: condition.strip() for path, _, condition in (line.partition(" ") for line in lines)
    }


def expected_files(answers: dict[str, str]) -> set[str]:
    fifo = {"__fifo=.fifo"} if answers["sns_topic_name"].endswith(".fifo") else set()
    given = {"", *fifo, *(f"{name}={value}" for name, value in answers.items())}
    slug = answers["project_slug"]
    package = slug.replace("-", "_")
    paths = [path for path, condition in listed_files().items() if condition in given]
    for event_type in answers["event_types"].split(","):
        name = event_type.strip().replace("*", "example").replace("%", "%25").replace("/", "%2F")
        paths += [f"events/{name}.json"] if len(f"{name}.json".encode()) <= 255 else []
    return {path.replace("<slug>", slug).replace("<package>", package) for path in paths}


@pytest.mark.parametrize("answers", PAIRWISE)
def test_the_exact_files_are_rendered(render: Render, answers: dict[str, str]) -> None:
    assert files(render(**answers)) == expected_files(answers), LIST


def test_the_list_of_files_is_the_templates() -> None:
    """The template's folder has no file that the list lacks."""
    tracked = {
        path.replace("{{cookiecutter.project_slug}}", "<slug>").replace(
            "{{cookiecutter.package_name}}", "<package>"
        )
        for path in run("git", "ls-files", cwd=SERVICE).stdout.split()
    }
    assert tracked == set(listed_files()), LIST


@pytest.mark.parametrize("compute", ["lambda", "fargate"])
@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1"])
def test_examples_are_of_the_regions_partition(render: Render, region: str, compute: str) -> None:
    service = render(aws_region=region, compute=compute, idempotency="yes")
    found = [
        f"{path.relative_to(service)}: {arn}"
        for path in service.rglob("*")
        if path.is_file()
        # These tests have a region of their own.
        and not path.is_relative_to(service / "terraform" / "tests")
        for arn in re.findall(r"arn:[\w-]+:[\w-]+:[\w-]*", path.read_text(encoding="utf-8"))
    ]
    partition = {"cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"}.get(region, "aws-eusc")
    assert len(found) >= 5
    wrong = rf"arn:(?!{partition}:)|(sns|sqs|lambda):(?!{region})"
    assert [line for line in found if re.search(wrong, line)] == []


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-east-1"])
def test_tags_that_aws_does_not_have_are_no_change(render: Render, region: str) -> None:
    """Event source mappings have no tags in China and GovCloud (terraform-provider-aws #40755)."""
    text = (render(aws_region=region) / "terraform" / "lambda.tf").read_text(encoding="utf-8")
    assert ("ignore_changes = [tags_all]" in text) is region.startswith(("cn-", "us-gov-"))


def test_what_is_only_copied_has_no_answer_in_it() -> None:
    patterns = json.loads((TEMPLATE / "cookiecutter.json").read_text())["_copy_without_render"]
    copied = [
        path for path in listed_files() if any(fnmatch(path, pattern) for pattern in patterns)
    ]
    assert {path for path in listed_files() if path.startswith("tools/")} < set(copied)
    for path in copied:
        assert "cookiecutter." not in (SERVICE / path).read_text(encoding="utf-8"), path


@pytest.mark.parametrize("answers", PAIRWISE)
def test_every_file_is_rendered_and_parses(render: Render, answers: dict[str, str]) -> None:
    service = render(**answers)
    for name in files(service):
        text = (service / name).read_text(encoding="utf-8")
        for line in text.splitlines():
            assert line == line.rstrip(), f"{name} has a space at the end of: {line}"
        assert text == "" or text.endswith("\n"), f"{name} does not end with a line break"
        assert not text.endswith("\n\n"), f"{name} ends with an empty line"
        assert "\n\n\n\n" not in text, f"{name} has a hole of empty lines"
        if not name.startswith("tools/"):
            left = JINJA.search(text.replace(service_description(service), ""))
            assert not left, f"{name} has Jinja left in it: {left}"
        parse(name, text)


@functools.cache
def parse(name: str, text: str) -> None:
    """Parse a file, once for all services in which it is the same."""
    match Path(name).suffix:
        case ".json":
            json.loads(text)
        case ".toml":
            tomllib.loads(text)
        case ".yml" | ".yaml":
            yaml.safe_load(text)
        case ".tf" | ".tfvars" | ".hcl" | ".tfbackend":
            hcl2.loads(text)
        case ".py":
            compile(text, name, "exec")


def service_description(service: Path) -> str:
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["description"])


@pytest.mark.parametrize("answers", PAIRWISE)
def test_ruff_finds_nothing(render: Render, answers: dict[str, str]) -> None:
    service = render(**answers)
    ruff = (sys.executable, "-m", "ruff")
    run(*ruff, "check", "--no-cache", ".", cwd=service)
    run(*ruff, "format", "--no-cache", "--check", "--diff", ".", cwd=service)


@pytest.mark.parametrize("answers", PAIRWISE)
def test_yamllint_finds_nothing(render: Render, answers: dict[str, str]) -> None:
    service = render(**answers)
    run(sys.executable, "-m", "yamllint", "--strict", "-d", YAMLLINT, ".", cwd=service)


@pytest.mark.parametrize("answers", PAIRWISE)
def test_terraform_fmt_finds_nothing(render: Render, answers: dict[str, str]) -> None:
    need("terraform")
    service = render(**answers)
    run("terraform", "fmt", "-check", "-diff", "-recursive", "terraform", cwd=service)


@pytest.mark.parametrize("answers", PAIRWISE)
def test_the_answers_arrive_as_they_were_given(render: Render, answers: dict[str, str]) -> None:
    service = render(**answers)
    given = {key: value.replace("{{ '{{' }}", "{{") for key, value in answers.items()}
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == given["project_slug"]
    assert project["description"] == given["description"]
    assert project["requires-python"] == f"=={given['python_version']}.*"
    environment = read_environment(service / "local.env")
    assert environment["POWERTOOLS_METRICS_NAMESPACE"] == given["product"]
    package = service / given["project_slug"].replace("-", "_")
    models = (package / "events.py").read_text(encoding="utf-8").partition("EVENTS: ")[2]
    assert re.findall(r'"(.+)": OrderEvent,', models) == re.split(", ?", given["event_types"])


@pytest.mark.parametrize("topic", ["events", "events.fifo"])
def test_alarms_and_graphs_are_of_the_metrics_that_the_handler_writes(
    render: Render, topic: str
) -> None:
    service = render(sns_topic_name=topic)
    code = (service / "handler.py").read_text(encoding="utf-8")
    terraform = (service / "terraform" / "monitoring.tf").read_text(encoding="utf-8")
    alarms = re.findall(r'= var\.product\n +metric_name = "(\w+)"', terraform)
    graphs = re.findall(r'\[var\.product, "(\w+)"\]', terraform)
    assert len(alarms) > 0
    assert {*alarms} <= {*graphs} == {*re.findall(r'add_metric\("(\w+)"', code)}


def test_the_template_tests_with_the_services_own_dependencies(render: Render) -> None:
    """Both pyproject.toml give a package the same bounds, and what the tools need is in both."""
    ours = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    theirs = tomllib.loads((render() / "pyproject.toml").read_text())
    included, *own = theirs["dependency-groups"]["dev"]
    assert included == {"include-group": "deploy"}
    wanted = {*theirs["project"]["dependencies"], *theirs["dependency-groups"]["deploy"], *own}
    assert wanted <= set(ours), sorted(wanted - set(ours))


def test_the_locks_agree() -> None:
    """What is deployed is tested in the same versions, and so is what deploys it."""

    def locked(lock: Path) -> set[str]:
        return {str(entry) for entry in shared.entries(lock.read_text(encoding="utf-8"))}

    for name in ("", "-deploy", "-fargate"):
        ours = locked(SERVICE / f"requirements{name}.txt")
        assert ours <= locked(SERVICE / "requirements-dev.txt")
    # The template's tests run the service's scanners; test_checkov.py takes its own from the lock.
    scanners = locked(SERVICE / "requirements-security.txt")
    both = scanners & locked(TEMPLATE / "requirements-dev.txt")
    assert {"uv", "zizmor"} <= {entry.partition("==")[0] for entry in both}


def test_rendering_needs_no_network(tmp_path: Path) -> None:
    """Neither cookiecutter nor a hook opens a connection: the attempt would fail."""
    guard = "import socket\ndef refuse(*_): raise OSError\nsocket.socket.connect = refuse\n"
    (tmp_path / "sitecustomize.py").write_text(guard, encoding="utf-8")
    command = (sys.executable, "-m", "cookiecutter", "--no-input", "-o", tmp_path, TEMPLATE)
    run(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path), PIP_NO_INDEX="1")
    assert (tmp_path / "order-events" / "Makefile").exists()


def test_make_alone_prints_help(render: Render) -> None:
    need("make")
    help_text = run("make", cwd=render()).stdout
    targets = set(re.findall(r"^  ([a-z0-9-]+) +\S", help_text, re.MULTILINE))
    contract = (
        "help install check format lint typecheck test e2e package invoke init validate plan apply "
        "destroy output logs publish dlq-peek dlq-redrive workflow lock clean"
    )
    assert set(contract.split()) <= targets


def test_nothing_is_left_that_make_would_have_made(render: Render) -> None:
    made = {".venv", "dist", "__pycache__", ".terraform", ".ruff_cache"}
    assert not {path.name for path in render().rglob("*")} & made
    assert shutil.which("git") is None or not (render() / ".git").exists()

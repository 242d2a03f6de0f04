"""The post-generation hook as plain Python. What it does in place is in test_command_line.py."""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, TEMPLATE
from test_pre_gen_project import DEFAULTS, load

hook: Any = load("post_gen_project")
pre_hook: Any = load("pre_gen_project")


NAMES = ("order-events.yml", "order-events-operate.yml", "order-events-upgrade.yml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a monorepo with a service in it; return the service's folder."""
    project = tmp_path / "services" / "order-events"
    workflows = project / ".github" / "workflows"
    workflows.mkdir(parents=True)
    for name in NAMES:
        (workflows / name).write_text(f"name: {name}\n")
    (tmp_path / ".git").mkdir()
    return project


PATHS = [path for paths in hook.ONLY_WITH.values() for path in paths]
VARIANTS = hook.FARGATE_VARIANTS


def test_what_not_every_service_needs_is_in_the_template() -> None:
    for path in (*PATHS, *VARIANTS, *VARIANTS.values()):
        assert (SERVICE / path.replace("<package>", "{{cookiecutter.package_name}}")).is_file()


def test_the_answers_that_ask_for_files_are_answers() -> None:
    for name, value in hook.ONLY_WITH:
        assert (name, value) == ("__fifo", ".fifo") or pre_hook.RULES[name].is_right(value)


@pytest.mark.parametrize("wanted", hook.ONLY_WITH)
def test_only_the_files_that_the_answers_ask_for_are_left(
    tmp_path: Path, wanted: tuple[str, str]
) -> None:
    for path in (*PATHS, *VARIANTS, *VARIANTS.values()):
        file = tmp_path / path.replace("<package>", "orders")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    asked = {name: "another" for name, _ in hook.ONLY_WITH} | dict([wanted])
    fargate = wanted == ("compute", "fargate")
    hook.choose_files({**DEFAULTS, "package_name": "orders", **asked}, str(tmp_path))
    left = {
        str(path.relative_to(tmp_path)).replace("orders/", "<package>/"): path.read_text()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    expected = {path: path for path in hook.ONLY_WITH[wanted]}
    expected |= {other: path if fargate else other for path, other in VARIANTS.items()}
    assert left == expected
    hook.choose_files(DEFAULTS, str(tmp_path))  # What is gone already is no reason to fail.


def test_caches_are_removed(tmp_path: Path) -> None:
    for folder in (
        "__pycache__",
        "tools/__pycache__",
        "tests/a/.mypy_cache",
        ".venv/__pycache__",
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "tools" / "file").touch()
    hook.remove_caches(str(tmp_path))
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("file")]
    assert sorted(map(str, files)) == [".venv/__pycache__/file", "tools/file"]


def copy_workflows(project: Path, root: Path) -> str:
    return str(hook.copy_workflows("order-events", str(project), str(root)))


def test_workflows_are_copied_to_the_root(project: Path, tmp_path: Path) -> None:
    copies = tmp_path / ".github" / "workflows"
    assert "Copied" in copy_workflows(project, tmp_path)
    assert {copy.name: copy.read_text() for copy in copies.iterdir()} == {
        name: f"name: {name}\n" for name in NAMES
    }
    assert "already" in copy_workflows(project, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_overwritten(project: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / ".github" / "workflows" / name
    copy.parent.mkdir(parents=True)
    copy.write_text("mine")
    said = copy_workflows(project, tmp_path)
    assert said.startswith(f"{name} in {copy.parent} was there before")
    assert "left as it is" in said
    assert copy.read_text() == "mine"


def test_no_workflow_is_written_through_a_link(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / ".github" / "workflows" / "order-events.yml"
    copy.parent.mkdir(parents=True)
    copy.symlink_to(tmp_path / "elsewhere")
    assert "could not be copied" in copy_workflows(project, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("obstacle", [".github", ".github/workflows"])
def test_a_failed_copy_is_only_reported(project: Path, tmp_path: Path, obstacle: str) -> None:
    (tmp_path / obstacle).parent.mkdir(exist_ok=True)
    (tmp_path / obstacle).touch()
    sentence = copy_workflows(project, tmp_path)
    assert "could not be copied" in sentence
    assert "make workflow" in sentence


def test_find_repository_is_the_same_in_both_hooks(project: Path, tmp_path: Path) -> None:
    for folder in (project, tmp_path, tmp_path.parent):
        assert hook.find_repository(str(folder)) == pre_hook.find_repository(str(folder))
    assert hook.find_repository(str(project)) == str(tmp_path)


def test_both_hooks_tell_an_update_alike() -> None:
    pre, post = (inspect.getsource(each.is_update) for each in (pre_hook, hook))
    assert pre.replace("[str, Any]", "[str, str]") == post


PLACE = "/code/order events"


@pytest.mark.parametrize(
    ("given", "repository", "there", "not_there"),
    [
        ({}, None, ["git init", "dev.s3.tfbackend", "events-dev"], ["make workflow"]),
        ({}, PLACE, [], ["git init", "make workflow"]),
        ({"terraform_state_bucket": "state"}, None, [], ["s3.tfbackend"]),
        ({"service_path": "a/b"}, None, ["at a/b in its Git", "make workflow"], ["git init"]),
        ({"service_path": "a/b"}, "/code", [], ["git init", "make workflow"]),
        (
            {"sns_topic_name": "shop", "aws_region": "cn-north-1"},
            None,
            ["shop-dev must", "cn-north-1"],
            [],
        ),
        ({"sns_topic_name": "shop.fifo"}, None, ["topic shop-dev.fifo must"], []),
    ],
)
def test_next_steps_are_true_for_the_answers(
    given: dict[str, str], repository: str | None, there: list[str], not_there: list[str]
) -> None:
    text = "\n".join(hook.next_steps({**DEFAULTS, **given}, PLACE, repository))
    assert "cd '/code/order events'\n" in text
    for part in (
        "make install",
        "make test",
        "make e2e",
        "make local",
        "make plan ENV=dev",
        *there,
    ):
        assert part in text
    for part in not_there:
        assert part not in text


def test_every_target_it_names_is_in_the_makefile() -> None:
    lines = (SERVICE / "Makefile").read_text().splitlines()
    targets = {line.split(":")[0] for line in lines if ":" in line and line[0].isalpha()}
    monorepo = {**DEFAULTS, "service_path": "services/order-events"}
    said = "\n".join(hook.next_steps(monorepo, "/service", None))
    named = {*re.findall(r"\bmake ([a-z0-9-]+)", said)}
    assert {"install", "local", "apply", "workflow"} <= named <= targets


def test_all_answers_are_printed_and_nothing_else() -> None:
    lines = hook.understood(DEFAULTS)
    assert [line.split()[0] for line in lines] == list(pre_hook.RULES)
    assert "(empty)" in "\n".join(lines)


@pytest.mark.parametrize("name", ["pre_gen_project", "post_gen_project"])
def test_hooks_use_only_the_standard_library_and_no_network(name: str) -> None:
    tree = ast.parse((TEMPLATE / "hooks" / f"{name}.py").read_text(), feature_version=(3, 10))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported
    assert imported - set(sys.stdlib_module_names) == set()
    assert (
        imported & {"subprocess", "socket", "urllib", "http", "ssl", "venv", "ensurepip"} == set()
    )


def test_only_the_answers_are_rendered_in_the_hook() -> None:
    text = (TEMPLATE / "hooks" / "post_gen_project.py").read_text()
    before, answer, after = text.partition("{{ cookiecutter.items() | list | tojson }}")
    assert answer
    for mark in ("{{", "{%", "{#"):
        assert mark not in before + after

"""The post-generation hook as plain Python. What it does in place is in test_command_line.py."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, TEMPLATE
from test_pre_gen_project import DEFAULTS, load

hook: Any = load("post_gen_project")
pre_hook: Any = load("pre_gen_project")

MONOREPO = {**DEFAULTS, "service_path": "services/order-events"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a monorepo with a service in it; return the service's folder."""
    project = tmp_path / "services" / "order-events"
    workflows = project / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "order-events.yml").write_text("name: order-events\n")
    (tmp_path / ".git").mkdir()
    return project


def test_what_is_taken_out_is_in_the_template() -> None:
    assert hook.REMOVED
    package = "{{cookiecutter.package_name}}"
    paths = [path.replace("<package>", package) for path in hook.REMOVED]
    assert [path for path in paths if not (SERVICE / path).is_file()] == []


def test_a_file_that_takes_anothers_place_and_the_other_are_in_the_template() -> None:
    for path, (other, _) in hook.VARIANTS.items():
        assert (SERVICE / path).is_file()
        assert (SERVICE / other).is_file()


def test_one_of_the_files_that_stand_for_one_another_is_left(tmp_path: Path) -> None:
    names = ("requirements.txt", "requirements-fargate.txt")
    for compute, expected in (("lambda", names[0]), ("fargate", names[1])):
        for name in names:
            (tmp_path / name).write_text(name)
        hook.choose_variants({**DEFAULTS, "compute": compute}, tmp_path)
        assert [path.read_text() for path in tmp_path.iterdir()] == [expected]
        assert (tmp_path / names[0]).exists()


def test_files_that_only_work_at_the_root_are_taken_out_of_a_monorepo(tmp_path: Path) -> None:
    (tmp_path / ".github").mkdir()
    files = [tmp_path / ".github" / "dependabot.yml", tmp_path / ".pre-commit-config.yaml"]
    for file in files:
        file.touch()
    assert hook.remove_unneeded(DEFAULTS, tmp_path) == []
    assert [file.exists() for file in files] == [True, True]
    assert [tmp_path / path for path in hook.remove_unneeded(MONOREPO, tmp_path)] == files
    assert [file.exists() for file in files] == [False, False]
    assert hook.remove_unneeded(MONOREPO, tmp_path) == []


def test_what_idempotency_needs_is_taken_out_of_a_service_without_it(tmp_path: Path) -> None:
    for answer in ("yes", "no"):
        package = tmp_path / answer / "orders"
        package.mkdir(parents=True)
        (package / "idempotency.py").touch()
        answers = {**DEFAULTS, "package_name": "orders", "idempotency": answer}
        removed = hook.remove_unneeded(answers, package.parent)
        assert (package / "idempotency.py").exists() is (answer == "yes")
        assert ("orders/idempotency.py" in removed) is (answer == "no")


def test_caches_are_taken_out(tmp_path: Path) -> None:
    for folder in (
        "__pycache__",
        "scripts/__pycache__",
        "tests/a/.mypy_cache",
        ".venv/__pycache__",
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "scripts" / "file").touch()
    hook.remove_caches(tmp_path)
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("file")]
    assert sorted(map(str, files)) == [".venv/__pycache__/file", "scripts/file"]


def test_workflow_is_copied_to_the_root(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / ".github" / "workflows" / "order-events.yml"
    assert "Copied" in hook.copy_workflow("order-events", project, tmp_path)
    assert copy.read_text() == "name: order-events\n"
    assert "already" in hook.copy_workflow("order-events", project, tmp_path)


def test_workflow_is_never_written_over_a_file(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / ".github" / "workflows" / "order-events.yml"
    copy.parent.mkdir(parents=True)
    copy.write_text("mine")
    assert "left as it is" in hook.copy_workflow("order-events", project, tmp_path)
    assert copy.read_text() == "mine"


def test_workflow_is_never_written_through_a_link(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / ".github" / "workflows" / "order-events.yml"
    copy.parent.mkdir(parents=True)
    copy.symlink_to(tmp_path / "elsewhere")
    assert "could not be copied" in hook.copy_workflow("order-events", project, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("obstacle", [".github", ".github/workflows"])
def test_a_copy_that_fails_is_only_told(project: Path, tmp_path: Path, obstacle: str) -> None:
    (tmp_path / obstacle).parent.mkdir(exist_ok=True)
    (tmp_path / obstacle).touch()
    sentence = hook.copy_workflow("order-events", project, tmp_path)
    assert "could not be copied" in sentence
    assert "make workflow" in sentence


def test_find_repository_is_that_of_the_other_hook(project: Path, tmp_path: Path) -> None:
    for folder in (project, tmp_path, tmp_path.parent):
        assert hook.find_repository(folder) == pre_hook.find_repository(folder)
    assert hook.find_repository(project) == tmp_path


PLACE = Path("/code/order events")


@pytest.mark.parametrize(
    ("given", "repository", "there", "not_there"),
    [
        ({}, None, ["git init", "dev.s3.tfbackend", "events-dev"], ["make workflow"]),
        ({}, PLACE, [], ["git init", "make workflow"]),
        ({"terraform_state_bucket": "state"}, None, [], ["s3.tfbackend"]),
        ({"service_path": "a/b"}, None, ["at a/b in its Git", "make workflow"], ["git init"]),
        ({"service_path": "a/b"}, Path("/code"), [], ["git init", "make workflow"]),
        (
            {"sns_topic_name": "shop", "aws_region": "cn-north-1"},
            None,
            ["shop-dev", "cn-north-1"],
            [],
        ),
    ],
)
def test_next_steps_are_true_for_the_answers(
    given: dict[str, str], repository: Path | None, there: list[str], not_there: list[str]
) -> None:
    text = "\n".join(hook.next_steps({**DEFAULTS, **given}, PLACE, repository))
    assert "cd '/code/order events'\n" in text
    for part in ("make install", "make test", "make e2e", "make plan ENV=dev", *there):
        assert part in text
    for part in not_there:
        assert part not in text


def test_every_target_that_it_names_is_in_the_makefile() -> None:
    lines = (SERVICE / "Makefile").read_text().splitlines()
    targets = {line.split(":")[0] for line in lines if ":" in line and line[0].isalpha()}
    assert {"install", "test", "e2e", "plan", "apply", "workflow"} - targets == set()


def test_all_answers_are_told_and_nothing_else() -> None:
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

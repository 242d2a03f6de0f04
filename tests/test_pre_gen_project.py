"""The pre-generation hook as plain Python: each rule both ways, the warnings, and the report."""

import importlib.util
import json
import os
import random
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import botocore.session
import pytest
from conftest import SERVICE, TEMPLATE, Render
from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context


def load(name: str) -> ModuleType:
    """Import a hook as it stands, before Cookiecutter renders it."""
    spec = importlib.util.spec_from_file_location(name, TEMPLATE / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


hook: Any = load("pre_gen_project")
# Ends the rendering of the hook for a slug with `..`; nothing else.
(GUARD,) = re.findall(
    r"\n# (\{\{ .* \}\})", (TEMPLATE / "hooks" / "pre_gen_project.py").read_text()
)


def answers(**given: str) -> dict[str, Any]:
    """Return all answers as a hook gets them: those given, and Cookiecutter's defaults."""
    context = generate_context(str(TEMPLATE / "cookiecutter.json"), extra_context=given)
    return dict(prompt_for_config(context, no_input=True))


DEFAULTS = answers()


def wrong(**given: Any) -> list[str]:
    """Return the names of the answers that the hook refuses."""
    return [problem.answer for problem in hook.problems({**DEFAULTS, **given})]


def test_the_defaults_are_right_and_raise_no_warning() -> None:
    assert hook.problems(DEFAULTS) == []
    assert hook.warnings(DEFAULTS) == []


RIGHT = {
    "project_name": [
        "x",
        "x" * 80,
        "O'Brien's \"Größe\" \\ $(id) `id` ${x} <b>",
        "订单 🚀",
        "{{ x }}",
    ],
    "description": ["", "x" * 200, 'It\'s "quoted" \\ $(id) %{x} # ü € 🚀'],
    "sns_topic_name": ["a", "A-b_9", "x" * 251, "a.fifo", "x" * 246 + ".fifo"],
    "event_types": [
        "order.created",
        "a , b,c ",
        "*",
        "order.*",
        "order created",
        "größe",
        "$x%y",
        "x" * 100,
        ",".join(f"type-{number}" for number in range(20)),
        ",".join("订" * 100 for _ in range(20)),
    ],
    "aws_region": [
        "eu-central-1",
        "us-gov-west-1",
        "cn-north-1",
        "cn-northwest-1",
        "eusc-de-east-1",
        "us-iso-east-1",
        "us-isob-east-1",
        "ap-southeast-12",
        "xx-south-1",
    ],
    "terraform_state_bucket": [
        "",
        "abc",
        "x" * 63,
        "a.b-c.9",
        "1.2.3",
        "192.168.1.1a",
        "my-team-terraform-state",
        "xn-a",
        "a--b",
    ],
    "service_path": [".", "a", "services/order-events", "a/.b/_c/9.d"],
    "owner": ["x", "x" * 128, "my team", "orders+a@example.com", "a_b.c:d/e=f-g"],
    "product": ["x", "x" * 64, "A product_2.0:/=+-@", "awsome"],
    "python_version": ["3.13", "3.14", "3.12"],
    "architecture": ["arm64", "x86_64"],
    "compute": ["lambda", "fargate"],
    "idempotency": ["no", "yes"],
    "project_slug": ["a", "a1-2b-c", "x" * 40],
    "package_name": ["a", "order_events", "x" * 40, "json_service", "a_"],
}

WRONG = {
    "project_name": ["", " ", "\u00a0", "x" * 81],
    "description": ["x" * 201],
    "sns_topic_name": [
        *("", "two words", "x" * 252, "größe", "arn:aws:sns:x:1:y"),
        *(".fifo", "x" * 247 + ".fifo", "orders.fifo.fifo", "orders.fifo-dev", "orders.FIFO"),
    ],
    "event_types": [
        "",
        " ",
        'a"b',
        "a'b",
        "a`b",
        "a\\b",
        "a,,b",
        "a,",
        ",a",
        "${x}",
        "%{x}",
        "a*b",
        "*a",
        "a**",
        "a\u00a0b",
        "x" * 101,
        ",".join(f"type-{number}" for number in range(21)),
    ],
    "aws_region": [
        "",
        "us-east",
        "us-esat-1",
        "us-east-1a",
        "us-east-0",
        "US-EAST-1",
        "us-west-2-lax-1",
        "east-1",
        "aws-global",
    ],
    "terraform_state_bucket": [
        "My_Bucket",
        "a..b",
        "192.168.1.1",
        "xn--a",
        "sthree-a",
        "amzn-s3-demo-a",
        "a-s3alias",
        "a--ol-s3",
        "a.mrap",
        "a--x-s3",
        "a--table-s3",
        "ab",
        "x" * 64,
        "-ab",
        "ab-",
        ".ab",
        "a b",
        "größe",
    ],
    "service_path": [
        "",
        "/abs",
        "../up",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "a/.",
        "..",
        "-a",
        "a b",
        "a*",
        "a?",
        "a[b]",
        "!a",
        "a\\b",
        "größe",
    ],
    "owner": ["", " ", "x" * 129, "größe", "a,b", 'a"b', "aws:x", "AWS:x"],
    "product": ["", " ", "x" * 65, "größe", "a,b", "aws:x", "AWS/x", ":x", "a$b", "a*b"],
    "python_version": ["", "3.11", "3.15", "3"],
    "architecture": ["", "arm", "X86_64"],
    "compute": ["", "ecs", "Lambda"],
    "idempotency": ["", "y", "true"],
    "project_slug": [
        "",
        ".",
        "../x",
        "a/b",
        "Order Events",
        "-x",
        "x-",
        "a--b",
        "x" * 41,
        "1a",
        "a_b",
        "A",
        "größe",
    ],
    "package_name": [
        "",
        "class",
        "json",
        "handler",
        "Order",
        "1a",
        "a-b",
        "_a",
        "a.b",
        "größe",
        "x" * 41,
        "tests",
        "msgspec",
        "distutils",
    ],
}


def cases(table: dict[str, list[str]]) -> list[Any]:
    """Return (answer, value) for each value of a table, with a readable id."""
    return [
        pytest.param(name, value, id=f"{name}-{ascii(value)[:40]}")
        for name, values in table.items()
        for value in values
    ]


def test_each_rule_is_tested_both_ways() -> None:
    visible = [name for name in DEFAULTS if not name.startswith("_")]
    assert list(RIGHT) == list(WRONG) == list(hook.RULES) == visible


@pytest.mark.parametrize(("name", "value"), cases(RIGHT))
def test_right_answer(name: str, value: str) -> None:
    assert wrong(**{name: value}) == []


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_wrong_answer(name: str, value: str) -> None:
    assert wrong(**{name: value}) == [name]


@pytest.mark.parametrize("name", hook.RULES)
@pytest.mark.parametrize(
    "ending",
    ["\n", "\r", "\t", "\0", "\x1b[1m", "\x7f", "\x85", "\u2028", "\udce9", "\u202e", "\ufffe"],
)
def test_no_answer_has_a_control_character(name: str, ending: str) -> None:
    (problem,) = hook.problems({**DEFAULTS, name: DEFAULTS[name] + ending})
    assert problem.answer == name
    assert f"U+{ord(ending[0]):04X}" in problem.reason


@pytest.mark.parametrize("value", [None, True, 3.13, ["a"], {}])
def test_an_answer_that_is_not_a_string_is_refused(value: object) -> None:
    assert wrong(owner=value) == ["owner"]


def test_all_problems_are_found_at_once() -> None:
    assert wrong(**{name: values[0] for name, values in WRONG.items()}) == list(hook.RULES)


def test_each_rule_says_must() -> None:
    for rule in hook.RULES.values():
        assert rule.text.startswith("must ")


def test_the_example_of_each_rule_is_right() -> None:
    assert wrong(**{name: rule.example for name, rule in hook.RULES.items()}) == []


def test_the_choices_are_those_of_cookiecutter_json() -> None:
    questions = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    choices = {name: answer for name, answer in questions.items() if isinstance(answer, list)}
    assert len(choices) > 3
    for name in choices.keys() & hook.RULES.keys():
        assert hook.RULES[name].text == hook.choice(tuple(choices[name])).text


@pytest.mark.parametrize(
    "path",
    [
        *("Makefile", "CONTRIBUTING.md", "scripts/demo.sh", ".github/workflows/ci.yml"),
        f"{SERVICE.name}/terraform/variables.tf",
    ],
)
def test_what_lists_the_python_versions_lists_all_of_them(path: str) -> None:
    versions = re.findall(r"(?<![\d.=])3\.\d\d\b(?!\.)", (TEMPLATE / path).read_text("utf-8"))
    assert {*versions} == {*hook.PYTHON_VERSIONS}, path


def test_every_answer_has_a_prompt_without_markup() -> None:
    prompts = json.loads((TEMPLATE / "cookiecutter.json").read_text())["__prompts__"]
    assert list(prompts) == list(hook.RULES)
    assert "[" not in "".join(map(str, prompts.values()))


def reserved_names() -> set[str]:
    """Return all names that a package can't have."""
    groups = DEFAULTS["_reserved_package_names"].values()
    return {name for rows in groups for row in rows for name in row.split()}


def test_the_standard_library_is_reserved() -> None:
    names = {name for name in sys.stdlib_module_names if name[0] != "_" and name.islower()}
    assert names - reserved_names() == set()


def test_what_the_service_has_is_reserved() -> None:
    files = {path.name.removesuffix(".py").lower() for path in SERVICE.iterdir()}
    names = {name for name in files if name.isidentifier()}
    names.discard("__pycache__")
    assert {"handler", "tools", "dockerfile"} <= names
    assert names - reserved_names() == set()


def test_a_refused_package_name_says_why() -> None:
    (problem,) = hook.problems({**DEFAULTS, "package_name": "json"})
    assert problem.reason == "it is one of the modules of Python's standard library"


NAMES = [
    ("Order Events", "order-events", "order_events"),
    ("Größe & O'Brien", "grosse-o-brien", "grosse_o_brien"),
    ("3D Orders", "service-3d-orders", "service_3d_orders"),
    ("42", "service-42", "service_42"),
    ("🚀", "service", "service"),
    (".", "service", "service"),
    ("../..", "service", "service"),
    ("Email", "email", "email_service"),
    ("Queue", "queue", "queue_service"),
    ("JSON", "json", "json_service"),
    ("Handler", "handler", "handler_service"),
    ("Tests", "tests", "tests_service"),
    ("Class", "class", "class_service"),
    ("Tools", "tools", "tools_service"),
    ("x" * 80, "x" * 40, "x" * 40),
    ("a" * 39 + " b" * 20, "a" * 39, "a" * 39),
]


@pytest.mark.parametrize(("name", "slug", "package"), NAMES)
def test_derived_defaults(name: str, slug: str, package: str) -> None:
    derived = answers(project_name=name)
    assert (derived["project_slug"], derived["package_name"]) == (slug, package)
    assert derived["product"] == slug


def test_derived_defaults_are_right_whatever_the_name() -> None:
    source = random.Random(7)
    alphabet = "aZ09 -_./'\"&#;x\u00df\u0130\u8ba2\U0001f680\u0301"
    for _ in range(300):
        name = "x" + "".join(source.choices(alphabet, k=source.randrange(80)))
        assert hook.problems(answers(project_name=name)) == [], name


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"project_name": " Orders"}, "begins or ends with a space"),
        ({"description": "A {{ b }}"}, "looks like Jinja"),
        ({"description": "A {% b %}"}, "looks like Jinja"),
        ({"sns_topic_name": "events-dev"}, "events-dev-dev and events-dev-prod."),
        ({"sns_topic_name": "a-prod.fifo"}, "a-prod-dev.fifo and a-prod-prod.fifo."),
        ({"event_types": "a, a"}, "the same value twice"),
        ({"event_types": "*,a"}, "the other values do nothing"),
        ({"event_types": "a,b;c"}, "'b;c' is one event type"),
        ({"event_types": "a|b"}, "'a|b' is one event type"),
        ({"event_types": "a b"}, "'a b' is one event type"),
        ({"aws_region": "eu-central-9"}, "eu-central-9 is not a region this template knows"),
        ({"terraform_state_bucket": "state-an"}, "-an"),
    ],
)
def test_warning(given: dict[str, str], warning: str) -> None:
    (found,) = hook.warnings({**DEFAULTS, **given})
    assert found.startswith(f"{next(iter(given))}: ")
    assert warning in found


def test_known_regions_have_the_shape_of_a_region() -> None:
    assert len(hook.KNOWN_REGIONS.split()) == len(set(hook.KNOWN_REGIONS.split()))
    for region in hook.KNOWN_REGIONS.split():
        assert wrong(aws_region=region) == []


def test_the_partition_follows_from_the_region() -> None:
    expected = botocore.session.Session().get_partition_for_region
    for region in (*hook.KNOWN_REGIONS.split(), "us-gov-north-9", "us-southwest-9"):
        assert answers(aws_region=region)["__partition"] == expected(region), region


# Where the service sits in its repository


def test_find_repository(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert hook.find_repository(str(folder)) is None
    (tmp_path / ".git").write_text("gitdir: elsewhere")  # as in a worktree
    assert hook.find_repository(str(folder)) == str(tmp_path)


@pytest.mark.parametrize(
    ("path", "folder", "repository", "correction"),
    [
        (".", "/repo/services/orders", "/repo", None),
        (".", "/repo", "/repo", None),
        ("services/orders", "/repo/services/orders", "/repo", None),
        ("services/orders", "/anywhere/orders", None, None),
        ("orders", "/repo/services/orders", "/repo", "services/orders"),
        ("services", "/repo/services/orders", "/repo", "services/orders"),
        ("services/orders", "/repo", "/repo", "."),
    ],
)
def test_service_path_in_a_repository(
    path: str, folder: str, repository: str | None, correction: str | None
) -> None:
    problem = hook.service_path_problem(path, folder, repository)
    assert (problem.correction if problem else None) == correction


@pytest.mark.parametrize(
    ("path", "slug", "folder"),
    [
        ("services/payments", "payments", "/repo/services"),
        ("a/b/payments", "payments", "/repo/a/b"),
        ("payments", "payments", "/repo"),
        ("services", "payments", None),
        ("services/payments", "order-events", None),
    ],
)
def test_the_folder_to_render_into_so_that_service_path_is_true(
    path: str, slug: str, folder: str | None
) -> None:
    assert hook.output_for(path, slug, "/repo") == folder


def test_a_real_path_that_cannot_be_an_answer_is_not_proposed() -> None:
    problem = hook.service_path_problem("orders", "/repo/my services/orders", "/repo")
    assert problem.correction is None
    assert "my services/orders, which can't be a service_path" in problem.reason


@pytest.mark.parametrize(
    ("path", "folder", "count"),
    [(".", "/repo/a/orders", 1), (".", "/repo", 0), ("a/orders", "/repo/a/orders", 0)],
)
def test_warning_of_a_repository_in_a_repository(path: str, folder: str, count: int) -> None:
    assert len(hook.service_path_warnings(path, folder, "/repo")) == count
    assert hook.service_path_warnings(path, folder, None) == []


# What the user reads


def test_report_has_answer_value_rule_and_example() -> None:
    text = hook.report(hook.problems({**DEFAULTS, "aws_region": "us-east", "owner": "a\nb"}))
    for part in ("aws_region: 'us-east'", "owner: 'a\\nb'", "U+000A", "my-team", "eu-central-1"):
        assert part in text
    for name in ("aws_region", "owner"):
        assert f"Rule:    {name} {hook.RULES[name].text}\n" in text


def test_report_cuts_long_values() -> None:
    text = hook.report(hook.problems({**DEFAULTS, "sns_topic_name": f"{'x' * 247}.fifo"}))
    assert len(text) < 500
    assert "it has 252 characters" in text


def typed(command: str) -> tuple[list[str], dict[str, str]]:
    """Split a command as a shell does: options, and answers as Cookiecutter renders them."""
    words = shlex.split(command.replace("\\\n", ""))
    environment = create_env_with_context({"cookiecutter": DEFAULTS})
    options = [word for word in words if "=" not in word]
    pairs = (word.split("=", 1) for word in words if "=" in word)
    return options, {name: environment.from_string(text).render() for name, text in pairs}


HOSTILE = "O'Brien \"x\" \\ $(id) `id` ${x} ~ ! # {{ 7*7 }} {% if %} {# #} {{{ }}} {{ '{' }} ü 🚀 {"


def test_command_carries_every_answer() -> None:
    given = {**DEFAULTS, "project_name": HOSTILE, "_template": "gh:me/my template"}
    given |= {"_output_dir": "/tmp/a b", "_checkout": "v1"}
    options, carried = typed(hook.command(given, [], overwrite=False))
    assert options == [
        *("cookiecutter", "gh:me/my template", "--no-input", "--checkout", "v1"),
        *("--output-dir", "/tmp/a b"),
    ]
    assert carried == {name: given[name] for name in hook.RULES}


def test_command_puts_wrong_answers_last_and_cleans_them() -> None:
    given = {**DEFAULTS, "project_name": "Order\tEvents\n", "aws_region": "us-east"}
    found = hook.problems(given)
    misplaced = hook.service_path_problem("x", "/repo/services/x", "/repo")
    options, carried = typed(hook.command(given, [*found, misplaced], overwrite=True))
    assert options == ["cookiecutter", "TEMPLATE", "--no-input", "--overwrite-if-exists"]
    assert list(carried)[-3:] == ["project_name", "aws_region", "service_path"]
    assert carried["project_name"] == "Order Events"
    assert carried["aws_region"] == "us-east"
    assert carried["service_path"] == "services/x"


def test_with_cruft_the_command_is_crufts() -> None:
    given = {**DEFAULTS, "project_name": HOSTILE, "_template": "https://example.com/my template"}
    given |= {"_output_dir": "/tmp/a b", "_commit": "0123abc", "aws_region": "us-east"}
    found = hook.problems({**DEFAULTS, "aws_region": "us-east"})
    line = hook.command(given, found, overwrite=True, program=("cruft", "create"))
    *words, text = shlex.split(line.replace("\\\n", ""))
    assert words == [
        *("cruft", "create", "https://example.com/my template", "--no-input"),
        *("--overwrite-if-exists", "--checkout", "0123abc", "--output-dir", "/tmp/a b"),
        "--extra-context",
    ]
    context = generate_context(str(TEMPLATE / "cookiecutter.json"), extra_context=json.loads(text))
    carried = prompt_for_config(context, no_input=True)
    assert [carried[name] for name in hook.RULES] == [given[name] for name in hook.RULES]
    assert list(json.loads(text))[-1] == "aws_region"

    line = hook.command(given, found, overwrite=True, program=("cruft", "update"))
    assert shlex.split(line) == [
        *("cruft", "update", "--checkout", "0123abc", "--variables-to-update"),
        '{\n  "aws_region": "us-east"\n}',
    ]


# A folder as Python's tempfile makes it, with what cruft puts there.
TEMPORARY = "tmpa1_b2c3d"
CRUFT = {"_template": "x", "_commit": "0123abc"}


@pytest.mark.parametrize(
    ("given", "folder", "mode", "beside", "program"),
    [
        ({"_template": "x", "_output_dir": "x", "_repo_dir": "x"}, TEMPORARY, 0o700, [], None),
        ({**CRUFT, "_output_dir": "x"}, TEMPORARY, 0o700, [], None),
        (CRUFT, TEMPORARY, 0o700, [], "update"),
        (CRUFT, "services", 0o755, [], "create"),
        (CRUFT, "tmpservices", 0o755, [], "create"),
        (CRUFT, "tmp-service", 0o700, [], "create"),
        (CRUFT, TEMPORARY, 0o700, ["README.md"], "create"),
    ],
)
def test_which_program_renders(
    tmp_path: Path, given: dict[str, str], folder: str, mode: int, beside: list[str], program: str
) -> None:
    project = tmp_path / folder / "order-events"
    project.mkdir(parents=True)
    project.parent.chmod(mode)
    for name in beside:
        (project.parent / name).touch()
    expected = ("cruft", program) if program else ("cookiecutter",)
    assert hook.program({**DEFAULTS, **given}, str(project)) == expected


# Slugs for which cookiecutter would remove another folder than the one it has made


def rendered(**given: Any) -> str:
    """Return the hook as Cookiecutter renders it."""
    context = {"cookiecutter": {**DEFAULTS, **given}}
    text = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text()
    return create_env_with_context(context).from_string(text).render(**context)


@pytest.mark.parametrize("slug", ["..", "x/..", "../x", "a/../b", "a..b"])
def test_a_slug_with_two_dots_ends_cookiecutter_before_the_hook_runs(slug: str) -> None:
    """Not by FailedHookException or UndefinedError: these let cookiecutter remove the folder."""
    assert wrong(project_slug=slug) == ["project_slug"]
    with pytest.raises(KeyError, match=r"project_slug must not contain \.\."):
        rendered(project_slug=slug)


def test_only_the_answers_and_the_guard_are_rendered_in_the_hook() -> None:
    text = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text()
    assert re.findall(r"\{[{%#].*", text.replace(GUARD, "")) == ["{{ cookiecutter | tojson }}"]
    assert text.replace(GUARD, "").split("{{ ")[0] == rendered().split('{"')[0]


##### Updates


def test_the_folder_of_a_process_is_found_on_linux_and_macos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "linux":
        assert hook.working_directory(os.getpid()) == str(Path.cwd())
    monkeypatch.setattr(os, "readlink", mock.Mock(side_effect=FileNotFoundError))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hook.working_directory(7) is None
    lsof = tmp_path / "lsof"
    lsof.write_text(f"#!/bin/sh\necho p7\necho fcwd\necho 'n{tmp_path}/a b'\n", encoding="utf-8")
    lsof.chmod(0o755)
    assert hook.working_directory(7) == f"{tmp_path}/a b"
    lsof.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    assert hook.working_directory(7) is None


def test_the_names_of_an_updated_service_are_read_where_cruft_renders_it(
    render: Render, tmp_path: Path
) -> None:
    clone, rendered = tmp_path / "repo", tmp_path / "current_template"
    clone.mkdir()
    assert hook.names_before(None) == {}
    assert hook.names_before(str(clone)) == {}
    shutil.copytree(render(), rendered)
    before = hook.names_before(str(clone))
    assert before == {name: DEFAULTS[name] for name in ("project_slug", "package_name")}
    assert hook.renamed(DEFAULTS, before) == []
    (problem,) = hook.renamed({**DEFAULTS, "package_name": "orders"}, before)
    assert (problem.answer, problem.correction) == ("package_name", "order_events")
    assert "git mv order_events orders" in problem.reason


def test_an_update_to_queues_of_the_other_kind_is_warned_about(
    render: Render, tmp_path: Path
) -> None:
    clone, rendered = tmp_path / "repo", tmp_path / "current_template"
    clone.mkdir()
    assert hook.kind_warnings({"sns_topic_name": "orders.fifo"}, {}) == []
    for had, other in (("events", "orders.fifo"), ("orders.fifo", "events")):
        shutil.copytree(render(sns_topic_name=had), rendered, dirs_exist_ok=True)
        before = hook.names_before(str(clone))
        assert hook.renamed(DEFAULTS, before) == []
        assert hook.kind_warnings({"sns_topic_name": had}, before) == []
        (warning,) = hook.kind_warnings({"sns_topic_name": other}, before)
        assert f"for {other}, Terraform replaces this service's queues" in warning

"""Answers as an attack: text stays text, in every file of the service and in the hooks.

Whatever is answered, either the pre-gen hook refuses it and names the answer, or the service is
rendered as with harmless answers: every file is parsed, and what was parsed must be what harmless
answers give, with the harmless text replaced by the hostile one. So text that escapes from its
place, is changed on its way, or ends up elsewhere is found, whatever the file's format.
"""

import ast
import functools
import itertools
import json
import keyword
import os
import re
import shlex
import subprocess
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SERVICE, TEMPLATE, need, run, run_here
from cookiecutter.cli import main
from cookiecutter.prompt import render_variable
from cookiecutter.utils import create_env_with_context
from hostile import CANARY, FRAGMENTS, anything, examples, fragments
from hypothesis import Phase, given
from hypothesis import strategies as st
from jinja2 import Template
from markdown_it import MarkdownIt
from markdown_it.token import Token
from test_pre_gen_project import load

Answers = dict[str, str]

CONFIG = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
NAMES = [name for name in CONFIG if not name.startswith("_")]


PRE_GEN: Any = load("pre_gen_project")
POST_GEN: Any = load("post_gen_project")

# --- Answers -----------------------------------------------------------------------------------


def usable(text: str) -> str:
    """Take out of ``text`` the characters that no answer may have."""
    return "".join(c for c in text if not PRE_GEN.unusable_characters(c))


def shaped(pattern: str, *nasty: str) -> st.SearchStrategy[str]:
    """Make text that ``pattern`` matches as a whole, or one of ``nasty``."""
    texts = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    return st.one_of(texts, st.sampled_from(nasty)) if nasty else texts


def event_type() -> st.SearchStrategy[str]:
    """Make one valid event type: printable, composed (NFC), a ``*`` only at its end."""

    def right(text: str) -> str:
        text = "".join(c for c in text if c.isprintable() and c not in "\"'`\\*,")
        text = text.replace("${", "$(").replace("%{", "%(").strip()[:90].strip() or "x"
        return unicodedata.normalize("NFC", text)

    star = st.sampled_from(["", "", "*"])
    plain = st.builds(lambda text, end: right(text) + end, fragments(), star)
    return st.one_of(plain, st.just("*"))


def tag_value(longest: int) -> st.SearchStrategy[str]:
    """Make a tag's valid value of at most ``longest`` characters."""
    nasty = (
        "yes",
        "null",
        "1.0",
        "a: b",
        "- x",
        "=",
        "@a",
        " a ",
        "+1",
        "://x",
        "-",
        "a  b",
        "/",
    )
    texts = shaped(rf"[A-Za-z0-9 _.:/=+@-]{{1,{longest}}}", *nasty)
    wrong = ("aws", ":")
    return texts.filter(lambda text: not text.isspace() and not text.lower().startswith(wrong))


SLUG = st.one_of(
    shaped(
        r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,3}", "yes", "null", "no", "on", "e1", "x-" + "y" * 38
    )
)
# Valid answers, as nasty as they can be.
RIGHT: dict[str, st.SearchStrategy[str]] = {
    "project_name": fragments().map(lambda text: usable(text)[:80]).filter(str.strip),
    "description": fragments().map(lambda text: usable(text)[:200]),
    "sns_topic_name": st.one_of(
        shaped("[A-Za-z0-9_-]{1,251}", "-", "--help", "yes", "null", "1e5", "_" * 251),
        shaped(r"[A-Za-z0-9_-]{1,246}\.fifo", "-.fifo", "_" * 246 + ".fifo"),
    ),
    "event_types": st.lists(event_type(), min_size=1, max_size=6).flatmap(
        lambda values: st.sampled_from([",", ", ", " ,  "]).map(lambda comma: comma.join(values))
    ),
    "aws_region": shaped(PRE_GEN.REGION_SHAPE, "us-east-1", "us-gov-west-1"),
    "terraform_state_bucket": st.one_of(
        st.just(""),
        shaped("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "1e5", "0x1f", "null", "true").filter(
            PRE_GEN.is_bucket_name
        ),
    ),
    "service_path": st.one_of(
        st.just("."),
        shaped(
            r"[A-Za-z0-9._][A-Za-z0-9._-]{0,9}(/[A-Za-z0-9._][A-Za-z0-9._-]{0,9}){0,3}",
            "...",
            "null",
        ).filter(PRE_GEN.is_service_path),
    ),
    "owner": tag_value(128),
    "product": tag_value(64),
    "project_slug": SLUG.filter(lambda text: len(text) <= 40),
    "package_name": shaped("[a-z][a-z0-9_]{0,39}").filter(
        lambda name: not PRE_GEN.reserved_as(name, CONFIG["_reserved_package_names"])
    ),
}
CHOICES = {name: st.sampled_from(CONFIG[name]) for name in NAMES if isinstance(CONFIG[name], list)}

right_answers = st.fixed_dictionaries({name: {**RIGHT, **CHOICES}[name] for name in NAMES})


@st.composite
def answers_and_doubtful(draw: st.DrawFn) -> tuple[Answers, set[str]]:
    """Make answers, and the names of those that were not made to be valid."""
    answers = draw(right_answers)
    none: list[str] = []
    one = [[name] for name in NAMES]
    doubtful = set(draw(st.sampled_from([*[none] * len(one), *one, NAMES])))
    return {**answers, **{name: draw(anything()) for name in doubtful}}, doubtful


def in_full(answers: Answers) -> dict[str, Any]:
    """Add to ``answers`` what cookiecutter hands to the templates beside them."""
    private = {key: CONFIG[key] for key in CONFIG if key.startswith("_")}
    made = {name: PRIVATE[name].render(cookiecutter=answers) for name in WORKED_OUT}
    return {**private, **made, "__partition": partition(answers["aws_region"]), **answers}


def partition(region: str) -> str:
    """Return the partition that cookiecutter works out for a region."""
    return PRIVATE["__partition"].render(cookiecutter={**CONFIG, "aws_region": region})


# --- Rendering in this process -----------------------------------------------------------------

ENVIRONMENT = create_env_with_context({"cookiecutter": CONFIG})
# What cookiecutter works out from the answers.
WORKED_OUT = ("__fifo", "__runner", "__setup", "__topic")
PRIVATE = {name: ENVIRONMENT.from_string(CONFIG[name]) for name in ("__partition", *WORKED_OUT)}


def template_files() -> Iterator[tuple[str, str]]:
    """Yield path and text of each file of the service that has an answer in it."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=SERVICE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in names.splitlines():
        if any(fnmatch(name, pattern) for pattern in CONFIG["_copy_without_render"]):
            continue
        text = (SERVICE / name).read_text(encoding="utf-8")
        if "cookiecutter." in text:
            yield name, text


SOURCES = dict(template_files())
Templates = dict[Template, Template]


def compiled(sources: dict[str, str]) -> Templates:
    """Make templates of the names and the texts of files."""
    from_string = ENVIRONMENT.from_string
    return {from_string(name): from_string(text) for name, text in sources.items()}


TEMPLATES = compiled(SOURCES)
HCL = (".tf", ".hcl", ".tfvars", ".tfbackend")
HCL_TEMPLATES = compiled({name: text for name, text in SOURCES.items() if name.endswith(HCL)})
# The hooks are Python around one literal, in which the answers are.
OPENING, CLOSING = 'r"""\n', '\n"""'
ANSWERS = re.compile(r"(?<=\nANSWERS = r\"\"\"\n)\{\{ cookiecutter.* \| tojson \}\}(?=\n\"\"\"\n)")

# One line in the pre-gen hook refuses a slug with `..` while it is rendered.
GUARD = re.compile(r"(?<=\n# )\{\{ .* cookiecutter.project_slug .* \}\}(?=\n)")


def hook_template(name: str) -> tuple[Template, str, str]:
    """Return a hook as a template, and the text of it before and after the answers."""
    text = (TEMPLATE / "hooks" / name).read_text(encoding="utf-8")
    before, after = ANSWERS.split(GUARD.sub("", text))
    return ENVIRONMENT.from_string(text), before, after


HOOKS = [hook_template("pre_gen_project.py"), hook_template("post_gen_project.py")]


def render_here(answers: Answers, templates: Templates = TEMPLATES) -> dict[str, str]:
    """Render the files that have an answer in them; return their texts by path."""
    full = in_full(answers)
    return {
        name.render(cookiecutter=full): text.render(cookiecutter=full)
        for name, text in templates.items()
    }


# --- Harmless answers, and what they are replaced by -------------------------------------------


@dataclass
class Comparison:
    """Harmless answers in the shape of hostile ones, and how to turn the first into the second."""

    harmless: Answers
    replacements: dict[str, str]

    def apply(self, text: str, change: Callable[[str], str] = str) -> str:
        """Put the hostile texts, changed by ``change``, in the place of the harmless."""
        return MARKER.sub(lambda found: change(self.replacements[found[0]]), text)

    def used_in(self, text: str) -> list[str]:
        """Return the hostile texts whose harmless ones are in ``text``."""
        return [self.replacements[marker] for marker in set(MARKER.findall(text))]


MARKER = re.compile(r"qx[a-z]+[0-9]*qx|zz-central-77")


def compare_with(answers: Answers) -> Comparison:
    """Choose harmless answers with as many event types, and empty where the hostile ones are."""
    harmless, replacements = {"__partition": partition(answers["aws_region"])}, {}
    for name, value in answers.items():
        if name in CHOICES or value == "." or not value.strip():
            harmless[name] = value
        elif name == "event_types":
            values = PRE_GEN.split_event_types(value)
            stars = ["*" if value.endswith("*") else "" for value in values]
            # The same value twice is one event type.
            markers = [f"qxtype{values.index(value)}qx" for value in values]
            harmless[name] = ",".join(map("".join, zip(markers, stars, strict=True)))
            for marker, text, star in zip(markers, values, stars, strict=True):
                replacements[marker] = text.removesuffix(star)
        else:
            marker = "zz-central-77" if name == "aws_region" else f"qx{name.replace('_', '')}qx"
            end = ".fifo" if name == "sns_topic_name" and value.endswith(".fifo") else ""
            harmless[name] = marker + end
            replacements[marker] = value.removesuffix(end)
    return Comparison(harmless, replacements)


# --- Parsers: what each format makes of a file -------------------------------------------------


def parse_environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def parse_yaml(text: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [text.count("${{"), yaml.load(text, loader)]


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def parse_markdown(text: str) -> list[Any]:
    """Return the document's parts: their kinds, and the text as a reader sees it."""

    def shown(token: Token) -> Any:
        if token.children is None:
            return [token.type, token.tag, token.content.strip(), token.attrs]
        parts: list[Any] = []
        for child in token.children:
            if child.type in {"text", "text_special"} and parts and isinstance(parts[-1], str):
                parts[-1] += child.content
            elif child.type in {"text", "text_special"}:
                parts.append(child.content)
            elif child.type not in {"softbreak"}:
                parts.append([child.type, child.content, child.attrs])
        return [token.type, [part.strip() if isinstance(part, str) else part for part in parts]]

    return [shown(token) for token in MARKDOWN.parse(text)]


PARSERS: dict[str, Callable[[str], Any]] = {
    "*.py": lambda text: ast.dump(ast.parse(text)),
    "*.toml": tomllib.loads,
    "*.json": json.loads,
    "*.yml": parse_yaml,
    "*.md": parse_markdown,
    "*.env": parse_environment,
    # Terraform itself reads these, all at once: see below.
    "*.tf": str.splitlines,
    "*.hcl": str.splitlines,
    "*.tfvars": str.splitlines,
    "*.tfbackend": str.splitlines,
    "Makefile": str.splitlines,
    ".gitignore": str.splitlines,
    ".python-version": str.splitlines,
}


@functools.lru_cache(maxsize=1000)
def parse(name: str, text: str) -> str:
    """Parse a file; raises what its parser raises. Returns what is in it as JSON."""
    base = name.rpartition("/")[2]
    parsers = [parser for pattern, parser in PARSERS.items() if fnmatch(base, pattern)]
    assert len(parsers) == 1, f"PARSERS must say what reads {name}, which has an answer in it"
    return json.dumps(parsers[0](text), ensure_ascii=False, default=str)


def in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def in_stripped_json(text: str) -> str:
    return in_json(text.strip())


# --- The properties ----------------------------------------------------------------------------

# Where text goes that has no rule but its length. Any other place would need its own escape.
FREE_TEXT = {
    "project_name": {"README.md"},
    "description": {"README.md", "pyproject.toml", "terraform/variables.tf"},
}


def check_file(path: str, hostile: str, harmless: str, comparison: Comparison) -> None:
    """Compare a file with hostile text with the same one with harmless text."""
    assert len(hostile.splitlines()) == len(harmless.splitlines()), path
    if hostile == harmless:
        return
    if path.endswith(".py") and all(is_plain_name(text) for text in comparison.used_in(harmless)):
        # A name in the place of a name: no parser has to say that nothing else changes.
        assert hostile == comparison.apply(harmless), path
    elif path.endswith(HCL):
        for line, pattern in zip(hostile.splitlines(), harmless.splitlines(), strict=True):
            if "qxdescriptionqx" not in pattern:
                assert line == comparison.apply(pattern), path
    else:
        change = in_stripped_json if path.endswith(".md") else in_json
        assert parse(path, hostile) == comparison.apply(parse(path, harmless), change), path


def is_plain_name(text: str) -> bool:
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def check_rendered(answers: Answers, templates: Templates = TEMPLATES) -> None:
    """Check all files that have one of ``answers`` in them, which the hook has accepted."""
    comparison = compare_with(answers)
    harmless = render_here(comparison.harmless, templates)
    hostile = render_here(answers, templates)
    assert list(hostile) == [comparison.apply(path) for path in harmless]
    for (path, text), pattern in zip(hostile.items(), harmless.values(), strict=True):
        assert "\0" not in text
        check_file(path, text, pattern, comparison)


def check_hooks(answers: Answers) -> None:
    """Check that the hooks get the answers as data: one string, which parses to the answers."""
    if ".." in answers["project_slug"]:
        with pytest.raises(KeyError, match="project_slug must not"):
            HOOKS[0][0].render(cookiecutter=in_full(answers))
        return
    full = in_full(answers)
    for template, before, after in HOOKS:
        text = template.render(cookiecutter=full)
        assert text.startswith(before)
        assert text.endswith(after)
        literal = text[len(before) - len(OPENING) : len(text) - len(after) + len(CLOSING)]
        # JSON joins the halves of a surrogate pair.
        assert dict(json.loads(ast.literal_eval(literal))) == json.loads(json.dumps(full))


def check_refused(answers: Answers, found: list[Any]) -> None:
    """Check what the user reads: every wrong answer by name, and a command that is only text."""
    full = in_full(answers)
    report = PRE_GEN.report(found)
    for problem in found:
        assert f"{problem.answer}: " in report
        assert PRE_GEN.RULES[problem.answer].text in report
    command = PRE_GEN.command(full, found, overwrite=False)
    for text in (report, command):
        assert not PRE_GEN.unusable_characters(text.replace("\n", ""))
    words = shlex.split(command.replace(" \\\n", " "))[3:]
    assert sorted(word.partition("=")[0] for word in words) == sorted(NAMES)


@pytest.mark.slow
def test_whatever_is_answered_is_refused_by_name_or_stays_text() -> None:
    counts: Counter[str] = Counter()

    @given(answers_and_doubtful())
    @examples(250)
    def property_of(case: tuple[Answers, set[str]]) -> None:
        answers, doubtful = case
        found = PRE_GEN.problems(in_full(answers))
        wrong = {problem.answer for problem in found}
        assert wrong <= doubtful, f"right answers are refused: {wrong - doubtful}"
        check_hooks(answers)
        counts["refused" if found else "accepted"] += 1
        if found:
            check_refused(answers, found)
        else:
            PRE_GEN.warnings(answers)
            check_rendered(answers)

    property_of()
    print(dict(counts))
    assert counts["accepted"] >= counts.total() / 2, counts
    assert counts["refused"] >= counts.total() / 10, counts


@given(fragments(unusable=True))
@examples(300)
def test_the_derived_defaults_are_right_whatever_the_name(project_name: str) -> None:
    answers: dict[str, Any] = {"project_name": project_name}
    for name, raw in CONFIG.items():
        if name in {"__slug", "product", "project_slug", "package_name"}:
            answers[name] = render_variable(ENVIRONMENT, raw, {**CONFIG, **answers})
    found = {problem.answer for problem in PRE_GEN.problems({**CONFIG, **answers})}
    assert not found & set(answers) - {"project_name"}


@pytest.mark.parametrize("text", ["u\u0308", "\u212b", "order.e\u0301*"])
def test_an_event_type_that_terraform_would_change_is_refused(text: str) -> None:
    """Terraform composes characters (NFC): the filter would wait for another text."""
    assert not PRE_GEN.are_event_types(text)
    assert PRE_GEN.are_event_types(unicodedata.normalize("NFC", text))


def test_free_text_goes_only_where_it_is_escaped() -> None:
    harmless = compare_with(dict.fromkeys(NAMES, "x")).harmless
    files = render_here({**harmless, **{name: CONFIG[name][0] for name in CHOICES}})
    for name, places in FREE_TEXT.items():
        assert {path for path, text in files.items() if harmless[name] in text} == places


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        (answer, path)
        for answer, paths in FREE_TEXT.items()
        for path in sorted(paths)
        if not path.endswith(HCL)  # See below.
    ],
)
def test_a_missing_escape_is_found(answer: str, path: str) -> None:
    """The property fails where an answer is written as it is."""
    place = re.compile(r"\{\{[^}]*cookiecutter\." + answer + r"\b[^}]*\}\}")
    text, count = place.subn(f"{{{{ cookiecutter.{answer} }}}}", SOURCES[path])
    assert count == 1
    assert text != SOURCES[path], "there is no escape to take away"
    broken = compiled({path: text})

    @given(right_answers)
    @examples(250, phases=[Phase.generate], report_multiple_bugs=False)
    def property_of(answers: Answers) -> None:
        check_rendered(answers, broken)

    with pytest.raises((AssertionError, ValueError)):
        property_of()


# --- Terraform reads what it is given ----------------------------------------------------------

QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def hcl_literals(hostile: str, harmless: str, comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Give each quoted string of HCL that has an answer in it, and the text that it stands for.

    Lines of comments are left out. What a string refers to, such as ``${local.environment}``, is
    taken for text.
    """
    for line, pattern in zip(hostile.splitlines(), harmless.splitlines(), strict=True):
        if not MARKER.search(pattern) or pattern.lstrip().startswith("#"):
            continue
        # Only the string with the marker differs, so what is around it tells where it begins.
        found = [quoted for quoted in QUOTED.finditer(pattern) if MARKER.search(quoted[0])]
        assert len(found) == 1, pattern
        start, end = found[0].start(), len(pattern) - found[0].end()
        assert line[:start] == pattern[:start]
        assert line[len(line) - end :] == pattern[len(pattern) - end :]
        literal, text = line[start : len(line) - end], found[0][1]
        for reference in re.findall(r"\$\{[a-z_.]+\}", text):
            literal, text = literal.replace(reference, "-"), text.replace(reference, "-")
        yield literal, comparison.apply(text)


def evaluated(literals: Iterable[str], folder: Path) -> list[str]:
    """Return what Terraform makes of string literals; fails the test if it refuses one."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"  {literal},\n" for literal in literals)
    # No jsonencode: it writes > as \u003e, whose e Terraform composes with an accent that follows.
    text = f'output "texts" {{\n  value = [\n{lines}  ]\n}}\n'
    (folder / "main.tf").write_text(text, encoding="utf-8")
    run("terraform", "apply", "-no-color", "-auto-approve", cwd=folder)
    state = json.loads((folder / "terraform.tfstate").read_text(encoding="utf-8"))
    texts: list[str] = state["outputs"]["texts"]["value"]
    return texts


@pytest.mark.slow
def test_terraform_parses_every_file_and_reads_the_answers_as_they_are(tmp_path: Path) -> None:
    need("terraform")
    literals: dict[str, str] = {}
    numbers = itertools.count()
    written: set[str] = set()  # most answers change few files

    @given(right_answers)
    @examples(250, phases=[Phase.generate])
    def collect(answers: Answers) -> None:
        comparison = compare_with(answers)
        harmless = render_here(comparison.harmless, HCL_TEMPLATES)
        folder = tmp_path / "files" / str(next(numbers))
        for (path, text), pattern in zip(
            render_here(answers, HCL_TEMPLATES).items(), harmless.values(), strict=True
        ):
            if text not in written:
                written.add(text)
                # terraform fmt doesn't take .tfbackend, which has the form of .tfvars.
                file = folder / path.replace(".tfbackend", ".backend.tfvars")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            for literal, meant in hcl_literals(text, pattern, comparison):
                if re.search(r"(?<!\$)\$\{\w+\(var\.", literal):  # a message about a value
                    continue
                assert literals.setdefault(literal, meant) == meant

    collect()
    run("terraform", "fmt", "-no-color", "-check", "-recursive", "-list=true", ".", cwd=tmp_path)

    texts = evaluated(literals, tmp_path / "evaluate")
    for (literal, meant), got in zip(literals.items(), texts, strict=True):
        # Terraform composes characters (NFC).
        assert got == unicodedata.normalize("NFC", meant), literal


@pytest.mark.parametrize(
    ("literal", "why"),
    [
        ('"a"b"', "Extra characters|Missing|Invalid"),
        ('"${var.x}"', "undeclared"),
        ('"%{ if true }"', "Unexpected end|Unclosed"),
        ('"\\d"', "Invalid escape"),
    ],
)
def test_text_without_an_escape_is_found_by_terraform(
    tmp_path: Path, literal: str, why: str
) -> None:
    need("terraform")
    with pytest.raises(pytest.fail.Exception, match=why):
        evaluated([literal], tmp_path)


# --- The real command line ---------------------------------------------------------------------

ATTACKS = [part for part in FRAGMENTS if CANARY in part]


def attack(allowed: Callable[[str], bool]) -> st.SearchStrategy[str]:
    """Make text in which each part would run a program, could it run at all."""
    parts = [part for part in ATTACKS if allowed(part)]
    return st.lists(st.sampled_from(parts), min_size=1, max_size=5).map(" ".join)


ATTACKING = st.builds(
    lambda answers, name, description, event_types: {
        **answers,
        "project_name": name[:80],
        "description": description[:200],
        "event_types": event_types,
    },
    right_answers,
    attack(lambda _: True),
    attack(lambda _: True),
    attack(PRE_GEN.are_event_types).map(lambda text: text[:90]),
)


@pytest.mark.slow
def test_nothing_runs_on_the_real_command_line(tmp_path: Path) -> None:
    """Render by the real command line, hooks and all; then let make and Terraform read it."""
    need("make")
    ran = tmp_path / "ran"
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / CANARY
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n", encoding="utf-8")
    program.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    run("sh", "-c", CANARY, cwd=tmp_path, **environment)
    assert ran.exists()
    ran.unlink()
    config = tmp_path / "config"
    config.write_text(f'replay_dir: "{tmp_path}"\n', encoding="utf-8")
    numbers = itertools.count()

    @given(ATTACKING)
    @examples(20, phases=[Phase.generate])
    def property_of(answers: Answers) -> None:
        output = tmp_path / f"out{next(numbers)}"
        # Cookiecutter renders what it gets on the command line; the hook's own way round that.
        brace = re.compile(r"\{(?=[%#{])")
        given_answers = [
            f"{name}={brace.sub(lambda _: PRE_GEN.JINJA_BRACE, value)}"
            for name, value in answers.items()
        ]
        options = ("--config-file", config, "--no-input", "-o", output, TEMPLATE)
        run_here(main, "cookiecutter", *options, *given_answers, cwd=tmp_path, **environment)
        service = output / answers["project_slug"]
        assert list(output.iterdir()) == [service]
        files = render_here(answers)
        if answers["compute"] == "fargate":
            for variant, path in POST_GEN.FARGATE_VARIANTS.items():
                if variant in files:
                    files[path] = files.pop(variant)
        for path, text in files.items():
            if (service / path).exists():  # The post-gen hook removes some.
                assert (service / path).read_text(encoding="utf-8") == text

        dry = ("make", "--dry-run", "help", "lint", "package", "plan", "workflow")
        run(*dry, cwd=service, **environment)
        written = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))
        table = written["tool"]["cookiecutter-lambda-python"]
        assert written["project"]["name"] == answers["project_slug"]
        assert table["service_path"] == answers["service_path"]
        run("make", cwd=service, **environment)
        assert not ran.exists()

    property_of()


@pytest.mark.slow
def test_terraform_takes_every_answer_that_the_hook_takes(tmp_path: Path) -> None:
    """The rules of the hook are no wider than the validation of the variables."""
    need("terraform")
    run("terraform", "workspace", "new", "dev", cwd=tmp_path)

    @given(right_answers)
    @examples(15, phases=[Phase.generate])
    def property_of(answers: Answers) -> None:
        texts = render_here(answers, HCL_TEMPLATES)
        (tmp_path / "variables.tf").write_text(texts["terraform/variables.tf"], encoding="utf-8")
        variables = {f"TF_VAR_{name}": answers[name] for name in ("python_version", "architecture")}
        types = PRE_GEN.split_event_types(answers["event_types"])
        variables["TF_VAR_event_types"] = json.dumps(types, ensure_ascii=False)
        variables["TF_VAR_package_file"] = "variables.tf"  # Any file will do.
        variables["TF_VAR_subnet_ids"] = '["subnet-1"]'  # Fargate has no default for it.
        variables["TF_VAR_security_group_ids"] = '["sg-1"]'
        run("terraform", "plan", "-no-color", "-input=false", cwd=tmp_path, **variables)

    property_of()

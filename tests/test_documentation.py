"""What the documentation mentions exists: links, files, commands, questions, the tree of a service.

The template's own pages may mention files of the template and of a service; a service's pages only
its own. Nothing here uses the network: only the form of links to other sites is checked.
"""

import fnmatch
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from conftest import SERVICE, TEMPLATE, Render, run
from markdown_it import MarkdownIt
from markdown_it.token import Token
from test_pre_gen_project import hook
from test_rendering import files
from tools.display import describe, parse

HERE = "https://github.com/stratasan/cookiecutter-lambda-python/"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))

# Services whose pages differ. The first has the default answers, in a folder of this file's own.
SERVICES: dict[str, dict[str, str]] = {
    "lambda": {"owner": QUESTIONS["owner"]},
    "fargate": {"compute": "fargate", "idempotency": "yes"},
    "in a monorepo": {"service_path": "services/order-events", "idempotency": "yes"},
    "fifo": {"sns_topic_name": "events.fifo"},
}

# Files that a reader or a command creates.
CREATED = {
    ".cruft.json",
    ".terraform-bin/terraform",
    "events/order.cancelled.json",
    "terraform.tfvars",
    "terraform/.terraform.lock.hcl",
    "terraform/cancellations.tf",
    "terraform/import.tf",
}

# Programs that readers have; of their arguments, only the quotation marks are checked. The AWS CLI
# isn't one of them: the documentation does without it.
PROGRAMS = {
    "brew",
    "cat",
    "cd",
    "cookiecutter",
    "cp",
    "cruft",
    "echo",
    "for",
    "git",
    "grep",
    "pipx",
    "pre-commit",
}
TERRAFORM = {
    *("apply", "console", "destroy", "fmt", "force-unlock", "import", "init", "output", "plan"),
    *("providers", "show", "state", "test", "validate", "version", "workspace"),
}
GH = {"api", "auth", "pr", "repo", "run", "secret", "variable", "workflow"}
SHELL = {"!", "do", "done", "else", "fi", "if", "then", "while"}


@dataclass(frozen=True)
class Page:
    """A page, and the folders that its commands and paths may refer to, the likeliest first."""

    path: Path
    text: str
    roots: tuple[Path, ...]

    @property
    def tokens(self) -> list[Token]:
        return list(flat(MarkdownIt("commonmark").enable("table").parse(self.text)))


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def template_pages(service: Path) -> list[Page]:
    return [
        Page(TEMPLATE / name, (TEMPLATE / name).read_text(encoding="utf-8"), (TEMPLATE, service))
        for name in tracked()
        if name.endswith(".md") and not name.startswith(SERVICE.name)
    ]


def service_pages(service: Path) -> list[Page]:
    return [
        Page(path, path.read_text(encoding="utf-8"), (service,))
        for path in sorted(service.rglob("*.md"))
    ]


@pytest.fixture(params=["template", *SERVICES])
def pages(request: pytest.FixtureRequest, render: Render) -> list[Page]:
    """Return the pages of the template, or of one of the services."""
    if request.param == "template":
        # What its pages say must be true of at least one of the services.
        others = [render(**answers) for answers in SERVICES.values()]
        return [
            Page(page.path, page.text, (TEMPLATE, *others)) for page in template_pages(others[0])
        ]
    return service_pages(render(**SERVICES[request.param]))


def complain(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", tokens[at + 1].content.lower()).replace(" ", "-")
            number = sum(anchor.rpartition("-")[0] == words or anchor == words for anchor in found)
            found.add(f"{words}-{number}" if number else words)
    return found


def links(page: Page) -> Iterator[str]:
    for token in page.tokens:
        if token.type in {"link_open", "image"}:
            yield str(token.attrs.get("href") or token.attrs.get("src"))
        elif token.type in {"html_block", "html_inline"}:
            yield from re.findall(r'(?:href|src)="([^"]*)"', token.content)


def problem_of_link(page: Page, link: str) -> str | None:
    """Say what is wrong with a link, None if nothing is."""
    if link.startswith(HERE):
        inside = re.fullmatch(r"(?:tree|blob)/main/([^#]+)", link.removeprefix(HERE))
        return "no such file" if inside and not (TEMPLATE / inside[1]).exists() else None
    parts = urlsplit(link)
    if parts.scheme:
        right = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return None if right else "a link to another site must begin with https://"
    target = page.path.parent / unquote(parts.path) if parts.path else page.path
    if not target.exists():
        return "no such file"
    if parts.fragment and parts.fragment not in anchors(target):
        return f"no such heading; the page has {', '.join(sorted(anchors(target)))}"
    return None


def test_every_link_leads_somewhere(pages: list[Page]) -> None:
    complain(
        [
            f"{page.path}: {link}: {problem}"
            for page in pages
            for link in links(page)
            if (problem := problem_of_link(page, link))
        ]
    )


# Paths in the text, `like/this.py`, that are not build output.
PATH = re.compile(r"(?!dist/|build/|/|~)[\w.{}/*-]+\.(env|hcl|json|md|py|sh|tf|tfbackend|tfvars)")


@cache
def known(roots: tuple[Path, ...]) -> set[str]:
    """Return the paths of the files in some folders, each with a slash in front."""
    names = {name for root in roots for name in (tracked() if root == TEMPLATE else files(root))}
    return {f"/{name}" for name in names}


@cache
def tracked() -> list[str]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE)
    return listed.stdout.splitlines()


def test_every_file_that_is_mentioned_exists(pages: list[Page]) -> None:
    complain(
        [
            f"{page.path}: there is no {token.content}"
            for page in pages
            for token in page.tokens
            if token.type == "code_inline" and PATH.fullmatch(token.content)
            if token.content not in CREATED
            and not fnmatch.filter(known(page.roots), f"*/{token.content}")
        ]
    )


def scripts(page: Page) -> Iterator[str]:
    """Yield what a reader may type: blocks of shell, and commands in the text."""
    for token in page.tokens:
        if token.type == "fence" and token.info.split(" ")[0] in {"sh", "bash", "shell", "console"}:
            yield token.content
        elif token.type == "code_inline" and re.match(
            r"(\S+=\S+ )?(make|gh|aws|terraform) ", token.content
        ):
            yield re.sub(r"[…<>]+", "x", token.content)


def commands(script: str) -> Iterator[list[str]]:
    """Split a script into simple commands, without the variables set before them.

    :raises ValueError: a quotation mark is missing.
    """
    script = re.sub(r"<<-?'?(\w+)'?(.*)\n(?s:.*?)^\s*\1$", r"\2", script, flags=re.MULTILINE)
    script = re.sub(r"\\\n", " ", script)
    lexer = shlex.shlex(script.replace("\n", " ; "), posix=True, punctuation_chars="();|&\n")
    lexer.whitespace_split = True
    lexer.commenters = ""
    command: list[str] = []
    for word in [*lexer, ";"]:
        if re.fullmatch(r"[();|&]+", word):
            if command:
                yield command
            command = []
        elif command or not (word in SHELL or re.match(r"\w+=", word)):
            command.append(word)


def uncommented(script: str) -> str:
    """Remove a script's comments: from a `#` at the beginning of a word, outside quotes."""
    return re.sub(r"(?m)^((?:[^'\"#\n]|'[^']*'|\"[^\"]*\"|(?<=\S)#)*?)(?<!\S)#.*$", r"\1", script)


# A rule of a Makefile: the comment above it, its targets, its help, its recipe.
RULE = re.compile(r"^((?:# .*\n)*)([a-z0-9 -]+):(.*)\n((?:\t.*\n?)*)", re.MULTILINE)
# The targets whose recipe is a command of that name.
COMMANDS = re.compile(r"^COMMANDS [:+]= ((?:.*\\\n)*.*)", re.MULTILINE)


@cache
def makefile(root: Path) -> dict[str, set[str]]:
    """Return a Makefile's targets, and the variables that each uses or mentions."""
    found: dict[str, set[str]] = {}
    for comment, targets, rest, recipe in RULE.findall((root / "Makefile").read_text("utf-8")):
        used = re.findall(r"\$+[({]?([A-Z][A-Z0-9_]*)", recipe)
        mentioned = re.findall(r"\b([A-Z][A-Z0-9_]*)=", comment + rest.partition("##")[2])
        for target in targets.split():
            found[target] = {"ENV", *used, *mentioned, *found.get(target, ())}
    return found


def problem_of_make(words: list[str], roots: tuple[Path, ...]) -> str | None:
    """Say what is wrong with the arguments of make, None if one of the Makefiles has them all."""
    if "-C" in words:
        at = words.index("-C")
        words = words[:at] + words[at + 2 :]
    wrong = []
    for root in roots:
        if not (root / "Makefile").exists():
            continue
        variables = makefile(root)
        targets = [word for word in words if "=" not in word]
        read = {name for target in targets for name in variables.get(target, ())}
        unknown = [target for target in targets if target not in variables]
        for word in words:
            name, is_variable, value = word.partition("=")
            if is_variable and (
                name not in read or (name == "ENV" and value not in {"dev", "prod", "local", "x"})
            ):
                unknown.append(word)
        if not unknown:
            return None
        wrong.append(unknown)
    return f"make has no {' '.join(min(wrong, key=len))}"


def one_of(known: set[str]) -> Callable[[list[str], tuple[Path, ...]], str | None]:
    def problem(words: list[str], roots: tuple[Path, ...]) -> str | None:
        verb = next((word for word in words if not word.startswith("-")), "")
        return None if verb in known else f"there is no {verb}"

    return problem


def problem_of_path(words: list[str], roots: tuple[Path, ...]) -> str | None:
    path = next((word for word in words if not word.startswith("-")), "")
    there = not path or any((root / path).exists() for root in roots)
    return None if there else f"there is no {path}"


CHECKS: dict[str, Callable[[list[str], tuple[Path, ...]], str | None]] = {
    "make": problem_of_make,
    "terraform": one_of(TERRAFORM),
    "gh": one_of(GH),
    "sh": problem_of_path,
    "python": problem_of_path,
}


def problems_of_script(script: str, roots: tuple[Path, ...]) -> Iterator[str]:
    try:
        found = list(commands(uncommented(script)))
    except ValueError as error:
        yield f"{error} in {script!r}"
        return
    if "-chdir=terraform" in script and "TF_DATA_DIR=terraform/" in script:
        yield f"{script!r}: with -chdir, Terraform looks for TF_DATA_DIR from there"
    for program, *words in found:
        if check := CHECKS.get(program):
            if problem := check(words, roots):
                yield f"{' '.join([program, *words])}: {problem}"
        elif program not in PROGRAMS:
            yield f"{' '.join([program, *words])}: do readers have {program}?"


def test_every_command_exists(pages: list[Page]) -> None:
    complain(
        [
            f"{page.path}: {problem}"
            for page in pages
            for script in scripts(page)
            for problem in problems_of_script(script, page.roots)
        ]
    )


def test_what_is_imported_of_the_tools_exists() -> None:
    """By the scripts and benchmarks, of which `make test` runs only parts."""
    files = [name for name in tracked() if name.startswith(("benchmarks/", "scripts/"))]
    found = {
        (module, name)
        for file in files
        if file.endswith((".py", ".sh"))
        for module, names in re.findall(
            r"from (tools\.[\w.]+) import ([\w, ]+)", (TEMPLATE / file).read_text(encoding="utf-8")
        )
        for name in re.findall(r"(\w+)(?: as \w+)?", names)
    }
    assert len(found) > 5
    gone = [pair for pair in found if not hasattr(import_module(pair[0]), pair[1])]
    assert gone == []


def test_a_comment_after_a_command_has_nothing_that_a_shell_would_heed(pages: list[Page]) -> None:
    """zsh, the shell of macOS, takes it for arguments, if it is not set to interactive_comments."""
    complain(
        [
            f"{page.path}: {line}"
            for page in pages
            for script in scripts(page)
            for line in script.splitlines()
            if re.search(r"(?<=\S) +# .*[][;&|<>(){}$`'\"*?!=~]", line)
        ]
    )


# Prints those of the named commands that a service's tools don't have.
MISSING = """
import sys
from tools.__main__ import tools
print(*(name for name in sys.argv[1:] if tools.get_command(None, name) is None))
"""


@pytest.mark.parametrize("compute", QUESTIONS["compute"])
def test_every_make_target_has_its_command_and_variables(render: Render, compute: str) -> None:
    service = render(**SERVICES[compute])
    text = (service / "Makefile").read_text(encoding="utf-8")
    names = set(" ".join(COMMANDS.findall(text)).replace("\\", "").split())
    assert names <= makefile(service).keys()
    rules = [(it.split(), recipe) for _, it, _, recipe in RULE.findall(text)]
    # For a target without a recipe, make would say that there is nothing to do.
    idle = makefile(service).keys() - names - {it for its, recipe in rules if recipe for it in its}
    assert idle == {"check"}
    names |= {
        command.replace("$@", target)
        for targets, recipe in rules
        for target in targets
        for command in re.findall(r"\$\(TOOLS\) (\S+)", recipe)
    }
    assert len(names) > 20
    assert run(sys.executable, "-Bc", MISSING, *sorted(names), cwd=service).stdout == "\n"
    code = "".join(path.read_text(encoding="utf-8") for path in service.glob("tools/**/*.py"))
    said = "".join(comment + rest.partition("##")[2] for comment, _, rest, _ in RULE.findall(text))
    mentioned = {*re.findall(r"\b([A-Z][A-Z0-9_]*)=", said)}
    assert {name for name in mentioned if f'"{name}"' not in code} == set()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](missing.md)", "missing.md: no such file"),
        ("[x](#missing)", "#missing: no such heading"),
        ("[x](http://example.com)", "must begin with https"),
        ("[x](https://example)", "must begin with https"),
        (f"[x]({HERE}tree/main/missing)", "no such file"),
        ('<img src="missing.svg" alt="">', "missing.svg: no such file"),
        ("`tools/missing.py`", "there is no tools/missing.py"),
        ("`scripts/doctor.py`", "there is no scripts/doctor.py"),
        ("`make missing ENV=dev`", "make has no missing"),
        ("```sh\nmake plan ENV=staging\n```", "make has no ENV=staging"),
        ("```sh\nmake dlq-peek TYPO=1 # a comment\n```", "make has no TYPO=1"),
        ("```sh\nmake plan SINCE=60\n```", "make has no SINCE=60"),
        ("```sh\ncd x && terraform shwo\n```", "there is no shwo"),
        ("`aws sqs purge-queue`", "do readers have aws?"),
        ('```sh\necho "$(date)" \'x\n```', "No closing quotation"),
        ("```sh\nsh tools/missing.sh\n```", "there is no tools/missing.sh"),
        ("`TF_DATA_DIR=terraform/.terraform/dev terraform -chdir=terraform show`", "from there"),
        ("```sh\nrm -rf /\n```", "do readers have rm?"),
        ("Each time-out is an error.", "timeout, not time-out"),
    ],
)
def test_a_mistake_is_found(render: Render, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    page = Page(tmp_path / "page.md", text, (render(**SERVICES["lambda"]),))
    tests = (
        test_every_link_leads_somewhere,
        test_every_file_that_is_mentioned_exists,
        test_every_command_exists,
        test_the_house_words_are_used,
    )
    said = ""
    for check in tests:
        try:
            check([page])
        except pytest.fail.Exception as failure:
            said += str(failure)
    assert problem in said


# The house words, and what they replace.
HOUSE_WORDS = {
    r"time-outs?": "timeout",
    r"byte-code": "bytecode",
    r"run-time": "runtime or run time",
    r"poisonous": "poison message",
    r"mend(s|ed)?": "fix",
    r"(?<!batch )processor": "CPU architecture",
    r"none of \d+ fires": "0 of n alarms firing",
}


def test_the_house_words_are_used(pages: list[Page]) -> None:
    complain(
        [
            f"{page.path}: {word}, not {match[0]}"
            for page in pages
            for pattern, word in HOUSE_WORDS.items()
            for match in re.finditer(rf"\b{pattern}\b", page.text, re.IGNORECASE)
        ]
    )


# The tree in the README: two spaces per level, a name, and what it is.
TREE = re.compile(r"^((?:  )*)(\S+)(?: +(\S.*))?$")


def test_the_tree_in_the_readme_is_what_is_rendered(render: Render) -> None:
    """A folder whose line says what it is stands for the files in it."""
    text = (TEMPLATE / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```text\norder-events/\n(.*?)```", text, re.DOTALL)
    named: list[str] = []
    folders: list[str] = []
    for line in tree.splitlines():
        match = TREE.match(line)
        assert match is not None, f"README.md: not a line of a tree: {line!r}"
        folders = folders[: len(match[1]) // 2 - 1]
        path = "".join(folders) + match[2]
        if match[2].endswith("/"):
            folders.append(match[2])
        else:
            assert match[3], f"README.md doesn't say what {path} is"
        if match[3]:
            named.append(path)
    there = sorted(files(render(**SERVICES["lambda"])))

    def stands_for(name: str, file: str) -> bool:
        return file.startswith(name) if name.endswith("/") else file == name

    lacks = [file for file in there if not any(stands_for(name, file) for name in named)]
    has = [name for name in named if not any(stands_for(name, file) for file in there)]
    complain(
        [f"README.md's tree lacks {file}" for file in lacks]
        + [f"README.md's tree has {name}, which is not rendered" for name in has]
    )


def test_every_question_is_documented_with_its_rule_and_default() -> None:
    text = (TEMPLATE / "docs" / "questions.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+)`\n\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    asked = [name for name in QUESTIONS if not name.startswith("_")]
    assert re.findall(r"^## `(\w+)`$", text, re.MULTILINE) == asked
    for name in asked:
        section = re.sub(r"\\(.)", r"\1", " ".join(sections[name].split()))
        rule, default = hook.RULES[name].text, QUESTIONS[name]
        if isinstance(default, list):
            choices = ", ".join(f"`{choice}`" for choice in default)
            assert f"choices: {choices}." in section, f"{name} has the choices {choices}"
            default = default[0]
        else:
            assert f"It {rule}." in section, f"the rule for {name} is {rule!r}"
        if default and "{{" not in default:
            assert f"Default: `{default}`" in section, f"the default of {name} is {default!r}"


def test_examples_of_default_answers_are_quoted_and_valid(pages: list[Page]) -> None:
    """Cookiecutter drops a value that YAML doesn't read as text, with all after it."""
    examples = [
        yaml.safe_load(token.content)["default_context"]
        for page in pages
        for token in page.tokens
        if token.type == "fence" and "default_context:" in token.content
    ]
    assert bool(examples) is (pages[0].path.is_relative_to(TEMPLATE))
    for name, value in (pair for example in examples for pair in example.items()):
        assert isinstance(value, str), f"{name}: {value} needs quotes"
        assert hook.RULES[name].is_right(value), f"{name}: {value}"


def test_the_settings_of_fifo_services_exist(render: Render) -> None:
    """Each name in docs/ordering.md that has an underscore is an answer, or a variable there."""
    named = set(
        re.findall(
            r"`([a-z]+(?:_[a-z]+)+)(?: = \w+)?`", (TEMPLATE / "docs/ordering.md").read_text()
        )
    )
    known = {*QUESTIONS, "message_group_id"}  # that of a saved message
    for compute in QUESTIONS["compute"]:
        service = render(sns_topic_name="events.fifo", compute=compute)
        code = (service / "terraform" / "variables.tf").read_text(encoding="utf-8")
        known.update(re.findall(r'^variable "(\w+)"', code, re.MULTILINE))
    assert len(named) > 6
    assert named <= known


def test_no_page_is_too_long_to_read() -> None:
    pages = (TEMPLATE / "docs").glob("*.md")
    complain(
        [
            f"{page.name} has {lines} lines: a page must have at most 120"
            for page in pages
            if (lines := len(page.read_text(encoding="utf-8").splitlines())) > 120
        ]
    )


def alarms_of(service: Path) -> set[str]:
    """Return the names of a service's alarms, without the service's own."""
    code = (service / "terraform" / "monitoring.tf").read_text(encoding="utf-8")
    return {
        *re.findall(r"\$\{var\.runbook_url\}#([a-z-]+)\"", code),
        *re.findall(r"^    ([a-z-]+) = \{\n      description", code, re.MULTILINE),
    }


def test_the_runbook_names_what_the_log_says_of_invocations_that_failed(render: Render) -> None:
    text = (render(**SERVICES["lambda"]) / "RUNBOOK.md").read_text(encoding="utf-8")
    step = text.partition("\n## errors\n")[2].partition("\n1. ")[2].partition("\n2. ")[0]
    names = re.findall(r"`([^`]+)`", step)[1:]
    for failed in (
        {"errorType": "Runtime.ImportModuleError", "errorMessage": "Unable to import"},
        {"type": "platform.report", "record": {"status": "timeout"}},
        {
            "type": "platform.report",
            "record": {"status": "error", "errorType": "Runtime.OutOfMemory"},
        },
    ):
        said = describe(parse(json.dumps(failed)))
        assert any(name in said for name in names), said


@pytest.mark.parametrize("compute", QUESTIONS["compute"])
def test_every_alarm_is_documented(render: Render, compute: str) -> None:
    """Each alarm links to its section of the runbook; docs/operating.md lists it."""
    service = render(**SERVICES[compute])
    alarms = alarms_of(service)
    assert len(alarms) > 5
    assert alarms <= anchors(service / "RUNBOOK.md")
    assert alarms <= {*re.findall(r"`([a-z-]+)`", (TEMPLATE / "docs/operating.md").read_text())}
    if compute == "lambda":
        costs = re.findall(r"\| alarms \| (\d+), on", (TEMPLATE / "docs/cost.md").read_text())
        assert costs == [f"{len(alarms)}"], "docs/cost.md counts them, with what they cost"

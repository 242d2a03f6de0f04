"""What the template learns reaches the services made from it: cruft's create, check and update.

A Git repository is made of this working tree, in three versions: `before` is the last release's
tag, or the previous commit until there is one; `now` is what lies here, committed or not; `later`
is a made-up next version.
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SERVICE, TEMPLATE, Render, lend_environment, need, one_provider, run, run_here
from cruft._cli import app
from tools.deploy.mirror import cli_config

pytestmark = pytest.mark.slow

CRUFT_SAYS = "Good work! Project's cruft has been updated and is as clean as possible!"
MONOREPO = {"service_path": "services/order-events"}
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{who}_{what}": "test@example.com"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


def git(*arguments: str | Path, cwd: Path) -> str:
    return run("git", *arguments, cwd=cwd, **GIT).stdout.strip()


def commit(folder: Path, message: str) -> None:
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


def replace(path: Path, pattern: str, new: str) -> None:
    """Replace the one place in a file that a regular expression finds."""
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1, f"{path.name}: {count} places for {pattern!r}"
    path.write_text(text, encoding="utf-8")


def clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def earlier(folder: Path) -> str | None:
    """Name the version to update from: the last release that differs from the present.

    The previous commit until there is a release; None where there is none, as in a shallow clone.
    """

    def found(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    start = "HEAD"
    while tag := found("describe", "--tags", "--abbrev=0", "--match", "[0-9]*", start):
        if found("diff", "--quiet", tag, "--") is None:
            return tag
        start = f"{tag}^"
    changed = found("diff", "--quiet", "HEAD", "--") is None
    return found("rev-parse", "--verify", "--quiet", "HEAD" if changed else "HEAD^")


def put_before(template: Path) -> None:
    """Put the earlier version into `template`: the present one where Git knows of none.

    One line differs in any case, so that an update always has something to bring.
    """
    if version := earlier(TEMPLATE):
        archive = template.parent / "before.tar"
        run("git", "archive", "--output", archive, version, cwd=TEMPLATE)
        run("tar", "-xf", archive, "-C", template, cwd=template)
    else:
        print("Git knows no earlier version here (a shallow clone?), so it is made of the present.")
        put_now(template)
    replace(template / SERVICE.name / "Makefile", r"\A# ", "# Before: ")


def put_now(template: Path) -> None:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE)
    for name in listed.stdout.splitlines():
        if (TEMPLATE / name).exists():
            (template / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, template / name)


def put_later(template: Path) -> None:
    """Make a next version: another workflow and handler, a new question, the last choice gone."""
    service = template / SERVICE.name
    workflow = service / ".github" / "workflows" / f"{SERVICE.name}.yml"
    replace(workflow, r"\A", "# Of the next version.\n")
    replace(service / "handler.py", r"^SMOKE_TEST = .*$", 'SMOKE_TEST = "smoke_test"  # later')
    questions = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    del questions["__prompts__"]["python_version"][questions["python_version"].pop()]
    questions = {"greeting": "hello", **questions}
    (template / "cookiecutter.json").write_text(json.dumps(questions), encoding="utf-8")
    (service / "GREETING").write_text("{{ cookiecutter.greeting }}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the repository with the branches `before`, `now` and `later`; `now` is the newest."""
    need("git")
    folder = tmp_path_factory.mktemp("template") / "cookiecutter-lambda-python"
    folder.mkdir()
    git("init", "--quiet", "--initial-branch", "main", cwd=folder)
    for name, put in (("before", put_before), ("now", put_now), ("later", put_later)):
        if name != "later":
            clear(folder)
        put(folder)
        commit(folder, name)
        git("branch", name, cwd=folder)
    return folder


@dataclass
class Updatable:
    """A service made by cruft, its template, and the Git repository that it is in."""

    template: Path
    path: Path
    repository: Path

    def update(self, version: str, *options: str) -> str:
        """Merge in a version of the template, as its owner would; return what cruft printed."""
        return cruft("update", "--skip-apply-ask", "--checkout", version, *options, cwd=self.path)


Make = Callable[..., Updatable]


def cruft(*arguments: str | Path, cwd: Path) -> str:
    """Run a command of cruft's that must succeed; return what it and the hooks printed."""
    return run_here(app, "cruft", *arguments, cwd=cwd, **GIT)


def refused(*arguments: str | Path, cwd: Path) -> str:
    """Run a command of cruft's that must fail; return what it printed."""
    with pytest.raises(pytest.fail.Exception) as failure:
        cruft(*arguments, cwd=cwd)
    return str(failure.value)


@pytest.fixture(scope="module")
def created(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a service with `cruft create`, in a Git repository, as its owner would.

    The same answers, the same folder: it is copied to be changed.
    """

    @functools.cache
    def create(version: str, service_path: str, **answers: str) -> Path:
        base = tmp_path_factory.mktemp("created")
        repository = base / ("order-events" if service_path == "." else "monorepo")
        folder = (repository / service_path).parent if service_path != "." else base
        folder.mkdir(parents=True, exist_ok=True)
        if service_path != ".":
            git("init", "--quiet", cwd=repository)
        context = ("--extra-context", json.dumps({**answers, "service_path": service_path}))
        options = ("--no-input", "--default-config", "--checkout", version, "--output-dir", folder)
        cruft("create", template, *options, *context, cwd=base)
        if service_path == ".":
            git("init", "--quiet", cwd=repository)
        commit(repository, "As the template made it")
        return base

    return create


@pytest.fixture
def made(template: Path, created: Callable[..., Path], tmp_path: Path) -> Make:
    """Make a service in a Git repository of the test's own."""

    def make(version: str, service_path: str = ".", **answers: str) -> Updatable:
        base = created(version, service_path, **answers)
        shutil.copytree(base, tmp_path, symlinks=True, dirs_exist_ok=True)
        repository = tmp_path / ("order-events" if service_path == "." else "monorepo")
        return Updatable(template, repository / service_path, repository)

    return make


def edit(service: Path) -> None:
    """Change a service as its developers would in its first year."""
    package = service / "order_events"
    replace(package / "service.py", r"^    logger\.debug.*$", r'\g<0>\n    logger.info("Ordered")')
    replace(package / "events.py", r"^    data: .*$", r"\g<0>\n    version: int = 1")
    tfvars = service / "terraform" / "environments" / "dev.tfvars"
    tfvars.write_text(tfvars.read_text(encoding="utf-8") + "\nmemory_size = 1024\n")
    replace(service / "README.md", r"^Processes the .*$", r"\g<0>\n\nIt is the heart of the shop.")
    terraform = service / "terraform"
    statement = (
        '{ Sid = "Read", Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::x/*" }'
    )
    replace(terraform / "service.tf", r"(added_permissions = )\[\]$", rf"\1[{statement}]")
    replace(terraform / "iam.tf", r'^resource "aws_iam_role_policy" "code"', r"# Reviewed.\n\g<0>")
    replace(
        terraform / "variables.tf",
        r'(variable "log_level" \{(?:.*\n)*? *default += )"INFO"',
        r'\1"DEBUG"',
    )


def kept(service: Path) -> dict[str, bool]:
    """Tell for each edit whether it is there."""
    edits = {
        "order_events/service.py": 'logger.info("Ordered")',
        "order_events/events.py": "    version: int = 1",
        "terraform/environments/dev.tfvars": "memory_size = 1024",
        "README.md": "It is the heart of the shop.",
        "terraform/service.tf": 'Sid = "Read"',
        "terraform/iam.tf": "# Reviewed.",
        "terraform/variables.tf": '"DEBUG"',
    }
    return {name: text in (service / name).read_text("utf-8") for name, text in edits.items()}


def conflicts(repository: Path) -> set[str]:
    """Name what an update could not merge: files with conflict marks, and patches left over."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", cwd=repository)
    names = listed.splitlines()
    unmerged = git("diff", "--name-only", "--diff-filter=U", cwd=repository).splitlines()
    return {*unmerged, *(name for name in names if name.endswith((".rej", ".orig")))}


def terraform_is_valid(service: Path) -> None:
    """Check Terraform's format and validity; its tests, which take long, are first_week.py's."""
    need("terraform")
    config = str(cli_config(service / "terraform") or "")
    run("terraform", "fmt", "-check", "-recursive", "terraform", cwd=service)
    with one_provider(service):
        for command in (("init", "-input=false", "-backend=false"), ("validate",)):
            line = ("terraform", "-chdir=terraform", *command)
            run(*line, cwd=service, TF_CLI_CONFIG_FILE=config, TF_IN_AUTOMATION="1")


@pytest.mark.usefixtures("known_types")
def test_a_service_keeps_its_edits_and_passes_its_checks(made: Make) -> None:
    service = made("before")
    assert "out of date" in refused("check", "--checkout", "now", cwd=service.path)
    edit(service.path)
    commit(service.repository, "A year of work")
    dependencies = locked_dependencies(service.path)
    service.update("now")
    assert conflicts(service.repository) == set()
    assert all(kept(service.path).values()), kept(service.path)
    assert not (service.path / "Makefile").read_text(encoding="utf-8").startswith("# Before")
    commit(service.repository, "Updated")
    assert "is up to date" in cruft("check", "--checkout", "now", cwd=service.path)

    # As the service's README says: where pyproject.toml names other dependencies, `make lock`.
    if locked_dependencies(service.path) != dependencies:
        run("make", "lock", cwd=service.path)
    else:
        lend_environment(service.path)
    run("make", "lint", "typecheck", "test", cwd=service.path)
    terraform_is_valid(service.path)


def locked_dependencies(service: Path) -> tuple[object, object]:
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["dependencies"], project["dependency-groups"]


def test_in_a_monorepo_the_workflows_copy_follows(made: Make) -> None:
    service = made("before", **MONOREPO)
    edit(service.path)
    commit(service.repository, "A year of work")
    service.update("now")
    assert conflicts(service.repository) == set()
    assert all(kept(service.path).values()), kept(service.path)
    lend_environment(service.path)
    run("make", "workflow", cwd=service.path)
    commit(service.repository, "Updated")

    service.update("later")
    copy = service.repository / ".github" / "workflows" / "order-events.yml"
    assert not copy.read_text(encoding="utf-8").startswith("# Of the next version.")
    done = subprocess.run(["make", "lint"], cwd=service.path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "run `make workflow`" in done.stderr
    run("make", "workflow", cwd=service.path)
    assert copy.read_text(encoding="utf-8").startswith("# Of the next version.")
    run("make", "lint", cwd=service.path)


@pytest.mark.parametrize("in_git", [True, False], ids=["in Git", "in no repository"])
def test_a_planted_conflict_is_seen(made: Make, in_git: bool) -> None:
    """Both change the same line: Git marks the place; without Git, cruft leaves a .rej file."""
    service = made("now")
    replace(service.path / "handler.py", r"^SMOKE_TEST = .*$", 'SMOKE_TEST = "ours"')
    commit(service.repository, "Our own smoke test")
    if not in_git:
        shutil.rmtree(service.repository / ".git")
    service.update("later")
    if not in_git:
        git("init", "--quiet", cwd=service.repository)
    assert conflicts(service.repository) == {"handler.py" if in_git else "handler.py.rej"}


def test_a_refused_service_is_made_by_the_printed_command(template: Path, tmp_path: Path) -> None:
    """By cruft again, so that it can be updated."""
    answers = {"project_name": "O'Brien's Größe", "description": "a\n b", "project_slug": "orders"}
    given = ("--no-input", "--default-config", "--extra-context", json.dumps(answers))
    place = ("--checkout", "now", "--output-dir", tmp_path / "a b")
    said = refused("create", template, *given, *place, cwd=tmp_path)
    command = re.search(r"^cruft create [^\n]*(?:\n.*?)*?\n\}'$", said, re.MULTILINE)
    assert command, said
    python = shlex.join([sys.executable, "-m", "cruft"])
    run("sh", "-c", command[0].replace("cruft", python, 1), cwd=TEMPLATE.parent, **GIT)
    service = tmp_path / "a b" / "orders"
    state = json.loads((service / ".cruft.json").read_text(encoding="utf-8"))
    made = {name: state["context"]["cookiecutter"][name] for name in answers}
    assert made == answers | {"description": "a  b"}
    assert state["commit"] == git("rev-parse", "now", cwd=template)
    git("init", "--quiet", cwd=service)
    commit(service, "As the template made it")
    cruft("update", "-y", "--checkout", "later", cwd=service)
    assert (service / "GREETING").exists()


def test_an_update_is_quiet(made: Make) -> None:
    """It renders both versions in temporary folders, where there is nothing to do next."""
    service = made("now")
    said = service.update("later")
    assert said.split() == CRUFT_SAYS.split(), said
    commit(service.repository, "Updated")
    assert cruft("diff", cwd=service.path) == ""


def test_an_update_is_not_misled_by_the_repository_around_its_temporary_folder(
    made: Make, tmp_path: Path
) -> None:
    service = made("now", **MONOREPO)
    around = tmp_path / "around"
    (around / "temporary").mkdir(parents=True)
    git("init", "--quiet", cwd=around)
    options = ("--skip-apply-ask", "--checkout", "later")
    line = (sys.executable, "-m", "cruft", "update", *options)
    run(*line, cwd=service.path, TMPDIR=str(around / "temporary"), **GIT)
    assert (service.path / "GREETING").exists()
    assert not (around / ".github").exists()


def test_a_refused_update_is_made_by_the_printed_command(made: Make) -> None:
    service = made("now")
    wrong = ("--variables-to-update", '{"owner": "a,b"}')
    said = refused("update", "-y", "--checkout", "later", *wrong, cwd=service.path)
    command = re.search(r"^cruft update [^\n]*\n(?:.*\n)*?\}'$", said, re.MULTILINE)
    assert command, said
    python = shlex.join([sys.executable, "-m", "cruft"])
    line = command[0].replace("cruft", python, 1).replace("a,b", "shop")
    run("sh", "-c", line.replace(" update ", " update -y ", 1), cwd=service.path, **GIT)
    assert (service.path / "GREETING").exists()
    assert 'default     = "shop"' in (service.path / "terraform/variables.tf").read_text("utf-8")


RENAMED = {
    "package_name": ("orders", "leave your code there, and run the template's example instead"),
    "project_slug": ("orders", "Make a new service with the new name, copy your files to it"),
}


@pytest.mark.parametrize("name", RENAMED)
def test_an_update_that_would_rename_the_service_is_refused(made: Make, name: str) -> None:
    """It would put the template's example in place of the business logic, with all tests green."""
    service = made("now")
    edit(service.path)
    commit(service.repository, "A year of work")
    value, instead = RENAMED[name]
    change = ("--variables-to-update", json.dumps({name: value}))
    where = ("--project-dir", service.path)  # wherever cruft is started
    said = refused("update", "-y", "--checkout", "later", *where, *change, cwd=TEMPLATE.parent)
    assert f"{name}: '{value}'" in said
    assert " ".join(instead.split()) in " ".join(said.split())
    assert git("status", "--porcelain", cwd=service.repository) == ""
    service.update("later", *change[:1], '{"owner": "shop"}')
    assert (service.path / "GREETING").exists()


def test_a_package_that_was_renamed_as_the_refusal_says_is_updated(made: Make) -> None:
    service = made("now")
    edit(service.path)
    git("mv", "order_events", "orders", cwd=service.path)
    for name in git("grep", "-l", "order_events", cwd=service.path).splitlines():
        file = service.path / name
        file.write_text(file.read_text("utf-8").replace("order_events", "orders"), "utf-8")
    commit(service.repository, "Another name for the package")
    service.update("later")
    assert conflicts(service.repository) == set()
    assert (service.path / "GREETING").exists()
    assert 'logger.info("Ordered")' in (service.path / "orders/service.py").read_text("utf-8")
    assert not (service.path / "order_events").exists()


def test_a_new_question_takes_its_default_until_it_is_answered(made: Make) -> None:
    service = made("now")
    service.update("later")
    assert (service.path / "GREETING").read_text(encoding="utf-8") == "hello\n"
    commit(service.repository, "Updated")
    service.update("later", "--variables-to-update", '{"greeting": "good day"}')
    assert (service.path / "GREETING").read_text(encoding="utf-8") == "good day\n"


def test_a_choice_that_is_no_longer_offered_strands_no_service(made: Make) -> None:
    *_, gone = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))["python_version"]
    service = made("now", python_version=gone)
    assert "python_version" in refused("update", "-y", "--checkout", "later", cwd=service.path)
    assert git("status", "--porcelain", cwd=service.repository) == ""
    service.update("later", "--variables-to-update", '{"python_version": "3.14"}')
    assert conflicts(service.repository) == set()
    assert (service.path / ".python-version").read_text(encoding="utf-8") == "3.14\n"
    commit(service.repository, "Updated")
    service.update("later")  # and from then on as ever
    assert git("status", "--porcelain", cwd=service.repository) == ""


def test_a_service_moves_to_the_other_compute_with_its_edits(made: Make) -> None:
    service = made("now")
    edit(service.path)
    commit(service.repository, "A year of work")
    service.update("now", "--variables-to-update", '{"compute": "fargate"}')
    assert conflicts(service.repository) == set()
    assert all(kept(service.path).values()), kept(service.path)
    context = json.loads((service.path / ".cruft.json").read_text(encoding="utf-8"))["context"]
    assert context["cookiecutter"]["compute"] == "fargate"
    terraform_is_valid(service.path)


def test_a_service_that_cookiecutter_rendered_is_linked(template: Path, tmp_path: Path) -> None:
    """Without .cruft.json, pyproject.toml says which version it is."""
    git("checkout", "--quiet", "now", cwd=template)
    answers = {"owner": "shop", "project_name": "Prices"}
    options = ("--no-input", "--default-config", "--output-dir", tmp_path)
    given = [f"{name}={value}" for name, value in answers.items()]
    run(sys.executable, "-m", "cookiecutter", *options, template, *given, cwd=tmp_path)
    service = tmp_path / "prices"
    git("init", "--quiet", cwd=service)
    context = ("--extra-context", json.dumps(answers))
    cruft("link", template, "--no-input", "--checkout", "now", *context, cwd=service)
    commit(service, "Linked")
    Updatable(template, service, service).update("later")
    assert conflicts(service) == set()
    assert (service / "GREETING").exists()


def test_what_is_the_developers_is_the_same_whatever_is_chosen(render: Render) -> None:
    """Else another answer to compute or idempotency would leave a file behind that doesn't fit."""
    ours, theirs = render(), render(compute="fargate", idempotency="yes")
    skipped = skip(ours)
    assert skipped == skip(theirs)
    # The locks follow from pyproject.toml: `make lock`.
    for name in skipped - {"requirements.txt", "requirements-dev.txt"}:
        assert contents(ours / name) == contents(theirs / name), name


def contents(path: Path) -> dict[str, bytes]:
    """Return name -> content of a file, or of the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def skip(service: Path) -> set[str]:
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))
    return set(project["tool"]["cruft"]["skip"])


def test_the_version_that_a_service_records_is_the_templates(render: Render) -> None:
    """Cruft records the commit; this one is for services that cookiecutter alone has made."""
    version = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    project = tomllib.loads((render() / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["cookiecutter-lambda-python"]["version"] == version
    assert f"\n## {version}" in (TEMPLATE / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("answers", [{}, {"compute": "fargate", "idempotency": "yes"}])
def test_every_file_that_updates_leave_alone_is_there(
    render: Render, answers: dict[str, str]
) -> None:
    service = render(**answers)
    assert {name for name in skip(service) if not (service / name).exists()} == set()


def test_the_version_to_update_from_is_the_last_release_or_the_previous_commit(
    tmp_path: Path,
) -> None:
    git("init", "--quiet", cwd=tmp_path)
    file = tmp_path / "file"

    def change(text: str) -> str:
        file.write_text(text, encoding="utf-8")
        commit(tmp_path, text)
        return git("rev-parse", "HEAD", cwd=tmp_path)

    first = change("first")
    assert earlier(tmp_path) is None, "there is no previous commit, as in a shallow clone"
    second = change("second")
    assert earlier(tmp_path) == first
    file.write_text("not committed", encoding="utf-8")
    assert earlier(tmp_path) == second
    change("third")
    git("tag", "0.1.0", first, cwd=tmp_path)
    assert earlier(tmp_path) == "0.1.0"
    git("tag", "0.2.0", cwd=tmp_path)
    assert earlier(tmp_path) == "0.1.0", "the newest release is what lies here"
    change("fourth")
    assert earlier(tmp_path) == "0.2.0"

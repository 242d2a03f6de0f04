"""What Git does to a service and to the template: line endings, and the variables of a hook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TEMPLATE, Render, need, run
from test_post_gen_project import hook

IDENTITY = ("-c", "user.name=x", "-c", "user.email=x@example.com")
WINDOWS = ("-c", "core.autocrlf=true")
MONOREPO = Path("services", "order-events")
WORKFLOW = Path(".github", "workflows", "order-events.yml")
WORKFLOWS = [WORKFLOW.with_stem(f"order-events{suffix}") for suffix in ("", "-operate", "-upgrade")]


def git(folder: Path, *arguments: str | Path) -> str:
    need("git")
    return run("git", *IDENTITY, *arguments, cwd=folder).stdout


def commit(folder: Path) -> Path:
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=First")
    return folder


def clone(folder: Path, *options: str) -> Path:
    """Clone a repository; return the clone."""
    copy = folder.parent / "clone"
    git(folder.parent, *options, "clone", "--quiet", folder, copy)
    return copy


def with_carriage_returns(folder: Path) -> list[str]:
    names = git(folder, "ls-files", "-z").split("\0")
    return [name for name in names if name and b"\r" in (folder / name).read_bytes()]


@pytest.fixture
def monorepo(fresh: Render, tmp_path: Path) -> Path:
    """Make a monorepo with a service in it and copies of the service's workflows."""
    repository = tmp_path / "monorepo"
    service = repository / MONOREPO
    service.parent.mkdir(parents=True)
    fresh(service_path=MONOREPO.as_posix()).rename(service)
    hook.copy_workflows("order-events", str(service), str(repository))
    return commit(repository)


# Line endings: Git for Windows checks text out with CRLF (core.autocrlf=true) unless a repository
# says otherwise, and a shell script with CRLF doesn't run.


def test_a_service_has_its_line_endings_whatever_git_is_set_to(fresh: Render) -> None:
    service = fresh(compute="fargate", idempotency="yes")
    (service / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\r\n")
    (service / "from_windows.py").write_bytes(b"x = 1\r\n")
    there = clone(commit(service), *WINDOWS)
    assert with_carriage_returns(there) == ["picture.png"]
    assert (there / "picture.png").read_bytes() == (service / "picture.png").read_bytes()
    run("sh", "tools/find_python.sh", "{}.{}".format(*sys.version_info), cwd=there)


def test_the_template_has_its_line_endings_whatever_git_is_set_to(tmp_path: Path) -> None:
    listed = git(TEMPLATE, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    here = tmp_path / "template"
    for name in filter(None, listed.split("\0")):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        if (TEMPLATE / name).exists():
            (here / name).write_bytes((TEMPLATE / name).read_bytes())
    assert with_carriage_returns(clone(commit(here), *WINDOWS)) == []


def test_the_workflows_copy_may_have_other_line_endings(monorepo: Path) -> None:
    """It is in the root's .github/, which the service's .gitattributes doesn't reach."""
    there = clone(monorepo, *WINDOWS)
    assert with_carriage_returns(there) == sorted(path.as_posix() for path in WORKFLOWS)
    assert check_workflow(there / MONOREPO) == ""
    assert "already" in hook.copy_workflows("order-events", str(there / MONOREPO), str(there))
    (there / WORKFLOW).write_bytes(b"\xff\r\n")
    assert "run `make workflow`" in check_workflow(there / MONOREPO)


def test_what_an_editor_on_windows_saved_is_read_alike(fresh: Render) -> None:
    """Git turns CRLF into LF only when it is committed."""
    service = fresh()
    (service / ".python-version").write_bytes(b"3.13\r\n")
    # Universal newlines would hide what this is about.
    line = ("make", "--dry-run", "install")
    asked = subprocess.run(line, cwd=service, capture_output=True, check=True).stdout
    assert asked.startswith(b"sh tools/venv.sh .venv requirements-dev.txt 3.13\n")


# Lists of a whole repository, of which GitHub offers one for each language, and a user's own.
IGNORED = {
    "Python": "build/\ndist/\ndownloads/\nparts/\ntarget/\n.cache\n",
    "Terraform": "**/.terraform/*\n*.tfvars\n*.tfvars.json\noverride.tf\n",
    "VirtualEnv": "[Bb]in\n[Ll]ib\n[Ll]ocal\n[Ss]cripts\n.python-version\n",
    "VisualStudio": "[Ll]og/\n*.env\n",
}


@pytest.mark.parametrize("package", ["order_events", "downloads"])
def test_a_list_for_the_whole_repository_keeps_none_of_the_services_files_out(
    fresh: Render, tmp_path: Path, package: str
) -> None:
    repository = tmp_path / "monorepo"
    service = repository / MONOREPO
    service.parent.mkdir(parents=True)
    fresh(service_path=MONOREPO.as_posix(), package_name=package).rename(service)
    files = {str(path.relative_to(service)) for path in service.rglob("*") if path.is_file()}
    (repository / ".gitignore").write_text("".join(IGNORED.values()))
    for made in ("dist/lambda.zip", "tools/build/__pycache__/x.pyc", ".local/x", "x.tfvars"):
        (service / made).parent.mkdir(parents=True, exist_ok=True)
        (service / made).touch()
    commit(repository)
    assert {*git(service, "ls-files").split()} == files


# A hook's variables: Git names its repository to what a hook runs, and in a linked worktree then
# takes the current folder for the root.


def check_workflow(service: Path, **variables: str) -> str:
    """Return what the check of the workflow's copy complains about."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tools.github", "check-workflow"],
        cwd=service,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert bool(done.returncode) is bool(done.stderr), done
    return done.stderr


def test_a_hook_in_a_linked_worktree_sees_that_the_workflows_copy_differs(monorepo: Path) -> None:
    worktree = monorepo.parent / "worktree"
    git(monorepo, "worktree", "add", "--quiet", worktree)
    pre_commit = monorepo / ".git" / "hooks" / "pre-commit"
    pre_commit.write_text(
        "#!/bin/sh\nenv | grep ^GIT_DIR= || exit 2\n"
        f"cd {MONOREPO} && exec '{sys.executable}' -B -m tools.github check-workflow\n"
    )
    pre_commit.chmod(0o755)
    with (worktree / MONOREPO / WORKFLOW).open("a") as file:
        file.write("# Edited\n")
    line = ("git", *IDENTITY, "commit", "--all", "--message=Second")
    done = subprocess.run(line, cwd=worktree, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "run `make workflow`" in done.stderr

    git(worktree, "-c", "core.hooksPath=/", "commit", "--all", "--quiet", "--message=Unchecked")
    pre_commit.write_text(pre_commit.read_text().replace("check-workflow", "workflow"))
    git(worktree, *IDENTITY, "commit", "--allow-empty", "--message=Third")
    assert check_workflow(worktree / MONOREPO) == ""
    assert not (worktree / MONOREPO / MONOREPO).exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_DIR": ".git"},
        {"GIT_DIR": "<other>/.git"},
        {"GIT_DIR": "<other>/.git", "GIT_WORK_TREE": "<other>"},
        {"GIT_WORK_TREE": "<service>"},
        {"GIT_CEILING_DIRECTORIES": "<services>"},
        {"PATH": "/nowhere"},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_the_workflows_copy_is_checked_whatever_git_is_told(
    monorepo: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    other, service = tmp_path / "other", monorepo / MONOREPO
    other.mkdir()
    git(other, "init", "--quiet")
    given = {
        name: value.replace("<other>", str(other))
        .replace("<service>", str(service))
        .replace("<services>", str(service.parent))
        for name, value in variables.items()
    }
    assert check_workflow(service, **given) == ""
    (monorepo / WORKFLOW).unlink()
    assert "run `make workflow`" in check_workflow(service, **given)


HOOK = {
    "GIT_DIR": "/nowhere/.git",
    "GIT_WORK_TREE": "/nowhere",
    "GIT_INDEX_FILE": "/nowhere/index",
    "GIT_PREFIX": "nowhere/",
    "GIT_COMMON_DIR": "/nowhere/.git",
    "GIT_OBJECT_DIRECTORY": "/nowhere/objects",
}


def test_these_are_variables_that_git_sets_for_one_repository() -> None:
    known = git(TEMPLATE, "rev-parse", "--local-env-vars").split()
    assert HOOK.keys() - {*known} == set()


def test_make_hands_no_command_a_hooks_variables(fresh: Render) -> None:
    """Terraform and uv get modules and dependencies with Git, too."""
    service = fresh()
    (service / "shown.mk").write_text("include Makefile\n\nshown:\n\t@env\n")
    own = {"GIT_SSH_COMMAND": "ssh -4", "GIT_CONFIG_COUNT": "0"}
    shown = run("make", "-f", "shown.mk", "shown", cwd=service, **HOOK, **own).stdout
    there = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert there.keys() & HOOK.keys() == set()
    assert there.items() >= own.items()


def test_the_templates_tests_use_their_own_repositories() -> None:
    """Also when a hook of the template's repository runs them."""
    code = f"import os, conftest; print(set({[*HOOK]}) & {{*os.environ}})"
    done = run(sys.executable, "-Bc", code, cwd=Path(__file__).parent, **HOOK)
    assert done.stdout == "set()\n"


def test_the_templates_tests_use_no_configuration_of_the_developers(tmp_path: Path) -> None:
    """A signature would ask for a passphrase."""
    (tmp_path / "config").write_text("[commit]\ngpgsign = true\n[core]\nhooksPath = /hooks\n")
    code = "import subprocess, conftest; subprocess.run(['git', 'config', '--list'], cwd='/')"
    own = {"GIT_CONFIG_GLOBAL": str(tmp_path / "config")}
    done = run(sys.executable, "-Bc", code, cwd=Path(__file__).parent, **own)
    assert "safe.directory=*\n" in done.stdout
    assert "gpgsign" not in done.stdout
    assert "hookspath" not in done.stdout

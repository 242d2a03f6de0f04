"""The workflows' copies in a monorepo, and the versions of the actions in them, as plain Python."""

import shutil
from pathlib import Path

import pytest
from tools.github import copy
from tools.github.runner import GitHubError

NAMES = ("order-events.yml", "order-events-operate.yml", "order-events-upgrade.yml")
WORKFLOWS = Path(".github", "workflows")
# Versions of an action, the oldest first, with their commits.
OLD, NEWER, NEWEST = (
    ("a" * 40, "v9.1.0"),
    ("b" * 40, "v9.2.0"),
    ("c" * 40, "v10.0.0"),
)


def text(pin: tuple[str, str] = OLD, action: str = "actions/checkout", job: str = "test") -> str:
    commit, version = pin
    return f"jobs:\n  {job}:\n    steps:\n      - uses: {action}@{commit} # {version}\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a monorepo with a service, in whose folder the test runs; return its root."""
    (tmp_path / ".git").mkdir()
    service = tmp_path / "services" / "order-events"
    (service / WORKFLOWS).mkdir(parents=True)
    for name in NAMES:
        (service / WORKFLOWS / name).write_text(text())
    action = service / ".github" / "actions" / "setup" / "action.yml"
    action.parent.mkdir(parents=True)
    action.write_text(text(action="actions/setup-python"))
    place(service, "services/order-events")
    monkeypatch.chdir(service)
    return tmp_path


def place(service: Path, service_path: str) -> None:
    (service / "pyproject.toml").write_text(
        '[project]\nname = "order-events"\n'
        f'[tool.cookiecutter-lambda-python]\nservice_path = "{service_path}"\n'
    )


def own(name: str = NAMES[0]) -> Path:
    return WORKFLOWS / name


@pytest.mark.parametrize("name", NAMES)
def test_the_copies_are_made_and_compared(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(GitHubError, match=r"is missing or differs .* `make workflow` and commit"):
        copy.check_workflow()
    copy.workflow()
    said = [f"Copied {own(each)} to {root / own(each)}." for each in NAMES]
    assert capsys.readouterr().out.splitlines() == said
    copy.check_workflow()
    assert (root / own(name)).read_text() == text()
    (root / own(name)).write_text(text(job="another"))
    with pytest.raises(GitHubError, match=name):
        copy.check_workflow()
    (root / own(name)).unlink()
    with pytest.raises(GitHubError, match=name):
        copy.check_workflow()


def test_in_a_repository_of_its_own_there_is_nothing_to_copy(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place(Path(), ".")
    copy.check_workflow()
    copy.workflow()
    assert "Nothing to copy" in capsys.readouterr().out
    assert not (root / ".github").exists()


def test_outside_a_repository_the_copies_wait(root: Path) -> None:
    shutil.rmtree(root / ".git")
    copy.check_workflow()
    with pytest.raises(GitHubError, match="in no Git repository yet"):
        copy.workflow()


def test_a_workflow_that_its_owner_has_deleted_is_not_missed(root: Path) -> None:
    own(NAMES[2]).unlink()
    copy.workflow()
    copy.check_workflow()
    assert sorted(path.name for path in (root / WORKFLOWS).iterdir()) == sorted(NAMES[:2])


# Dependabot moves the actions of the copies: it looks into the root's .github/workflows/.


def test_other_versions_of_actions_are_no_difference(root: Path) -> None:
    copy.workflow()
    (root / own()).write_text(text(NEWEST))
    copy.check_workflow()
    # Another action in the same place is one.
    (root / own()).write_text(text(NEWEST, action="someone/checkout"))
    with pytest.raises(GitHubError):
        copy.check_workflow()


@pytest.mark.parametrize("newer_in", ["copy", "service"])
def test_the_newer_of_two_versions_goes_into_both(root: Path, newer_in: str) -> None:
    copy.workflow()
    there, here = (NEWEST, NEWER) if newer_in == "copy" else (NEWER, NEWEST)
    (root / own()).write_text(text(there))
    own().write_text(text(here))
    copy.workflow()
    # And into every other file with this action.
    for name in NAMES:
        assert own(name).read_text() == (root / own(name)).read_text() == text(NEWEST)


def test_each_action_has_a_version_of_its_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.workflow()
    (root / own()).write_text(text(NEWER) + text(OLD, "actions/setup-python"))
    own().write_text(text(OLD) + text(NEWEST, "actions/setup-python"))
    capsys.readouterr()
    copy.workflow()
    assert own().read_text() == text(NEWER) + text(NEWEST, "actions/setup-python")
    # The service's own action has no copy, and follows all the same.
    action = Path(".github/actions/setup/action.yml")
    assert action.read_text() == text(NEWEST, "actions/setup-python")
    assert f"{action} now has the newer versions of its actions." in capsys.readouterr().out
    assert not (root / action).exists()


def test_what_is_no_pin_is_copied_as_it_is(root: Path) -> None:
    """By a tag, by nothing, or by a commit whose version nobody has said."""
    lines = "".join(f"      - uses: x/y@{ref}\n" for ref in ("v1", "a" * 40, "b" * 40 + " # main"))
    own().write_text(text() + lines + '      - uses: "$/services/order-events/x"\n')
    copy.workflow()
    assert (root / own()).read_text() == own().read_text()
    (root / own()).write_text(own().read_text().replace("@v1", "@v2"))
    with pytest.raises(GitHubError):
        copy.check_workflow()

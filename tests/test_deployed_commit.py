"""Which commit is deployed: what is written down, what is refused, where a rollback starts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_deploy import PROD, calls, changing, service, stand_in  # noqa: F401
from test_git import commit, git
from tools.deploy import plans, settings, unlock
from tools.deploy.commit import checkout_of, current, refuse_older
from tools.errors import ToolError
from tools.operate import compute
from tools.operate.service import Service


@pytest.fixture
def repository(service: Path) -> Path:  # noqa: F811
    (service / ".gitignore").write_text(".terraform/\ndist/\n")
    (service / "Makefile").touch()
    return commit(service)


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD").strip()


def later(folder: Path, name: str) -> str:
    """Commit a new file; return the commit."""
    (folder / name).touch()
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)
    return head(folder)


def test_a_folder_with_changes_has_no_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert current() == head(repository)
    (repository / "terraform" / ".terraform.lock.hcl").touch()
    assert current() == head(repository)
    (repository / "new.py").touch()
    assert current() == ""
    (repository / "new.py").unlink()
    with PROD.tfvars.open("a") as file:
        file.write("paused = true")
    assert current() == ""
    monkeypatch.setenv("PATH", "")
    assert current() == ""


def test_what_git_status_shows_to_its_user_is_no_matter(repository: Path) -> None:
    git(repository, "config", "status.branch", "true")
    git(repository, "config", "status.showUntrackedFiles", "no")
    assert current() == head(repository)
    (repository / "new.py").touch()
    assert current() == ""


def test_only_the_services_own_folder_counts(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monorepo = tmp_path / "monorepo"
    (monorepo / "services").mkdir(parents=True)
    inside = monorepo / "services" / "order-events"
    (repository / ".git").rename(tmp_path / "other")
    repository.rename(inside)
    monkeypatch.chdir(inside)
    assert current() == ""
    commit(monorepo)
    (monorepo / "services" / "other").touch()
    assert current() == head(monorepo)
    with checkout_of("prod", current()) as folder:
        assert folder is not None
        assert folder.parts[-2:] == ("services", "order-events")
    # A folder that its repository ignores has none of its commits.
    git(monorepo, "rm", "-r", "--quiet", "--cached", "services")
    (monorepo / ".gitignore").write_text("services/\n")
    git(monorepo, "add", ".gitignore")
    git(monorepo, "commit", "--quiet", "--message=Ignore")
    assert current() == ""


def test_an_older_commit_is_refused_and_one_that_nobody_knows_is_told(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = head(repository), later(repository, "new")
    refuse_older("prod", "")
    refuse_older("prod", new)
    refuse_older("prod", old)
    assert capsys.readouterr().out == ""
    git(repository, "checkout", "--quiet", old)
    with pytest.raises(ToolError, match=f"^prod has commit {new[:12]}, .* {old[:12]}, is older: "):
        refuse_older("prod", new)
    monkeypatch.setenv("OLDER", "1")
    refuse_older("prod", new)
    assert "OLDER is set" in capsys.readouterr().out
    later(repository, "other")
    refuse_older("prod", new)
    assert f"which is not part of {head(repository)[:12]}: this takes it back" in (
        capsys.readouterr().out
    )
    refuse_older("prod", "0123456789" * 4)
    assert "012345678901, which this clone lacks" in capsys.readouterr().out


def deployed(shown: Path, commit: str) -> None:
    """Let the plan show that this commit is deployed."""
    record = json.loads(changing("terraform_data.deployed"))
    record["resource_changes"][0]["change"]["before"] = {"input": {"commit": commit}}
    shown.write_text(json.dumps(record))


def test_a_plan_that_is_refused_cannot_be_applied(
    stand_in: Path,  # noqa: F811
    repository: Path,
) -> None:
    old, new = head(repository), later(repository, "new")
    deployed(stand_in / "shown", new)
    plans.make_plan(PROD, PROD.plan, PROD.tfvars, {})
    plans.check(PROD)
    git(repository, "checkout", "--quiet", old)
    with pytest.raises(ToolError, match="is older"):
        plans.make_plan(PROD, PROD.plan, PROD.tfvars, {})
    with pytest.raises(ToolError, match="There is no plan"):
        plans.check(PROD)


def test_a_checkout_of_the_deployed_commit_is_there_for_a_while(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = head(repository)
    later(repository, "new")
    with checkout_of("prod", old) as folder:
        assert folder is not None
        assert sorted(file.name for file in folder.iterdir() if file.is_dir()) == ["terraform"]
        assert not (folder / "new").exists()
    assert not folder.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    for unknown, said in (("", "no commit"), ("0" * 40, "which Git lacks here")):
        with checkout_of("prod", unknown) as folder:
            assert folder is None
        assert said in capsys.readouterr().out


def test_settings_that_are_deployed_stay_and_only_the_new_one_is_written_down(
    stand_in: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"package_hash": "abc=", "settings": '{"live_version": "3"}', "commit": "0" * 40}
    monkeypatch.setattr(settings, "deployed", lambda _: Service(known))
    (stand_in / "shown").write_text(changing(compute.DECIDES_ON_PAUSE))
    PROD.tfvars.write_text("# prod\ncanary_weight = 0.5\n")
    seen: list[str] = []
    make_plan = plans.make_plan

    def look(environment: Any, plan: Path, tfvars: Path, *more: Any) -> None:
        seen.append(tfvars.read_text())
        make_plan(environment, plan, tfvars, *more)

    monkeypatch.setattr(plans, "make_plan", look)
    settings.pause.main(["--env", "prod"], standalone_mode=False)
    added = f"{settings.HEADING}\n"
    assert seen == [f'# prod\n\n{added}live_version = "3"\n\n{added}paused = true\n']
    assert PROD.tfvars.read_text() == f"# prod\ncanary_weight = 0.5\n\n{added}paused = true\n"
    (planned,) = [line for line in calls(stand_in) if line.startswith("plan ")]
    assert f"-var=commit={'0' * 40}" in planned


def test_only_one_resource_is_changed_where_others_differ(
    stand_in: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = json.loads(changing(compute.DECIDES_ON_PAUSE, "aws_sqs_queue.main[0]"))
    # What `make registry` of a newer commit has made: this one's code can't override it.
    shown["resource_changes"].append(
        {
            "address": "aws_ecr_repository.this",
            "type": "aws_ecr_repository",
            "name": "this",
            "change": {"actions": ["delete"], "before": {}, "after": None},
            "action_reason": "delete_because_no_resource_config",
        }
    )
    shows = [json.dumps(shown), "{}"]
    asked = plans.run

    def run(environment: Any, *arguments: str, **more: Any) -> str:
        if arguments[0] == "show":
            (stand_in / "shown").write_text(shows.pop(0))
        return asked(environment, *arguments, **more)

    monkeypatch.setattr(plans, "run", run)
    monkeypatch.setenv("FROM_DEPLOYED", "1")
    settings.pause.main(["--env", "prod"], standalone_mode=False)
    first, second = (line for line in calls(stand_in) if line.startswith("plan "))
    assert "-target" not in first
    assert f"-target={compute.DECIDES_ON_PAUSE} -target=terraform_data.deployed" in second
    left = "though the code differs: aws_sqs_queue.main[0], aws_ecr_repository.this."
    assert left in capsys.readouterr().out
    # In a checkout that is made for this command, what it depends on is left alone, too.
    override = Path("terraform/operate_override.tf").read_text()
    assert 'resource "aws_sqs_queue" "main" {\n  lifecycle {\n    ignore_changes = all' in override
    assert "aws_ecr_repository" not in override
    assert PROD.tfvars.read_text() == "# prod\n"  # the command that has started this one does it


class Bucket:
    """S3 with one lock in it, or none."""

    class exceptions:  # noqa: N801
        NoSuchKey = KeyError

    def __init__(self, lock: dict[str, str] | None) -> None:
        self.lock = lock
        self.asked: dict[str, str] = {}

    def get_object(self, **asked: str) -> dict[str, Any]:
        self.asked = asked
        if self.lock is None:
            raise KeyError
        return {"Body": self}

    def read(self) -> bytes:
        return json.dumps(self.lock).encode()


@pytest.fixture
def bucket(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:  # noqa: F811
    Path("terraform/backend.tf").write_text(
        'terraform {\n  backend "s3" {\n    key     = "services/x/terraform.tfstate"\n'
        "    encrypt = true\n  }\n}\n"
    )
    since = f"{datetime.now(UTC) - timedelta(minutes=12):%Y-%m-%dT%H:%M:%S.123456789Z}"
    lock = {"ID": "4711", "Who": "me@laptop\x1b[2J", "Created": since, "Operation": "Apply"}
    found = Bucket(lock)
    monkeypatch.setattr(unlock, "client", lambda *_: found)
    monkeypatch.delenv("LOCK", raising=False)
    return found


def test_who_holds_the_lock_is_shown_and_nothing_done(
    bucket: Bucket,
    stand_in: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    unlock.unlock.main(["--env", "prod"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "The state of prod is locked, for 12 minutes:" in said
    assert "me@laptop" in said
    assert "\x1b" not in said
    assert "make unlock ENV=prod LOCK=4711" in said
    key = "env:/prod/services/x/terraform.tfstate.tflock"
    assert bucket.asked == {"Bucket": "my-state", "Key": key}
    with pytest.raises(ToolError, match="LOCK is '12', but the lock's ID is 4711: nothing"):
        unlock.unlock.main(["--env", "prod", "--lock", "12"], standalone_mode=False)
    assert not [line for line in calls(stand_in) if line.startswith("force-unlock")]
    bucket.lock = None
    unlock.unlock.main(["--env", "prod", "--lock", "12"], standalone_mode=False)
    assert "Nobody holds the lock of prod." in capsys.readouterr().out


def test_the_lock_that_is_named_is_lifted(
    bucket: Bucket,
    stand_in: Path,  # noqa: F811
) -> None:
    unlock.unlock.main(["--env", "prod", "--lock", "4711"], standalone_mode=False)
    assert calls(stand_in)[-1] == "force-unlock -force 4711"

"""Each row of the table in docs/delivery.md, played in the simulator with the rendered workflows.

GitHub's own code reads the workflows and evaluates their expressions; simulator/github.py says what
is assumed beyond that, and simulator/aws.py how `make` is modelled.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TEMPLATE, Render, need, run
from simulator.aws import SECONDS
from simulator.expressions import PACKAGES, Expressions
from simulator.github import RefusedError, Run
from simulator.play import Play
from simulator.runner import Runner

DELIVERY, OPERATE = "order-events.yml", "order-events-operate.yml"
ALL = {"changes", "check", "deploy-dev", "plan-prod", "deploy-prod"}
PROD = ("deploy-prod", "make apply")
MakePlay = Callable[..., Play]


@pytest.fixture(scope="session")
def expressions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expressions]:
    for tool in ("node", "npm", "git", "bash"):
        need(tool)
    folder = tmp_path_factory.mktemp("expressions")
    options = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder)
    run("npm", "install", *options, *PACKAGES, cwd=folder)
    made = Expressions(folder)
    yield made
    made.close()


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    made = Runner(tmp_path_factory.mktemp("runner"))
    yield made
    made.close()


@pytest.fixture
def play(expressions: Expressions, runner: Runner, render: Render, tmp_path: Path) -> MakePlay:
    """Return what makes a repository with a service; with `slugs`, a monorepo of several."""

    def make(*slugs: str, compute: str = "lambda", **options: Any) -> Play:
        services = {".": render(compute=compute)}
        if slugs:
            paths = {f"services/{slug}": slug for slug in slugs}
            services = {p: render(project_slug=s, service_path=p) for p, s in paths.items()}
        return Play(tmp_path / "play", expressions, runner, services, **options)

    return make


@pytest.fixture(scope="session")
def first(
    expressions: Expressions,
    runner: Runner,
    render: Render,
    tmp_path_factory: pytest.TempPathFactory,
) -> Play:
    """Return a repository whose first version is in dev and prod, approved by reviewers."""
    made = Play(tmp_path_factory.mktemp("first") / "play", expressions, runner, {".": render()})
    made.github.approve(made.change("first"))
    made.github.git("gc", "--quiet")  # few files to copy
    return made


@pytest.fixture
def deployed(first: Play, tmp_path: Path) -> Play:
    """Return `first`, to go on from."""
    return first.copy(tmp_path / "play")


def deployed_by_dispatch(play: MakePlay, **options: Any) -> Play:
    made = play(configured=False, **options)
    made.configure(reviewers=(), approval="dispatch")
    first = made.change("first")
    assert approve_by_dispatch(made, first).conclusion == "success"
    return made


def succeeded(run: Run) -> set[str]:
    """Return the jobs that succeeded; none may have done anything else but be skipped."""
    assert set(run.results().values()) == {"success"}, (run.results(), run.log)
    return set(run.results())


def failed(run: Run, job: str, words: str) -> None:
    """Check that a run failed in a job, and that its log says why."""
    assert run.results().get(job) == "failure", (run.results(), run.log)
    assert words in " ".join(run.jobs[job].log.split()), run.jobs[job].log
    assert run.conclusion == "failure"


def steps(run: Run, job: str) -> dict[str, str]:
    return {step["name"]: step["conclusion"] for step in run.jobs[job].steps}


def operate(play: Play, action: str, environment: str = "prod", **inputs: Any) -> Run:
    return play.github.dispatch(OPERATE, action=action, environment=environment, **inputs)


def same(play: Play) -> bool:
    """Tell whether dev and prod have the same."""
    return play.of("dev").content == play.of("prod").content


# A good day


def test_first_push_of_a_new_repository(play: MakePlay) -> None:
    made = play()
    for name in ("dev", "prod"):
        made.of(name).initialised = False
    failed(made.change("first"), "plan-prod", 'Workspace "prod" does not exist')
    # The deploy role makes the state, so prod's approval is asked for.
    init = operate(made, "init")
    assert init.status == "waiting"
    made.github.approve(init)
    again = made.github.rerun(made.github.runs[0], "failed")
    made.github.approve(again)
    assert succeeded(again) == ALL
    assert same(made)


def test_pull_request(deployed: Play) -> None:
    (pull_request,) = deployed.github.pull_request(**{"handler.py": "# new\n"})
    assert succeeded(pull_request) == {"changes", "check", "plan", "passed"}
    assert pull_request.jobs["plan"].roles == ["plan-dev", "plan-prod"]
    (comment,) = deployed.github.comments
    assert "plan for dev" in comment["body"]
    assert "plan for prod" in comment["body"]
    # A second push updates the comment; a change of something else is none of the service's.
    deployed.github.rerun(pull_request)
    assert len(deployed.github.comments) == 1


def test_pull_request_from_a_fork(deployed: Play) -> None:
    (pull_request,) = deployed.github.pull_request("zoe", fork=True, **{"handler.py": "# new\n"})
    assert succeeded(pull_request) == {"changes", "check", "passed"}
    assert not deployed.github.comments


def test_dependabots_pull_request(deployed: Play) -> None:
    bot = "dependabot[bot]"
    (pull_request,) = deployed.github.pull_request(bot, **{"requirements.txt": "# new\n"})
    assert succeeded(pull_request) == {"changes", "check", "passed"}
    assert "Not planned" in pull_request.summary


def test_merge_queue(deployed: Play) -> None:
    (queued,) = deployed.github.merge_queue(**{"handler.py": "# new\n"})
    assert succeeded(queued) == {"changes", "check", "passed"}
    serials = deployed.of("dev").serial, deployed.of("prod").serial
    assert serials == (1, 1)


def test_merge(deployed: Play) -> None:
    merged = deployed.change("second")
    assert merged.status == "waiting"
    assert deployed.of("prod").serial == 1
    deployed.github.approve(merged)
    assert succeeded(merged) == ALL
    assert same(deployed)
    assert deployed.of("prod").commit == merged.sha
    assert not deployed.aws.kept
    # The credentials come after the packages are installed.
    order = list(steps(merged, "deploy-prod"))
    assert order.index("make install") < next(order.index(o) for o in order if "aws" in o)


def test_merge_on_fargate(play: MakePlay) -> None:
    made = play(compute="fargate")
    first = made.change("first")
    made.github.approve(first)
    assert succeeded(first) == ALL
    assert same(made)


def test_nothing_configured_yet(play: MakePlay) -> None:
    made = play(configured=False)
    first = made.change("first")
    assert succeeded(first) == {"changes", "check"}
    assert "::notice::" in first.log
    (pull_request,) = made.github.pull_request(**{"handler.py": "# new\n"})
    assert succeeded(pull_request) == {"changes", "check", "passed"}
    # Once AWS is set up, the same run deploys.
    made.configure()
    made.github.approve(made.github.rerun(first))
    assert succeeded(first) == ALL


# Failures and re-runs


def test_dev_fails_and_the_change_is_reverted(deployed: Play) -> None:
    before = deployed.of("dev").content
    failed(deployed.change("broken"), "deploy-dev", "The message was not processed.")
    (reverted,) = deployed.github.revert()
    assert succeeded(reverted) == ALL - {"deploy-prod"}
    assert deployed.of("dev").content == before == deployed.of("prod").content


def test_prod_is_rejected_and_the_change_is_reverted(deployed: Play) -> None:
    before = deployed.of("dev").content
    unwanted = deployed.change("unwanted")
    deployed.github.reject(unwanted)
    assert unwanted.conclusion == "failure"
    (reverted,) = deployed.github.revert()
    assert succeeded(reverted) == ALL - {"deploy-prod"}
    assert deployed.of("dev").content == before == deployed.of("prod").content


def test_apply_fails_halfway(deployed: Play) -> None:
    second = deployed.change("second")
    deployed.aws.faults["prod", "apply"] = "fail"
    deployed.github.approve(second)
    failed(second, "deploy-prod", "AWS refused half of it.")
    # The plan is used up, and the message says so; a new one is made and read.
    deployed.github.approve(deployed.github.rerun(second, "failed"))
    failed(second, "deploy-prod", "Saved plan is stale")
    deployed.github.approve(deployed.github.rerun(second, "plan-prod"))
    assert succeeded(second) == ALL
    assert same(deployed)


def smoke_fails(deployed: Play) -> Run:
    second = deployed.change("second")
    deployed.aws.faults["prod", "smoke"] = "fail"
    deployed.github.approve(second)
    failed(second, "deploy-prod", "smoke failed")
    return second


def test_smoke_test_of_prod_fails_and_the_failed_jobs_are_run_again(deployed: Play) -> None:
    second, serial = smoke_fails(deployed), deployed.of("prod").serial
    smoked = len(deployed.aws.smoked)
    deployed.github.approve(deployed.github.rerun(second, "failed"))
    assert succeeded(second) == ALL
    assert deployed.aws.smoked[smoked:] == [("prod", True)]
    assert deployed.of("prod").serial == serial


def test_smoke_test_of_prod_fails_and_all_jobs_are_run_again(deployed: Play) -> None:
    second, serial = smoke_fails(deployed), deployed.of("prod").serial
    smoked = len(deployed.aws.smoked)
    deployed.github.approve(deployed.github.rerun(second))
    assert succeeded(second) == ALL
    assert deployed.aws.smoked[smoked:] == [("dev", True), ("prod", True)]
    assert deployed.of("prod").serial == serial


def test_an_older_run_is_run_again(deployed: Play) -> None:
    first = deployed.github.runs[0]
    second = deployed.change("second")
    deployed.github.approve(second)
    failed(deployed.github.rerun(first, "plan-prod"), "plan-prod", "is older")
    failed(deployed.github.rerun(first), "deploy-dev", "is older")
    assert deployed.of("prod").commit == second.sha


def cancelled_during_apply(play: Play) -> Run:
    second = play.change("second")
    play.github.during[PROD] = lambda: play.github.cancel(second)
    play.github.approve(second)
    return second


def test_cancelled_during_apply(deployed: Play) -> None:
    second = cancelled_during_apply(deployed)
    assert second.conclusion == "cancelled"
    assert steps(second, "deploy-prod")["Apply"] == "success"
    assert not deployed.of("prod").lock
    assert deployed.of("prod").commit == second.sha
    # The smoke test is still owed.
    smoked = len(deployed.aws.smoked)
    deployed.github.approve(deployed.github.rerun(second, "failed"))
    assert succeeded(second) == ALL
    assert deployed.aws.smoked[smoked:] == [("prod", True)]


def test_cancelled_before_apply(deployed: Play) -> None:
    second = deployed.change("second")
    deployed.github.during["deploy-prod", "make fetch-plan"] = lambda: deployed.github.cancel(
        second
    )
    deployed.github.approve(second)
    assert second.conclusion == "cancelled"
    assert deployed.of("prod").serial == 1


def test_apply_takes_too_long(deployed: Play) -> None:
    second = deployed.change("second")
    deployed.aws.faults["prod", "apply"] = "too long"
    deployed.github.approve(second)
    failed(second, "deploy-prod", "Interrupted.")
    assert not deployed.of("prod").lock
    deployed.github.approve(deployed.github.rerun(second, "plan-prod"))
    assert succeeded(second) == ALL


def test_the_runner_dies_and_leaves_a_lock(deployed: Play) -> None:
    deployed.of("prod").lock = "lock-7"
    second = deployed.change("second")
    deployed.github.approve(second)
    failed(second, "deploy-prod", "Error acquiring the state lock: lock-7")
    failed(operate(deployed, "unlock", value="lock-6"), "operate", "the lock's ID is 'lock-7'")
    assert "lock-7" in operate(deployed, "unlock").log
    assert operate(deployed, "unlock", value="lock-7").conclusion == "success"
    deployed.github.approve(deployed.github.rerun(second, "failed"))
    assert succeeded(second) == ALL


# Two at a time


def test_two_quick_merges_with_reviewers(deployed: Play) -> None:
    second, third = deployed.change("second"), deployed.change("third")
    # No plan is made that the older one's approval would make stale.
    assert (second.status, third.results()["plan-prod"]) == ("waiting", "pending")
    deployed.github.approve(second)
    assert succeeded(second) == ALL
    assert third.status == "waiting"
    deployed.github.approve(third)
    assert succeeded(third) == ALL
    assert same(deployed)


def test_two_quick_merges_with_reviewers_and_a_third(deployed: Play) -> None:
    second, third, fourth = (deployed.change(text) for text in ("second", "third", "fourth"))
    assert third.results()["plan-prod"] == "cancelled"
    deployed.github.reject(second)
    assert fourth.status == "waiting"
    deployed.github.approve(fourth)
    assert succeeded(fourth) == ALL
    assert same(deployed)


def approve_by_dispatch(play: Play, run: Run, actor: str = "bob") -> Run:
    """Approve the plan that a run has kept, as its summary says."""
    asked = re.findall(r"-f run=(\S+)", run.summary)[-1]
    return play.github.dispatch(DELIVERY, actor=actor, run=asked)


def test_two_quick_merges_with_dispatch_approved_in_order(play: MakePlay) -> None:
    made = deployed_by_dispatch(play)
    second, third = made.change("second"), made.change("third")
    assert succeeded(second) == succeeded(third) == ALL - {"deploy-prod"}
    assert f"run={second.id}" in second.summary
    assert succeeded(approve_by_dispatch(made, second)) == {"changes", "deploy-prod"}
    assert made.of("prod").commit == second.sha
    # The third's plan was made before that: a new one is made, and read.
    failed(approve_by_dispatch(made, third), "deploy-prod", "Saved plan is stale")
    made.github.rerun(third, "plan-prod")
    assert succeeded(approve_by_dispatch(made, third)) == {"changes", "deploy-prod"}
    assert same(made)


def test_two_quick_merges_with_dispatch_approved_after_another_plan(play: MakePlay) -> None:
    """An approval is for the plan that somebody read."""
    made = deployed_by_dispatch(play)
    second = made.change("second")
    read = second.summary
    made.of("prod").serial += 1  # from a laptop, say
    made.github.rerun(second, "plan-prod")
    (asked,) = set(re.findall(r"-f run=(\S+)", read))
    approval = made.github.dispatch(DELIVERY, actor="bob", run=asked)
    failed(approval, "deploy-prod", "another SHA-256 than the one that was shown")
    assert made.of("prod").commit != second.sha


def test_two_quick_merges_with_dispatch_the_newer_approved_first(play: MakePlay) -> None:
    made = deployed_by_dispatch(play)
    second, third = made.change("second"), made.change("third")
    assert succeeded(approve_by_dispatch(made, third)) == {"changes", "deploy-prod"}
    failed(approve_by_dispatch(made, second), "deploy-prod", "Saved plan is stale")
    assert made.of("prod").commit == third.sha
    failed(made.github.rerun(second, "plan-prod"), "plan-prod", "is older")


def test_a_merge_while_prod_is_planned(deployed: Play) -> None:
    during, save = deployed.github.during, ("plan-prod", "make save-plan")
    during[save] = lambda: deployed.change("third")
    second = deployed.change("second")
    third = deployed.github.runs[-1]
    assert (second.status, third.results()["deploy-prod"]) == ("waiting", "pending")
    deployed.github.approve(second)
    assert succeeded(second) == ALL
    deployed.github.approve(third)
    failed(third, "deploy-prod", "Saved plan is stale")
    deployed.github.approve(deployed.github.rerun(third, "plan-prod"))
    assert succeeded(third) == ALL
    assert same(deployed)


def test_approval_after_a_newer_deployment(deployed: Play) -> None:
    second = deployed.change("second")
    # From a laptop, say.
    prod = deployed.of("prod")
    prod.serial += 1
    deployed.github.approve(second)
    failed(second, "deploy-prod", "Saved plan is stale")
    assert prod.serial == 2


# Operating


def rolled_back(play: Play) -> Run:
    rollback = operate(play, "rollback", value="1")
    assert succeeded(rollback) == {"operate", "record"}, rollback.log
    assert rollback.jobs["operate"].roles == ["operate-prod"]
    assert play.of("prod").settings == {"live_version": '"1"'}
    return rollback


def recorded(play: Play) -> str:
    """Return what the pull request of an operation changes."""
    branch = play.github.pull_requests[-1]["head"]["ref"]
    return play.github.git("diff", "--unified=0", "HEAD", branch)


def test_roll_back_with_main_ahead(deployed: Play) -> None:
    deployed.github.approve(deployed.change("second"))
    content = deployed.of("prod").content
    deployed.github.reject(deployed.change("third"))
    rolled_back(deployed)
    # What main is ahead by stays out of prod.
    assert deployed.of("prod").content == content
    assert 'live_version = "1"' in recorded(deployed)


def test_roll_back_with_drift(deployed: Play) -> None:
    second = deployed.change("second")
    deployed.github.approve(second)
    deployed.of("prod").drift = True
    rollback = rolled_back(deployed)
    assert "Left as they are" in rollback.log
    assert deployed.of("prod").drift
    # `all` takes the rest along: that is more than the operate role may, so somebody approves.
    everything = operate(deployed, "rollback", value="latest", all=True)
    deployed.github.approve(everything)
    assert everything.jobs["operate"].roles == ["deploy-prod"]
    assert not deployed.of("prod").drift
    assert not deployed.of("prod").settings


def test_roll_back_with_drift_where_a_dispatch_approves(play: MakePlay) -> None:
    made = deployed_by_dispatch(play)
    made.of("prod").drift = True
    everything = operate(made, "pause", all=True)
    failed(everything, "operate", "`all` would apply to prod what nobody has approved")
    assert not made.of("prod").settings
    # In dev nobody is asked anyway.
    assert succeeded(operate(made, "pause", "dev", all=True)) == {"operate", "record"}


def test_roll_back_while_a_deployment_waits(deployed: Play) -> None:
    deployed.github.approve(deployed.change("second"))
    third = deployed.change("third")
    assert third.status == "waiting"
    rolled_back(deployed)
    deployed.github.approve(third)
    failed(third, "deploy-prod", "Saved plan is stale")
    assert deployed.of("prod").live == deployed.of("prod").versions[0]


def merge_last(play: Play) -> Run:
    """Merge the newest pull request."""
    play.github.git("merge", "--quiet", "--no-edit", play.github.pull_requests[-1]["head"]["ref"])
    (merged,) = play.github.pushed()
    return merged


def test_roll_back_then_the_next_merge(deployed: Play) -> None:
    deployed.github.approve(deployed.change("second"))
    rolled_back(deployed)
    # Its pull request is merged: nothing is left to do in prod, and the next release keeps it.
    assert succeeded(merge_last(deployed)) == ALL - {"deploy-prod"}
    third = deployed.change("third")
    deployed.github.approve(third)
    assert succeeded(third) == ALL
    assert deployed.of("prod").settings == {"live_version": '"1"'}
    assert deployed.of("prod").live == deployed.of("prod").versions[0]


def test_roll_back_then_the_next_merge_without_its_record(deployed: Play) -> None:
    deployed.github.approve(deployed.change("second"))
    rolled_back(deployed)
    third = deployed.change("third")
    assert "this takes back the rollback to version 1" in third.summary
    deployed.github.reject(third)
    assert deployed.of("prod").settings == {"live_version": '"1"'}


def test_records_pull_request_cannot_be_opened(deployed: Play) -> None:
    deployed.github.workflows_may_open_pull_requests = False
    pause = operate(deployed, "pause")
    failed(pause, "record", "no pull request could be opened")
    assert deployed.of("prod").settings == {"paused": "true"}
    assert pause.results()["operate"] == "success"
    (branch,) = re.findall(r"compare/([\w/.-]+)", pause.log)[:1]
    assert "paused" in deployed.github.git("diff", "HEAD", branch)
    # With a token that may, it can.
    deployed.github.secrets["RECORD_TOKEN"] = "a GitHub App's"
    assert succeeded(operate(deployed, "pause")) == {"operate", "record"}


def test_pause_and_resume(deployed: Play) -> None:
    assert succeeded(operate(deployed, "pause")) == {"operate", "record"}
    assert "paused" in recorded(deployed)
    assert succeeded(merge_last(deployed)) == ALL - {"deploy-dev", "deploy-prod"} | {"deploy-dev"}
    assert succeeded(operate(deployed, "resume")) == {"operate", "record"}
    assert "-paused" in recorded(deployed)
    assert deployed.of("prod").settings == {}
    assert succeeded(merge_last(deployed)) == ALL - {"deploy-prod"}


def test_pause_and_resume_is_recorded_even_if_cancelled(deployed: Play) -> None:
    github = deployed.github
    github.during["operate", 'make "$ACTION"'] = lambda: github.cancel(github.runs[-1])
    pause = operate(deployed, "pause")
    assert pause.conclusion == "cancelled"
    assert deployed.of("prod").settings == {"paused": "true"}
    assert pause.results()["record"] == "success"
    assert "paused" in recorded(deployed)


def test_operating_from_another_branch(deployed: Play) -> None:
    deployed.github.git("branch", "feature")
    rollback = deployed.github.dispatch(OPERATE, ref="feature", action="pause", environment="prod")
    failed(rollback, "operate", "main")
    assert not deployed.of("prod").settings


def test_weekly_upgrade(deployed: Play) -> None:
    upgrade = deployed.github.dispatch("order-events-upgrade.yml")
    assert succeeded(upgrade) == {"upgrade"}
    assert "+# a newer version" in recorded(deployed)
    assert upgrade.jobs["upgrade"].roles == []
    # The next one moves the same pull request.
    assert succeeded(deployed.github.dispatch("order-events-upgrade.yml")) == {"upgrade"}
    assert len(deployed.github.pull_requests) == 1
    merge_last(deployed)
    assert "Nothing to upgrade" in deployed.github.dispatch("order-events-upgrade.yml").log


# Other repositories


def test_monorepo_with_three_services_one_touched(play: MakePlay) -> None:
    slugs = ("order-events", "invoices", "mails")
    made = play(*slugs)
    for first in made.github.push():
        made.github.approve(first)
    serials = {key: each.serial for key, each in made.aws.deployed.items()}
    runs = made.github.push(**{"services/invoices/handler.py": "# new\n"})
    by_name = {each.definition["name"]: each for each in runs}
    made.github.approve(by_name["invoices"])
    assert succeeded(by_name["invoices"]) == ALL
    for name in ("order-events", "mails"):
        assert succeeded(by_name[name]) == {"changes"}
        assert by_name[name].conclusion == "success"
        for environment in ("dev", "prod"):
            assert made.aws.deployed[name, environment].serial == serials[name, environment]


def test_another_default_branch(play: MakePlay) -> None:
    master = play(default_branch="master")
    master.github.approve(master.change("first"))
    assert same(master)


def test_another_default_branch_that_the_workflow_does_not_name(play: MakePlay) -> None:
    trunk = play(default_branch="trunk")
    assert trunk.github.push() == []
    (pull_request,) = trunk.github.pull_request(**{"handler.py": "# new\n"})
    failed(pull_request, "changes", "the default branch is trunk")
    assert pull_request.results()["passed"] == "failure"


def test_private_repository_on_github_free(play: MakePlay) -> None:
    free = play(plan="free", configured=False)
    free.configure(approval="")
    failed(free.change("first"), "changes", "PROD_APPROVAL")
    assert not free.of("dev").content
    free.configure(approval="dispatch")
    first = free.change("second")
    assert succeeded(first) == ALL - {"deploy-prod"}
    assert succeeded(approve_by_dispatch(free, first)) == {"changes", "deploy-prod"}
    assert same(free)
    assert not free.github.environments


def test_private_repository_on_github_team(play: MakePlay) -> None:
    team = play(plan="team", configured=False)
    with pytest.raises(RefusedError, match="on Enterprise only"):
        team.configure()
    team.configure(reviewers=())
    failed(team.change("first"), "changes", "the environment prod has no required reviewers")
    assert not team.of("dev").content
    team.configure(reviewers=(), approval="none")
    assert succeeded(team.change("second")) == ALL
    assert same(team)


def test_private_repository_on_github_enterprise(deployed: Play) -> None:
    assert deployed.github.plan == "enterprise"
    assert deployed.github.private
    assert succeeded(deployed.github.runs[0]) == ALL


def test_expired(deployed: Play) -> None:
    second = deployed.change("second")
    deployed.github.wait(31)
    assert second.jobs["deploy-prod"].result == "failure"
    with pytest.raises(RefusedError, match="for 30 days"):
        deployed.github.rerun(second)
    third = deployed.change("third")
    deployed.github.approve(third)
    assert succeeded(third) == ALL


def test_expired_where_a_dispatch_approves(play: MakePlay) -> None:
    made = deployed_by_dispatch(play)
    second = made.change("second")
    made.github.wait(31)
    failed(approve_by_dispatch(made, second), "deploy-prod", "Artifact not found")
    with pytest.raises(RefusedError, match="for 30 days"):
        made.github.rerun(second)
    assert succeeded(made.change("third")) == {"changes", "check", "deploy-dev", "plan-prod"}


def test_expired_plan(deployed: Play) -> None:
    second = deployed.change("second")
    deployed.github.wait(8)
    deployed.aws.kept.clear()  # by the bucket's lifecycle rule, after 7 days
    deployed.github.approve(second)
    failed(second, "deploy-prod", "There is no plan")
    deployed.github.approve(deployed.github.rerun(second, "plan-prod"))
    assert succeeded(second) == ALL


def test_approval_by_the_person_who_started_the_run(play: MakePlay) -> None:
    made = deployed_by_dispatch(play)
    second = made.change("second", actor="ann")
    failed(approve_by_dispatch(made, second, "ann"), "changes", "another person must approve it")
    assert made.of("prod").serial == 1


def test_approval_by_the_person_who_started_the_run_as_a_reviewer(play: MakePlay) -> None:
    made = play()
    first = made.change("first", actor="bob")
    with pytest.raises(RefusedError, match="bob may not approve"):
        made.github.approve(first, by="bob")
    made.github.approve(first, by="eve")
    assert succeeded(first) == ALL


def test_github_does_not_answer(deployed: Play) -> None:
    deployed.api.unavailable = "environments"
    failed(deployed.change("second"), "changes", "HTTP 502")
    assert deployed.of("dev").serial == 1


# The page


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading of docs/delivery.md."""
    text = (TEMPLATE / "docs" / "delivery.md").read_text(encoding="utf-8")
    part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return rows[2:]


def test_each_row_of_the_table_has_a_test_and_each_test_a_row() -> None:
    rows = [
        re.sub("[^a-z]+", "_", row[0].lower().replace("'", ""))
        for row in table("What happens when…")
    ]
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    played = tests[: tests.index("each_row_of_the_table_has_a_test_and_each_test_a_row")]
    assert [row for row in rows if not any(test.startswith(row) for test in played)] == []
    assert [test for test in played if not any(test.startswith(row) for row in rows)] == []


@pytest.mark.parametrize(
    ("job", "fault"), [("check", ("", "test")), ("plan", ("prod", "plan"))], ids=["check", "plan"]
)
def test_the_required_check_fails_with_a_job(
    deployed: Play, job: str, fault: tuple[str, str]
) -> None:
    deployed.aws.faults[fault] = "fail"
    (pull_request,) = deployed.github.pull_request(**{"handler.py": "# new\n"})
    failed(pull_request, job, f"{fault[1]} failed")
    assert pull_request.results()["passed"] == "failure"
    # Repaired, it passes.
    again = deployed.github.rerun(pull_request, "failed")
    assert succeeded(again) == {"changes", "check", "plan", "passed"}


@pytest.mark.parametrize("step", [("changes", "tools.github changes"), ("check", "make test")])
def test_the_required_check_fails_if_the_run_is_cancelled(
    deployed: Play, step: tuple[str, str]
) -> None:
    deployed.github.during[step] = lambda: deployed.github.cancel(deployed.github.runs[-1])
    (pull_request,) = deployed.github.pull_request(**{"handler.py": "# new\n"})
    assert pull_request.results()[step[0]] == "cancelled"
    assert pull_request.results()["passed"] == "failure"


def test_the_cost_is_what_the_simulator_counts(play: MakePlay) -> None:
    made = play("order-events", "invoices")
    path = "services/invoices"
    for first in made.github.push():
        made.github.approve(first)
    untouched, merged = made.github.push(**{f"{path}/handler.py": "# new\n"})[::-1]
    made.github.approve(merged)
    _, pull_request = made.github.pull_request(**{f"{path}/handler.py": "# newer\n"})[::-1]
    counted = [
        [str(run.minutes), str(len(run.calls))]
        for run in (pull_request, merged, untouched, made.github.runs[-1])
    ]
    assert [row[1:] for row in table("What it costs")] == counted


def test_the_cost_assumes_what_the_page_says() -> None:
    text = (TEMPLATE / "docs" / "delivery.md").read_text(encoding="utf-8")
    said = re.findall(
        r"(\w[\w-]*)\s(\d+)", text.partition("Assumed seconds")[2].partition("each job")[0]
    )
    assert dict(said) == {target: str(int(seconds)) for target, seconds in SECONDS.items()}

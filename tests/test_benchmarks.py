"""benchmarks/bench.py, as far as that goes without measuring."""

import os
import sys
from pathlib import Path

import pytest
from conftest import TEMPLATE

sys.path.insert(0, str(TEMPLATE / "benchmarks"))
import bench
import local as bench_local


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand on a machine that does other work; measuring fails."""
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 1.0, 1.0))
    monkeypatch.setattr(bench.Bench, "prepare", lambda _: sys.exit("measuring"))


def test_no_table_is_written_beside_other_work(
    loaded: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ["bench.py", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"The load average is 1\.50, and it must be at most 1"):
        bench.main()
    monkeypatch.setattr(sys, "argv", [*command, "--dry-run"])
    with pytest.raises(SystemExit, match="measuring"):
        bench.main()
    assert not list(tmp_path.iterdir())


def test_the_table_says_on_which_load_it_was_taken() -> None:
    about = {"rounds": 1, "date": "today", "machine": "Linux", "versions": {"Python": "3"}}
    table = bench.markdown([], {**about, "load": {"start": 0.25, "end": 2.0}})
    assert "1 rounds on today; Linux; load average 0.25 at the start, 2.0 at the end." in table


def test_a_goal_that_is_missed_is_shown_as_not_met() -> None:
    names = {name for it in bench.COMPARISONS for name in (it.ours, it.peer)}
    results = [{**dict.fromkeys(names, 1.0), "record empty": 0.0}]
    met = {row["what"]: row["met"] for row in bench.compare(results)}
    assert met["nothing changed"] is False
    assert met["zip size with bytecode"] is True


def test_make_local_has_a_second_from_saving_a_file_to_its_log_line() -> None:
    rounds = [{"reload": 0.7, "ready": 60.0, "apply": 50.0, "e2e": 80.0, "ready first": 70.0}]
    rows = bench_local.compare(
        [*rounds, {**rounds[0], "reload": 1.5}], {"memory few": 10.0, "memory many": 10.9}
    )
    assert [row["met"] for row in rows] == [False, None, None, True]
    table = bench.markdown(
        rows,
        {"rounds": 2, "date": "", "machine": "", "versions": {}, "load": {"start": 0, "end": 0}},
    )
    assert "| 1.10 s | `make e2e` | 80.0 s | 0.0138 | ≤ 1 s | **not met** |" in table
    assert "serverless-offline" not in table  # without npm

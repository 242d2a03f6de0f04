"""The runbook's "try it locally": each alarm has its rows, or says why it has none.

test_local.py and test_local_fargate.py do what the rows say, each beside one `make local`.
"""

import re

import pytest
from conftest import Render
from test_documentation import alarms_of
from try_locally import ON_LAMBDA_ONLY, REHEARSED, edited, sections, steps


@pytest.mark.parametrize("compute", REHEARSED)
def test_every_alarm_can_be_tried_or_the_runbook_says_why_not(render: Render, compute: str) -> None:
    service = render(compute=compute)
    found, alarms = sections(service), alarms_of(service)
    rehearsed = {*REHEARSED[compute], *ON_LAMBDA_ONLY}
    assert {name for name in alarms if found[name].rows} == rehearsed
    on_lambda = sections(render(compute="lambda"))
    for name in ON_LAMBDA_ONLY:
        assert found[name].rows == on_lambda[name].rows
    for name in alarms:
        if found[name].rows:
            assert [*found[name].rows] == ["cause", "see", "repair"]
            assert len(found[name].started_with) == 1
            assert not found[name].instead
        else:
            assert re.search(r": .+\.$", found[name].instead), f"{name}: why can't it be tried?"
    assert len({start for name in alarms for start in found[name].started_with}) == 1


@pytest.mark.parametrize("compute", REHEARSED)
def test_the_rows_say_what_there_is(render: Render, compute: str) -> None:
    """Their edits can be made, and what is to be seen is the section's own alarm."""
    service = render(compute=compute)
    for name in REHEARSED[compute]:
        rows = {row: steps(cell) for row, cell in sections(service)[name].rows.items()}
        for step in rows["cause"]:
            if file := step["file"] or step["changed"]:
                changed = edited((service / file).read_text(encoding="utf-8"), step)
                if file.endswith(".py"):
                    compile(changed, file, "exec")
        assert any(step["command"] for step in rows["cause"])
        assert f"*order-events-local-{name}*" in "".join(step[0] for step in rows["see"])
        assert any(step["undo"] for step in rows["repair"]) == any(
            step["file"] or step["changed"] for step in rows["cause"]
        )


def test_a_blocked_group_can_be_tried(render: Render) -> None:
    """Only a FIFO service's runbook has groups; its rows are as those of an alarm."""
    name = "A message group is blocked"
    assert name not in sections(render())
    service = render(sns_topic_name="events.fifo")
    rows = {row: steps(cell) for row, cell in sections(service)[name].rows.items()}
    assert [*rows] == ["cause", "see", "repair"]
    edit, *_ = rows["cause"]
    compile(
        edited((service / edit["file"]).read_text(encoding="utf-8"), edit), "service.py", "exec"
    )
    assert any(step["undo"] for step in rows["repair"])

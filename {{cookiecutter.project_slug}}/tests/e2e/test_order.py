"""Messages of one group are processed in the order in which they were published."""

from tests.e2e.conftest import Drain, Say
from tests.e2e.test_chain import dead_letters, log_lines, max_receive_count, outcomes, publish
from tools import events
from tools.local.deployment import Deployment

COUNT = 4  # messages of each group
GROUPS = ("calm-1", "calm-2", "calm-3", "blocked")
POISON = "blocked-1"  # the second message of its group


def test_each_group_keeps_its_order(deployment: Deployment, drain: Drain, say: Say) -> None:
    """A poison message holds up its own group until it is dead-lettered, and no other group."""
    outputs, sqs = deployment.outputs, deployment.aws.client("sqs")
    event_type = next(name for name in events.samples() if events.entry_of(name))
    for number in range(COUNT):
        for group in GROUPS:
            name = f"{group}-{number}"
            good = events.fresh(events.samples()[event_type])
            publish(deployment, name, "not JSON" if name == POISON else good, event_type, group)
    say(f"published {COUNT} messages of each of {len(GROUPS)} groups, one of them poison")

    tries = outcomes(log_lines(drain()))
    expected = {group: [(f"{group}-{n}", True) for n in range(COUNT)] for group in GROUPS}
    expected["blocked"][1:2] = [(POISON, False)] * max_receive_count(deployment)
    found = {group: [one for one in tries if one[0].startswith(group)] for group in GROUPS}
    assert found == expected

    went_on = tries.index(("blocked-2", True))
    late = [name for name, _ in tries[went_on:] if not name.startswith("blocked")]
    assert not late, "other groups waited for the one with the poison message"
    assert POISON in dead_letters(sqs, outputs["dead_letter_queue_url"])
    say(f"each group kept its order; {POISON} was dead-lettered, and its group went on")

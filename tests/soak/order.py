"""Were the messages of each group processed in the order in which they were published?

Within a group, no message has its effect before every earlier one has had its own or has failed for
the last time. An effect may be repeated, since SQS delivers at least once, but not after a later
message's, unless both were in one batch that was cut off: that is repeated as a whole.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from .messages import Message

EARLY = "processed before an earlier message of its group"
LATE = "processed again after a later message of its group"

# Tells whether the first message had failed for the last time before the second one's effect: the
# effect's number, from 0 on over all groups, and its batch.
Over = Callable[[Message, Message, int, int], bool]

# Tells whether the first message will be processed again although the second one was, in a batch.
Again = Callable[[Message, Message, int], bool]


def out_of_order(
    sent: Iterable[Message], effects: Iterable[tuple[str, int]], over: Over, again: Again
) -> dict[str, list[str]]:
    """Return what is wrong, with the names of the messages.

    :param sent: all messages that got into the queue, in the order of publishing.
    :param effects: ids of events and numbers of batches, in the order in which it happened.
    """
    groups: dict[str, list[Message]] = defaultdict(list)
    group_of: dict[str, str] = {}
    for message in sent:
        groups[message.group].append(message)
        group_of[message.event_id] = message.group
    of_group: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    for number, (event_id, batch) in enumerate(effects):
        if event_id in group_of:
            of_group[group_of[event_id]].append((number, event_id, batch))
    found: dict[str, list[str]] = defaultdict(list)
    for group, messages in groups.items():
        for text, name in _of_a_group(messages, of_group[group], over, again):
            if name not in found[text]:
                found[text].append(name)
    return dict(found)


def _of_a_group(
    messages: Sequence[Message], effects: Sequence[tuple[int, str, int]], over: Over, again: Again
) -> Iterable[tuple[str, str]]:
    """Find what is wrong in one group."""
    places: dict[str, list[int]] = defaultdict(list)  # by event: one that is published twice has 2
    for place, message in enumerate(messages):
        places[message.event_id].append(place)
    had: dict[int, list[int]] = defaultdict(list)  # by place, the batches of its effects
    for number, event_id, batch in effects:

        def is_due(place: int, number: int = number, batch: int = batch) -> bool:
            return all(
                earlier in had or over(messages[earlier], messages[place], number, batch)
                for earlier in range(place)
            )

        # Of two messages with one event, the later one if it can have been that.
        own = places[event_id]
        place = next((one for one in reversed(own) if is_due(one)), own[0])
        if not is_due(place):
            yield EARLY, messages[place].name
        elif place in had and not all(
            again(messages[place], messages[later], earlier_batch)
            for later, batches in had.items()
            if later > place
            for earlier_batch in batches
        ):
            yield LATE, messages[place].name
        had[place].append(batch)


def dead_out_of_order(sent: Sequence[Message], dead_letters: Sequence[str]) -> list[str]:
    """Return the dead letters that came after a later one of their group."""
    place: Mapping[str, int] = {message.name: number for number, message in enumerate(sent)}
    group = {message.name: message.group for message in sent}
    latest: dict[str, int] = {}
    late = []
    for name in dead_letters:
        if name in place:
            if place[name] < latest.get(group[name], -1):
                late.append(name)
            latest[group[name]] = max(place[name], latest.get(group[name], -1))
    return late

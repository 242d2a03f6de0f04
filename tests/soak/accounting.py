"""What became of each message, compared with what should have."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .chain import IMPORT_ERROR, KILLED, TIMED_OUT, Delivery, Traffic
from .messages import DEAD, FIFO_FAULTS, RELEASE, THROTTLED, Message
from .order import dead_out_of_order, out_of_order

# What must have happened at least once, or the fault had no effect.
BATCHES_LOST = {
    "process killed before the effect": KILLED,
    "process killed after the effect": KILLED,
    "timeout": TIMED_OUT,
    THROTTLED: "throttled",
    RELEASE: IMPORT_ERROR,
}
COLUMNS = (
    "sent",
    "processed",
    "dead-lettered",
    "rejected",
    "deliveries",
    "unaccounted for",
    "acknowledged unprocessed",
)


@dataclass(frozen=True)
class Account:
    """The outcome: a table by fault, and what is wrong, with the names of the messages."""

    rows: dict[str, dict[str, int]]
    findings: dict[str, list[str]]

    def table(self) -> str:
        """Return the table, in Markdown."""
        total = {column: sum(row[column] for row in self.rows.values()) for column in COLUMNS}
        rows = {**self.rows, "all": total}
        lines = [["fault", *COLUMNS], ["---", *("--:" for _ in COLUMNS)]]
        lines += [[name, *(f"{row[c]:,}" for c in COLUMNS)] for name, row in rows.items()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "| "
            + " | ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            + " |"
            for line in lines
        )

    def problems(self) -> str:
        """Return the findings, a line each, with the first messages' names; "" if there is none."""
        return "\n".join(
            f"{len(names)} {text}: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"
            for text, names in self.findings.items()
        )


def account(
    messages: Sequence[Message], traffic: Traffic, max_receive_count: int, *, once: bool = False
) -> Account:
    """Compare what was seen with what should have become of each message.

    :param once: the service is idempotent: an event has its effect exactly once, however often it
        is sent and delivered. Without it, each successful delivery has it.
    """
    findings: dict[str, list[str]] = defaultdict(list)
    met = {message.fault for message in messages}
    rows = {name: dict.fromkeys(COLUMNS, 0) for name in FIFO_FAULTS if name in met}
    dead = set(traffic.dead_letters)
    lost = {d.batch for ds in traffic.deliveries.values() for d in ds if d.verdict == "lost"}
    effects: dict[str, int] = defaultdict(int)  # by event, batches that were lost included
    for (event_id, _), count in traffic.effects.items():
        effects[event_id] += count
    acknowledged: dict[tuple[str, int], list[str]] = defaultdict(list)

    for message in messages:
        name, row, fault = message.name, rows[message.fault], message.meets
        deliveries = traffic.deliveries.get(name, [])
        done = any(d.verdict == "done" for d in deliveries)
        for delivery in deliveries:
            if delivery.verdict in ("done", "kept"):
                acknowledged[message.event_id, delivery.batch].append(name)
        row["sent"] += 1
        row["deliveries"] += len(deliveries)
        row["processed"] += done and effects[message.event_id] > 0
        row["dead-lettered"] += name in dead
        if not fault.arrives:
            refused = name in traffic.refused
            right = not deliveries and name not in dead and refused == (fault.ends == "refused")
            row["rejected"] += right
            if not right:
                findings[f"not {fault.ends}, as they had to be"].append(name)
            continue
        if not done and name not in dead:
            row["unaccounted for"] += 1
            text = "neither processed nor dead-lettered"
            if name in traffic.refused:
                text = "refused, though SNS and SQS had to take them"
            findings[text].append(name)
        if name in dead and (done or effects[message.event_id]):
            findings["both processed and dead-lettered"].append(name)
        reasons = [d.reason for d in deliveries if d.verdict in ("failed", "lost")]
        if name in dead and fault.ends != DEAD and not _used_up(deliveries, max_receive_count):
            findings[f"dead-lettered ({'; '.join(reasons)}), not processed"].append(name)
        if name in dead and fault.ends == DEAD:
            if len(deliveries) != max_receive_count:
                text = f"dead-lettered after {len(deliveries)} receives, not {max_receive_count}"
                findings[text].append(name)
            stated = [d.reason for d in deliveries if d.verdict == "failed"]
            if not stated or not all(re.search(fault.reason, reason) for reason in stated):
                text = f"dead-lettered for {set(reasons)}, not for /{fault.reason}/"
                findings[text].append(name)

    unprocessed: set[str] = set()  # a message that is delivered again is acknowledged again
    for (event_id, batch), names in acknowledged.items():
        had = effects[event_id] if once else traffic.effects[event_id, batch]
        if had < (1 if once else len(names)):
            unprocessed.update(names)
    for message in messages:
        if message.name in unprocessed:
            rows[message.fault]["acknowledged unprocessed"] += 1
            findings["acknowledged without being processed"].append(message.name)
    for (event_id, batch), count in traffic.effects.items():
        if batch not in lost and count > len(acknowledged[event_id, batch]):
            findings["processed, yet reported as failed"].append(event_id)
    if once:
        # Nobody can tell whether the process died before its effect or after it.
        spared = {m.event_id for m in messages if m.fault == "process killed after the effect"}
        for event_id, count in effects.items():
            if count > 1 and event_id not in spared:
                findings[f"processed {count} times, not once"].append(event_id)

    for text, found in _order(messages, traffic, max_receive_count, once).items():
        findings[text] += found

    known = {message.name for message in messages}
    strangers = [name for name in traffic.dead_letters if name not in known]
    twice = [name for name in dead if traffic.dead_letters.count(name) > 1]
    for text, found in (
        ("unknown messages in the dead-letter queue", strangers),
        ("dead-lettered more than once", twice),
        ("undelivered by SNS", traffic.undelivered),
    ):
        if found:
            findings[text] += found
    for name, reason in BATCHES_LOST.items():
        if name in rows and not traffic.batches[reason]:
            findings[f"of fault “{name}” that never struck"] += [
                m.name for m in messages if m.fault == name
            ]
    return Account(rows, dict(findings))


def _used_up(deliveries: Sequence[Delivery], max_receive_count: int) -> bool:
    """Tell whether an error would have healed, had the message not been held back meanwhile."""
    return (
        len(deliveries) == max_receive_count
        and any(delivery.verdict == "held" for delivery in deliveries)
        and (deliveries[-1].verdict, deliveries[-1].reason) == ("failed", "ConnectionError")
    )


def _order(
    messages: Sequence[Message], traffic: Traffic, max_receive_count: int, once: bool
) -> dict[str, list[str]]:
    """Return what is wrong with the order of messages that have groups."""
    by_name = {message.name: message for message in messages if message.group}
    sent = [by_name[name] for name in traffic.sent if name in by_name]
    sent = [message for message in sent if message.meets.arrives]
    verdicts = {(d.name, d.batch): d for ds in traffic.deliveries.values() for d in ds}

    def over(earlier: Message, later: Message, number: int, batch: int) -> bool:
        names = traffic.contents[batch]
        if earlier.name not in traffic.ended or later.name not in names:
            return False
        if traffic.deliveries[earlier.name][-1].batch == batch:
            return names.index(earlier.name) < names.index(later.name)
        return traffic.ended[earlier.name] <= number

    def again(message: Message, later: Message, batch: int) -> bool:
        both = message.name in traffic.contents[batch] and (later.name, batch) in verdicts
        return both and verdicts[later.name, batch].verdict in ("lost", "kept")

    with_effect = sent
    if once:  # of messages with one event the first
        first = {message.event_id: message.name for message in reversed(sent)}
        with_effect = [message for message in sent if first[message.event_id] == message.name]
    findings = out_of_order(with_effect, traffic.in_order, over, again)
    for text, found in _held_back(by_name, traffic, verdicts, max_receive_count).items():
        findings[text] = found
    if late := dead_out_of_order(sent, traffic.dead_letters):
        findings["dead letters after later ones of their groups"] = late
    return findings


def _held_back(
    by_name: Mapping[str, Message],
    traffic: Traffic,
    verdicts: Mapping[tuple[str, int], Delivery],
    max_receive_count: int,
) -> dict[str, list[str]]:
    """Compare what the function held back in each batch with what it should have."""
    findings: dict[str, list[str]] = defaultdict(list)
    for batch, names in traffic.contents.items():
        waits: dict[str, str] = {}  # group: the message that failed
        for message in (by_name[name] for name in names if name in by_name):
            delivery = verdicts[message.name, batch]
            if (delivery.verdict == "held") != (message.group in waits):
                text = "held back for nothing" if delivery.verdict == "held" else "not held back"
                findings[text].append(message.name)
            if delivery.verdict == "held" and delivery.reason != waits.get(message.group):
                findings["held back for another one"].append(message.name)
            if delivery.verdict == "failed" and delivery.receive_count < max_receive_count:
                waits.setdefault(message.group, message.name)
    return dict(findings)

"""The seeded mix of messages: which faults there are, and what must become of each message."""

import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

# The answer to the question event_types, and types that fit it and don't.
EVENT_TYPES = "order.created, refund.*"
EXPECTED_TYPES = ["order.created", "refund.made"]
UNKNOWN_TYPES = ["order.created.v2", "Order.created", "refund", "*"]

# What SNS and a queue with the Terraform provider's default for max_message_size accept. Name, type
# and value of each attribute count, too. No queue accepts more than 1 MiB.
# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
LIMIT = 256 * 1024
LIMIT_OF_ANY_QUEUE = 1024 * 1024

TOPIC = "topic"  # published; raw message delivery
QUEUE = "queue"  # sent to the queue itself, as `make replay` does
ENVELOPE = "envelope"  # the same, in an SNS envelope


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a message, and what must become of it.

    share is in 10,000 messages, ends one of processed, dead-lettered, filtered out (by the
    subscription), refused (by SNS or SQS, for its size) and dropped (for its deduplication ID).
    reason is a regular expression for what the function has to state of a dead letter. data is what
    the event asks service.py for. strikes: it takes the whole batch with it, once. routes are those
    that it may take.
    """

    share: int
    ends: str = "processed"
    reason: str = ""
    data: dict[str, object] | None = None
    strikes: bool = False
    routes: tuple[str, ...] = (TOPIC, TOPIC, QUEUE, ENVELOPE)

    @property
    def arrives(self) -> bool:
        """Tell whether the message gets into the queue."""
        return self.ends in ("processed", DEAD)


DEAD = "dead-lettered"
DIRECT = (QUEUE, ENVELOPE)
FAULTS = {
    "none": Fault(0),  # the rest
    "body is not JSON": Fault(400, DEAD, "^(JSON is malformed|Input data was truncated)"),
    "wrong type": Fault(300, DEAD, "^(Expected `|Invalid )"),
    "missing field": Fault(300, DEAD, "^Object missing required field `"),
    "no event_type": Fault(150, DEAD, "^no attribute event_type", routes=DIRECT),
    "no event_type, to the topic": Fault(150, "filtered out", routes=(TOPIC,)),
    "unknown event_type": Fault(300, DEAD, "^event_type is none of ", routes=DIRECT),
    "unknown event_type, to the topic": Fault(300, "filtered out", routes=(TOPIC,)),
    "as large as possible": Fault(30),
    "too large for SNS": Fault(10, "refused", routes=(TOPIC,)),
    "too large for SQS": Fault(10, "refused", routes=(QUEUE,)),
    "error that heals": Fault(600, data={"fails": 2}),
    "error that never heals": Fault(400, DEAD, "^ConnectionError$", data={"fails": 10**6}),
    "slow": Fault(200, data={"takes": 0.05}),
    "published twice": Fault(600),
    "delivered again though done": Fault(200),
    "process killed before the effect": Fault(30, data={"dies": "before"}, strikes=True),
    "process killed after the effect": Fault(30, data={"dies": "after"}, strikes=True),
    "timeout": Fault(30, data={"hangs": True}, strikes=True),
    "throttled": Fault(100, strikes=True),
    "import error in the package": Fault(100, strikes=True),
}
# Only where there are groups: a producer that got no answer publishes the same message again.
REPEATED = "published again, with the same deduplication ID"
FIFO_FAULTS = {**FAULTS, REPEATED: Fault(200, "dropped")}
TWICE = "published twice"
AGAIN = "delivered again though done"
THROTTLED = "throttled"
RELEASE = "import error in the package"
# So many of its messages come one after another: a broken release stays deployed for a while.
STRETCH = 25
# So many messages later the repeat comes, at most: well within the five minutes in which SNS and
# SQS drop it, and mostly after the first one has been deleted.
REPEATED_WITHIN = 500

NOTES = ["", "Größe 42", "\u202e\u0000", "🚀" * 20, '"}],\\', "${x}$(x)", "s3cr3t"]


@dataclass(frozen=True)
class Message:
    """A message as its producer makes it.

    name is unique and travels as the attribute correlation_id; event_id is that of the body, the
    same in a message that is published twice. event_type None: no such attribute. group is its
    message group, "" for a standard topic; repeats is the name of the message that this one is
    published as again.
    """

    name: str
    fault: str
    event_id: str
    event_type: str | None
    body: str
    route: str
    group: str = ""
    repeats: str = ""

    @property
    def meets(self) -> Fault:
        """Return what goes wrong with it."""
        return FIFO_FAULTS[self.fault]

    @property
    def in_group(self) -> dict[str, str]:
        """Return the parameters that a FIFO topic or queue wants."""
        if not self.group:
            return {}
        # A message that is published twice has two names: only the event's id tells that.
        deduplication_id = self.repeats or self.name
        return {"MessageGroupId": self.group, "MessageDeduplicationId": deduplication_id}

    @property
    def attributes(self) -> dict[str, str]:
        """Return the message attributes that the producer sets."""
        given = {"correlation_id": self.name, "event_type": self.event_type}
        return {name: value for name, value in given.items() if value is not None}


def mix(seed: int, count: int, faults: dict[str, Fault] = FAULTS, groups: int = 0) -> list[Message]:
    """Return so many messages, in the order in which they are published; the same for one seed.

    Each fault has its share, at least two messages; "none" has the rest.

    :param groups: 0 for a standard topic; otherwise in how many message groups they are.
    :raises ValueError: there are too few messages for all faults.
    """
    rng = random.Random(seed)
    shares = {name: max(2, fault.share * count // 10_000) for name, fault in faults.items()}
    shares["none"] = 0
    shares["none"] = count - sum(shares.values())
    if shares["none"] < 0:
        raise ValueError(f"{count} messages are too few for {len(faults)} faults.")
    releases = shares.pop(RELEASE, 0)
    copies = shares.get(TWICE, 0) // 2
    shares[TWICE] = shares.get(TWICE, 0) - copies
    repeats = shares.pop(REPEATED, 0)

    names = [name for name, share in shares.items() for _ in range(share)]
    rng.shuffle(names)
    while releases > 0:
        position = rng.randrange(len(names))
        names[position:position] = [RELEASE] * min(STRETCH, releases)
        releases -= STRETCH
    messages = [
        _message(rng, f"seed{seed}-{number:05d}", name, faults[name])
        for number, name in enumerate(names)
    ]
    if groups:
        messages = [replace(m, group=f"customer-{rng.randrange(groups)}") for m in messages]
    for message in rng.sample([m for m in messages if m.fault == TWICE], copies):
        position = rng.randint(messages.index(message) + 1, len(messages))
        messages.insert(position, replace(message, name=f"{message.name}-again"))
    for message in rng.sample([m for m in messages if m.fault == "none"], repeats):
        place = messages.index(message)
        position = min(len(messages), place + rng.randint(1, REPEATED_WITHIN))
        name = f"{message.name}-repeated"
        messages.insert(position, replace(message, name=name, fault=REPEATED, repeats=message.name))
    return messages


def _message(rng: random.Random, name: str, fault_name: str, fault: Fault) -> Message:
    """Make the message of a fault."""
    event_type: str | None = rng.choice(EXPECTED_TYPES)
    if "no event_type" in fault_name:
        event_type = None
    elif "unknown event_type" in fault_name:
        event_type = rng.choice(UNKNOWN_TYPES)
    event = {
        "id": f"event-{name}",
        "occurred_at": "2026-01-01T00:00:00Z",
        "data": {"amount": rng.randint(1, 10**6), "note": rng.choice(NOTES), **(fault.data or {})},
    }
    route = rng.choice(fault.routes)
    message = Message(name, fault_name, f"event-{name}", event_type, json.dumps(event), route)
    match fault_name:
        case "body is not JSON":
            whole = message.body
            half = whole[: len(whole) // 2]
            broken = [half, whole[:-1], whole + "}", whole.replace('"', "'"), "<order/>", " "]
            return replace(message, body=rng.choice(broken))
        case "wrong type":
            return replace(message, body=json.dumps(rng.choice(WRONG)(event)))
        case "missing field":
            del event[rng.choice(["id", "occurred_at", "data"])]
            return replace(message, body=json.dumps(event))
        case "as large as possible":
            return replace(message, body=message.body + " " * (LIMIT - _size(message)))
        case "too large for SNS":
            return replace(message, body=f"{message.body:{LIMIT + 1}}")
        case "too large for SQS":
            return replace(message, body=f"{message.body:{LIMIT_OF_ANY_QUEUE + 1}}")
    return message


# What makes something of the wrong type of an event.
WRONG: list[Callable[[dict[str, Any]], object]] = [
    lambda event: [event],
    lambda event: None,
    lambda event: {**event, "id": 42},
    lambda event: {**event, "id": ""},
    lambda event: {**event, "id": "x" * 129},
    lambda event: {**event, "occurred_at": 1_767_225_600},
    lambda event: {**event, "occurred_at": "yesterday"},
    lambda event: {**event, "occurred_at": "2026-01-01T00:00:00"},  # no time zone
    lambda event: {**event, "data": "a=1"},
    lambda event: {**event, "data": [event["data"]]},
]


def _size(message: Message) -> int:
    """Return how many bytes a message counts for."""
    if message.route == ENVELOPE:
        return len(envelope(message).encode())
    given = "".join(f"{name}String{value}" for name, value in message.attributes.items())
    return len(f"{message.body}{given}".encode())


def envelope(message: Message) -> str:
    """Wrap a message as SNS does when raw message delivery is off."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": str(uuid.uuid5(uuid.NAMESPACE_OID, message.name)),
            "TopicArn": "arn:aws:sns:us-east-1:123456789012:events-dev",
            "Message": message.body,
            "Timestamp": "2026-01-01T00:00:00.000Z",
            "SignatureVersion": "1",
            "Signature": "c2lnbmF0dXJl",
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/certificate.pem",
            "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
            "MessageAttributes": {
                name: {"Type": "String", "Value": value}
                for name, value in message.attributes.items()
            },
        }
    )

"""The whole chain with real messages: SNS, its filter, SQS, the code, the dead-letter queue."""

import contextlib
import itertools
import json
import string
from typing import Any

import pytest

from tests.e2e.compute import NAME, deployed_and_built
from tests.e2e.conftest import Drain, Json, Say
from tools import events
from tools.display import describe
from tools.local.deployment import Deployment, Runner

GOOD = 12  # more than one batch


def test_a_plan_right_after_the_apply_shows_no_changes(
    deployment: Deployment, terraform: Runner, say: Say
) -> None:
    say("terraform plan, which must show no changes")
    var_files = terraform.environment.var_files()
    plan = terraform("plan", "-detailed-exitcode", *var_files, codes=(0, 2))
    assert "No changes." in plan, plan


def test_what_was_built_is_deployed(deployment: Deployment) -> None:
    deployed, built = deployed_and_built(deployment.aws, deployment.outputs)
    assert deployed == built


def test_every_message_ends_where_it_belongs(
    deployment: Deployment, drain: Drain, say: Say
) -> None:
    """Each published message is processed, dead-lettered or not for this service."""
    outputs, sqs = deployment.outputs, deployment.aws.client("sqs")
    samples = {name: path for name, path in events.samples().items() if events.entry_of(name)}
    assert samples, "no sample in events/ fits a type in EVENTS"
    types = itertools.islice(itertools.cycle(samples), max(GOOD, len(samples)))

    # The attribute correlation_id identifies a message all the way.
    good = {f"good-{n}": event_type for n, event_type in enumerate(types)}
    for name, event_type in good.items():
        publish(deployment, name, events.fresh(samples[event_type]), event_type)
    publish(deployment, "poison", "this is not JSON", good["good-0"])
    publish(deployment, "without-type", "{}", None)
    if unlisted := unlisted_type([*events.models()]):
        publish(deployment, "unlisted", "{}", unlisted)
    say(f"published {len(good)} good messages, a poison message and some that do not match")

    receives = max_receive_count(deployment)
    lines = log_lines(drain())

    require_success(lines, good)
    seen: dict[str, list[bool]] = {}
    for name, succeeded in outcomes(lines):
        seen.setdefault(name, []).append(succeeded)
    missing, others = {*good, "poison"} - {*seen}, {*seen} - {*good, "poison"}
    assert not missing, "the subscription's filter policy kept messages out, or the log lacks them"
    assert not others, "the subscription's filter policy let other messages through"
    assert seen == {name: [True] for name in good} | {"poison": [False] * receives}

    assert metric(lines, "MessagesProcessed") == len(good)
    assert metric(lines, "MessagesFailed") == receives
    assert dead_letters(sqs, outputs["dead_letter_queue_url"]) == ["poison"]
    assert deployment.aws.depth(outputs["undelivered_queue_url"]) == 0
    say(f"{len(good)} processed; the poison message is dead-lettered after {receives} receives")

    line = next(line for line in lines if line.get("correlation_id") in good)
    say(f"the message {line['correlation_id']} went through:")
    say(f"  SNS     {outputs['topic_arn']}")
    say(f"  SQS     {outputs['queue_arn']}, message {line['message_id']}")
    say(f"  {NAME:<7} {outputs['service_arn']}, which logged")
    say(f"          {json.dumps(line)}")


def log_lines(text: str) -> list[Json]:
    """Return the structured lines of a log."""
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # the code may print what it likes
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def require_success(lines: list[Json], good: dict[str, str]) -> None:
    """Fail with the error of the first good message that failed; good has their event types."""
    for line in lines:
        if line.get("message") == "Message failed" and line.get("correlation_id") in good:
            event_type = good[line["correlation_id"]]
            pytest.fail(f"The sample of {event_type} failed:\n{describe(line)}", pytrace=False)


def unlisted_type(listed: list[str]) -> str | None:
    """Return an event type that the filter keeps out; None if it keeps out none."""
    if "*" in listed:
        return None
    first = next(x for x in string.ascii_letters if not any(y.startswith(x) for y in listed))
    return f"{first}-unlisted"


{% if cookiecutter.__fifo %}
def publish(
    deployment: Deployment, name: str, body: str, event_type: str | None, group: str = ""
) -> None:
{% else %}
def publish(deployment: Deployment, name: str, body: str, event_type: str | None) -> None:
{% endif %}
    """Publish a message to the topic, with the attribute event_type or without.

    It meets the other conditions of the filter policy, those in added_filters.
{% if cookiecutter.__fifo %}
    Without a group it is in one of its own.
{% endif %}
    """
    sns, outputs = deployment.aws.client("sns"), deployment.outputs
    subscription = sns.get_subscription_attributes(SubscriptionArn=outputs["subscription_arn"])
    policy = json.loads(subscription["Attributes"]["FilterPolicy"])
    sns.publish(
        TopicArn=outputs["topic_arn"],
        Message=body,
        MessageAttributes=events.attributes(policy, event_type=event_type, correlation_id=name),
{% if cookiecutter.__fifo %}
        **events.in_group(outputs["topic_arn"], group or name),
{% endif %}
    )


def dead_letters(sqs: Any, queue_url: str) -> list[str]:
    """Take all messages from a queue and return their correlation IDs."""
    names: list[str] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        attributes = [message["MessageAttributes"] for message in messages]
        names += [attribute["correlation_id"]["StringValue"] for attribute in attributes]
    return names


def max_receive_count(deployment: Deployment) -> int:
    """Return how often a message is received before it is dead-lettered."""
    queue = deployment.aws.client("sqs").get_queue_attributes(
        QueueUrl=deployment.outputs["queue_url"], AttributeNames=["RedrivePolicy"]
    )
    return int(json.loads(queue["Attributes"]["RedrivePolicy"])["maxReceiveCount"])


def outcomes(lines: list[Json]) -> list[tuple[str, bool]]:
    """Return the correlation ID of each try, and whether it succeeded, in their order."""
    return [
        (line["correlation_id"], line["message"] == "Message processed")
        for line in lines
        if line.get("message") in ("Message processed", "Message failed") and "message_id" in line
    ]


def metric(lines: list[Json], name: str) -> int:
    """Return the sum of a metric (embedded metric format)."""
    return int(sum(sum(line[name]) for line in lines if "_aws" in line and name in line))

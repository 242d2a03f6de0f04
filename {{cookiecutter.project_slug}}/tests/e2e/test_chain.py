"""The whole chain, with real messages: SNS, its filter, SQS, the packaged function, dead letters.

The local AWS runs no functions, so the tests are the event source: they take messages from the
queue as Lambda does, and hand them to the package in a process of its own.
"""

import base64
import hashlib
import json
import string
from pathlib import Path
from typing import Any

from lambda_runtime import LambdaRuntime
from tests.e2e.conftest import ROOT, VAR_FILES, Deployment, Say, Terraform
from tests.local_aws.event_source import Batch, EventSource

GOOD = 12  # more than one batch


def test_the_package_that_was_built_is_deployed(deployment: Deployment, package: Path) -> None:
    digest = hashlib.sha256(package.read_bytes()).digest()
    assert deployment.function["CodeSha256"] == base64.b64encode(digest).decode()


def test_a_plan_right_after_the_apply_shows_no_changes(
    deployment: Deployment, terraform: Terraform, say: Say
) -> None:
    say("terraform plan, which must show no changes")
    plan = terraform("plan", "-detailed-exitcode", *VAR_FILES, codes=(0, 2))
    assert "No changes." in plan, plan


def test_local_env_has_the_variables_of_the_function(deployment: Deployment) -> None:
    lines = (ROOT / "local.env").read_text(encoding="utf-8").splitlines()
    assert {line.partition("=")[0] for line in lines} == set(
        deployment.function["Environment"]["Variables"]
    )


def test_every_message_arrives_where_it_belongs(
    deployment: Deployment, runtime: LambdaRuntime, say: Say
) -> None:
    """Each published message is either processed, dead-lettered or not for this service."""
    outputs, sqs = deployment.outputs, deployment.aws.client("sqs")
    body = sample_body()
    listed = deployment.function["Environment"]["Variables"]["EVENT_TYPES"].split(",")
    fitting = [event_type.replace("*", "example") for event_type in listed]

    # The attribute correlation_id tells the messages apart all the way.
    good = {f"good-{n}": fitting[n % len(fitting)] for n in range(GOOD)}
    for name, event_type in good.items():
        publish(deployment, name, json.dumps({**body, "id": name}), event_type)
    publish(deployment, "poison", "this is not JSON", fitting[0])
    publish(deployment, "without-type", json.dumps(body), None)
    if unlisted := unlisted_type(listed):
        publish(deployment, "unlisted", json.dumps(body), unlisted)
    say(f"published {len(good)} good messages, a poisonous one, and some that do not match")

    attributes = ["RedrivePolicy"]
    queue = sqs.get_queue_attributes(QueueUrl=outputs["queue_url"], AttributeNames=attributes)
    receives = int(json.loads(queue["Attributes"]["RedrivePolicy"])["maxReceiveCount"])
    mapping = deployment.mapping
    source = EventSource(
        sqs,
        outputs["queue_url"],
        runtime,
        batch_size=mapping["BatchSize"],
        report_batch_item_failures="ReportBatchItemFailures" in mapping["FunctionResponseTypes"],
        retry_at_once=True,
    )
    batches = source.run(lambda _: depth(sqs, outputs["queue_url"]) == 0, timeout=120)

    seen = tries(batches)
    say(f"the event source handed {len(batches)} batches to the function")
    assert set(seen) == {*good, "poison"}, "the subscription's filter policy was not heeded"
    assert {name: outcomes for name, outcomes in seen.items() if name in good} == {
        name: [True] for name in good
    }, "not every good message was processed at once:\n" + logs(batches)
    assert seen["poison"] == [False] * receives

    assert sum(metric(batch.outcome, "MessagesProcessed") for batch in batches) == len(good)
    assert sum(metric(batch.outcome, "MessagesFailed") for batch in batches) == receives
    assert dead_letters(sqs, outputs["dead_letter_queue_url"]) == ["poison"]
    assert depth(sqs, outputs["undelivered_queue_url"]) == 0
    say(f"{len(good)} processed; the poisonous one is a dead letter after {receives} tries")

    record = batches[0].records[0]
    (line,) = log_lines(batches[0].outcome, record["messageId"])
    assert line["correlation_id"] == correlation_id(record)
    say(f"the message {line['correlation_id']} went through:")
    say(f"  SNS     {outputs['topic_arn']}")
    say(f"  SQS     {record['eventSourceARN']}, message {record['messageId']}")
    say(f"  Lambda  {deployment.function['FunctionArn']}, which logged")
    say(f"          {json.dumps(line)}")


def sample_body() -> dict[str, Any]:
    """Return the body of the sample message that `make invoke` uses, too."""
    sample = json.loads((ROOT / "events" / "one_message.json").read_text(encoding="utf-8"))
    body: dict[str, Any] = json.loads(sample["Records"][0]["body"])
    return body


def unlisted_type(listed: list[str]) -> str | None:
    """Return an event type that isn't listened to; None if all are."""
    if "*" in listed:
        return None
    first = next(x for x in string.ascii_letters if not any(y.startswith(x) for y in listed))
    return f"{first}-unlisted"


def publish(deployment: Deployment, name: str, body: str, event_type: str | None) -> None:
    """Publish a message to the topic, with the attribute event_type or without."""
    attributes = {"correlation_id": name}
    if event_type is not None:
        attributes["event_type"] = event_type
    deployment.aws.client("sns").publish(
        TopicArn=deployment.outputs["topic_arn"],
        Message=body,
        MessageAttributes={
            key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()
        },
    )


def depth(sqs: Any, queue_url: str) -> int:
    """Return how many messages a queue holds, those that are being worked on included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return sum(int(queue["Attributes"][name]) for name in names)


def dead_letters(sqs: Any, queue_url: str) -> list[str]:
    """Take all messages from a queue, and return their correlation ids."""
    names: list[str] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        attributes = [message["MessageAttributes"] for message in messages]
        names += [attribute["correlation_id"]["StringValue"] for attribute in attributes]
    return names


def correlation_id(record: dict[str, Any]) -> str:
    """Return a record's attribute correlation_id."""
    return str(record["messageAttributes"]["correlation_id"]["stringValue"])


def tries(batches: list[Batch]) -> dict[str, list[bool]]:
    """Return for each correlation id whether each of its tries succeeded."""
    outcomes: dict[str, list[bool]] = {}
    for batch in batches:
        for record in batch.records:
            succeeded = record["messageId"] not in batch.failed
            outcomes.setdefault(correlation_id(record), []).append(succeeded)
    return outcomes


def log_lines(invocation: Any, message_id: str) -> list[dict[str, Any]]:
    """Return the structured log lines of a message."""
    lines = (json.loads(x) for x in invocation.logs.splitlines() if x.startswith("{"))
    return [line for line in lines if line.get("message_id") == message_id]


def metric(invocation: Any, name: str) -> int:
    """Return a metric of an invocation's, from its log (embedded metric format)."""
    lines = [json.loads(x) for x in invocation.logs.splitlines() if x.startswith("{")]
    (line,) = (line for line in lines if "_aws" in line)
    return int(sum(line[name]))


def logs(batches: list[Batch]) -> str:
    """Return all that the function logged."""
    return "\n".join(batch.outcome.logs for batch in batches)

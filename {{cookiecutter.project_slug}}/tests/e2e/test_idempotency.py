"""An event that is delivered several times is processed once."""

import json

from tests.e2e.conftest import Drain, Say
from tests.e2e.test_chain import log_lines, publish
from tools import events
from tools.local.deployment import Deployment


def test_an_event_that_comes_again_is_processed_once(
    deployment: Deployment, drain: Drain, say: Say
) -> None:
    """Publish it twice and send it to the queue by hand; when it is done, do all of that again."""
    sqs, queue_url = deployment.aws.client("sqs"), deployment.outputs["queue_url"]
    event_type, sample = next(iter(events.samples().items()))
    body = events.fresh(sample)
    attributes = {"event_type": event_type, "correlation_id": "redriven"}
    lines = []
    for _ in range(2):
        for name in ("published", "published-again"):
            publish(deployment, name, body, event_type)
        sqs.send_message(
            QueueUrl=queue_url,
            MessageBody=body,
            MessageAttributes={
                key: {"DataType": "String", "StringValue": value}
                for key, value in attributes.items()
            },
{% if cookiecutter.__fifo %}
            **events.in_group(queue_url, "published"),
{% endif %}
        )
        lines += log_lines(drain())
    assert not [line for line in lines if line.get("message") == "Message failed"], lines
    skipped = [line for line in lines if "processed before" in line.get("message", "")]
    assert len(skipped) == 2 * 3 - 1

    table = deployment.environment["IDEMPOTENCY_TABLE"]
    items = deployment.aws.client("dynamodb").scan(TableName=table)["Items"]
    (item,) = [item for item in items if item["id"]["S"] == skipped[0]["idempotency_key"]]
    assert item["status"]["S"] == "COMPLETED"
    assert json.loads(body)["id"] not in json.dumps(items)
    say(f"an event that was delivered 6 times was processed once, by {table}")

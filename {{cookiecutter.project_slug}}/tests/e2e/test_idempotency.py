"""The same event, delivered again and again, is processed once."""

import json

from lambda_runtime import LambdaRuntime
from tests.e2e.conftest import Deployment, Say
from tests.e2e.test_chain import depth, log_lines, logs, publish, sample_body
from tests.local_aws.event_source import EventSource


def test_an_event_that_comes_again_is_processed_once(
    deployment: Deployment, runtime: LambdaRuntime, say: Say
) -> None:
    """Published twice, sent to the queue by hand, and received again because nobody deleted it."""
    sqs, queue_url = deployment.aws.client("sqs"), deployment.outputs["queue_url"]
    variables = deployment.function["Environment"]["Variables"]
    event_type = variables["EVENT_TYPES"].split(",")[0].replace("*", "example")
    body = json.dumps({**sample_body(), "id": "comes-again"})
    for name in ("published", "published-again"):
        publish(deployment, name, body, event_type)
    attributes = {"event_type": event_type, "correlation_id": "redriven"}
    sqs.send_message(
        QueueUrl=queue_url,
        MessageBody=body,
        MessageAttributes={
            key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()
        },
    )
    source = EventSource(
        sqs, queue_url, runtime, batch_size=10, report_batch_item_failures=True, retry_at_once=True
    )
    batches = source.run(lambda _: depth(sqs, queue_url) == 0, timeout=120)
    assert not any(batch.failed for batch in batches), logs(batches)
    # Acknowledging was too late: SQS delivers all of it again.
    again = runtime.invoke({"Records": [r for batch in batches for r in batch.records]})
    assert again.response == {"batchItemFailures": []}, again.logs

    outcomes = [*(batch.outcome for batch in batches), again]
    messages = {record["messageId"] for batch in batches for record in batch.records}
    assert len(messages) == 3
    lines = [line for id_ in messages for outcome in outcomes for line in log_lines(outcome, id_)]
    skipped = [line for line in lines if "processed before" in line["message"]]
    assert len(skipped) == 2 * len(messages) - 1

    table = variables["IDEMPOTENCY_TABLE"]
    items = deployment.aws.client("dynamodb").scan(TableName=table)["Items"]
    (item,) = [item for item in items if item["id"]["S"] == skipped[0]["idempotency_key"]]
    assert item["status"]["S"] == "COMPLETED"
    assert "comes-again" not in json.dumps(items)
    say(f"an event that was delivered {2 * len(messages)} times was processed once, by {table}")

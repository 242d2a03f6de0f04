"""What people write who have a queue and a handler: receive, call the handler, delete.

    python loop.py    poll the queue at QUEUE_URL for ever

No timeout, no visibility heartbeat, no process of the handler's own; a batch that fails is received
again.
"""

import os
from typing import Any

import boto3
from handler import handler

QUEUE = os.environ["QUEUE_URL"]


def record(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the handler takes it."""
    attributes = message.get("MessageAttributes", {})
    return {
        "messageId": message["MessageId"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: {"stringValue": it["StringValue"], "dataType": it["DataType"]}
            for name, it in attributes.items()
        },
    }


def main() -> None:
    """Process batches of ten until the process is killed."""
    sqs = boto3.client("sqs")
    while True:
        messages = sqs.receive_message(
            QueueUrl=QUEUE,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=20,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if not messages:
            continue
        answer = handler({"Records": [record(message) for message in messages]}, None)
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        done = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
            if message["MessageId"] not in failed
        ]
        if done:
            sqs.delete_message_batch(QueueUrl=QUEUE, Entries=done)


if __name__ == "__main__":
    main()

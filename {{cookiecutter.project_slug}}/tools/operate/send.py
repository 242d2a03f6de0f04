"""Send one message to the service: a test message to its topic, or a smoke test to its queue."""

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import click

from tools import hcl
from tools.display import describe, is_error
from tools.errors import ToolError
from tools.operate import compute, logs, queues
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# What the message model needs: see events.py in the service's package.
FIELDS = ("id", "occurred_at", "data")
# Seconds between two looks into the log for a smoke test.
POLL_SECONDS = 2.0


def publish(service: Service, event_type: str | None, body: str) -> None:
    """Publish one message to the topic. Every subscriber gets it, not only this service.

    :param event_type: the attribute that the subscription filters by; the first type that this
        service takes, if none is given.
    :raises ToolError: no type is given, and the service takes all.
    """
    types = _types(service)
    if not event_type and not types:
        raise ToolError("Say which event type to publish: EVENT_TYPE=order.created, for example.")
    event_type = event_type or types[0].replace("*", "test")
    correlation_id = f"test-{uuid.uuid4()}"
    attributes = {"event_type": event_type, "correlation_id": correlation_id}
    answer = service.client("sns").publish(
        TopicArn=service.topic_arn,
        Message=body,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )
    print(
        f"Published to {service.topic_arn}: message id {answer['MessageId']}, "
        f"event_type {event_type}, correlation_id {correlation_id}."
    )
    prefixes = tuple(one[:-1] for one in types if one.endswith("*"))
    if types and event_type not in types and not event_type.startswith(prefixes):
        print(f"{service.service_name} does not get it: its subscription lets other types through.")
    else:
        print(f"`make logs` shows what becomes of it: look for {correlation_id}.")


def _types(service: Service) -> list[str]:
    """Return the event types that the subscription lets through; one that ends in * is a prefix."""
    attributes = service.client("sns").get_subscription_attributes(
        SubscriptionArn=service.subscription_arn
    )["Attributes"]
    rules = json.loads(attributes.get("FilterPolicy", "{}")).get("event_type", [])
    return [one if isinstance(one, str) else f"{one.get('prefix', '')}*" for one in rules]


def _read(file: Path) -> str:
    """Return a message's body from a file.

    :raises ToolError: no subscriber could read it.
    """
    try:
        body = file.read_text(encoding="utf-8")
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{file}: not JSON: {error}. Nothing was published.") from None
    missing = [name for name in FIELDS if not isinstance(event, dict) or name not in event]
    if missing:
        raise ToolError(
            f"{file}: needs {', '.join(missing)}. A message must be a JSON object with id (text), "
            "occurred_at (a time with its zone) and data (an object). Nothing was published."
        )
    return body


def smoke(service: Service) -> None:
    """Send a message, and wait until the log shows that it was processed.

    It goes to the service's own queue, in the envelope that SNS would put around it, so no other
    subscriber of the topic sees it. The handler takes its event type without business effect.

    :raises ToolError: the log does not show it in time, or shows an error.
    """
    envelope = {
        "Type": "Notification",
        "TopicArn": service.topic_arn,
        "Message": "{}",
        "MessageAttributes": {"event_type": {"Type": "String", "Value": "smoke_test"}},
    }
    begin = time.time()
    message_id = service.client("sqs").send_message(
        QueueUrl=service.queue_url, MessageBody=json.dumps(envelope)
    )["MessageId"]
    print(
        f"Sent smoke test {message_id} to {service.queue_name}; waiting for it in the log.",
        flush=True,
    )
    while not (lines := logs.about_messages(service, [message_id], begin)[message_id]):
        if time.time() - begin > compute.SMOKE_SECONDS:
            count = queues.depth(service, service.queue_url)
            raise ToolError(
                f"The log {service.log_group_name} does not show the smoke test {message_id} after "
                f"{compute.SMOKE_SECONDS} s. {service.queue_name} has {count['waiting']} messages "
                f"waiting and {count['in_flight']} in flight: see `make status` and `make logs`. "
                "(It is logged at level INFO: with a higher LOG_LEVEL it does not show.)"
            )
        time.sleep(POLL_SECONDS)
    errors = [describe(line) for line in lines if is_error(line)]
    if errors:
        raise ToolError(f"{service.service_name} failed on the smoke test: {errors[0]}")
    print(f"Processed after {time.time() - begin:.0f} s: {service.service_name} works.")


@click.command
@environment_option
@click.option("--event-type", envvar="EVENT_TYPE", help="default: the first that the service takes")
@click.option(
    "--body-file", envvar="BODY_FILE", type=Path, help="the message; default: a made-up one"
)
def publish_command(
    environment: Environment, event_type: str | None, body_file: Path | None
) -> None:
    """Publish a test message to the topic."""
    if body_file is None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        body = json.dumps({"id": str(uuid.uuid4()), "occurred_at": now, "data": {}})
    else:
        body = _read(body_file)
    publish(deployed(environment), event_type, body)


@click.command
@environment_option
def smoke_command(environment: Environment) -> None:
    """Send a harmless message through the deployed service and wait for it."""
    service = deployed(environment)
    package: Path | None = compute.ARTIFACT
    if hcl.read(environment.tfvars).get("live_version"):
        print(f"{environment.tfvars} sets live_version, so {package} is not compared.")
        package = None
    compute.check(service, package)
    smoke(service)

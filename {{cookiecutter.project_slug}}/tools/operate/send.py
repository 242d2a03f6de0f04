"""Send one message to the service: a test message to its topic, or a smoke test to its queue."""

import json
import time
import uuid
from pathlib import Path

import click

from tools import events, hcl
from tools.display import describe, is_error
from tools.errors import ToolError
from tools.operate import compute, logs, queues
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# Seconds between two looks into the log for a smoke test.
POLL_SECONDS = 2.0


def publish(service: Service, event_type: str, body: str, group: str = "") -> None:
    """Publish one message to the topic. Every subscriber gets it, not only this service.

    It meets the other conditions of the subscription's filter.

    :param group: its message group, where the topic is FIFO; empty: the correlation id.
    """
    sns, correlation_id = service.client("sns"), f"test-{uuid.uuid4()}"
    subscription = sns.get_subscription_attributes(SubscriptionArn=service.subscription_arn)
    policy = json.loads(subscription["Attributes"].get("FilterPolicy", "{}"))
    own = {"event_type": event_type, "correlation_id": correlation_id}
    order = events.in_group(service.topic_arn, group or correlation_id)
    answer = sns.publish(
        TopicArn=service.topic_arn,
        Message=body,
        MessageAttributes=events.attributes(policy, **own),
        **order,
    )
    print(
        f"Published to {service.topic_arn}: message id {answer['MessageId']}, "
        f"event_type {event_type}, correlation_id {correlation_id}"
        f"{', group ' + order['MessageGroupId'] if order else ''}."
    )
    rules = policy.get("event_type", [])
    prefixes = tuple(rule.get("prefix", "") for rule in rules if isinstance(rule, dict))
    if rules and event_type not in rules and not event_type.startswith(prefixes):
        print(f"{service.service_name} does not get it: its subscription lets other types through.")
    else:
        print(f"{service.make('logs')} shows what becomes of it: look for {correlation_id}.")


def smoke(service: Service) -> None:
    """Send a message, and wait until the log shows that it was processed.

    It goes to the service's own queue, in the envelope that SNS would put around it, so no other
    subscriber of the topic sees it. The handler takes its event type without business effect.

    :raises ToolError: the log does not show it in time, or shows an error.
    """
    envelope = events.envelope("{}", service.topic_arn, event_type="smoke_test")
    begin = time.time()
    message_id = service.client("sqs").send_message(
        QueueUrl=service.queue_url,
        MessageBody=envelope,
        # In a group of its own it does not wait for another one that has failed.
        **events.in_group(service.queue_url, f"smoke-test-{uuid.uuid4()}"),
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
                f"waiting and {count['in_flight']} in flight: see {service.make('status')} and "
                f"{service.make('logs')}."
            )
        time.sleep(POLL_SECONDS)
    errors = [describe(line) for line in lines if is_error(line)]
    if errors:
        raise ToolError(f"{service.service_name} failed on the smoke test: {errors[0]}")
    print(f"Processed after {time.time() - begin:.0f} s: {service.service_name} works.")


@click.command
@environment_option
@click.option("--event", envvar="EVENT", type=Path, help="default: the first type's sample")
@events.event_type_option
@events.group_option
@click.option("--body-file", envvar="BODY_FILE", type=Path, help="published as it is")
def publish_command(
    environment: Environment,
    event: Path | None,
    event_type: str | None,
    body_file: Path | None,
    group: str,
) -> None:
    """Publish an event with a new id, or a file as it is, to the topic."""
    first = event_type or next(iter(events.models()))
    if body_file is None:
        event = event or events.find_sample(first)
        body = events.fresh(event)
        group = group or json.loads(body)["id"]
    else:
        event = events.expected_sample(first)
        body = body_file.read_text(encoding="utf-8", errors="replace")
        events.check(body, body_file)
    publish(deployed(environment), event_type or events.type_of(event), body, group)


@click.command
@environment_option
def smoke_command(environment: Environment) -> None:
    """Send a harmless message through the deployed service and wait for it."""
    service = deployed(environment)
    package: Path | None = compute.artifact(environment)
    if hcl.read(environment.tfvars).get("live_version"):
        print(f"{environment.tfvars} sets live_version, so {package} is not compared.")
        package = None
    compute.check(service, package)
    smoke(service)

"""Whether a message gets through to the handler."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click

from tools.errors import ToolError
from tools.operate import compute, logs, queues
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

POLL_SECONDS = 2.0


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
    errors = [logs.describe(line) for line in lines if logs.is_error(line)]
    if errors:
        raise ToolError(f"{service.service_name} failed on the smoke test: {errors[0]}")
    print(f"Processed after {time.time() - begin:.0f} s: {service.service_name} works.")


@click.command
@environment_option
def command(environment: Environment) -> None:
    """Send a harmless message through the deployed service and wait for it."""
    service = deployed(environment)
    package: Path | None = compute.ARTIFACT
    if re.search("^live_version", environment.tfvars.read_text(encoding="utf-8"), re.MULTILINE):
        print(f"{environment.tfvars} sets live_version, so {package} is not compared.")
        package = None
    compute.check(service, package)
    smoke(service)

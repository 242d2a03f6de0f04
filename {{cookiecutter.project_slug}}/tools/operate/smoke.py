"""Whether a message gets through to the handler."""

from __future__ import annotations

import json
import time

from tools.operate import logs, queues
from tools.errors import ToolError
from tools.operate.service import Service

# The event type that the handler acknowledges without business effect.
SMOKE_TEST = "smoke_test"
POLL_SECONDS = 2.0


def smoke(service: Service, timeout: float) -> None:
    """Send a message, and wait until the log shows that it was processed.

    It goes to the service's own queue, in the envelope that SNS would put around it, so no other
    subscriber of the topic sees it. The handler acknowledges it without business effect.

    :param timeout: seconds to wait for the log to show it.
    :raises ToolError: it does not, or shows an error.
    """
    text = {
        "Type": "Notification",
        "TopicArn": service.topic_arn,
        "Message": "{}",
        "MessageAttributes": {"event_type": {"Type": "String", "Value": SMOKE_TEST}},
    }
    begin = time.time()
    message_id = service.client("sqs").send_message(
        QueueUrl=service.queue_url, MessageBody=json.dumps(text)
    )["MessageId"]
    print(
        f"Sent smoke test {message_id} to {service.queue_name}; waiting for it in the log.",
        flush=True,
    )
    while True:
        lines = logs.about_messages(service, [message_id], begin - logs.LATE_SECONDS)
        errors = [line for line in lines[message_id] if logs.is_error(line)]
        if errors:
            raise ToolError(
                f"{service.name} failed on the smoke test: {logs.describe(errors[0])}"
            )
        if lines[message_id]:
            break
        if time.time() - begin > timeout:
            count = queues.depth(service, service.queue_url)
            raise ToolError(
                f"The log {service.log_group_name} does not show the smoke test {message_id} after "
                f"{timeout:g} s. {service.queue_name} has {count['waiting']} messages waiting and "
                f"{count['in_flight']} in flight: see `make status` and `make logs`. "
                "(It is logged at level INFO: with a higher LOG_LEVEL it does not show.)"
            )
        time.sleep(POLL_SECONDS)
    print(f"Processed after {time.time() - begin:.0f} s: {service.name} works.")

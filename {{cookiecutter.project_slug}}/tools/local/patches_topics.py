"""What moto's SNS lacks of AWS; see patches.py."""

import copy
import json
from typing import Any

from moto.sns.models import Subscription
from moto.sqs.models import sqs_backends

from tools.local.patches import replaces
from tools.local.policy import Question, applies, listed


@replaces(Subscription, "publish")
def sns_asks_the_queues_policy(original: Any, subscription: Any, *given: Any, **named: Any) -> None:
    """What a queue's policy refuses goes to the subscription's dead-letter queue, if that takes it.

    Only a queue without any policy takes all, as moto has it.
    https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html
    """
    redrive = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
    for endpoint in (subscription.endpoint, redrive.get("deadLetterTargetArn")):
        if endpoint and (subscription.protocol != "sqs" or _takes(endpoint, subscription)):
            to_there = copy.copy(subscription)
            to_there.endpoint = endpoint
            original(to_there, *given, **named)
            return


def _takes(queue_arn: str, subscription: Any) -> bool:
    """Tell whether a queue's policy lets SNS send to it for a subscription's topic."""
    _, _, _, region, account, name = queue_arn.split(":")
    queue = sqs_backends[account][region].queues.get(name)
    if queue is None or not queue.policy:
        return queue is not None
    context = {
        "aws:SecureTransport": ["true"],
        "aws:SourceAccount": [subscription.account_id],
        "aws:SourceArn": [subscription.topic_arn],
    }
    question = Question("sqs:SendMessage", queue_arn, context)
    found = {
        one["Effect"]
        for one in listed(json.loads(queue.policy)["Statement"])
        if _is_sns(one.get("Principal")) and applies(one, question)
    }
    return found == {"Allow"}


def _is_sns(principal: Any) -> bool:
    """Tell whether a statement's principal is SNS, or everybody."""
    named = principal if isinstance(principal, dict) else {"AWS": principal}
    return "*" in listed(named.get("AWS")) or "sns.amazonaws.com" in listed(named.get("Service"))

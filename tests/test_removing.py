"""docs/removing.md, step by step: what is published meanwhile is processed, saved or not taken."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TEMPLATE, Render
from delivery import REGION, Checkout, checked_out
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sqs.models import sqs_backends

pytestmark = pytest.mark.slow
NAME = "order-events-prod"
# More than one call receives, and more than peek shows.
DEAD, UNDELIVERED = 25, 23


@pytest.fixture
def checkout(render: Render, tmp_path: Path) -> Iterator[Checkout]:
    with checked_out(render, tmp_path, "prod") as checkout:
        yield checkout


def steps() -> list[tuple[str, list[str]]]:
    """Return the page's steps on AWS: each one's heading, and its commands for prod."""
    page = (TEMPLATE / "docs" / "removing.md").read_text(encoding="utf-8")
    found = []
    for section in page.split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        if "GitHub" in heading:
            break
        blocks = "\n".join(re.findall(r"(?ms)^```sh\n(.*?)^```", text))
        lines = [line.partition("  #")[0] for line in blocks.splitlines() if "dev" not in line]
        found.append((heading, lines))
    return found


class Rehearsal:
    """Somebody who follows the page, while a producer publishes before each command."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.sqs, self.sns = checkout.aws.client("sqs"), checkout.aws.client("sns")
        self.topic = self.sns.create_topic(Name="events-prod")["TopicArn"]
        self.urls = {
            name: self.sqs.get_queue_url(QueueName=f"{NAME}{name}")["QueueUrl"]
            for name in ("", "-dlq", "-undelivered")
        }
        # moto's own event source would take the messages away unseen.
        sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues[NAME].lambda_event_source_mappings.clear()
        self.processed = 0

    def subscriptions(self) -> list[str]:
        found = self.sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]
        return [one["SubscriptionArn"] for one in found]

    def publish(self) -> None:
        self.sns.publish(
            TopicArn=self.topic,
            Message="{}",
            MessageAttributes={
                "event_type": {"DataType": "String", "StringValue": "order.created"}
            },
        )

    def work(self) -> None:
        """Process what is in the queue."""
        url = self.urls[""]
        while batch := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in batch:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                self.processed += 1

    def depth(self) -> int:
        found = self.sqs.get_queue_attributes(QueueUrl=self.urls[""], AttributeNames=["All"])
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    def lift_the_protection(self) -> None:
        settings = self.checkout.settings("prod")
        text = re.sub(r"(?m)^#? ?deletion_protection.*\n", "", settings.read_text())
        settings.write_text(f"{text}\ndeletion_protection = false\n")

    def let_the_queue_drain(self) -> None:
        printed = self.checkout.make("output", "ENV=prod")
        (subscription,) = re.findall(r'subscription_arn\s*=\s*"(.*)"', printed)
        self.sns.unsubscribe(SubscriptionArn=subscription)
        self.work()

    def destroy_it(self) -> None:
        assert self.subscriptions() == []
        assert self.depth() == 0, "messages would be deleted with the queue"

    def run(self, line: str) -> str:
        """Run one line as the page has it; whoever is asked says yes."""
        self.publish()
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.checkout.folder,
            env=os.environ,
            input="yes\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout


def test_removing_a_service_loses_no_message(checkout: Checkout) -> None:
    checkout.make("plan", "ENV=prod")
    checkout.make("apply", "ENV=prod")
    rehearsal = Rehearsal(checkout)
    for name, count in (("-dlq", DEAD), ("-undelivered", UNDELIVERED)):
        for _ in range(count):
            rehearsal.sqs.send_message(QueueUrl=rehearsal.urls[name], MessageBody="{}")
    # As on a machine that has only cloned the repository.
    shutil.rmtree(checkout.folder / "terraform" / ".terraform")
    by_hand: dict[str, Callable[[], None]] = {
        "Lift the protection": rehearsal.lift_the_protection,
        "Let the queue drain": rehearsal.let_the_queue_drain,
        "Destroy it": rehearsal.destroy_it,
    }
    said = ""
    for heading, lines in steps():
        by_hand.pop(heading.partition(". ")[2], lambda: None)()
        for line in lines:
            said += rehearsal.run(line)
    assert by_hand == {}, "these steps are gone"
    assert f"Saved all {DEAD} messages" in said
    assert f"Saved all {UNDELIVERED} messages" in said
    for file, count in (("dead", DEAD), ("undelivered", UNDELIVERED)):
        saved = (checkout.folder / f"{file}.jsonl").read_text().splitlines()
        assert len({json.loads(line)["message_id"] for line in saved}) == count
    assert rehearsal.processed > 0
    assert rehearsal.sqs.list_queues().get("QueueUrls", []) == []
    assert 'Deleted workspace "prod"' in said

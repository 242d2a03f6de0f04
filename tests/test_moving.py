"""A service moves from Lambda to Fargate and back, with messages in flight.

The same answers are rendered twice, and applied by Terraform one after the other, to one state in
one local AWS: as docs/moving.md describes.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import need_provider, one_provider
from soak.chain import depth
from soak.deployment import OVERRIDE, build, render, terraform
from soak.fargate import Queues
from soak.ledger import Ledger
from soak.messages import TOPIC, Message
from tools.local.event_source import EventSource
from tools.local.runtime import Runtime
from tools.local.server import LocalAws, local_aws
from worker_process import SHORT, until, worker

pytestmark = pytest.mark.slow

REGION = "us-east-1"
DEADLINE = 600  # generous: only a failure takes that long
DIGEST = "sha256:" + "0" * 64

# What the move destroys, as docs/moving.md says: a resource of this type that is
# neither in place nor changed in place afterwards.
TO_FARGATE = {
    "aws_cloudwatch_log_group",
    "aws_cloudwatch_metric_alarm",
    "aws_lambda_alias",
    "aws_lambda_event_source_mapping",
    "aws_lambda_function",
}


@dataclass
class Moving:
    """Both variants of the service, their state, and the local AWS that they are deployed to."""

    aws: LocalAws
    lambda_: Path
    fargate: Path
    package: Path
    ledger: Ledger
    folder: Path

    def apply(self, service: Path) -> tuple[dict[str, str], set[str]]:
        """Plan and apply; return the outputs, and the types of what the plan destroys."""
        values = "-var-file=environments/dev.tfvars", "-var-file=moving.tfvars.json"
        terraform(service, print, "plan", "-out=moving.tfplan", *values)
        plan = json.loads(terraform(service, print, "show", "-json", "moving.tfplan"))
        destroyed = {
            change["type"]
            for change in plan["resource_changes"]
            if "delete" in change["change"]["actions"]
        }
        terraform(service, print, "apply", "moving.tfplan")
        outputs = json.loads(terraform(service, print, "output", "-json"))
        return {name: output["value"] for name, output in outputs.items()}, destroyed

    def hand_over(self, source: Path, target: Path) -> None:
        """Copy the state to the other variant; in S3, both would find it in the same place."""
        folder = target / "terraform" / "terraform.tfstate.d"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source / "terraform" / "terraform.tfstate.d", folder)

    def soak_environment(self) -> dict[str, str]:
        return {"SOAK_LEDGER": str(self.ledger.path), "SOAK_SLOT": "0"}

    def process_on_lambda(self, queues: Queues, batches: int | None = None) -> None:
        """Let Lambda process so many batches, or all there are."""
        sqs = queues.sqs
        (mapping,) = self.aws.client("lambda").list_event_source_mappings(
            EventSourceArn=queues.outputs["queue_arn"]
        )["EventSourceMappings"]
        function = self.aws.client("lambda").get_function_configuration(
            FunctionName=mapping["FunctionArn"]
        )
        with Runtime(
            self.package,
            handler=function["Handler"],
            environment={**function["Environment"]["Variables"], **self.soak_environment()},
            timeout=function["Timeout"],
            memory_size=512,
        ) as runtime:
            source = EventSource(
                sqs, queues.url, runtime, batch_size=5, report_batch_item_failures=True
            )
            source.run(
                lambda done: len(done) == batches if batches else depth(sqs, queues.url) == 0,
                timeout=DEADLINE,
            )

    def environment_of_the_task(self, outputs: dict[str, str]) -> dict[str, str]:
        """Return the environment of the container that the ECS service has, and the ledger's."""
        ecs = self.aws.client("ecs")
        (service,) = ecs.describe_services(
            cluster=outputs["cluster_name"], services=[outputs["service_name"]]
        )["services"]
        task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])
        (container,) = task["taskDefinition"]["containerDefinitions"]
        given = {variable["name"]: variable["value"] for variable in container["environment"]}
        return {**given, **self.soak_environment()}

    def effects(self) -> dict[str, int]:
        """Return how often each event was processed."""
        return {event_id: count for (event_id, _), count in self.ledger.effects().items()}


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[Moving]:
    """Render both, build the package that both run, and start a local AWS."""
    services = {}
    for compute in ("lambda", "fargate"):
        (tmp_path / compute).mkdir()
        services[compute] = service = render(tmp_path / compute, compute=compute)
        (service / "terraform" / "moving_override.tf").write_text(OVERRIDE)
    need_provider(services["lambda"])
    fargate = services["fargate"]
    package = build(fargate)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "app")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with local_aws(REGION) as aws, one_provider(tmp_path):
        aws.client("sns").create_topic(Name="events-dev")
        subnets = aws.client("ec2").describe_subnets()["Subnets"]
        groups = aws.client("ec2").describe_security_groups()["SecurityGroups"]
        settings: dict[str, dict[str, Any]] = {
            "lambda": {
                "allowed_account_ids": [],
                "paused": True,
                "package_file": str(package),
            },
            "fargate": {
                "allowed_account_ids": [],
                "image_digest": DIGEST,
                "security_group_ids": [groups[0]["GroupId"]],
                "subnet_ids": [subnet["SubnetId"] for subnet in subnets],
            },
        }
        for compute, service in services.items():
            values = service / "terraform" / "moving.tfvars.json"
            values.write_text(json.dumps(settings[compute]))
            terraform(service, print, "init")
        terraform(services["lambda"], print, "workspace", "new", "dev")
        yield Moving(aws, services["lambda"], fargate, package, ledger, tmp_path)
    ledger.close()


def test_a_service_moves_to_fargate_and_back_and_no_message_is_lost(moving: Moving) -> None:
    ledger = moving.ledger
    ledger.announce(0, 0, True)

    # On Lambda. One batch is processed, then the service is paused; another stays in flight, as if
    # its function had been killed.
    outputs, _ = moving.apply(moving.lambda_)
    queues = Queues(moving.aws, outputs)
    before = [good(number) for number in range(20)]
    for message in before:
        queues.publish(message)
    moving.process_on_lambda(queues, batches=1)
    in_flight = queues.sqs.receive_message(
        QueueUrl=queues.url, MaxNumberOfMessages=5, VisibilityTimeout=60
    )["Messages"]
    assert len(in_flight) == 5
    waiting = depth(queues.sqs, queues.url)
    assert waiting == 15

    # To Fargate.
    moving.hand_over(moving.lambda_, moving.fargate)
    terraform(moving.fargate, print, "workspace", "select", "dev")
    moved, destroyed = moving.apply(moving.fargate)
    assert destroyed == TO_FARGATE
    same = ("queue_url", "dead_letter_queue_url", "subscription_arn", "role_arn", "topic_arn")
    assert [moved[name] for name in same] == [outputs[name] for name in same]
    assert depth(queues.sqs, queues.url) == waiting

    environment = {**moving.environment_of_the_task(moved), "STOP_TIMEOUT": SHORT}
    app = moving.folder / "app"
    with worker(app, moving.folder / "first.log", **environment) as process:
        until(lambda: queues.depth() == 0, "the queue is not empty", DEADLINE)
        assert process.stop() == 0
    assert moving.effects() == {message.event_id: 1 for message in before}

    # And back, with messages that a stopped task returned, and one that is still in flight.
    after = [good(number) for number in range(20, 30)]
    for message in after:
        queues.publish(message)
    queues.sqs.receive_message(QueueUrl=queues.url, MaxNumberOfMessages=1, VisibilityTimeout=60)
    moving.hand_over(moving.fargate, moving.lambda_)
    back, destroyed = moving.apply(moving.lambda_)
    assert not {name for name in destroyed if name.startswith(("aws_sqs", "aws_sns"))}
    assert [back[name] for name in same] == [outputs[name] for name in same]
    assert depth(queues.sqs, queues.url) == len(after)
    moving.process_on_lambda(queues)
    effects = moving.effects()
    assert {m.event_id: effects.get(m.event_id) for m in after} == {m.event_id: 1 for m in after}
    assert queues.dead_letters() == {}


def good(number: int) -> Message:
    """Return a message with which nothing is wrong."""
    event = {"id": f"moving-{number}", "occurred_at": "2026-01-01T00:00:00Z", "data": {}}
    name = f"moving-{number}"
    return Message(name, "none", name, "order.created", json.dumps(event), TOPIC)

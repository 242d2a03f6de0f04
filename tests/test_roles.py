"""Every setting that needs a permission, deployed and operated in the bootstrap's roles.

`make soak` runs it; plain services are in test_delivery*.py. IAM is enforced: see delivery.py.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from delivery import ACCOUNT, BUCKET, REGION, Checkout, checked_out
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.logs.models import logs_backends
from moto.sqs.models import sqs_backends
from test_delivery_fargate import fargate
from test_operate import ATTRIBUTES
from tools import events

pytestmark = pytest.mark.slow
NAME = "order-events-dev"


def release(checkout: Checkout) -> None:
    """Plan and apply; then plan as a pull request does."""
    checkout.make("plan")
    checkout.make("apply")
    checkout.make("plan", "READ_ONLY=1", role="plan")


def gone(checkout: Checkout) -> None:
    """Destroy it all."""
    checkout.make("destroy", TF_CLI_ARGS_destroy="-auto-approve")
    assert checkout.aws.client("sqs").list_queues().get("QueueUrls", []) == []


def network(checkout: Checkout) -> dict[str, Any]:
    """Return the settings of a VPC."""
    ec2 = checkout.aws.client("ec2")
    subnets = [found["SubnetId"] for found in ec2.describe_subnets()["Subnets"][:2]]
    groups = [found["GroupId"] for found in ec2.describe_security_groups()["SecurityGroups"][:1]]
    return {"subnet_ids": subnets, "security_group_ids": groups}


def log_destinations(checkout: Checkout) -> Iterator[str]:
    """Make one destination of logs after the other, as somebody else does; return their ARNs."""
    client, role = checkout.aws.client, f"arn:aws:iam::{ACCOUNT}:role/delivery/github-plan-dev"
    client("kinesis").create_stream(StreamName="central", ShardCount=1)
    yield f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/central"
    target = {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{BUCKET}"}
    client("firehose").create_delivery_stream(
        DeliveryStreamName="central", ExtendedS3DestinationConfiguration=target
    )
    yield f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/central"
    zipped = (checkout.folder / "dist" / "lambda.zip").read_bytes()
    client("lambda").create_function(
        FunctionName="central",
        Runtime="python3.13",
        Role=role,
        Handler="handler.handler",
        Code={"ZipFile": zipped},
    )
    yield f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:central"
    # moto has no destinations: to it this is a log group of the other account.
    logs_backends["999999999999"][REGION].create_log_group("central", {})
    yield f"arn:aws:logs:{REGION}:999999999999:destination:central"


def test_a_function_with_all_that_needs_permissions(render: Render, tmp_path: Path) -> None:
    with checked_out(render, tmp_path, "dev", record="settings") as checkout:
        layer = checkout.aws.client("lambda").publish_layer_version(
            LayerName="otel", Content={"ZipFile": b"PK"}
        )["LayerVersionArn"]
        more = {"artifact_bucket": BUCKET, "layers": [layer], "snap_start": True}
        checkout.set("dev", **network(checkout), **more)
        settings = checkout.settings("dev").read_text()
        checkout.make("package")
        for destination in log_destinations(checkout):
            checkout.change_code(destination)
            text = f"{settings}\nlog_destination_arn = {json.dumps(destination)}\n"
            checkout.settings("dev").write_text(text)
            release(checkout)
        gone(checkout)


def test_a_service_on_fargate_in_a_shared_cluster(render: Render, tmp_path: Path) -> None:
    with fargate(render, tmp_path, "shared", idempotency="yes", record="shared") as checkout:
        ecs = checkout.aws.client("ecs")
        cluster = ecs.create_cluster(clusterName="shared")["cluster"]["clusterArn"]
        checkout.make("registry")
        release(checkout)
        # Another cluster replaces the service and its own cluster; every tag changes.
        checkout.set("dev", cluster_arn=cluster, backlog_per_task=5, owner="other-team")
        release(checkout)
        # With a security group that is given, its own goes, once the tasks have the other one.
        with used_security_groups_stay():
            checkout.set("dev", security_group_ids=network(checkout)["security_group_ids"])
            release(checkout)
        operate(checkout, "status", "versions")
        # Whatever else has changed is applied, too: that takes the deploy role, and its approval.
        checkout.set("dev", max_capacity=7)
        checkout.make("rollback", "VERSION=1", "ALL=1")
        gone(checkout)


@contextlib.contextmanager
def used_security_groups_stay() -> Iterator[None]:
    """Fail if a security group that an ECS service uses loses a rule, or is to be deleted.

    Without the rule, the tasks reach nothing; AWS refuses the other.
    """
    ec2, done = ec2_backends[ACCOUNT][REGION], []

    def recorded(original: Any) -> Any:
        def remove(**call: Any) -> Any:
            services = ecs_backends[ACCOUNT][REGION].services.values()
            active = [service for service in services if service.status == "ACTIVE"]
            used = json.dumps([service.network_configuration for service in active])
            group = call.get("group_id") or call["group_name_or_id"]
            done.append((original.__name__, group in used))
            return original(**call)

        return remove

    names = ["revoke_security_group_egress", "delete_security_group"]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(ec2, name, recorded(getattr(ec2, name)))
        yield
    assert done == [(name, False) for name in names]


@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_people_operate_a_service(render: Render, tmp_path: Path, kind: str) -> None:
    record, topic = "" if kind else "operate", f"events{kind}"
    with checked_out(render, tmp_path, "dev", record=record, sns_topic_name=topic) as checkout:
        checkout.make("plan")
        checkout.make("apply")
        queues = sqs_backends[ACCOUNT][REGION].queues
        dead, undelivered = f"{NAME}-dlq{kind}", f"{NAME}-undelivered{kind}"
        for queue in (dead, undelivered):
            send(checkout, queue)
        queues[dead].messages[0].source_arn = queues[NAME + kind].queue_arn  # as a dead letter
        saved = checkout.folder / "saved.jsonl"
        shutil.rmtree(checkout.folder / "terraform" / ".terraform")  # as on a fresh clone
        operate(checkout, "output", "status", "versions", "logs --once", "publish")
        operate(checkout, "undelivered-redrive", "dlq-redrive")
        send(checkout, dead)
        operate(checkout, f"dlq-peek --save {saved}", f"replay --file {saved}")
        # The settings change, and every tag.
        checkout.set("dev", owner="other-team", memory_size=256, batch_size=5)
        checkout.set("dev", event_types=["order.created", "order.paid"])
        release(checkout)
        gone(checkout)


def send(checkout: Checkout, queue: str) -> None:
    """Send a message to a queue, as what failed there."""
    sqs = checkout.aws.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    group = events.in_group(url, "order-1")
    sqs.send_message(QueueUrl=url, MessageBody="{}", MessageAttributes=ATTRIBUTES, **group)


def operate(checkout: Checkout, *commands: str) -> None:
    """Run commands as people do, each with the keys of the policy for people."""
    checkout.take("operate-dev")
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "tools", *command.split()],
            cwd=checkout.folder,
            env={**os.environ, **checkout.keys, "ENV": "dev"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        assert "stay hidden" not in done.stdout, done.stdout

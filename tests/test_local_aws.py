"""The rendered service's local AWS: its patches of moto, its server and its event source."""

import base64
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.utils import unix_time_millis
from moto.ecs.models import ecs_backends
from moto.sns import sns_backends
from moto.sqs import models as sqs_models
from moto.sqs import sqs_backends

TESTS = Path(__file__).parent
SERVICE = TESTS.parent / "{{cookiecutter.project_slug}}"

sys.path.insert(0, str(SERVICE))
from tools.events import record  # noqa: E402
from tools.local import patches, patches_limits, patches_queues  # noqa: E402
from tools.local.event_source import EventSource, failures  # noqa: E402
from tools.local.patches_fargate import STOPPING, tasks_of  # noqa: E402
from tools.local.server import LocalAws, local_aws  # noqa: E402

REGION = "eu-central-1"

# The patches. Each has a probe here, by its name: it asks AWS's API and tells whether what it hears
# is AWS's answer. Patched, it is; with moto as it comes it isn't, or the patch has become needless.

Client = Callable[..., Any]


def sqs_redrive_allow_policy(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="dead")["QueueUrl"]
    policy = '{"redrivePermission":"denyAll"}'

    def set_and_get(value: str) -> str | None:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedriveAllowPolicy": value})
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedriveAllowPolicy"])
        in_all = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        found: str | None = answer.get("Attributes", {}).get("RedriveAllowPolicy")
        return found if found == in_all.get("RedriveAllowPolicy") else "contradiction"

    return set_and_get(policy) == policy and set_and_get("") is None


def sqs_policy_is_kept(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="main")["QueueUrl"]
    statement = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "60"})
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    after = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return json.loads(found.get("Policy", "{}")) == json.loads(policy) and "Policy" not in after


def sqs_redrive_policy_is_compact(client: Client) -> bool:
    sqs = client("sqs")
    sqs.create_queue(QueueName="dead")
    target = f"arn:aws:sqs:{REGION}:123456789012:dead"
    policy = f'{{"deadLetterTargetArn":"{target}","maxReceiveCount":5}}'
    url = sqs.create_queue(QueueName="main", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    answers = [
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"]["RedrivePolicy"]
        for name in ("RedrivePolicy", "All")
    ]
    return answers == [policy, policy]


def lambda_logging_config(client: Client) -> bool:
    default = make_function(client, "default")["LoggingConfig"]
    given = {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "LogGroup": "/aws/lambda/mine"}
    made = make_function(client, "json", LoggingConfig=given)["LoggingConfig"]
    changed = client("lambda").update_function_configuration(
        FunctionName="json", LoggingConfig={"LogFormat": "JSON"}
    )["LoggingConfig"]
    client("lambda").update_function_configuration(FunctionName="json", Timeout=10)
    read = client("lambda").get_function_configuration(FunctionName="json")["LoggingConfig"]
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    return bool(
        default == {"LogFormat": "Text", "LogGroup": "/aws/lambda/default"}
        and made == {**levels, **given}
        and changed == read == {**levels, "LogFormat": "JSON", "LogGroup": "/aws/lambda/json"}
    )


def lambda_event_source_mapping_of_an_alias(client: Client) -> bool:
    client("sqs").create_queue(QueueName="main")
    make_function(client, "function", Publish=True)
    alias = client("lambda").create_alias(
        FunctionName="function", Name="live", FunctionVersion="1"
    )["AliasArn"]
    made = client("lambda").create_event_source_mapping(
        FunctionName=alias,
        EventSourceArn=f"arn:aws:sqs:{REGION}:123456789012:main",
        Enabled=False,
    )
    read = client("lambda").get_event_source_mapping(UUID=made["UUID"])
    return bool(made["FunctionArn"] == read["FunctionArn"] == alias)


def lambda_event_source_mapping_without_settings(client: Client) -> bool:
    client("sqs").create_queue(QueueName="main")
    make_function(client, "function")
    made = client("lambda").create_event_source_mapping(
        FunctionName="function",
        EventSourceArn=f"arn:aws:sqs:{REGION}:123456789012:main",
        Enabled=False,
        ScalingConfig={"MaximumConcurrency": 5},
    )
    client("lambda").update_event_source_mapping(UUID=made["UUID"], ScalingConfig={})
    read = client("lambda").get_event_source_mapping(UUID=made["UUID"])
    return made["ScalingConfig"] == {"MaximumConcurrency": 5} and "ScalingConfig" not in read


def make_ecs_service(client: Client) -> str:
    """Make an ECS service on Fargate Spot; return its id for Application Auto Scaling."""
    ecs = client("ecs")
    ecs.create_cluster(clusterName="cluster")
    container = {"name": "worker", "image": "worker", "memory": 512}
    ecs.register_task_definition(family="service", containerDefinitions=[container])
    ecs.create_service(
        cluster="cluster",
        serviceName="service",
        taskDefinition="service",
        desiredCount=0,
        capacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
        availabilityZoneRebalancing="DISABLED",
    )
    return "service/cluster/service"


def ecs_service_settings(client: Client) -> bool:
    make_ecs_service(client)
    (made,) = client("ecs").describe_services(cluster="cluster", services=["service"])["services"]
    (strategy,) = made.get("capacityProviderStrategy", [{}])
    return bool(
        strategy.get("capacityProvider") == "FARGATE_SPOT"
        and "launchType" not in made
        and made.get("availabilityZoneRebalancing") == "DISABLED"
    )


def ecs_task_definition_has_a_time(client: Client) -> bool:
    make_ecs_service(client)
    made = client("ecs").describe_task_definition(taskDefinition="service")["taskDefinition"]
    return "registeredAt" in made


def ecs_update_is_a_deployment(client: Client) -> bool:
    make_ecs_service(client)
    ecs, container = client("ecs"), {"name": "worker", "image": "worker", "memory": 512}
    ecs.register_task_definition(family="service", containerDefinitions=[container])
    ecs.update_service(cluster="cluster", service="service", taskDefinition="service:2")
    (made,) = ecs.describe_services(cluster="cluster", services=["service"])["services"]
    (primary,) = made["deployments"]
    return bool(primary["status"] == "PRIMARY" and primary["taskDefinition"].endswith(":2"))


def ecs_tasks(client: Client) -> bool:
    make_ecs_service(client)
    arn = f"arn:aws:ecs:{REGION}:123456789012:task/cluster"
    states = {"1": ("service", "RUNNING"), "2": ("service", "STOPPED"), "3": ("other", "STOPPED")}
    tasks_of(ecs_backends["123456789012"][REGION])[:] = [
        {"taskArn": f"{arn}/{name}", "group": f"service:{service}", "desiredStatus": status}
        for name, (service, status) in states.items()
    ]
    ecs, service = client("ecs"), {"cluster": "cluster", "serviceName": "service"}
    running = ecs.list_tasks(**service)["taskArns"]
    stopped = ecs.list_tasks(**service, desiredStatus="STOPPED")["taskArns"]
    (described,) = ecs.describe_tasks(cluster="cluster", tasks=[f"{arn}/2"])["tasks"]
    return bool(
        (running, stopped) == ([f"{arn}/1"], [f"{arn}/2"])
        and described["desiredStatus"] == "STOPPED"
    )


def ecs_service_deployments(client: Client) -> bool:
    make_ecs_service(client)
    ecs, names = client("ecs"), {"cluster": "cluster", "service": "service"}
    ecs.update_service(**names, forceNewDeployment=True)
    (made,) = ecs.describe_services(cluster="cluster", services=["service"])["services"]
    _, _, primary = made["deployments"][0]["id"].partition("/")
    (listed,) = ecs.list_service_deployments(**names)["serviceDeployments"]
    arn = listed["serviceDeploymentArn"]
    (told,) = ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"]
    return bool(
        primary
        and listed["targetServiceRevisionArn"].endswith(
            f"service-revision/cluster/service/{primary}"
        )
        and arn.startswith(f"arn:aws:ecs:{REGION}:123456789012:service-deployment/cluster/service/")
        and told == {"serviceDeploymentArn": arn, "status": "SUCCESSFUL"}
    )


def application_autoscaling_tags(client: Client) -> bool:
    scaling = client("application-autoscaling")
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": make_ecs_service(client),
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    arn = scaling.register_scalable_target(
        **target, MinCapacity=0, MaxCapacity=1, Tags={"Owner": "me"}
    )["ScalableTargetARN"]
    scaling.register_scalable_target(**target, MaxCapacity=2)
    return bool(scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"Owner": "me"})


def sqs_receivers_that_are_gone(_: Client) -> bool:
    """Of a task that is to stop; test_feed_fargate.py has one that hangs up."""
    key = f"ASIA{'A' * 16}"
    with local_aws(REGION, for_terraform=False) as aws:
        sqs = aws.client("sqs", {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "x"})
        url = sqs.create_queue(QueueName="received")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="x")
        STOPPING.add(key)
        stopping = sqs.receive_message(QueueUrl=url).get("Messages", [])
        STOPPING.discard(key)
        return bool(not stopping and sqs.receive_message(QueueUrl=url)["Messages"])


def sns_asks_the_queues_policy(client: Client) -> bool:
    sqs, sns = client("sqs"), client("sns")
    topic = sns.create_topic(Name="events")["TopicArn"]

    def queue(name: str, source: str) -> str:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": f"arn:aws:sqs:{REGION}:123456789012:{name}",
            "Condition": {"ArnEquals": {"aws:SourceArn": source}},
        }
        over_http = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": statement["Resource"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        policy = json.dumps({"Statement": [over_http, statement]})
        made = sqs.create_queue(QueueName=name, Attributes={"Policy": policy})
        return str(made["QueueUrl"])

    urls = [queue("main", f"{topic}-2"), queue("undelivered", topic), queue("other", topic)]
    target = f"arn:aws:sqs:{REGION}:123456789012:undelivered"
    for name, attributes in {
        "main": {"RedrivePolicy": json.dumps({"deadLetterTargetArn": target})},
        "other": {},
    }.items():
        sns.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:{REGION}:123456789012:{name}",
            Attributes={"RawMessageDelivery": "true", **attributes},
        )
    sns.publish(TopicArn=topic, Message="one")
    found = [sqs.receive_message(QueueUrl=url).get("Messages", []) for url in urls]
    return [[one["Body"] for one in some] for some in found] == [[], ["one"], ["one"]]


def moto_keeps_no_list_of_all_it_made(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="main")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="a")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return not sqs_models.Message.instances_tracked


def sns_forgets_what_it_delivered(client: Client) -> bool:
    topic = client("sns").create_topic(Name="events")["TopicArn"]
    for _ in range(patches_limits.PUBLISHED_KEPT + 1):
        client("sns").publish(TopicArn=topic, Message="a")
    kept = sns_backends["123456789012"][REGION].topics[topic].sent_notifications
    return len(kept) == patches_limits.PUBLISHED_KEPT


def logs_keep_the_newest_lines(client: Client) -> bool:
    logs, most = client("logs"), patches_limits.LINES_KEPT
    logs.create_log_group(logGroupName="group")
    now = int(time.time() * 1000)

    def write(stream: str, begin: int, count: int) -> tuple[list[str], list[str]]:
        lines = [{"timestamp": now + n, "message": str(n)} for n in range(begin, begin + count)]
        logs.put_log_events(logGroupName="group", logStreamName=stream, logEvents=lines)
        streams = logs.describe_log_streams(logGroupName="group")["logStreams"]
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName="group")
        found = [event["message"] for page in pages for event in page["events"]]
        return [stream["logStreamName"] for stream in streams], found

    for stream in ("first", "second"):
        logs.create_log_stream(logGroupName="group", logStreamName=stream)
    write("first", 0, most)
    both = write("second", most, 10)
    later = write("second", most + 10, most - 10)
    return both == (["first", "second"], [str(n) for n in range(10, most + 10)]) and later == (
        ["second"],
        [str(n) for n in range(most, 2 * most)],
    )


def sqs_calls_at_once(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="main")["QueueUrl"]
    for body in ("b", "a"):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    b, a = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2)["Messages"]
    other = threading.Thread(
        target=sqs.delete_message, kwargs={"QueueUrl": url, "ReceiptHandle": b["ReceiptHandle"]}
    )

    class Pending(set[Any]):
        def discard(self, message: Any) -> None:
            if message.body == "a":  # while it is being deleted, so is the other
                other.start()
                other.join(0.3)
            super().discard(message)

    sqs_backends["123456789012"][REGION].queues["main"]._pending_messages = Pending()
    sqs.delete_message(QueueUrl=url, ReceiptHandle=a["ReceiptHandle"])
    other.join()
    name = "ApproximateNumberOfMessagesNotVisible"
    left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]
    return bool(left == "0")


def sqs_retention_is_looked_up(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="main")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="a")
    with mock.patch.object(sqs_models.Queue, "attributes", None):
        found = sqs.receive_message(QueueUrl=url)["Messages"]
    later = time.time() + 5 * 86400  # seconds; messages are kept for four days
    sqs.send_message(QueueUrl=url, MessageBody="b")
    with mock.patch("tools.local.patches_queues.unix_time", return_value=later):
        return len(found) == 1 and "Messages" not in sqs.receive_message(QueueUrl=url)


def sqs_counts_at_one_moment(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="main")["QueueUrl"]
    for delay in (0, 0, 900, 0):
        sqs.send_message(QueueUrl=url, MessageBody="a", DelaySeconds=delay)
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=900)
    names = [f"ApproximateNumberOfMessages{name}" for name in ("", "NotVisible", "Delayed")]
    moments: list[float] = []

    def asked(*_: Any) -> float:
        moments.append(unix_time_millis())
        return moments[-1]

    with (
        mock.patch.object(sqs_models, "unix_time_millis", asked),
        mock.patch.object(patches_queues, "unix_time_millis", asked),
    ):
        got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        in_all, moments[:] = len(moments), []
        sqs.send_message(QueueUrl=url, MessageBody="a")
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return [got[name] for name in names] == ["2", "1", "1"] and len(moments) <= in_all + 4


def sqs_queue_feeds_no_function(client: Client) -> bool:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="main")["QueueUrl"]
    make_function(client, "function")
    client("lambda").create_event_source_mapping(
        FunctionName="function", EventSourceArn=f"arn:aws:sqs:{REGION}:123456789012:main"
    )
    sqs.send_message(QueueUrl=url, MessageBody="a")
    (message,) = sqs.receive_message(
        QueueUrl=url, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    return bool(message["Attributes"] == {"ApproximateReceiveCount": "1"})


def sqs_message_move_tasks(client: Client) -> bool:
    sqs = client("sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    target = f"arn:aws:sqs:{REGION}:123456789012:dead"
    policy = f'{{"deadLetterTargetArn":"{target}","maxReceiveCount":1}}'
    url = sqs.create_queue(QueueName="main", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="a")
    for _ in range(2):
        sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    sqs.start_message_move_task(SourceArn=target)
    return bool(
        [one["Body"] for one in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=9)["Messages"]]
        == ["a"]
        and "Messages" not in sqs.receive_message(QueueUrl=dead)
    )


class Fifo:
    """A FIFO queue whose dead-letter queue gets what has been received once without success."""

    def __init__(self, client: Client, **settings: str) -> None:
        self.sqs = client("sqs")
        fifo = {"FifoQueue": "true", "DeduplicationScope": "messageGroup"}
        self.dead = self.sqs.create_queue(QueueName="dead.fifo", Attributes=fifo)["QueueUrl"]
        target = f"arn:aws:sqs:{REGION}:123456789012:dead.fifo"
        policy = {"RedrivePolicy": f'{{"deadLetterTargetArn":"{target}","maxReceiveCount":1}}'}
        settings = {**fifo, **policy, **settings}
        self.url = self.sqs.create_queue(QueueName="main.fifo", Attributes=settings)["QueueUrl"]

    def send(self, body: str, group: str = "a", deduplication_id: str | None = None) -> Any:
        return self.sqs.send_message(
            QueueUrl=self.url,
            MessageBody=body,
            MessageGroupId=group,
            MessageDeduplicationId=deduplication_id or body,
        )

    def receive(self, url: str = "", most: int = 10, **more: Any) -> list[dict[str, Any]]:
        """Receive messages; without a visibility timeout they are in flight for half a minute."""
        answer = self.sqs.receive_message(
            QueueUrl=url or self.url,
            MaxNumberOfMessages=most,
            MessageSystemAttributeNames=["All"],
            **more,
        )
        return list(answer.get("Messages", []))

    def bodies(self, *given: Any, **more: Any) -> str:
        return "".join(message["Body"] for message in self.receive(*given, **more))


def sqs_fifo_groups_in_order(client: Client) -> bool:
    queue = Fifo(client, RedrivePolicy="")
    for body, group in zip("1xy23", "abbaa", strict=True):
        queue.send(body, group)
    first = queue.receive(most=2)  # as many as there are of one group, then of the next
    now = unix_time_millis()
    with (
        mock.patch("tools.local.patches_queues_fifo.unix_time_millis", return_value=now + 31000),
        mock.patch.object(sqs_models, "unix_time_millis", return_value=now + 31000),
    ):
        after = queue.bodies(most=4)  # both have timed out
    waits: list[str] = []
    receiver = threading.Thread(target=lambda: waits.append(queue.bodies(WaitTimeSeconds=2)))
    receiver.start()
    time.sleep(0.1)
    queue.send("4")  # its group has messages in flight
    queue.send("z", "c")
    receiver.join()
    count = queue.sqs.get_queue_attributes(
        QueueUrl=queue.url, AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    return (
        [message["Body"] for message in first] == ["1", "2"]
        and after == "123x"
        and waits == ["z"]
        and count == {"ApproximateNumberOfMessages": "2"}
    )


def sqs_fifo_sequence_numbers(client: Client) -> bool:
    queue = Fifo(client)
    sent = [queue.send(str(number))["SequenceNumber"] for number in range(12)]
    found = [message["Attributes"]["SequenceNumber"] for message in queue.receive()]
    return sent == sorted({*sent}) and found == sent[:10] and {len(one) for one in sent} == {20}


def sqs_fifo_deduplication(client: Client) -> bool:
    queue = Fifo(client)
    first = queue.send("1", deduplication_id="x")
    (message,) = queue.receive()
    queue.sqs.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
    again = queue.send("2", deduplication_id="x")
    queue.send("3", "b", deduplication_id="x")
    in_group = queue.bodies()
    queue.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"DeduplicationScope": "queue"})
    for group in "cd":
        queue.send(group, group, deduplication_id="y")
    in_queue = queue.bodies()
    later = unix_time_millis() + 300_001
    with mock.patch("tools.local.patches_queues_fifo.unix_time_millis", return_value=later):
        queue.send("4", "e", deduplication_id="y")
    names = ("MessageId", "SequenceNumber")
    return bool(
        [first[name] for name in names] == [again[name] for name in names]
        and (in_group, in_queue, queue.bodies()) == ("3", "c", "4")
    )


def sqs_fifo_dead_letters(client: Client) -> bool:
    queue = Fifo(client)
    for group in "ab":
        queue.send(group, group, deduplication_id="x")
    queue.bodies(VisibilityTimeout=0)
    time.sleep(0.002)
    moved = int(unix_time_millis())
    queue.bodies(VisibilityTimeout=0)
    dead = queue.receive(queue.dead)
    return {one["Body"] for one in dead} == {*"ab"} and all(
        one["Attributes"]["MessageDeduplicationId"] == one["MessageId"]
        and int(one["Attributes"]["SentTimestamp"]) >= moved
        for one in dead
    )


def sqs_fifo_receipt_handles_expire(client: Client) -> bool:
    queue = Fifo(client, RedrivePolicy="")
    queue.send("1")
    (old,) = queue.receive(VisibilityTimeout=1)
    (new,) = queue.receive(WaitTimeSeconds=5)
    refused = []
    for method, more in (
        ("delete_message", {}),
        ("change_message_visibility", {"VisibilityTimeout": 0}),
    ):
        given = {"QueueUrl": queue.url, "ReceiptHandle": old["ReceiptHandle"], **more}
        try:
            getattr(queue.sqs, method)(**given)
        except ClientError as error:
            refused.append(error.response["Error"]["Code"])
    entry = {"Id": "0", "ReceiptHandle": old["ReceiptHandle"]}
    some = queue.sqs.delete_message_batch(QueueUrl=queue.url, Entries=[entry])
    in_flight = queue.bodies() == ""
    queue.sqs.delete_message(QueueUrl=queue.url, ReceiptHandle=new["ReceiptHandle"])
    return bool(refused == ["InvalidParameterValue"] * 2 and some["Failed"] and in_flight)


def sns_fifo_topics(client: Client) -> bool:
    queue, sns = Fifo(client), client("sns")
    settings = {"FifoTopic": "true", "ContentBasedDeduplication": "true"}
    topic = sns.create_topic(Name="events.fifo", Attributes=settings)["TopicArn"]
    arn = f"arn:aws:sqs:{REGION}:123456789012:main.fifo"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    for _ in range(2):
        sns.publish(TopicArn=topic, Message="x", MessageGroupId="a")
    try:
        sns.publish(TopicArn=topic, Message="x")
    except ClientError as error:
        text = "Invalid parameter: The MessageGroupId parameter is required for FIFO topics"
        refused = error.response["Error"]
        return (refused["Code"], refused["Message"], len(queue.receive())) == (
            "InvalidParameter",
            text,
            1,
        )
    return False


PROBES: dict[str, Callable[[Client], bool]] = {
    probe.__name__: probe
    for probe in (
        sqs_redrive_allow_policy,
        sqs_policy_is_kept,
        sqs_redrive_policy_is_compact,
        ecs_service_settings,
        ecs_task_definition_has_a_time,
        ecs_update_is_a_deployment,
        ecs_tasks,
        ecs_service_deployments,
        application_autoscaling_tags,
        sqs_receivers_that_are_gone,
        lambda_logging_config,
        lambda_event_source_mapping_of_an_alias,
        lambda_event_source_mapping_without_settings,
        moto_keeps_no_list_of_all_it_made,
        sns_forgets_what_it_delivered,
        logs_keep_the_newest_lines,
        sqs_calls_at_once,
        sqs_retention_is_looked_up,
        sqs_counts_at_one_moment,
        sqs_queue_feeds_no_function,
        sqs_message_move_tasks,
        sqs_fifo_groups_in_order,
        sqs_fifo_sequence_numbers,
        sqs_fifo_deduplication,
        sqs_fifo_dead_letters,
        sqs_fifo_receipt_handles_expire,
        sns_fifo_topics,
        sns_asks_the_queues_policy,
    )
}


def make_function(client: Client, name: str, **settings: Any) -> dict[str, Any]:
    """Make a Lambda function; return its configuration."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
    policy = json.dumps({"Statement": [{**trust, "Action": "sts:AssumeRole"}]})
    role = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)
    client("lambda").create_function(
        FunctionName=name,
        Role=role["Role"]["Arn"],
        Runtime="python3.13",
        Handler="handler.handler",
        Code={"ZipFile": b"not a zip, and nobody runs it"},
        **settings,
    )
    configuration = client("lambda").get_function_configuration(FunctionName=name)
    return dict(configuration)


def answers(patched: bool) -> dict[str, bool]:
    """Ask all probes in this process; an error is not AWS's answer either."""
    if patched:
        patches.apply()
    found: dict[str, bool] = {}
    client = functools.cache(functools.partial(boto3.client, region_name=REGION))
    for name, probe in PROBES.items():
        with mock_aws():
            try:
                found[name] = probe(client)
            except Exception as problem:
                print(f"{name}: {problem!r}", file=sys.stderr)
                found[name] = False
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["patched", "moto as it comes"])
def behaviour(request: pytest.FixtureRequest) -> tuple[bool, dict[str, bool]]:
    """Ask the probes in a process of its own: this one may be patched already."""
    code = f"import json, test_local_aws as t; print(json.dumps(t.answers({request.param})))"
    command = [sys.executable, "-B", "-c", code]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = subprocess.run(
        command, cwd=TESTS, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return request.param, json.loads(done.stdout.splitlines()[-1])


def test_each_patch_has_a_probe() -> None:
    patches.apply()
    found = [replacement for _, _, replacement in patches.PATCHES]
    assert all(replacement.__doc__ for replacement in found)
    # What is patched in several places has a name for each, which begins with the probe's.
    names = {replacement.__name__ for replacement in found}
    assert PROBES.keys() <= names
    assert not [name for name in names if not name.startswith((*PROBES,))]


@pytest.mark.parametrize("name", PROBES)
def test_a_patch_restores_what_moto_lacks(
    behaviour: tuple[bool, dict[str, bool]], name: str
) -> None:
    patched, answered = behaviour
    if patched:
        assert answered[name], f"{name} doesn't do what its docstring says"
    else:
        assert not answered[name], f"moto now does this itself: delete the patch {name}"


# The server


@pytest.fixture
def aws() -> Iterator[LocalAws]:
    with local_aws(REGION) as running:
        yield running


def test_nothing_of_the_users_aws_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    leaks = {
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ENDPOINT_URL_SQS": "https://sqs.eu-central-1.amazonaws.com",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "AWS_CA_BUNDLE": "/nowhere",
    }
    for name, value in leaks.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with local_aws(REGION) as aws:
        assert not {name for name in leaks if os.environ.get(name) == leaks[name]}
        assert os.environ["AWS_ENDPOINT_URL"] == aws.url
        assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
        assert aws.client("sts").get_caller_identity()["Account"] == "123456789012"
        assert aws.client("sqs").meta.endpoint_url == aws.url
        assert aws.client("sqs").meta.region_name == REGION
    assert {name: os.environ.get(name) for name in leaks} == leaks
    assert "AWS_ENDPOINT_URL" not in os.environ


def test_cloudwatch_speaks_what_version_6_of_the_provider_speaks(
    aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    # boto3 knows all of CloudWatch's protocols; it takes the first one here.
    protocol = "smithy-rpc-v2-cbor"
    monkeypatch.setattr("botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", (protocol,))
    cloudwatch = boto3.session.Session().client("cloudwatch", region_name=REGION)
    assert cloudwatch.meta.service_model.resolved_protocol == protocol
    before = datetime.now(UTC)
    settings = {
        "AlarmName": "backlog",
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 3,
        "Threshold": 0.5,
        "TreatMissingData": "notBreaching",
        "ActionsEnabled": False,
        "Metrics": [
            {"Id": "sum", "Label": "Größe", "Expression": "waiting", "ReturnData": True},
            {
                "Id": "waiting",
                "ReturnData": False,
                "MetricStat": {
                    "Metric": {"Namespace": "AWS/SQS", "MetricName": "Waiting", "Dimensions": []},
                    "Period": 60,
                    "Stat": "Maximum",
                },
            },
        ],
    }
    cloudwatch.put_metric_alarm(**settings, Tags=[{"Key": "Owner", "Value": "me"}])
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["backlog"])["MetricAlarms"]
    assert {name: alarm[name] for name in settings} == settings
    assert abs(alarm["AlarmConfigurationUpdatedTimestamp"] - before) < timedelta(minutes=5)
    tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
    assert tags == [{"Key": "Owner", "Value": "me"}]
    cloudwatch.put_dashboard(DashboardName="service", DashboardBody='{"widgets": []}')
    assert cloudwatch.get_dashboard(DashboardName="service")["DashboardBody"] == '{"widgets": []}'
    with pytest.raises(cloudwatch.exceptions.ResourceNotFound):
        cloudwatch.get_dashboard(DashboardName="none")
    cloudwatch.delete_alarms(AlarmNames=["backlog"])
    assert cloudwatch.describe_alarms(AlarmNames=["backlog"])["MetricAlarms"] == []


def test_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with local_aws(REGION) as aws:
        aws.client("sqs").list_queues()


def test_each_local_aws_is_empty_at_first_and_gone_afterwards() -> None:
    with local_aws(REGION) as first:
        first.client("sqs").create_queue(QueueName="main")
        client = first.client("sqs")
    with local_aws(REGION) as second:
        assert "QueueUrls" not in second.client("sqs").list_queues()
    with pytest.raises(Exception, match=r"Could not connect|Connection was closed"):
        client.list_queues()


# The event source


@dataclass
class Outcome:
    response: Any = None
    error: Any = None


class Function:
    """Answers with what a test wants, and keeps the events."""

    def __init__(self, answer: Callable[[list[dict[str, Any]]], Outcome]) -> None:
        self.answer = answer
        self.events: list[Any] = []

    def invoke(self, event: Any) -> Outcome:
        self.events.append(event)
        return self.answer(event["Records"])


def failing(*bodies: str) -> Callable[[list[dict[str, Any]]], Outcome]:
    """Report the messages with these bodies as failed."""

    def answer(records: list[dict[str, Any]]) -> Outcome:
        failed = [record["messageId"] for record in records if record["body"] in bodies]
        return Outcome({"batchItemFailures": [{"itemIdentifier": name} for name in failed]})

    return answer


@dataclass
class Queue:
    """A queue with a dead-letter queue that takes what was received twice."""

    sqs: Any
    url: str
    dead: str

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def source(self, function: Function, **settings: Any) -> EventSource:
        defaults = {"batch_size": 10, "report_batch_item_failures": True}
        return EventSource(self.sqs, self.url, function, **{**defaults, **settings})

    def count(self, name: str, url: str = "") -> int:
        queue = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=[name])
        return int(queue["Attributes"][name])

    @property
    def visible(self) -> int:
        return self.count("ApproximateNumberOfMessages")

    @property
    def hidden(self) -> int:
        return self.count("ApproximateNumberOfMessagesNotVisible")


@pytest.fixture
def queue(aws: LocalAws) -> Queue:
    sqs = aws.client("sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    target = f"arn:aws:sqs:{REGION}:123456789012:dead"
    redrive = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 2})
    url = sqs.create_queue(QueueName="main", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    return Queue(sqs, url, dead)


def test_the_depth_of_a_queue_includes_messages_in_flight(aws: LocalAws, queue: Queue) -> None:
    queue.send("a", "b", "c")
    queue.sqs.receive_message(QueueUrl=queue.url)
    assert (queue.visible, queue.hidden) == (2, 1)
    assert aws.depth(queue.url) == 3
    assert aws.depth(queue.dead) == 0


def test_a_batch_has_no_more_than_its_size_whatever_was_left(queue: Queue) -> None:
    queue.send("a", "b", "c")
    source = queue.source(Function(failing()), batch_size=2)
    source.waiting = source.receive(10)
    assert [len(source.take()) for _ in range(3)] == [2, 1, 0]


def test_records_have_lambdas_shape(queue: Queue) -> None:
    sent = queue.sqs.send_message(
        QueueUrl=queue.url,
        MessageBody="hello",
        MessageAttributes={
            "event_type": {"DataType": "String", "StringValue": "order.created"},
            "size": {"DataType": "Number", "StringValue": "42"},
            "digest": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    )
    function = Function(failing())
    queue.source(function).poll()
    ((record,),) = [event["Records"] for event in function.events]
    json.dumps(record)  # nothing in it that JSON hasn't
    receipt, attributes = record.pop("receiptHandle"), record.pop("attributes")
    assert receipt
    assert set(attributes) == {
        *("ApproximateReceiveCount", "SentTimestamp"),
        *("SenderId", "ApproximateFirstReceiveTimestamp"),
    }
    assert attributes["ApproximateReceiveCount"] == "1"
    assert all(isinstance(value, str) for value in attributes.values())
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert record == {
        "messageId": sent["MessageId"],
        "body": "hello",
        "messageAttributes": {
            "event_type": {"stringValue": "order.created", **lists, "dataType": "String"},
            "size": {"stringValue": "42", **lists, "dataType": "Number"},
            "digest": {
                "binaryValue": base64.b64encode(b"\x00\xff").decode(),
                **lists,
                "dataType": "Binary",
            },
        },
        "md5OfBody": "5d41402abc4b2a76b9719d911017c592",
        "md5OfMessageAttributes": sent["MD5OfMessageAttributes"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:main",
        "awsRegion": REGION,
    }


def test_the_records_that_the_tools_make_have_the_same_keys(queue: Queue) -> None:
    """What `make invoke` and the unit tests hand to the handler is like what arrives."""
    queue.sqs.send_message(
        QueueUrl=queue.url,
        MessageBody="x",
        MessageAttributes={"event_type": {"DataType": "String", "StringValue": "x"}},
    )
    function = Function(failing())
    queue.source(function).poll()
    ours = function.events[0]["Records"][0]
    made = record("x", event_type="x")
    assert set(made) == set(ours) - {"md5OfMessageAttributes"}
    assert made["md5OfBody"] == ours["md5OfBody"]
    assert set(made["attributes"]) == set(ours["attributes"])
    assert made["messageAttributes"] == ours["messageAttributes"]


def test_what_succeeded_is_deleted_and_what_failed_stays(queue: Queue) -> None:
    queue.send("good", "bad", "fine")
    batch = queue.source(Function(failing("bad"))).poll()
    assert batch is not None
    assert [record["body"] for record in batch.records] == ["good", "bad", "fine"]
    assert len(batch.failed) == 1
    # Hidden until its visibility timeout is over, as on AWS.
    assert (queue.visible, queue.hidden) == (0, 1)


def test_messages_are_deleted_in_tens(queue: Queue) -> None:
    queue.send(*"abcdefghijklmnopqrstuvwxy")
    source, requests = queue.source(Function(failing("c")), batch_size=25), []
    queue.sqs.meta.events.register(
        "before-call.sqs.*", lambda model, **_: requests.append(model.name)
    )
    source.poll()
    assert requests == ["ReceiveMessage"] * 3 + ["DeleteMessageBatch"] * 3
    assert (queue.visible, queue.hidden) == (0, 1)


def test_a_message_that_cannot_be_deleted_is_an_error_and_the_others_are_deleted(
    queue: Queue,
) -> None:
    queue.send("a", "b")

    def spoil(records: list[dict[str, Any]]) -> Outcome:
        messages[0]["ReceiptHandle"] = "spoilt"
        return Outcome()

    source = queue.source(Function(spoil))
    messages = source.take()
    with pytest.raises(ClientError, match=r"ReceiptHandleIsInvalid.* DeleteMessage"):
        source.work(messages)
    assert (queue.visible, queue.hidden) == (0, 1)


def test_an_error_leaves_the_whole_batch(queue: Queue) -> None:
    queue.send("a", "b")
    error = {"errorType": "Runtime.ExitError"}
    batch = queue.source(Function(lambda _: Outcome(None, error))).poll()
    assert batch is not None
    assert len(batch.failed) == 2
    assert (queue.visible, queue.hidden) == (0, 2)


def test_what_keeps_failing_ends_in_the_dead_letter_queue(queue: Queue) -> None:
    queue.send("good", "poison")
    function = Function(failing("poison"))
    source = queue.source(function, retry_with=queue.sqs)
    batches = source.run(lambda _: queue.visible + queue.hidden == 0, timeout=120)
    assert [[r["body"] for r in batch.records] for batch in batches] == [
        ["good", "poison"],
        ["poison"],
    ]
    assert batches[1].records[0]["attributes"]["ApproximateReceiveCount"] == "2"
    assert queue.count("ApproximateNumberOfMessages", queue.dead) == 1


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 12), (10, [10, 2]), (25, [12])])
def test_no_batch_is_larger_than_batch_size(
    queue: Queue, batch_size: int, sizes: list[int]
) -> None:
    queue.send(*(str(n) for n in range(12)))
    source = queue.source(Function(failing()), batch_size=batch_size)
    batches = source.run(lambda _: queue.visible + queue.hidden == 0, timeout=120)
    assert [len(batch.records) for batch in batches] == sizes


def test_no_batch_is_larger_than_an_event_may_be(queue: Queue) -> None:
    queue.send(*["ü" * 500_000] * 8)
    source = queue.source(Function(failing()))
    batches = source.run(lambda _: queue.visible + queue.hidden == 0, timeout=120)
    assert [len(batch.records) for batch in batches] == [6, 2]


def test_an_empty_queue_invokes_nothing(queue: Queue) -> None:
    function = Function(failing())
    assert queue.source(function).poll() is None
    assert function.events == []


def test_waiting_ends(queue: Queue) -> None:
    with pytest.raises(TimeoutError, match="After 1 s and 0 batches"):
        queue.source(Function(failing())).run(lambda _: False, timeout=1)


IDS = ["a", "b"]


@pytest.mark.parametrize(
    ("response", "failed"),
    [
        # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
        (None, ""),
        ({}, ""),
        ({"batchItemFailures": []}, ""),
        ({"batchItemFailures": None}, ""),
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, "b"),
        ({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "b"}]}, "b"),
        ({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "a"}]}, "ab"),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, "ab"),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, "ab"),
        ({"batchItemFailures": [{"itemIdentifier": "unknown"}]}, "ab"),
        ({"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "unknown"}]}, "ab"),
        ({"batchItemFailures": [{"messageId": "a"}]}, "ab"),
        ({"batchItemFailures": ["a"]}, "ab"),
        ({"batchItemFailures": "a"}, "ab"),
        ("batchItemFailures", "ab"),
        ([], "ab"),
    ],
)
def test_lambdas_rules_for_responses(response: Any, failed: str) -> None:
    assert failures(Outcome(response), IDS, True) == set(failed)
    # Without ReportBatchItemFailures the response doesn't count.
    assert failures(Outcome(response), IDS, False) == set()
    # With an error it doesn't either.
    assert failures(Outcome(response, {"errorType": "E"}), IDS, True) == set(IDS)
    assert failures(Outcome(response, {"errorType": "E"}), IDS, False) == set(IDS)

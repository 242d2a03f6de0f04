"""The operator's commands at work against moto: tools/operate of the rendered service."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore import exceptions
from conftest import SERVICE, Render, working_in
from moto import mock_aws
from moto.server import ThreadedMotoServer
from moto.sqs.exceptions import InvalidParameterValue
from moto.sqs.models import SQSBackend, sqs_backends
from moto.sqs.responses import SQSResponse
from tools.__main__ import main
from tools.deploy import terraform
from tools.errors import ToolError, explain
from tools.local import patches
from tools.local.patches_queues import tasks_of
from tools.operate import compute, compute_fargate, logs, queues, redrive, saved, send, service
from tools.project import Environment

# SQS's message move tasks, among others.
patches.apply()

ACCOUNT = "123456789012"
REGION = "eu-central-1"
NAME = "order-events-dev"
QUEUES = {"queue": "", "dlq": "-dlq", "undelivered": "-undelivered"}
SOURCE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}-dlq"
EVENT = {"id": "e-1", "occurred_at": "2026-01-01T10:00:00Z", "data": {"card": "SECRET-4711"}}
ATTRIBUTES = {
    "event_type": {"DataType": "String", "StringValue": "order.created"},
    "correlation_id": {"DataType": "String", "StringValue": "c-1"},
}

TYPES = ("payment.*", "order.created")
ORDER = {
    "id": "e-1",
    "occurred_at": "2026-01-01T10:00:00Z",
    "data": {"order_id": "order-1", "total": "19.90"},
}

COMMANDS = [
    ["status"],
    ["logs", "--once"],
    ["publish"],
    ["dlq-peek"],
    ["undelivered-peek"],
    ["dlq-redrive"],
    ["undelivered-redrive"],
    ["replay", "--file", "saved.jsonl"],
    ["smoke"],
    ["versions"],
]


def own_clock(
    monkeypatch: pytest.MonkeyPatch, module: str, **functions: Callable[..., Any]
) -> None:
    """Replace functions of `time` in one module only: other tests' threads use them, too."""
    monkeypatch.setattr(f"{module}.time", SimpleNamespace(**{**vars(time), **functions}))


@dataclass
class Deployed:
    """A service on moto, as Terraform would have made it, and a way to run commands on it."""

    outputs: dict[str, str]
    package: Path
    urls: dict[str, str]
    capfd: pytest.CaptureFixture[str]

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run a command in this process; returns exit code, standard output, standard error."""
        self.capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = self.capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    def done(self, *arguments: str | Path) -> str:
        """Run a command that must succeed, and return what it says."""
        code, out, err = self.run(*arguments)
        assert (code, err) == (0, ""), err
        return out

    def refused(self, *arguments: str | Path) -> str:
        """Run a command that must not succeed, and return what it says on standard error."""
        code, _, err = self.run(*arguments)
        assert code == 1
        assert err.strip()
        return err

    def send(self, queue: str, *bodies: str, **attributes: Any) -> list[str]:
        """Send messages to a queue, to dlq as dead letters of the main one; return their ids."""
        ids = [
            client("sqs").send_message(
                QueueUrl=self.urls[queue],
                MessageBody=body,
                MessageAttributes=attributes or ATTRIBUTES,
            )["MessageId"]
            for body in bodies
        ]
        if queue == "dlq":
            for message in sqs_backends[ACCOUNT][REGION].queues[f"{NAME}-dlq"]._messages:
                message.source_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}"
        return ids

    def send_of_group(self, queue: str, body: str, group: str) -> None:
        """Send a message of a message group, as a producer for a fair queue does."""
        client("sqs").send_message(
            QueueUrl=self.urls[queue],
            MessageBody=body,
            MessageAttributes=ATTRIBUTES,
            MessageGroupId=group,
        )

    def bodies(self, queue: str) -> list[str]:
        """Receive all visible messages of a queue, without keeping others from seeing them."""
        return [message["Body"] for message in self.messages(queue)]

    def messages(self, queue: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while (
            received := client("sqs")
            .receive_message(
                QueueUrl=self.urls[queue],
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["MessageGroupId"],
                VisibilityTimeout=30,
            )
            .get("Messages")
        ):
            found += received
        for message in found:
            client("sqs").change_message_visibility(
                QueueUrl=self.urls[queue],
                ReceiptHandle=message["ReceiptHandle"],
                VisibilityTimeout=0,
            )
        return found

    def log(self, *lines: dict[str, Any] | str, ago: float = 1) -> None:
        """Write lines to the function's log, as of some seconds ago."""
        client("logs").put_log_events(
            logGroupName=f"/aws/lambda/{NAME}",
            logStreamName="stream",
            logEvents=[
                {
                    "timestamp": int((time.time() - ago) * 1000),
                    "message": line if isinstance(line, str) else json.dumps(line),
                }
                for line in lines
            ],
        )


@cache
def client(name: str) -> Any:
    """Return a client of boto3's; kept, since making one takes longer than most calls to moto."""
    return boto3.client(name, region_name=REGION)


def zip_of(code: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("handler.py", code)
    return file.getvalue()


def update_code() -> bytes:
    """Give the function other code, which is not live yet; returns its package."""
    package = zip_of("def handler(event, context): return {}\n")
    client("lambda").update_function_code(FunctionName=NAME, ZipFile=package)
    return package


def deploy(folder: Path, fifo: str = "") -> tuple[dict[str, str], Path, dict[str, str]]:
    """Make the service's resources; return Terraform's outputs, the package, the queues' URLs.

    :param fifo: .fifo for FIFO queues and a FIFO topic.
    """
    sqs, sns, lambda_ = client("sqs"), client("sns"), client("lambda")
    names = {key: NAME + end + fifo for key, end in QUEUES.items()}
    kind = {"FifoQueue": "true", "DeduplicationScope": "messageGroup"} if fifo else {}
    urls = {
        key: sqs.create_queue(QueueName=name, Attributes=kind)["QueueUrl"]
        for key, name in names.items()
    }
    urls["other"] = sqs.create_queue(QueueName="another-service")["QueueUrl"]
    arns = {key: f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" for key, name in names.items()}
    redrive = {"deadLetterTargetArn": arns["dlq"], "maxReceiveCount": 5}
    sqs.set_queue_attributes(
        QueueUrl=urls["queue"], Attributes={"RedrivePolicy": json.dumps(redrive)}
    )
    topic = sns.create_topic(
        Name=f"events-dev{fifo}", Attributes={"FifoTopic": "true"} if fifo else {}
    )["TopicArn"]
    policy = {"event_type": [{"prefix": "payment."}, "order.created"]}
    subscription = sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arns["queue"],
        Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps(policy)},
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:another-service"
    )

    settings = folder / "terraform" / "environments"
    settings.mkdir(parents=True)
    (settings / "dev.tfvars").write_text("memory_size = 256\n")
    package = folder / compute.ARTIFACT
    package.parent.mkdir()
    package.write_bytes(zip_of("def handler(event, context): ...\n"))
    role = client("iam").create_role(
        RoleName=NAME, AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}'
    )["Role"]["Arn"]
    made = lambda_.create_function(
        FunctionName=NAME,
        Role=role,
        Runtime="python3.13",
        Handler="handler.handler",
        Code={"ZipFile": package.read_bytes()},
        MemorySize=256,
        Timeout=30,
    )
    version = lambda_.publish_version(FunctionName=NAME, Description="commit abc")["Version"]
    lambda_.create_alias(FunctionName=NAME, Name="live", FunctionVersion=version)
    mapping = lambda_.create_event_source_mapping(
        EventSourceArn=arns["queue"], FunctionName=NAME, BatchSize=10
    )
    client("logs").create_log_group(logGroupName=f"/aws/lambda/{NAME}")
    client("logs").create_log_stream(logGroupName=f"/aws/lambda/{NAME}", logStreamName="stream")

    outputs = {
        "service_name": NAME,
        "service_arn": made["FunctionArn"],
        "log_group_name": f"/aws/lambda/{NAME}",
        "queue_name": names["queue"],
        "queue_url": urls["queue"],
        "dead_letter_queue_url": urls["dlq"],
        "dead_letter_queue_arn": arns["dlq"],
        "undelivered_queue_url": urls["undelivered"],
        "topic_arn": topic,
        "subscription_arn": subscription,
        "event_source_mapping_uuid": mapping["UUID"],
    }
    return outputs, package, urls


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, render: Render) -> Iterator[None]:
    """The service's files, no waiting, no credentials of the developer's, and a wrong region."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)
    for module in (redrive, logs, send, compute_fargate):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started this process
    service_folder = render(event_types=", ".join(TYPES))
    for name in ("pyproject.toml", ".python-version"):
        shutil.copy(service_folder / name, tmp_path)
    for name in ("events", "order_events"):
        shutil.copytree(service_folder / name, tmp_path / name)
    with working_in(tmp_path):
        yield
    for number, handler in handlers.items():  # main() has set its own
        signal.signal(number, handler)


@pytest.fixture
def new_clients() -> Iterator[None]:
    """Let clients be made anew, with this test's credentials and endpoint, and for it alone."""
    client.cache_clear()
    service.client.cache_clear()
    yield
    client.cache_clear()
    service.client.cache_clear()


@pytest.fixture
def deployed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployed]:
    with mock_aws(config={"lambda": {"use_docker": False}}):
        made = Deployed(*deploy(tmp_path), capfd)
        monkeypatch.setattr(terraform, "outputs", lambda environment: dict(made.outputs))
        yield made


##### Which service: Terraform's outputs, credentials, account


def test_nothing_deployed_or_outputs_of_an_older_version(deployed: Deployed) -> None:
    del deployed.outputs["log_group_name"]
    said = deployed.refused("logs")
    assert said.startswith("Terraform's outputs have no log_group_name. Run `make plan`, then")
    deployed.outputs.clear()
    for command in COMMANDS:
        said = deployed.refused(*command)
        todo = "run `make plan ENV=dev`, then `make apply ENV=dev`"
        assert said == f"Nothing is deployed in dev: {todo}.\n", command
    with pytest.raises(ToolError, match="still starting, wait until it says Listening"):
        service.deployed(Environment("local"))


def test_the_environment_is_the_one_that_make_exports(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(terraform, "outputs", asked.append)
    for name in ("", "dev", "prod"):
        monkeypatch.setenv("ENV", name)
        deployed.refused("status")
    assert [environment.name for environment in asked] == ["dev", "dev", "prod"]
    monkeypatch.setenv("ENV", "staging")
    assert deployed.refused("status") == "ENV is 'staging': it must be dev, prod or local.\n"


@pytest.mark.usefixtures("new_clients")
def test_no_credentials_is_one_sentence(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as signed_out:
        for name in [name for name in os.environ if name.startswith("AWS_") and "KEY" in name]:
            signed_out.delenv(name)
        signed_out.setattr(boto3, "DEFAULT_SESSION", None)
        for command in COMMANDS:
            said = deployed.refused(*command)
            assert said.startswith("There are no AWS credentials: sign in"), command
            assert len(said.splitlines()) == 1


def test_another_account_is_refused_before_anything_is_done(deployed: Deployed) -> None:
    for queue in ("dlq", "undelivered"):
        deployed.send(queue, "{}")
    arn = f"arn:aws:lambda:{REGION}:999999999999:function:{NAME}"
    deployed.outputs["service_arn"] = arn
    for command in COMMANDS:
        said = deployed.refused(*command)
        assert f"signed in to AWS account {ACCOUNT}, but {NAME} is in 999999999999" in said, command
        assert len(said.splitlines()) == 1
    assert [len(deployed.bodies(queue)) for queue in deployed.urls] == [0, 1, 1, 0]


def test_a_queue_that_is_gone_is_one_sentence(deployed: Deployed) -> None:
    for url in deployed.urls.values():
        client("sqs").delete_queue(QueueUrl=url)
    for command in ("dlq-peek", "undelivered-peek", "dlq-redrive", "undelivered-redrive", "smoke"):
        said = deployed.refused(command)
        assert "AWS has no such resource, though Terraform's outputs name it" in said, command
        assert len(said.splitlines()) == 1


def client_error(code: str) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": "Because."}}, "SendMessage")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (client_error("ExpiredToken"), "has expired: sign in again"),
        (client_error("InvalidClientTokenId"), "does not accept these credentials"),
        (client_error("AccessDeniedException"), "not allowed to call SendMessage: Because."),
        (client_error("ResourceNotFoundException"), "AWS has no such resource"),
        (client_error("ThrottlingException"), "SendMessage failed: Because. (ThrottlingException)"),
        (exceptions.MissingDependencyException(msg="crt"), 'run eval "$(aws configure export'),
        (exceptions.ProfileNotFound(profile="shop"), "AWS_PROFILE must name a profile"),
        (exceptions.UnauthorizedSSOTokenError(), "missing or has expired"),
        (
            exceptions.TokenRetrievalError(provider="sso", error_msg="expired"),
            "missing or has expired",
        ),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "cannot be reached"),
        (exceptions.ConnectTimeoutError(endpoint_url="https://x"), "cannot be reached"),
        (exceptions.UnknownServiceError(service_name="x", known_service_names="y"), "call to AWS"),
    ],
)
def test_errors_of_aws_are_explained(error: Any, said: str) -> None:
    assert said in explain(error)
    assert len(explain(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "variable", "value", "rule"),
    [
        ("dlq-redrive", "MAX_RATE", "0", "a whole number from 1 to 500"),
        ("dlq-redrive", "MAX_RATE", "501", "a whole number from 1 to 500"),
        ("dlq-peek", "MAX", "many", "a whole number from 1 to 10000"),
        ("undelivered-peek", "MAX", "1.5", "a whole number from 1 to 10000"),
        ("logs", "SINCE", "-1", "a number from 0 to 43200"),
        ("logs", "SINCE", "nan", "a number from 0 to 43200"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    variable: str,
    value: str,
    rule: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert main([command]) == 1
    assert capfd.readouterr().err == f"{variable} is '{value}': it must be {rule}.\n"


def test_an_empty_variable_counts_as_not_given(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [
        "MAX",
        "SAVE",
        "SINCE",
        "EVENT",
        "EVENT_TYPE",
        "BODY_FILE",
        "MAX_RATE",
        "CANCEL",
        "FILE",
    ]:
        monkeypatch.setenv(variable, "")
    deployed.send("dlq", "{}")
    deployed.done("dlq-peek")
    deployed.done("logs", "--once")
    deployed.done("publish")
    deployed.done("dlq-redrive")
    assert "make replay FILE=" in deployed.refused("replay")


def test_a_command_that_does_not_exist(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["destroy-all"]) == 1
    assert "No such command 'destroy-all'" in capfd.readouterr().err


##### logs


def test_logs_are_readable(deployed: Deployed) -> None:
    deployed.log(
        {"_aws": {"Timestamp": 1}, "MessagesFailed": [1.0]},
        {"type": "platform.start", "record": {"requestId": "r-1"}},
        {
            "level": "ERROR",
            "message": "Message failed",
            "service": NAME,
            "cold_start": True,
            "message_id": "m-1",
            "event_type": "order.created",
            "correlation_id": "c-1",
            "error": "ValueError",
            "stack": ["service.py:12 process"],
            "order": {"lines": 2},
        },
        {"level": "ERROR", "errorType": "ImportError", "errorMessage": "no module x"},
        {
            "type": "platform.report",
            "record": {"status": "timeout", "metrics": {"durationMs": 3000.1}},
        },
        {"type": "platform.report", "record": {"status": "success", "metrics": {"durationMs": 12}}},
        "not JSON\n",
    )
    said = deployed.done("logs", "--once").splitlines()
    texts = [line.partition("Z  ")[2] or line for line in said[1:]]
    assert texts == [
        "ERROR     Message failed  message_id=m-1  event_type=order.created  correlation_id=c-1"
        '  error=ValueError  order={"lines": 2}',
        "    service.py:12 process",
        "ERROR     ImportError: no module x",
        "ERROR     Invocation ended: timeout  durationMs=3000.1",
        "INFO      Invocation ended: success  durationMs=12",
        "not JSON",
    ]


def test_logs_begin_where_asked(deployed: Deployed) -> None:
    deployed.log("old", ago=300)
    assert deployed.done("logs", "--once", "--since", "1").endswith("No lines.\n")
    assert "old" in deployed.done("logs", "--once", "--since", "6")


def test_logs_follow_until_ctrl_c_and_show_each_line_once(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(3))

    def sleep(_seconds: float) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt
        deployed.log("later", ago=0)
        # One that comes late: it is older than what was shown before.
        deployed.log("late", ago=30)

    deployed.log("first")
    own_clock(monkeypatch, "tools.operate.logs", sleep=sleep)
    texts = [line.partition("Z  ")[2] for line in deployed.done("logs").splitlines()[2:]]
    assert sorted(texts) == ["first", "late", "late", "later", "later"]


def test_logs_of_a_log_group_that_is_gone(deployed: Deployed) -> None:
    client("logs").delete_log_group(logGroupName=f"/aws/lambda/{NAME}")
    assert "AWS has no such resource" in deployed.refused("logs")


##### publish


def test_publish_sends_a_message_that_the_service_takes(deployed: Deployed) -> None:
    said = deployed.done("publish")
    [message] = deployed.messages("queue")
    attributes = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
    assert attributes["event_type"] == "payment.example"
    assert attributes["correlation_id"] in said
    event = json.loads(message["Body"])
    assert event["id"] != "event-1"
    assert event["data"] == ORDER["data"]
    assert datetime.fromisoformat(event["occurred_at"]).tzinfo is not None
    assert "message id " in said


def test_publish_takes_type_and_body(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "it's a body.json"
    file.write_text(json.dumps(ORDER))
    monkeypatch.setenv("EVENT_TYPE", "order.created")
    monkeypatch.setenv("BODY_FILE", str(file))
    deployed.done("publish")
    [message] = deployed.messages("queue")
    assert json.loads(message["Body"]) == ORDER
    assert message["MessageAttributes"]["event_type"]["StringValue"] == "order.created"


@pytest.mark.parametrize(
    ("given", "event_type"),
    [
        ({"EVENT": "events/order.created.json"}, "order.created"),
        ({"EVENT": "events/order.created.json", "EVENT_TYPE": "payment.x"}, "payment.x"),
        ({"EVENT_TYPE": "order.created"}, "order.created"),
        ({"EVENT_TYPE": "payment.received"}, "payment.received"),
    ],
)
def test_publish_sends_a_sample_or_a_file_as_a_new_event(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], event_type: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    deployed.done("publish")
    [message] = deployed.messages("queue")
    assert message["MessageAttributes"]["event_type"]["StringValue"] == event_type
    body = json.loads(message["Body"])
    assert body["data"] == ORDER["data"]
    assert body["id"] != "event-1"


def test_publish_meets_the_filters_other_conditions(deployed: Deployed) -> None:
    policy = {
        "event_type": ["order.created"],
        "country": ["NL", "BE"],
        "shop": [{"prefix": "eu-"}],
        "size": [{"numeric": [">=", 5]}],
        "test": [{"exists": False}],
    }
    client("sns").set_subscription_attributes(
        SubscriptionArn=deployed.outputs["subscription_arn"],
        AttributeName="FilterPolicy",
        AttributeValue=json.dumps(policy),
    )
    deployed.done("publish", "--event-type", "order.created")
    [message] = deployed.messages("queue")
    assert message["MessageAttributes"]["size"]["DataType"] == "Number"
    assert set(message["MessageAttributes"]) == {*policy, "correlation_id"} - {"test"}


@pytest.mark.parametrize(
    "rule", [["=", 0], [">", 0], ["<", 5], ["<=", 5], [">", 0, "<=", 150], [">", 0, "<", 1]]
)
def test_publish_meets_every_kind_of_numeric_condition(
    deployed: Deployed, rule: list[str | int]
) -> None:
    client("sns").set_subscription_attributes(
        SubscriptionArn=deployed.outputs["subscription_arn"],
        AttributeName="FilterPolicy",
        AttributeValue=json.dumps({"event_type": ["order.created"], "size": [{"numeric": rule}]}),
    )
    deployed.done("publish", "--event-type", "order.created")
    assert len(deployed.bodies("queue")) == 1


def test_publish_of_a_type_without_a_sample(deployed: Deployed) -> None:
    said = deployed.refused("publish", "--event-type", "order.cancelled")
    expected = "write one to events/order.cancelled.json"
    assert said == f"There is no sample of order.cancelled: {expected}.\n"


def test_publish_tells_that_the_filter_keeps_a_type_away(deployed: Deployed) -> None:
    event = "events/order.created.json"
    said = deployed.done("publish", "--event-type", "order.cancelled", "--event", event)
    assert f"{NAME} does not get it" in said
    assert deployed.bodies("queue") == []
    assert len(deployed.bodies("other")) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{not", "body.json: JSON is malformed"),
        ("[]", "body.json: Expected `object`, got `array`. Nothing was published."),
        ('{"id": "1"}', "missing required field `occurred_at`"),
        (json.dumps({**ORDER, "id": ""}), "body.json: Expected `str` of length >= 1 - at `$.id`"),
    ],
)
def test_publish_refuses_a_body_that_no_subscriber_could_read(
    deployed: Deployed, tmp_path: Path, body: str, said: str
) -> None:
    file = tmp_path / "body.json"
    file.write_text(body)
    assert said in deployed.refused("publish", "--body-file", file)
    assert deployed.bodies("other") == []


def test_publish_of_a_file_that_is_missing(deployed: Deployed, tmp_path: Path) -> None:
    said = deployed.refused("publish", "--body-file", tmp_path / "x")
    assert said == f"Cannot read or write {tmp_path / 'x'}: No such file or directory.\n"


##### peek


def test_peek_shows_messages_and_leaves_them(deployed: Deployed) -> None:
    [message_id] = deployed.send("dlq", json.dumps(EVENT))
    said = deployed.done("dlq-peek")
    assert "1 of about 1 messages in order-events-dev-dlq" in said
    assert f"message id:  {message_id}" in said
    assert "received:    1 times" in said
    assert "correlation_id=c-1  event_type=order.created" in said
    assert "{id: text, occurred_at: text, data: {card: text}}" in said
    assert "SECRET" not in said
    # Visible again at once, and counted up.
    assert "received:    2 times" in deployed.done("dlq-peek")


def test_peek_says_why_from_the_log(deployed: Deployed) -> None:
    known, unknown = deployed.send("dlq", "{}", "not JSON")
    failure = {"level": "ERROR", "message": "Message failed", "message_id": known}
    deployed.log({**failure, "error": "first"}, ago=5)
    denied = {"error": "KeyError", "causes": "ClientError (PutItem: AccessDenied)"}
    deployed.log({**failure, **denied, "stack": ["service.py:3 process"]})
    deployed.log({"level": "INFO", "message": "Message processed", "message_id": unknown})
    first, second = deployed.done("dlq-peek").split("\n2. ")
    said = "Message failed  error=KeyError  causes=ClientError (PutItem: AccessDenied)"
    assert said in first
    assert "service.py:3 process" in first
    assert "errors in the log: 2" in first
    assert "the log has no error for this message" in second
    assert "8 bytes, not JSON" in second


def test_peek_goes_on_where_the_log_cannot_be_read(deployed: Deployed) -> None:
    deployed.send("dlq", "{}")
    client("logs").delete_log_group(logGroupName=f"/aws/lambda/{NAME}")
    assert "why:         FilterLogEvents: AWS has no such resource" in deployed.done("dlq-peek")


def test_peek_asks_the_log_about_many_messages(deployed: Deployed) -> None:
    for message_id in deployed.send("dlq", *["{}"] * 25):
        deployed.log({"level": "ERROR", "message": "Message failed", "message_id": message_id})
    said = deployed.done("dlq-peek", "--max", "25")
    assert said.count("Message failed") == 25


def test_peek_shows_no_more_than_asked(deployed: Deployed) -> None:
    deployed.send("dlq", *["{}"] * 25)
    said = deployed.done("dlq-peek", "--max", "12")
    assert "12 of about 25 messages" in said
    assert said.count("message id") == 12
    assert len(deployed.bodies("dlq")) == 25


def test_peek_gives_messages_back_after_ctrl_c(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.send("dlq", *["{}"] * 15)
    receive = queues.receive
    calls = iter(range(9))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return receive(*arguments)

    monkeypatch.setattr(queues, "receive", interrupted)
    assert deployed.run("dlq-peek")[0] == 130
    assert len(deployed.bodies("dlq")) == 15


@pytest.mark.parametrize("queue", ["dlq", "undelivered"])
def test_peek_of_an_empty_queue(deployed: Deployed, queue: str) -> None:
    assert deployed.refused(f"{queue}-peek") == f"{NAME}-{queue} is empty: nothing to do.\n"


def test_peek_of_messages_that_others_hold(deployed: Deployed) -> None:
    deployed.send("dlq", "{}")
    client("sqs").receive_message(QueueUrl=deployed.urls["dlq"], VisibilityTimeout=60)
    assert "no visible message; about 1 are in flight" in deployed.refused("dlq-peek")


def test_peek_recognises_an_envelope(deployed: Deployed) -> None:
    envelope = {"Type": "Notification", "TopicArn": "a", "Message": json.dumps(EVENT)}
    deployed.send("undelivered", json.dumps(envelope))
    said = deployed.done("undelivered-peek")
    assert "SNS envelope around {id: text" in said
    assert "why:" not in said


##### save and replay


def groups(messages: list[dict[str, Any]]) -> dict[str, str]:
    """Return the message groups of those messages that have one, by body."""
    found = {message["Body"]: message["Attributes"].get("MessageGroupId") for message in messages}
    return {body: group for body, group in found.items() if group}


def test_what_peek_saves_replay_sends_to_the_queue_and_never_to_the_topic(
    deployed: Deployed, tmp_path: Path
) -> None:
    binary = {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
    bodies = [json.dumps({**EVENT, "id": f"e-{n}"}) for n in range(12)] + ["Grüße\u2028\n{", "x"]
    deployed.send("dlq", *bodies, **ATTRIBUTES, trace=binary)
    deployed.send_of_group("dlq", "of tenant-1", "tenant-1")
    bodies.append("of tenant-1")
    file = tmp_path / "saved.jsonl"
    said = deployed.done("dlq-peek", "--save", file)
    assert f"Saved all 15 messages with their bodies to {file}" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.glob("*.part")) == []

    said = deployed.done("replay", "--file", file)
    assert f"Sent 15 of 15 messages from {file} to {NAME}" in said
    sent = deployed.messages("queue")
    assert sorted(message["Body"] for message in sent) == sorted(bodies)
    assert groups(sent) == {"of tenant-1": "tenant-1"}
    assert sent[0]["MessageAttributes"]["trace"]["BinaryValue"] == b"\x00\xff"
    assert sent[0]["MessageAttributes"]["event_type"]["StringValue"] == "order.created"
    assert len(deployed.bodies("dlq")) == 15
    assert deployed.bodies("other") == []


def test_a_saved_file_is_never_overwritten(deployed: Deployed, tmp_path: Path) -> None:
    deployed.send("dlq", "{}")
    file = tmp_path / "saved.jsonl"
    file.write_text("precious")
    assert "is not overwritten" in deployed.refused("dlq-peek", "--save", file)
    assert file.read_text() == "precious"


def test_a_file_that_cannot_be_written(deployed: Deployed, tmp_path: Path) -> None:
    deployed.send("dlq", "{}")
    said = deployed.refused("dlq-peek", "--save", tmp_path / "missing" / "saved.jsonl")
    assert "saved.jsonl.part: No such file" in said
    assert len(deployed.bodies("dlq")) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not JSON", "line 2 is not a saved message"),
        ("[]", "line 2 is not a saved message"),
        ('{"body": "x"}', "'message_attributes' is missing"),
        ('{"body": "", "message_attributes": {}}', "body must be text, and not empty"),
        ('{"body": 5, "message_attributes": {}}', "body must be text, and not empty"),
        ('{"body": "x", "message_attributes": []}', "line 2 is not a saved message"),
        (
            '{"body": "x", "message_attributes": {}, "message_group_id": 5}',
            "message_group_id must be text, or null",
        ),
        ('{"body": "x", "message_attributes": {"a": {"StringValue": "1"}}}', "attribute a must"),
    ],
)
def test_a_file_with_a_bad_line_is_refused(tmp_path: Path, line: str, said: str) -> None:
    file = save(tmp_path, "{}")
    file.write_text(f"{file.read_text()}\n{line}\n")
    with pytest.raises(ToolError, match=re.escape(said)):
        saved.read(file)


def test_replay_sends_nothing_of_a_file_with_a_bad_line(deployed: Deployed, tmp_path: Path) -> None:
    file = save(tmp_path, *["{}"] * 20)
    file.write_text(f"{file.read_text()}\n{{}}")
    assert "line 21 is not a saved message" in deployed.refused("replay", "--file", file)
    assert deployed.bodies("queue") == []


def test_replay_of_no_file_no_text_and_no_messages(deployed: Deployed, tmp_path: Path) -> None:
    file = tmp_path / "saved.jsonl"
    command = ("replay", "--file", file)
    assert f"Cannot read or write {file}: No such file" in deployed.refused(*command)
    file.write_bytes(b"\xff\xfe")
    assert "is not text" in deployed.refused(*command)
    file.write_text("\n")
    assert "holds no messages" in deployed.refused(*command)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., bool]], None]:
    """Make SQS refuse single calls."""

    def fail(operation: str, wanted: Callable[..., bool]) -> None:
        original = getattr(SQSBackend, operation)

        def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
            if wanted(*arguments):
                raise InvalidParameterValue("Planted")
            return original(self, *arguments, **named)

        monkeypatch.setattr(SQSBackend, operation, wrapped)

    return fail


def save(folder: Path, *bodies: str) -> Path:
    """Write a file as peek saves it."""
    file = folder / "saved.jsonl"
    lines = [json.dumps({"body": body, "message_attributes": {}}) for body in bodies]
    file.write_text("\n".join(lines))
    return file


def test_replay_names_what_was_not_sent(
    deployed: Deployed, tmp_path: Path, failing: Callable[..., None]
) -> None:
    file = save(tmp_path, *[f"b{n}" for n in range(12)])
    failing("send_message", lambda _queue, body, *_: body == "b3")
    code, out, err = deployed.run("replay", "--file", file)
    assert code == 1
    assert "Sent 11 of 12" in out
    assert err == "line 4 was not sent: SendMessage failed: Planted (InvalidParameterValue)\n"
    assert len(deployed.bodies("queue")) == 11


def test_replay_stops_where_nothing_can_be_sent_any_more(
    deployed: Deployed, tmp_path: Path, failing: Callable[..., None]
) -> None:
    file = save(tmp_path, *["good"] * 10, *["bad"] * 15)
    failing("send_message", lambda _queue, body, *_: body == "bad")
    code, out, err = deployed.run("replay", "--file", file)
    assert code == 1
    assert "Sent 10 of 25" in out
    assert "Stopped. Not sent, or not confirmed: all from line 21 on.\n" in out
    assert len(err.splitlines()) == 10


def test_replay_says_where_it_stopped(
    deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path, *map(str, range(22)))
    send = queues.send

    def stop(service_: Any, message: dict[str, Any]) -> None:
        if message["Body"] == "12":
            raise KeyboardInterrupt
        send(service_, message)

    monkeypatch.setattr(queues, "send", stop)
    code, out, _ = deployed.run("replay", "--file", file)
    assert code == 130
    there = sorted(map(int, deployed.bodies("queue")))
    assert f"Sent {len(there)} of 22" in out
    rest = re.search(r"Stopped. Not sent, or not confirmed: (.*)\.", out)
    assert rest is not None
    *holes, last = re.findall(r"line (\d+)", rest[1])
    assert rest[1].endswith(f"all from line {last} on")
    unsent = {int(hole) - 1 for hole in holes} | set(range(int(last) - 1, 22))
    assert sorted({*range(22)} - unsent) == there


##### dlq-redrive


def tasks() -> list[dict[str, Any]]:
    """Return what SQS says of the redrives so far, newest first."""
    listed = client("sqs").list_message_move_tasks(SourceArn=SOURCE, MaxResults=10)
    return list(listed["Results"])


def test_redrive_moves_everything_and_shows_how_far_it_is(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.send("dlq", "earlier")
    deployed.done("dlq-redrive")
    deployed.send("dlq", *[f"b{n}" for n in range(5)])
    listed, unlisted = SQSResponse.list_message_move_tasks, iter(range(2))

    def late(response: Any) -> Any:
        answer = listed(response)
        if len(answer.result["Results"]) and next(unlisted, None) is not None:
            # The new one is listed after a moment, and the earlier one must not be taken for it.
            answer.result["Results"] = [tasks_of(response.sqs_backend)[SOURCE][-1].shown()]
        return answer

    monkeypatch.setattr(SQSResponse, "list_message_move_tasks", late)
    said = deployed.done("dlq-redrive", "--max-rate", "50")
    assert "Moving order-events-dev-dlq's messages to order-events-dev, at most 50 a second" in said
    assert re.findall(r"(?m)^  moved \d of (\d)$", said)[-1] == "5"
    assert said.splitlines()[-2:] == [
        "  moved 5 of 5",
        f"Done: about 5 messages are back in {NAME}.",
    ]
    assert tasks()[0]["MaxNumberOfMessagesPerSecond"] == 50
    assert deployed.bodies("dlq") == []
    assert len(deployed.bodies("queue")) == 6


def test_redrive_of_an_empty_queue(deployed: Deployed) -> None:
    assert f"{NAME}-dlq is empty: nothing to do." in deployed.refused("dlq-redrive")
    assert tasks() == []


def test_redrive_shows_the_one_under_way_and_starts_no_other(deployed: Deployed) -> None:
    deployed.send("dlq", *["{}"] * 5)
    client("sqs").start_message_move_task(SourceArn=SOURCE, MaxNumberOfMessagesPerSecond=10)
    said = deployed.done("dlq-redrive")
    assert "under way already" in said
    assert "Done: about 5 messages" in said
    assert len(tasks()) == 1


def test_a_redrive_that_fails_says_why(deployed: Deployed) -> None:
    # SQS does not know where it belongs.
    client("sqs").send_message(QueueUrl=deployed.urls["dlq"], MessageBody="{}")
    said = deployed.refused("dlq-redrive")
    assert "ended as FAILED after about 0 messages: CouldNotDetermineMessageSource" in said
    assert deployed.bodies("dlq") == ["{}"]


def test_ctrl_c_leaves_the_redrive_to_sqs_and_cancel_stops_it(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.send("dlq", *["{}"] * 9)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tools.operate.redrive.time", SimpleNamespace(sleep=interrupted))
        code, out, _ = deployed.run("dlq-redrive", "--max-rate", "1")
    assert code == 130
    assert "SQS goes on" in out
    said = deployed.done("dlq-redrive", "--cancel")
    assert re.search(r"Cancelled after about [1-8] messages", said)
    assert tasks()[0]["Status"] in ("CANCELLING", "CANCELLED")
    assert "nothing to cancel" in deployed.refused("dlq-redrive", "--cancel")


##### undelivered-redrive


def test_undelivered_messages_are_sent_on_with_their_attributes(deployed: Deployed) -> None:
    bodies = [f"b{n}" for n in range(25)]
    deployed.send("undelivered", *bodies[1:])
    deployed.send_of_group("undelivered", "b0", "tenant-1")
    said = deployed.done("undelivered-redrive")
    assert f"Sent 25 messages of {NAME}-undelivered to {NAME}." in said
    sent = deployed.messages("queue")
    assert sorted(message["Body"] for message in sent) == sorted(bodies)
    assert groups(sent) == {"b0": "tenant-1"}
    assert sent[0]["MessageAttributes"]["correlation_id"]["StringValue"] == "c-1"
    assert deployed.bodies("undelivered") == []
    assert deployed.bodies("other") == []


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_undelivered_redrive_that_is_stopped_leaves_each_message_in_one_queue(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    bodies = [f"b{number}" for number in range(25)]
    deployed.send("undelivered", *bodies)
    send = queues.send

    def stop(_service: Any, message: dict[str, Any], **more: str) -> None:
        send(_service, message, **more)
        if message["Body"] == "b12":
            os.kill(os.getpid(), sent)

    monkeypatch.setattr(queues, "send", stop)
    with pytest.raises(SystemExit) as ended:
        deployed.run("undelivered-redrive")
    assert ended.value.code == 128 + sent
    assert 13 <= len(deployed.bodies("queue")) <= 20
    assert sorted(deployed.bodies("queue") + deployed.bodies("undelivered")) == sorted(bodies)


def test_undelivered_redrive_of_an_empty_queue(deployed: Deployed) -> None:
    assert "-undelivered is empty: nothing to do." in deployed.refused("undelivered-redrive")


def test_what_cannot_be_sent_on_is_not_deleted(
    deployed: Deployed, failing: Callable[..., None]
) -> None:
    ids = deployed.send("undelivered", *[f"b{n}" for n in range(25)])
    failing("send_message", lambda _queue, body, *_: body == "b3")
    code, out, err = deployed.run("undelivered-redrive")
    assert code == 1
    # It stops after these ten, and does not count up the receives of the others.
    assert "Sent 9 messages" in out
    assert err == f"{ids[3]} was not sent: SendMessage failed: Planted (InvalidParameterValue)\n"
    left = deployed.messages("undelivered")
    assert [one["Body"] for one in left] == ["b3", *(f"b{n}" for n in range(10, 25))]
    assert len(deployed.bodies("queue")) == 9


def test_what_cannot_be_deleted_is_named_and_sent_once(
    deployed: Deployed, failing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "HOLD_SECONDS", 0)  # it could be received again at once
    [message_id] = deployed.send("undelivered", "b")
    failing("delete_message", lambda *_: True)
    code, out, err = deployed.run("undelivered-redrive")
    assert code == 1
    assert "Sent 1 messages" in out
    assert f"{message_id} was sent but could not be deleted, so it is in both queues" in err
    assert deployed.bodies("queue") == ["b"]
    assert deployed.bodies("undelivered") == ["b"]


def test_nothing_is_deleted_when_sending_breaks_off(deployed: Deployed) -> None:
    deployed.send("undelivered", *["{}"] * 3)
    client("sqs").delete_queue(QueueUrl=deployed.urls["queue"])
    assert "AWS has no such resource" in deployed.refused("undelivered-redrive")
    assert len(deployed.bodies("undelivered")) == 3


##### status


def put_alarm(name: str, state: str) -> None:
    cloudwatch = client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        MetricName="Errors",
        Namespace="AWS/Lambda",
        Period=60,
        EvaluationPeriods=1,
        Statistic="Sum",
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="Because of a test.")


def put_age(seconds: float) -> None:
    """Put the age of the queue's oldest message, as of a minute ago."""
    client("cloudwatch").put_metric_data(
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": NAME}],
                "Value": seconds,
                "Timestamp": datetime.now(UTC) - timedelta(minutes=1),
            }
        ],
    )


def test_status_is_one_screen(deployed: Deployed) -> None:
    deployed.send("queue", *["{}"] * 3)
    client("sqs").receive_message(QueueUrl=deployed.urls["queue"], VisibilityTimeout=60)
    deployed.send("dlq", "{}")
    put_alarm(f"{NAME}-errors", "ALARM")
    put_alarm(f"{NAME}-throttles", "OK")
    put_alarm("another-errors", "ALARM")
    put_age(240)
    deployed.log({"level": "INFO", "message": "Message processed"})
    for number in range(8):
        deployed.log({"level": "ERROR", "message": f"Failed {number}", "stack": ["a.py:1"]})
    deployed.log({"level": "ERROR", "message": "long ago"}, ago=7200)
    said = deployed.done("status")
    digest = hashlib.sha256(deployed.package.read_bytes()).hexdigest()
    assert f"{NAME} in {REGION}, account {ACCOUNT}" in said
    assert "version 1 is live, Active; last update Successful" in said
    assert f"package {digest[:12]}, 256 MB memory, 30 s timeout" in said
    assert "feed:         Enabled" in said
    assert "queue:        2 waiting, 1 in flight, the oldest 4 min old" in said
    assert "dead letters: 1 in the queue: `make dlq-peek` shows them" in said
    assert "undelivered:  none" in said
    assert "alarms:       1 of 2 alarms firing" in said
    assert f"{NAME}-errors since" in said
    assert "Because of a test." in said
    assert f"{NAME}-throttles" not in said
    assert "another-errors" not in said
    assert [f"Failed {number}" in said for number in range(8)] == [False] * 3 + [True] * 5
    assert "long ago" not in said
    assert len(said.splitlines()) < 25


def test_status_of_a_service_at_rest(deployed: Deployed) -> None:
    put_alarm(f"{NAME}-errors", "OK")
    put_age(240)  # of a message that is done
    said = deployed.done("status")
    assert "queue:        0 waiting, 0 in flight\n" in said
    assert "0 of 1 alarms firing" in said
    assert "none in the last 60 min" in said


def test_commands_that_are_named_have_the_environment(deployed: Deployed) -> None:
    """What is pasted must not go to dev."""
    switch(enabled=False)
    deployed.send("dlq", "{}")
    for name, argument in {"dev": "", "prod": " ENV=prod"}.items():
        said = deployed.done("status", "--env", name)
        assert f"messages wait until `make resume{argument}`\n" in said
        assert f"1 in the queue: `make dlq-peek{argument}` shows them\n" in said
    assert "`make logs ENV=prod` shows" in deployed.done("publish", "--env", "prod")


def test_status_shows_that_the_mapping_is_off_or_missing(deployed: Deployed) -> None:
    switch(enabled=False)
    assert "Disabled" in deployed.done("status")
    remove_mapping()
    code, out, _ = deployed.run("status")
    assert code == 1
    assert "feed:         unknown: GetEventSourceMapping: AWS has no such resource" in out


def test_status_shows_the_rest_where_a_part_is_missing(deployed: Deployed) -> None:
    client("sqs").delete_queue(QueueUrl=deployed.urls["dlq"])
    code, out, _ = deployed.run("status")
    assert code == 1
    assert "dead letters: unknown: GetQueueAttributes: AWS has no such resource" in out
    assert "undelivered:  none" in out


def switch(enabled: bool) -> None:
    [mapping] = client("lambda").list_event_source_mappings()["EventSourceMappings"]
    client("lambda").update_event_source_mapping(UUID=mapping["UUID"], Enabled=enabled)


def remove_mapping() -> None:
    [mapping] = client("lambda").list_event_source_mappings()["EventSourceMappings"]
    client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])


##### smoke


@pytest.fixture
def worker(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Stand in for the function while `smoke` waits: take the message and log a line about it."""

    def work(line: dict[str, Any]) -> None:
        def sleep(_seconds: float) -> None:
            for message in deployed.messages("queue"):
                envelope = json.loads(message["Body"])
                assert envelope["MessageAttributes"]["event_type"]["Value"] == "smoke_test"
                assert isinstance(envelope["Message"], str)
                deployed.log({"message_id": message["MessageId"], **line}, ago=0)

        own_clock(monkeypatch, "tools.operate.send", sleep=sleep)

    return work


def test_smoke_waits_for_the_log(
    deployed: Deployed, worker: Callable[[dict[str, Any]], None]
) -> None:
    worker({"level": "INFO", "message": "Smoke test received"})
    said = deployed.done("smoke")
    assert "dist/lambda.zip is what live, version 1, runs" in said
    assert "Event source mapping: Enabled" in said
    assert f"{NAME} works" in said
    assert deployed.bodies("other") == []


def test_smoke_fails_when_the_function_does(
    deployed: Deployed, worker: Callable[[dict[str, Any]], None]
) -> None:
    worker({"level": "ERROR", "message": "Message failed", "error": "event_type is none of …"})
    said = deployed.refused("smoke")
    assert "failed on the smoke test: ERROR     Message failed" in said


def test_smoke_fails_when_nothing_comes_through(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.log({"level": "INFO", "message": "Smoke test received", "message_id": "another"})
    now = time.time
    clock = iter(range(0, 1000, 80))
    own_clock(monkeypatch, "tools.operate.send", time=lambda: now() + next(clock))
    said = deployed.refused("smoke")
    assert f"The log /aws/lambda/{NAME} does not show the smoke test" in said
    assert "1 messages waiting and 0 in flight" in said


def test_smoke_refuses_another_package(deployed: Deployed) -> None:
    deployed.package.write_bytes(b"another")
    assert "another package is deployed" in deployed.refused("smoke")
    deployed.package.unlink()
    assert "There is no dist/lambda.zip to compare with" in deployed.refused("smoke")
    assert deployed.bodies("queue") == []


def test_smoke_compares_with_what_live_runs_and_not_with_the_latest(deployed: Deployed) -> None:
    deployed.package.write_bytes(update_code())
    assert "another package" in deployed.refused("smoke")


def test_smoke_after_a_rollback_compares_no_package(
    deployed: Deployed, worker: Callable[[dict[str, Any]], None]
) -> None:
    worker({"level": "INFO", "message": "Smoke test received"})
    deployed.package.write_bytes(update_code())
    settings = Path("terraform/environments/dev.tfvars")
    settings.write_text('memory_size = 256\nlive_version = "1"\n')
    said = deployed.done("smoke")
    assert f"{settings} sets live_version, so dist/lambda.zip is not compared" in said
    assert f"{NAME} works" in said


def test_smoke_refuses_a_queue_that_nothing_reads(deployed: Deployed) -> None:
    switch(enabled=False)
    assert "The event source mapping is Disabled" in deployed.refused("smoke")
    remove_mapping()
    assert "GetEventSourceMapping: AWS has no such resource" in deployed.refused("smoke")
    assert deployed.bodies("queue") == []


def test_smoke_of_a_function_that_is_gone(deployed: Deployed) -> None:
    client("lambda").delete_function(FunctionName=NAME)
    assert "GetFunctionConfiguration: AWS has no such resource" in deployed.refused("smoke")


##### versions


def test_versions_are_listed_with_the_one_that_is_live(deployed: Deployed) -> None:
    code = update_code()
    client("lambda").publish_version(FunctionName=NAME, Description="commit def")
    newest, oldest = deployed.done("versions").splitlines()[1:]
    year = str(datetime.now(UTC).year)
    assert newest.split()[0] == "2"
    assert newest.split()[1].startswith(year)
    assert hashlib.sha256(code).hexdigest()[:12] in newest
    assert "live" not in newest
    assert newest.endswith("commit def")
    assert " live " in oldest
    assert oldest.endswith("commit abc")


def test_versions_show_how_a_gradual_release_is_shared_out(deployed: Deployed) -> None:
    update_code()
    client("lambda").publish_version(FunctionName=NAME)
    client("lambda").update_alias(
        FunctionName=NAME,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}},
    )
    said = deployed.done("versions")
    assert "live 90%" in said
    assert "live 10%" in said


def test_a_version_that_is_not_there_is_refused_with_the_list(deployed: Deployed) -> None:
    service_ = service.Service(deployed.outputs)
    compute.require_version(service_, "1")
    with pytest.raises(ToolError, match="There is no version 7"):
        compute.require_version(service_, "7")
    assert deployed.capfd.readouterr().out.count("commit abc") == 2


##### In a process of its own


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_clients: None
) -> Iterator[dict[str, str]]:
    """Deploy to moto's server, which other processes reach; return Terraform's outputs."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    # The server is in this process, and so is what an earlier test made.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    try:
        yield deploy(tmp_path)[0]
    finally:
        running.stop()


# The command line as make starts it, but for Terraform.
PROGRAM = """
import json, sys
from tools.__main__ import main
from tools.deploy import terraform
outputs = json.loads(sys.argv[1])
terraform.outputs = lambda environment: outputs
sys.exit(main(sys.argv[2:]))
"""


def test_ctrl_c_ends_logs_cleanly(server: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-B", "-c", PROGRAM, json.dumps(server), "logs"],
        env={**os.environ, "PYTHONPATH": str(SERVICE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("Log group /aws/lambda/order-events-dev")
        assert running.stdout.readline() == "Press Ctrl-C to stop.\n"
        client("logs").put_log_events(
            logGroupName=f"/aws/lambda/{NAME}",
            logStreamName="stream",
            logEvents=[{"timestamp": int(time.time() * 1000), "message": "hello"}],
        )
        watchdog = threading.Timer(120, running.kill)
        watchdog.start()
        assert running.stdout.readline().endswith("Z  hello\n")
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
        watchdog.cancel()
    assert (running.returncode, errors) == (0, "")


@pytest.mark.usefixtures("new_clients")
def test_aws_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
    monkeypatch.setattr(terraform, "outputs", lambda _: {"service_arn": arn})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["status"]) == 1
    assert capfd.readouterr().err.startswith("AWS cannot be reached")


def test_code_hashes_are_shown_as_make_package_prints_them() -> None:
    digest = hashlib.sha256(b"zip").digest()
    assert compute._hex(base64.b64encode(digest).decode()) == digest.hex()

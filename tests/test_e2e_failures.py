"""The service's end-to-end tests say at once why the code fails as a whole.

What Terraform deploys takes a minute. Here the local AWS has the queue alone, and what the tests
would ask it about the compute is given.
"""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Render, need, one_provider
from tools.deploy.mirror import PROVIDER, this_platform

pytestmark = pytest.mark.slow

CI = ("CI", "BUILD_NUMBER")

HEAD = """
import json
from pathlib import Path
from tests.e2e import compute
from tools.local import target
from tools.local.server import local_aws

compute.runnable = lambda: Path("lambda.zip")
ACTIONS = ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility"]
ALLOW = {
    "Effect": "Allow",
    "Action": [f"sqs:{name}" for name in ACTIONS],
    "Resource": "arn:aws:sqs:us-east-1:123456789012:main",
}
POLICY = {"Version": "2012-10-17", "Statement": [ALLOW]}
TRUST = {
    "Effect": "Allow",
    "Principal": {"Service": "lambda.amazonaws.com"},
    "Action": "sts:AssumeRole",
}
"""
LAMBDA = """
function = {"Handler": "handler.handler", "Timeout": 1, "MemorySize": 128, "FunctionName": "f"}
function["Environment"] = {"Variables": {"TABLE": "orders"}}
target.function_of = lambda *_: function
mapping = {"BatchSize": 10, "FunctionResponseTypes": ["ReportBatchItemFailures"]}
target.mapping_of = lambda *_: mapping
"""
FARGATE = """
settings = {
    "TABLE": "orders", "ENVIRONMENT": "dev", "POWERTOOLS_METRICS_NAMESPACE": "x",
    "QUEUE_URL": "", "AWS_DEFAULT_REGION": "us-east-1", "BATCH_SIZE": "10", "POLLERS": "1",
    "STOP_TIMEOUT": "6", "TIMEOUT": "1", "VISIBILITY_TIMEOUT": "30",
}
command = ["CMD", "python", "-c", "pass"]
target.container_of = lambda _, outputs: {
    "environment": [
        {"name": name, "value": value or outputs["queue_url"]} for name, value in settings.items()
    ],
    "healthCheck": {"command": command},
}
"""
TAIL = """
with local_aws("us-east-1") as aws:
    outputs = {"queue_url": aws.client("sqs").create_queue(QueueName="main")["QueueUrl"]}
    outputs["role_arn"] = aws.client("iam").create_role(
        RoleName="code", AssumeRolePolicyDocument=json.dumps(POLICY | {"Statement": TRUST})
    )["Role"]["Arn"]
    aws.client("iam").put_role_policy(
        RoleName="code", PolicyName="code", PolicyDocument=json.dumps(POLICY)
    )
    aws.client("sqs").send_message(QueueUrl=outputs["queue_url"], MessageBody="{}")
    added = {"PRICES": "here", "PYTHONPATH": PATH}
    with compute.running(aws, outputs, added, print) as drain:
        print(drain())
"""

GOOD = """
import os

def handler(event, context):
    print("got", os.environ["TABLE"], os.environ["PRICES"], flush=True)
"""
BATCH = """
import ctypes, os, time

def handler(event, context):
    print("working", flush=True)
    {}
"""

REFUSING = """
def handler(event, context):
    print("refused", flush=True)
    ids = [record["messageId"] for record in event["Records"]]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in ids]}
"""
IMPATIENT = """
run = compute.EventSource.run
compute.EventSource.run = lambda self, until, timeout: self.poll(1) and run(self, until, timeout=0)
"""

# By compute: the code, what is said of it, and what more.
FAILURES = {
    "lambda": [
        ("import no_such_module", "No module named 'no_such_module'", "ImportModuleError"),
        (BATCH.format("time.sleep(600)"), "Task timed out after 1.00 seconds", "working"),
        (BATCH.format("x = b'x' * 400_000_000; time.sleep(9)"), "Runtime.OutOfMemory", "working"),
        (BATCH.format("1 / 0"), "ZeroDivisionError: division by zero", "handler.py"),
    ],
    # The local run limits no memory.
    "fargate": [
        ("import no_such_module", "No module named 'no_such_module'", "handler.py:1"),
        (BATCH.format("time.sleep(600)"), "The handler timed out and was killed", "working"),
        (BATCH.format("os._exit(3)"), "The handler's process ended: status 3", "working"),
        (BATCH.format("1 / 0"), "The handler failed: ZeroDivisionError", "handler.py:6"),
    ],
}


# Imports what the scripts need of moto and boto3, once, and runs each script in a fork of it.
FORKS = """
import importlib
import json
import os
import sys

for name in ("boto3", "botocore.credentials", "flask_cors", "moto.server", "pytest"):
    importlib.import_module(name)
for name in ("dynamodb", "iam", "sns", "sqs", "sts"):
    importlib.import_module(f"moto.{name}.responses")
    importlib.import_module(f"moto.{name}.urls")
for line in sys.stdin:
    folder, script, *files = json.loads(line)
    process = os.fork()
    if not process:
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        sys.path[0] = folder
        exec(compile(script, "<string>", "exec"), {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
Run = Callable[[Path, str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run_script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return what runs a script in a folder, in a process of its own."""
    files = [tmp_path_factory.mktemp("printed") / name for name in ("stdout", "stderr")]
    with subprocess.Popen(
        [sys.executable, "-B", "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forks:

        def run_script(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
            assert forks.stdin
            assert forks.stdout
            print(json.dumps([str(folder), script, *map(str, files)]), file=forks.stdin, flush=True)
            code = int(forks.stdout.readline())
            return subprocess.CompletedProcess([], code, *(file.read_text() for file in files))

        yield run_script
        forks.stdin.close()


def run_chain(
    run_script: Run, service: Path, compute: str, handler: str, more: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the code in a package as the end-to-end tests do, for one message in the queue.

    :param more: what the script does before.
    """
    with zipfile.ZipFile(service / "lambda.zip", "w") as archive:
        archive.writestr("handler.py", handler)
        if compute == "fargate":
            archive.write(service / "worker.py", "worker.py")
    path = f"\nPATH = {sysconfig.get_path('purelib')!r}\n"
    script = HEAD + {"lambda": LAMBDA, "fargate": FARGATE}[compute] + path + more + TAIL
    return run_script(service, script)


@pytest.mark.parametrize("compute", FAILURES)
def test_code_that_works_gets_the_surroundings_too(
    run_script: Run, render: Render, compute: str
) -> None:
    done = run_chain(run_script, render(compute=compute), compute, GOOD)
    assert "got orders here" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("compute", "code", "said", "more"),
    [(compute, *failure) for compute, failures in FAILURES.items() for failure in failures],
)
def test_a_failure_is_said_with_the_log(
    run_script: Run, render: Render, compute: str, code: str, said: str, more: str
) -> None:
    done = run_chain(run_script, render(compute=compute), compute, code)
    assert done.returncode != 0
    failed = done.stderr[done.stderr.index("Failed: ") :]
    summary, _, log = failed.partition("Its log:\n")
    assert said in summary
    assert more in failed
    assert log.strip()


def test_a_queue_that_is_not_emptied_is_said_with_the_log(run_script: Run, render: Render) -> None:
    """The function fails each message by itself, and the time is over after one batch."""
    done = run_chain(run_script, render(), "lambda", REFUSING, IMPATIENT)
    failed = done.stderr[done.stderr.index("Failed: ") :]
    said = "Failed: After 120 seconds, 1 messages are still in the queue. The log:\nrefused\n"
    assert failed.startswith(said)


TABLE = """
import boto3

def handler(event, context):
    print("working", flush=True)
    table = boto3.client("dynamodb")
    try:
        table.put_item(TableName="orders", Item={"id": {"S": "1"}})
    except Exception as error:
        print(error, flush=True)
"""


PATIENT = {"lambda": 'function["Timeout"] = 60\n', "fargate": 'settings["TIMEOUT"] = "60"\n'}


@pytest.mark.parametrize("compute", FAILURES)
def test_a_forgotten_permission_is_said_with_its_action(
    run_script: Run, render: Render, compute: str
) -> None:
    """Even if the code goes on without what it was refused."""
    done = run_chain(run_script, render(compute=compute), compute, TABLE, PATIENT[compute])
    assert done.returncode != 0
    failed = done.stderr[done.stderr.index("Failed: ") :]
    where = "arn:aws:dynamodb:us-east-1:123456789012:table/orders"
    assert failed.startswith(
        f"Failed: The role code is not authorized to perform: dynamodb:PutItem on resource: {where}"
        " because no identity-based policy allows the dynamodb:PutItem action. If the code needs"
        " it, add it to added_permissions in terraform/service.tf."
    )


@pytest.mark.parametrize("compute", FAILURES)
def test_the_queue_is_read_with_the_codes_role(
    run_script: Run, render: Render, compute: str
) -> None:
    less = '\nALLOW["Action"].remove("sqs:ReceiveMessage")\n'
    done = run_chain(run_script, render(compute=compute), compute, GOOD, less)
    failed = done.stderr[done.stderr.index("Failed: ") :]
    assert "The role code is not authorized to perform: sqs:ReceiveMessage" in failed
    assert "got orders" not in done.stdout + done.stderr


# The chain's test, with a log that was written elsewhere.
CHAIN = """
import json
from types import SimpleNamespace
from tests.e2e import test_chain
from tools.local.server import local_aws

with local_aws("us-east-1") as aws:
    sns, sqs = aws.client("sns"), aws.client("sqs")
    topic = sns.create_topic(Name="events")["TopicArn"]
    arn = "arn:aws:sqs:us-east-1:123456789012:"
    sqs.create_queue(QueueName="dead")
    redrive = {"deadLetterTargetArn": arn + "dead", "maxReceiveCount": 5}
    url = sqs.create_queue(QueueName="main", Attributes={"RedrivePolicy": json.dumps(redrive)})
    filter_policy = json.dumps({"event_type": ["order.created"], "country": ["NL", "BE"]})
    subscription = sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn + "main", ReturnSubscriptionArn=True,
        Attributes={"RawMessageDelivery": "true", "FilterPolicy": filter_policy},
    )["SubscriptionArn"]
    outputs = {"topic_arn": topic, "queue_url": url["QueueUrl"], "subscription_arn": subscription}
    deployment = SimpleNamespace(aws=aws, outputs=outputs)

    def drain():
        assert aws.depth(outputs["queue_url"]) == 13
        return LOG

    test_chain.test_every_message_ends_where_it_belongs(deployment, drain, print)
"""


def test_a_sample_that_fails_is_said_with_its_error(run_script: Run, render: Render) -> None:
    """The messages meet the filter's other conditions, and the code may print what it likes."""
    line = {
        "level": "ERROR",
        "message": "Message failed",
        "error": "KeyError",
        "exception": 'Traceback:\n  File "service.py", line 7\nKeyError: 1\n',
    }
    log = [
        "{'not': 'JSON'}",
        "[1]",
        json.dumps(line | {"correlation_id": "poison"}),
        json.dumps(line | {"correlation_id": "good-1"}),
    ]
    script = f"LOG = {chr(10).join(log)!r}\n{CHAIN}"
    done = run_script(render(), script)
    said = done.stderr[done.stderr.index("Failed: ") :]
    assert said.startswith("Failed: The sample of order.created failed:\nERROR     Message failed")
    assert '\n      File "service.py", line 7\n    KeyError: 1\n' in said


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        (
            "batch_size = 0\n",
            ["  11: batch_size = 0\n", "batch_size must be a whole number from 1 to 10000, not 0."],
        ),
        ('colour = "red"\n', ['The root module does not declare a variable named "colour" but']),
    ],
    ids=["value", "name"],
)
def test_wrong_settings_are_said_once_in_terraforms_words(
    fresh: Render, settings: str, sentences: list[str]
) -> None:
    need("terraform")
    service = fresh()
    (service / "dist").mkdir()
    (service / "dist" / "lambda.zip").touch()
    with (service / "terraform" / "environments" / "dev.tfvars").open("a") as file:
        file.write(settings)
    with one_provider(service):
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "tests/e2e"],
            cwd=service,
            # In CI pytest says each failure twice.
            env={name: value for name, value in os.environ.items() if name not in CI},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    for sentence in sentences:
        assert done.stdout.count(sentence) == 1, done.stdout
    assert "1 error in " in done.stdout
    assert "apply" not in done.stdout.replace("test_a_plan_right_after_the_apply", "")


def test_too_old_a_provider_is_said_in_one_sentence(fresh: Render, tmp_path: Path) -> None:
    need("terraform")
    service = fresh(python_version="3.14")
    (tmp_path / PROVIDER / "5.100.0" / this_platform()).mkdir(parents=True)
    environment = {**os.environ, "TERRAFORM_PROVIDER_MIRROR": str(tmp_path)}
    environment.pop("TF_CLI_CONFIG_FILE", None)
    for command in (("pytest", "-p", "no:cacheprovider", "tests/e2e"), ("tools", "validate")):
        line = [sys.executable, "-B", "-m", *command]
        done = subprocess.run(line, cwd=service, env=environment, capture_output=True, text=True)
        assert done.returncode
        assert done.stdout == ""
        (said,) = done.stderr.strip().splitlines()
        assert f"The mirror {tmp_path} has the AWS provider 5.100.0, but this service needs" in said

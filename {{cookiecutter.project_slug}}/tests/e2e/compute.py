"""What the end-to-end tests have to know of Lambda."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lambda_runtime import LambdaRuntime
from tests.e2e.deployment import Deployment, Json, Say, WorkOff, built, depth, log_lines
from tests.local_aws.event_source import Batch, EventSource
from tests.local_aws.server import LocalAws

NAME = "Lambda"

# Instead of dev's values: what is in a real AWS account only, and the event source, which the tests
# are themselves.
VARIABLES: dict[str, object] = {
    "allowed_account_ids": [],
    "artifact_bucket": None,
    "paused": True,
    "layers": [],
    "live_version": None,
    "log_destination_arn": None,
    "permissions_boundary": None,
    "security_group_ids": [],
    "sns_topic_arn": None,
    "subnet_ids": [],
}

# Variables of the environment that have nothing to do with the handler.
NOT_THE_HANDLERS: set[str] = set()


def variables(_aws: LocalAws | None) -> dict[str, object]:
    """Return Terraform's variables. Without a local AWS there is nothing in it to be named."""
    return {**VARIABLES, "package_file": str(built("PACKAGE"))}


def mapping_of(aws: LocalAws, outputs: dict[str, str]) -> Json:
    """Return the event source mapping, as ListEventSourceMappings tells it."""
    (mapping,) = aws.client("lambda").list_event_source_mappings(
        EventSourceArn=outputs["queue_arn"]
    )["EventSourceMappings"]
    return dict(mapping)


def function_of(aws: LocalAws, outputs: dict[str, str]) -> Json:
    """Return what the mapping calls, as GetFunctionConfiguration tells it."""
    function_arn = mapping_of(aws, outputs)["FunctionArn"]
    return dict(aws.client("lambda").get_function_configuration(FunctionName=function_arn))


def environment_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, str]:
    """Return the function's environment variables."""
    return dict(function_of(aws, outputs)["Environment"]["Variables"])


@contextmanager
def running(deployment: Deployment, say: Say) -> Iterator[WorkOff]:
    """Run the packaged function as it is deployed, in a process of its own.

    The local AWS runs no functions, so the test is the event source: it takes messages from the
    queue as Lambda does, and hands them to that process.
    """
    package = built("RUNTIME_PACKAGE")
    if package != built("PACKAGE"):
        say(f"{package.name} is what runs: the same code, with this machine's wheels")
    aws, queue_url = deployment.aws, deployment.outputs["queue_url"]
    function = function_of(aws, deployment.outputs)
    mapping = mapping_of(aws, deployment.outputs)
    with LambdaRuntime(
        package,
        handler=function["Handler"],
        environment={**deployment.environment, "AWS_ENDPOINT_URL": aws.url},
        timeout=function["Timeout"],
        memory_size=function["MemorySize"],
        function_name=function["FunctionName"],
        region=aws.region,
    ) as runtime:
        sqs = aws.client("sqs")
        source = EventSource(
            sqs,
            queue_url,
            runtime,
            batch_size=mapping["BatchSize"],
            report_batch_item_failures="ReportBatchItemFailures"
            in mapping["FunctionResponseTypes"],
            retry_at_once=True,
        )

        def empty(_: list[Batch]) -> bool:
            return depth(sqs, queue_url) == 0

        def work_off() -> list[dict[str, Any]]:
            batches = source.run(empty, timeout=120)
            say(f"the event source handed {len(batches)} batches to the function")
            return log_lines("\n".join(batch.outcome.logs for batch in batches))

        yield work_off

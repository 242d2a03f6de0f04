"""What the end-to-end tests need to know about Lambda."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tools.build.package import runnable
from tools.display import describe_all
from tools.local import target
from tools.local.event_source import Batch, EventSource
from tools.local.runtime import Invocation, Runtime
from tools.local.server import LocalAws
from tools.operate.compute import ARTIFACT

Json = dict[str, Any]

NAME = "Lambda"

# The tests themselves are the event source.
{% if cookiecutter.__fifo %}
SETTINGS: Json = {"paused": True, "hold_failed_groups": False}
{% else %}
SETTINGS: Json = {"paused": True}
{% endif %}


def deployed_and_built(aws: LocalAws, outputs: dict[str, str]) -> tuple[Json, Json]:
    """Return the hash of the package that is deployed, and of the one that was built."""
    function = target.function_of(aws, outputs)
    digest = base64.b64encode(hashlib.sha256(ARTIFACT.read_bytes()).digest()).decode()
    return {"sha256": function["CodeSha256"]}, {"sha256": digest}


def failure(invocation: Invocation) -> str:
    """Return how an invocation failed as a whole: the error, its places, and the log."""
    error = invocation.error or {}
    places = "".join(error.get("stackTrace") or [])
    return (
        f"The function failed: {error.get('errorType')}: {error.get('errorMessage')}\n{places}\n"
        f"It took {invocation.figures()}. Its log:\n{describe_all(invocation.logs.splitlines())}"
    )


@contextmanager
def running(
    aws: LocalAws, outputs: dict[str, str], added: dict[str, str], say: Callable[[str], None]
) -> Iterator[Callable[[], str]]:
    """Run the packaged function as it is deployed, in a process of its own.

    The local AWS runs no functions, so the test is the event source: it takes messages from the
    queue as Lambda does, and hands them to that process. Both may do what the function's role may.
    """
    keys = aws.grant(outputs["role_arn"])
    package = runnable()
    if package != ARTIFACT:
        say(f"{package} runs: the same code, with wheels for this machine")
    function = target.function_of(aws, outputs)
    mapping = target.mapping_of(aws, outputs)
    with Runtime(
        package,
        handler=function["Handler"],
        environment={
            **target.environment_of(aws, outputs),
            "AWS_ENDPOINT_URL": aws.url,
            "LOCAL_RUN": "1",
            **keys,
            **added,
        },
        timeout=function["Timeout"],
        memory_size=function["MemorySize"],
        function_name=function["FunctionName"],
        region=aws.region,
    ) as runtime:
        responses = mapping["FunctionResponseTypes"]
        source = EventSource(
            aws.client("sqs", keys),
            outputs["queue_url"],
            runtime,
            batch_size=mapping["BatchSize"],
            report_batch_item_failures="ReportBatchItemFailures" in responses,
            retry_with=aws.client("sqs"),
{% if cookiecutter.__fifo %}
            retry_after=1,  # the other groups come first
{% endif %}
        )

        def empty(batches: list[Batch]) -> bool:
            if refused := aws.permissions.advice():
                pytest.fail(refused, pytrace=False)
            if batches and batches[-1].outcome.error is not None:
                pytest.fail(failure(batches[-1].outcome), pytrace=False)
            return aws.depth(outputs["queue_url"]) == 0

        def drain() -> str:
            try:
                batches = source.run(empty, timeout=120)
            except ClientError as error:
                pytest.fail(aws.permissions.advice() or str(error), pytrace=False)
            except TimeoutError:
                log = describe_all(runtime.log.read_text(encoding="utf-8").splitlines())
                left = f"{aws.depth(outputs['queue_url'])} messages are still in the queue"
                pytest.fail(f"After 120 seconds, {left}. The log:\n{log}", pytrace=False)
            say(f"the event source handed {len(batches)} batches to the function")
            for warning in {batch.outcome.warning for batch in batches} - {""}:
                say(warning)
            return "\n".join(batch.outcome.logs for batch in batches)

        yield drain

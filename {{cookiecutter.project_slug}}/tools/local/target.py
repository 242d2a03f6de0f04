"""What deploying to a local AWS needs to know about Lambda."""

from pathlib import Path
from typing import Any

from tools.local.server import LocalAws

# Instead of dev's settings: what only a real AWS account has, or what was set there for a while.
SETTINGS: dict[str, Any] = {
    "allowed_account_ids": [],
    "artifact_bucket": None,
    "canary_weight": 0,
    "layers": [],
    "live_version": None,
    "log_destination_arn": None,
    "message_age_alarm_in_seconds": 60,  # the least that there is, so that nobody waits
    "paused": False,
    "permissions_boundary": None,
    "security_group_ids": [],
    "sns_topic_arn": None,
    "subnet_ids": [],
}

# Environment variables that are not for the handler.
NOT_FOR_THE_HANDLER: set[str] = set()


def settings(_: LocalAws, package: Path) -> dict[str, Any]:
    """Return Terraform's variables."""
    return {**SETTINGS, "package_file": str(package.absolute())}


def mapping_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, Any]:
    """Return the event source mapping, as GetEventSourceMapping describes it."""
    uuid = outputs["event_source_mapping_uuid"]
    return dict(aws.client("lambda").get_event_source_mapping(UUID=uuid))


def function_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, Any]:
    """Return what the mapping invokes, as GetFunctionConfiguration describes it."""
    function_arn = mapping_of(aws, outputs)["FunctionArn"]
    return dict(aws.client("lambda").get_function_configuration(FunctionName=function_arn))


def environment_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, str]:
    """Return the function's environment variables."""
    return dict(function_of(aws, outputs)["Environment"]["Variables"])

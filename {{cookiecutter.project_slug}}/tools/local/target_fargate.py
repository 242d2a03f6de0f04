"""What deploying to a local AWS needs to know about Fargate."""

from pathlib import Path
from typing import Any

from tools.build.image import image_digest
from tools.local.server import LocalAws

# Instead of dev's settings: what only a real AWS account has, or what was set there for a while.
SETTINGS: dict[str, Any] = {
    "allowed_account_ids": [],
    "cluster_arn": None,
    "live_version": None,
    "log_destination_arn": None,
    "message_age_alarm_in_seconds": 60,  # the least that there is, so that nobody waits
    "paused": False,
    "permissions_boundary": None,
    "sns_topic_arn": None,
}

# Environment variables that are not for the handler.
NOT_FOR_THE_HANDLER = {
    "AWS_DEFAULT_REGION",
    "BATCH_SIZE",
    "POLLERS",
    "QUEUE_URL",
    "STOP_TIMEOUT",
    "TIMEOUT",
    "VISIBILITY_TIMEOUT",
}


def settings(aws: LocalAws, package: Path) -> dict[str, Any]:
    """Return Terraform's variables; the package stands for the image.

    The security group exists already: on a busy machine, Terraform has been seen to ask the local
    AWS twice for a rule of a group of its own, and to fail because the rule was there.
    """
    ec2 = aws.client("ec2")
    subnets, groups = ec2.describe_subnets(), ec2.describe_security_groups()
    return {
        **SETTINGS,
        "image_digest": image_digest(package),
        "subnet_ids": [subnet["SubnetId"] for subnet in subnets["Subnets"]],
        "security_group_ids": [groups["SecurityGroups"][0]["GroupId"]],
    }


def container_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, Any]:
    """Return the container in the task definition of the ECS service."""
    ecs = aws.client("ecs")
    (service,) = ecs.describe_services(
        cluster=outputs["cluster_name"], services=[outputs["service_name"]]
    )["services"]
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    (container,) = task["containerDefinitions"]
    return dict(container)


def environment_of(aws: LocalAws, outputs: dict[str, str]) -> dict[str, str]:
    """Return the container's environment variables."""
    variables = container_of(aws, outputs)["environment"]
    return {variable["name"]: variable["value"] for variable in variables}

"""Which service is meant, by Terraform's outputs, and the way to AWS."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, fields
from typing import Any

from tools.errors import ToolError
from tools.project import Environment


@functools.cache
def client(name: str, region: str) -> Any:
    """Return boto3's client for an AWS service, ``"sqs"`` for example: one per process."""
    # Imported only here: it takes longer than most commands.
    import boto3
    from botocore.config import Config

    # Seconds. A laptop without a network is told so soon, not after boto3's minute per try.
    config = Config(
        connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}
    )
    return boto3.client(name, region_name=region, config=config)


@dataclass(frozen=True)
class Service:
    """One deployed service: the names that Terraform's outputs give it."""

    service_name: str
    service_arn: str
    log_group_name: str
    queue_name: str
    queue_url: str
    queue_arn: str
    dead_letter_queue_url: str
    dead_letter_queue_arn: str
    undelivered_queue_url: str
    subscription_arn: str
    outputs: dict[str, str] = field(repr=False)

    @property
    def region(self) -> str:
        """The service's own region: the machine's default may be another."""
        return self.service_arn.split(":")[3]

    @property
    def account(self) -> str:
        """The number of the AWS account that the service is in."""
        return self.service_arn.split(":")[4]

    @property
    def topic_arn(self) -> str:
        """The topic's ARN: a subscription's ARN is its topic's, and an id."""
        return self.subscription_arn.rpartition(":")[0]

    def output(self, name: str) -> str:
        """Return an output that only one compute has.

        :raises ToolError: Terraform has no value for it.
        """
        return _value(self.outputs, name)

    def client(self, name: str) -> Any:
        """Return boto3's client for an AWS service in this service's region."""
        return client(name, self.region)


def _value(outputs: dict[str, str], name: str) -> str:
    if not outputs.get(name):
        raise ToolError(
            f"Terraform's outputs have no {name}. "
            "Run `make plan`, then `make apply`, to bring the outputs up to date."
        )
    return outputs[name]


def deployed(environment: Environment) -> Service:
    """Return the service that is deployed in an environment.

    :raises ToolError: nothing is deployed there, Terraform's outputs are those of an older version,
        or the credentials belong to another account.
    """
    from tools.deploy import terraform

    outputs = terraform.outputs(environment)
    if not outputs:
        raise ToolError(
            f"Nothing is deployed in {environment.name}: run `make plan`, then `make apply`."
        )
    names = [one.name for one in fields(Service) if one.name != "outputs"]
    service = Service(**{name: _value(outputs, name) for name in names}, outputs=outputs)
    if service.service_arn.count(":") < 5 or service.subscription_arn.count(":") != 6:
        raise ToolError("Terraform's outputs: service_arn and subscription_arn must be ARNs.")
    account = service.client("sts").get_caller_identity()["Account"]
    if account != service.account:
        raise ToolError(
            f"You are signed in to AWS account {account}, but {service.service_name} is in "
            f"{service.account}. Nothing was done: sign in to {service.account}, for example by "
            "setting AWS_PROFILE."
        )
    return service

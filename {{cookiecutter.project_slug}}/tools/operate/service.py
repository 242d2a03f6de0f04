"""Which service is meant, by Terraform's outputs, and the way to AWS."""

import functools
from typing import Any

from tools.errors import ToolError
from tools.project import Environment


@functools.cache
def client(name: str, region: str) -> Any:
    """Return boto3's client for an AWS service, ``"sqs"`` for example: one per process."""
    # Imported only here: it takes longer than most commands.
    import boto3
    from botocore.config import Config

    # Seconds. Without a network, this fails soon, not after boto3's minute per attempt.
    config = Config(
        connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}
    )
    return boto3.client(name, region_name=region, config=config)


class Service:
    """One deployed service. Terraform's outputs are its attributes, ``queue_url`` for example."""

    def __init__(self, outputs: dict[str, str]) -> None:
        self._outputs = outputs

    def __getattr__(self, name: str) -> str:
        if not self._outputs.get(name):
            raise ToolError(
                f"Terraform's outputs have no {name}. "
                "Run `make plan`, then `make apply`, to bring the outputs up to date."
            )
        return self._outputs[name]

    @property
    def region(self) -> str:
        """The service's own region: the machine's default may be another."""
        return self.service_arn.split(":")[3]

    @property
    def account(self) -> str:
        """The number of the AWS account that the service is in."""
        return self.service_arn.split(":")[4]

    def client(self, name: str) -> Any:
        """Return boto3's client for an AWS service in this service's region."""
        return client(name, self.region)


def deployed(environment: Environment) -> Service:
    """Return the service that is deployed in an environment.

    :raises ToolError: nothing is deployed there, or the credentials belong to another account.
    """
    from tools.deploy import terraform

    outputs = terraform.outputs(environment)
    if not outputs:
        raise ToolError(
            f"Nothing is deployed in {environment.name}: run `make plan`, then `make apply`."
        )
    service = Service(outputs)
    account = service.client("sts").get_caller_identity()["Account"]
    if account != service.account:
        raise ToolError(
            f"You are signed in to AWS account {account}, but {service.service_name} is in "
            f"{service.account}. Nothing was done: sign in to {service.account}, for example by "
            "setting AWS_PROFILE."
        )
    return service

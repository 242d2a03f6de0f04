"""Which service is meant, taken from Terraform's outputs, and the way to AWS."""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tools.errors import ToolError

# Seconds. A laptop without a network is told so soon, not after boto3's minute per try.
CLIENT_CONFIG = Config(
    connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}
)

@dataclass(frozen=True)
class Service:
    """One deployed service: the names that Terraform's outputs give it.

    On Lambda, function_name and function_arn are a function's, and the last three are empty; on
    Fargate they are an ECS service's.
    """

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
    cluster_name: str = ""
    task_definition_family: str = ""
    repository_url: str = ""
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name of what runs the code, and what all other names begin with."""
        return self.service_name

    @property
    def region(self) -> str:
        """Taken from the function, so that the machine's default region can't be the wrong one."""
        return self.service_arn.split(":")[3]

    @property
    def account(self) -> str:
        return self.service_arn.split(":")[4]

    @property
    def topic_arn(self) -> str:
        """A subscription's ARN is its topic's, and an id."""
        return self.subscription_arn.rpartition(":")[0]

    def client(self, name: str) -> Any:
        """Return boto3's client for an AWS service, ``"sqs"`` for example: one per process."""
        if name not in self._clients:
            self._clients[name] = boto3.client(name, region_name=self.region, config=CLIENT_CONFIG)
        return self._clients[name]

    def check_account(self) -> None:
        """Make sure that the credentials belong to the account that the service is in.

        :raises ToolError: they belong to another one.
        """
        account = self.client("sts").get_caller_identity()["Account"]
        if account != self.account:
            raise ToolError(
                f"You are signed in to AWS account {account}, but {self.name} is in "
                f"{self.account}. Nothing was done: sign in to {self.account}, for example by "
                "setting AWS_PROFILE."
            )


# The outputs that are read; Terraform has more.
OUTPUTS = tuple(output for output in fields(Service) if output.init)


def read_service(source: str) -> Service:
    """Read what ``terraform output -json`` printed.

    :param source: a file, or ``-`` for standard input.
    :raises ToolError: it can't be read, or it is not of a service that is deployed.
    """
    if source == "-":
        where, text = "terraform output -json", sys.stdin.read()
    else:
        where = source
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ToolError(f"{source}: can't read Terraform's outputs: {error}") from None
    if not text.strip():
        raise ToolError(f"{where} gave nothing: see Terraform's message above.")
    try:
        outputs = json.loads(text)
        values = {name: str(output["value"]) for name, output in outputs.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ToolError(f"{where}: not what `terraform output -json` prints.") from None
    if not values:
        raise ToolError(
            "Nothing is deployed in this environment: run `make plan`, then `make apply`."
        )
    missing = [o.name for o in OUTPUTS if o.default is MISSING and not values.get(o.name)]
    if missing:
        raise ToolError(
            f"{where}: no value for {', '.join(missing)}. "
            "Run `make plan`, then `make apply`, to bring the outputs up to date."
        )
    if values["service_arn"].count(":") < 5 or values["subscription_arn"].count(":") != 6:
        raise ToolError(f"{where}: service_arn or subscription_arn is not an ARN.")
    return Service(**{o.name: values[o.name] for o in OUTPUTS if o.name in values})

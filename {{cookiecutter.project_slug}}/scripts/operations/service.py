"""Which service is meant, taken from Terraform's outputs, and the way to AWS."""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

# Seconds. A laptop without a network is told so soon, not after boto3's minute per try.
CLIENT_CONFIG = Config(
    connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}
)

# What the AWS services call the same things.
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
NOT_ACCEPTED = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMS.AccessDeniedException",
}
GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFound",
    "ResourceNotFoundException",
}


class OperateError(Exception):
    """Something that the operator must know or do; the text is all that is shown."""


@dataclass(frozen=True)
class Service:
    """One deployed service: the names that Terraform's outputs give it.

    On Lambda, function_name and function_arn are a function's, and the last three are empty; on
    Fargate they are an ECS service's.
    """

    function_name: str
    function_arn: str
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
    def region(self) -> str:
        """Taken from the function, so that the machine's default region can't be the wrong one."""
        return self.function_arn.split(":")[3]

    @property
    def account(self) -> str:
        return self.function_arn.split(":")[4]

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

        :raises OperateError: they belong to another one.
        """
        account = self.client("sts").get_caller_identity()["Account"]
        if account != self.account:
            raise OperateError(
                f"You are signed in to AWS account {account}, but {self.function_name} is in "
                f"{self.account}. Nothing was done: sign in to {self.account}, for example by "
                "setting AWS_PROFILE."
            )


# The outputs that are read; Terraform has more.
OUTPUTS = tuple(output for output in fields(Service) if output.init)


def read_service(source: str) -> Service:
    """Read what ``terraform output -json`` printed.

    :param source: a file, or ``-`` for standard input.
    :raises OperateError: it can't be read, or it is not of a service that is deployed.
    """
    if source == "-":
        where, text = "terraform output -json", sys.stdin.read()
    else:
        where = source
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise OperateError(f"{source}: can't read Terraform's outputs: {error}") from None
    if not text.strip():
        raise OperateError(f"{where} gave nothing: see Terraform's message above.")
    try:
        outputs = json.loads(text)
        values = {name: str(output["value"]) for name, output in outputs.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise OperateError(f"{where}: not what `terraform output -json` prints.") from None
    if not values:
        raise OperateError(
            "Nothing is deployed in this environment: run `make plan`, then `make apply`."
        )
    missing = [o.name for o in OUTPUTS if o.default is MISSING and not values.get(o.name)]
    if missing:
        raise OperateError(
            f"{where}: no value for {', '.join(missing)}. "
            "Run `make plan`, then `make apply`, to bring the outputs up to date."
        )
    if values["function_arn"].count(":") < 5 or values["subscription_arn"].count(":") != 6:
        raise OperateError(f"{where}: function_arn or subscription_arn is not an ARN.")
    return Service(**{o.name: values[o.name] for o in OUTPUTS if o.name in values})


def explain(error: BotoCoreError | ClientError) -> str:
    """Say in one sentence what an error of boto3 means, and what to do."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "No AWS credentials: sign in, for example with `aws sso login`, or set AWS_PROFILE."
    if isinstance(error, ProfileNotFound):
        return f"{error}: AWS_PROFILE must name a profile in ~/.aws/config."
    if isinstance(error, SSOError | TokenRetrievalError | CredentialRetrievalError):
        return f"Your AWS sign-in is missing or has expired: sign in again. ({error})"
    if isinstance(error, HTTPClientError | ConnectionError):
        return f"AWS can't be reached: check the network, VPN and proxy. ({error})"
    if not isinstance(error, ClientError):
        return f"The call to AWS failed: {error}"

    code = error.response.get("Error", {}).get("Code", "")
    reason = error.response.get("Error", {}).get("Message", "") or code
    if code in EXPIRED:
        return "Your AWS sign-in has expired: sign in again."
    if code in NOT_ACCEPTED:
        return f"AWS does not accept these credentials: sign in again. ({reason})"
    if code in DENIED:
        return f"You are not allowed to call {error.operation_name}: {reason}"
    if code in GONE:
        return (
            f"{error.operation_name}: AWS does not find what Terraform's outputs name, so it was "
            f"removed by hand: `make plan` shows what is missing. ({reason})"
        )
    return f"{error.operation_name} failed: {reason} ({code})"

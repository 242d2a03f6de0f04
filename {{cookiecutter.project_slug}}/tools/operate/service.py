"""Which service is meant, by Terraform's outputs, and the way to AWS."""

import functools
import json
from typing import Any

from tools.errors import ToolError
from tools.project import Environment


@functools.cache
def client(name: str, region: str) -> Any:
    """Return boto3's client for an AWS service, ``"sqs"`` for example: one per process."""
    # Imported only here: it takes longer than most commands.
    import boto3
    from botocore.config import Config
    from botocore.parsers import ResponseParserError

    # Seconds. Without a network, this fails soon, not after boto3's minute per attempt.
    config = Config(
        connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}
    )
    made = boto3.client(name, region_name=region, config=config)

    def refuse_pages(operation_model: Any, response_dict: dict[str, Any], **_: object) -> None:
        # boto3 takes a proxy's page for an answer without content, such as "no messages". It
        # retries after a status from 500 on, which AWS also gives with a page.
        if response_dict["status_code"] >= 500 or not isinstance(response_dict["body"], bytes):
            return
        begin = response_dict["body"].lstrip()[:15].lower()
        is_json = "json" in operation_model.service_model.resolved_protocol
        if begin.startswith((b"<html", b"<!doctype html")) or (
            is_json and begin and not begin.startswith((b"{", b"["))
        ):
            raise ResponseParserError("not an answer of AWS")

    made.meta.events.register("before-parse", refuse_pages)
    return made


class Service:
    """One deployed service. Terraform's outputs are its attributes, ``queue_url`` for example."""

    def __init__(self, outputs: dict[str, str], environment: str = "dev") -> None:
        self._outputs = outputs
        self._environment = environment

    def __getattr__(self, name: str) -> str:
        if not self._outputs.get(name):
            raise ToolError(
                f"Terraform's outputs have no {name}. "
                f"Run {self.make('plan')}, then {self.make('apply')}, to bring them up to date."
                f"{_starting(self._environment)}"
            )
        return self._outputs[name]

    def make(self, target: str) -> str:
        """Return the command for a target of this environment, to be pasted."""
        other = "" if self._environment == "dev" else f" ENV={self._environment}"
        return f"`make {target}{other}`"

    @property
    def region(self) -> str:
        """The service's own region: the machine's default may be another."""
        return self.service_arn.split(":")[3]

    @property
    def account(self) -> str:
        """The number of the AWS account that the service is in."""
        return self.service_arn.split(":")[4]

    @property
    def commit(self) -> str:
        """The commit that was deployed last; empty if that is not known."""
        return self._outputs.get("commit", "")

    @property
    def at_commit(self) -> str:
        """That commit as text to put after the service's name."""
        return f" at commit {self.commit[:12]}" if self.commit else ""

    @property
    def settings(self) -> dict[str, Any] | None:
        """What `make rollback` and `make pause` have set; None if that is not known."""
        known: dict[str, Any] | None = json.loads(self._outputs.get("settings", "null"))
        return known

    def client(self, name: str) -> Any:
        """Return boto3's client for an AWS service in this service's region."""
        return client(name, self.region)


def _starting(environment: str) -> str:
    """Return what to do instead while `make local` is still deploying."""
    is_local = environment == "local"
    return " If `make local` is still starting, wait until it says Listening." if is_local else ""


def deployed(environment: Environment) -> Service:
    """Return the service that is deployed in an environment.

    :raises ToolError: nothing is deployed there, or the credentials belong to another account.
    """
    # Imported only here: `make package` needs none of it, and would take half as long again.
    from tools.deploy import terraform

    outputs = terraform.outputs(environment)
    if not outputs:
        raise ToolError(
            f"Nothing is deployed in {environment.name}: run `make plan ENV={environment.name}`, "
            f"then `make apply ENV={environment.name}`.{_starting(environment.name)}"
        )
    service = Service(outputs, environment.name)
    account = service.client("sts").get_caller_identity()["Account"]
    if account != service.account:
        raise ToolError(
            f"You are signed in to AWS account {account}, but {service.service_name} is in "
            f"{service.account}. Nothing was done: sign in to {service.account}, for example by "
            "setting AWS_PROFILE."
        )
    return service

"""What moto lacks of AWS, as far as this service's Terraform meets it.

Without these patches Terraform waits until it times out, or plans the same change for ever. Each
one is a function whose docstring says what AWS does. `apply` comes before moto's server starts.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.awslambda.models import LambdaBackend, LambdaFunction
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.sqs.models import Queue, SQSBackend


def replaces(owner: type, method: str) -> Callable[[Callable[..., Any]], None]:
    """Put the decorated function in the place of a method; it gets the original one first."""
    original = getattr(owner, method)

    def put(replacement: Callable[..., Any]) -> None:
        @functools.wraps(original)
        def call(*arguments: Any, **keywords: Any) -> Any:
            return replacement(original, *arguments, **keywords)

        setattr(owner, method, call)

    return put


def adds(owner: type, method: str) -> Callable[[Callable[..., Any]], None]:
    """Put the decorated function where there is no method of this name."""

    def put(added: Callable[..., Any]) -> None:
        setattr(owner, method, added)

    return put


def sqs_redrive_allow_policy() -> None:
    """SQS has the queue attribute RedriveAllowPolicy; setting it to "" takes it away."""
    Queue.BASE_ATTRIBUTES.append("RedriveAllowPolicy")

    @replaces(Queue, "_set_attributes")
    def set_attributes(original: Any, queue: Any, attributes: Any, now: Any = None) -> None:
        original(queue, attributes, now)
        queue.redrive_allow_policy = getattr(queue, "redrive_allow_policy", None) or None


def sqs_policy_is_kept() -> None:
    """SetQueueAttributes changes the attributes that it names, and leaves the policy otherwise."""

    @replaces(Queue, "_set_attributes")
    def set_attributes(original: Any, queue: Any, attributes: Any, now: Any = None) -> None:
        if "Policy" not in attributes:
            attributes = {**attributes, "Policy": queue.policy}
        original(queue, attributes, now)


def sqs_redrive_policy_is_compact() -> None:
    """GetQueueAttributes returns RedrivePolicy as JSON without white space."""

    @replaces(SQSBackend, "get_queue_attributes")
    def get_queue_attributes(original: Any, backend: Any, *arguments: Any) -> dict[str, Any]:
        attributes: dict[str, Any] = original(backend, *arguments)
        if policy := attributes.get("RedrivePolicy"):
            attributes["RedrivePolicy"] = json.dumps(json.loads(policy), separators=(",", ":"))
        return attributes


def lambda_logging_config() -> None:
    """A function has a LoggingConfig: its log's format, group and, with JSON, levels."""

    @replaces(LambdaFunction, "__init__")
    def init(
        original: Any, function: Any, account_id: str, spec: Any, region: str, version: Any = 1
    ) -> None:
        function.logging_config = spec.get("LoggingConfig") or {}
        original(function, account_id, spec, region, version)

    @replaces(LambdaFunction, "update_configuration")
    def update_configuration(original: Any, function: Any, updates: dict[str, Any]) -> Any:
        function.logging_config = updates.get("LoggingConfig") or function.logging_config
        return original(function, updates)

    @replaces(LambdaFunction, "get_configuration")
    def get_configuration(original: Any, function: Any, *arguments: Any, **more: Any) -> Any:
        given = function.logging_config
        levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
        defaults = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.function_name}"}
        return {
            **original(function, *arguments, **more),
            "LoggingConfig": {
                **defaults,
                **(levels if given.get("LogFormat") == "JSON" else {}),
                **given,
            },
        }


def lambda_event_source_mapping_of_an_alias() -> None:
    """A mapping made for an alias has the alias's ARN, not the one of the version behind it."""

    @replaces(LambdaBackend, "create_event_source_mapping")
    def create_event_source_mapping(original: Any, backend: Any, spec: dict[str, Any]) -> Any:
        mapping = original(backend, spec)
        if spec["FunctionName"].startswith("arn:"):
            mapping.function_arn = spec["FunctionName"]
        return mapping


def ecs_service_settings() -> None:
    """A service has what it was made with: its capacity providers, so no launch type, and whether
    its tasks are moved between availability zones; ENABLED, if nothing was said.
    """

    @replaces(EC2ContainerServiceResponse, "create_service")
    def create_service(original: Any, response: Any) -> Any:
        result = original(response)
        service = response.ecs_backend.describe_services(
            response._get_param("cluster"), [response._get_param("serviceName")]
        )[0][0]
        service.capacity_provider_strategy = response._get_param("capacityProviderStrategy")
        if service.capacity_provider_strategy:
            service.launch_type = None
        rebalancing = response._get_param("availabilityZoneRebalancing")
        service.availability_zone_rebalancing = rebalancing or "ENABLED"
        return result


def application_autoscaling_tags() -> None:
    """RegisterScalableTarget gives a scalable target tags, which ListTagsForResource lists."""

    @replaces(ApplicationAutoScalingResponse, "register_scalable_target")
    def register_scalable_target(original: Any, response: Any) -> str:
        result: str = original(response)
        for target in response.applicationautoscaling_backend.describe_scalable_targets(
            response._get_param("ServiceNamespace"), [response._get_param("ResourceId")], None
        ):
            target.tags = response._get_param("Tags") or getattr(target, "tags", {})
        return result

    @adds(ApplicationAutoScalingResponse, "list_tags_for_resource")
    def list_tags_for_resource(response: Any) -> str:
        backend = response.applicationautoscaling_backend
        targets = [target for by_id in backend.targets.values() for target in by_id.values()]
        arn = response._get_param("ResourceARN")
        return json.dumps({"Tags": next(t.tags for t in targets if t.arn == arn)})


PATCHES = (
    sqs_redrive_allow_policy,
    sqs_policy_is_kept,
    sqs_redrive_policy_is_compact,
    lambda_logging_config,
    lambda_event_source_mapping_of_an_alias,
    ecs_service_settings,
    application_autoscaling_tags,
)


@functools.cache
def apply() -> None:
    """Patch this process's moto; again is no harm."""
    for patch in PATCHES:
        patch()

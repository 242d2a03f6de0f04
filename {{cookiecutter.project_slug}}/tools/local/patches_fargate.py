"""What moto's ECS and Application Auto Scaling lack of AWS; see patches.py."""

import json
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.ecs.responses import EC2ContainerServiceResponse

from tools.local.patches import replaces


def ecs_service_settings() -> None:
    """A service keeps its capacity providers, which exclude a launch type, and its setting for
    moving tasks between availability zones, ENABLED by default.
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


def ecs_service_deployments() -> None:
    """ECS says how deployments went: well, here. Version 6 of the provider waits for that."""

    def list_service_deployments(response: Any) -> str:
        (service,), _ = response.ecs_backend.describe_services(
            response._get_param("cluster"), [response._get_param("service")]
        )
        arn = f"{service.arn}/{service.deployments[0]['id'].rpartition('/')[2]}"
        found = {
            "serviceDeploymentArn": arn.replace(":service/", ":service-deployment/"),
            "targetServiceRevisionArn": arn.replace(":service/", ":service-revision/"),
            "status": "SUCCESSFUL",
        }
        return json.dumps({"serviceDeployments": [found]})

    def describe_service_deployments(response: Any) -> str:
        arns = response._get_param("serviceDeploymentArns")
        found = [{"serviceDeploymentArn": arn, "status": "SUCCESSFUL"} for arn in arns]
        return json.dumps({"serviceDeployments": found})

    for operation in (list_service_deployments, describe_service_deployments):
        setattr(EC2ContainerServiceResponse, operation.__name__, operation)


def application_autoscaling_tags() -> None:
    """RegisterScalableTarget sets the tags that ListTagsForResource returns."""

    @replaces(ApplicationAutoScalingResponse, "register_scalable_target")
    def register_scalable_target(original: Any, response: Any) -> str:
        result: str = original(response)
        for target in response.applicationautoscaling_backend.describe_scalable_targets(
            response._get_param("ServiceNamespace"), [response._get_param("ResourceId")], None
        ):
            target.tags = response._get_param("Tags") or getattr(target, "tags", {})
        return result

    def list_tags_for_resource(response: Any) -> str:
        backend = response.applicationautoscaling_backend
        targets = [target for by_id in backend.targets.values() for target in by_id.values()]
        arn = response._get_param("ResourceARN")
        return json.dumps({"Tags": next(t.tags for t in targets if t.arn == arn)})

    ApplicationAutoScalingResponse.list_tags_for_resource = list_tags_for_resource  # type: ignore[attr-defined]


PATCHES = [ecs_service_settings, ecs_service_deployments, application_autoscaling_tags]

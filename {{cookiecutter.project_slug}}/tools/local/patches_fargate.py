"""What moto's ECS, Application Auto Scaling and SQS lack of AWS; see patches.py."""

import json
import select
import socket
import time
from typing import Any

import flask
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ecs.models import EC2ContainerServiceBackend, TaskDefinition
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.moto_api._internal import mock_random
from moto.sqs.models import SQSBackend

from tools.local.patches import replaces
from tools.local.permissions import credential

# Keys of tasks that `make local` has told to stop: they get no more messages.
STOPPING: set[str] = set()
# Keys that have been used to receive messages, and when messages were received last (time.time()).
RECEIVERS: set[str] = set()
RECEIVED: dict[str, float] = {}


@replaces(EC2ContainerServiceResponse, "create_service")
def ecs_service_settings(original: Any, response: Any) -> Any:
    """A service keeps its capacity providers, which exclude a launch type, and its setting for
    moving tasks between availability zones, ENABLED by default.
    """
    result = original(response)
    service = response.ecs_backend.describe_services(
        response._get_param("cluster"), [response._get_param("serviceName")]
    )[0][0]
    service.capacity_provider_strategy = response._get_param("capacityProviderStrategy")
    if service.capacity_provider_strategy:
        service.launch_type = None
    # Nothing waits for its tasks: `make local` starts one when all is deployed.
    service.running_count, service.pending_count = service.desired_count, 0
    service.deployments[0].update(runningCount=service.desired_count, pendingCount=0)
    service.deployments[0]["rolloutState"] = "COMPLETED"
    rebalancing = response._get_param("availabilityZoneRebalancing")
    service.availability_zone_rebalancing = rebalancing or "ENABLED"
    return result


@replaces(TaskDefinition, "__init__")
def ecs_task_definition_has_a_time(
    original: Any, definition: Any, *given: Any, **named: Any
) -> None:
    """DescribeTaskDefinition says when a revision was registered."""
    original(definition, *given, **named)
    definition.registered_at = utcnow()


@replaces(EC2ContainerServiceBackend, "update_service")
def ecs_update_is_a_deployment(original: Any, backend: Any, properties: dict[str, Any]) -> Any:
    """UpdateService with another task definition, or forced, makes a deployment with status
    PRIMARY. The one before it is ACTIVE as long as tasks of it run.

    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html
    """
    forced = properties.pop("force_new_deployment", False)
    service = original(backend, properties)
    before = service.deployments[0]
    service.task_definition = backend.describe_task_definition(service.task_definition).arn
    if forced or service.task_definition != before["taskDefinition"]:
        made = {
            "id": f"ecs-svc/{mock_random.randint(0, 32**12)}",
            "taskDefinition": service.task_definition,
            "createdAt": utcnow(),
            "updatedAt": utcnow(),
        }
        others = service.deployments if tasks_of(backend) else []
        service.deployments = [before | made, *(one | {"status": "ACTIVE"} for one in others)]
    return service


def tasks_of(backend: Any) -> list[dict[str, Any]]:
    """Return the tasks, running and stopped, that `make local` keeps in moto's ECS."""
    found: list[dict[str, Any]] = vars(backend).setdefault("tasks_here", [])
    return found


@replaces(EC2ContainerServiceResponse, "list_tasks")
def ecs_tasks(_original: Any, response: Any) -> ActionResult:
    """ListTasks names the tasks of a service that are to be running, or with desiredStatus those
    that are to be stopped.

    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html
    """
    status = response._get_param("desiredStatus") or "RUNNING"
    tasks = [task for task in tasks_of(response.ecs_backend) if task["desiredStatus"] == status]
    if service := response._get_param("serviceName"):
        tasks = [one for one in tasks if one["group"] == f"service:{service.rpartition('/')[2]}"]
    return ActionResult({"taskArns": [task["taskArn"] for task in tasks]})


@replaces(EC2ContainerServiceResponse, "describe_tasks")
def ecs_tasks_are_described(_original: Any, response: Any) -> ActionResult:
    """DescribeTasks says when tasks started and why they stopped."""
    ids = [arn.rpartition("/")[2] for arn in response._get_param("tasks")]
    tasks = tasks_of(response.ecs_backend)
    found = [task for task in tasks if task["taskArn"].rpartition("/")[2] in ids]
    return ActionResult({"tasks": found, "failures": []})


@replaces(EC2ContainerServiceResponse, "list_service_deployments")
def ecs_service_deployments(_original: Any, response: Any) -> str:
    """ECS says how deployments went: well, here. Version 6 of the provider waits for that."""
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


@replaces(EC2ContainerServiceResponse, "describe_service_deployments")
def ecs_service_deployments_are_described(_original: Any, response: Any) -> str:
    """DescribeServiceDeployments says that all of them went well."""
    arns = response._get_param("serviceDeploymentArns")
    found = [{"serviceDeploymentArn": arn, "status": "SUCCESSFUL"} for arn in arns]
    return json.dumps({"serviceDeployments": found})


@replaces(ApplicationAutoScalingResponse, "register_scalable_target")
def application_autoscaling_tags(original: Any, response: Any) -> str:
    """RegisterScalableTarget sets the tags that ListTagsForResource returns."""
    result: str = original(response)
    for target in response.applicationautoscaling_backend.describe_scalable_targets(
        response._get_param("ServiceNamespace"), [response._get_param("ResourceId")], None
    ):
        target.tags = response._get_param("Tags") or getattr(target, "tags", {})
    return result


@replaces(ApplicationAutoScalingResponse, "list_tags_for_resource")
def application_autoscaling_tags_are_listed(_original: Any, response: Any) -> str:
    """ListTagsForResource returns the tags of a scalable target."""
    backend = response.applicationautoscaling_backend
    targets = [target for by_id in backend.targets.values() for target in by_id.values()]
    arn = response._get_param("ResourceARN")
    return json.dumps({"Tags": next(target.tags for target in targets if target.arn == arn)})


@replaces(SQSBackend, "receive_message")
def sqs_receivers_that_are_gone(
    original: Any, backend: Any, name: str, most: int, wait: int, *more: Any
) -> Any:
    """ReceiveMessage gives nothing to a client that has hung up: on AWS too, a message is received
    by a request that is answered. And nothing to a task that ECS stops: it ends a poll at once.
    """
    environ = flask.request.environ if flask.has_request_context() else {}
    signed = credential(environ)
    if signed is None:  # asked in this process
        return original(backend, name, most, wait, *more)
    deadline, key, queue = time.monotonic() + wait, signed[1], backend.get_queue(name)
    RECEIVERS.add(key)
    if len(RECEIVED) > 1000:
        RECEIVED.clear()
    while not (key in STOPPING or has_hung_up(environ)):
        found = original(backend, name, most, 0, *more)
        RECEIVED.update((message.id, time.time()) for message in found)
        left = deadline - time.monotonic()
        if found or left <= 0:
            return found
        queue.wait_for_messages(min(left, 0.2))
    # Or it would ask again and again until it knows that it is to stop. Others get the lock.
    with queue._messages_lock:
        queue._messages_lock.wait(1)
    return []


def has_hung_up(environ: dict[str, Any]) -> bool:
    """Tell whether the client of a request waits for no answer any more."""
    connection = environ["werkzeug.socket"]
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)

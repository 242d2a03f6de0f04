"""An ECS service on Fargate: how it is, which versions it has, and whether it can work."""

from __future__ import annotations

import json
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.operate import logs
from tools.errors import ToolError
from tools.operate.service import Service

# Seconds that a smoke test waits at most: where no task runs, one has to be started first, three
# minutes until the alarm sees the message and two until the task works.
SMOKE_SECONDS = 900
POLL_SECONDS = 5.0
# Lines of `status` and `versions`.
STOPPED_SHOWN = 3
VERSIONS_SHOWN = 20

Answer = dict[str, Any]


def _service(service: Service) -> Answer:
    """Return ECS's description of the service.

    :raises ToolError: there is none.
    """
    found: list[Answer] = service.client("ecs").describe_services(
        cluster=service.cluster_name, services=[service.name]
    )["services"]
    if not found or found[0]["status"] != "ACTIVE":
        raise ToolError(
            f"There is no ECS service {service.name} in cluster {service.cluster_name}: "
            "run `make plan` to see what is missing."
        )
    return found[0]


def _primary(described: Answer) -> Answer:
    """Return the deployment that is to be in place."""
    deployments: list[Answer] = described["deployments"]
    return next(one for one in deployments if one["status"] == "PRIMARY")


def _task_definition(service: Service, name: str) -> Answer:
    """Return a task definition; name is its ARN, or family:revision."""
    answer: Answer = service.client("ecs").describe_task_definition(taskDefinition=name)
    definition: Answer = answer["taskDefinition"]
    return definition


def _digest(definition: Answer) -> str:
    """Return the digest of the image that a task definition runs."""
    return str(definition["containerDefinitions"][0]["image"]).rpartition("@")[2]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _revision(arn: str) -> str:
    return arn.rpartition(":")[2]


def _minute(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z" if at else "at an unknown time"


def _bounds(service: Service) -> tuple[int, int] | None:
    """Return how many tasks there are at least and at most; None without autoscaling."""
    targets = service.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="ecs",
        ResourceIds=[f"service/{service.cluster_name}/{service.name}"],
    )["ScalableTargets"]
    return (targets[0]["MinCapacity"], targets[0]["MaxCapacity"]) if targets else None


def image_digest(archive: Path) -> str:
    """Return the digest of the image in an OCI archive, as a registry would name it.

    :raises ToolError: it can't be read.
    """
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile("index.json")
            (image,) = json.load(file)["manifests"] if file else []
            return str(image["digest"])
    except FileNotFoundError:
        raise ToolError(f"There is no {archive}: run `make image`.") from None
    except OSError as error:
        raise ToolError(f"{archive}: can't read the image: {error.strerror or error}") from None
    except (tarfile.TarError, ValueError, KeyError, TypeError):
        raise ToolError(f"{archive}: is not the image that `make image` builds.") from None


def versions(service: Service, check: int | None = None) -> None:
    """Print the task definition's revisions, newest first, and which one is in place.

    :param check: a revision that must be among them, its image in the repository.
    :raises ToolError: it is not.
    """
    ecs, family = service.client("ecs"), service.task_definition_family
    pages = ecs.get_paginator("list_task_definitions").paginate(
        familyPrefix=family, status="ACTIVE", sort="DESC"
    )
    found = [
        arn
        for page in pages
        for arn in page["taskDefinitionArns"]
        if arn.rpartition("/")[2].rpartition(":")[0] == family
    ]
    found.sort(key=lambda arn: -int(_revision(arn)))
    in_place = {one["taskDefinition"]: one for one in _service(service)["deployments"]}

    print(f"Versions of {service.name}, times in UTC:")
    for arn in found[:VERSIONS_SHOWN]:
        definition = _task_definition(service, arn)
        deployment = in_place.get(arn)
        mark = f"live, {deployment['runningCount']} running" if deployment else ""
        row = (
            f"  {_revision(arn):>5}  {_minute(definition.get('registeredAt'))}"
            f"  {_short(_digest(definition))}  {mark}"
        )
        print(row.rstrip())
    if len(found) > VERSIONS_SHOWN:
        print(f"  and {len(found) - VERSIONS_SHOWN} older ones")
    if check is None:
        return
    wanted = [arn for arn in found if _revision(arn) == str(check)]
    if not wanted:
        raise ToolError(f"There is no version {check}: choose one of the list above.")
    digest = _digest(_task_definition(service, wanted[0]))
    if not _in_repository(service, digest):
        raise ToolError(
            f"The image of version {check}, {_short(digest)}, is no longer in "
            f"{service.repository_url}, so its tasks could not start: choose a newer one."
        )


def _in_repository(service: Service, digest: str) -> bool:
    registry, _, name = service.repository_url.partition("/")
    images = service.client("ecr").batch_get_image(
        registryId=registry.partition(".")[0],
        repositoryName=name,
        imageIds=[{"imageDigest": digest}],
    )["images"]
    return bool(images)


def check(service: Service, package: Path | None) -> None:
    """Make sure that the right image is deployed, and that tasks of it run or may be started.

    :param package: the image, an OCI archive, that must be what is deployed; not compared without.
    :raises ToolError: one of these is not so.
    """
    expected = image_digest(package) if package is not None else ""
    described = _service(service)
    definition = _task_definition(service, _primary(described)["taskDefinition"])
    deployed = _digest(definition)
    if package is not None:
        if expected != deployed:
            raise ToolError(
                f"{service.name} runs {deployed}, but {package} is {expected}: another "
                "image is deployed, or ECS has taken the release back (`make status`)."
            )
        print(f"Image: {package} is what version {definition['revision']} runs.")
    bounds = _bounds(service)
    if bounds is not None and bounds[1] == 0:
        raise ToolError(
            f"{service.name} is paused, so messages wait in {service.queue_name}: "
            "`make resume` starts its tasks again."
        )
    _wait_for_tasks(service)


def _wait_for_tasks(service: Service) -> None:
    """Wait until all tasks run that the deployment is to have, which may be none."""
    deadline = time.time() + SMOKE_SECONDS
    while True:
        deployment = _primary(_service(service))
        running, desired = deployment["runningCount"], deployment["desiredCount"]
        state = deployment.get("rolloutState", "COMPLETED")
        if state == "FAILED":
            reason = deployment.get("rolloutStateReason", "no reason given")
            raise ToolError(f"The deployment of {service.name} failed: {reason}")
        if running >= desired:
            break
        if time.time() > deadline:
            raise ToolError(
                f"Of {service.name} {running} of {desired} tasks run after "
                f"{SMOKE_SECONDS} s: `make status` says why others stopped."
            )
        time.sleep(POLL_SECONDS)
    print(f"Deployment: {state}, {running} of {desired} tasks run; more start with the backlog.")


def _service_status(service: Service) -> list[str]:
    described = _service(service)
    rows = [
        f"{described['runningCount']} tasks running, {described['desiredCount']} wanted, "
        f"{described['pendingCount']} starting"
    ]
    for deployment in described["deployments"]:
        definition = _task_definition(service, deployment["taskDefinition"])
        state = deployment.get("rolloutState", "COMPLETED")
        reason = deployment.get("rolloutStateReason", "") if state != "COMPLETED" else ""
        rows.append(
            f"version {definition['revision']}, image {_short(_digest(definition))}, "
            f"{definition.get('cpu', '?')} CPU units, {definition.get('memory', '?')} MB: "
            f"{deployment['status']}, {state}, {_minute(deployment.get('updatedAt'))}"
            + (f": {reason}" if reason else "")
        )
    return rows


def _scaling_status(service: Service) -> list[str]:
    bounds = _bounds(service)
    if bounds is None:
        return ["no autoscaling: the number of tasks stays as it is"]
    least, most = bounds
    if most == 0:
        return ["paused: no task runs; messages wait until `make resume`"]
    return [f"{least} to {most} tasks, by the backlog"]


def _stopped_status(service: Service) -> list[str]:
    """Return the tasks that stopped last, the latest first; ECS knows of the last hour or so."""
    ecs = service.client("ecs")
    arns = ecs.list_tasks(
        cluster=service.cluster_name, serviceName=service.name, desiredStatus="STOPPED"
    )["taskArns"]
    if not arns:
        return ["none lately"]
    tasks = ecs.describe_tasks(cluster=service.cluster_name, tasks=arns)["tasks"]
    never = datetime.min.replace(tzinfo=UTC)
    tasks.sort(key=lambda task: task.get("stoppedAt") or never, reverse=True)
    return [_stopped(task) for task in tasks[:STOPPED_SHOWN]]


def _stopped(task: Answer) -> str:
    at = task.get("stoppedAt")
    text = logs.clock(at.timestamp() * 1000) if at else "stopping"
    text += f"  {task.get('stoppedReason', 'no reason given')}"
    for container in task.get("containers", []):
        if "exitCode" in container:
            text += f", exit code {container['exitCode']}"
        if container.get("reason"):
            text += f", {container['reason']}"
    return text


SECTIONS = (
    ("service", _service_status),
    ("feed", _scaling_status),
    ("stopped", _stopped_status),
)

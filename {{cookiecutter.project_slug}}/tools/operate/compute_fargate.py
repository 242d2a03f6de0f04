"""An ECS service on Fargate: what is deployed, how it is doing, and which versions it has."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tools.errors import ToolError
from tools.operate import logs
from tools.operate.service import Service, deployed
from tools.project import Environment, environment_option

# What is built and deployed, and what it is built from besides the service's package.
ARTIFACT = Path("dist/image.tar")
CODE = ["handler.py", "worker.py"]
# Commands that only this compute has.
COMMANDS = {
    "image": "tools.build.image:image_command",
    "push": "tools.build.image:push_command",
    "registry": "tools.build.image:registry_command",
}
# The output that says what is deployed, and the variable that keeps it.
DEPLOYED = "image_digest"
# Values that count only where no other is given, to check settings before anything is built.
STAND_INS = {"image_digest": f"sha256:{0:064}", "subnet_ids": '["subnet-0"]'}
# The one resource that a rollback may change, and the one that a pause may.
DECIDES_ON_VERSION = "aws_ecs_service.this"
DECIDES_ON_PAUSE = "aws_appautoscaling_target.this"
# Settings that a rollback takes out.
ROLLBACK_CLEARS: list[str] = []
# Seconds that a smoke test waits at most: from zero, an alarm takes three minutes, a task two more.
SMOKE_SECONDS = 900
POLL_SECONDS = 5.0
# Lines of `status` and `versions`.
STOPPED_SHOWN = 3
VERSIONS_SHOWN = 20

Answer = dict[str, Any]


def artifact(environment: Environment) -> Path:
    """Return what is deployed in an environment: on a local AWS a package stands for the image."""
    from tools.build.package import PACKAGES, platform_here

    return PACKAGES[platform_here()] if environment.is_local else ARTIFACT


def build_artifact(environment: Environment) -> None:
    """Build what is deployed, unless it is up to date."""
    from tools.build.image import build_image
    from tools.build.package import runnable

    runnable() if environment.is_local else build_image()


def release_variables(environment: Environment) -> dict[str, str]:
    """Return the variables that a plan hands to Terraform: the built image's digest."""
    from tools.build.image import image_digest

    return {"image_digest": image_digest(artifact(environment))}


def checks() -> dict[str, Callable[[], str]]:
    """Return what `make doctor` checks besides what every service needs."""
    from tools.build.image import docker, skopeo

    return {"Docker": docker, "skopeo": skopeo}


def before_apply(environment: Environment) -> None:
    """Push the image: ECS starts tasks of it as soon as Terraform has applied the plan."""
    from tools.build.image import keep, push
    from tools.deploy import terraform

    if environment.is_local:
        keep(artifact(environment))
    else:
        push(ARTIFACT, terraform.outputs(environment).get("repository_url", ""))


def _service(service: Service) -> Answer:
    """Return ECS's description of the service.

    :raises ToolError: there is none.
    """
    cluster = service.cluster_name
    found: list[Answer] = service.client("ecs").describe_services(
        cluster=cluster, services=[service.service_name]
    )["services"]
    if not found or found[0]["status"] != "ACTIVE":
        raise ToolError(
            f"There is no ECS service {service.service_name} in cluster {cluster}: "
            f"run {service.make('plan')} to see what is missing."
        )
    return found[0]


def _primary(service: Service) -> Any:
    """Return the deployment that ECS is to bring about."""
    return next(one for one in _service(service)["deployments"] if one["status"] == "PRIMARY")


def _task_definition(service: Service, name: str) -> Any:
    """Return a task definition; name is its ARN, or family:revision."""
    return service.client("ecs").describe_task_definition(taskDefinition=name)["taskDefinition"]


def _digest(definition: Answer) -> str:
    """Return the digest of the image that a task definition runs."""
    return str(definition["containerDefinitions"][0]["image"]).rpartition("@")[2]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _minute(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z" if at else "at an unknown time"


def _bounds(service: Service) -> tuple[int, int] | None:
    """Return how many tasks there are at least and at most; None without autoscaling."""
    resource = f"service/{service.cluster_name}/{service.service_name}"
    targets = service.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="ecs", ResourceIds=[resource]
    )["ScalableTargets"]
    return (targets[0]["MinCapacity"], targets[0]["MaxCapacity"]) if targets else None


def versions(service: Service) -> set[str]:
    """Print the task definition's newest revisions, and which one is live; return all numbers."""
    family, ecs = service.task_definition_family, service.client("ecs")
    pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family)
    arns = [arn.split(f"/{family}:") for page in pages for arn in page["taskDefinitionArns"]]
    # Families that only begin with this name are listed too.
    found = sorted((one[1] for one in arns if len(one) == 2), key=int, reverse=True)
    deployments = _service(service)["deployments"]
    live = {one["taskDefinition"].rpartition(":")[2]: one for one in deployments}

    print(f"Versions of {service.service_name}{service.at_commit}, times in UTC:")
    for revision in found[:VERSIONS_SHOWN]:
        definition = _task_definition(service, f"{family}:{revision}")
        deployment = live.get(revision)
        mark = f"live, {deployment['runningCount']} running" if deployment else ""
        row = f"  {revision:>5}  {_minute(definition.get('registeredAt'))}"
        print(f"{row}  {_short(_digest(definition))}  {mark}".rstrip())
    if len(found) > VERSIONS_SHOWN:
        print(f"  and {len(found) - VERSIONS_SHOWN} older ones")
    return set(found)


def require_version(service: Service, version: str) -> None:
    """Print the versions, and make sure that this one can be put in place.

    :raises ToolError: there is no such version, or its image is gone.
    """
    from tools.build.image import kept

    if version not in versions(service):
        raise ToolError(f"There is no version {version}: choose one from the list above.")
    name = f"{service.task_definition_family}:{version}"
    digest = _digest(_task_definition(service, name))
    if kept(digest).is_file():  # on the local AWS
        return
    registry, _, repository = service.repository_url.partition("/")
    images = service.client("ecr").batch_get_image(
        registryId=registry.partition(".")[0],
        repositoryName=repository,
        imageIds=[{"imageDigest": digest}],
    )["images"]
    if not images:
        raise ToolError(
            f"The image of version {version}, {_short(digest)}, is no longer in "
            f"{registry}/{repository}, so its tasks could not start: choose a newer version."
        )


@click.command
@environment_option
def versions_command(environment: Environment) -> None:
    """List the versions, and which one is live."""
    versions(deployed(environment))


def check(service: Service, package: Path | None) -> None:
    """Make sure that the right image is deployed, and that tasks of it run or may be started.

    :param package: what was built, which must be what is deployed; not compared without.
    :raises ToolError: one of these is not so.
    """
    if package is not None:
        from tools.build.image import image_digest

        expected = image_digest(package)
        definition = _task_definition(service, _primary(service)["taskDefinition"])
        if expected != _digest(definition):
            raise ToolError(
                f"{service.service_name} runs {_digest(definition)}, but {package} is {expected}: "
                "another image is deployed, or ECS has rolled the release back "
                f"({service.make('status')})."
            )
        print(f"Image: {package} is what version {definition['revision']} runs.")
    bounds = _bounds(service)
    if bounds is not None and bounds[1] == 0:
        raise ToolError(
            f"{service.service_name} is paused, so messages wait in {service.queue_name}: "
            f"{service.make('resume')} starts its tasks again."
        )
    _wait_for_tasks(service)


def _wait_for_tasks(service: Service) -> None:
    """Wait until all tasks run that the deployment is to have, which may be none."""
    deadline = time.time() + SMOKE_SECONDS
    while True:
        deployment = _primary(service)
        running, desired = deployment["runningCount"], deployment["desiredCount"]
        state = deployment.get("rolloutState", "COMPLETED")
        if state == "FAILED":
            reason = deployment.get("rolloutStateReason", "no reason given")
            raise ToolError(f"The deployment of {service.service_name} failed: {reason}")
        if running >= desired:
            break
        if time.time() > deadline:
            raise ToolError(
                f"{running} of {desired} tasks of {service.service_name} run after "
                f"{SMOKE_SECONDS} s: {service.make('status')} says why others stopped."
            )
        time.sleep(POLL_SECONDS)
    print(f"Deployment: {state}, {running} of {desired} tasks run; more start with the backlog.")


def _service_status(service: Service) -> list[str]:
    described = _service(service)
    rows = [
        f"{described['runningCount']} of {described['desiredCount']} tasks running, "
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
        return [f"paused: no task runs; messages wait until {service.make('resume')}"]
    return [f"{least} to {most} tasks, by the backlog"]


def _stopped_status(service: Service) -> list[str]:
    """Return the tasks that stopped last, the latest first; ECS knows of the last hour or so."""
    ecs, cluster = service.client("ecs"), service.cluster_name
    arns = ecs.list_tasks(
        cluster=cluster, serviceName=service.service_name, desiredStatus="STOPPED"
    )["taskArns"]
    if not arns:
        return ["none recently"]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
    never = datetime.min.replace(tzinfo=UTC)
    tasks.sort(key=lambda task: task.get("stoppedAt") or never, reverse=True)
    return [_stopped(task) for task in tasks[:STOPPED_SHOWN]]


def _stopped(task: Answer) -> str:
    at = task.get("stoppedAt")
    reasons = [task.get("stoppedReason", "no reason given")]
    for container in task.get("containers", []):
        if "exitCode" in container:
            reasons.append(f"exit code {container['exitCode']}")
        if container.get("reason"):
            reasons.append(container["reason"])
    return f"{logs.clock(at.timestamp() * 1000) if at else 'stopping'}  {', '.join(reasons)}"


# This compute's part of `make status`: a title, and what finds out its lines.
SECTIONS = (
    ("service", _service_status),
    ("feed", _scaling_status),
    ("stopped", _stopped_status),
)

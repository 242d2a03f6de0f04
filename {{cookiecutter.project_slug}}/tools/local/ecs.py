"""The service on moto's ECS, in this process: what `make local` reads of it, and tells about it."""

from typing import Any

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.core.utils import utcnow
from moto.ecs.models import ecs_backends
from moto.moto_api._internal import mock_random

from tools.local.patches_fargate import tasks_of

KEPT = 20  # stopped tasks: ECS tells of those of an hour

Json = dict[str, Any]


class EcsService:
    """The ECS service of Terraform's outputs."""

    def __init__(self, outputs: dict[str, str]) -> None:
        """Find it in moto."""
        self.name, self.cluster = outputs["service_name"], outputs["cluster_name"]
        self.head = outputs["service_arn"].partition(":service/")[0]
        region, account = self.head.split(":")[3:]
        self.ecs: Any = ecs_backends[account][region]
        self.scaling: Any = applicationautoscaling_backends[account][region]

    @property
    def _service(self) -> Any:
        return self.ecs.services[f"{self.cluster}:{self.name}"]

    def exists(self) -> bool:
        """Tell whether it is there: `make destroy` removes it."""
        found = self.ecs.services.get(f"{self.cluster}:{self.name}")
        return found is not None and found.status == "ACTIVE"

    def most_tasks(self) -> int:
        """Return how many tasks Application Auto Scaling allows."""
        resource = [f"service/{self.cluster}/{self.name}"]
        targets = self.scaling.describe_scalable_targets("ecs", resource, None)
        return int(targets[0].max_capacity) if targets else 1

    def deployment(self) -> Json:
        """Return the deployment that ECS is to bring about."""
        found: Json = self._service.deployments[0]
        return found

    def definition(self) -> Any:
        """Return moto's task definition of that deployment."""
        return self.ecs.describe_task_definition(self.deployment()["taskDefinition"])

    def container(self) -> Json:
        """Return the container in that task definition."""
        (found,) = self.definition().container_definitions
        return dict(found)

    def is_newest(self) -> bool:
        """Tell whether that is the newest version."""
        family = self.ecs.task_definitions[self.definition().family]
        return bool(self.definition().revision == max(family))

    def new_task(self) -> Json:
        """Return what ECS says of a task of that deployment that starts now, and keep it."""
        task = mock_random.get_random_hex(32)
        definition, now = self.definition(), utcnow()
        made = {
            "taskArn": f"{self.head}:task/{self.cluster}/{task}",
            "clusterArn": self._service.cluster_arn,
            "taskDefinitionArn": definition.arn,
            "group": f"service:{self.name}",
            "startedBy": self.deployment()["id"],
            "launchType": "FARGATE",
            "desiredStatus": "RUNNING",
            "lastStatus": "RUNNING",
            "createdAt": now,
            "startedAt": now,
            "containers": [{"name": "worker", "lastStatus": "RUNNING"}],
        }
        tasks_of(self.ecs).append(made)
        return made

    def task_has_stopped(self, task: Json, exit_code: int) -> None:
        """Note that a task has ended, by itself if nobody has stopped it; forget the oldest."""
        if task["desiredStatus"] == "RUNNING":
            task["stopCode"] = "EssentialContainerExited"
            task["stoppedReason"] = "Essential container in task exited"
        task |= {"desiredStatus": "STOPPED", "lastStatus": "STOPPED", "stoppedAt": utcnow()}
        (container,) = task["containers"]
        container |= {"lastStatus": "STOPPED", "exitCode": exit_code}
        stopped = [one for one in tasks_of(self.ecs) if one["lastStatus"] == "STOPPED"]
        for old in stopped[:-KEPT]:
            tasks_of(self.ecs).remove(old)

    def count(self, wanted: int) -> None:
        """Count the tasks, of which so many are wanted."""
        service, kept = self._service, []
        running = [one for one in tasks_of(self.ecs) if one["lastStatus"] == "RUNNING"]
        for deployment in list(service.deployments):
            primary = deployment["status"] == "PRIMARY"
            number = sum(one["startedBy"] == deployment["id"] for one in running)
            desired = wanted if primary else 0
            done = "COMPLETED" if number >= desired else "IN_PROGRESS"
            deployment |= {"runningCount": number, "desiredCount": desired, "rolloutState": done}
            deployment |= {"pendingCount": max(0, desired - number)}
            kept += [deployment] if primary or number else []
        service.deployments = kept
        service.running_count, service.desired_count = len(running), wanted
        service.pending_count = kept[0]["pendingCount"]

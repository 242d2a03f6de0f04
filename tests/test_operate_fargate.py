"""The operator's commands where the service runs on Fargate: tools/operate on moto."""

import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tools.operate
from moto import mock_aws
from moto.ecs.models import Service, ecs_backends
from moto.ecs.responses import EC2ContainerServiceResponse
from test_operate import (  # noqa: F401
    ACCOUNT,
    COMMANDS,
    EVENT,
    NAME,
    REGION,
    Deployed,
    _quick,
    client,
    deploy,
    new_clients,
    own_clock,
)
from tools.build.image import image_digest, kept
from tools.deploy import terraform
from tools.errors import ToolError
from tools.operate import compute_fargate as compute
from tools.operate import send, status
from tools.operate import service as services
from tools.project import Environment

CLUSTER = "shared"
LOG_GROUP = f"/ecs/{NAME}"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{NAME}"
RESOURCE = f"service/{CLUSTER}/{NAME}"


@dataclass
class OnFargate(Deployed):
    """The same service with an ECS service for its function."""

    def log(self, *lines: dict[str, Any] | str, ago: float = 1) -> None:
        """Write lines to the tasks' log, as of some seconds ago."""
        at = int((time.time() - ago) * 1000)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        client("logs").put_log_events(
            logGroupName=LOG_GROUP,
            logStreamName="task/worker/1",
            logEvents=[{"timestamp": at, "message": text} for text in texts],
        )

    @property
    def service(self) -> Service:
        """Moto's own object, in which a test changes what AWS would."""
        (found,) = ecs_backends[ACCOUNT][REGION].services.values()
        return found

    @property
    def deployment(self) -> dict[str, Any]:
        found: dict[str, Any] = self.service.deployments[0]
        return found

    def release(self, image: Path) -> int:
        """Deploy another image; returns the revision."""
        revision = register(image_digest(image))
        client("ecs").update_service(
            cluster=CLUSTER, service=NAME, taskDefinition=f"{NAME}:{revision}"
        )
        self.service.deployments[:] = [{**self.deployment, "taskDefinition": arn(revision)}]
        return revision

    def bounds(self, least: int, most: int) -> None:
        """Set how many tasks the autoscaling allows."""
        client("application-autoscaling").register_scalable_target(
            ServiceNamespace="ecs",
            ResourceId=RESOURCE,
            ScalableDimension="ecs:service:DesiredCount",
            MinCapacity=least,
            MaxCapacity=most,
        )


def arn(revision: int) -> str:
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{NAME}:{revision}"


def image_of(folder: Path, text: str) -> Path:
    """Write an OCI archive, as far as its index goes, for an image that is in the repository."""
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "layers": [{"digest": text}],
        }
    )
    put = client("ecr").put_image(repositoryName=NAME, imageManifest=manifest, imageTag=text)
    digest = put["image"]["imageId"]["imageDigest"]
    index = json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest}]}).encode()
    file = folder / f"{text}.tar"
    with tarfile.open(file, "w") as tar:
        entry = tarfile.TarInfo("index.json")
        entry.size = len(index)
        tar.addfile(entry, io.BytesIO(index))
    return file


def register(digest: str) -> int:
    """Make a revision of the task definition; returns its number."""
    made = client("ecs").register_task_definition(
        family=NAME,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "worker", "image": f"{REPOSITORY}@{digest}"}],
    )
    revision: int = made["taskDefinition"]["revision"]
    return revision


@pytest.fixture(autouse=True)
def _on_fargate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this compute's module be `compute`, as it is in a service on Fargate."""
    monkeypatch.setitem(sys.modules, "tools.operate.compute", compute)
    for module in (tools.operate, send, status):
        monkeypatch.setattr(module, "compute", compute)


@pytest.fixture
def deployed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnFargate]:
    with mock_aws(config={"lambda": {"use_docker": False}}):
        outputs, _, urls = deploy(tmp_path)
        client("lambda").delete_function(FunctionName=NAME)
        client("logs").create_log_group(logGroupName=LOG_GROUP)
        client("logs").create_log_stream(logGroupName=LOG_GROUP, logStreamName="task/worker/1")
        client("ecr").create_repository(repositoryName=NAME)
        image = image_of(tmp_path, "first").rename(compute.ARTIFACT)
        client("ecs").create_cluster(clusterName=CLUSTER)
        register(image_digest(image))
        made = client("ecs").create_service(
            cluster=CLUSTER, serviceName=NAME, taskDefinition=NAME, desiredCount=0
        )
        service = OnFargate(outputs, image, urls, capfd)
        outputs.update(
            service_arn=made["service"]["serviceArn"],
            log_group_name=LOG_GROUP,
            cluster_name=CLUSTER,
            task_definition_family=NAME,
            repository_url=REPOSITORY,
        )
        del outputs["event_source_mapping_uuid"]
        monkeypatch.setattr(terraform, "outputs", lambda environment: outputs)
        service.bounds(0, 10)
        yield service


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the list of stopped tasks, as ECS describes them; moto starts none, so none stops."""
    tasks: list[dict[str, Any]] = []

    def list_tasks(_: Any) -> str:
        return json.dumps({"taskArns": [task["taskArn"] for task in tasks]})

    def describe_tasks(_: Any) -> str:
        return json.dumps({"tasks": tasks})

    monkeypatch.setattr(EC2ContainerServiceResponse, "list_tasks", list_tasks)
    monkeypatch.setattr(EC2ContainerServiceResponse, "describe_tasks", describe_tasks)
    return tasks


##### Which service


@pytest.mark.usefixtures("new_clients")
def test_no_credentials_and_another_account_are_one_sentence(
    deployed: OnFargate, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/{CLUSTER}/{NAME}"
    deployed.outputs["service_arn"] = ours.replace(ACCOUNT, "999999999999")
    for command in COMMANDS:
        said = deployed.refused(*command)
        assert f"signed in to AWS account {ACCOUNT}, but {NAME} is in 999999999999" in said, command
        assert len(said.splitlines()) == 1
    deployed.outputs["service_arn"] = ours
    with monkeypatch.context() as signed_out:
        signed_out.delenv("AWS_ACCESS_KEY_ID")
        signed_out.setattr("boto3.DEFAULT_SESSION", None)
        services.client.cache_clear()
        for command in COMMANDS:
            assert deployed.refused(*command).startswith("There are no AWS credentials: sign in"), (
                command
            )


def test_a_service_that_is_gone(deployed: OnFargate) -> None:
    client("ecs").delete_service(cluster=CLUSTER, service=NAME, force=True)
    for command in ("smoke", "versions"):
        said = deployed.refused(command)
        assert f"There is no ECS service {NAME} in cluster {CLUSTER}" in said
        assert len(said.splitlines()) == 1
    code, out, _ = deployed.run("status")
    assert code == 1
    assert "service:      unknown: There is no ECS service" in out
    assert "dead letters: none" in out


##### status


def test_status_is_one_screen(deployed: OnFargate, stopped: list[dict[str, Any]]) -> None:
    revision = deployed.release(deployed.package)
    deployed.service.desired_count, deployed.service.running_count = 3, 2
    deployed.deployment.update(
        rolloutState="IN_PROGRESS", rolloutStateReason="ECS deployment ecs-svc/1 in progress."
    )
    deployed.send("dlq", json.dumps(EVENT))
    deployed.log({"level": "ERROR", "message": "Message failed", "message_id": "m-1"})
    now = datetime.now(UTC)
    for minutes, reason in ((30, "Scaling activity"), (5, "Essential container in task exited")):
        stopped.append(
            {
                "taskArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{CLUSTER}/{minutes}",
                "stoppedAt": (now - timedelta(minutes=minutes)).timestamp(),
                "stoppedReason": reason,
                "containers": [{"exitCode": 137, "reason": "OutOfMemoryError"}],
            }
        )
    out = deployed.done("status")
    assert len(out.splitlines()) < 24
    assert "2 of 3 tasks running" in out
    digest = image_digest(deployed.package).removeprefix("sha256:")[:12]
    assert f"version {revision}, image {digest}, 256 CPU units, 512 MB: PRIMARY, IN_PROGRESS" in out
    assert "feed:         0 to 10 tasks, by the backlog" in out
    first, second = (out.index(reason) for reason in ("Essential container", "Scaling activity"))
    assert first < second
    assert "Essential container in task exited, exit code 137, OutOfMemoryError" in out
    assert "1 in the queue: `make dlq-peek` shows them" in out
    assert "ERROR     Message failed  message_id=m-1" in out


def test_status_of_a_service_that_is_paused(deployed: OnFargate) -> None:
    deployed.bounds(0, 0)
    out = deployed.done("status")
    assert "paused: no task runs; messages wait until `make resume`" in out
    assert "stopped:      none recently" in out


def test_status_without_autoscaling(deployed: OnFargate) -> None:
    client("application-autoscaling").deregister_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=RESOURCE,
        ScalableDimension="ecs:service:DesiredCount",
    )
    assert "no autoscaling" in deployed.done("status")


##### The queues and the log


def test_peek_says_why_from_the_tasks_log(deployed: OnFargate) -> None:
    (message_id,) = deployed.send("dlq", json.dumps(EVENT))
    deployed.log(
        {"level": "ERROR", "message": "Message failed", "message_id": message_id, "error": "Boom"},
    )
    said = deployed.done("dlq-peek")
    assert "why:         ERROR     Message failed  error=Boom" in said
    assert "SECRET" not in said


def test_logs_are_the_tasks(deployed: OnFargate) -> None:
    deployed.log({"level": "INFO", "message": "Message processed", "message_id": "m-1"}, "plain")
    said = deployed.done("logs", "--once")
    assert f"Log group {LOG_GROUP}" in said
    assert "Message processed  message_id=m-1" in said
    assert "plain" in said


##### versions


def test_versions_are_listed_with_the_one_that_is_live(deployed: OnFargate, tmp_path: Path) -> None:
    client("ecs").register_task_definition(
        family=f"{NAME}-other", containerDefinitions=[{"name": "x", "image": "x", "memory": 64}]
    )
    second = image_of(tmp_path, "second")
    deployed.release(second)
    register(image_digest(deployed.package))
    deployed.deployment["runningCount"] = 2
    newest, live, oldest = deployed.done("versions").splitlines()[1:]
    assert newest.split()[0] == "3"
    assert live.split()[0] == "2"
    assert oldest.split()[0] == "1"
    assert image_digest(second).removeprefix("sha256:")[:12] in live
    assert live.endswith("live, 2 running")
    assert "live" not in newest + oldest


def test_many_versions_are_cut_short(deployed: OnFargate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "VERSIONS_SHOWN", 1)
    register(image_digest(deployed.package))
    assert deployed.done("versions").endswith("  and 1 older ones\n")


def test_a_version_that_cannot_be_put_in_place_is_refused(
    deployed: OnFargate, tmp_path: Path
) -> None:
    service = services.Service(deployed.outputs)
    compute.require_version(service, "1")
    with pytest.raises(ToolError, match="There is no version 7: choose one from the list above"):
        compute.require_version(service, "7")
    assert deployed.capfd.readouterr().out.count("  1  ") == 2
    deployed.release(image_of(tmp_path, "second"))
    client("ecr").batch_delete_image(repositoryName=NAME, imageIds=[{"imageTag": "first"}])
    with pytest.raises(ToolError, match=f"The image of version 1, .* is no longer in {REPOSITORY}"):
        compute.require_version(service, "1")


def test_on_the_local_aws_a_package_stands_for_the_image(deployed: OnFargate) -> None:
    local = Environment("local")
    package = compute.artifact(local)
    package.write_bytes(b"of version 2")
    digest = compute.release_variables(local)["image_digest"]
    assert digest == f"sha256:{hashlib.sha256(b'of version 2').hexdigest()}"
    compute.before_apply(local)
    package.write_bytes(b"of version 3")
    assert register(digest) == 2
    service = services.Service(deployed.outputs)
    compute.require_version(service, "2")  # although ECR has no such image
    assert kept(digest).read_bytes() == b"of version 2"
    kept(digest).unlink()
    with pytest.raises(ToolError, match="The image of version 2"):
        compute.require_version(service, "2")


##### smoke


@pytest.fixture
def worker(deployed: OnFargate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the worker while `smoke` waits: take the message and log a line about it."""

    def sleep(_seconds: float) -> None:
        for message in deployed.messages("queue"):
            line = {"level": "INFO", "message": "Smoke test received"}
            deployed.log({**line, "message_id": message["MessageId"]}, ago=0)

    own_clock(monkeypatch, "tools.operate.send", sleep=sleep)


@pytest.mark.usefixtures("worker")
def test_smoke_waits_for_the_log(deployed: OnFargate) -> None:
    said = deployed.done("smoke")
    assert "dist/image.tar is what version 1 runs" in said
    assert "0 of 0 tasks run" in said
    assert f"{NAME} works" in said


def test_smoke_refuses_another_image(deployed: OnFargate, tmp_path: Path) -> None:
    other = image_of(tmp_path, "other").rename(compute.ARTIFACT)
    said = deployed.refused("smoke")
    assert f"but dist/image.tar is {image_digest(other)}: another image is deployed" in said
    for content in (b"no archive", b""):
        other.write_bytes(content)
        assert "is not the image that" in deployed.refused("smoke")
    other.unlink()
    assert deployed.refused("smoke") == "There is no dist/image.tar: run `make image`.\n"
    assert deployed.bodies("queue") == []


def test_smoke_refuses_a_service_that_is_paused(deployed: OnFargate) -> None:
    deployed.bounds(0, 0)
    assert f"{NAME} is paused" in deployed.refused("smoke")
    assert deployed.bodies("queue") == []


def test_smoke_refuses_a_deployment_that_failed(deployed: OnFargate) -> None:
    deployed.deployment.update(rolloutState="FAILED", rolloutStateReason="tasks failed to start")
    assert f"The deployment of {NAME} failed: tasks failed to start" in deployed.refused("smoke")
    assert deployed.bodies("queue") == []


def test_smoke_gives_up_when_the_tasks_do_not_start(
    deployed: OnFargate, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.deployment.update(desiredCount=2, runningCount=0, rolloutState="IN_PROGRESS")
    clock = iter(range(0, 10**6, 600))
    now = time.time
    own_clock(monkeypatch, "tools.operate.compute_fargate", time=lambda: now() + next(clock))
    said = deployed.refused("smoke")
    assert f"0 of 2 tasks of {NAME} run after 900 s: `make status` says why" in said
    assert deployed.bodies("queue") == []

"""The container, as the task definition describes it."""

from tests.e2e.compute import VARIABLES, container_of
from tests.e2e.deployment import Deployment


def test_the_image_that_was_built_is_deployed_and_can_write_nothing(deployment: Deployment) -> None:
    container = container_of(deployment.aws, deployment.outputs)
    image, at, digest = container["image"].partition("@")
    assert at
    assert image == deployment.outputs["repository_url"]
    assert digest == VARIABLES["image_digest"]
    assert container["readonlyRootFilesystem"]
    assert [mount["containerPath"] for mount in container["mountPoints"]] == ["/tmp"]

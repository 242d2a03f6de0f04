"""What was built is what is deployed."""

import base64
import hashlib

from tests.e2e.compute import function_of
from tests.e2e.deployment import Deployment, built


def test_the_package_that_was_built_is_deployed(deployment: Deployment) -> None:
    digest = hashlib.sha256(built("PACKAGE").read_bytes()).digest()
    function = function_of(deployment.aws, deployment.outputs)
    assert function["CodeSha256"] == base64.b64encode(digest).decode()

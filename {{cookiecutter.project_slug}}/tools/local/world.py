"""The world around code that runs on this machine: a local AWS, with what tests/world.py adds."""

import contextlib
import traceback
from collections.abc import Iterator

from tools.errors import ToolError
from tools.local import running
from tools.local.server import LocalAws, local_aws
from tools.project import read_environment


@contextlib.contextmanager
def world(region: str) -> Iterator[dict[str, str]]:
    """Give the environment variables of the code as `make local` has deployed it, if that runs.

    Otherwise run a local AWS of its own. It says which. Raises ToolError.
    """
    found = running.find()
    if found and found.code:
        running.connect()
        print(f"On the local AWS of `make local`, {found.url}, with the role's permissions.")
        yield found.code
    else:
        print("On an empty local AWS, with what tests/world.py creates.", flush=True)
        with local_world(region) as environment:
            yield environment


@contextlib.contextmanager
def local_world(region: str) -> Iterator[dict[str, str]]:
    """Run a local AWS that holds what tests/world.py creates, for code without a deployment.

    It gives the code's environment variables: those of local.env, the address of the local AWS, and
    what `surroundings` returns, which counts most. Raises ToolError.
    """
    variables = read_environment()
    with local_aws(region, for_terraform=False) as aws:
        added = surround(aws, instead_of_terraform=True)
        yield {**variables, "AWS_ENDPOINT_URL": aws.url, "LOCAL_RUN": "1", **added}


def surround(aws: LocalAws, *, instead_of_terraform: bool = False) -> dict[str, str]:
    """Create what tests/world.py says; return environment variables for the code.

    instead_of_terraform: with what the service's own Terraform creates. Raises ToolError.
    """
    try:
        from tests.world import resources, surroundings

        added = surroundings(aws)
        if instead_of_terraform:
            resources(aws)
    except Exception as error:
        raise ToolError(f"tests/world.py failed:\n{traceback.format_exc()}") from error
    return added

"""The container image that `make image` builds: its digest, and the way to Amazon ECR.

    image.py digest dist/image.tar
    image.py push dist/image.tar 123456789012.dkr.ecr.eu-central-1.amazonaws.com/order-events-dev

The image is an OCI archive. Its digest is the same wherever it is copied to, so dev and prod run
the very same image. Exit code 0: done; 1: not done, with one sentence that says why.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.operate.ecs import image_digest
from tools.operate.service import CLIENT_CONFIG, ToolError, explain

REPOSITORY = re.compile(
    r"(?P<registry>(?P<account>[0-9]{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z.]+)"
    r"/(?P<name>[a-z0-9._/-]+)"
)


def is_there(ecr: Any, repository: str, image: str) -> bool:
    """Tell whether the repository has the image with this digest.

    :raises ToolError: there is no such repository.
    """
    try:
        found = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": image}])
    except ecr.exceptions.RepositoryNotFoundException:
        raise ToolError(
            f"There is no ECR repository {repository}: run `make registry` for this environment, "
            "then `make plan` again."
        ) from None
    return bool(found["images"])


def push(archive: Path, repository: str) -> None:
    """Copy the image into an ECR repository, as it is; one that is there already stays.

    Its tag is its digest, since tags can't be moved there.

    :param repository: the repository's URI, from Terraform.
    :raises ToolError: it can't be copied, or isn't there afterwards.
    """
    parts = REPOSITORY.fullmatch(repository)
    if parts is None:
        raise ToolError(
            f"{repository or 'Nothing'} is not an ECR repository: run `make registry` for this "
            "environment, then `make plan` again."
        )
    image = image_digest(archive)
    ecr = boto3.client("ecr", region_name=parts["region"], config=CLIENT_CONFIG)
    if is_there(ecr, parts["name"], image):
        print(f"{parts['name']} has the image {image} already.")
        return
    if shutil.which("skopeo") is None:
        raise ToolError(
            "skopeo is missing: install it, for example with apt-get or brew, see "
            "https://github.com/containers/skopeo/blob/main/install.md"
        )
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    # Other processes can see a command line, but not this file: only its owner may read it.
    with tempfile.TemporaryDirectory() as folder:
        credentials = Path(folder) / "auth.json"
        credentials.touch(mode=0o600)
        credentials.write_text(json.dumps({"auths": {parts["registry"]: {"auth": token}}}))
        command = ["skopeo", "copy", "--preserve-digests", "--retry-times=3"]
        command += [f"--authfile={credentials}", f"oci-archive:{archive}"]
        command.append(f"docker://{repository}:{image.removeprefix('sha256:')}")
        code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if code:
        raise ToolError(f"skopeo could not copy {archive} to {repository}: see above.")
    if not is_there(ecr, parts["name"], image):
        raise ToolError(
            f"skopeo copied {archive}, but {repository} has no image with the digest {image}."
        )
    print(f"Copied the image {image} to {parts['name']}.")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("digest", "push"):
        command = commands.add_parser(name)
        command.add_argument("archive", type=Path, help="the image, an OCI archive")
    command.add_argument("repository", help="URI of the ECR repository")
    options = parser.parse_args(arguments)
    try:
        if options.command == "digest":
            print(image_digest(options.archive))
        else:
            push(options.archive, options.repository)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

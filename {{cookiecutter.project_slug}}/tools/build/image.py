"""The container image: dist/image.tar, an OCI archive, and its way to Amazon ECR.

Its digest stays the same wherever it is copied to, so dev and prod run the very same image. A local
AWS has no images: there the package stands for it, and the SHA-256 of the package for its digest.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click

from tools.build.package import CACHE, build
from tools.deploy import terraform
from tools.errors import ToolError
from tools.operate.service import client
from tools.project import Environment, environment_option, project

IMAGE = Path("dist/image.tar")
KEPT = Path(".local/packages")  # what was deployed to the local AWS
NO_IMAGES = "The local AWS needs no images."
REPOSITORY = re.compile(
    r"(?P<registry>[0-9]{12}\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z.]+)"
    r"/(?P<name>[a-z0-9._/-]+)"
)


@click.command()
def image_command() -> None:
    """Build dist/image.tar, the container image; needs Docker."""
    print(f"{build_image()} is up to date.")


@click.command()
@environment_option
def registry_command(environment: Environment) -> None:
    """Make the ECR repository, once per environment, before the first plan."""
    if environment.is_local:
        print(NO_IMAGES)
        return
    terraform.ensure_initialised(environment)
    target = "-target=aws_ecr_lifecycle_policy.this"
    given = ("-input=false", "-auto-approve", *environment.var_files(), target)
    terraform.run(environment, "apply", *given)


@click.command()
@environment_option
def push_command(environment: Environment) -> None:
    """Copy the image to ENV's ECR repository; apply does it too."""
    if environment.is_local:
        print(NO_IMAGES)
        return
    terraform.ensure_initialised(environment)
    push(IMAGE, terraform.outputs(environment).get("repository_url", ""))


def build_image() -> Path:
    """Build the image unless it is newer than what it is built from.

    The same package and base image give the same image, with the same digest; an attestation of its
    provenance would make it another one each time. Docker's default builder writes no OCI archives.

    :raises ToolError: Docker is missing, or could not build it.
    """
    sources = [build(), Path("Dockerfile"), Path(".dockerignore")]
    if IMAGE.exists() and all(IMAGE.stat().st_mtime >= it.stat().st_mtime for it in sources):
        return IMAGE
    docker()
    if not _succeeds("docker", "buildx", "inspect", "oci-images"):
        _succeeds(
            "docker", "buildx", "create", "--name", "oci-images", "--driver", "docker-container"
        )
    new = CACHE / "image.tar"
    command = ["docker", "buildx", "build", "--builder", "oci-images", "--provenance=false"]
    command += ["--platform", f"linux/{project().architecture.replace('x86_64', 'amd64')}"]
    command += ["--output", f"type=oci,dest={new},rewrite-timestamp=true", "."]
    if subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": "0"}).returncode:
        raise ToolError("Docker could not build the image: see above.")
    new.replace(IMAGE)
    return IMAGE


def docker() -> str:
    """Make sure that Docker can build images; ``make doctor`` looks for it, too.

    :raises ToolError: it cannot.
    """
    if not shutil.which("docker") or not _succeeds("docker", "buildx", "version"):
        raise ToolError(
            "Docker with buildx is missing: install it, see https://docs.docker.com/engine/install"
        )
    if not _succeeds("docker", "info"):
        raise ToolError("Docker's daemon does not answer: start Docker.")
    return "with buildx"


def skopeo() -> str:
    """Return the path of skopeo, which copies images; ``make doctor`` looks for it, too.

    :raises ToolError: it is missing.
    """
    path = shutil.which("skopeo")
    if path is None:
        raise ToolError(
            "skopeo is missing: install it, for example with apt-get or brew, see "
            "https://github.com/containers/skopeo/blob/main/install.md"
        )
    return path


def _succeeds(*command: str) -> bool:
    return not subprocess.run(command, capture_output=True).returncode


def image_digest(archive: Path) -> str:
    """Return the digest of the image in an OCI archive, as a registry would name it.

    :param archive: or the package, which stands for it.
    :raises ToolError: it cannot be read.
    """
    if archive.suffix == ".zip":
        return f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile("index.json")
            (image,) = json.load(file)["manifests"] if file else []
            return str(image["digest"])
    except FileNotFoundError:
        raise ToolError(f"There is no {archive}: run `make image`.") from None
    except (tarfile.TarError, ValueError, KeyError, TypeError):
        raise ToolError(f"{archive} is not the image that `make image` builds.") from None


def kept(image: str) -> Path:
    """Return where the package is that the local AWS has as an image with this digest."""
    return KEPT / f"{image.rpartition(':')[2]}.zip"


def keep(package: Path) -> None:
    """Keep a package that is deployed to the local AWS, to roll back to it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    shutil.copy(package, kept(image_digest(package)))


def push(archive: Path, repository: str) -> None:
    """Copy the image into an ECR repository, as it is; one that is there already stays.

    Its tag is its digest, since tags cannot be moved there.

    :param repository: the repository's URI, from Terraform.
    :raises ToolError: it cannot be copied, or is not there afterwards.
    """
    parts = REPOSITORY.fullmatch(repository)
    if parts is None:
        raise ToolError(
            f"{repository or 'Nothing'} is not an ECR repository: run `make registry` for this "
            "environment, or init of the operating workflow, then plan again."
        )
    image = image_digest(archive)
    ecr = client("ecr", parts["region"])
    if _is_there(ecr, parts["name"], image):
        print(f"{parts['name']} has the image {image} already.")
        return
    skopeo()
    _copy(ecr, archive, parts["registry"], f"{repository}:{image.removeprefix('sha256:')}")
    if not _is_there(ecr, parts["name"], image):
        raise ToolError(
            f"skopeo copied {archive}, but {repository} has no image with the digest {image}."
        )
    print(f"Copied the image {image} to {parts['name']}.")


def _copy(ecr: Any, archive: Path, registry: str, target: str) -> None:
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    # Other processes can see a command line, but not this file: only its owner may read it.
    with tempfile.TemporaryDirectory() as folder:
        credentials = Path(folder) / "auth.json"
        credentials.touch(mode=0o600)
        credentials.write_text(json.dumps({"auths": {registry: {"auth": token}}}))
        command = ["skopeo", "copy", "--retry-times=3"]
        command += [f"--authfile={credentials}", f"oci-archive:{archive}", f"docker://{target}"]
        code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if code:
        raise ToolError(f"skopeo could not copy {archive} to {target}: see above.")


def _is_there(ecr: Any, repository: str, image: str) -> bool:
    """Tell whether the repository has the image with this digest.

    :raises ToolError: there is no such repository.
    """
    try:
        found = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": image}])
    except ecr.exceptions.RepositoryNotFoundException:
        raise ToolError(
            f"There is no ECR repository {repository}: run `make registry` for this environment, "
            "or init of the operating workflow, then plan again."
        ) from None
    return bool(found["images"])

"""Delivery of a service on Fargate: the image's way to ECR, and the make targets in order.

There is no Docker engine here: a stand-in for `docker` writes an OCI archive of what the build
would copy, and one for `skopeo` puts an archive into the local AWS's ECR: programs on the PATH.
"""

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from delivery import REGION, RUN, Checkout, checked_out
from moto.ecs.models import EC2ContainerServiceBackend
from oci import oci_archive, sized
from test_git import commit, git
from tools.build import image
from tools.deploy.settings import HEADING
from tools.errors import ToolError
from tools.local.server import LocalAws, local_aws

ACCOUNT = "123456789012"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


# What stands in for docker: only the build does anything.
DOCKER = f"""#!{sys.executable}
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.dont_write_bytecode = True
from oci import oci_archive
if sys.argv[2:3] == ["build"]:
    wanted = {{"--provenance=false", "--platform", "--output", "."}}
    assert wanted <= set(sys.argv), sys.argv
    output = sys.argv[sys.argv.index("--output") + 1]
    (target,) = [part[5:] for part in output.split(",") if part.startswith("dest=")]
    oci_archive(Path(target), Path("dist/lambda.zip").read_bytes())
"""

# What stands in for skopeo: takes its credentials and puts the archive's manifest into ECR.
SKOPEO = f"""#!{sys.executable}
import json, os, stat, sys, tarfile
import boto3
options = [word.partition("=")[0] for word in sys.argv if word.startswith("--")]
known = ["--retry-times", "--authfile"]  # Ubuntu 22.04's skopeo lacks --preserve-digests
assert (sys.argv[1], options) == ("copy", known), sys.argv
(authfile,) = [word[11:] for word in sys.argv if word.startswith("--authfile=")]
assert stat.S_IMODE(os.stat(authfile).st_mode) == 0o600
source, target = sys.argv[-2:]
place, _, tag = target.removeprefix("docker://").rpartition(":")
registry, _, repository = place.partition("/")
auth = json.load(open(authfile))["auths"][registry]["auth"]
assert auth and not any(auth in word for word in sys.argv)
with open(os.environ["SKOPEO_LOG"], "a") as log:
    log.write(authfile + "\\n")
if os.environ.get("SKOPEO_FAILS"):
    sys.exit("unauthorized")
with tarfile.open(source.removeprefix("oci-archive:")) as tar:
    read = lambda name: tar.extractfile(name).read().decode()
    (image,) = json.loads(read("index.json"))["manifests"]
    manifest = read("blobs/" + image["digest"].replace(":", "/"))
if not os.environ.get("SKOPEO_LOSES"):
    boto3.client("ecr", region_name={REGION!r}).put_image(
        repositoryName=repository, imageManifest=manifest, imageTag=tag, imageDigest=image["digest"]
    )
"""


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


##### scripts/image.py


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws(REGION) as running:
        yield running


@pytest.fixture
def skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in on the PATH; return the file that lists the credentials it was given."""
    program(tmp_path / "bin", "skopeo", SKOPEO)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SKOPEO_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def repository(aws: LocalAws, tmp_path: Path) -> str:
    """Return the URI of a repository of the test's own."""
    made = aws.client("ecr").create_repository(
        repositoryName=tmp_path.name, imageTagMutability="IMMUTABLE"
    )
    return str(made["repository"]["repositoryUri"])


def test_the_digest_is_read_from_the_archive(tmp_path: Path) -> None:
    expected = oci_archive(tmp_path / "image.tar", b"x")
    assert image.image_digest(tmp_path / "image.tar") == expected


def no_archive(file: Path) -> None:
    file.unlink()


def another_kind_of_archive(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        tar.addfile(sized("manifest.json", b"[]"), io.BytesIO(b"[]"))


def half_an_archive(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:700])


def an_index_of_two_images(file: Path) -> None:
    index = json.dumps({"manifests": [{"digest": "sha256:1"}, {"digest": "sha256:2"}]}).encode()
    with tarfile.open(file, "w") as tar:
        tar.addfile(sized("index.json", index), io.BytesIO(index))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (no_archive, "run `make image`"),
        (another_kind_of_archive, "is not the image that `make image` builds"),
        (half_an_archive, "is not the image that `make image` builds"),
        (an_index_of_two_images, "is not the image that `make image` builds"),
    ],
)
def test_what_is_no_image_is_refused(
    tmp_path: Path, fault: Callable[[Path], None], words: str
) -> None:
    oci_archive(tmp_path / "image.tar", b"x" * 1000)
    fault(tmp_path / "image.tar")
    with pytest.raises(ToolError, match=words):
        image.image_digest(tmp_path / "image.tar")


def test_an_image_is_pushed_once(
    tmp_path: Path, aws: LocalAws, repository: str, skopeo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "image.tar"
    digest = oci_archive(archive, b"x")
    image.push(archive, repository)
    assert f"Copied the image {digest} to" in capfd.readouterr().out
    (found,) = aws.client("ecr").describe_images(repositoryName=repository.rpartition("/")[2])[
        "imageDetails"
    ]
    assert found["imageDigest"] == digest
    assert found["imageTags"] == [digest.removeprefix("sha256:")]
    # The credentials are gone, and the second time nothing is copied.
    (credentials,) = skopeo.read_text().splitlines()
    assert not Path(credentials).exists()
    image.push(archive, repository)
    assert f"has the image {digest} already." in capfd.readouterr().out
    assert len(skopeo.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "words"),
    [("SKOPEO_FAILS", "skopeo could not copy"), ("SKOPEO_LOSES", "has no image with the digest")],
)
def test_an_image_that_does_not_arrive_is_an_error(
    tmp_path: Path,
    repository: str,
    skopeo: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    words: str,
) -> None:
    oci_archive(tmp_path / "image.tar", b"x")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ToolError, match=words):
        image.push(tmp_path / "image.tar", repository)
    assert not any(Path(line).exists() for line in skopeo.read_text().splitlines())


def test_what_is_missing_is_named(
    tmp_path: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "image.tar"
    oci_archive(archive, b"x")
    monkeypatch.setenv("PATH", str(tmp_path))
    for place, words in {
        repository: "skopeo is missing: install it",
        f"{REGISTRY}/nowhere": "There is no ECR repository nowhere: run `make registry`",
        "": "Nothing is not an ECR repository: run `make registry`",
        "docker.io/library/python": "docker.io/library/python is not an ECR repository",
    }.items():
        with pytest.raises(ToolError, match=words):
            image.push(archive, place)


def test_registries_of_all_partitions_are_known() -> None:
    for place in ("cn-north-1.amazonaws.com.cn", "us-gov-west-1.amazonaws.com"):
        assert image.REPOSITORY.fullmatch(f"{ACCOUNT}.dkr.ecr.{place}/order-events-dev")


##### The make targets, in the workflow's order


def rolled_back(
    ecs: EC2ContainerServiceBackend,
    properties: dict[str, Any],
    update: Any = EC2ContainerServiceBackend.update_service,
) -> Any:
    """Update a service but leave its task definition, as ECS does in the end of a bad release."""
    return update(ecs, {**properties, "task_definition": None})


class Fargate(Checkout):
    """A checkout of a service on Fargate, and what ECS has of it."""

    def live(self) -> str:
        """Return the revision of the task definition that is in place."""
        (service,) = self.aws.client("ecs").describe_services(
            cluster="order-events-dev", services=["order-events-dev"]
        )["services"]
        return str(service["taskDefinition"]).rpartition(":")[2]

    def image(self, revision: str) -> str:
        """Return the image of a revision."""
        definition = self.aws.client("ecs").describe_task_definition(
            taskDefinition=f"order-events-dev:{revision}"
        )["taskDefinition"]
        return str(definition["containerDefinitions"][0]["image"])

    def most_tasks(self) -> int:
        (target,) = self.aws.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs"
        )["ScalableTargets"]
        return int(target["MaxCapacity"])


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fargate]:
    base = tmp_path_factory.mktemp("fargate")
    with fargate(render, base, "fargate", record="fargate") as checkout:
        yield checkout


@contextmanager
def fargate(render: Render, base: Path, name: str, **answers: str) -> Iterator[Fargate]:
    """Yield a checkout of a service on Fargate, with what stands in for Docker and skopeo."""
    binaries = base / "bin"
    program(binaries, "docker", DOCKER)
    program(binaries, "skopeo", SKOPEO)
    with (
        pytest.MonkeyPatch.context() as patch,
        checked_out(render, base / name, "dev", compute="fargate", **answers) as made,
    ):
        patch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        patch.setenv("SKOPEO_LOG", str(binaries / "log"))
        subnets = made.aws.client("ec2").describe_subnets()["Subnets"]
        made.set("dev", subnet_ids=[found["SubnetId"] for found in subnets[:2]])
        yield Fargate(made.folder, made.aws, made.keys)


@pytest.mark.slow
def test_from_the_first_image_to_the_second_and_back(checkout: Fargate) -> None:
    make, refused, settings = checkout.make, checkout.refused, checkout.settings("dev")
    commit(checkout.folder)
    before = settings.read_text()
    archive = checkout.folder / "dist" / "image.tar"
    ecr = checkout.aws.client("ecr")

    # The package job builds the image once; other jobs get the file alone.
    make("dist/image.tar")
    first = image.image_digest(archive)
    (checkout.folder / "dist" / "lambda.zip").unlink()
    package = {"PACKAGE_SHA256": checkout.sha256("image.tar")}

    # The repository is made before all else, and nothing else with it.
    make("registry")
    assert ecr.describe_repositories()["repositories"][0]["imageTagMutability"] == "IMMUTABLE"
    assert checkout.aws.client("ecs").list_clusters()["clusterArns"] == []

    make("plan", **package)
    content = archive.read_bytes()
    archive.write_bytes(content + b"x")
    assert "is for the package with SHA-256" in refused("apply")
    assert "is not the package with SHA-256" in refused("plan", **package)
    archive.write_bytes(content)
    assert f"Copied the image {first}" in make("apply", **package)
    assert checkout.live() == "1"
    assert checkout.image("1") == f"{REGISTRY}/order-events-dev@{first}"
    assert f"has the image {first} already" in make("push")

    # The next release: another image, another revision. ECS rolls it back: the apply fails.
    checkout.change_code("second")
    git(checkout.folder, "commit", "--all", "--quiet", "--message=Second")
    make("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EC2ContainerServiceBackend, "update_service", rolled_back)
        assert "ECS rolled the release back" in refused("apply")
    assert checkout.live() == "1"
    make("plan")
    make("apply")
    second = image.image_digest(archive)
    assert second != first
    assert checkout.live() == "2"
    assert checkout.image("2") == f"{REGISTRY}/order-events-dev@{second}"
    assert len(ecr.list_images(repositoryName="order-events-dev")["imageIds"]) == 2

    # Back to the first, whatever is in dist/, and whatever is not deployed yet.
    archive.write_bytes(b"something else")
    checkout.set("dev", memory=1024)
    assert "starting from it" in make("rollback", "VERSION=1")
    settings.write_text(settings.read_text().replace("\nmemory = 1024\n", ""))
    assert checkout.live() == "1"
    assert settings.read_text() == f'{before}\n{HEADING}\nlive_version = "1"\n'

    # A pause goes the same way, and that is what the next plan finds.
    make("pause")
    assert checkout.most_tasks() == 0
    assert "\npaused = true\n" in settings.read_text()
    archive.unlink()
    make("plan", "READ_ONLY=1", role="plan", **RUN)
    assert "**Nothing changes.**" in checkout.summary("dev")
    assert "**Paused:**" in checkout.summary("dev")

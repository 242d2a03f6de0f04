"""Delivery of a service on Fargate: scripts/image.py, and the make targets in order.

There is no Docker engine here: a stand-in for `docker` writes an OCI archive of what the build
would copy, and one for `skopeo` puts an archive into the local AWS's ECR: programs on the PATH.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, Render, granted, need, run
from moto.core.responses import BaseResponse

# The template's folder stays clean: what lies in it is rendered.
sys.dont_write_bytecode = True
sys.path[:0] = [str(SERVICE / "scripts"), str(SERVICE)]
import image  # noqa: E402
from tools.local.server import LocalAws, local_aws  # noqa: E402

REGION = "eu-central-1"
ACCOUNT = "123456789012"
BUCKET = "my-company-terraform-state"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


def oci_archive(file: Path, content: bytes) -> str:
    """Write an image of one layer with one file, as buildx does; return its digest."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(sized("app/lambda.zip", content), io.BytesIO(content))
    compressed = gzip.compress(layer.getvalue(), mtime=0)
    blobs: dict[str, bytes] = {}

    def blob(kind: str, data: bytes) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{name}"] = data
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    config = {"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar+gzip", compressed)],
    }
    described = blob("manifest.v1+json", json.dumps(manifest).encode())
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(file, "w") as tar:
        for name, data in blobs.items():
            tar.addfile(sized(name, data), io.BytesIO(data))
    return str(described["digest"])


def sized(name: str, content: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info


# What stands in for docker: knows the three calls that the Makefile makes.
DOCKER = f"""#!{sys.executable}
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.dont_write_bytecode = True
from test_delivery_fargate import oci_archive
if sys.argv[2] == "build":
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
assert sys.argv[1:3] == ["copy", "--preserve-digests"], sys.argv
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


def test_the_digest_is_read_from_the_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = oci_archive(tmp_path / "image.tar", b"x")
    assert image.main(["digest", str(tmp_path / "image.tar")]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Callable[[Path], None], words: str
) -> None:
    oci_archive(tmp_path / "image.tar", b"x" * 1000)
    fault(tmp_path / "image.tar")
    assert image.main(["digest", str(tmp_path / "image.tar")]) == 1
    assert words in capsys.readouterr().err


def test_an_image_is_pushed_once(
    tmp_path: Path, aws: LocalAws, repository: str, skopeo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = oci_archive(tmp_path / "image.tar", b"x")
    command = ["push", str(tmp_path / "image.tar"), repository]
    assert image.main(command) == 0
    assert f"Copied the image {digest} to" in capfd.readouterr().out
    (found,) = aws.client("ecr").describe_images(repositoryName=repository.rpartition("/")[2])[
        "imageDetails"
    ]
    assert found["imageDigest"] == digest
    assert found["imageTags"] == [digest.removeprefix("sha256:")]
    # The credentials are gone, and the second time nothing is copied.
    (credentials,) = skopeo.read_text().splitlines()
    assert not Path(credentials).exists()
    assert image.main(command) == 0
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
    capfd: pytest.CaptureFixture[str],
    variable: str,
    words: str,
) -> None:
    oci_archive(tmp_path / "image.tar", b"x")
    monkeypatch.setenv(variable, "1")
    assert image.main(["push", str(tmp_path / "image.tar"), repository]) == 1
    assert words in capfd.readouterr().err
    assert not any(Path(line).exists() for line in skopeo.read_text().splitlines())


def test_what_is_missing_is_named(
    tmp_path: Path,
    repository: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = str(tmp_path / "image.tar")
    oci_archive(tmp_path / "image.tar", b"x")
    monkeypatch.setenv("PATH", str(tmp_path))
    for place, words in {
        repository: "skopeo is missing: install it",
        f"{REGISTRY}/nowhere": "There is no ECR repository nowhere: run `make registry`",
        "": "Nothing is not an ECR repository: run `make registry`",
        "docker.io/library/python": "docker.io/library/python is not an ECR repository",
    }.items():
        assert image.main(["push", archive, place]) == 1
        assert words in capsys.readouterr().err


def test_registries_of_all_partitions_are_known() -> None:
    for place in ("cn-north-1.amazonaws.com.cn", "us-gov-west-1.amazonaws.com"):
        assert image.REPOSITORY.fullmatch(f"{ACCOUNT}.dkr.ecr.{place}/order-events-dev")


##### The make targets, in the workflow's order


@dataclass(frozen=True)
class Checkout:
    """The rendered service, as a job of the workflow or a laptop has it."""

    folder: Path
    aws: LocalAws
    # What was asked of AWS, as IAM's actions, by whether it ran in a role that only reads.
    asked: dict[bool, set[str]]

    def make(self, *arguments: str, ok: bool = True, **environment: str) -> str:
        """Run a target that must succeed, or must not; return what it printed."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                BaseResponse, "call_action", recorded(self.asked["READ_ONLY=1" in arguments])
            )
            done = subprocess.run(
                ["make", "--no-print-directory", *arguments],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert (done.returncode == 0) is ok, f"make {' '.join(arguments)}:\n{done.stdout}"
        return done.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        return self.make(*arguments, ok=False, **environment)

    def summary(self) -> str:
        return (self.folder / "dist" / "plan-dev.md").read_text(encoding="utf-8")

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


def recorded(actions: set[str]) -> Callable[[BaseResponse], Any]:
    """Return moto's way to answer a call, which writes down what is called."""
    original = BaseResponse.call_action

    def call_action(response: BaseResponse) -> Any:
        actions.add(f"{response.service_name}:{response._get_action()}")
        return original(response)

    return call_action


@pytest.fixture(scope="module")
def checkout(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    need("terraform")
    need("make")
    source = render(
        compute="fargate",
        terraform_state_bucket=BUCKET,
        aws_region=REGION,
        python_version="{}.{}".format(*sys.version_info),
        architecture="arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64",
    )
    folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("delivery") / source.name))
    binaries = tmp_path_factory.mktemp("bin")
    program(binaries, "docker", DOCKER)
    program(binaries, "skopeo", SKOPEO)
    run("make", "install", cwd=folder)
    with local_aws(REGION) as aws, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        patch.setenv("SKOPEO_LOG", str(binaries / "log"))
        place = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        aws.client("sns").create_topic(Name="events-dev")
        subnets = [found["SubnetId"] for found in aws.client("ec2").describe_subnets()["Subnets"]]
        settings = folder / "terraform" / "environments" / "dev.tfvars"
        settings.write_text(f"{settings.read_text()}\nsubnet_ids = {json.dumps(subnets[:2])}\n")
        yield Checkout(folder, aws, {False: set(), True: set()})


@pytest.mark.slow
def test_from_the_first_image_to_the_second_and_back(checkout: Checkout) -> None:
    make, refused = checkout.make, checkout.refused
    settings = checkout.folder / "terraform" / "environments" / "dev.tfvars"
    before = settings.read_text()
    archive = checkout.folder / "dist" / "image.tar"
    ecr = checkout.aws.client("ecr")

    # The package job builds the image once; other jobs get the file alone.
    make("dist/image.tar")
    first = image.image_digest(archive)
    (checkout.folder / "dist" / "lambda.zip").unlink()
    package = {"PACKAGE_SHA256": hashlib.sha256(archive.read_bytes()).hexdigest()}

    # The repository is made before all else, and nothing else with it.
    make("registry")
    assert ecr.describe_repositories()["repositories"][0]["imageTagMutability"] == "IMMUTABLE"
    assert checkout.aws.client("ecs").list_clusters()["clusterArns"] == []

    make("plan", **package)
    content = archive.read_bytes()
    archive.write_bytes(content + b"x")
    assert "is not the package that was planned" in refused("apply")
    assert "is not the package with SHA-256" in refused("plan", **package)
    archive.write_bytes(content)
    assert f"Copied the image {first}" in make("apply", **package)
    assert checkout.live() == "1"
    assert checkout.image("1") == f"{REGISTRY}/order-events-dev@{first}"
    make("plan", **package)
    assert "**Nothing changes.**" in checkout.summary()
    assert f"has the image {first} already" in make("push")

    # The next release: another image, another revision.
    with (checkout.folder / "order_events" / "service.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    make("plan")
    make("apply")
    second = image.image_digest(archive)
    assert second != first
    assert checkout.live() == "2"
    assert checkout.image("2") == f"{REGISTRY}/order-events-dev@{second}"
    assert len(ecr.list_images(repositoryName="order-events-dev")["imageIds"]) == 2

    # Back to the first, whatever lies in dist/; and that is what the next plan finds.
    archive.write_bytes(b"something else")
    make("rollback", "VERSION=1")
    assert checkout.live() == "1"
    assert (
        settings.read_text()
        == f'{before}\n# Written by make, to be committed.\nlive_version = "1"\n'
    )

    # Pause and resume go the same way.
    make("pause")
    assert checkout.most_tasks() == 0
    assert "\npaused = true\n" in settings.read_text()
    make("resume")
    assert checkout.most_tasks() == 10
    archive.unlink()
    make("plan", "READ_ONLY=1")
    assert "**Nothing changes.**" in checkout.summary()

    # The roles of the bootstrap allow all that was asked for: moto itself does not mind.
    anybody = {"sts:GetCallerIdentity"}
    assert "ecs:DescribeServices" in checkout.asked[True]
    assert checkout.asked[True] - granted("read") - anybody == set()
    assert {"ecs:RegisterTaskDefinition", "ecr:CreateRepository"} <= checkout.asked[False]
    assert checkout.asked[False] - granted("read", "deploy") - anybody == set()


def test_a_machine_without_docker_is_told_so(fresh: Render, tmp_path: Path) -> None:
    need("make")
    service = fresh(compute="fargate")
    (service / "dist").mkdir()
    (service / "dist" / "lambda.zip").touch()
    program(tmp_path / "bin", "docker", "#!/bin/sh\nexit 1\n")
    done = subprocess.run(
        ["make", "-o", "dist/lambda.zip", "image"],
        cwd=service,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Docker with buildx is missing: install it, see https://" in done.stdout

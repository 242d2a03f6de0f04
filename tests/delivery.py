"""A checkout of the rendered service on a local AWS: what the rehearsals of its delivery share."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from aws_permissions import exact
from conftest import HOST, TEMPLATE, Render, lend_environment, need, need_provider, one_provider
from tools.local.server import LocalAws, local_aws

REGION = "eu-central-1"
BUCKET = "my-company-terraform-state"
# The variables of a run of the workflow that writes a plan's summary.
RUN = {
    "GITHUB_REPOSITORY": "my-company/order-events",
    "GITHUB_RUN_ID": "77",
    "GITHUB_SERVER_URL": "https://github.com",
}
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/delivery/{{}}"
# What the operating workflow runs without an approval, unless everything may change.
OPERATING = {"rollback", "pause", "resume", "unlock", "versions"}
# The bootstrap's roles and policies, as test_bootstrap.py made them, and what is asked of them.
PERMISSIONS = TEMPLATE / "tests" / "permissions"


def made_for_delivery(aws: LocalAws, *environments: str) -> None:
    """Make what the bootstrap makes, but in no time: the bucket of the state, topics and roles."""
    place = {"LocationConstraint": REGION}
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    versioned = {"Status": "Enabled"}
    aws.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=versioned)
    for environment in environments:
        aws.client("sns").create_topic(Name=f"events-{environment}")
        fifo = {"FifoTopic": "true"}
        aws.client("sns").create_topic(Name=f"events-{environment}.fifo", Attributes=fifo)
    iam, made = aws.client("iam"), json.loads((PERMISSIONS / "roles.json").read_text())
    for name, document in made["policies"].items():
        if name.startswith("services-"):
            iam.create_policy(
                PolicyName=name, Path="/delivery/", PolicyDocument=json.dumps(document)
            )
    for name, policies in made["roles"].items():
        iam.create_role(RoleName=name, Path="/delivery/", AssumeRolePolicyDocument="{}")
        for number, policy in enumerate(policies):
            document = json.dumps(made["policies"][policy])
            iam.put_role_policy(RoleName=name, PolicyName=str(number), PolicyDocument=document)


@dataclass(frozen=True)
class Checkout:
    """The rendered service, as a job of the workflow or a laptop has it.

    Each command has the keys of a role of the bootstrap, and IAM is enforced.
    """

    folder: Path
    aws: LocalAws
    # One pair for all commands, since Terraform's provider keeps its own; the role changes.
    keys: dict[str, str]

    def make(self, *arguments: str, role: str = "", **environment: str) -> str:
        """Run a target that must succeed; return what it printed."""
        code, text = self._run(role, *arguments, **environment)
        assert code == 0, f"make {' '.join(arguments)}:\n{text}"
        return text

    def refused(self, *arguments: str, role: str = "", **environment: str) -> str:
        """Run a target that must fail, but not for want of a permission; return what it printed."""
        before = len(self.aws.permissions.record)
        code, text = self._run(role, *arguments, **environment)
        assert code != 0, f"make {' '.join(arguments)} was not refused:\n{text}"
        assert [one for one in self.aws.permissions.record[before:] if one.refusal] == [], text
        return text

    def _run(self, role: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a target in one of GitHub's roles; without one, in that of the workflow's job."""
        given = {**dict(word.split("=", 1) for word in arguments if "=" in word), **environment}
        operates = OPERATING & {*arguments} and not given.get("ALL")
        role = role or ("operate" if operates else "deploy")
        self.take(f"github-{role}-{given.get('ENV', 'dev')}")
        # Terraform's provider runs already, and keeps its own.
        assert not [name for name in environment if name.startswith("AWS_")]
        done = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.keys, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def take(self, role: str) -> None:
        """Let the keys be those of another role of the bootstrap."""
        self.aws.permissions.roles[self.keys["AWS_ACCESS_KEY_ID"]] = ROLE.format(role)

    def sha256(self, artifact: str = "lambda.zip") -> str:
        return hashlib.sha256((self.folder / "dist" / artifact).read_bytes()).hexdigest()

    def summary(self, environment: str) -> str:
        return (self.folder / "dist" / f"plan-{environment}.md").read_text(encoding="utf-8")

    def settings(self, environment: str) -> Path:
        return self.folder / "terraform" / "environments" / f"{environment}.tfvars"

    def set(self, environment: str, **values: Any) -> None:
        """Write more settings into an environment's tfvars, as JSON, which HCL includes."""
        with self.settings(environment).open("a", encoding="utf-8") as file:
            file.writelines(f"\n{name} = {json.dumps(value)}\n" for name, value in values.items())

    def bound(self, *environments: str) -> None:
        """Name the bootstrap's boundary, without which the deploy roles make no role."""
        for environment in environments:
            boundary = f"arn:aws:iam::{ACCOUNT}:policy/delivery/services-{environment}"
            self.set(environment, permissions_boundary=boundary)

    def change_code(self, text: str) -> None:
        with (self.folder / "order_events" / "service.py").open("a") as file:
            file.write(f"\nCHANGED = {text!r}\n")


@contextmanager
def checked_out(
    render: Render, base: Path, *environments: str, record: str = "", **answers: str
) -> Iterator[Checkout]:
    """Run a local AWS with the bootstrap's roles; yield a service that a test may change.

    record: with RECORD_PERMISSIONS set, what was asked of AWS is kept under this name.
    """
    need("make")
    given = {"terraform_state_bucket": BUCKET, "aws_region": REGION, **HOST, **answers}
    source = render(**given)
    need_provider(source)
    folder = Path(shutil.copytree(source, base / source.name))
    lend_environment(folder)
    with mock.patch("tools.local.permissions.questions_of", exact), local_aws(REGION) as aws:
        made_for_delivery(aws, *environments)
        checkout = Checkout(folder, aws, aws.grant(ROLE.format("operate-dev")))
        checkout.bound(*environments)
        with one_provider(folder / "terraform", **checkout.keys):
            yield checkout
        if record and os.environ.get("RECORD_PERMISSIONS"):
            keep_questions(checkout, record)


def keep_questions(checkout: Checkout, name: str) -> None:
    """Write what was asked, and in which roles: without what differs by run and by environment.

    Of the condition keys only those that a policy has are kept.
    """
    policies = (PERMISSIONS / "roles.json").read_text(encoding="utf-8")
    asked: dict[str, set[str]] = {}
    for one in checkout.aws.permissions.record:
        question = one.question
        context = {
            key: sorted(found)
            for key, found in sorted(question.context.items())
            if key.endswith("Tag/") or f'"{key}"' in policies
        }
        line = json.dumps([question.action, question.resource, context])
        line = RANDOM.sub("*", ENVIRONMENT.sub("{environment}", line))
        if not one.refusal:
            asked.setdefault(line, set()).add(ENVIRONMENT.sub("{environment}", one.role))
    lines = [f"[{json.dumps(sorted(roles))}, {line[1:]}\n" for line, roles in sorted(asked.items())]
    (PERMISSIONS / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


ENVIRONMENT = re.compile(r"(?<![a-z])(?:dev|prod)(?![a-z])")
# UUIDs, the ids of EC2, and the letters after scalable targets.
RANDOM = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=[a-z]-)[0-9a-f]{17}|(?<=target/)\w{36}"
)

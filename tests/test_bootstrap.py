"""terraform/bootstrap: applied to a local AWS; who gets in, and what they may do."""

import fnmatch
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVICE, TEMPLATE, need, one_provider, run
from tools.deploy.mirror import cli_config
from tools.github import approval
from tools.local.server import LocalAws, local_aws

BOOTSTRAP = TEMPLATE / "terraform" / "bootstrap"
REGION = "eu-central-1"
ACCOUNT = "123456789012"
GITHUB = "token.actions.githubusercontent.com"
BUCKET = "arn:aws:s3:::my-company-terraform-state"
ROLES = TEMPLATE / "tests" / "permissions" / "roles.json"

SETTINGS: dict[str, Any] = {
    "aws_region": REGION,
    "state_bucket": "my-company-terraform-state",
    "repositories": [{"name": "my-company/order-events", "owner_id": 11, "id": 22}],
    "services": ["order-events"],
    "topics": ["events", "orders.fifo"],
    "layers": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:otel:*"],
    "log_destinations": [
        f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/central",
        f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/central",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:central",
        f"arn:aws:logs:{REGION}:999999999999:destination:central",
    ],
}


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["terraform", *arguments, "-no-color"],
        cwd=folder,
        env={
            **os.environ,
            "TF_CLI_CONFIG_FILE": str(cli_config(folder) or ""),
            "TF_IN_AUTOMATION": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the code to a folder of the tests' own, with its provider."""
    need("terraform")
    folder = tmp_path_factory.mktemp("bootstrap") / "code"
    shutil.copytree(BOOTSTRAP, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    # What can't work fails soon.
    (folder / "test_override.tf").write_text('provider "aws" {\n  max_retries = 2\n}\n')
    done = terraform(folder, "init", "-input=false")
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    need("terraform")
    with local_aws(REGION) as running, one_provider(BOOTSTRAP):
        yield running


@pytest.fixture(scope="module")
def applied(initialised: Path, aws: LocalAws) -> dict[str, Any]:
    """Apply it; return the outputs."""
    (initialised / "test.auto.tfvars.json").write_text(json.dumps(SETTINGS))
    done = terraform(initialised, "apply", "-auto-approve", "-input=false")
    assert done.returncode == 0, done.stdout
    done = terraform(initialised, "plan", "-detailed-exitcode", "-input=false")
    assert done.returncode == 0, f"It wants to change what it has just made:\n{done.stdout}"
    outputs = json.loads(terraform(initialised, "output", "-json").stdout)
    return {name: output["value"] for name, output in outputs.items()}


def statements(document: Any) -> list[dict[str, Any]]:
    parsed = json.loads(document) if isinstance(document, str) else document
    return list(parsed["Statement"])


class Role:
    """What IAM has of a role."""

    def __init__(self, aws: LocalAws, name: str) -> None:
        iam = aws.client("iam")
        self.trust = statements(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
        self.permissions: list[dict[str, Any]] = []
        self.policies: dict[str, Any] = {}
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            found = iam.get_role_policy(RoleName=name, PolicyName=policy)
            self.permissions += statements(found["PolicyDocument"])
            self.policies[f"{policy} of {name}"] = found["PolicyDocument"]
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        self.attached = len(attached)
        for policy in attached:
            arn = policy["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
            self.permissions += statements(found["Document"])
            self.policies[policy["PolicyName"]] = found["Document"]

    def trusts(self, subject: str, **claims: str) -> bool:
        """Tell whether a job whose token has these claims can take the role."""
        return trusts(self.trust, subject, **claims)

    def may(self, action: str, resource: str) -> bool:
        """Tell whether the role's policies allow an action, whatever conditions say."""
        matching = [
            statement["Effect"]
            for statement in self.permissions
            if any(fnmatch.fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
            and any(fnmatch.fnmatchcase(resource, arn) for arn in listed(statement["Resource"]))
        ]
        return "Allow" in matching and "Deny" not in matching


def trusts(trust: list[dict[str, Any]], subject: str, **claims: str) -> bool:
    """Tell whether a trust policy lets in a job whose token has these claims, by IAM's rules."""
    token = {"aud": "sts.amazonaws.com", "sub": subject, "repository_id": "22", **claims}
    (statement,) = trust
    assert set(statement["Condition"]) == {"StringEquals"}
    return all(
        token.get(key.removeprefix(f"{GITHUB}:")) in listed(expected)
        for key, expected in statement["Condition"]["StringEquals"].items()
    )


@pytest.fixture(scope="module")
def roles(applied: dict[str, Any], aws: LocalAws) -> dict[str, Role]:
    """Return the roles that were made, by name."""
    names = [arn.rpartition("/")[2] for arn in applied["role_arns"].values()]
    return {name: Role(aws, name) for name in names}


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


OLD = "repo:my-company/order-events"
NEW = "repo:my-company@11/order-events@22"
MAIN = {"ref": "refs/heads/main"}


def let_in(repository: str, trust: dict[str, Any], branch: str = "main") -> dict[str, set[str]]:
    """Return, by role, which jobs of a repository with that default branch it lets in."""
    default, other = {"ref": f"refs/heads/{branch}"}, {"ref": "refs/heads/x"}
    jobs = {
        "pull request": (f"{repository}:pull_request", {"ref": "refs/pull/1/merge"}),
        "default branch": (f"{repository}:ref:refs/heads/{branch}", default),
        "branch": (f"{repository}:ref:refs/heads/x", other),
        "tag": (f"{repository}:ref:refs/tags/{branch}", {"ref": f"refs/tags/{branch}"}),
        "dev": (f"{repository}:environment:dev", {**default, "environment": "dev"}),
        "prod": (f"{repository}:environment:prod", {**default, "environment": "prod"}),
        "prod from a branch": (
            f"{repository}:environment:prod",
            {**other, "environment": "prod"},
        ),
    }
    return {
        name: {job for job, (sub, more) in jobs.items() if trusts(statement, sub, **more)}
        for name, statement in trust.items()
    }


LET_IN = {
    "github-plan-dev": {"pull request", "default branch"},
    "github-plan-prod": {"pull request", "default branch"},
    "github-main-plan-prod": {"default branch"},
    "github-operate-dev": {"default branch"},
    "github-operate-prod": {"default branch"},
    "github-deploy-dev": {"dev"},
    "github-deploy-prod": {"prod"},
}


@pytest.mark.slow
@pytest.mark.parametrize("repository", [OLD, NEW])
def test_each_role_lets_its_jobs_in_and_no_other(roles: dict[str, Role], repository: str) -> None:
    assert let_in(repository, {name: role.trust for name, role in roles.items()}) == LET_IN


@pytest.mark.slow
def test_on_github_free_the_default_branch_alone_lets_deployments_in(
    applied: dict[str, Any], initialised: Path, tmp_path: Path
) -> None:
    """A private repository there has no environments; this one has another default branch, too."""
    settings = {"github_environments": False, "default_branch": "trunk"}
    plan = tmp_path / "free.tfplan"
    done = planned_with(initialised, tmp_path, settings, f"-out={plan}", state="terraform.tfstate")
    assert done.returncode == 0, done.stdout
    planned = json.loads(terraform(initialised, "show", "-json", str(plan)).stdout)
    trust = {
        change["change"]["after"]["name"]: statements(
            change["change"]["after"]["assume_role_policy"]
        )
        for change in planned["resource_changes"]
        if change["type"] == "aws_iam_role"
    }
    deploy = {f"github-deploy-{environment}": {"default branch"} for environment in ("dev", "prod")}
    for repository in (OLD, NEW):
        assert let_in(repository, trust, "trunk") == LET_IN | deploy
        assert not any(jobs - {"pull request"} for jobs in let_in(repository, trust).values())
    assert commands(planned["planned_values"]["outputs"]["github_commands"]["value"]) == {
        **VARIABLES,
        **OF_NO_ENVIRONMENT,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "repository",
    [
        "repo:my-company/order-events-2",
        "repo:my-company/other",
        "repo:my-company-2/order-events",
        "repo:my-company@99/order-events@22",
        "repo:my-company@11/order-events@99",
        "repo:my-company@11/other@33:environment:/order-events@22",
    ],
)
def test_no_other_repository_gets_in(roles: dict[str, Role], repository: str) -> None:
    for role, end in itertools.product(
        roles.values(),
        ["pull_request", "ref:refs/heads/main", "environment:dev", "environment:prod"],
    ):
        for environment in ("dev", "prod"):
            assert not role.trusts(f"{repository}:{end}", **MAIN, environment=environment)
            # Nor does another audience, or another repository under the old name.
            own = f"{OLD}:{end}"
            assert not role.trusts(own, **MAIN, environment=environment, aud="https://github.com")
            assert not role.trusts(own, **MAIN, environment=environment, repository_id="99")


@pytest.mark.slow
def test_a_pull_request_reads_and_comes_near_no_saved_plan(roles: dict[str, Role]) -> None:
    state = f"{BUCKET}/env:/prod/services/order-events/terraform.tfstate"
    plan = f"{BUCKET}/plans/order-events/prod/1/prod.tfplan"
    pull_request = roles["github-plan-prod"]
    main = roles["github-main-plan-prod"]
    deploy = roles["github-deploy-prod"]

    assert [role.may("s3:GetObject", state) for role in (pull_request, main, deploy)] == [True] * 3
    assert [role.may("s3:PutObject", state) for role in (pull_request, main, deploy)] == [
        *(False, False, True)
    ]
    for action in ("s3:GetObject", "s3:PutObject"):
        assert [role.may(action, plan) for role in (pull_request, main, deploy)] == [
            *(False, True, True)
        ]
    assert [role.may("s3:DeleteObject", plan) for role in (pull_request, main, deploy)] == [
        *(False, False, True)
    ]
    # Each keeps to its environment.
    other = state.replace("prod", "dev")
    assert not any(role.may("s3:GetObject", other) for role in (pull_request, main, deploy))
    # Nor does a service that is not named lie open.
    other = state.replace("order-events", "payments")
    assert not any(role.may("s3:GetObject", other) for role in (pull_request, main, deploy))


READ_ONLY = re.compile(r"[a-z0-9-]+:(Get|List|Describe)[A-Za-z]+")
# What holds data of people or secrets, or hands out credentials.
PRIVATE = {"logs:GetLogEvents", "dynamodb:GetItem", "sqs:ReceiveMessage", "logs:FilterLogEvents"}


@pytest.mark.slow
def test_plan_roles_only_read(roles: dict[str, Role]) -> None:
    for name in ("github-plan-dev", "github-plan-prod", "github-main-plan-prod"):
        for statement in roles[name].permissions:
            for action in listed(statement["Action"]):
                keeps_plans = action == "s3:PutObject" and name == "github-main-plan-prod"
                if statement["Effect"] == "Allow" and not keeps_plans:
                    assert READ_ONLY.fullmatch(action), action
                    assert action not in PRIVATE


@pytest.mark.slow
def test_operate_roles_change_only_what_a_rollback_or_a_pause_changes(
    roles: dict[str, Role],
) -> None:
    """No plan, package, code, setting or role; nothing is made or deleted but the lock."""
    for environment, other in (("dev", "prod"), ("prod", "dev")):
        role = roles[f"github-operate-{environment}"]
        changes = {
            action
            for statement in role.permissions
            for action in listed(statement["Action"])
            if not READ_ONLY.fullmatch(action)
        }
        assert changes == {
            *("s3:PutObject", "s3:DeleteObject"),
            *("lambda:UpdateAlias", "lambda:UpdateEventSourceMapping"),
            *("ecs:UpdateService", "application-autoscaling:RegisterScalableTarget"),
            "ecr:BatchGetImage",  # reads
        }
        state = f"{BUCKET}/env:/{environment}/services/order-events/terraform.tfstate"
        function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:order-events-{environment}"
        for action, arn in (
            *(("s3:PutObject", state), ("s3:DeleteObject", f"{state}.tflock")),
            ("lambda:UpdateAlias", function),
        ):
            assert role.may(action, arn)
            assert not role.may(action, arn.replace(environment, other))
            assert not role.may(action, arn.replace("order-events", "payments"))
        plan = f"{BUCKET}/plans/order-events/{environment}/1/{environment}.tfplan"
        package = f"{BUCKET}/services/order-events/{environment}/lambda.zip"
        assert not any(role.may("s3:PutObject", arn) for arn in (plan, package))
        assert not role.may("s3:GetObject", plan)


@pytest.mark.slow
def test_a_deploy_role_has_no_way_to_more(applied: dict[str, Any], roles: dict[str, Role]) -> None:
    """It makes roles only inside the boundary, and touches neither itself nor the boundary."""
    for environment in ("dev", "prod"):
        role = roles[f"github-deploy-{environment}"]
        boundary = applied["permissions_boundaries"][environment]
        own = f"arn:aws:iam::{ACCOUNT}:role/delivery/github-deploy-{environment}"
        service = f"arn:aws:iam::{ACCOUNT}:role/services/order-events-{environment}"
        assert role.may("iam:CreateRole", service)
        for statement in role.permissions:
            for action in listed(statement["Action"]):
                assert "*" not in action
                if action in {
                    *("iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"),
                    *("iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary"),
                }:
                    condition = statement["Condition"]["StringEquals"]
                    assert condition == {"iam:PermissionsBoundary": boundary}
                if action == "iam:PassRole":
                    to = statement["Condition"]["StringEquals"]["iam:PassedToService"]
                    assert set(to) == {
                        f"{x}.amazonaws.com" for x in ("ecs-tasks", "lambda", "logs")
                    }
                if action.startswith("iam:"):
                    assert not any(
                        fnmatch.fnmatchcase(own, r) for r in listed(statement["Resource"])
                    )
                    assert not any(
                        fnmatch.fnmatchcase(boundary, r) for r in listed(statement["Resource"])
                    )
        for action in (
            "iam:DeleteRolePermissionsBoundary",
            "iam:AttachRolePolicy",
            "sts:AssumeRole",
        ):
            assert not role.may(action, service)
        other = "dev" if environment == "prod" else "prod"
        function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:order-events"
        assert role.may("lambda:UpdateFunctionCode", f"{function}-{environment}")
        assert not role.may("lambda:UpdateFunctionCode", f"{function}-{other}")
        assert not role.may("lambda:UpdateFunctionCode", f"{function}-2-{environment}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "other"), [("dev", "devices-prod"), ("prod", "products-dev")]
)
def test_a_service_whose_name_goes_on_with_an_environment_is_another(
    roles: dict[str, Role], environment: str, other: str
) -> None:
    """order-events in dev is no prefix of order-events-devices in prod."""
    role = f"arn:aws:iam::{ACCOUNT}:role/services/order-events"
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/order-events"
    for name, action, arn in (
        ("deploy", "iam:DeleteRole", role),
        ("deploy", "iam:PassRole", role),
        ("deploy", "iam:UpdateAssumeRolePolicy", role),
        ("plan", "iam:GetRole", role),
        ("deploy", "dynamodb:DeleteTable", table),
        ("plan", "dynamodb:DescribeTable", table),
    ):
        tried = roles[f"github-{name}-{environment}"]
        assert tried.may(action, f"{arn}-{environment}")
        assert tried.may(action, f"{arn}-{environment}-more")
        assert not tried.may(action, f"{arn}-{other}"), action


@pytest.mark.slow
def test_a_service_on_fargate_can_be_deployed_and_run(
    applied: dict[str, Any], roles: dict[str, Role], aws: LocalAws
) -> None:
    """What compute=fargate adds, each for its own service and environment only."""
    iam = aws.client("iam")
    for environment, other in (("dev", "prod"), ("prod", "dev")):
        deploy = roles[f"github-deploy-{environment}"]
        for service, action, place in (
            ("ecs", "UpdateService", "service/shared/order-events-{}"),
            ("ecs", "PutClusterCapacityProviders", "cluster/order-events-{}"),
            ("ecs", "TagResource", "task-definition/order-events-{}:*"),
            ("ecr", "PutImage", "repository/order-events-{}"),
            ("logs", "PutRetentionPolicy", "log-group:/ecs/order-events-{}"),
            ("ecs", "CreateCluster", "cluster/order-events-{}"),
            ("ecs", "RegisterTaskDefinition", "task-definition/order-events-{}:*"),
            ("cloudwatch", "PutMetricAlarm", "alarm:scaling-order-events-{}-to-zero"),
            (
                *("cloudwatch", "PutMetricAlarm"),
                "alarm:TargetTracking-service/shared/order-events-{}-AlarmHigh-1-2",
            ),
        ):
            arn = f"arn:aws:{service}:{REGION}:{ACCOUNT}:{place}"
            assert deploy.may(f"{service}:{action}", arn.format(environment)), arn
            assert not deploy.may(f"{service}:{action}", arn.format(other)), arn
            stranger = arn.format(environment).replace("order-events", "other")
            assert not deploy.may(f"{service}:{action}", stranger), arn
        # Where AWS knows no names, tags or the kind of thing limit it.
        for statement in deploy.permissions:
            for action in listed(statement["Action"]):
                if "/*" in statement["Resource"][0] and action in {
                    "application-autoscaling:PutScalingPolicy",
                    "application-autoscaling:RegisterScalableTarget",
                    "ec2:DeleteSecurityGroup",
                }:
                    assert set(statement["Condition"]) == {"StringEquals", "StringLike"}, action
                if action == "iam:CreateServiceLinkedRole":
                    assert all(":role/aws-service-role/ecs." in r for r in statement["Resource"])
        document = iam.get_policy_version(
            PolicyArn=applied["permissions_boundaries"][environment], VersionId="v1"
        )["PolicyVersion"]["Document"]
        bounded = {action for s in statements(document) for action in listed(s["Action"])}
        code = (SERVICE / "terraform" / "iam.tf").read_text(encoding="utf-8")
        used = set(re.findall(r'"((?:ecr|ecs|logs|sqs):\w+)"', code))
        assert len(used) == 12
        assert used - bounded == set()


@pytest.mark.slow
def test_the_table_of_processed_events_can_be_made_and_used(
    applied: dict[str, Any], roles: dict[str, Role], aws: LocalAws
) -> None:
    """What idempotency=yes adds: its own table, of its own environment."""
    code = (SERVICE / "terraform" / "idempotency.tf").read_text(encoding="utf-8")
    used = set(re.findall(r"dynamodb:\w+", code))
    assert "dynamodb:PutItem" in used
    iam = aws.client("iam")
    for environment, other in (("dev", "prod"), ("prod", "dev")):
        table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/order-events-{environment}-idempotency"
        deploy = roles[f"github-deploy-{environment}"]
        for action in ("CreateTable", "UpdateTimeToLive", "UpdateContinuousBackups", "DeleteTable"):
            assert deploy.may(f"dynamodb:{action}", table)
            assert not roles[f"github-deploy-{other}"].may(f"dynamodb:{action}", table)
        assert not any(deploy.may(action, table) for action in used)
        boundary = iam.get_policy_version(
            PolicyArn=applied["permissions_boundaries"][environment], VersionId="v1"
        )["PolicyVersion"]["Document"]
        allowed = {
            action
            for statement in statements(boundary)
            if any(fnmatch.fnmatchcase(table, arn) for arn in listed(statement["Resource"]))
            for action in listed(statement["Action"])
        }
        assert used - allowed == set()


@pytest.mark.slow
def test_the_bucket_is_versioned_private_and_forgets_plans(
    applied: dict[str, Any], aws: LocalAws
) -> None:
    s3, bucket = aws.client("s3"), applied["state_bucket"]
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True}
    (policy,) = statements(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert policy["Effect"] == "Deny"
    assert policy["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    (plans,) = [rule for rule in rules if rule["Filter"].get("Prefix") == "plans/"]
    assert plans["Expiration"]["Days"] == 7


COMMAND = re.compile(
    r"gh variable set (\w+) --repo my-company/order-events (?:--env (dev|prod) )?--body (\S+)"
)
VARIABLES = {
    ("AWS_PLAN_ROLE_DEV", None): "github-plan-dev",
    ("AWS_PLAN_ROLE_PROD", None): "github-plan-prod",
    ("AWS_MAIN_PLAN_ROLE_PROD", None): "github-main-plan-prod",
    ("AWS_OPERATE_ROLE_DEV", None): "github-operate-dev",
    ("AWS_OPERATE_ROLE_PROD", None): "github-operate-prod",
}
OF_ENVIRONMENTS = {
    ("AWS_DEPLOY_ROLE", "dev"): "github-deploy-dev",
    ("AWS_DEPLOY_ROLE", "prod"): "github-deploy-prod",
}
OF_NO_ENVIRONMENT = {
    ("AWS_DEPLOY_ROLE_DEV", None): "github-deploy-dev",
    ("AWS_DEPLOY_ROLE_PROD", None): "github-deploy-prod",
}


def commands(printed: str) -> dict[tuple[str, str | None], str]:
    """Return the role that each variable, of the repository or an environment, is set to."""
    matches = [COMMAND.fullmatch(command) for command in printed.splitlines()]
    assert None not in matches, printed
    return {(one[1], one[2]): one[3].rpartition("/")[2] for one in matches if one}


@pytest.mark.slow
def test_the_printed_commands_set_every_variable_that_the_workflows_read(
    applied: dict[str, Any],
) -> None:
    files = (SERVICE / ".github").rglob("*.yml")
    read = {
        name
        for file in files
        for name in re.findall(r"vars\.(AWS_[A-Z_]+)", file.read_text(encoding="utf-8"))
    }
    # `tools.github` gets all variables, and reads these.
    read |= {*approval.ROLES, *approval.DEPLOY_ROLES}
    set_ = VARIABLES | OF_ENVIRONMENTS
    assert commands(applied["github_commands"]) == set_
    assert read == {name for name, _ in set_ | OF_NO_ENVIRONMENT}
    readme = (BOOTSTRAP / "README.md").read_text(encoding="utf-8")
    for (name, environment), role in (set_ | OF_NO_ENVIRONMENT).items():
        where = f"environment `{environment}`" if environment else "repository"
        assert f"| `{name}` | {where} | ARN of `{role}` |" in readme


@pytest.mark.slow
def test_the_topics_are_made(applied: dict[str, Any], aws: LocalAws) -> None:
    made = applied["topic_arns"]
    assert set(made) == {"events-dev", "events-prod", "orders-dev.fifo", "orders-prod.fifo"}
    for name, arn in made.items():
        attributes = aws.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
        assert attributes["KmsMasterKeyId"] == "alias/aws/sns"
        assert (attributes.get("FifoTopic") == "true") == name.endswith(".fifo")


@pytest.mark.slow
def test_queues_are_the_services_own_fifo_or_not(roles: dict[str, Role]) -> None:
    role = roles["github-deploy-dev"]
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:order-events"
    for end, kind in itertools.product(["", "-dlq", "-undelivered"], ["", ".fifo"]):
        assert role.may("sqs:CreateQueue", f"{queue}-dev{end}{kind}")
        assert not role.may("sqs:CreateQueue", f"{queue}-prod{end}{kind}")
        assert not role.may("sqs:CreateQueue", f"{queue}-device-prod{end}{kind}")
        assert not role.may("sqs:CreateQueue", f"{queue}-dev-2-dev{end}{kind}")


@pytest.mark.slow
def test_the_policies_are_those_that_are_proven(
    applied: dict[str, Any], roles: dict[str, Role], aws: LocalAws
) -> None:
    """tests/permissions/roles.json has what was made here; RECORD_PERMISSIONS=1 writes it anew."""
    iam = aws.client("iam")

    def document(arn: str) -> Any:
        return iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]

    people = [f"operate-{environment}" for environment in applied["operate_policies"]]
    made: dict[str, Any] = {
        "roles": {name: sorted(role.policies) for name, role in roles.items()}
        | {name: [name] for name in people},
        "policies": {
            **{name: found for role in roles.values() for name, found in role.policies.items()},
            **dict(zip(people, map(document, applied["operate_policies"].values()), strict=True)),
            **{
                f"services-{environment}": document(arn)
                for environment, arn in applied["permissions_boundaries"].items()
            },
        },
    }
    if os.environ.get("RECORD_PERMISSIONS"):
        text = json.dumps(made, sort_keys=True).replace('{"Action"', '\n{"Action"')  # a line each
        ROLES.write_text(f"{text}\n", encoding="utf-8")
    assert made == json.loads(ROLES.read_text(encoding="utf-8"))


REFUSED = {
    "values that nothing knows": (
        {
            "environments": ["staging"],
            "repositories": [{"name": "my-company/*", "owner_id": 1, "id": 2}],
            "services": ["Order"],
            "boundary_actions": ["iam:PassRole"],
            "layers": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:otel"],
            "log_destinations": [f"arn:aws:logs:us-east-1:{ACCOUNT}:destination:central"],
            "default_branch": "refs/heads/main",
            "topics": ["orders.fifo-dev"],
        },
        [
            *("dev, prod or both", "no wildcard", "services has 1 to 10 elements"),
            *("none of iam, sts", "layers are ARNs of versions", f"ARNs in {REGION} of Kinesis"),
            "default_branch must be the name of a branch, like main",
            "with .fifo at the end for FIFO topics",
        ],
    ),
    "nothing, or everything": (
        {"environments": [], "repositories": [], "services": [], "boundary_actions": ["*"]},
        ["dev, prod or both", "at least one", "services has 1 to 10 elements", "none of iam, sts"],
    ),
    "more than fits": (
        {
            "services": [letter * 40 for letter in "abcdefghij"],
            "boundary_actions": [f"s3:GetObject{'x' * 40}"] * 150,
            "repositories": [{"name": f"my-company/{'r' * 60}", "owner_id": 1, "id": 2}] * 30,
        },
        [
            "The policy github-deploy-dev-data has ",
            "characters, and IAM takes 6,144: name fewer services",
            "The policy services-dev has ",
            "The trust policy of github-plan-dev has ",
            "at most 8,192: name fewer repositories.",
        ],
    ),
}


def planned_with(
    initialised: Path, folder: Path, settings: dict[str, Any], *options: str, state: str = "none"
) -> subprocess.CompletedProcess[str]:
    """Plan with other settings: for an empty account, or for that of another state."""
    file = folder / "other.tfvars.json"
    file.write_text(json.dumps({**SETTINGS, **settings}))
    fixed = ("-input=false", "-lock=false", f"-var-file={file}", f"-state={state}")
    return terraform(initialised, "plan", *fixed, *options)


@pytest.mark.slow
def test_five_services_with_the_longest_names_fit(
    initialised: Path, aws: LocalAws, tmp_path: Path
) -> None:
    """And 25 repositories, once the quota of trust policies is raised."""
    settings = {
        "services": [letter * 40 for letter in "abcde"],
        "repositories": [
            {"name": f"my-company/order-events-{number}", "owner_id": 10**8, "id": 10**9 + number}
            for number in range(25)
        ],
    }
    done = planned_with(initialised, tmp_path, settings)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_no_role_has_more_policies_than_iam_attaches(roles: dict[str, Role]) -> None:
    attached = {name: role.attached for name, role in roles.items()}
    assert attached["github-deploy-prod"] > attached["github-plan-prod"] > 0
    # AWS's default quota is 10. Two are left to whoever needs more.
    assert max(attached.values()) <= 8


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_setting_is_refused(
    initialised: Path, aws: LocalAws, tmp_path: Path, case: str
) -> None:
    settings, messages = REFUSED[case]
    done = planned_with(initialised, tmp_path, settings)
    assert done.returncode == 1, done.stdout
    said = " ".join(done.stdout.replace("│", " ").split())
    assert [message for message in messages if message not in said] == []


def test_terraform_fmt_finds_nothing() -> None:
    need("terraform")
    run("terraform", "fmt", "-check", "-diff", BOOTSTRAP, cwd=BOOTSTRAP)

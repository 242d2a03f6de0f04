"""The bootstrap's policies against what was asked in them: nothing is missing, nothing too much.

What the runs under these roles asked is in tests/permissions/*.jsonl; `make soak` records it anew.
"""

import functools
import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import Session
from conftest import SERVICE
from delivery import PERMISSIONS
from tools.local.policy import Question, applies, listed, refusal

REFERENCE = json.loads((PERMISSIONS / "reference.json").read_text(encoding="utf-8"))
MADE = json.loads((PERMISSIONS / "roles.json").read_text(encoding="utf-8"))

# Roles that plan whatever the plan role of pull requests plans, in the same environment.
PLANS = {
    "github-main-plan-prod": "github-plan-prod",
    "github-operate-dev": "github-plan-dev",
    "github-operate-prod": "github-plan-prod",
}

# Statements without which all that was asked is still allowed.
SPARE = {
    # These forbid: see the last test.
    *("no-plans of github-plan-dev 0", "no-plans of github-plan-prod 0"),
    # make status looks at tasks that stopped; moto starts none.
    *("operate-dev Tasks", "operate-prod Tasks"),
    # The runs were recorded with the provider's version 5.100, which doesn't ask.
    *("github-deploy-dev-containers Deployments", "github-deploy-prod-containers Deployments"),
    *("github-operate-dev-settings Deployments", "github-operate-prod-settings Deployments"),
}

# Actions that no run asks for, by the reason why they stay.
UNASKED = {
    "5.100 reads these tags with the resource; another version may ask for them alone.": {
        "ecs:ListTagsForResource",
        "iam:ListRoleTags",
        "lambda:ListTags",
    },
    "A tag is taken away only by an update of the template.": {
        "application-autoscaling:UntagResource",
        "cloudwatch:UntagResource",
        "dynamodb:UntagResource",
        "ec2:DeleteTags",
        "ecr:UntagResource",
        "ecs:UntagResource",
        "iam:UntagRole",
        "lambda:UntagResource",
        "logs:UntagResource",
        "sqs:UntagQueue",
    },
    "Only an update of the template, or of the bootstrap, changes this setting.": {
        "ec2:ModifySecurityGroupRules",
        "ecr:PutImageScanningConfiguration",
        "ecr:PutImageTagMutability",
        "ecs:UpdateCluster",
        "iam:PutRolePermissionsBoundary",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
        "iam:UpdateRoleDescription",
    },
    "deletion_protection of the table is set or lifted.": {"dynamodb:UpdateTable"},
    "The runs replace the target of scaling together with its tags.": {
        "application-autoscaling:TagResource",
    },
    "make doctor asks.": {"sns:GetTopicAttributes"},
    "make dlq-redrive CANCEL=1 asks, while a redrive is under way.": {"sqs:CancelMessageMoveTask"},
}


# A queue, or a topic.
NAME = re.compile(r'(?<=")(arn:aws:s[nq]s:[^"]*-{environment}(-dlq|-undelivered)?)(?=")')


def asked() -> dict[str, list[Question]]:
    """Return what was asked in each role, in both environments.

    A FIFO service asks the same, of names that end in .fifo.
    """
    found: dict[str, list[Question]] = {name: [] for name in MADE["roles"]}
    for file in sorted(PERMISSIONS.glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        for line in dict.fromkeys([*lines, *(NAME.sub(r"\1.fifo", line) for line in lines)]):
            for environment in ("dev", "prod"):
                roles, *question = json.loads(line.replace("{environment}", environment))
                for role in found:
                    if role == "operate-prod" and question[0] == "sns:Publish":
                        continue  # it may not
                    if {role, PLANS.get(role)} & {*roles}:
                        found[role].append(Question(*question))
    return found


ASKED = asked()


def refused(role: str, question: Question, without: str = "") -> str:
    """Tell why a role's policies, without one of the statements, refuse something; "" if not.

    Only the statements that name the action count, and there is no wildcard in an action's name.
    """
    left = [
        one
        for policy in MADE["roles"][role]
        for name, one in statements(policy)
        if name != without and {question.action, "s3:*"} & set(listed(one["Action"]))
    ]
    return refusal(question, [{"Statement": left}])


def statements(policy: str) -> Iterator[tuple[str, Any]]:
    """Return a policy's statements, each with a name: the policy's, and its Sid or number."""
    for number, one in enumerate(MADE["policies"][policy]["Statement"]):
        yield f"{policy} {one.get('Sid', number)}", one


EACH = [
    pytest.param(role, name, id=f"{role}: {name}")
    for role, policies in MADE["roles"].items()
    for policy in policies
    for name, _ in statements(policy)
]


@pytest.mark.parametrize("role", MADE["roles"])
def test_all_that_was_asked_is_allowed(role: str) -> None:
    assert len(ASKED[role]) > 10
    assert [one for one in ASKED[role] if refused(role, one)] == []


@pytest.mark.parametrize(("role", "name"), EACH)
def test_without_any_one_statement_something_fails(role: str, name: str) -> None:
    (removed,) = [
        one for policy in MADE["roles"][role] for x, one in statements(policy) if x == name
    ]
    asked = [one for one in ASKED[role] if one.action in listed(removed["Action"])]
    failed = [one for one in asked if refused(role, one, name)]
    assert bool(failed) == (name not in SPARE)


def test_no_action_is_allowed_that_nothing_asks_for() -> None:
    """Each action of each statement was asked for, of a resource that the statement names."""
    unasked = {
        action
        for role, policies in MADE["roles"].items()
        for policy in policies
        for name, statement in statements(policy)
        if name not in SPARE
        for action in listed(statement["Action"])
        if not any(
            one.action == action and applies({**statement, "Action": [action]}, one)
            for one in ASKED[role]
        )
    }
    assert unasked == {action for actions in UNASKED.values() for action in actions}


@functools.cache
def overlap(one: str, other: str) -> bool:
    """Tell whether two patterns, in which * stands for any characters, have a text in common."""
    if not one or not other:
        return not (one + other).strip("*")
    if other[0] == "*":
        one, other = other, one
    if one[0] == "*":
        return overlap(one[1:], other) or overlap(one, other[1:])
    return one[0] == other[0] and overlap(one[1:], other[1:])


@pytest.mark.parametrize("policy", MADE["policies"])
def test_each_action_exists_and_has_the_resources_that_are_named(policy: str) -> None:
    """By the Service Authorization Reference, of which reference.json has what counts here."""
    wrong = []
    for name, statement in statements(policy):
        if name in SPARE or "BusinessLogic" in name:
            continue
        for action in listed(statement["Action"]):
            if not any(
                overlap(*pair) for pair in product(statement["Resource"], REFERENCE[action])
            ):
                wrong.append(f"{name}: {action} is about {REFERENCE[action]}")
        for resource in statement["Resource"]:
            of_all = [x for action in statement["Action"] for x in REFERENCE[action]]
            if not any(overlap(resource, x) for x in of_all):
                wrong.append(f"{name}: no action is about {resource}")
    assert wrong == []


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_pull_requests_reach_no_saved_plan_whatever_is_allowed(environment: str) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    plan = "arn:aws:s3:::my-company-terraform-state/plans/order-events/prod/1/prod.tfplan"
    policies = [MADE["policies"][name] for name in MADE["roles"][f"github-plan-{environment}"]]
    for action in ("s3:GetObject", "s3:PutObject"):
        assert refusal(Question(action, plan), [*policies, {"Statement": [everything]}])


# Asked in tools/operate, but not by people: AWS allows the first to everybody, and whoever rolls
# back on Fargate has a role that may ask for the second.
NOT_IN_PEOPLES_POLICY = {"sts:GetCallerIdentity", "ecr:BatchGetImage"}


@pytest.mark.parametrize(
    "file", sorted(SERVICE.glob("tools/operate/*.py")), ids=lambda file: file.name
)
def test_people_may_ask_aws_for_what_the_operating_commands_ask(file: Path) -> None:
    """By the names of boto3's methods. What the resources must be, `make permissions` finds out."""
    text = file.read_text(encoding="utf-8")
    called = {*re.findall(r"\.(\w+)\(", text), *re.findall(r'get_paginator\("(\w+)"', text)}
    asked = {
        f"{service}:{operation}"
        for service in {*re.findall(r'client\("([\w-]+)"\)', text)}
        for operation in Session().get_service_model(service).operation_names
        if xform_name(operation) in called
    }
    allowed = {
        action
        for policy in MADE["roles"]["operate-dev"]
        for _, one in statements(policy)
        for action in listed(one["Action"])
    }
    refused = asked - allowed - NOT_IN_PEOPLES_POLICY
    assert refused == set(), "add it to terraform/bootstrap/people.tf, then run make permissions"

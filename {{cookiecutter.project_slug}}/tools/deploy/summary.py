"""A Terraform plan as Markdown that somebody who knows no Terraform can read.

First how many resources are added, changed and destroyed, then which ones and what changes in them,
then what to watch out for, and last the whole plan, folded.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# GitHub takes comments of up to 65,536 characters, and one comment holds two plans.
LIMIT = 30_000

# What people call the resources of a service. Others go by Terraform's own name.
NAMES = {
    "aws_appautoscaling_policy": "Scaling policy",
    "aws_appautoscaling_target": "Scaling of the number of tasks",
    "aws_cloudwatch_dashboard": "CloudWatch dashboard",
    "aws_cloudwatch_log_group": "Log group",
    "aws_cloudwatch_log_subscription_filter": "Log subscription",
    "aws_cloudwatch_metric_alarm": "CloudWatch alarm",
    "aws_dynamodb_table": "DynamoDB table",
    "aws_ecr_lifecycle_policy": "How long images are kept",
    "aws_ecr_repository": "ECR repository",
    "aws_ecs_cluster": "ECS cluster",
    "aws_ecs_cluster_capacity_providers": "Capacity providers of the ECS cluster",
    "aws_ecs_service": "ECS service",
    "aws_ecs_task_definition": "Task definition (a new revision; earlier ones stay)",
    "aws_iam_role": "IAM role",
    "aws_iam_role_policy": "IAM policy of a role",
    "aws_lambda_alias": "Lambda alias",
    "aws_lambda_event_source_mapping": "Event source mapping (queue to function)",
    "aws_lambda_function": "Lambda function",
    "aws_lambda_permission": "Lambda permission",
    "aws_s3_object": "Package in S3",
    "aws_security_group": "Security group",
    "aws_sns_topic_subscription": "Subscription to the topic",
    "aws_sqs_queue": "SQS queue",
    "aws_sqs_queue_policy": "SQS queue policy",
    "aws_sqs_queue_redrive_allow_policy": "Redrive allow policy of a queue",
    "aws_sqs_queue_redrive_policy": "Redrive policy of a queue",
    "aws_vpc_security_group_egress_rule": "What a security group lets out",
}
# Attributes that name a resource in AWS, the best first.
NAMED_BY = ("alarm_name", "dashboard_name", "name", "function_name")
# Of what is known only after the plan is applied, this is worth a reader's time.
TOLD_IF_UNKNOWN = {"function_version", "version"}
# Resources that hold what can't be made again.
HOLDS_DATA = {"aws_dynamodb_table": "items", "aws_sqs_queue": "messages"}

ACTIONS = {
    ("create",): "add",
    ("update",): "change",
    ("delete",): "**destroy**",
    ("delete", "create"): "**replace**",
    ("create", "delete"): "**replace**",
    ("forget",): "forget",
}


def changed_resources(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes of resources that applying the plan makes, as Terraform describes them."""
    changes: list[dict[str, Any]] = plan.get("resource_changes", [])
    return [change for change in changes if tuple(change["change"]["actions"]) in ACTIONS]


def has_changes(plan: Mapping[str, Any]) -> bool:
    """Tell whether applying the plan would change anything, outputs included."""
    outputs = plan.get("output_changes", {}).values()
    return bool(changed_resources(plan)) or any(o["actions"] != ["no-op"] for o in outputs)


def counts(plan: Mapping[str, Any]) -> str:
    """Say in words how much the plan changes: ``1 to add, 2 to change``."""
    verbs = {"create": "add", "update": "change", "delete": "destroy", "forget": "forget"}
    number = dict.fromkeys(verbs.values(), 0)
    for resource in changed_resources(plan):
        for action in resource["change"]["actions"]:
            number[verbs[action]] += 1
    words = ", ".join(f"{count} to {verb}" for verb, count in number.items() if count)
    if words:
        return f"{words}." if number["destroy"] else f"{words}; nothing is destroyed."
    return "Only outputs change." if has_changes(plan) else "Nothing changes."


def summarise(
    plan: Mapping[str, Any], text: str, service: str, environment: str, link: str = ""
) -> str:
    """Return the plan as Markdown.

    :param plan: what ``terraform show -json`` printed.
    :param text: what ``terraform show -no-color`` printed.
    :param link: where the whole plan can be read, for one that is cut.
    :returns: at most LIMIT characters, with a line break at the end.
    """
    lines = [f"### {service}: plan for {environment}", "", f"**{counts(plan)}**", ""]
    resources = changed_resources(plan)
    if resources:
        lines += ["| What | Resource | Differences |", "|---|---|---|"]
        lines += [_row(resource) for resource in resources]
        lines.append("")
    lines += [f"> {note}\n" for note in _notes(plan, environment)]
    head = "\n".join(lines) + "\n"
    cut = f"\n\n… cut: the whole plan is [in the run]({link}).\n" if link else "\n\n… cut.\n"
    if len(head) > LIMIT - len(cut) - 2000:
        head = head[: LIMIT - len(cut) - 2000].rpartition("\n")[0] + cut
    return head + _folded(text.strip("\n"), LIMIT - len(head), cut)


def _folded(text: str, room: int, cut: str) -> str:
    """Fold the text away in a code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    begin = f"<details><summary>The whole plan</summary>\n\n{fence}\n"
    end = f"\n{fence}\n\n</details>\n"
    room -= len(begin) + len(end)
    if len(text) > room:
        text = text[: room - len(cut)].rpartition("\n")[0]
        end = f"\n{fence}{cut}\n</details>\n"
    return begin + text + end


def _row(resource: Mapping[str, Any]) -> str:
    change = resource["change"]
    actions = tuple(change["actions"])
    kind = NAMES.get(resource["type"], resource["type"])
    details = list(_differences(change)) if actions != ("create",) else []
    if change.get("replace_paths"):
        paths = ", ".join(_code(".".join(map(str, path))) for path in change["replace_paths"])
        details.insert(0, f"made anew because of {paths}")
    return f"| {ACTIONS[actions]} | {kind} {_code(_name(resource))} | {', '.join(details)} |"


def _name(resource: Mapping[str, Any]) -> str:
    """Return the resource's name in AWS, its name in Terraform where it has none."""
    change = resource["change"]
    for values in (change.get("before"), change.get("after")):
        for attribute in NAMED_BY:
            if values and isinstance(values.get(attribute), str):
                return str(values[attribute])
    return str(resource["address"]).removeprefix(f"{resource['type']}.")


def _differences(change: Mapping[str, Any]) -> Iterator[str]:
    """Yield the attributes that differ; with their values where these are short and no secret."""
    before, after = change.get("before") or {}, change.get("after")
    if after is None:
        return
    unknown = change.get("after_unknown") or {}
    secret = [change.get("before_sensitive") or {}, change.get("after_sensitive") or {}]
    for name in sorted({*before, *after, *unknown}):
        old, new = before.get(name), after.get(name)
        if unknown.get(name) is True:
            if name not in TOLD_IF_UNKNOWN:
                continue
            new = "a new one"
        elif old == new:
            continue
        if name == "source_code_hash":
            yield "the code"
        elif any(side is True or side.get(name) for side in secret) or not _short(old, new):
            yield _code(name)
        else:
            yield f"{_code(name)}: {_value(old)} → {_value(new)}"


def _short(*values: Any) -> bool:
    return all(
        value is None or (isinstance(value, str | int | float) and len(str(value)) <= 60)
        for value in values
    )


def _value(value: Any) -> str:
    return "nothing" if value in (None, "") else _code(json.dumps(value).strip('"'))


def _code(text: str) -> str:
    """Show text as it is, whatever is in it, inside a table."""
    safe = html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")
    return f"<code>{safe}</code>"


def _notes(plan: Mapping[str, Any], environment: str) -> Iterator[str]:
    for resource in changed_resources(plan):
        held = HOLDS_DATA.get(resource["type"])
        if held and "delete" in resource["change"]["actions"]:
            yield f"**Careful:** {_code(_name(resource))} is destroyed, and its {held} are lost."
    pin = plan.get("variables", {}).get("live_version", {}).get("value")
    if pin is not None:
        weight = plan["variables"].get("canary_weight", {}).get("value") or 0
        share = f"{weight:.0%} of the batches" if weight else "no messages"
        yield (
            f"**Rolled back:** `live_version` in `environments/{environment}.tfvars` keeps the "
            f"messages at version {pin}, and the newest version gets {share}. `make rollback "
            f"ENV={environment} VERSION=latest` lifts that."
        )
    if plan.get("variables", {}).get("event_source_mapping_enabled", {}).get("value") is False:
        yield f"**Paused:** messages wait in the queue until `make resume ENV={environment}`."
    drifted = [
        _code(_name(resource)) for resource in plan.get("resource_drift", []) if _drifted(resource)
    ]
    if drifted:
        names = ", ".join(dict.fromkeys(drifted))
        yield f"**By hand:** changed outside Terraform since the last deployment: {names}."


def _drifted(resource: Mapping[str, Any]) -> bool:
    """Tell whether somebody changed or deleted it; two ways to write "nothing" are no change."""
    before, after = resource["change"].get("before") or {}, resource["change"].get("after")
    if after is None:
        return True
    return any(
        (before.get(name) or None) != (after.get(name) or None) for name in {*before, *after}
    )

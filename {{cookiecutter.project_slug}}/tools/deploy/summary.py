"""A Terraform plan as Markdown that somebody who knows no Terraform can read.

First how many resources are added, changed and destroyed, then which ones and what changes in them,
then what to watch out for, and last the whole plan, folded.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# GitHub takes comments of up to 65,536 characters, and one comment holds two plans.
LIMIT = 30_000
# Attributes that name a resource in AWS, the best first.
NAMED_BY = ("alarm_name", "dashboard_name", "name", "function_name")
# Of what is known only after the plan is applied, this is worth a reader's time.
TOLD_IF_UNKNOWN = {"function_version", "version"}
# Resources that hold what cannot be made again.
HOLDS_DATA = {"aws_dynamodb_table": "items", "aws_sqs_queue": "messages"}
# What other resources of the service set: the next plan takes that for a change by somebody else.
SET_BY_OTHERS = {
    "aws_iam_policy": {"attachment_count"},
    "aws_iam_role": {"inline_policy"},
    "aws_s3_bucket": {
        *("cors_rule", "grant", "lifecycle_rule", "logging", "policy", "replication_configuration"),
        *("server_side_encryption_configuration", "versioning"),
    },
    "aws_sns_topic": {"policy"},
    "aws_sqs_queue": {"policy", "redrive_allow_policy", "redrive_policy"},
}
# The resource that keeps what was deployed last, and its outputs.
RECORD = "terraform_data.deployed"
RECORD_OUTPUTS = {"commit", "settings"}
ACTIONS = {
    ("create",): "add",
    ("update",): "change",
    ("delete",): "**destroy**",
    ("delete", "create"): "**replace**",
    ("create", "delete"): "**replace**",
    ("forget",): "forget",
}


def changed_resources(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes of resources in AWS that applying makes, as Terraform describes them."""
    changes: list[dict[str, Any]] = plan.get("resource_changes", [])
    made = [change for change in changes if tuple(change["change"]["actions"]) in ACTIONS]
    return [change for change in made if change["address"] != RECORD]


def record(plan: Mapping[str, Any], side: str = "before") -> dict[str, Any]:
    """Return what the state says of the last deployment, before the plan is applied or after."""
    for change in plan.get("resource_changes", []):
        if change["address"] == RECORD:
            return dict((change["change"][side] or {}).get("input") or {})
    return {}


def _settings(plan: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what make rollback and make pause have set, before and after."""
    return record(plan).get("settings", {}), record(plan, "after").get("settings", {})


def has_changes(plan: Mapping[str, Any]) -> bool:
    """Tell whether applying the plan would change anything, outputs and settings included."""
    outputs = plan.get("output_changes", {}).items()
    told = any(o["actions"] != ["no-op"] for name, o in outputs if name not in RECORD_OUTPUTS)
    old, new = _settings(plan)
    return bool(changed_resources(plan)) or told or old != new


def counts(plan: Mapping[str, Any]) -> str:
    """Say in words how much the plan changes: ``1 to add, 2 to change``."""
    verbs = {"create": "add", "update": "change", "delete": "destroy", "forget": "forget"}
    actions = [action for item in changed_resources(plan) for action in item["change"]["actions"]]
    number = {verb: actions.count(action) for action, verb in verbs.items() if action in actions}
    if words := ", ".join(f"{count} to {verb}" for verb, count in number.items()):
        return f"{words}." if "destroy" in number else f"{words}; nothing is destroyed."
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
    if rows := [_row(resource) for resource in changed_resources(plan)]:
        lines += ["| What | Resource | Differences |", "|---|---|---|", *rows, ""]
    lines += [f"> {note}\n" for note in _notes(plan, environment)]
    cut = f"\n\n… cut: the whole plan is [in the run]({link}).\n" if link else "\n\n… cut.\n"
    head = "\n".join(lines) + "\n"
    if len(head) > LIMIT - 2000:
        head = head[: LIMIT - 2000 - len(cut)].rpartition("\n")[0] + cut
    # The text is folded away, in a code block that nothing in it can end.
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    begin = f"<details><summary>The whole plan</summary>\n\n{fence}\n"
    end = f"\n{fence}\n\n</details>\n"
    room = LIMIT - len(head) - len(begin) - len(end) - len(cut)
    text = text.strip("\n")
    if len(text) > room:
        text, end = text[:room].rpartition("\n")[0], f"\n{fence}{cut}\n</details>\n"
    return head + begin + text + end


def _row(resource: Mapping[str, Any]) -> str:
    change = resource["change"]
    actions = tuple(change["actions"])
    kind = str(resource["type"]).removeprefix("aws_").replace("_", " ")
    both = change.get("before") is not None and change.get("after") is not None
    details = list(_differences(change)) if both else []
    if change.get("replace_paths"):
        paths = ", ".join(_code(".".join(map(str, path))) for path in change["replace_paths"])
        details.insert(0, f"replaced because of {paths}")
    return f"| {ACTIONS[actions]} | {kind} {_code(_name(resource))} | {', '.join(details)} |"


def _name(resource: Mapping[str, Any]) -> str:
    """Return the resource's name in AWS, its name in Terraform where it has none."""
    sides = (resource["change"].get("before") or {}, resource["change"].get("after") or {})
    names = [side.get(attribute) for side in sides for attribute in NAMED_BY]
    own = str(resource["address"]).removeprefix(f"{resource['type']}.")
    return next((name for name in names if isinstance(name, str)), own)


def _differences(change: Mapping[str, Any]) -> Iterator[str]:
    """Yield the attributes that differ; with their values where these are short and no secret."""
    before, after = change.get("before") or {}, change.get("after") or {}
    unknown = change.get("after_unknown") or {}
    secret = [change.get("before_sensitive") or {}, change.get("after_sensitive") or {}]
    for name in sorted({*before, *after, *unknown}):
        old, new = before.get(name), after.get(name)
        if unknown.get(name) is True and name in TOLD_IF_UNKNOWN:
            new = "a new one"
        elif unknown.get(name) is True or old == new:
            continue
        hidden = any(side is True or side.get(name) for side in secret)
        if name == "source_code_hash":
            yield "the code"
        elif hidden or any(isinstance(x, list | dict) or len(str(x)) > 60 for x in (old, new)):
            yield _code(name)
        else:
            yield f"{_code(name)}: {_value(old)} → {_value(new)}"


def _value(value: Any) -> str:
    return "nothing" if value in (None, "") else _code(json.dumps(value).strip('"'))


def _code(text: str) -> str:
    """Show text as it is, whatever is in it, inside a table."""
    safe = html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")
    return f"<code>{safe}</code>"


def warnings(plan: Mapping[str, Any], environment: str) -> Iterator[str]:
    """Yield what to watch out for, for a terminal."""
    for note in _notes(plan, environment):
        yield html.unescape(re.sub(r"\*\*|</?code>", "", note))


def _notes(plan: Mapping[str, Any], environment: str) -> Iterator[str]:
    """Yield what to watch out for."""
    for resource in changed_resources(plan):
        held = HOLDS_DATA.get(resource["type"])
        if held and "delete" in resource["change"]["actions"]:
            yield f"**Careful:** {_code(_name(resource))} is destroyed, and its {held} are lost."
    yield from _changed_settings(*_settings(plan))
    variables = {name: given.get("value") for name, given in plan.get("variables", {}).items()}
    if (pin := variables.get("live_version")) is not None:
        weight = variables.get("canary_weight") or 0
        share = f"{weight:.0%} of the batches" if weight else "no messages"
        yield (
            f"**Rolled back:** `live_version` in `environments/{environment}.tfvars` keeps the "
            f"messages at version {pin}, and the newest version gets {share}. `make rollback "
            f"ENV={environment} VERSION=latest` lifts that."
        )
    if variables.get("paused"):
        yield f"**Paused:** messages wait in the queue until `make resume ENV={environment}`."
    drift = [_code(_name(item)) for item in plan.get("resource_drift", []) if _drifted(item)]
    if drift:
        names = ", ".join(dict.fromkeys(drift))
        yield f"**By hand:** changed outside Terraform since the last deployment: {names}."


def _changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield which settings of make rollback and make pause the plan sets or takes back."""
    if (version := old.get("live_version")) and "live_version" not in new:
        yield f"**Careful:** this takes back the rollback to version {version}."
    if old.get("paused") and not new.get("paused"):
        yield "**Careful:** this resumes the service: it takes messages again."
    if new.get("paused") and not old.get("paused"):
        yield "**Careful:** this pauses the service."


def _drifted(resource: Mapping[str, Any]) -> bool:
    """Tell whether somebody changed or deleted it."""
    before, after = resource["change"].get("before") or {}, resource["change"].get("after")
    if after is None:
        return True
    names = {*before, *after} - SET_BY_OTHERS.get(resource["type"], set())
    # A role's policy is a resource of its own, but for one that was added by hand.
    inline, inline_before = (len(one.get("inline_policy") or ()) for one in (after, before))
    more = inline > inline_before > 0
    return more or any(_something(before.get(n)) != _something(after.get(n)) for n in names)


def _something(value: Any) -> Any:
    """Return a value without what is nothing in it: there are several ways to write that."""
    if isinstance(value, dict):
        value = {key: _something(item) for key, item in value.items() if _something(item)}
    elif isinstance(value, list):
        value = [_something(item) for item in value]
    return value or None

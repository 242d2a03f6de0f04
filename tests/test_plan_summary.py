"""The summary of a plan: readable, complete, and nothing in it can break out of its place."""

from typing import Any

import pytest
from tools.deploy.summary import LIMIT, has_changes, summarise, warnings


def resource(kind: str, actions: list[str], name: str = "this", **change: Any) -> dict[str, Any]:
    """Return one entry of resource_changes, as `terraform show -json` prints it."""
    address = f"{kind}.{name}"
    return {"address": address, "type": kind, "change": {"actions": actions, **change}}


def plan(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resource_changes": list(resources), **more}


def summary(shown: dict[str, Any], text: str = "the text", link: str = "") -> str:
    return summarise(shown, text, "order-events", "prod", link)


def test_counts_come_first_then_resources_then_the_whole_plan() -> None:
    shown = plan(
        resource("aws_sqs_queue", ["create"], after={"name": "order-events-prod"}),
        resource(
            "aws_lambda_function",
            ["update"],
            before={"function_name": "order-events-prod", "memory_size": 256},
            after={"function_name": "order-events-prod", "memory_size": 512},
        ),
        resource("aws_iam_role", ["no-op"], before={"name": "x"}, after={"name": "x"}),
    )
    assert summary(shown, "~ memory_size = 256 -> 512") == (
        "### order-events: plan for prod\n"
        "\n"
        "**1 to add, 1 to change; nothing is destroyed.**\n"
        "\n"
        "| What | Resource | Differences |\n"
        "|---|---|---|\n"
        "| add | sqs queue <code>order-events-prod</code> |  |\n"
        "| change | lambda function <code>order-events-prod</code> | "
        "<code>memory_size</code>: <code>256</code> → <code>512</code> |\n"
        "\n"
        "<details><summary>The whole plan</summary>\n"
        "\n"
        "```\n"
        "~ memory_size = 256 -> 512\n"
        "```\n"
        "\n"
        "</details>\n"
    )


@pytest.mark.parametrize(
    ("shown", "words", "changes"),
    [
        (plan(), "Nothing changes.", False),
        (plan(resource("aws_iam_role", ["no-op"])), "Nothing changes.", False),
        (plan(resource("aws_iam_role", ["read"])), "Nothing changes.", False),
        (plan(output_changes={"x": {"actions": ["no-op"]}}), "Nothing changes.", False),
        (plan(output_changes={"x": {"actions": ["update"]}}), "Only outputs change.", True),
        (plan(resource("aws_iam_role", ["delete"], before={})), "1 to destroy.", True),
        (
            plan(resource("aws_iam_role", ["delete", "create"], before={}, after={})),
            "1 to add, 1 to destroy.",
            True,
        ),
        (
            plan(resource("aws_iam_role", ["forget"], before={})),
            "1 to forget; nothing is destroyed.",
            True,
        ),
    ],
)
def test_the_count_is_right(shown: dict[str, Any], words: str, changes: bool) -> None:
    assert f"\n**{words}**\n" in summary(shown)
    assert has_changes(shown) is changes


def test_a_queue_that_is_destroyed_is_warned_of() -> None:
    name = {"name": "order-events-prod-dlq"}
    text = summary(
        plan(
            resource("aws_sqs_queue", ["delete"], before=name),
            resource(
                "aws_sqs_queue",
                ["delete", "create"],
                before=name,
                after=name,
                replace_paths=[["name"]],
            ),
            resource("aws_iam_role", ["delete"], before=name),
        )
    )
    careful = (
        "**Careful:** <code>order-events-prod-dlq</code> is destroyed, and its messages are lost."
    )
    assert text.count(careful) == 2
    assert "| **destroy** | sqs queue" in text
    assert "| **replace** | sqs queue" in text
    assert "replaced because of <code>name</code>" in text


def test_new_code_and_new_version_are_told_and_no_other_unknown() -> None:
    text = summary(
        plan(
            resource(
                "aws_lambda_function",
                ["update"],
                before={"function_name": "f", "source_code_hash": "a", "version": "1", "arn": "x"},
                after={"function_name": "f", "source_code_hash": "b"},
                after_unknown={"version": True, "arn": True},
            )
        )
    )
    assert "| the code, <code>version</code>: <code>1</code> → <code>a new one</code> |" in text


def test_a_secret_and_a_long_value_are_not_shown() -> None:
    text = summary(
        plan(
            resource(
                "aws_lambda_function",
                ["update"],
                before={"function_name": "f", "key": "old-secret", "text": "a" * 61, "list": [1]},
                after={"function_name": "f", "key": "new-secret", "text": "b", "list": [2]},
                before_sensitive={"key": True},
                after_sensitive={"key": True},
            )
        )
    )
    assert "secret" not in text
    assert "| <code>key</code>, <code>list</code>, <code>text</code> |" in text


@pytest.mark.parametrize("hostile", ["a|b", "a\nb", "`a`", "<b>", "](x)", "</code>", "@someone"])
def test_no_value_leaves_its_cell(hostile: str) -> None:
    shown = plan(
        resource(
            "aws_sqs_queue",
            ["update"],
            before={"name": "q", "x": "y"},
            after={"name": "q", "x": hostile},
        )
    )
    (row,) = [line for line in summary(shown).splitlines() if line.startswith("| change")]
    assert row.count("|") == 4
    inside = row.split("→")[1].removeprefix(" <code>").removesuffix("</code> |")
    assert "<" not in inside


def test_no_plan_ends_its_code_block() -> None:
    text = summary(plan(), "before\n```\n````\nafter")
    assert text.count("`````") == 2
    assert text.index("`````") < text.index("before") < text.index("after") < text.rindex("`````")


@pytest.mark.parametrize("many", [0, 2000])
def test_a_long_plan_is_cut_with_a_link_and_stays_well_formed(many: int) -> None:
    resources = [
        resource("aws_sqs_queue", ["create"], after={"name": f"queue-{number}"})
        for number in range(many)
    ]
    text = summary(plan(*resources), "a line\n" * 20_000, "https://example.com/run")
    assert LIMIT - 2500 < len(text) <= LIMIT
    assert "the whole plan is [in the run](https://example.com/run)" in text
    assert text.count("```") == 2
    assert text.endswith("\n</details>\n")


def test_a_pin_a_canary_and_a_pause_are_told() -> None:
    def variables(**values: Any) -> dict[str, Any]:
        return plan(variables={name: {"value": value} for name, value in values.items()})

    assert "Rolled back" not in summary(variables(live_version=None))
    pinned = summary(variables(live_version="3", canary_weight=0))
    assert "keeps the messages at version 3, and the newest version gets no messages." in pinned
    assert "`make rollback ENV=prod VERSION=latest` lifts that." in pinned
    canary = summary(variables(live_version="3", canary_weight=0.1))
    assert "the newest version gets 10% of the batches." in canary
    paused = summary(variables(paused=True))
    assert "**Paused:** messages wait in the queue until `make resume ENV=prod`." in paused
    assert "Paused" not in summary(variables(paused=False))


def record(before: dict[str, Any] | None, **after: Any) -> dict[str, Any]:
    """Return the change of what the state says of the last deployment."""
    old = before if before is None else {"input": {"commit": "a", "settings": before}}
    new = {"input": {"commit": "b", "settings": after}}
    update = {"actions": ["update"], "after_unknown": True}
    outputs = {"commit": update, "settings": update}
    change = resource("terraform_data", ["update"], "deployed", before=old, after=new)
    return plan(change, output_changes=outputs)


def test_what_a_plan_takes_back_is_told() -> None:
    rolled_back, paused = {"live_version": "1"}, {"paused": True}
    assert "this takes back the rollback to version 1." in summary(record(rolled_back))
    assert "this resumes the service" in summary(record(paused))
    assert "this pauses the service" in summary(record({}, paused=True))
    for unchanged in (record(paused, paused=True), record(rolled_back, live_version="2")):
        assert "this " not in summary(unchanged)


def test_on_a_terminal_it_is_told_without_markup() -> None:
    shown = plan(
        resource("aws_sqs_queue", ["delete"], before={"name": "a<b"}),
        variables={"live_version": {"value": "2"}},
    )
    assert [*warnings(shown, "prod")] == [
        "Careful: a<b is destroyed, and its messages are lost.",
        "Rolled back: `live_version` in `environments/prod.tfvars` keeps the messages at version "
        "2, and the newest version gets no messages. `make rollback ENV=prod VERSION=latest` lifts "
        "that.",
    ]


def test_another_commit_alone_is_no_change() -> None:
    assert not has_changes(record({}))
    assert "**Nothing changes.**" in summary(record({"paused": True}, paused=True))
    assert has_changes(record({}, paused=True))
    assert has_changes(record({"paused": True}))
    assert not has_changes(record(None))


def test_what_was_changed_by_hand_is_told() -> None:
    drift = [
        resource(
            "aws_lambda_function",
            ["update"],
            before={"function_name": "f", "timeout": 30, "tags": None},
            after={"function_name": "f", "timeout": 60, "tags": {}},
        ),
        resource(
            "aws_sqs_queue",
            ["update"],
            before={"name": "q", "tags": None},
            after={"name": "q", "tags": {}},
        ),
        resource("aws_iam_role", ["delete"], before={"name": "r"}, after=None),
    ]
    text = summary(plan(resource_drift=drift))
    told = "changed outside Terraform since the last deployment: <code>f</code>, <code>r</code>."
    assert told in text
    assert "By hand" not in summary(plan(resource_drift=drift[1:2]))


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("aws_sqs_queue", {"policy": "", "redrive_policy": ""}, {"policy": "{}"}),
        ("aws_sqs_queue", {"redrive_allow_policy": ""}, {"redrive_allow_policy": "{}"}),
        ("aws_iam_role", {"inline_policy": []}, {"inline_policy": [{"name": "code"}]}),
        ("aws_iam_policy", {"attachment_count": 0}, {"attachment_count": 1}),
        (
            "aws_s3_bucket",
            {"policy": "", "versioning": [{"enabled": False, "mfa_delete": False}]},
            {"policy": "{}", "versioning": [{"enabled": True, "mfa_delete": False}]},
        ),
        ("aws_sns_topic", {"policy": '{"Id": "__default_policy_ID"}'}, {"policy": "{}"}),
        (
            "aws_cloudwatch_metric_alarm",
            {"metric_query": [{"id": "rate", "period": None}]},
            {"metric_query": [{"id": "rate", "period": 0}]},
        ),
    ],
)
def test_what_the_first_deployment_sets_itself_is_not_told(
    kind: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Terraform notices it with the next plan, as if it had been changed by hand."""
    shown = plan(resource_drift=[resource(kind, ["update"], before=before, after=after)])
    assert "By hand" not in summary(shown)


def test_a_policy_that_was_changed_by_hand_is_told() -> None:
    change = {"before": {"policy": "{}"}, "after": {"policy": '{"Statement": []}'}}
    shown = plan(resource_drift=[resource("aws_sqs_queue_policy", ["update"], **change)])
    assert "By hand" in summary(shown)


def test_a_policy_that_was_added_to_the_role_by_hand_is_told() -> None:
    change = {"before": {"inline_policy": [{"name": "code"}]}}
    change["after"] = {"inline_policy": [{"name": "code"}, {"name": "more"}]}
    assert "By hand" in summary(
        plan(resource_drift=[resource("aws_iam_role", ["update"], **change)])
    )

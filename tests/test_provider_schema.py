"""What the Terraform files use is in version 6 of the AWS provider too, and not deprecated there.

provider_schema.json says what 5.100 and 6.x have in common, and what it was made from; `make
schema` refreshes it. For 5.100 alone, Terraform itself checks the files, in other tests.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
from conftest import TEMPLATE, Render

SCHEMA = json.loads((TEMPLATE / "tests" / "provider_schema.json").read_text(encoding="utf-8"))
EXPLICIT = hcl2.SerializationOptions(
    with_comments=False, explicit_blocks=True, strip_string_quotes=True
)
# Terraform's own, in any resource; Pulumi has timeouts of its own.
META = {"count", "depends_on", "for_each", "lifecycle", "provider", "timeouts", "__is_block__"}

# aws_x.name.attribute, perhaps with data. before it, and [0], [*] or ["key"] after each part.
INDEX = r"(?:\[[^][]*\])*"
REFERENCE = re.compile(rf"(?<!\.)\b(data\.)?(aws_\w+)\.\w+{INDEX}((?:\.\w+{INDEX})+)")


def problems(*files: Path) -> set[str]:
    """Return what 6.x does not have, or has differently, of what the files set and refer to."""
    return {problem for file in files for problem in _problems(file.read_text(encoding="utf-8"))}


def _problems(text: str) -> Iterator[str]:
    for kind, key in (("resource", "resource"), ("data_source", "data")):
        for one in hcl2.loads(text, serialization_options=EXPLICIT).get(key, []):
            for name, bodies in one.items():
                for body in bodies.values() if name.startswith("aws_") else ():
                    yield from _unknown(name, body, SCHEMA[kind].get(name))
    for data, name, path in REFERENCE.findall(text):
        facts = SCHEMA["data_source" if data else "resource"].get(name)
        for part in re.sub(INDEX, "", path)[1:].split("."):
            facts = facts.get(part) if isinstance(facts, dict) else facts
        if facts is None or "," in facts:
            yield f"{name}{path}: {facts}"


def _unknown(path: str, body: dict[str, Any], facts: Any) -> Iterator[str]:
    """Tell what in a block is not as the facts about it say."""
    if not isinstance(facts, dict) or "" in facts:
        yield f"{path}: {facts and 'deprecated'}"
        return
    for key, value in body.items():
        if key == "dynamic":
            for name, block in ((name, block) for one in value for name, block in one.items()):
                for content in block["content"]:
                    yield from _unknown(f"{path}.{name}", content, facts.get(name))
        elif isinstance(value, list) and value and _is_block(value[0]):
            for block in value if key not in META else ():
                yield from _unknown(f"{path}.{key}", block, facts.get(key))
        elif key not in META and not re.fullmatch(r"\w+", str(facts.get(key, ""))):
            yield f"{path}.{key}: {facts.get(key)}"


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and "__is_block__" in value


HINT = "6.x does not have it, or deprecates it. For a resource type new here, run `make schema`."


@pytest.mark.parametrize(("compute", "topic"), [("lambda", "events"), ("fargate", "events.fifo")])
def test_the_service_is_right_for_version_6(render: Render, compute: str, topic: str) -> None:
    service = render(compute=compute, sns_topic_name=topic, idempotency="yes")
    terraform = service / "terraform"
    assert problems(*terraform.glob("*.tf"), *terraform.glob("tests/*.hcl")) == set(), HINT


def test_the_bootstrap_is_right_for_version_6() -> None:
    files = (TEMPLATE / "terraform" / "bootstrap").glob("*.tf")
    assert problems(*files) == set(), HINT


SEEN = {
    "a made-up argument": (
        'resource "aws_sqs_queue" "q" {',
        "colour = 1",
        "aws_sqs_queue.colour: None",
    ),
    "a removed block": (
        'resource "aws_ecs_task_definition" "t" {',
        "inference_accelerator {\n}",
        "aws_ecs_task_definition.inference_accelerator: None",
    ),
    "a deprecated argument": (
        'resource "aws_s3_bucket" "b" {',
        'acl = "private"',
        "aws_s3_bucket.acl: string, deprecated",
    ),
    "a deprecated block": (
        'resource "aws_s3_bucket" "b" {',
        "versioning {\n}",
        "aws_s3_bucket.versioning: deprecated",
    ),
    "a dynamic block": (
        'resource "aws_lambda_alias" "a" {',
        'dynamic "routing_config" {\nfor_each = [1]\ncontent {\nweight = 1\n}\n}',
        "aws_lambda_alias.routing_config.weight: None",
    ),
    "a made-up attribute": (
        'output "o" {',
        "value = one(aws_lambda_function.this[*].version) + aws_lambda_function.this[0].hue",
        "aws_lambda_function.hue: None",
    ),
    "a type nobody has looked up": ('data "aws_region" "r" {', "", "aws_region: None"),
}


@pytest.mark.parametrize(("head", "body", "expected"), SEEN.values(), ids=SEEN.keys())
def test_what_version_6_does_not_have_is_seen(
    head: str, body: str, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "main.tf"
    file.write_text(f"{head}\n{body}\n}}\n")
    assert problems(file) == {expected}

"""Answers that differ in every way that matters, so that each pair of choices is rendered once."""

import json
from pathlib import Path

from allpairspy import AllPairs

QUESTIONS = json.loads((Path(__file__).parents[1] / "cookiecutter.json").read_text())

LONGEST_SLUG = "a" * 20 + "-" + "b" * 19

# As many and as long as may be, in other alphabets; the last is too long for a sample's file name.
LONG_TYPES = ",".join([*(f"{n}\u0430/ö;{94 * 'x'}" for n in range(10, 28)), "größe %*", "订" * 100])

# Each answer with its values: all choices of cookiecutter.json, and what is worth trying of others.
VALUES: dict[str, list[str]] = {
    **{
        name: values
        for name, values in QUESTIONS.items()
        if isinstance(values, list) and not name.startswith("_")
    },
    "sns_topic_name": ["events", "orders.fifo"],
    "service_path": [".", "services/order-events"],
    "terraform_state_bucket": ["", "my-company-terraform-state"],
    "event_types": ["order.created", "order.created, order.paid,refund.*", "*", LONG_TYPES],
    "project_slug": ["order-events", LONGEST_SLUG],
    "product": ["order-events", "A product_2.0:/=+-@ with" + "x" * 40],
    "aws_region": ["us-east-1", "us-gov-west-1"],
    "project_name": ["Order Events", "O'Brien's \"Größe\" \\ $(id) `id` & <b>"],
    "description": [
        "Handles orders.",
        "It's \"quoted\" \\ $(id) `id` ${x} %{y} {{ '{{' }} # ü € 🚀",
    ],
}


def pairwise() -> list[dict[str, str]]:
    """Return answers in which every pair of values of two answers occurs, deterministically."""
    return [dict(zip(VALUES, row, strict=True)) for row in AllPairs(list(VALUES.values()))]


def label(answers: dict[str, str]) -> str:
    """Name a combination in a test's id: the position of each value, in the order of ``VALUES``."""
    return "".join(str(VALUES[key].index(value)) for key, value in answers.items())

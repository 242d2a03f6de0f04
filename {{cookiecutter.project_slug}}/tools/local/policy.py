"""Whether a role's policies allow an action, by IAM's rules.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
Context = dict[str, list[str]]


class EvaluationError(Exception):
    """A policy asks for what is not known here: an operator, a condition key, a variable."""


@dataclass(frozen=True)
class Question:
    """May a role do this?

    resource is an ARN, "*" for an action without resource level, or None where it is not known: a
    statement about any resource then allows the action, and only one about all resources denies it.
    context has the values of condition keys. One with no values is absent from the request, and so
    is each key below one that ends in "/". All others are unknown.
    """

    action: str
    resource: str | None
    context: Context = field(default_factory=dict)


def refusal(
    question: Question, identity: list[Document], boundary: list[Document] | None = None
) -> str:
    """Return why a role may not do what is asked, as AWS words it; "" if it may.

    :param identity: the policies of the role.
    :param boundary: its permissions boundary, if it has one.
    :raises EvaluationError:
    """
    kinds = [("identity-based policy", identity)]
    if boundary is not None:
        kinds.append(("permissions boundary", boundary))
    for kind, documents in kinds:
        if matching("Deny", documents, question):
            article = "an" if kind[0] in "aeiou" else "a"
            return f"with an explicit deny in {article} {kind}"
    for kind, documents in kinds:
        if not matching("Allow", documents, question):
            return f"because no {kind} allows the {question.action} action"
    return ""


def matching(effect: str, documents: list[Document], question: Question) -> bool:
    """Tell whether a statement with that effect is about the question."""
    statements = [one for document in documents for one in listed(document["Statement"])]
    return any(one["Effect"] == effect and applies(one, question) for one in statements)


def applies(statement: Document, question: Question) -> bool:
    """Tell whether a statement is about the question. Raises EvaluationError."""
    action = question.action.lower()
    named = listed(statement.get("Action", statement.get("NotAction")))
    if any(glob(one.lower()).fullmatch(action) for one in named) != ("Action" in statement):
        return False
    resources = listed(statement.get("Resource", statement.get("NotResource")))
    if question.resource is None:
        if statement["Effect"] == "Deny" and resources != ["*"]:
            return False
    elif any(like(one, question.resource, question) for one in resources) != (
        "Resource" in statement
    ):
        return False
    return all(
        meets(operator, key, [text(value) for value in listed(expected)], question)
        for operator, keys in statement.get("Condition", {}).items()
        for key, expected in keys.items()
    )


def meets(operator: str, key: str, expected: list[str], question: Question) -> bool:
    """Tell whether the context meets a condition on one key. Raises EvaluationError."""
    quantifier, _, bare = operator.rpartition(":")
    name = bare.removesuffix("IfExists")
    actual = values(key, question)
    if name == "Null":
        return (not actual) == (expected == ["true"])
    negated = "Not" in name
    compare = COMPARE.get(name.replace("Not", "", 1))
    if compare is None or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise EvaluationError(f"the condition operator {operator}")
    if not actual:
        return bare != name or quantifier == "ForAllValues" or (negated and not quantifier)

    def fits(value: str) -> bool:
        return any(compare(one, value, question) for one in expected)

    if not quantifier:
        return any(map(fits, actual)) != negated
    return (all if quantifier == "ForAllValues" else any)(fits(one) != negated for one in actual)


def like(pattern: str, value: str, question: Question) -> bool:
    """Compare with a pattern that may have wildcards and policy variables."""
    compiled = glob(pattern, question)
    return compiled is not None and bool(compiled.fullmatch(value))


def like_arn(pattern: str, value: str, question: Question) -> bool:
    """Compare ARNs part by part: no wildcard matches a colon before the resource."""
    parts = list(zip(pattern.split(":", 5), value.split(":", 5), strict=False))
    return pattern == "*" or (len(parts) == 6 and all(like(*part, question) for part in parts))


def equal(expected: str, value: str, question: Question) -> bool:
    """Compare texts; the expected one may have policy variables."""
    wildcards = re.sub(r"[*?](?!\})", r"${\g<0>}", expected)
    return like(wildcards, value, question)


Compare = Callable[[str, str, Question], bool]
COMPARE: dict[str, Compare] = {
    "StringEquals": equal,
    "StringEqualsIgnoreCase": lambda one, value, q: equal(one.lower(), value.lower(), q),
    "StringLike": like,
    "ArnEquals": like_arn,
    "ArnLike": like_arn,
    "Bool": lambda one, value, _: one.lower() == value.lower(),
    "NumericEquals": lambda one, value, _: float(value) == float(one),
    "NumericLessThan": lambda one, value, _: float(value) < float(one),
    "NumericLessThanEquals": lambda one, value, _: float(value) <= float(one),
    "NumericGreaterThan": lambda one, value, _: float(value) > float(one),
    "NumericGreaterThanEquals": lambda one, value, _: float(value) >= float(one),
}


def glob(pattern: str, question: Question | None = None) -> Any:
    """Compile a pattern; without a question its variables are taken literally.

    :returns: None if the request lacks a variable: then nothing matches.
    """
    parts = []
    for token in re.findall(r"\$\{[^}]*\}|.", pattern, re.DOTALL):
        if question and (variable := re.fullmatch(r"\$\{([^,}]+)(?:, *'(.*)')?\}", token)):
            name, default = variable.groups()
            found = [name] if name in "*?$" else values(name, question) or [default]
            if len(found) != 1 or found[0] is None:
                return None
            parts.append(re.escape(found[0]))
        else:
            parts.append({"*": ".*", "?": "."}.get(token) or re.escape(token))
    return re.compile("".join(parts), re.DOTALL)


def values(key: str, question: Question) -> list[str]:
    """Return a condition key's values; their names differ not by case. Raises EvaluationError."""
    context = {name.lower(): found for name, found in question.context.items()}
    found = context.get(key.lower(), context.get(key.lower().partition("/")[0] + "/"))
    if found is None:
        raise EvaluationError(f"the condition key {key}")
    return found


def listed(value: Any) -> list[Any]:
    """Return a list as it is, and anything else as a list of one."""
    return value if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """Return a value of a condition as text; JSON's true and false, too."""
    return str(value).lower() if isinstance(value, bool) else str(value)

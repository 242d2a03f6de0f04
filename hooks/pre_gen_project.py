"""Check the answers before anything is rendered.

Cookiecutter renders this file, then runs it in the project folder, which it has just made. The
answers come in as data (JSON), so no text in them can run as code. All problems are reported in one
go, with a command that carries every answer, so that nothing has to be typed twice.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# When this hook fails, cookiecutter removes the folder that it believes it has made. With `..` in
# the slug that can be one of the user's: for `new/..` it is the whole output folder. An error in
# Jinja, other than an undefined variable, ends cookiecutter before the hook runs, and it removes
# nothing.
# {{ "" if ".." not in cookiecutter.project_slug else {}.pop("project_slug must not contain ..") }}
ANSWERS = r"""
{{ cookiecutter | tojson }}
"""

PYTHON_VERSIONS = ("3.13", "3.12", "3.11")
ARCHITECTURES = ("arm64", "x86_64")
COMPUTE = ("lambda", "fargate")
IDEMPOTENCY = ("no", "yes")

# Regions of all partitions, from botocore 1.44.5 (endpoints.json and partitions.json).
KNOWN_REGIONS = """
    af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1
    ap-south-2 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5
    ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1
    eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1
    me-west-1 mx-central-1 sa-east-1 sa-west-1 us-east-1 us-east-2 us-west-1 us-west-2
    cn-north-1 cn-northwest-1 us-gov-east-1 us-gov-west-1 eusc-de-east-1
    us-iso-east-1 us-iso-west-1 us-isob-east-1 us-isob-west-1 eu-isoe-west-1
    us-isof-east-1 us-isof-south-1
"""
REGION_SHAPE = (
    r"[a-z]{2,4}(-[a-z]{2,4})?"
    r"-(central|north|northeast|east|southeast|south|southwest|west|northwest)-[1-9][0-9]?"
)

# "General purpose bucket naming rules" in the Amazon S3 User Guide.
BUCKET_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
BUCKET_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

# A function's environment variables share 4 KB ("Lambda quotas" in the AWS Lambda Developer Guide).
EVENT_TYPES_MAX_BYTES = 3000

# Jinja for an opening brace: cookiecutter renders the answers that it gets on its command line.
JINJA_BRACE = "{" + "{ '{' }}"

# Characters that make text read in another direction, and so show other text than there is.
DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Rule:
    """What an answer has to be: its check, the words for the user, and a right answer."""

    is_right: Callable[[str], bool]
    text: str
    example: str


def choice(values: tuple[str, ...]) -> Rule:
    """Return the rule of an answer that is one of `values`."""
    return Rule(lambda text: text in values, f"one of {', '.join(values)}", values[0])


@dataclass(frozen=True)
class Problem:
    """An answer that can't be used.

    `reason` says what is wrong with it where the rule alone doesn't. `correction` is the right
    value where there is only one.
    """

    answer: str
    value: Any
    rule: str
    example: str
    reason: str = ""
    correction: str | None = None


def unusable_characters(text: str) -> list[str]:
    """Name the characters of `text` that no answer may have, such as "U+000A", each once.

    They are control characters, line and paragraph separators, halves of surrogate pairs (bytes
    that are no UTF-8), Unicode's non-characters, and those that change the direction of text.
    """
    found = (
        f"U+{ord(character):04X}"
        for character in text
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or character in DIRECTION_CONTROLS
        or ord(character) & 0xFFFE == 0xFFFE
        or 0xFDD0 <= ord(character) <= 0xFDEF
    )
    return list(dict.fromkeys(found))


def is_bucket_name(text: str) -> bool:
    """Tell whether S3 takes `text` as the name of a general purpose bucket."""
    return (
        re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text) is not None
        and ".." not in text
        and not re.fullmatch(r"[0-9]+(\.[0-9]+){3}", text)
        and not text.startswith(BUCKET_RESERVED_PREFIXES)
        and not text.endswith(BUCKET_RESERVED_SUFFIXES)
    )


def split_event_types(text: str) -> list[str]:
    """Split `text` at its commas and take away the spaces around each value."""
    return [value.strip(" ") for value in text.split(",")]


def is_event_type(text: str) -> bool:
    """Tell whether `text` is one event type, with or without a `*` at its end."""
    return (
        1 <= len(text) <= 100
        and text.isprintable()
        and unicodedata.is_normalized("NFC", text)  # Terraform would change it to that
        and not any(part in text for part in ('"', "'", "`", "\\", "${", "%{"))
        and "*" not in text[:-1]
    )


def are_event_types(text: str) -> bool:
    """Tell whether `text` is a right answer to `event_types`."""
    values = split_event_types(text)
    return (
        len(values) <= 20
        and all(is_event_type(value) for value in values)
        and len(",".join(values).encode()) <= EVENT_TYPES_MAX_BYTES
    )


def is_service_path(text: str) -> bool:
    """Tell whether `text` is written as `service_path` has to be. Looks at no folder."""
    return text == "." or all(
        re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]*", part) and part not in {".", ".."}
        for part in text.split("/")
    )


def is_tag_value(text: str, longest: int) -> bool:
    """Tell whether AWS takes `text` as the value of a tag; in ASCII, at most `longest` long."""
    return (
        re.fullmatch(r"[A-Za-z0-9 _.:/=+@-]+", text) is not None
        and len(text) <= longest
        and not text.isspace()
        and not text.lower().startswith("aws:")
    )


# One rule for each answer, in the order of cookiecutter.json.
RULES = {
    "project_name": Rule(
        lambda text: 1 <= len(text) <= 80 and not text.isspace(),
        "1 to 80 characters, not only spaces, no control characters or line breaks",
        "Order Events",
    ),
    "description": Rule(
        lambda text: len(text) <= 200,
        "at most 200 characters, one line, no control characters",
        "Processes order events.",
    ),
    "sns_topic_name": Rule(
        lambda text: re.fullmatch(r"[A-Za-z0-9_-]{1,251}", text) is not None,
        "letters, digits, - and _; 1 to 251 characters, since -<workspace> follows; "
        "standard topics only, so no .fifo",
        "order-events",
    ),
    "event_types": Rule(
        are_event_types,
        "1 to 20 values of the message attribute event_type, separated by commas; each 1 to 100 "
        "printable characters, composed ones (Unicode's NFC), without quotes, backslash, ${ or "
        "%{; a * at its end means "
        '"begins with", a * alone means every event that has the attribute, a * elsewhere is '
        f"refused; at most {EVENT_TYPES_MAX_BYTES} bytes in all",
        "order.created,payment.*",
    ),
    "aws_region": Rule(
        lambda text: re.fullmatch(REGION_SHAPE, text) is not None,
        "the name of an AWS region: area, direction and number, with hyphens between",
        "eu-central-1",
    ),
    "terraform_state_bucket": Rule(
        lambda text: text == "" or is_bucket_name(text),
        "the name of a general purpose S3 bucket: 3 to 63 lower-case letters, digits, dots and "
        "hyphens, a letter or digit at both ends, no two dots together, not in the form of an IP "
        f"address, not beginning with {', '.join(BUCKET_RESERVED_PREFIXES)}, not ending in "
        f"{', '.join(BUCKET_RESERVED_SUFFIXES)}; or empty, to decide later",
        "my-team-terraform-state",
    ),
    "service_path": Rule(
        is_service_path,
        "where the service sits in its Git repository: . for a repository of its own, else a "
        "relative path with / between its parts; each part has letters, digits, . _ and -, "
        "does not begin with - and is not empty, . or ..",
        "services/order-events",
    ),
    "owner": Rule(
        lambda text: is_tag_value(text, 128),
        "1 to 128 characters, not only spaces: letters, digits, space and _ . : / = + - @ "
        "(the tag Owner, in ASCII), not beginning with aws:",
        "my-team",
    ),
    "product": Rule(
        lambda text: is_tag_value(text, 64) and not text.lower().startswith((":", "aws/")),
        "1 to 64 characters, not only spaces: letters, digits, space and _ . : / = + - @ "
        "(the tag Project and the namespace of metrics), not beginning with aws:, AWS/ or :",
        "shop",
    ),
    "python_version": choice(PYTHON_VERSIONS),
    "architecture": choice(ARCHITECTURES),
    "compute": choice(COMPUTE),
    "idempotency": choice(IDEMPOTENCY),
    "project_slug": Rule(
        lambda text: (
            len(text) <= 40 and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", text) is not None
        ),
        "lower-case letters, digits and single hyphens between them; begins with a letter; "
        "at most 40 characters, so that every AWS name made from it stays in its limit",
        "order-events",
    ),
    "package_name": Rule(
        lambda text: re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text) is not None,
        "a Python identifier in lower-case ASCII that begins with a letter, at most 40 characters; "
        "no keyword, no module of the standard library, nothing that the service has or depends on",
        "order_events",
    ),
}


def reserved_as(package_name: str, reserved: Mapping[str, Iterable[str]]) -> str | None:
    """Return the group of `reserved` that has `package_name`, None if there is none.

    Each group is a list of strings, each with several names that are separated by spaces.
    """
    for group, rows in reserved.items():
        if package_name in " ".join(rows).split():
            return group
    return None


def problems(answers: Mapping[str, Any]) -> list[Problem]:
    """Return the answers that can't be used: at most one problem for each, in their usual order."""
    reserved = answers.get("_reserved_package_names", {})
    found = []
    for name, rule in RULES.items():
        value = answers.get(name)
        if not isinstance(value, str):
            reason = "it is no text"
        elif characters := unusable_characters(value):
            reason = f"it has characters that no answer may have: {', '.join(characters)}"
        elif not rule.is_right(value):
            reason = ""
        elif name == "package_name" and (group := reserved_as(value, reserved)):
            reason = f"it is one of the {group}"
        else:
            continue
        found.append(Problem(name, value, rule.text, rule.example, reason))
    return found


def find_repository(folder: Path) -> Path | None:
    """Return the root of the Git repository that `folder` is in, None if it is in none."""
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    return None


def service_path_problem(
    service_path: str, folder: Path, repository: Path | None
) -> Problem | None:
    """Compare a rightly written `service_path` with the place where the service really goes.

    `folder` is the project folder and `repository` the root of the Git repository around it, both
    resolved. In a repository only the real path is right, or `.`, since the folder may still become
    a repository of its own.
    """
    if repository is None or service_path == ".":
        return None
    real = folder.relative_to(repository).as_posix()
    if service_path == real:
        return None
    rule = RULES["service_path"]
    reason = f"in the Git repository {repository} the service goes to {real}"
    if is_service_path(real):
        return Problem("service_path", service_path, rule.text, real, reason, correction=real)
    reason += ", which can't be a service_path: choose another folder"
    return Problem("service_path", service_path, rule.text, rule.example, reason)


def warnings(answers: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each answer that is legal, and probably not meant."""
    found = []
    for name in RULES:
        value = answers[name]
        if value != value.strip():
            found.append(f"{name}: {value!r} begins or ends with a space.")
        if re.search(r"\{[%#{]", value):
            found.append(
                f"{name}: {value!r} looks like Jinja. It is kept as text here, but cookiecutter "
                "renders such text when it gets the answer on its command line or in an update."
            )
    topic = answers["sns_topic_name"]
    if topic.endswith(("-dev", "-prod")):
        found.append(f"sns_topic_name: the topics will be {topic}-dev and {topic}-prod.")
    values = split_event_types(answers["event_types"])
    if len(set(values)) < len(values):
        found.append(f"event_types: {answers['event_types']!r} has a value twice.")
    if "*" in values and len(values) > 1:
        found.append("event_types: * alone lets every event through, whatever stands beside it.")
    if answers["aws_region"] not in KNOWN_REGIONS.split():
        found.append(
            f"aws_region: {answers['aws_region']} is no region that this template knows. A new "
            "region works; a mistyped one fails when Terraform first calls AWS."
        )
    if answers["terraform_state_bucket"].endswith("-an"):
        found.append(
            "terraform_state_bucket: S3 keeps names that end in -an for buckets in an account's "
            "own regional namespace."
        )
    return found


def service_path_warnings(service_path: str, folder: Path, repository: Path | None) -> list[str]:
    """Return a sentence if the service goes into a repository and is to have one of its own."""
    if repository is None or service_path != "." or folder == repository:
        return []
    real = folder.relative_to(repository).as_posix()
    return [
        f"service_path: . stands for a repository of its own, but this folder is {real} in the Git "
        f"repository {repository}. If it stays there, answer service_path={real}."
    ]


def report(found: Iterable[Problem]) -> str:
    """Return the text that tells the user of the problems: answer, value, rule and example."""
    lines = []
    for problem in found:
        value = repr(problem.value)
        lines.append(f"{problem.answer}: {value if len(value) <= 100 else value[:100] + '...'}")
        if problem.reason:
            lines.append(f"  Wrong:   {problem.reason}")
        lines += [f"  Rule:    {problem.rule}", f"  Example: {problem.example}", ""]
    return "\n".join(lines)


def command(answers: Mapping[str, Any], found: Iterable[Problem], overwrite: bool) -> str:
    """Return a shell command that runs cookiecutter again with every answer.

    The answers of `found` come last, to be corrected there: with their only right value if there is
    one, else as they were typed, without characters that can't be used. `overwrite` says that the
    project folder was there before.
    """
    wrong = {problem.answer: problem for problem in found}
    words = ["cookiecutter", str(answers.get("_template") or "TEMPLATE"), "--no-input"]
    if overwrite:
        words.append("--overwrite-if-exists")
    if answers.get("_checkout"):
        words += ["--checkout", str(answers["_checkout"])]
    if answers.get("_output_dir"):
        words += ["--output-dir", str(answers["_output_dir"])]
    lines = [shlex.join(words)]
    for name in sorted(RULES, key=lambda name: name in wrong):
        value = str(answers.get(name, ""))
        if name in wrong:
            correction = wrong[name].correction
            if correction is None:
                value = "".join(" " if unusable_characters(c) else c for c in value).strip()
            else:
                value = correction
        value = re.sub(r"\{(?=[%#{])", JINJA_BRACE, value)
        lines.append(f"{name}={shlex.quote(value)}")
    return " \\\n  ".join(lines)


def main() -> int:
    """Check the answers; return the exit code, 0 if they can be used."""
    answers = json.loads(ANSWERS)
    folder = Path.cwd()
    repository = find_repository(folder)

    found = problems(answers)
    wrong = {problem.answer for problem in found}
    # With a wrong slug the folder isn't where the service would go.
    if not wrong & {"service_path", "project_slug"}:
        misplaced = service_path_problem(answers["service_path"], folder, repository)
        if misplaced:
            found.append(misplaced)

    if not found:
        for warning in (
            *warnings(answers),
            *service_path_warnings(answers["service_path"], folder, repository),
        ):
            print(f"Warning: {warning}", file=sys.stderr)
        return 0

    stays = ""
    if "/" in str(answers.get("project_slug")):
        stays = f"Cookiecutter removes only {folder}: {folder.parent} stays, even if it is new.\n"
    count = "1 answer" if len(found) == 1 else f"{len(found)} answers"
    overwrite = "project_slug" not in wrong and any(folder.iterdir())
    print(
        f"\n{count} can't be used.\n\n{report(found)}\n"
        "Nothing was rendered. To try again, paste this command and correct what stands last:\n\n"
        f"{command(answers, found, overwrite)}\n\n"
        f"{stays}"
        "(What cookiecutter prints below only says that it stopped.)\n",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""Check the answers before anything is rendered.

Cookiecutter renders this file, then runs it in the project folder, which it has just made. The
answers come in as data (JSON), so no text in them can run as code. All problems are reported at
once, with a command that carries every answer, so that nothing has to be typed twice.

A good part of the time that rendering takes is spent on starting the hooks, so both import little:
dataclasses, typing and pathlib would take longer than all that they do.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# When this hook fails, cookiecutter removes the folder that it believes it has made. With `..` in
# the slug that can be one of the user's: for `new/..` it is the whole output folder. An error in
# Jinja, other than an undefined variable, ends cookiecutter before the hook runs, and it removes
# nothing.
# {{ "" if ".." not in cookiecutter.project_slug else {}.pop("project_slug must not contain ..") }}
ANSWERS = r"""
{{ cookiecutter | tojson }}
"""

PYTHON_VERSIONS = ("3.13", "3.14", "3.12")
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

# Jinja for an opening brace: cookiecutter renders the answers that it gets on its command line.
JINJA_BRACE = "{" + "{ '{' }}"

# Characters that make text read in another direction, and so show other text than there is.
DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Rule:
    """What an answer must be: its check, the words for the user, and a valid answer."""

    def __init__(self, is_right: Callable[[str], bool], text: str, example: str) -> None:
        self.is_right = is_right
        self.text = text
        self.example = example


def choice(values: tuple[str, ...]) -> Rule:
    """Return the rule of an answer that is one of `values`."""
    return Rule(lambda text: text in values, f"must be one of {', '.join(values)}", values[0])


class Problem:
    """An answer that can't be used.

    `reason` says what is wrong with it where the rule alone doesn't. `correction` is the right
    value where there is only one.
    """

    def __init__(
        self, answer: str, value: object, reason: str = "", correction: str | None = None
    ) -> None:
        self.answer = answer
        self.value = value
        self.reason = reason
        self.correction = correction


def unusable_characters(text: str) -> list[str]:
    """Name the characters of `text` that no answer may have, such as "U+000A", each once.

    They are control characters, line and paragraph separators, halves of surrogate pairs (bytes
    that are not UTF-8), Unicode's non-characters, and those that change the direction of text.
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
    """Tell whether S3 accepts `text` as the name of a general purpose bucket."""
    return (
        re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text) is not None
        and ".." not in text
        and not re.fullmatch(r"[0-9]+(\.[0-9]+){3}", text)
        and not text.startswith(BUCKET_RESERVED_PREFIXES)
        and not text.endswith(BUCKET_RESERVED_SUFFIXES)
    )


def split_event_types(text: str) -> list[str]:
    """Split `text` at its commas, without the spaces around each value."""
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
    """Tell whether `text` is a valid answer to `event_types`."""
    values = split_event_types(text)
    return len(values) <= 20 and all(is_event_type(value) for value in values)


def is_service_path(text: str) -> bool:
    """Tell whether `text` is written as a `service_path` must be. Looks at no folder."""
    return text == "." or all(
        re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]*", part) and part not in {".", ".."}
        for part in text.split("/")
    )


def is_tag_value(text: str, longest: int) -> bool:
    """Tell whether AWS accepts `text` as a tag's value; in ASCII, at most `longest` long."""
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
        "must have 1 to 80 characters, not only spaces, and no control characters or line breaks",
        "Order Events",
    ),
    "description": Rule(
        lambda text: len(text) <= 200,
        "must be one line of at most 200 characters, without control characters",
        "Processes order events.",
    ),
    "sns_topic_name": Rule(
        lambda text: (
            len(text) <= 251 and re.fullmatch(r"[A-Za-z0-9_-]+(\.fifo)?", text) is not None
        ),
        "must have 1 to 251 characters: letters, digits, - and _, with .fifo at the end for FIFO "
        "topics (orders stands for orders-<workspace>, orders.fifo for orders-<workspace>.fifo)",
        "order-events",
    ),
    "event_types": Rule(
        are_event_types,
        "must be 1 to 20 values of the message attribute event_type, separated by commas; each "
        "must have 1 to 100 printable characters in Unicode's NFC form, without quotes, "
        'backslashes, ${ and %{; a * at the end of a value means "begins with", a * alone means '
        "every event that has the attribute, and a * elsewhere is refused",
        "order.created,payment.*",
    ),
    "aws_region": Rule(
        lambda text: re.fullmatch(REGION_SHAPE, text) is not None,
        "must be the name of an AWS region: area, direction and number, separated by hyphens",
        "eu-central-1",
    ),
    "terraform_state_bucket": Rule(
        lambda text: text == "" or is_bucket_name(text),
        "must be the name of a general purpose S3 bucket, or empty to decide later: 3 to 63 "
        "lower-case letters, digits, dots and hyphens, a letter or digit at both ends, no two dots "
        "in a row, not in the form of an IP address, not beginning with "
        f"{', '.join(BUCKET_RESERVED_PREFIXES)}, not ending in "
        f"{', '.join(BUCKET_RESERVED_SUFFIXES)}",
        "my-team-terraform-state",
    ),
    "service_path": Rule(
        is_service_path,
        "must say where the service is in its Git repository: . for a repository of its own, "
        "otherwise a relative path with / between its parts; each part must have only letters, "
        "digits, . _ and -, must not begin with -, and must not be empty, . or ..",
        "services/order-events",
    ),
    "owner": Rule(
        lambda text: is_tag_value(text, 128),
        "must have 1 to 128 characters, not only spaces: ASCII letters, digits, spaces and "
        "_ . : / = + - @ (it becomes the tag Owner); must not begin with aws:",
        "my-team",
    ),
    "product": Rule(
        lambda text: is_tag_value(text, 64) and not text.lower().startswith((":", "aws/")),
        "must have 1 to 64 characters, not only spaces: ASCII letters, digits, spaces and "
        "_ . : / = + - @ (it becomes the tag Project and the namespace of the metrics); must not "
        "begin with aws:, AWS/ or :",
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
        "must consist of lower-case letters, digits and single hyphens, begin with a letter, end "
        "with a letter or digit, and have at most 40 characters: AWS names are made from it",
        "order-events",
    ),
    "package_name": Rule(
        lambda text: re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text) is not None,
        "must be a Python identifier of at most 40 lower-case letters, digits and _ that begins "
        "with a letter; must not be a keyword, a module of the standard library, or a name that "
        "the service has or depends on",
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
            reason = "it is not a string"
        elif characters := unusable_characters(value):
            reason = f"it has characters that no answer may have: {', '.join(characters)}"
        elif not rule.is_right(value):
            # Of a long one, only the beginning is shown.
            reason = f"it has {len(value)} characters" if len(value) > 100 else ""
        elif name == "package_name" and (group := reserved_as(value, reserved)):
            reason = f"it is one of {group}"
        else:
            continue
        found.append(Problem(name, value, reason))
    return found


def find_repository(folder: str) -> str | None:
    """Return the root of the Git repository that `folder` is in, None if it is in none."""
    while not os.path.exists(os.path.join(folder, ".git")):
        folder, inner = os.path.dirname(folder), folder
        if folder == inner:
            return None
    return folder


def is_update(answers: Mapping[str, Any], folder: str) -> bool:
    """Tell whether cruft renders this only to compare it, for an update or a diff.

    Cruft (2.16.0) adds the template's commit to the answers, and no output folder, which
    cookiecutter always adds. To compare, it renders alone into a new folder that Python's tempfile
    makes: named tmp and eight letters, digits or _, and closed to other users. A service that
    `cruft create` puts into such a folder is taken for an update.
    """
    parent, name = os.path.split(folder)
    place = os.path.basename(parent)
    return (
        "_commit" in answers
        and "_output_dir" not in answers
        and len(place) == 11
        and place.startswith("tmp")
        and place.replace("_", "a").isalnum()
        and os.stat(parent).st_mode & 0o077 == 0
        and os.listdir(parent) == [name]
    )


def working_directory(process: int) -> str | None:
    """Return the folder that a process works in, None where the system doesn't tell."""
    try:
        return os.readlink(f"/proc/{process}/cwd")
    except OSError:  # macOS has no such links, but lsof
        with os.popen(f"lsof -a -p {process} -d cwd -F n 2>/dev/null") as said:  # noqa: S605
            return next((line[1:-1] for line in said if line.startswith("n/")), None)


def names_before(clone: str | None) -> dict[str, str]:
    """Return the names that the service has whose update this is; none if they can't be told.

    With them is __fifo, if its queues are FIFO.

    Cruft (2.16.0) renders the service as it was made first, into `current_template`, beside the
    `clone` of the template that it works in while a hook runs.
    """
    if clone is None:
        return {}
    try:
        with open(f"{clone}/../current_template/pyproject.toml", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return {}
    lines = {
        "project_slug": r'^name = "(.+)"$',
        "package_name": r'^package = "(.+)"$',
        "__fifo": r"^fifo = (true)$",
    }
    found = {name: re.search(line, text, re.MULTILINE) for name, line in lines.items()}
    return {name: match[1] for name, match in found.items() if match}


def renamed(answers: Mapping[str, Any], before: Mapping[str, str]) -> list[Problem]:
    """Return the names that an update would change: what has them is not moved along."""
    reasons = {
        "project_slug": """this service is {0}
           Its AWS resources, its state and its messages belong to that name: an update would leave
           them behind. Make a new service with the new name, copy your files to it, and remove this
           one (docs/removing.md). For another display name, change project_name.""",
        "package_name": """this service's package is {0}
           An update would leave your code there, and run the template's example instead of it.
           To rename it, do this yourself and commit it, then update as usual:
             git mv {0} {1}
             in all files, .cruft.json too, replace {0} by {1}: git grep -l {0}
             make check""",
    }
    return [
        Problem(name, answers[name], reasons[name].format(old, answers[name]), correction=old)
        for name, old in before.items()
        if name in reasons and answers.get(name) != old
    ]


def program(answers: Mapping[str, Any], folder: str) -> tuple[str, ...]:
    """Return the command that renders into `folder`: cookiecutter, cruft create or cruft update."""
    if is_update(answers, folder):
        return ("cruft", "update")
    if "_commit" in answers and "_output_dir" not in answers:
        return ("cruft", "create")
    return ("cookiecutter",)


def output_for(service_path: str, slug: str, repository: str) -> str | None:
    """Return the folder to render into so that a well-formed `service_path` is true.

    None if there is none: the service's own folder is named by the slug.
    """
    parent, _, name = service_path.rpartition("/")
    return os.path.join(repository, parent).rstrip("/") if name == slug else None


def service_path_problem(service_path: str, folder: str, repository: str | None) -> Problem | None:
    """Compare a well-formed `service_path` with the place where the service really goes.

    `folder` is the project folder and `repository` the root of the Git repository around it. In a
    repository only the real path is right, or `.`, since the folder may still become a repository
    of its own.
    """
    if repository is None or service_path == ".":
        return None
    real = os.path.relpath(folder, repository)
    if service_path == real:
        return None
    reason = f"in the Git repository {repository} the service goes to {real}"
    if is_service_path(real):
        return Problem("service_path", service_path, reason, correction=real)
    reason += ", which can't be a service_path: choose another folder"
    return Problem("service_path", service_path, reason)


def warnings(answers: Mapping[str, str]) -> list[str]:
    """Return a sentence for each answer that is valid, and probably not meant."""
    found = []
    for name in RULES:
        value = answers[name]
        if value != value.strip():
            found.append(f"{name}: {value!r} begins or ends with a space.")
        if re.search(r"\{[%#{]", value):
            found.append(
                f"{name}: {value!r} looks like Jinja. It stays text here, but cookiecutter renders "
                "such text when it is given on the command line or in an update."
            )
    topic, fifo, _ = answers["sns_topic_name"].partition(".fifo")
    if topic.endswith(("-dev", "-prod")):
        found.append(
            f"sns_topic_name: the topics will be {topic}-dev{fifo} and {topic}-prod{fifo}."
        )
    values = split_event_types(answers["event_types"])
    if len(set(values)) < len(values):
        found.append(f"event_types: {answers['event_types']!r} has the same value twice.")
    found += [
        f"event_types: {value!r} is one event type: only a comma separates types."
        for value in values
        if re.search("[;| ]", value)
    ]
    if "*" in values and len(values) > 1:
        found.append("event_types: * lets every event through, so the other values do nothing.")
    if answers["aws_region"] not in KNOWN_REGIONS.split():
        found.append(
            f"aws_region: {answers['aws_region']} is not a region this template knows. A new "
            "region works; a misspelt one fails when Terraform first calls AWS."
        )
    if answers["terraform_state_bucket"].endswith("-an"):
        found.append(
            "terraform_state_bucket: S3 reserves names that end in -an for buckets in an account's "
            "own regional namespace."
        )
    return found


def kind_warnings(answers: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Return a sentence if an update gives the service queues of the other kind, FIFO or not."""
    topic = answers["sns_topic_name"]
    if not before or ("__fifo" in before) == topic.endswith(".fifo"):
        return []
    return [
        f"sns_topic_name: for {topic}, Terraform replaces this service's queues, and the messages "
        "in them are lost. The template's docs/ordering.md says how a service moves."
    ]


def service_path_warnings(service_path: str, folder: str, repository: str | None) -> list[str]:
    """Return a sentence if the service goes into a repository and is to have one of its own."""
    if repository is None or service_path != "." or folder == repository:
        return []
    real = os.path.relpath(folder, repository)
    return [
        f"service_path: . stands for a repository of its own, but this folder is {real} in the Git "
        f"repository {repository}. If it stays there, answer service_path={real}."
    ]


def report(found: Iterable[Problem]) -> str:
    """Return the text that tells the user of the problems: answer, value, rule and example."""
    lines = []
    for problem in found:
        value = repr(problem.value)
        rule = RULES[problem.answer]
        lines.append(f"{problem.answer}: {value if len(value) <= 100 else value[:100] + '...'}")
        if problem.reason:
            lines.append(f"  Problem: {problem.reason}")
        example = problem.correction or rule.example
        lines += [f"  Rule:    {problem.answer} {rule.text}", f"  Example: {example}", ""]
    return "\n".join(lines)


def command(
    answers: Mapping[str, Any],
    found: Iterable[Problem],
    overwrite: bool,
    program: tuple[str, ...] = ("cookiecutter",),
) -> str:
    """Return a shell command that renders again with every answer, by the same program.

    The answers of `found` come last, to be corrected there: with their only right value if there is
    one, otherwise as they were typed, without unusable characters. An update has the others
    already. `overwrite` says that the project folder was there before.
    """
    wrong = {problem.answer: problem for problem in found}
    carried = {}
    for name in sorted(RULES, key=lambda name: name in wrong):
        value = str(answers.get(name, ""))
        if name in wrong:
            value = "".join(" " if unusable_characters(c) else c for c in value).strip()
            value = wrong[name].correction or value
        carried[name] = re.sub(r"\{(?=[%#{])", JINJA_BRACE, value)

    words = [*program]
    update = program == ("cruft", "update")
    if not update:
        words += [str(answers.get("_template") or "TEMPLATE"), "--no-input"]
        if overwrite:
            words.append("--overwrite-if-exists")
    checkout = answers.get("_checkout" if program == ("cookiecutter",) else "_commit")
    if checkout:
        words += ["--checkout", str(checkout)]
    if answers.get("_output_dir") and not update:
        words += ["--output-dir", str(answers["_output_dir"])]

    if program == ("cookiecutter",):
        pairs = (f"{name}={shlex.quote(value)}" for name, value in carried.items())
        return " \\\n  ".join([shlex.join(words), *pairs])
    if update:
        words.append("--variables-to-update")
        carried = {name: value for name, value in carried.items() if name in wrong}
    else:
        words.append("--extra-context")
    return f"{shlex.join(words)} {shlex.quote(json.dumps(carried, indent=2, ensure_ascii=False))}"


def refusal(
    answers: dict[str, Any], found: list[Problem], misplaced: Problem | None, folder: str
) -> str:
    """Return all that the user reads when answers can't be used.

    `misplaced` is the problem of a service_path that isn't the real one of `folder`.
    """
    wrong = {problem.answer for problem in found}
    slug = str(answers.get("project_slug"))
    renderer = program(answers, folder)
    # Cruft doesn't say where it renders.
    if folder.endswith(f"/{slug}"):
        answers.setdefault("_output_dir", folder.removesuffix(slug).rstrip("/") or "/")
    overwrite = "project_slug" not in wrong and bool(os.listdir(folder))
    all_found = [*found, misplaced] if misplaced else found
    commands = command(answers, all_found, overwrite, renderer)
    repository = find_repository(folder)
    if misplaced and repository:
        output = output_for(answers["service_path"], slug, repository)
        if output:
            elsewhere = command({**answers, "_output_dir": output}, found, False, renderer)
            commands += f"\n\nOr, to put it into {answers['service_path']}:\n\n{elsewhere}"
    left = ""
    if "/" in slug:
        parent = os.path.dirname(folder)
        left = f"Cookiecutter removes only {folder}: {parent} stays, even if it is new.\n"
    count = "1 answer" if len(all_found) == 1 else f"{len(all_found)} answers"
    corrected = all(problem.correction for problem in all_found)
    what_to_do = "run this command" if corrected else "correct this command's last lines and run it"
    return (
        f"\n{count} can't be used.\n\n{report(all_found)}\n"
        f"Nothing was rendered. To try again, {what_to_do}:\n\n"
        f"{commands}\n\n{left}"
        "(Cookiecutter's own messages below only say that it stopped.)\n"
    )


def main() -> int:
    """Check the answers; return the exit code, 0 if they can be used."""
    answers = json.loads(ANSWERS)
    folder = os.getcwd()
    # A repository around the temporary folder of an update is not the service's.
    repository = None if is_update(answers, folder) else find_repository(folder)

    found = problems(answers)
    before: Mapping[str, str] = {}
    if is_update(answers, folder):
        before = names_before(working_directory(os.getppid()))
        wrong = {problem.answer for problem in found}
        changed = renamed(answers, before)
        found += [problem for problem in changed if problem.answer not in wrong]
    misplaced = None
    # With a wrong slug the folder isn't where the service would go.
    if not {problem.answer for problem in found} & {"service_path", "project_slug"}:
        misplaced = service_path_problem(answers["service_path"], folder, repository)

    if found or misplaced:
        print(refusal(answers, found, misplaced, folder), file=sys.stderr)
        return 1
    for warning in (
        *warnings(answers),
        *kind_warnings(answers, before),
        *service_path_warnings(answers["service_path"], folder, repository),
    ):
        print(f"Warning: {warning}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""An owner's first week: what the template invites its owner to do works, updates included.

The owner follows FIRST_CHANGE.md word for word, then goes on: a field gets another name, the code
reads a secret, a library is added, settings and the filter change. Nothing of the template's is
edited.
"""

import json
import re
import tomllib
from pathlib import Path

from conftest import (
    HOST,
    lend_bytecode,
    lend_environment,
    lend_scanners,
    need,
    need_provider,
    one_provider,
    run,
)
from test_isolation import HOSTILE
from test_update import CRUFT_SAYS, Make, commit, git, replace

# An edit of the page: where, and the block that comes next.
EDIT = re.compile(
    r"(?P<how>Create|In|At the end of) `(?P<file>[^`]+)`"
    r"(?:, (?P<where>replace|below|above) `(?P<line>[^`]+)`)?"
    r"[^`]*(?:`[^`]+`[^`]*)*?:\n\n```\w+\n(?P<block>.*?)```\n",
    re.DOTALL,
)
# Files that updates merge line by line, and that the week adds lines to.
SHARED = {"local.env", "pyproject.toml"}
# What FIRST_CHANGE.md does not run, and needs no account.
TARGETS = ("help", "invoke", "sbom", "workflow", "clean")
# What they say, of the service's own code and of its end-to-end tests.
SAID = {
    "lambda": ["0 of 1 messages failed.", "went through"],
    "fargate": [
        "0 of 1 messages failed.",
        "Fargate arn:aws:ecs:",
        "SIGTERM: the worker has shut down cleanly",
        "was delivered 6 times was processed once",
        "each group kept its order",
    ],
}
SETTINGS = {
    "lambda": "\nmemory_size = 512\ntimeout = 20\nbatch_size = 5\nmax_receive_count = 3\n",
    "fargate": "\nmemory = 2048\nbatch_size = 5\nmax_receive_count = 3\n",
}


def follow(page: str, folder: Path) -> list[str]:
    """Make a page's edits in a service; return the commands that it then says to run."""
    edits = list(EDIT.finditer(page))
    blocks, commands = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", page), ""
    for edit in edits:
        path, block = folder / edit["file"], edit["block"]
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if edit["where"]:
            lines = text.splitlines(keepends=True)
            (at,) = [n for n, line in enumerate(lines) if line.strip() == edit["line"]]
            first, last = {"replace": (at, at + 1), "above": (at, at), "below": (at + 1,) * 2}[
                edit["where"]
            ]
            text = "".join([*lines[:first], block, *lines[last:]])
        else:
            text += block
        path.write_text(text, encoding="utf-8")
    for _, block in blocks:
        commands += block if block.startswith("make ") else ""
    assert len(edits) + 1 == len(blocks), "every block is an edit, but for the commands"
    return commands.splitlines()


def go_on(folder: Path, compute: str) -> None:
    """Make the rest of the week's edits."""
    package, terraform = folder / "order_events", folder / "terraform"
    tests = folder / "tests" / "unit"
    owned = ("events.py", "service.py")
    for file in (
        *(package / name for name in owned),
        *(tests / f"test_{name}" for name in owned),
        folder / "events" / "order.created.json",
    ):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\btotal\b", "amount", text), encoding="utf-8")
    replace(
        tests / "test_service.py",
        r"^from tools.local.server import LocalAws$",
        '\\g<0>\n\npytestmark = pytest.mark.usefixtures("aws")',
    )
    replace(
        folder / "tests" / "world.py",
        r"^    return \{\}$",
        '    secrets = aws.client("secretsmanager")\n'
        '    secrets.create_secret(Name="shop/api-key", SecretString="secret")\n'
        "    return {}",
    )
    replace(
        package / "service.py",
        r"^    match event:$",
        '    key = secrets.get_secret_value(SecretId=API_KEY)["SecretString"]\n'
        '    logger.info("The key has %s", len(key))\n\\g<0>',
    )
    replace(
        package / "service.py",
        r"^dynamodb = .*$",
        '\\g<0>\nAPI_KEY = os.environ["API_KEY"]\nsecrets = boto3.client("secretsmanager")',
    )
    replace(
        terraform / "service.tf",
        r"^    CANCELLATIONS_TABLE = .*$",
        '\\g<0>\n    API_KEY             = "shop/api-key"',
    )
    replace(
        terraform / "service.tf",
        r"^  added_permissions = \[$",
        "\\g<0>\n    {\n"
        '      Sid      = "ReadKey"\n'
        '      Effect   = "Allow"\n'
        '      Action   = "secretsmanager:GetSecretValue"\n'
        '      Resource = "arn:aws:secretsmanager:us-east-1:123456789012:secret:shop/api-key-*"\n'
        "    },",
    )
    replace(
        terraform / "service.tf",
        r"^  added_filters = \{\}$",
        '  added_filters = { country = ["NL", "BE"] }',
    )
    with (folder / "local.env").open("a", encoding="utf-8") as file:
        file.write("\n# The shop's.\nAPI_KEY=shop/api-key\n")
    with (terraform / "environments" / "dev.tfvars").open("a", encoding="utf-8") as file:
        file.write(SETTINGS[compute])


def add_library(folder: Path) -> None:
    """Let the code use another library; lock it, and install all that is locked."""
    code = folder / "order_events" / "service.py"
    replace(code, r"^import boto3$", "\\g<0>\nimport humanize")
    replace(code, r"len\(key\)", "humanize.intword(len(key))")
    replace(folder / "pyproject.toml", r'^    "msgspec.*$', '    "humanize>=4,<5",\n\\g<0>')
    run("make", "lock", "install", cwd=folder)
    lend_bytecode(folder)


def live_through(made: Make, **answers: str) -> None:
    """Make a service with some answers, and go through the week."""
    need("make")
    compute = answers.get("compute", "lambda")
    service = made(
        "now",
        **HOST,
        **answers,
    )
    folder = service.path
    need_provider(folder)
    commands = follow((folder / "FIRST_CHANGE.md").read_text(encoding="utf-8"), folder)
    assert [command.split()[1] for command in commands] == ["format", "test", "invoke", "check"]
    if compute == "fargate":
        # On Lambda, word for word; here once, and without scanners: test_checkov.py and
        # test_workflow.py scan what all answers render.
        commands = [line for line in commands if line.split()[1] not in ("test", "check")]
        commands.append("make lint typecheck test validate e2e")
    go_on(folder, compute)
    lend_environment(folder)
    if compute == "lambda":  # on Fargate, a library is locked and installed in the same way
        add_library(folder)
        lend_scanners(folder)
    run("make", "format", cwd=folder)
    with one_provider(folder):
        said = "".join(run(*command.split(), cwd=folder, **HOSTILE).stdout for command in commands)
    assert [words for words in SAID[compute] if words not in said] == []
    run("make", *TARGETS, cwd=folder)
    if compute == "lambda":  # what python-hcl2 keeps is this environment's own
        (kept,) = folder.glob(".venv/lib/*/site-packages/hcl2/.lark_cache.bin")
        assert kept.stat().st_nlink == 1

    # Nothing of the template's was touched.
    git("add", "--all", cwd=folder)
    changed = git("diff", "--cached", "--name-only", "--diff-filter=MD", "HEAD", cwd=folder)
    pyproject = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    own = {*pyproject["tool"]["cruft"]["skip"], *SHARED}
    names = changed.splitlines()
    assert [name for name in names if not {name, name.partition("/")[0]} & own] == []

    # The template's next version comes in, and everything is still there.
    commit(folder, "The first week")
    before = {name: (folder / name).read_bytes() for name in names}
    assert CRUFT_SAYS in service.update("later")
    assert not list(folder.rglob("*.rej"))
    after = {name: (folder / name).read_bytes() for name in before}
    assert {name for name in before if before[name] != after[name]} <= SHARED
    assert b"<<<<<<<" not in b"".join(after.values())
    assert json.loads((folder / ".cruft.json").read_text())["checkout"] == "later"
    run("make", "lint", "test", cwd=folder)

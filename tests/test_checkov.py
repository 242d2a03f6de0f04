"""checkov finds nothing in the Terraform code that no comment beside the resource justifies."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from combinations import pairwise
from conftest import SCANNERS, SERVICE, TEMPLATE, Render

BOOTSTRAP = TEMPLATE / "terraform" / "bootstrap"
MAKEFILE = (SERVICE / "Makefile").read_text(encoding="utf-8")

SKIP = re.compile(r"#\s*checkov:skip=(?P<check>[^:\s]*):?(?P<reason>.*)")
IRRELEVANT = re.compile(r"^ *((default|error_message|key) +=|#(?!checkov)).*$", re.MULTILINE)
# One sentence: some words and a full stop, and no other follows it.
SENTENCE = re.compile(r"(?!.*\. [A-Z])\S+(?: \S+){3,}\.")


def checkov(folder: Path) -> dict[str, set[str]]:
    """Run checkov as `make security` does; return the IDs of the checks that fail, by folder."""
    done = subprocess.run(
        [
            *(*SCANNERS, "python", "-m", "checkov.main", "--quiet", "--skip-download"),
            *("--framework", "terraform", "--output", "json", "--directory", str(folder)),
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["resource_count"] > 10
    failed: dict[str, set[str]] = {}
    for check in report["results"]["failed_checks"]:
        failed.setdefault(Path(check["file_path"]).parts[1], set()).add(check["check_id"])
    return failed


def unjustified(folder: Path) -> list[str]:
    """Return the lines that skip a check without giving the reason in one sentence."""
    return [
        line.strip()
        for file in sorted(folder.rglob("*.tf"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if (skip := SKIP.search(line))
        and not (skip["check"].startswith("CKV") and SENTENCE.fullmatch(skip["reason"]))
    ]


@pytest.fixture(scope="module")
def terraform(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the Terraform code of every combination of answers, and the bootstrap's.

    What differs only in defaults, messages, the state's key and comments is the same to checkov.
    """
    trees: dict[str, Path] = {}
    for answers in pairwise():
        code = render(**answers) / "terraform"
        text = "".join(f"{f.name}\n{f.read_text('utf-8')}" for f in sorted(code.glob("*.tf")))
        trees.setdefault(IRRELEVANT.sub("", text), code)
    folder = tmp_path_factory.mktemp("terraform")
    for number, code in enumerate([BOOTSTRAP, *trees.values()]):
        (folder / str(number)).mkdir()
        for file in code.glob("*.tf"):
            shutil.copy(file, folder / str(number))
    return folder


@pytest.mark.slow
def test_checkov_finds_planted_faults_and_nothing_else(terraform: Path, tmp_path: Path) -> None:
    shutil.copytree(terraform, tmp_path, dirs_exist_ok=True)
    for number in ("0", "1"):
        shutil.copytree(terraform / number, tmp_path / f"fault-{number}")
    public = "block_public_acls       = "
    plant(tmp_path / "fault-0" / "state.tf", f"{public}true", f"{public}false")
    plant(tmp_path / "fault-1" / "sqs.tf", "sqs_managed_sse_enabled    = true", "")
    failed = checkov(tmp_path)
    assert set(failed) == {"fault-0", "fault-1"}
    assert "CKV_AWS_53" in failed["fault-0"]
    assert "CKV_AWS_27" in failed["fault-1"]


def test_every_skip_says_why_in_one_sentence(terraform: Path) -> None:
    assert unjustified(terraform) == []
    # Checks are skipped beside a resource, and nowhere else.
    assert "--skip-check" not in MAKEFILE
    assert list(terraform.rglob(".checkov*")) == []


@pytest.mark.parametrize(
    "skip",
    [
        "#checkov:skip=CKV_AWS_115",
        "#checkov:skip=CKV_AWS_115:",
        "#checkov:skip=CKV_AWS_115:no",
        "# checkov:skip=CKV_AWS_115: It has a leading space, which checkov would take.",
        "#checkov:skip=CKV_AWS_115:This is one sentence. This is another.",
        "#checkov:skip=CKV_AWS_115:This one does not end",
    ],
)
def test_a_skip_without_one_sentence_is_found(tmp_path: Path, skip: str) -> None:
    (tmp_path / "main.tf").write_text(f'resource "x" "y" {{\n  {skip}\n}}\n')
    assert unjustified(tmp_path) == [skip]


def plant(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")

"""The Makefiles and shell scripts also work on macOS, with GNU make 3.81 and BSD's tools.

These tests look for what only GNU's tools have, because they don't run on a Mac.
"""

import re
import sys
from pathlib import Path

import pytest
from conftest import SERVICE, TEMPLATE, run

MAKE = {
    r"^\.ONESHELL": ".ONESHELL needs make 3.82",
    r"^\.SHELLFLAGS": ".SHELLFLAGS needs make 3.82",
    r"^[^#\t]*!=": "!= needs make 4.0: use $(shell …)",
    r"\$[({]file ": "$(file …) needs make 4.0",
    r"&:": "grouped targets need make 4.3",
    r"^[^#\t]*::?:=": "::= needs make 4.0",
    r"\$[({](guile|intcmp|let) ": "this function needs make 4",
    r"^(private|undefine) ": "this needs make 3.82",
}
TOOLS = {
    r"\bsed\b.* -i\b(?! '')": "BSD's sed -i needs a suffix",
    r"\bsed\b.* --?[a-z]+-": "BSD's sed has no long options",
    r"\bsed\b.*\\[+?|swb]": r"BSD's sed doesn't support \+ \? \| \s \w \b: use -E and [[:space:]]",
    r"\bgrep\b.* (-[A-Za-z]*P|--perl-regexp)\b": "BSD's grep has no -P",
    r"\bgrep\b.*\\[+?|swb]": r"only GNU's grep supports \+ \? \| \s \w \b: use -E and [[:space:]]",
    r"\breadlink +-[a-z]*[fem]": "older macOS has no readlink -f",
    r"\brealpath\b": "older macOS has no realpath",
    r"\bdate\b.* (-d|--date|-I)\b": "BSD's date has no -d",
    r"\bdate\b.*%N": "BSD's date has no %N",
    r"\bbase64\b.* (-w|--wrap)": "BSD's base64 has no -w",
    r"\bxargs\b.* (-r|-d|--[a-z])": "BSD's xargs has no -r and no -d",
    r"\bstat +(-c|--)": "BSD's stat has no -c",
    r"\bsort\b.* (-[A-Za-z]*V|--version-sort)\b": "older BSD's sort has no -V",
    r"\bfind\b.* -printf\b": "BSD's find has no -printf",
    r"(^|[|;&(])[\s@]*(cp|mv|rm|ln|mkdir|touch|head|tail|cut|tr|wc|ls|chmod) .*--[a-z]": (
        "BSD's tools have no long options"
    ),
    r"\b(head|tail) +-n +-\d": "BSD's head counts only from the beginning",
    r"\bcp +-[a-zA-Z]*[atuT]\b": "BSD's cp has no -t, -u, -T; older ones no -a",
    r"\bmktemp\b.* --": "BSD's mktemp has no long options",
    r"\b(sha256sum|sha1sum|md5sum|nproc|tac|timeout|shuf|numfmt|truncate|gawk) ": "only GNU has it",
    r"\bawk\b.*\b(gensub|strftime|systime|asort)\(": "only GNU's awk has it",
    r"\becho +-[en]\b": "echo -e and -n differ: use printf",
    r"&>|<<<|\[\[ |\bdeclare -A\b|\bmapfile\b|\breadarray\b": "only bash has it, and sh runs this",
    r"\$\{\w+(,,|\^\^)": "this needs bash 4; macOS has 3.2",
}


def scripts() -> list[Path]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE)
    paths = [TEMPLATE / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.name == "Makefile" or path.suffix == ".sh"]


def problems(path: Path) -> list[str]:
    """Return what only GNU's tools understand in a Makefile or shell script, with its line."""
    rules = {**TOOLS, **(MAKE if path.name == "Makefile" else {})}
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if re.match(r"\s*#", line):
            continue
        found += [
            f"{path.name}:{number}: {why}: {line.strip()}"
            for pattern, why in rules.items()
            if re.search(pattern, line)
        ]
    return found


def test_the_makefiles_and_scripts_are_found() -> None:
    assert {TEMPLATE / "Makefile", SERVICE / "Makefile", SERVICE / "tools" / "venv.sh"} <= {
        *scripts()
    }


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(TEMPLATE)))
def test_only_portable_features_are_used(path: Path) -> None:
    assert problems(path) == []


@pytest.mark.parametrize(
    "line",
    [
        "\tsed -i s/a/b/ file",
        "\tsed --in-place s/a/b/ file",
        "\tgrep -oP 'a(?=b)' file",
        "\treadlink -f file",
        "\tdate -d yesterday",
        "\tbase64 -w 0 file",
        "\txargs -r rm",
        "\tstat -c %s file",
        "\tls | sort -V",
        "\tfind . -name x -printf %p",
        "\tcp --parents a b",
        "\tsha256sum file",
        "\techo -e 'a\\n'",
        ".ONESHELL:",
        "HERE != pwd",
        "$(file > list,$(NAMES))",
        "a b &: c",
    ],
)
def test_what_only_gnu_has_is_found(tmp_path: Path, line: str) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"all:\n{line}\n", encoding="utf-8")
    assert len(problems(makefile)) == 1, problems(makefile)


@pytest.mark.parametrize(
    "line",
    [
        "\tsed -n 's/a/b/p' file",
        "\tsed -i '' s/a/b/ file",
        "\tmktemp",
        "\ttest a != b",
        "\tgrep -Eq '^bucket *= *' file",
        "\t# sort -V",
        "\tgit log --date short | sort -r",
    ],
)
def test_portable_features_are_not_reported(tmp_path: Path, line: str) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"all:\n{line}\n", encoding="utf-8")
    assert problems(makefile) == []


def test_shellcheck_finds_nothing_in_the_shell_scripts() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run(shellcheck, *(path for path in scripts() if path.suffix == ".sh"), cwd=TEMPLATE)

"""What make and the shell run also works on macOS: GNU make 3.81 and BSD's tools.

A list of what only GNU's have, since no Mac runs these tests.
"""

import re
from pathlib import Path

import pytest
from conftest import SERVICE, TEMPLATE, run

MAKE = {
    r"^\.ONESHELL": ".ONESHELL is make 3.82's",
    r"^\.SHELLFLAGS": ".SHELLFLAGS is make 3.82's",
    r"^[^#\t]*!=": "!= is make 4.0's: use $(shell …)",
    r"\$[({]file ": "$(file …) is make 4.0's",
    r"&:": "grouped targets are make 4.3's",
    r"^[^#\t]*::?:=": "::= is make 4.0's",
    r"\$[({](guile|intcmp|let) ": "a function of make 4",
    r"^(private|undefine) ": "make 3.82's",
}
TOOLS = {
    r"\bsed\b.* -i\b(?! '')": "BSD's sed -i wants a suffix",
    r"\bsed\b.* --?[a-z]+-": "BSD's sed has no long options",
    r"\bsed\b.*\\[+?|swb]": r"BSD's sed knows no \+ \? \| \s \w \b: use -E and [[:space:]]",
    r"\bgrep\b.* (-[A-Za-z]*P|--perl-regexp)\b": "BSD's grep has no -P",
    r"\bgrep\b.*\\[+?|swb]": r"only GNU's grep knows \+ \? \| \s \w \b: use -E and [[:space:]]",
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
        "BSD's has no long options"
    ),
    r"\b(head|tail) +-n +-\d": "BSD's head counts from the beginning only",
    r"\bcp +-[a-zA-Z]*[atuT]\b": "BSD's cp has no -t, -u, -T; older ones no -a",
    r"\bmktemp\b.* --": "BSD's mktemp has no long options",
    r"\b(sha256sum|sha1sum|md5sum|nproc|tac|timeout|shuf|numfmt|truncate|gawk) ": "GNU's only",
    r"\bawk\b.*\b(gensub|strftime|systime|asort)\(": "only GNU's awk has it",
    r"\becho +-[en]\b": "echo -e and -n differ: use printf",
    r"&>|<<<|\[\[ |\bdeclare -A\b|\bmapfile\b|\breadarray\b": "bash's; sh runs the scripts",
    r"\$\{\w+(,,|\^\^)": "bash 4's; macOS has 3.2",
}


def scripts() -> list[Path]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE)
    paths = [TEMPLATE / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.name == "Makefile" or path.suffix == ".sh"]


def problems(path: Path) -> list[str]:
    """Return what in a Makefile or shell script only GNU's tools understand, with its line."""
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


def test_there_is_something_to_look_at() -> None:
    assert {TEMPLATE / "Makefile", SERVICE / "Makefile", SERVICE / "scripts" / "venv.sh"} <= {
        *scripts()
    }


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(TEMPLATE)))
def test_only_what_every_system_has_is_used(path: Path) -> None:
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
def test_what_only_gnu_has_is_seen(tmp_path: Path, line: str) -> None:
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
def test_what_every_system_has_is_not(tmp_path: Path, line: str) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"all:\n{line}\n", encoding="utf-8")
    assert problems(makefile) == []

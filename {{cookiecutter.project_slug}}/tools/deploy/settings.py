"""Writes settings into a copy of a .tfvars file: ``tfvars.py <from> <to> name=value [name= …]``.

A value is written as it is given, ``live_version="7"`` for example; with none, the setting goes.
Everything else in the file stays as it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# What make writes stands below this line, so that a reader knows where it comes from.
HEADING = "# Written by make, to be committed."


def with_setting(text: str, name: str, value: str) -> str:
    """Return the text of a .tfvars file with one setting changed or added; taken out if empty."""
    line = rf"(?:^|(?<=\n)){re.escape(name)}[ \t]*=.*(?:\n|\Z)"
    if not value:
        return re.sub(rf"(?:\n{re.escape(HEADING)}\n)?{line}", "", text)
    if re.search(line, text):
        return re.sub(line, f"{name} = {value}\n", text, count=1)
    return f"{text.rstrip()}\n\n{HEADING}\n{name} = {value}\n"


def main() -> int:
    """Copy the file with its settings changed; returns the exit code."""
    source, target, *settings = sys.argv[1:]
    text = Path(source).read_text(encoding="utf-8")
    for setting in settings:
        name, _, value = setting.partition("=")
        text = with_setting(text, name, value)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the property-based tests share: how many examples, and text that is meant to do harm.

The examples are the same in every run, so a change can't fail by chance. With
``HOSTILE_EXAMPLES=10`` there are ten times as many, and other ones in each run; a failure then
prints the blob that brings it back.
"""

import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

# Hypothesis keeps tables of characters; like all build output, they stay outside Git.
set_hypothesis_home_dir(Path(__file__).parents[1] / "build" / "hypothesis")

FACTOR = int(os.environ.get("HOSTILE_EXAMPLES", "1"))

# A program that the tests put on the PATH. If it is run, text became code.
CANARY = "pwn"

# What has a meaning in one of the formats that answers and messages end up in.
FRAGMENTS = [
    # Quoting and escaping
    *("'", '"', "`", "\\", "\\\\", '"""', "'''", "\\n", "\\u0022", "\\x22", "&quot;", "%22", "%s"),
    # Shell and Make
    *(f"$({CANARY})", f"`{CANARY}`", f"$(shell {CANARY})", "$$", "$@", "${HOME}", f";{CANARY};"),
    *(
        f"|{CANARY}",
        f"&&{CANARY}",
        f">{CANARY}",
        "~",
        "!!",
        "#",
        " # ",
        "=",
        ":=",
        "-",
        "--help",
        "/*",
    ),
    # HCL, Jinja, GitHub's expressions
    *("${", "%{", "$${", "%%{", "$%{", "%${", '${file("/etc/passwd")}', "%{ if true }", "}"),
    *("{{", "}}", "{%", "%}", "{#", "#}", "{{ cookiecutter }}", "{% raw %}", "{% endraw %}"),
    *("${{ github.token }}", f"{{{{ cycler.__init__.__globals__.os.popen('{CANARY}') }}}}"),
    # YAML, TOML and JSON
    *(
        ": ",
        " #",
        "- ",
        "? ",
        "|",
        ">",
        "&a",
        "*a",
        "!!python/name:os",
        "@",
        "%",
        "---",
        "...",
        "<<",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        ",",
        "[[x]]",
        "yes",
        "no",
        "null",
        "~",
        "1.0",
        "1e5",
        "0x1f",
        "2026-01-01",
    ),
    # Python
    *(f'"+__import__("os").popen("{CANARY}").read()+"', "\\N{DOLLAR SIGN}", "f'{x}'"),
    # Markdown and HTML
    *("<script>alert(1)</script>", "<b>", "<!--", "-->", "]]>", "&lt;", "&amp;", "&#60;", "&"),
    *("[x](https://example.com)", "![x](https://example.com)", "[x]: https://example.com"),
    *("<https://example.com>", "https://example.com", "*x*", "__x__", "_x_", "~~x~~", "# x", "> x"),
    *(
        "* x",
        "+ x",
        "1. x",
        "2) x",
        "===",
        "***",
        "- - -",
        "```",
        "~~~",
        "    x",
        "|x|",
        "[^1]",
        "\\*",
    ),
    # Unicode: composed and not, beyond the BMP, marks, joiners, right to left, odd spaces
    *("ü", "u\u0308", "\u212b", "ﬁ", "🚀", "👩\u200d👩\u200d👧", "\U00100000", "שלום", "مرحبا"),
    *(
        "\u200b",
        "\u200d",
        "\u200f",
        "\u00a0",
        "\u3000",
        "\ufeff",
        "\u00ad",
        "\u0301",
        "\ufffd",
        "İ",
    ),
    # Spaces and plain words
    *(" ", "  ", "a", "Order", "0"),
]

# What no answer may have.
UNUSABLE = [
    *("\n", "\r", "\t", "\0", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u2029", "\x0b", "\x0c"),
    *("\u202e", "\u2066", "\ud800", "\udcff", "\uffff", "\ufdd0", "\U0001ffff"),
]


def fragments(*, unusable: bool = False) -> st.SearchStrategy[str]:
    """Make text of fragments with a meaning somewhere, and of arbitrary characters."""
    parts = [st.sampled_from(FRAGMENTS), st.text(max_size=8)]
    if unusable:
        parts.append(st.sampled_from(UNUSABLE))
    return st.lists(st.one_of(parts), max_size=10).map("".join)


def anything() -> st.SearchStrategy[str]:
    """Make any text: arbitrary, halves of surrogate pairs included, of fragments, or very long."""
    characters = st.characters(exclude_categories=())
    long = st.builds(lambda text, count: text * count, fragments(), st.integers(50, 500))
    return st.one_of(st.text(characters), fragments(unusable=True), long)


def examples(count: int, **options: Any) -> settings:
    """Return settings for ``count`` examples (times HOSTILE_EXAMPLES), without deadlines."""
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **{"phases": [Phase.explicit, Phase.generate, Phase.shrink], **options},
    )

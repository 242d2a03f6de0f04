"""Draw terminal output, Markdown and a CloudWatch dashboard as SVG.

The pictures load no font or anything else from the web. They have a title and a description for
people who can't see them, and a background of their own. The same input gives the same picture.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text
from rich.theme import Theme

MONOSPACE = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SANS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

# Markdown in GitHub's colors: dark on light.
MARKDOWN = Theme(
    {
        "markdown.code": "#1f2328 on #eff1f3",
        "markdown.h3": "bold",
        "markdown.table.header": "bold",
        "markdown.table.border": "#d1d9e0",
    }
)

# rich's own format loads a font from the web and has no title. rich fills in the braces.
TERMINAL = """\
<svg viewBox="0 0 {{width}} {{height}}" xmlns="http://www.w3.org/2000/svg" role="img" \
aria-labelledby="title desc">
<title id="title">{title}</title>
<desc id="desc">{description}</desc>
<style>
.{{unique_id}}-matrix {{{{
  font-family: {MONOSPACE}; font-size: {{char_height}}px; line-height: {{line_height}}px;
}}}}
.{{unique_id}}-title {{{{ font-family: {SANS}; font-size: 18px; font-weight: bold; }}}}
{{styles}}
</style>
<defs>
<clipPath id="{{unique_id}}-clip-terminal">
<rect x="0" y="0" width="{{terminal_width}}" height="{{terminal_height}}" />
</clipPath>
{{lines}}
</defs>
{{chrome}}
<g transform="translate({{terminal_x}}, {{terminal_y}})" \
clip-path="url(#{{unique_id}}-clip-terminal)">
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g>
</g>
</svg>
"""


def terminal(name: str, description: str, shown: str, width: int) -> str:
    """Draw the output of a command.

    :param name: the picture's name; its ids begin with it.
    :param description: what the picture shows, in a sentence.
    :param shown: the output, with its escape sequences for colors.
    :param width: width of the terminal, in characters.
    """
    return _console(name, description, Text.from_ansi(shown), width, SVG_EXPORT_THEME, "")


def markdown(name: str, description: str, text: str, width: int, heading: str) -> str:
    """Draw Markdown, roughly as GitHub shows it, under a heading; for the rest, see `terminal`."""
    plain = html.unescape(text.replace("<code>", "`").replace("</code>", "`"))
    return _console(name, description, Markdown(plain), width, DEFAULT_TERMINAL_THEME, heading)


def _console(
    name: str,
    description: str,
    content: RenderableType,
    width: int,
    theme: TerminalTheme,
    heading: str,
) -> str:
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        theme=MARKDOWN,
    )
    console.print(content)
    frame = TERMINAL.format(
        title=name, description=html.escape(description), MONOSPACE=MONOSPACE, SANS=SANS
    )
    drawn = console.export_svg(title=heading, theme=theme, code_format=frame, unique_id=name)
    return "\n".join(line.rstrip() for line in drawn.splitlines() if line.strip()) + "\n"


# The dashboard's grid is 24 columns wide; these are the pixels per column and row.
COLUMN, ROW = 50, 38
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd")
POINTS = 60  # one a minute


def dashboard(
    name: str,
    description: str,
    body: Mapping[str, Any],
    samples: Mapping[str, tuple[float, float]],
    alarms: Mapping[str, bool],
    errors: Sequence[Sequence[str]],
) -> str:
    """Draw a CloudWatch dashboard.

    :param body: the dashboard's JSON, in CloudWatch's format.
    :param samples: for each metric, its usual value and how much is added while something is wrong.
        A metric's name is "Errors"; if a graph has it twice, "Duration p99" or the resource.
    :param alarms: for each alarm's ARN, whether it is in alarm.
    :param errors: rows of the log query's table, newest first.
    :raises KeyError: a metric has no sample: every metric must have one.
    """
    draw = {"alarm": _alarms, "metric": _metric, "log": _log}
    parts = []
    for widget in body["widgets"]:
        x, y = widget["x"] * COLUMN + 4, widget["y"] * ROW + 4
        width, height = widget["width"] * COLUMN - 8, widget["height"] * ROW - 8
        properties = widget["properties"]
        data = {"alarm": alarms, "metric": samples, "log": errors}[widget["type"]]
        parts += [
            f'<g transform="translate({x} {y})">',
            f'<rect width="{width}" height="{height}" rx="6" fill="#fff" stroke="#d5dbdb"/>',
            _text(12, 22, properties["title"], weight="600"),
            *draw[widget["type"]](properties, data, width, height),
            "</g>",
        ]
    right = max(widget["x"] + widget["width"] for widget in body["widgets"]) * COLUMN
    bottom = max(widget["y"] + widget["height"] for widget in body["widgets"]) * ROW
    return "\n".join(
        [
            f'<svg viewBox="0 0 {right} {bottom}" xmlns="http://www.w3.org/2000/svg" role="img" '
            f'aria-labelledby="title desc" font-family="{SANS}" font-size="12.5">',
            f'<title id="title">{name}</title>',
            f'<desc id="desc">{html.escape(description)}</desc>',
            f'<rect width="{right}" height="{bottom}" rx="8" fill="#f2f3f3"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _text(
    x: float, y: float, text: str, fill: str = "#16191f", weight: str = "", anchor: str = ""
) -> str:
    more = f' font-weight="{weight}"' if weight else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{fill}"{more}>{html.escape(text)}</text>'


def _alarms(
    properties: Mapping[str, Any], alarms: Mapping[str, bool], width: int, height: int
) -> Iterable[str]:
    across = 3
    for index, name in enumerate(sorted(properties["alarms"])):
        x = 12 + (index % across) * (width - 12) / across
        y = 38 + (index // across) * 24
        color, state = ("#d13212", "In alarm") if alarms[name] else ("#1d8102", "OK")
        yield f'<circle cx="{x + 5:g}" cy="{y + 7:g}" r="5" fill="{color}"/>'
        yield _text(x + 16, y + 12, f"{name.split(':')[-1]}: {state}", color)


def _metric(
    properties: Mapping[str, Any],
    samples: Mapping[str, tuple[float, float]],
    width: int,
    height: int,
) -> Iterable[str]:
    names = _names(properties)
    lines = [list(_series(*samples[name])) for name in names]
    highest = max(1.0, *(max(line) for line in lines)) * 1.1
    left, top, bottom = 52, 36, height - 22 - 18 * len(names)
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        yield f'<path d="M{left} {y:g}H{width - 12}" stroke="#eaeded"/>'
        yield _text(left - 6, y + 4, _number(share * highest), "#687078", anchor="end")
    for index, (name, line) in enumerate(zip(names, lines, strict=True)):
        step = (width - 12 - left) / (POINTS - 1)
        points = " ".join(
            f"{left + at * step:.1f},{bottom - value / highest * (bottom - top):.1f}"
            for at, value in enumerate(line)
        )
        color = COLORS[index]
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"/>'
        y = bottom + 24 + 18 * index
        yield f'<rect x="{left}" y="{y - 9:g}" width="12" height="10" rx="2" fill="{color}"/>'
        yield _text(left + 18, y, name, "#414d5c")


def _names(properties: Mapping[str, Any]) -> list[str]:
    """Name a graph's metrics as CloudWatch does: by what distinguishes them."""
    metrics = [
        (metric[1], own.get("stat", properties["stat"]), rest[-1])
        for metric in properties["metrics"]
        for own in [metric[-1] if isinstance(metric[-1], dict) else {}]
        for rest in [[part for part in metric if isinstance(part, str)]]
    ]
    for parts in ((0,), (0, 1), (2,)):
        names = [" ".join(metric[part] for part in parts) for metric in metrics]
        if len(set(names)) == len(names):
            break
    return names


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _series(usual: float, trouble: float) -> Iterable[float]:
    """Yield a value for each minute: the usual value with small waves, and a peak in mid-hour."""
    for minute in range(POINTS):
        wave = 1 + 0.08 * math.sin(minute * 1.7) + 0.06 * math.sin(minute * 0.61)
        yield usual * wave + trouble * math.exp(-(((minute - 36) / 4.5) ** 2))


def _log(
    properties: Mapping[str, Any], errors: Sequence[Sequence[str]], width: int, height: int
) -> Iterable[str]:
    columns = re.split(r", (?![^(]*\))", properties["query"].split("| fields ")[1].split(" | ")[0])
    fields = [column.rpartition(" as ")[2] for column in columns]
    for row, cells in enumerate([fields, *errors]):
        y = 50 + row * 26
        for column, cell in enumerate(cells):
            x = 12 + column * (width - 24) / len(fields)
            yield _text(x, y, cell, "#687078" if row == 0 else "#16191f")
        yield f'<path d="M12 {y + 9}H{width - 12}" stroke="#eaeded"/>'

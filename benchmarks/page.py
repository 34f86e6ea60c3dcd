"""The page of all figures: goals first, then each table as it is now and over its commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from jinja2 import Template
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.figures import (
    HERE,
    RESULTS,
    Goal,
    Part,
    Run,
    Table,
    figures,
    heading,
    joined,
    newest,
    parts,
    runs,
)  # fmt: skip
from physgen import reporting
from physgen.dataset.files import write_bytes
from physgen.reporting.sheet import Drawing, grid, plot
from physgen.reporting.style import HUES, LINES

__all__ = ["drawn"]

Points = dict[str, dict[str, list[tuple[str, float]]]]
"""Row → processor → commit and value."""
MARKS, TICKS = "os^Dv", 6
TEMPLATE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>physgen: figures over commits</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{{ style }}
.contents { columns: 17rem; column-gap: 1.6rem; padding: 0; list-style: none; font-size: 0.95rem; }
.contents li { break-inside: avoid; margin-bottom: 0.3rem; }
.missed { color: var(--mark); font-weight: 600; }
</style>
</head>
<body>
<main>
<p class="kicker">physgen benchmarks</p>
<h1>Figures over commits</h1>
{% if missed %}
<p class="conclusion care">{{ missed|length }} of {{ goals }} goals are missed.</p>
<div class="wide"><table>
<thead><tr><th>missed</th><th>figure</th><th>of</th><th>goal</th><th>now</th></tr></thead>
<tbody>
{% for section, aim in missed %}
<tr><td><a href="#{{ section.name }}">{{ section.title }}</a></td><td>{{ aim.column }}</td>
<td>{{ aim.row }}</td><td>{{ aim.goal.sign }} {{ "{:,.10g}".format(aim.goal.value) }}</td>
<td class="missed">{{ "{:,.4g}".format(aim.value) }}</td></tr>
{% endfor %}
</tbody>
</table></div>
{% elif goals %}
<p class="conclusion good">All {{ goals }} goals are reached.</p>
{% endif %}
<p>A table shows the newest run of each of its parts. Where a figure was measured at several
commits a panel draws it: a line for each row, dotted lines of its colour for goals. Lines join
runs on one processor; machines differ, so figures stand beside those of other packages where there
are some, or are divided by them. Repeat a part with
<code>python -m benchmarks run NAME</code>.</p>
<nav><ul class="contents">
{% for section in sections %}
<li><a href="#{{ section.name }}">{{ section.title }}</a> ({{ section.age }})
{%- set off = section.aims|rejectattr("reached")|list|length %}
{%- if off %}: <span class="missed">{{ off }} of {{ section.aims|length }} goals missed</span>
{%- elif section.aims %}: {{ section.aims|length }} goals reached{% endif %}</li>
{% endfor %}
</ul></nav>
{% for section in sections %}
<section id="{{ section.name }}">
<h2>{{ section.title }}</h2>
{% for caption, head, rows in section.tables %}
{% if caption %}<p class="key">{{ caption }}</p>{% endif %}
<div class="wide"><table>
<thead><tr>{% for cell in head %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endfor %}
{% for caption, drawings in section.panels.items() %}
<figure class="ink">
{% if caption %}<figcaption>{{ caption }}</figcaption>{% endif %}
<div class="panels n2">
{% for name, drawing in drawings %}
<img src="{{ drawing.shown.uri }}" alt="{{ name }}">
{% endfor %}
</div>
</figure>
{% endfor %}
<p class="key">{% for run in section.runs %}{{ run.mark().replace("`", "") }}
{{- "." if loop.last else "; " }}{% endfor %}</p>
</section>
{% endfor %}
</main>
</body>
</html>
""",
    autoescape=True,
)


class Aim(NamedTuple):
    """A figure that has a goal."""

    column: str
    row: str
    goal: Goal
    value: float

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.goal.reached(self.value)


@dataclass(frozen=True)
class Section:
    """A table of RESULTS.md on the page.

    Attributes:
        name: of the table.
        title: of its section in RESULTS.md.
        runs: the newest of each of its parts.
        tables: what these printed.
        aims: figures of these that have goals.
        panels: caption → panels, the first of which names the lines.
    """

    name: str
    title: str
    runs: list[Run]
    tables: list[Table]
    aims: list[Aim]
    panels: dict[str, list[tuple[str, Drawing]]]

    @property
    def age(self) -> str:
        """The days of its runs."""
        days = sorted({run.measured for run in self.runs})
        return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def drawn(out: Path) -> None:
    """Write the page of the history."""
    found = list(sections(runs(), parts(), (HERE / RESULTS).read_text()))
    missed = [(one, aim) for one in found for aim in one.aims if not aim.reached]
    style = (Path(reporting.__file__).parent / "style.css").read_text()
    goals = sum(len(one.aims) for one in found)
    page = TEMPLATE.render(style=style, sections=found, missed=missed, goals=goals)
    write_bytes(out, page.encode(), sidecar=False)


def sections(found: list[Run], known: dict[str, Part], results: str) -> Iterator[Section]:
    """Tables of which there are figures."""
    for name, part in {part.table: part for part in known.values()}.items():
        if last := newest(name, found, known):
            history = [run for run in found if run.part in known and known[run.part].table == name]
            yield Section(
                name,
                heading(name, results),
                [run for run, _ in last],
                [plain(table) for table in joined(last)],
                [aim for run, part in last for aim in aims(run, part)],
                panels(history, part),
            )


def plain(table: Table) -> Table:
    """A table without marks of Markdown."""
    rows = [[cell.replace("`", "") for cell in cells] for cells in [table.head, *table.rows]]
    return Table(table.caption, rows[0], rows[1:])


def aims(run: Run, part: Part) -> Iterator[Aim]:
    """Figures of a run that have goals."""
    for _, column, row, value in figures(run, part):
        if goal := part.goal(row, column):
            yield Aim(column.replace("`", ""), row.replace("`", ""), goal, value)


def panels(history: list[Run], part: Part) -> dict[str, list[tuple[str, Drawing]]]:
    """Caption → panels of what was measured at more than one commit."""
    points: dict[str, dict[str, Points]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )
    for run in history:
        for caption, column, row, value in figures(run, part):
            points[caption][column][row][run.processor].append((run.commit, value))
    commits = list(dict.fromkeys(run.commit for run in history))
    pages = {}
    for caption, columns in points.items():
        repeated = {column: several(rows) for column, rows in columns.items()}
        names = list(dict.fromkeys(row for rows in repeated.values() for row in rows))
        style = dict(zip(names, styles(), strict=False))
        if names:
            pages[caption] = [
                ("what the lines are", grid(key, style, size=(4.2, 0.3 + 0.22 * len(names)))),
                *((column, plot(panel, column, rows, style, part, commits))
                  for column, rows in repeated.items() if rows),
            ]  # fmt: skip
    return pages


def several(rows: Points) -> Points:
    """Those of more than one commit."""
    return {
        row: machines
        for row, machines in rows.items()
        if len({commit for points in machines.values() for commit, _ in points}) > 1
    }


def styles():
    """Colours, dashes and marks, all apart."""
    for i, line in enumerate(cycle(LINES)):
        for hue in HUES:
            yield {"color": hue, "linestyle": line, "marker": MARKS[i % len(MARKS)]}


def key(figure: Figure, style: dict[str, dict[str, str]]) -> None:
    """What the lines are."""
    lines = [Line2D([], [], markersize=4, **how) for how in style.values()]
    figure.legend(lines, [name.strip("`") for name in style], loc="center left", borderaxespad=0)


def panel(
    ax: Axes, column: str, rows: Points, style: dict[str, dict[str, str]], part: Part,
    commits: list[str],
) -> None:  # fmt: skip
    """One column over the commits."""
    values = []
    for row, machines in rows.items():
        for points in machines.values():
            at = [commits.index(commit) for commit, _ in points]
            values += (y := [value for _, value in points])
            ax.plot(at, y, markersize=4, **style[row])
        if goal := part.goal(row, column):
            ax.axhline(goal.value, color=style[row]["color"], linestyle=":", linewidth=1)
    if min(values) > 0 and max(values) > 3 * min(values):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
    ax.set_title(column.replace("`", ""), wrap=True)
    step = -(-len(commits) // TICKS)
    ticks = range(len(commits) - 1, -1, -step)
    ax.set_xticks(ticks, [commits[i] for i in ticks], rotation=30, ha="right")
    ax.set_xlim(-0.5, len(commits) - 0.5)

"""The page of all figures over commits: one panel for each column of each table, goals dotted."""

from __future__ import annotations

from collections import defaultdict
from itertools import cycle
from pathlib import Path

from jinja2 import Template
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.figures import Part, Run, figures, parts, runs
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
<style>{{ style }}</style>
</head>
<body>
<main>
<p class="kicker">physgen benchmarks</p>
<h1>Figures over commits</h1>
<p>Each point is a run of the benchmarks at a commit, each line a row of a table of RESULTS.md,
and each panel one of its columns. {{ runs }} runs of {{ commits|length }} commits, from
{{ commits[0] }} to {{ commits[-1] }}. Dotted lines of the same colour are goals. Lines join runs
on one processor; machines differ, so figures stand beside those of other packages where there are
some, or are divided by them. Repeat one with <code>python -m benchmarks run NAME</code>.</p>
{% for title, captions in tables.items() %}
<section>
<h2>{{ title }}</h2>
{% for caption, drawings in captions.items() %}
<figure class="ink">
{% if caption %}<figcaption>{{ caption }}</figcaption>{% endif %}
<div class="panels n2">
{% for name, drawing in drawings %}
<img src="{{ drawing.shown.uri }}" alt="{{ name }}">
{% endfor %}
</div>
</figure>
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
""",
    autoescape=True,
)


def drawn(out: Path) -> None:
    """Write the page of the history."""
    known = parts()
    found = [run for run in runs() if run.part in known]
    commits = list(dict.fromkeys(run.commit for run in found))
    dates = list(dict.fromkeys(f"{run.commit} ({run.committed[:10]})" for run in found))
    style = (Path(reporting.__file__).parent / "style.css").read_text()
    page = TEMPLATE.render(
        style=style, runs=len(found), commits=dates, tables=panels(found, known, commits)
    )
    write_bytes(out, page.encode(), sidecar=False)


def panels(
    found: list[Run], known: dict[str, Part], commits: list[str]
) -> dict[str, dict[str, list[tuple[str, Drawing]]]]:
    """Table → caption → panels, the first of which names the lines."""
    points: dict[tuple[str, str], dict[str, Points]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )
    for run in found:
        part = known[run.part]
        for caption, column, row, value in figures(run, part):
            points[part.table, caption][column][row][run.processor].append((run.commit, value))
    about = {part.table: part for part in known.values()}
    pages: dict[str, dict[str, list[tuple[str, Drawing]]]] = defaultdict(dict)
    tables = list(about)
    for (table, caption), columns in sorted(points.items(), key=lambda p: tables.index(p[0][0])):
        names = list(dict.fromkeys(row for rows in columns.values() for row in rows))
        style = dict(zip(names, styles(), strict=False))
        pages[table][caption] = [
            ("what the lines are", grid(key, style, size=(4.2, 0.3 + 0.22 * len(names))))
        ] + [
            (column, plot(panel, column, rows, style, about[table], commits))
            for column, rows in columns.items()
        ]
    return pages


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
        goal = part.goals.get(f"{row} | {column}", part.goals.get(row))
        if goal is not None:
            ax.axhline(goal, color=style[row]["color"], linestyle=":", linewidth=1)
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

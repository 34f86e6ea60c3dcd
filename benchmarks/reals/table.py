"""What was measured as a table in markdown, and as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reals.pictures import draw_densities, draw_learning
from benchmarks.reals.tasks import TASKS, Task
from benchmarks.reals.truth import COLLAPSED
from physgen.reporting.style import svg

__all__ = ["write_table"]

Line = Mapping[str, Any]
HEAD = (
    "method", "train CPU s", "gap, nats", "overfitting, nats", "off, exact widths",
    "ratio of widths", "log p / CPU s", "samples / CPU s", "remarks",
)  # fmt: skip


def write_table(out: Path, results: Sequence[Line]) -> str:
    """The table as markdown, also in OUT/table.md; pictures beside it.

    Args:
        out: folder of the results.
        results: lines of them.
    """
    parts = []
    for name, task in TASKS.items():
        if mine := [line for line in results if line["law"] == name and "failed" not in line]:
            parts.append(section(task, mine))
            draw(out, name, task, mine)
    text = "\n".join(parts)
    (out / "table.md").write_text(text)
    return text


def section(task: Task, lines: Sequence[Line]) -> str:
    """The table of one law: a row for each method and training time, means over seeds."""
    floor, se = lines[0]["floor"]
    title = (
        f"**{task.title}**: mean exact log p {floor:.3f} ± {se:.3f} nats over the test rows; "
        f"to reach: {task.target:g}\n\n"
    )
    head = "| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|\n"
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        key = line["method"], line["seconds"], line["simulations"]
        groups.setdefault(key, []).append(line)
    rows = sorted(groups.values(), key=lambda group: order(group))
    heats = [line for line in lines if line.get("heats")][:1]
    return title + head + "".join([*map(row, rows), *map(race, heats)])


def race(line: Line) -> str:
    """The heats of `fit auto`, as it tells them."""
    from physgen.verbs.auto import auto_table

    return "\n```\n" + "\n".join(auto_table(line["heats"])) + "\n```\n"


def order(group: Sequence[Line]) -> tuple[bool, float]:
    """By the gap; those that have none after these, by the posteriors' error."""
    key = "gap" if any("gap" in line for line in group) else "error"
    found = [line[key][0] for line in group if key in line]
    return key != "gap", float(np.mean(found)) if found else np.inf


def row(group: Sequence[Line]) -> str:
    """A method: means over seeds, with the least and the greatest."""
    first = group[0]
    name = first["method"] + ("" if len(group) == 1 else f" ({len(group)} seeds)")
    cells = [
        name,
        over(group, lambda line: line["cpu"], "{:.0f}"),
        with_error(group, "gap"),
        with_error(group, "overfitting"),
        with_error(group, "error"),
        over(group, lambda line: line["ratio"], "{:.2f}"),
        over(group, lambda line: line["log_p_rate"], "{:,.0f}", ends=False),
        over(group, lambda line: line["sample_rate"], "{:,.0f}", ends=False),
        "; ".join(remarks(group)),
    ]
    return "| " + " | ".join(cells) + " |\n"


def over(
    group: Sequence[Line], read: Callable[[Line], float], form: str, ends: bool = True
) -> str:
    """Mean over seeds (least–greatest); a dash where no line has it."""
    values = []
    for line in group:
        try:
            values.append(read(line))
        except KeyError:
            continue
    if not values:
        return "–"
    text = form.format(np.mean(values))
    if len(values) == 1 or not ends:
        return text
    return f"{text} ({form.format(min(values))}–{form.format(max(values))})"


def with_error(group: Sequence[Line], key: str) -> str:
    """A figure with its error over rows, or over seeds least and greatest; a dash without."""
    some = [line[key] for line in group if key in line]
    if len(some) == 1:
        return "{:.3f} ± {:.3f}".format(*some[0])
    return over(group, lambda line: line[key][0], "{:.3f}")


def remarks(group: Sequence[Line]) -> Iterable[str]:
    """What else there is to say of a method."""
    yield from sorted({line["refused"] for line in group if "refused" in line})
    if bad := sum(line.get("bad", 0) for line in group):
        yield f"log p of {bad} rows is not finite"
    if lost := sum(line.get("collapsed", 0) for line in group):
        yield f"{lost} of {sum(line['observations'] for line in group)} posteriors collapsed"
    if (few := min(line.get("exact_worth", np.inf) for line in group)) < COLLAPSED:
        yield f"an exact posterior is told by {few:.0f} draws only"
    if dear := next((line["posterior"] for line in group if "posterior" in line), ""):
        yield f"posteriors too dear: {dear}"
    yield from sorted({line["told"] for line in group if line.get("told")})[:1]


def draw(out: Path, name: str, task: Task, lines: Sequence[Line]) -> None:
    """Pictures of one law: densities in the plane, and losses by epoch."""
    if task.window:
        kept = sorted(out.glob(f"density-{name}-*.npz"))
        panels = {"exact": None} | {path.stem.split("-", 2)[2]: path for path in kept}
        size = (2.0 * len(panels), 6.0)
        picture = svg(partial(draw_densities, task=task, panels=panels), size)
        (out / f"density-{name}.svg").write_bytes(picture)
    curves = {line["method"]: line["history"] for line in lines if line.get("history")}
    if curves:
        size = (2.6 * len(curves), 2.4)
        (out / f"learning-{name}.svg").write_bytes(
            svg(partial(draw_learning, curves=curves), size)
        )

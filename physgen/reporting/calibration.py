"""The page of a calibration: its own words in calibration.html, those of each check in the check.

A check says what it has to show as a :class:`physgen.reporting.view.PagePart`, without ink;
here its pictures are drawn, by :mod:`.uniform`, and its numbers written. None is known by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from physgen.reporting import style, uniform
from physgen.reporting.corner import corner_drawing, corner_of
from physgen.reporting.page import parameter_letters
from physgen.reporting.quantities import free, law_words, measured, number
from physgen.reporting.sheet import Drawing, Sheet, grid
from physgen.reporting.view import CONTROLS, Labels, PagePart, Picture, TableView, Value, Words
from simulators.prior import Prior

__all__ = ["calibration_sheet"]

FEW, FULL = 3, (8.6, 8.6)
"""Parameters of posteriors on a grid, at most; the size of what is as wide as the page; the width
of many panels, which is that of a sheet of paper."""


def calibration_sheet(
    metrics: Mapping[str, Any],
    parts_of: Callable[[Mapping[str, Any], Labels], Iterable[PagePart]],
) -> Sheet:
    """The page of what calibrate wrote.

    Args:
        metrics: its JSON data.
        parts_of: metrics, labels → what each check has to show.
    """
    judged = metrics.get("surrogate") or metrics.get("network") or {}
    law = judged.get("law") or {}
    prior = law.get("prior") or []
    labels = Labels(
        parameter_letters(law),
        {p["name"]: style.axis_label(p.get("latex", ""), "", p["name"]) for p in prior},
    )
    axes = [
        style.axis_label(p.get("latex", ""), p.get("unit", ""), p["name"]) for p in free(prior)
    ]
    parts = _merged(parts_of(metrics, labels))
    values = {
        "m": metrics,
        "judged": judged,
        "law": law,
        "names": labels.letters,
        "controls": CONTROLS,
        "parts": parts,
        "tables": {part.key: _written(part.table) for part in parts if part.table},
        "said": _said,
        "priors": [
            f"{labels.letter(p['name'])} {law_words(p)}" for p in metrics.get("prior") or []
        ],
        "many": len(axes) > FEW,
    }
    plots = {part.key: [_drawn(p) for p in part.pictures] for part in parts}
    return Sheet("calibration.html", values, plots | {"corners": _corners(metrics, axes)})


def _merged(parts: Iterable[PagePart]) -> list[PagePart]:
    """Parts of one key as one, with all their pictures."""
    found: dict[str, PagePart] = {}
    for part in parts:
        first = found.get(part.key)
        more = part.pictures if first is None else first.pictures + part.pictures
        found[part.key] = replace(first or part, pictures=more)
    return list(found.values())


def _drawn(picture: Picture) -> Drawing:
    """A picture, to be drawn."""
    draw = uniform.FIGURES[picture.figure]
    if picture.panels:
        rows = -(-picture.panels // uniform.PANELS)
        return grid(draw, *picture.data, size=(style.WIDTH, 0.8 + 1.9 * rows))
    size = style.SQUARE if picture.square else style.PANEL
    return grid(lambda figure: draw(figure.add_subplot(), *picture.data), size=size)


def _corners(metrics: Mapping[str, Any], axes: list[str]) -> list[Drawing]:
    """Some posteriors."""
    every, prior = metrics.get("corners") or [], metrics.get("prior") or []
    if len(axes) > FEW:
        every = [
            _of_draws(c, prior) for c in every if np.shape(c.get("draws"))[-1:] == (len(axes),)
        ]
    shown = [c for c in every if len(axes) == len(c["axes"])]
    return [corner_drawing([c], axes) for c in shown]


def _of_draws(corner: Mapping[str, Any], prior: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A posterior that is known by its draws, as densities."""
    true = corner["theta"] and np.asarray(corner["theta"])
    found = corner_of(np.asarray(corner["draws"]), Prior.from_json(prior), true)
    return found | {"row": corner["row"]}


def _written(table: TableView) -> list[list[str]]:
    """The rows of a table as text."""
    return [
        [_said(value, column.digits) for value, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


def _said(value: Value, digits: int = 2) -> str:
    """A value as text: a number, a number with its error, or words with their numbers."""
    if isinstance(value, Words):
        return value.text.format(*(_said(v, digits) for v in value.values))
    if isinstance(value, str):
        return value
    return measured(*value) if isinstance(value, tuple) else number(value, digits)

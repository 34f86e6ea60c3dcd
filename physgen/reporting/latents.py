"""The page of latents: the words in latents.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from physgen.reporting.page import letter
from physgen.reporting.sheet import Sheet, grid, plot
from physgen.reporting.style import (
    FULL,
    INK,
    OPEN,
    SQUARE,
    axis_label,
    floats,
    lattices,
    legend_above,
    plain,
)
from simulators.prior import Prior

__all__ = ["latents_sheet"]

POINTS = 2000
"""Rows of a map that are drawn, at most."""


def latents_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of what latents wrote: its metadata, and its arrays under "arrays"."""
    law = (metrics.get("surrogate") or {}).get("law") or {}
    prior, arrays = Prior.from_json(law.get("prior") or []), metrics["arrays"]
    about, edit = metrics.get("observables") or [], metrics.get("edit") or {}
    symbols = {o["name"]: axis_label(o["latex"], o["unit"], o["name"]) for o in about}
    colours = [
        (arrays["theta"][:POINTS, d], axis_label(p.latex, p.unit, p.name))
        for d, p in enumerate(prior.parameters)
    ]
    if symbols:
        columns = arrays["observables"][:POINTS].T
        colours += list(zip(columns, symbols.values(), strict=True))
    points = arrays["map"][:POINTS]
    plots = {
        "map": [plot(_coloured_map, points, *colour) for colour in colours],
        "moved": [plot(_moved_along, edit, symbols[edit["along"]])] if edit else [],
        "others": [
            grid(_edit, edit, name, symbols[edit["along"]], size=SQUARE)
            for name in edit.get("others") or {}
        ],
    }
    pictures = arrays.get("pictures")
    if pictures is not None:
        r, k = np.shape(pictures)[:2]
        size = (4.2, 0.3 + 4.0 * r / k)
        plots["strips"] = [grid(_edit_strips, pictures, edit["steps"], size=size)]
    names = {p.name: letter(p.name, p.latex) for p in prior.every}
    titles = {o["name"]: o["title"] or o["name"] for o in about}
    return Sheet(
        "latents.html", {"m": metrics, "law": law, "names": names, "titles": titles}, plots
    )


def _coloured_map(ax: Axes, points: ArrayLike, values: ArrayLike, symbol: str) -> None:
    """Rows as points (n, 2) of a map, coloured by a value of each (n,)."""
    (x, y), c = floats(points).T, floats(values)
    low, high = np.nanquantile(c, [0.01, 0.99])  # a few that are far off would take all colours
    ink: Any = {"cmap": "viridis", "vmin": low, "vmax": high, "linewidths": 0}
    dots = ax.scatter(x, y, 5, c, rasterized=True, **ink)
    ax.set(xlabel="first component", ylabel="second component")
    ax.figure.colorbar(dots, ax=ax, label=symbol)


def _moved_along(ax: Axes, data: Mapping[str, Any], symbol: str) -> None:
    """An observable of rows that are moved along its direction, and along a random one."""
    for key, style, name in (("random", OPEN, "random direction"), ("chosen", FULL, "its own")):
        mean, se = floats(data[key]).T
        ax.errorbar(data["steps"], mean, se, label=name, **style | {"linestyle": "-"})
    ax.set(xlabel="step [standard deviations of the latents]", ylabel=symbol)
    legend_above(ax)


def _edit(figure: Figure, data: Mapping[str, Any], name: str, symbol: str) -> None:
    """Another observable against the one along which rows are moved, beside its exact mean.

    Below, if that is known, its distance in exact widths, and what it were had it not moved.
    """
    other = data["others"][name]
    heights, at = (3, 2)[: 1 + ("error" in other)], floats(data["chosen"])[:, 0]
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    top, bottom = panels[0, 0], panels[-1, 0]
    if "exact" in other:
        top.plot(at, floats(other["exact"])[:, 0], color=INK, linewidth=1.1, label="exact")
    if "error" in other:
        bottom.axhline(0, color=INK, linewidth=0.8)
        for key, style, word in (("unmoved", OPEN, "had it stayed"), ("error", FULL, "decoded")):
            bottom.errorbar(at, *floats(other[key]).T, label=word, **style)
        bottom.set_ylabel("off [exact widths]")
        legend_above(bottom)
    top.errorbar(at, *floats(other["mean"]).T, label="decoded", **FULL)
    top.set_title(plain(other.get("title") or name))
    top.set_ylabel(axis_label(other.get("latex", ""), other.get("unit", ""), name))
    legend_above(top)
    bottom.set_xlabel(symbol)
    figure.align_ylabels()


def _edit_strips(figure: Figure, pictures: ArrayLike, steps: Sequence[float]) -> None:
    """Rows of x (r, places, h, w), each moved further from left to right."""
    x = np.asarray(pictures, dtype=float)
    axes = figure.subplots(*x.shape[:2], squeeze=False)
    lattices(axes, x)
    for ax, value in zip(axes[0], steps, strict=True):
        ax.set_title(f"{value:.2g}".replace("-", "−"), loc="center", fontsize=9)

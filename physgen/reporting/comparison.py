"""The page of two datasets: the words in comparison.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from physgen.reporting import figures
from physgen.reporting.page import parameter_axis, parameter_letters
from physgen.reporting.sheet import Drawing, Sheet, grid, plot
from physgen.reporting.style import (
    FULL,
    GREY,
    INK,
    LATTICE,
    OPEN,
    PAIR,
    SURROGATE,
    axis_label,
    floats,
    legend_above,
    plain,
)

__all__ = ["comparison_sheet"]

TALL, WIDE = (4.2, 3.6), (4.2, 2.2)


def comparison_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of what compare wrote."""
    laws = [(metrics.get(key) or {}).get("law") for key in PAIR]
    law: Mapping[str, Any] = next(filter(None, laws), {})
    values = {"m": metrics, "law": law, "names": parameter_letters(law)}
    return Sheet("comparison.html", values, _plots(metrics, law))


def _plots(metrics: Mapping[str, Any], law: Mapping[str, Any]) -> dict[str, list[Drawing]]:
    """Section → its figures, one for each thing that the metrics have data for."""
    observables = metrics.get("observables") or {}
    average, events, cells = (metrics.get(k) for k in ("average", "events", "cells"))
    layers = (cells or {}).get("layers")
    symbol = parameter_axis(law, units=False)(events or {})
    return {
        "events": [grid(_events, events, symbol, size=WIDE)] if events else [],
        "average": [grid(_average, average, size=WIDE)] if average else [],
        "observables": [
            plot(figures.histogram, o, name, PAIR)
            for name, o in observables.items()
            if o.get("histogram")
        ],
        "curves": [
            drawing
            for name, c in (metrics.get("curves") or {}).items()
            for drawing in (
                grid(_profile, c, name, size=TALL),
                *(
                    plot(_separations, some["separation"], c["title"] or name)
                    for some in [observables.get(name)]
                    if some
                ),
            )
        ],
        "cells": [
            *([plot(figures.histogram, _spectrum(cells), "", PAIR)] if cells else []),
            *([plot(_separations, layers, "spectrum of each layer")] if layers else []),
        ],
    }


def _spectrum(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {**cells, "title": "components that are hit", "latex": r"\log_{10} x"}


def _profile(figure: Figure, data: Mapping[str, Any], name: str = "") -> None:
    """Means of a curve's components in a pair of datasets, and below it their difference."""
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.15))
    i = np.arange(1, len(data["difference"]["mean"]) + 1)
    for key, style in zip(PAIR, (OPEN, FULL), strict=True):
        top.errorbar(i, floats(data[key]["mean"]), floats(data[key]["se"]), label=key, **style)
    below.axhline(0, color=INK, linewidth=0.8)
    below.errorbar(i, *(floats(data["difference"][key]) for key in ("mean", "se")), **FULL)
    top.set_title(plain(data.get("title") or name))
    top.set_ylabel(axis_label(data.get("latex", ""), data.get("unit", ""), name))
    legend_above(top)
    below.set(xlabel="component", ylabel=f"− {PAIR[0]}")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()


def _separations(ax: Axes, tests: Sequence[Mapping[str, Any]], title: str) -> None:
    """Separation power of each component, on the 95 % points of its null.

    The scale is logarithmic where the null would else be lost at the bottom.
    """
    i = np.arange(1, len(tests) + 1)
    value, null = (floats([t[key] for t in tests]) for key in ("value", "null_95"))
    ax.fill_between(i, null, step="mid", color=GREY, alpha=0.35, linewidth=0, label="null, 95 %")
    ax.plot(i, value, "o", color=SURROGATE, markersize=3.6, label=PAIR[1])
    if np.nanmax(value) > 10 * np.nanmax(null):
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.set_title(plain(title))
    ax.set(xlabel="component", ylabel="separation power")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax)


def _average(figure: Figure, data: Mapping[str, Any]) -> None:
    """The mean x of a pair of datasets: two maps on one scale, or two lines."""
    means = [floats(data[key]) for key in PAIR]
    if means[0].ndim == 1:
        ax = figure.add_subplot()
        edges = np.arange(len(means[0]) + 1) + 0.5
        ax.stairs(means[0], edges, fill=True, color=GREY, alpha=0.5, label=PAIR[0])
        ax.stairs(means[1], edges, color=SURROGATE, linewidth=1.2, label=PAIR[1])
        ax.set(xlabel="component", ylabel="mean x")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(ax)
        return
    axes = figure.subplots(1, 2)
    image = _maps(axes, means, data.get("axes"))
    for ax, name in zip(axes, PAIR, strict=True):
        ax.set_title(name, loc="center")
    figure.colorbar(image, ax=axes, shrink=0.8, label="mean x")


def _events(figure: Figure, data: Mapping[str, Any], symbol: str) -> None:
    """Some x of a pair of datasets, a row each: bars of a vector, maps of all else."""
    rows = [floats(data[key]["x"]) for key in PAIR]
    bars = rows[0].ndim == 2
    share: Any = "col" if bars else True
    axes = figure.subplots(2, len(rows[0]), squeeze=False, sharex=True, sharey=share)
    if bars:
        for ax, x, i in zip(axes.flat, np.concatenate(rows), range(axes.size), strict=True):
            edges, color = np.arange(len(x) + 1) + 0.5, (GREY, SURROGATE)[i // len(rows[0])]
            ax.stairs(x, edges, fill=True, color=color, alpha=0.7)
    else:
        _maps(axes.ravel(), np.concatenate(rows), data.get("axes"))
    for row, name in zip(axes, PAIR, strict=True):
        row[0].set_ylabel(name)
        for ax, value in zip(row, data[name]["theta"] or (), strict=False):
            ax.set_title(f"{symbol} = {value:.3g}", loc="center", fontsize=8.5)


def _maps(axes: NDArray[Any], maps: ArrayLike, names: Sequence[str] | None = None) -> AxesImage:
    """Maps (n, h, w) on n axes and one scale: logarithmic over three decades if none is below 0.

    What is 0 is then blank. Where h and w have names, the first runs to the right, the other up.
    """
    x = np.asarray(maps, dtype=float)
    some = x[x > 0]
    log = x.min() >= 0 and some.size and some.min() < some.max()
    norm: Normalize
    if log:
        norm = LogNorm(max(some.min(), 1e-3 * some.max()), some.max(), clip=True)
        x = np.where(x > 0, x, np.nan)
    else:
        most = max(abs(x.min()), abs(x.max())) or 1.0
        norm = Normalize(min(x.min(), -most) if x.min() < 0 else 0, most)
    for ax, one in zip(axes, x, strict=True):
        image = ax.imshow(one.T if names else one, cmap=LATTICE, norm=norm, interpolation="none",
                          aspect="auto" if names else "equal",
                          origin="lower" if names else "upper")  # fmt: skip
        ax.set(xticks=[], yticks=[], xlabel=names[0] if names else "")
        ax.spines[:].set_visible(True)
    return image

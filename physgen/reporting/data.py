"""Some rows of a dataset as one figure: fields as pictures, curves as lines, numbers as dots.

A field of several channels has a row of them for each, and one in space some slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from physgen.reporting.predictive import predictive_band
from physgen.reporting.quantities import free
from physgen.reporting.sheet import Drawing, Sheet, grid, plot
from physgen.reporting.style import HUES, LATTICE, PANEL, WIDTH, axis_label, theta_titles
from physgen.reporting.vectors import component_names, fan_drawing, pairs_drawing
from physgen.reporting.view import SHORT_VECTOR
from simulators.base import Array

__all__ = ["data_drawing", "data_sheet", "observation_drawing"]

MOST_COLUMNS, ACROSS, WIDEST = 12, 4, 60
"""Columns of different kinds that have a panel, panels side by side, and bars in one."""
MOST_PARAMETERS = 6
"""By which x are shown one after another."""
SHOWN, FEW, SLICES, CURVES = 8, 3, 4, 30
"""Rows that are shown one by one; components of x that are points against θ; slices or channels
of a field, and curves, that are shown, at most."""


def data_sheet(found: Mapping[str, Any]) -> Sheet:
    """The page of a dataset whose rows are shown as they are: x by each parameter, and θ."""
    law, (theta, x) = found["law"], (found["arrays"][name] for name in ("theta", "x"))
    names = [p["name"] for p in free(law["prior"])]
    several = 1 < len(names) <= MOST_PARAMETERS
    by_each = range(
        len(names) if several and x.ndim == 2 and not law.get("column_supports") else 1
    )
    drawings = {
        "x": [data_drawing(x, theta, law, found["names"], d) for d in by_each],
        "theta": [pairs_drawing({"θ": theta}, component_names(names, 0))] if several else [],
    }
    kinds = {
        name: "full" if any(d.size[0] > PANEL[0] for d in some) else "ink"
        for name, some in drawings.items()
    }
    return Sheet("data.html", {"m": found, "law": law, "kinds": kinds}, drawings)


def data_drawing(
    x: Array,
    theta: Array | None,
    law: Mapping[str, Any],
    names: Sequence[str] = (),
    by: int = 0,
) -> Drawing:
    """A figure of some x, spread over the range of a parameter.

    Args:
        x: (n, *x_shape).
        theta: (n, D); None where it is not known.
        law: as JSON data, for names and units; empty where it is not known.
        names: of the columns of x, if they have any.
        by: number of the parameter.
    """
    if kinds := law.get("column_supports"):
        called = names or [f"x[{j}]" for j in range(len(kinds))]
        size = (WIDTH, 2.2 * -(-min(len(kinds), MOST_COLUMNS) // ACROSS))
        return grid(_columns, x.reshape(len(x), -1), kinds, called, size=size)
    every = free(law.get("prior")) or [{"name": "theta"}]
    first = every[by]
    symbol = axis_label(first.get("latex", ""), first.get("unit", ""), first["name"])
    key = None if theta is None else theta[:, by]
    if x[0].size <= FEW:
        return grid(_points, x.reshape(len(x), -1), key, symbol)
    if x.ndim == 2 and x.shape[1] <= SHORT_VECTOR:
        return pairs_drawing({"x": x}, component_names(names, x.shape[1]), key, symbol)
    order = np.arange(len(x)) if key is None else np.argsort(key, kind="stable")
    many = CURVES if x.ndim == 2 else SHOWN
    rows = order[np.linspace(0, len(order) - 1, min(many, len(order))).round().astype(int)]
    if x.ndim == 2:
        values = None if key is None else key[rows]
        return fan_drawing({"": x[rows]}, np.arange(1, x.shape[1] + 1), values, symbol)
    if theta is None:
        titles = [f"row {i}" for i in rows]
    else:
        shown = [by] if len(every) > 2 else sorted(range(len(every)), key=lambda d: d != by)
        symbols = [axis_label(every[d].get("latex", ""), name=every[d]["name"]) for d in shown]
        titles = theta_titles(symbols, theta[np.ix_(rows, shown)])
    channels = "channel" in law.get("axes", ())
    if x.ndim == 3 and channels:
        return grid(_channels, x[rows], titles, size=(4.2, 1.1 + 1.5 * min(SLICES, x.shape[1])))
    if law.get("axes") or "shift" in law.get("symmetries", ()):
        panels = panels_of(x[rows], 1 + channels)
        size = (WIDTH, 0.5 + 1.1 * panels.shape[1])
        return grid(_panels, panels, titles, channels, size=size)
    return grid(_pictures, _summed(x[rows]), titles, size=(WIDTH, 3.7))


def observation_drawing(
    x: Array,
    law: Mapping[str, Any],
    prediction: Mapping[str, Any] | None,
    size: tuple[float, float],
    name: str,
) -> Drawing | None:
    """One observation, and what a posterior predicts of it; None of few numbers.

    Args:
        x: (m, *x_shape), several rows if they were taken for one observation.
        law: as JSON data, for supports and axes.
        prediction: bands and examples (k, *x_shape) of predicted x, if there are any.
        size: width and height in inches.
        name: what it is called.
    """
    told = prediction or {}
    if x.ndim == 2:
        if x.shape[1] <= SHORT_VECTOR or law.get("column_supports"):
            return None
        band = {**((told.get("bands") or {}).get("x") or {}), "observed": x[:CURVES].tolist()}
        return plot(predictive_band, {**band, "title": name, "latex": "x_i"}, size=size)
    if x.ndim == 3 and "channel" in law.get("axes", ()):
        return grid(_channels, x[:CURVES], [name] + [""] * (len(x[:CURVES]) - 1), size=size)
    shown = [*x[: SLICES - 1], *told.get("examples", [])][:SLICES]
    titles = [name] * len(x[: SLICES - 1]) + ["predicted"] * SLICES
    if law.get("axes") or "shift" in law.get("symmetries", ()):
        channels = "channel" in law.get("axes", ())
        panels = panels_of(np.array(shown, float), 1 + channels)[:, :1][:, 0]
    else:
        panels = _summed(np.array(shown, float))
    return grid(_side_by_side, panels, titles, law.get("support") == "nonnegative", size=size)


def _summed(x: Array) -> Array:
    """Fields (n, *x_shape) as pictures (n, h, w): few channels below one another, else sums."""
    if x.ndim == 4 and x.shape[1] <= SLICES:
        return x.reshape(len(x), -1, x.shape[-1])
    return x.reshape(len(x), x.shape[1], -1, x.shape[-1]).sum(2)


def _side_by_side(figure: Figure, x: Array, titles: Sequence[str], log: bool) -> None:
    """Pictures (n, rows, columns) on one scale, logarithmic over three decades if asked."""
    across = 1 if len(x) == 1 else 2
    axes = figure.subplots(-(-len(x) // across), across, squeeze=False)
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    norm = LogNorm(1e-3 * high, high, clip=True) if log and high > 0 else Normalize(low, high)
    for ax in axes.ravel()[len(x) :]:
        ax.set_axis_off()
    for ax, values, title in zip(axes.flat, x, titles, strict=False):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
        ax.imshow(values, cmap=LATTICE, norm=norm, interpolation="nearest")
        ax.set_title(title, loc="center", fontsize=9)


def _columns(figure: Figure, x: Array, kinds: Sequence[str], names: Sequence[str]) -> None:
    """Columns of several kinds, a panel each: bars of what is discrete, else a histogram."""
    shown = min(len(kinds), MOST_COLUMNS)
    axes = figure.subplots(-(-shown // ACROSS), min(shown, ACROSS), squeeze=False).ravel()
    for ax, values, kind, name in zip(axes, x.T, kinds, names, strict=False):
        if kind in ("reals", "nonnegative"):
            ax.hist(values, 40, color=HUES[0], alpha=0.6)
        else:
            edges = np.arange(values.min(), values.max() + 2) - 0.5
            bars = np.histogram(values, edges if len(edges) <= WIDEST else WIDEST)
            ax.bar(
                (bars[1][:-1] + bars[1][1:]) / 2, bars[0], 0.8 * np.diff(bars[1]), color=HUES[1]
            )
        ax.set(xlabel=name, title=kind)
    for ax in axes[shown:]:
        ax.set_axis_off()
    axes[0].set_ylabel("rows")


def _points(figure: Figure, x: Array, key: Array | None, symbol: str) -> None:
    """Numbers against the parameter, or their histograms where it is not known."""
    ax = figure.add_subplot()
    for i, values in enumerate(x.T):
        name, color = f"$x_{i + 1}$", HUES[i % len(HUES)]
        if key is None:
            ax.hist(values, 40, histtype="step", color=color, label=name)
        else:
            ax.plot(key, values, ".", color=color, markersize=3, label=name)
    ax.set(xlabel="x" if key is None else symbol, ylabel="rows" if key is None else "x")
    figure.legend(loc="outside upper right", ncols=FEW)


def panels_of(x: Array, channels: int = 1) -> Array:
    """Fields (n, *x_shape) as pictures, (n, panels, rows, columns).

    Args:
        x: of two axes, or of three, of which some slices along the first are shown, at most
            `SLICES`; before these an axis of channels.
        channels: 2 with that axis, else 1.
    """
    x = x if channels == 2 else x[:, None]
    if x.ndim == 5:
        places = np.linspace(0, x.shape[2] - 1, min(SLICES, x.shape[2])).round().astype(int)
        x = x[:, :, places].reshape(len(x), -1, *x.shape[3:])
    return x[:, :SLICES]


def _channels(figure: Figure, x: Array, titles: list[str]) -> None:
    """Series (n, channels, times), the lines of each channel under those of the one before."""
    some = min(SLICES, x.shape[1])
    for k, ax in enumerate(figure.subplots(some, 1, sharex=True, squeeze=False)[:, 0]):
        for i, (values, title) in enumerate(zip(x[:, k], titles, strict=True)):
            shade = 0.15 + 0.7 * i / max(1, len(x) - 1)
            label = title if k == 0 else None
            ax.plot(np.arange(1, len(values) + 1), values, color=HUES[0], alpha=shade, label=label)
        ax.set_ylabel(f"channel {k + 1}")
    ax.set_xlabel("place")
    figure.legend(loc="outside right upper", fontsize=9)


def _panels(figure: Figure, x: Array, titles: list[str], channels: bool) -> None:
    """Pictures (n, panels, rows, columns), a column for each x, each channel on its own scale."""
    axes = figure.subplots(x.shape[1], len(x), squeeze=False)
    for k, row in enumerate(axes):
        part = x[:, k] if channels else x
        low, high = float(np.nanmin(part)), float(np.nanmax(part))
        for i, ax in enumerate(row):
            ax.imshow(x[i, k], cmap=LATTICE, vmin=low, vmax=high, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if k == 0:
                ax.set_title(titles[i], fontsize=9)
        if len(axes) > 1:
            row[0].set_ylabel(f"{'channel' if channels else 'slice'} {k + 1}", fontsize=9)


def _pictures(figure: Figure, x: Array, titles: list[str]) -> None:
    """Fields (n, rows, columns) side by side, on one scale; of more axes, sums over the middle."""
    axes = figure.subplots(2, -(-len(x) // 2), squeeze=False)
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, values, title in zip(axes.flat, x, titles, strict=False):
        ax.imshow(values, cmap=LATTICE, vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title)

"""Figures of vectors: fans of curves, bands of curves of like θ, and pairs of few components.

True x are grey or dark and drawn x vermilion, as everywhere; alone, x are coloured by θ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from physgen.reporting.quantities import number
from physgen.reporting.sheet import Drawing, grid
from physgen.reporting.style import GREY, INK, PANEL, SQUARE, SURROGATE, WIDTH, floats
from simulators.base import Array

__all__ = ["bands_drawing", "component_names", "fan_drawing", "pairs_drawing"]

BINS, MOST = 25, 4
"""Bins of a histogram; components of a figure that is a panel, at most."""
WHOLE = (WIDTH, 6.8)
"""Size of what is as wide as the page, inches."""


def component_names(names: Sequence[str], count: int) -> list[str]:
    """What the components of short vectors are called on an axis."""
    return [n.replace("$", r"\$") for n in names] or [f"$x_{i + 1}$" for i in range(count)]


def fan_drawing(
    curves: Mapping[str, ArrayLike], at: ArrayLike, values: ArrayLike | None, symbol: str
) -> Drawing:
    """Curves coloured by the value of a parameter, a panel for each kind of them.

    Args:
        curves: what they are, and (n, k) of them each.
        at: place of each component, (k,).
        values: of the parameter, (n,); None where it is not known.
        symbol: of the parameter.
    """
    size = (PANEL[0], PANEL[1] if len(curves) == 1 else SQUARE[1])
    return grid(_fan, curves, at, values, symbol, size=size)


def _fan(
    figure: Figure,
    curves: Mapping[str, ArrayLike],
    at: ArrayLike,
    values: ArrayLike | None,
    symbol: str,
) -> None:
    """What `fan_drawing` shows."""
    axes = figure.subplots(len(curves), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    colors = matplotlib.colormaps["viridis"]
    theta = None if values is None else floats(values)
    norm = Normalize(*((0, 1) if theta is None else (theta.min(), theta.max())))
    for ax, (name, rows) in zip(axes, curves.items(), strict=True):
        for i, row in enumerate(floats(rows)):
            ink = SURROGATE if theta is None else colors(norm(theta[i]))
            ax.plot(floats(at), row, color=ink, linewidth=0.8, alpha=0.8)
        ax.set(ylabel=f"x, {name}" if name else "x")
    _places(axes[-1], floats(at))
    if theta is not None:
        figure.colorbar(ScalarMappable(norm, colors), ax=list(axes), label=symbol)


def bands_drawing(data: Mapping[str, Any], at: ArrayLike, symbol: str) -> Drawing:
    """Means and bands of 90 % of curves, a panel for each group of rows of like θ.

    Args:
        data: groups, each with low, high and, of true and surrogate, mean, low and high (k,).
        at: place of each component, (k,).
        symbol: of the parameter.
    """
    count = len(data["groups"])
    return grid(_bands, data["groups"], at, symbol, size=(PANEL[0], 0.9 + 1.25 * count))


def _bands(
    figure: Figure, groups: Sequence[Mapping[str, Any]], at: ArrayLike, symbol: str
) -> None:
    """What `bands_drawing` shows."""
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    x = floats(at)
    for ax, group in zip(axes, groups, strict=True):
        true, drawn = ({k: floats(group[kind][k]) for k in ("mean", "low", "high")}
                       for kind in ("true", "surrogate"))  # fmt: skip
        ax.fill_between(x, true["low"], true["high"], color=GREY, alpha=0.4, linewidth=0,
                        label="true")  # fmt: skip
        ax.plot(x, true["mean"], color=INK, linewidth=1)
        ax.plot(x, drawn["mean"], color=SURROGATE, linewidth=1, label="surrogate")
        for end in ("low", "high"):
            ax.plot(x, drawn[end], color=SURROGATE, linewidth=0.8, linestyle="--")
        ends = f"{number(group['low'], 3)} to {number(group['high'], 3)}"
        ax.set_title(f"{symbol}: {ends}", fontsize=9)
        ax.set_ylabel("x")
    _places(axes[-1], x)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)


def pairs_drawing(
    points: Mapping[str, ArrayLike],
    names: Sequence[str],
    values: ArrayLike | None = None,
    symbol: str = "",
) -> Drawing:
    """Components two by two, and histograms of each; a single kind coloured by a parameter.

    Args:
        points: what they are, and (n, d) of them each.
        names: of the components.
        values: of a parameter, (n,), where there is one kind; None to colour none.
        symbol: of the parameter.
    """
    size = SQUARE if len(names) < MOST else WHOLE
    return grid(_pairs, points, names, values, symbol, size=size)


def _pairs(
    figure: Figure,
    points: Mapping[str, ArrayLike],
    names: Sequence[str],
    values: ArrayLike | None,
    symbol: str,
) -> None:
    """What `pairs_drawing` shows."""
    every, d = {name: floats(rows) for name, rows in points.items()}, len(names)
    whole = np.concatenate(list(every.values()))
    edges = [np.linspace(*_ends(whole[:, j]), BINS + 1) for j in range(d)]
    axes = figure.subplots(d, d, squeeze=False, sharex="col")
    inks = [(GREY, INK, True), (SURROGATE, SURROGATE, False)][-len(every) :]
    dots = None
    for (i, j), ax in np.ndenumerate(axes):
        if j > i:
            ax.set_axis_off()
            continue
        for (name, rows), (ink, dot, filled) in zip(every.items(), inks, strict=True):
            if i == j:
                ax.hist(rows[:, i], edges[i], density=True, color=ink, label=name,
                        **({"alpha": 0.5} if filled else {"histtype": "step"}))  # fmt: skip
            else:
                color: Any = dot if values is None else floats(values)
                dots = ax.scatter(rows[:, j], rows[:, i], 5, color, linewidths=0, alpha=0.5,
                                  rasterized=True)  # fmt: skip
                ax.set_ylim(*_ends(whole[:, i]))
        ax.set_xlim(*_ends(whole[:, j]))
        _labelled(ax, i, j, names)
    if len(every) > 1:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    elif dots is not None and values is not None:
        figure.colorbar(dots, ax=axes[: max(1, d // 2), -1], label=symbol, alpha=1)


def _labelled(ax: Axes, i: int, j: int, names: Sequence[str]) -> None:
    """Names and a few numbers at the left and the lower edge of a triangle of axes."""
    last = i == len(names) - 1
    for axis, outer in ((ax.xaxis, last), (ax.yaxis, j == 0 and i > 0)):
        axis.set_major_locator(MaxNLocator(3 if len(names) < MOST else 2))
        axis.set_tick_params(labelsize=9, labelleft=outer, labelbottom=outer)
    if last:
        ax.set_xlabel(names[j])
    if j == 0 and i > 0:
        ax.set_ylabel(names[i])
    if i == j:
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)


def _ends(values: Array) -> tuple[float, float]:
    """Where values (n,) begin and end, a few far off and NaN left out, with a margin."""
    low, high = np.nanquantile(values, [0.002, 0.998])
    more = 0.05 * (high - low) or 1.0
    return float(low - more), float(high + more)


def _places(ax: Axes, at: NDArray[Any]) -> None:
    """Numbers of components below the last panel."""
    ax.set(xlabel="component", xlim=(at[0] - 0.5, at[-1] + 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))

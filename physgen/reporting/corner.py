"""Corners: densities of single parameters and of pairs of a posterior, or of several.

A density that is known on a grid is drawn itself; of draws it is that of Gaussian kernels. Regions
are of highest density, and hold their mass, in one and in two dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from physgen.reporting.kernels import kernel_density, narrowing
from physgen.reporting.sheet import Drawing, grid
from physgen.reporting.style import DOTS, HUES, INK, OPEN, PANEL, SQUARE, WIDTH, floats
from simulators.base import Array
from simulators.prior import Prior

__all__ = [
    "CROWDED",
    "KnownDensity",
    "corner",
    "corner_drawing",
    "corner_of",
    "corner_size",
    "intervals",
    "level_of",
]

REGIONS = (0.95, 0.68)
TAIL, MARGIN, TINY = 1e-3, 0.15, 1e-9
"""What is left out on either side, how far a picture goes on beyond, and the least width."""
DECADE = 10.0
"""A parameter that is uniform in its logarithm over more than this is shown on that scale."""
POINTS, KNOWN, MANY, FINE = 50, 100, 20_000, 2
"""Points of an axis, of kernels and of a grid; draws that a picture is made of, at most; nodes of
kernels for each point."""
CROWDED, FULL = 4, (WIDTH, 6.9)
"""Parameters from which a corner is crowded, with fewer numbers; and its size in inches, the width
of paper."""
MARGINS = {"left": 0.13, "right": 0.99, "bottom": 0.13, "top": 0.95, "wspace": 0.1, "hspace": 0.1}
"""Of the figure, in parts of it."""


class KnownDensity(Protocol):
    """A posterior of one observation on a grid of the prior's coordinates c."""

    def quantile(self, q: Array) -> Array:
        """Quantiles (Q,) of each marginal, θ (1, Q, D)."""
        ...

    def density_on(self, columns: Sequence[int], points: Sequence[Array]) -> Array:
        """p(c|x) of some parameters on the product of points (G,) of each: (G, …)."""
        ...


def corner_of(
    theta: Array,
    prior: Prior,
    true: Array | None = None,
    pick: Sequence[int] | None = None,
    known: KnownDensity | None = None,
    *,
    linear: bool = False,
) -> dict[str, Any]:
    """Densities of parameters and of pairs, from a grid or else from draws (k, D) by kernels.

    Args:
        theta: draws; of very many, some at equal distances are enough for a picture.
        prior: their prior, in whose own coordinates the kernels are, and which may have bounds.
        true: values to be shown, too, (D,).
        pick: columns of the parameters that are shown; all if None.
        known: the posterior on a grid, if it is.
        linear: whether no parameter may be on a logarithmic axis.

    Returns:
        ``axes``, points (G,) of each parameter; ``log``, which are on a logarithmic axis, and
        their densities of log θ; ``marginals``, (G,) each; ``planes``, the densities (G, G) of
        each ``pair``; ``theta``, the true values of those that are shown.
    """
    columns = list(range(len(prior)) if pick is None else pick)
    tails = np.array([TAIL, 1 - TAIL])
    c = prior.to_coordinates(theta[:: -(-len(theta) // MANY)])
    ends = np.quantile(c, tails, axis=0)
    if known is not None:
        ends = prior.to_coordinates(known.quantile(tails)[0])
    if true is not None:
        at = prior.to_coordinates(true)
        ends = np.stack([np.minimum(ends[0], at), np.maximum(ends[1], at)])
    more = np.array([[-MARGIN], [MARGIN]]) * (ends[1] - ends[0]) + np.array([[-TINY], [TINY]])
    low, high = (ends + more).clip(*prior.ends)
    size = POINTS if known is None else KNOWN
    points = np.linspace(low, high, FINE * (size - 1) + 1)
    bounds = (points[[0, -1]] == prior.ends) & prior.flat
    shown = prior.from_coordinates(points[::FINE])
    log = ~prior.affine & prior.flat & (shown[-1] > DECADE * shown[0]) & (not linear)
    slope = prior.slope(points[::FINE]) / np.where(log, shown, 1)
    narrow = {d: narrowing(c[:, d]) for d in columns} if known is None else {}

    def density(*pick: int) -> Array:
        some = list(pick)
        volume = np.prod(np.meshgrid(*slope.T[some], indexing="ij"), 0)
        if known is not None:
            return known.density_on(some, list(points[::FINE, some].T)) / volume
        widths = np.array([narrow[d] for d in pick])
        found = kernel_density(c[:, some], points[:, some], bounds[:, some], TINY, widths)
        return found[(slice(None, None, FINE),) * len(some)] / volume

    pairs = combinations(range(len(columns)), 2)
    return {
        "theta": None if true is None else true[columns],
        "axes": list(shown.T[columns]),
        "log": [i for i, d in enumerate(columns) if log[d]],
        "marginals": [density(d) for d in columns],
        "planes": [{"pair": [d, e], "density": density(columns[d], columns[e])} for d, e in pairs],
    }


def corner_drawing(
    corners: Sequence[Mapping[str, Any]], symbols: Sequence[str], names: Sequence[str] = ()
) -> Drawing:
    """A corner of one posterior, or of several with their names, in the size that it needs."""
    return grid(corner, corners, symbols, names, size=corner_size(len(symbols)))


def corner_size(dims: int) -> tuple[float, float]:
    """Width and height in inches of a corner of that many parameters."""
    return {1: PANEL, **dict.fromkeys(range(2, CROWDED), SQUARE)}.get(dims, FULL)


def corner(
    figure: Figure,
    corners: Sequence[Mapping[str, Any]],
    symbols: Sequence[str],
    names: Sequence[str] = (),
) -> None:
    """Posteriors of one observation: marginals, and pairs with regions of 68 % and 95 %.

    Those of "log" parameters are densities of their logarithm, on a logarithmic axis.

    Args:
        figure: empty.
        corners: as `corner_of` makes them; areas of a single one, lines of several.
        symbols: of the parameters.
        names: of the posteriors.
    """
    dims, first = len(symbols), corners[0]
    logs, theta = first.get("log") or [], first["theta"]
    if dims >= CROWDED:  # many axes are slow to arrange
        figure.set_layout_engine(None)
        symbols = _numbered(figure, symbols, 0.93 - 0.035 * len(names))
    cells = figure.add_gridspec(dims, dims, **(MARGINS if dims >= CROWDED else {}))
    axes = {(e, d): figure.add_subplot(cells[e, d]) for e in range(dims) for d in range(e + 1)}
    for data, color in zip(corners, HUES, strict=False):
        _densities(axes, data, color, len(corners) == 1)
    for (e, d), ax in axes.items():
        _framed(ax, [[floats(data["axes"][i]) for data in corners] for i in (d, e)], e == d)
        if theta is not None and e == d:
            ax.axvline(theta[d], color=INK, linestyle=(0, (2, 2)), linewidth=0.9)
        elif theta is not None:
            ax.plot(theta[d], theta[e], "+", color=INK, markersize=9, markeredgewidth=1.4,
                    clip_on=False)  # fmt: skip
        if e == d and dims >= CROWDED:
            ax.set_title(symbols[d].partition(" [")[0], loc="center", fontsize=9)
        _ticked(ax, "x", symbols[d] if e == dims - 1 else None, dims, d in logs)
        if e > d:
            _ticked(ax, "y", symbols[e] if d == 0 else None, dims, e in logs)
        if dims >= CROWDED:
            page = figure.transFigure
            ax.yaxis.set_label_coords(0.055, 0.5, blended_transform_factory(page, ax.transAxes))
            ax.xaxis.set_label_coords(0.5, 0.06, blended_transform_factory(ax.transAxes, page))
    if dims < CROWDED:
        figure.align_labels()
    if names:
        lines = [Line2D([], [], color=color) for color, _ in zip(HUES, names, strict=False)]
        where: Any = "outside upper right" if dims < CROWDED else "upper right"
        figure.legend(lines, [name.replace("$", r"\$") for name in names], loc=where)
    if "row" in first:
        figure.suptitle(f"row {first['row']}", fontsize=9)


def _numbered(figure: Figure, symbols: Sequence[str], top: float) -> Sequence[str]:
    """The symbols; if one is wider than a panel numbers in their places, and a key of all."""
    written = [figure.text(0, 0, symbol, fontsize=9) for symbol in symbols]
    widest = max(text.get_window_extent().width for text in written)
    for text in written:
        text.remove()
    if widest < (MARGINS["right"] - MARGINS["left"]) * figure.bbox.width / len(symbols):
        return symbols
    key = "\n".join(f"({n}) {symbol}" for n, symbol in enumerate(symbols, 1))
    figure.text(MARGINS["right"], top, key, fontsize=9, ha="right", va="top")
    return [f"({n})" for n in range(1, len(symbols) + 1)]


def intervals(
    ax: Axes,
    several: Mapping[str, Sequence[Mapping[str, Any]]],
    d: int,
    first: int,
    symbol: str,
) -> None:
    """Mean and central intervals of 68 % and 90 % of parameter d, an observation a line.

    Args:
        ax: empty.
        several: name of a posterior → of each observation mean, low, high, inner (2, D), and true,
            if that is known.
        d: the parameter.
        first: number of the first row.
        symbol: of the parameter.
    """
    count = len(several)
    for k, (rows, color) in enumerate(zip(several.values(), HUES, strict=False)):
        y = first + np.arange(len(rows)) + 0.5 * (k - (count - 1) / 2) / count
        inner = floats([floats(r["inner"])[:, d] for r in rows]).T
        low, high = (floats([r[end][d] for r in rows]) for end in ("low", "high"))
        ax.hlines(y, low, high, color=color, linewidth=0.9)
        ax.hlines(y, inner[0], inner[1], color=color, linewidth=3, alpha=0.6)
        ax.errorbar([r["mean"][d] for r in rows], y, **DOTS | {"marker": "o", "color": color})
        if k == 0 and rows[0]["true"]:
            at = first + np.arange(len(rows))
            ax.errorbar([r["true"][d] for r in rows], at, **OPEN)
    ax.set(xlabel=symbol, ylabel="row", ylim=(first + len(rows) - 0.3, first - 0.7))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _densities(
    axes: Mapping[tuple[int, int], Axes], data: Mapping[str, Any], color: str, alone: bool
) -> None:
    """One posterior on the axes of a corner."""
    points, logs = [floats(a) for a in data["axes"]], data.get("log") or []
    steps = [np.gradient(np.log(x) if d in logs else x) for d, x in enumerate(points)]
    for d, density in enumerate(data["marginals"]):
        _marginal(axes[d, d], points[d], floats(density), steps[d], color, alone)
        if "curves" in data:
            _curves(axes[d, d], data["curves"], d, float(np.max(density)))
    for plane in data["planes"]:
        d, e = plane["pair"]
        area = np.outer(steps[d], steps[e])
        _plane(axes[e, d], points[d], points[e], floats(plane["density"]), area, color, alone)


def _framed(ax: Axes, points: Sequence[Sequence[NDArray[Any]]], diagonal: bool) -> None:
    """The part of the plane in which there is anything of all posteriors."""
    ends = [(min(x[0] for x in some), max(x[-1] for x in some)) for some in points]
    if diagonal:
        ax.set(yticks=[], ylim=(0, None), xlim=ends[0])
        ax.spines["left"].set_visible(False)
    else:
        ax.set(xlim=ends[0], ylim=ends[1])


def _marginal(
    ax: Axes,
    x: NDArray[Any],
    density: NDArray[Any],
    step: NDArray[Any],
    color: str,
    filled: bool,
) -> None:
    """The density of one parameter, with its regions if it is alone."""
    ax.plot(x, density, color=color)
    if not filled:
        return
    fine = np.interp(np.arange(0, len(x) - 0.9, 0.1), np.arange(len(x)), x)
    height = np.interp(fine, x, density)
    for level, alpha in zip(_levels(density, step), (0.2, 0.3), strict=False):
        ax.fill_between(fine, height, where=list(height >= level), color=color, alpha=alpha,
                        linewidth=0)  # fmt: skip


def _curves(ax: Axes, curves: Mapping[str, Any], d: int, top: float) -> None:
    """Profile and slice of the likelihood of one parameter, as high as the marginal."""
    x = floats(curves["along"])[d]
    for key, hue, style in (("profile", HUES[1], "--"), ("slice", HUES[2], ":")):
        ax.plot(x, top * np.exp(floats(curves[key])[d]), color=hue, linestyle=style, linewidth=1)


def _plane(
    ax: Axes,
    x: NDArray[Any],
    y: NDArray[Any],
    density: NDArray[Any],
    area: NDArray[Any],
    color: str,
    filled: bool,
) -> None:
    """Regions of the density of two parameters."""
    levels = _levels(density, area)
    if filled:
        shades = [to_rgba(color, alpha) for alpha in (0.2, 0.45)][-len(levels) :]
        ax.contourf(x, y, density.T, [*levels, density.max() * 1.001], colors=shades)
    ax.contour(x, y, density.T, levels, colors=color, linewidths=0.9)


def _ticked(ax: Axes, which: Literal["x", "y"], label: str | None, dims: int, log: bool) -> None:
    """A few ticks; numbers and a symbol where there is one, a common factor beside it."""
    axis, few = {"x": ax.xaxis, "y": ax.yaxis}[which], dims >= CROWDED
    turned = few and which == "x"
    if log:
        ax.set(**{f"{which}scale": "log"})
        axis.set_major_locator(LogLocator(numticks=4))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(3 if dims > 2 else 4))
    if few and not log:
        low, high = axis.get_view_interval()
        near = 0.08 * (high - low)  # of the next panel's numbers
        axis.set_ticks([t for t in axis.get_majorticklocs() if low + near < t < high - near])
    axis.set_tick_params(labelsize=9, rotation=45 if turned else 0)
    if label is None:
        axis.set_major_formatter(NullFormatter())
        return
    formatter: Any = axis.get_major_formatter()
    if not log:
        formatter.set_powerlimits((-2, 4))
    formatter.set_locs(axis.get_majorticklocs())
    factor = formatter.get_offset()
    axis.get_offset_text().set_visible(False)
    axis.set_label_text(f"{label}\n({factor})" if factor else label)


def _levels(density: NDArray[Any], cells: NDArray[Any]) -> list[float]:
    """The densities above which lie the masses of the regions, from the largest region on."""
    return sorted({level_of(density, cells, mass) for mass in REGIONS})


def level_of(density: Array, cells: Array, mass: float) -> float:
    """The density above which lies that part of the mass.

    Args:
        density: at points of one or of several axes, (G, …).
        cells: length or area that each of them stands for, (G, …).
        mass: part of the mass, 0 to 1.
    """
    order = np.argsort(-density, axis=None)
    heights, masses = density.ravel()[order], (density * cells).ravel()[order]
    within = masses.cumsum() - masses / 2
    return float(np.interp(mass * masses.sum(), within, heights))

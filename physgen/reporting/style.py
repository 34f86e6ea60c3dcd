"""Ink that all figures share: the house style, hues, labels and legends; figures as SVG.

One code of ink holds throughout: the exact answer is a dark line, true samples are open dark
circles or a grey area, the surrogate is filled vermilion; so are the reference and the generated
one of two datasets. The hues are Okabe and Ito's and stay
apart for every kind of colour vision and in grey. Every figure is a panel about 4 inches wide, so
that its 9 pt text can be read on a phone; the page sets panels side by side where there is room.

Strings may come from a stranger's file: what is meant as LaTeX is tried first, the rest is plain.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from numpy.typing import ArrayLike, NDArray

from physgen.reporting.quantities import number

__all__ = [
    "DOTS",
    "FULL",
    "GREY",
    "HUES",
    "INK",
    "LATTICE",
    "LINES",
    "OPEN",
    "PAIR",
    "PANEL",
    "SQUARE",
    "SURROGATE",
    "WIDTH",
    "Several",
    "axis_label",
    "density_in_bins",
    "each_model",
    "figure_of",
    "floats",
    "lattices",
    "legend_above",
    "plain",
    "svg",
    "theta_titles",
]

INK, GREY, SURROGATE = "#222222", "#9a9a9a", "#d55e00"
HUES = (SURROGATE, "#0072b2", "#009e73", "#cc79a7", "#e69f00")
LINES = ("-", "--", "-.", ":")
LATTICE = LinearSegmentedColormap.from_list("lattice", ["#f4efe4", "#24364b"])
PAIR = ("reference", "generated")
PANEL, SQUARE, WIDTH = (4.2, 2.9), (4.2, 3.9), 7.0
LEGEND_ROW = 0.2
"""Height of a row of a legend, inches."""
STYLE: Any = {  # matplotlib's stubs change how they type these keys
    "svg.hashsalt": "physgen",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
DOTS: dict[str, Any] = {"linestyle": "none", "elinewidth": 0.9, "markersize": 3.6}
OPEN = DOTS | {"marker": "o", "color": INK, "markerfacecolor": "white", "markeredgewidth": 0.9}
FULL = DOTS | {"marker": "o", "color": SURROGATE}
APART = 0.15
"""How far points of several models at one θ lie apart, in distances between neighbouring θ."""
Several = Mapping[str, Mapping[str, Any]]
"""Name of a model → its data."""


class ShownFigure(Figure):
    """A figure that a notebook shows, though nobody has set it up for pictures."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110)
        return file.getvalue()


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib as this house has it, whatever the user's own settings, for a block."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def figure_of(draw: Callable[[Figure], None], size: tuple[float, float] = PANEL) -> Figure:
    """A figure in the house style, on white, as a notebook shows it.

    Args:
        draw: draws on the empty figure.
        size: width and height in inches.
    """
    with house_style():
        figure = ShownFigure(figsize=size, layout="constrained", facecolor="white")
        draw(figure)
    return figure


def svg(draw: Callable[[Figure], None], size: tuple[float, float] = PANEL) -> bytes:
    """The SVG of a figure in the house style, on nothing; no date in it.

    Args:
        draw: draws on the empty figure.
        size: width and height in inches.
    """
    file = io.BytesIO()
    with house_style():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def axis_label(latex: str, unit: str = "", name: str = "") -> str:
    r"""A symbol and its unit as an axis label; the plain name where the LaTeX does not parse.

    All digits of an index are in it, as in ``\theta_10``.
    """
    symbol = plain(name or latex)
    if latex:
        told = "$" + re.sub(r"_(\d\d+)", r"_{\1}", latex) + "$"
        try:
            MathTextParser("path").parse(told)
            symbol = told
        except ValueError:
            pass
    return symbol + (f" [{plain(unit)}]" if unit else "")


def theta_titles(symbols: Sequence[str], theta: ArrayLike) -> list[str]:
    """Titles of x at parameters (n, d), one line a symbol."""
    return [
        "\n".join(f"{name} = {number(v)}" for name, v in zip(symbols, row, strict=True))
        for row in floats(theta)
    ]


def legend_above(ax: Axes, ncols: int = 2, **how: Any) -> None:
    """A legend in a strip of its own at the top of the axes, where nothing is drawn.

    Args:
        ax: with all that it shows.
        ncols: entries beside each other.
        **how: as for the legend itself.
    """
    labels = how.get("labels") or ax.get_legend_handles_labels()[1]
    share = min(0.5, LEGEND_ROW * -(-len(labels) // ncols) * ax.figure.dpi / ax.bbox.height)
    (low, high), scale = ax.get_ylim(), ax.yaxis.get_transform()
    a, b = scale.transform([low, high])
    ax.set_ylim(low, float(scale.inverted().transform([a + (b - a) / (1 - share)])[0]))
    ax.legend(loc="upper left", ncols=ncols, borderaxespad=0.1, **how)


def each_model(
    data: Mapping[str, Any], models: Several | None
) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any], float]]:
    """Name, data, style and offset of each of several models; of the surrogate, if it is alone."""
    some = models or {"surrogate": data}
    for i, (item, hue, shape) in enumerate(
        zip(some.items(), cycle(HUES), cycle("osD^v"), strict=False)
    ):
        style = DOTS | {"marker": shape, "color": hue}
        yield plain(item[0]), item[1], style, APART * (i - (len(some) - 1) / 2)


def lattices(axes: NDArray[Any], rows: ArrayLike) -> None:
    """Each x of rows (r, c, h, w) on its own axes (r, c), all on one scale, without ticks."""
    x = np.asarray(rows, dtype=float)
    low, high = x.min(), x.max()
    if low == high:  # a lattice of equal spins is still up or down
        low, high = -abs(high), abs(high)
    cell = np.ones(2 * (max(1, 256 // max(x.shape[2:])),))  # large, or else printers blur it
    for ax, one in zip(axes.flat, x.reshape(-1, *x.shape[2:]), strict=True):
        ax.imshow(np.kron(one, cell), cmap=LATTICE, vmin=low, vmax=high, interpolation="none")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)


def density_in_bins(counts: ArrayLike, edges: NDArray[Any]) -> NDArray[Any]:
    """Counts in bins as a density."""
    mass = floats(counts)
    return mass / (mass.sum() or math.inf) / np.diff(edges)


def floats(values: Any) -> NDArray[Any]:
    """Numbers as an array of their shape (…); null becomes NaN, which is not drawn."""
    return np.asarray(values, dtype=float)


def plain(text: str) -> str:
    """Text that matplotlib does not read as LaTeX."""
    return str(text).replace("$", r"\$")

"""The figures of the report, one function each; they draw what they are given and compute nothing.

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
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from physgen.reporting.quantities import number

__all__ = [
    "PAIR",
    "average",
    "axis_label",
    "coloured_map",
    "curve",
    "edit",
    "edit_strips",
    "events",
    "figure_of",
    "filters",
    "floats",
    "gallery",
    "gap",
    "histogram",
    "learning",
    "legend_above",
    "moved_along",
    "partition",
    "posterior",
    "predictive_band",
    "predictive_number",
    "profile",
    "score_error",
    "separations",
    "svg",
    "sweep",
    "theta_titles",
    "traversal",
]

INK, GREY, SURROGATE = "#222222", "#9a9a9a", "#d55e00"
HUES = (SURROGATE, "#0072b2", "#009e73", "#cc79a7", "#e69f00")
LINES = ("-", "--", "-.", ":")
LATTICE = LinearSegmentedColormap.from_list("lattice", ["#f4efe4", "#24364b"])
PAIR = ("reference", "generated")
PANEL, SQUARE, WIDTH = (4.2, 2.9), (4.2, 3.9), 7.0
LEGEND_ROW = 0.2
"""Height of a row of a legend, inches."""
MARKED, MANY_EPOCHS = 60, 10
"""Components of a curve that are shown as points; more of them as a line."""
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
    symbol = _plain(name or latex)
    if latex:
        told = "$" + re.sub(r"_(\d\d+)", r"_{\1}", latex) + "$"
        try:
            MathTextParser("path").parse(told)
            symbol = told
        except ValueError:
            pass
    return symbol + (f" [{_plain(unit)}]" if unit else "")


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


def theta_titles(symbols: Sequence[str], theta: ArrayLike) -> list[str]:
    """Titles of x at parameters (n, d), one line a symbol."""
    return [
        "\n".join(f"{name} = {number(v)}" for name, v in zip(symbols, row, strict=True))
        for row in floats(theta)
    ]


def gallery(figure: Figure, titles: Sequence[str], true: ArrayLike, surrogate: ArrayLike) -> None:
    """True x above surrogate x, one column for each θ, on one scale of grey.

    Args:
        figure: empty.
        titles: of the k columns.
        true: lattices, (k, h, w).
        surrogate: lattices, (k, h, w).
    """
    rows = np.asarray([true, surrogate], dtype=float)
    axes = figure.subplots(2, len(titles), squeeze=False)
    _lattices(axes, rows)
    for column, title in zip(axes[0], titles, strict=True):
        column.set_title(title, loc="center", fontsize=9)
    for row, name in zip(axes, ("true", "surrogate"), strict=True):
        row[0].set_ylabel(name)


def traversal(figure: Figure, latent: Mapping[str, Any]) -> None:
    """The x that one latent makes as it goes from its lowest to its highest value."""
    axes = figure.subplots(1, len(latent["values"]), squeeze=False)
    _lattices(axes, [latent["x"]])
    for ax, value in zip(axes[0], latent["values"], strict=True):
        ax.set_title(f"{value:.2g}".replace("-", "−"), loc="center", fontsize=9)
    axes[0, 0].set_ylabel(_plain(latent["name"]))


def curve(
    figure: Figure,
    data: Mapping[str, Any],
    symbol: str,
    name: str = "",
    models: Several | None = None,
) -> None:
    """⟨observable⟩ against θ, and below it what is left after subtracting the reference.

    The reference is the exact expectation, or the mean of the true samples where there is none.
    """
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.15))
    theta, exact = floats(data["theta"]), data.get("exact")
    reference = floats(data["true"]["mean"] if exact is None else exact)
    if exact is not None:
        top.plot(theta, reference, color=INK, linewidth=1.1, label="exact")
    below.axhline(0, color=INK, linewidth=0.8)
    step = np.diff(theta).mean() if len(theta) > 1 else 0.0
    drawn = [(key, one["surrogate"], *how) for key, one, *how in _each(data, models)]
    for key, moments, style, offset in [("true", data["true"], OPEN, 0.0), *drawn]:
        at, mean, se = theta + offset * step, floats(moments["mean"]), floats(moments["se"])
        top.errorbar(at, mean, se, label=key, **style)
        below.errorbar(at, mean - reference, se, **style)
    top.set_title(_plain(data.get("title") or name))
    top.set_ylabel(axis_label(data.get("latex", ""), data.get("unit", ""), name))
    legend_above(top)
    below.set(xlabel=symbol, ylabel=f"− {'true' if exact is None else 'exact'}")
    figure.align_ylabels()


def partition(figure: Figure, data: Mapping[str, Any], symbol: str, component: str) -> None:
    """log Z against θ, exact and the surrogate's, and below it the difference with its bounds."""
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.6))
    theta, exact = floats(data["theta"]), floats(data["exact"])
    mean, se = (floats(data["surrogate"][k]) for k in ("mean", "se"))
    top.plot(theta, exact, color=INK, linewidth=1.1, label="exact")
    top.errorbar(theta, mean, se, label="surrogate", **FULL)
    top.set_ylabel(f"log Z [nats / {component}]")
    legend_above(top)
    below.axhline(0, color=INK, linewidth=0.8)
    bounds = [floats(data[key]) - exact for key in ("forward", "backward")]
    below.fill_between(theta, *bounds, color=HUES[1], alpha=0.25, linewidth=0, label="both walks")
    below.errorbar(theta, mean - exact, se, **FULL)
    below.set(xlabel=symbol, ylabel="− exact")
    legend_above(below)
    figure.align_ylabels()


def score_error(figure: Figure, data: Mapping[str, Any], component: str) -> None:
    """What the learnt score loses by log-SNR, and below it how far it is off beside the exact one.

    Args:
        figure: empty.
        data: the section of the metrics.
        component: what a component of x is called.
    """
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.6))
    log_snr = floats(data["log_snr"])
    for key, style in (("control", {"color": GREY, "marker": ""}), ("surrogate", FULL)):
        mean, se = (floats(data[key][k]) / data["dims"] for k in ("mean", "se"))
        top.errorbar(log_snr, mean, se, label=key, **style)
    below.plot(log_snr, 100 * floats(data["relative"]), "o", color=SURROGATE, markersize=3.6)
    for ax in (top, below):
        ax.set_yscale("log")
    top.set_ylabel(f"nats / {component} lost\nper unit of λ")
    legend_above(top)
    below.set(xlabel="log-SNR λ  (noise → data)", ylabel="off by [%]")
    figure.align_ylabels()


def filters(figure: Figure, weights: ArrayLike) -> None:
    """Weights (n, rows, columns) on one scale around zero."""
    w = np.asarray(weights, dtype=float)
    columns = min(8, len(w))
    axes = figure.subplots(-(-len(w) // columns), columns, squeeze=False)
    most = abs(w).max() or 1.0
    for ax, one in zip(axes.flat, w, strict=False):
        image = ax.imshow(one, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
        ax.spines[:].set_visible(True)
    for ax in axes.flat[len(w) :]:
        ax.set_visible(False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, shrink=0.8, label="weight")


def gap(
    ax: Axes,
    nll: Mapping[str, Any],
    symbol: str,
    component: str = "component",
    models: Several | None = None,
) -> None:
    """NLL above the exact floor by θ; the NLL itself where no floor is known."""
    known = all(one.get("gap_per_dim") is not None for _, one, *_ in _each(nll, models))
    if known:
        ax.axhline(0, color=INK, linewidth=1.1)
        ax.annotate("exact", (1, 0), (-2, 3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", fontsize=8.5)  # fmt: skip
    for name, one, style, offset in _each(nll, models):
        low, high, value = (
            floats([b[key] for b in one["by_theta"]])
            for key in ("low", "high", "gap_per_dim" if known else "per_dim")
        )
        error = floats([b["gap_se"] for b in one["by_theta"]]) if known else None
        at, half = (low + high) / 2 + offset * (high - low), (high - low) / 2
        ax.errorbar(at, value, error, None if models else half, label=name, **style)
    quantity = "NLL − floor" if known else "NLL"
    ax.set(xlabel=symbol, ylabel=f"{quantity} [nats / {component}]")
    ax.margins(y=0.12)
    if models:
        legend_above(ax)


def posterior(
    ax: Axes, example: Mapping[str, Any], symbol: str, models: Several | None = None
) -> None:
    """Density of θ given one x, exact and by the surrogate; the x in the corner."""
    densities, truth = [], float(example["theta"][0])
    if example.get("exact") is not None:
        grid, exact = floats(example["grid"]), floats(example["exact"])
        densities.append((grid, exact))
        ax.fill_between(grid, exact, color=GREY, alpha=0.35, linewidth=0)
        ax.plot(grid, exact, color=INK, linewidth=1.1, label="exact")
    for (name, one, style, _), dashes in zip(_each(example, models), cycle(LINES), strict=False):
        densities.append((floats(one["grid"]), floats(one["surrogate"])))
        ax.plot(*densities[-1], color=style["color"], linestyle=dashes, label=name)
    ax.axvline(truth, color=INK, linestyle=(0, (2, 2)), linewidth=0.9, label="true value")
    low, high = zip(*(_support(*density, truth) for density in densities), strict=True)
    ax.set(xlabel=symbol, ylabel="density", xlim=(min(low), max(high)))
    pictured = example.get("x") is not None
    top = max(float(np.nanmax(density)) for _, density in densities)
    ax.set_ylim(0, (1.52 if pictured else 1.05) * top)
    if pictured:  # beside the legend, above the densities
        ax.legend(loc="upper left", ncols=1 + bool(models), borderaxespad=0.1)
        inset = ax.inset_axes((0.77, 0.68, 0.23, 0.32))
        if np.ndim(example["x"]) == 2:
            _lattices(np.array([[inset]]), [[example["x"]]])
        else:
            inset.plot(floats(example["x"]), color=INK, linewidth=0.7)
            inset.set(xticks=[], yticks=[])
    else:
        legend_above(ax)


def histogram(
    ax: Axes,
    data: Mapping[str, Any],
    name: str = "",
    pair: tuple[str, str] = ("true", "surrogate"),
    models: Several | None = None,
) -> None:
    """Density of an observable: true (or the first of a pair) as an area, surrogate as a line."""
    edges = floats(data["histogram"]["edges"])
    true = _density(data["histogram"][pair[0]], edges)
    ax.stairs(true, edges, fill=True, color=GREY, alpha=0.5, label=pair[0])
    each = _each(data, models or {pair[1]: data})
    for (key, one, style, _), dashes in zip(each, cycle(LINES), strict=False):
        theirs = floats(one["histogram"]["edges"])
        drawn, hue = _density(one["histogram"][pair[1]], theirs), style["color"]
        ax.stairs(drawn, theirs, color=hue, linewidth=1.2, linestyle=dashes, label=key)
    ax.set_title(_plain(data.get("title") or name))
    ax.set(xlabel=axis_label(data.get("latex", ""), data.get("unit", ""), name), ylabel="density")
    ax.locator_params(axis="x", nbins=6)
    legend_above(ax)


def profile(figure: Figure, data: Mapping[str, Any], name: str = "") -> None:
    """Means of a curve's components in a pair of datasets, and below it their difference."""
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.15))
    i = np.arange(1, len(data["difference"]["mean"]) + 1)
    for key, style in zip(PAIR, (OPEN, FULL), strict=True):
        top.errorbar(i, floats(data[key]["mean"]), floats(data[key]["se"]), label=key, **style)
    below.axhline(0, color=INK, linewidth=0.8)
    below.errorbar(i, *(floats(data["difference"][key]) for key in ("mean", "se")), **FULL)
    top.set_title(_plain(data.get("title") or name))
    top.set_ylabel(axis_label(data.get("latex", ""), data.get("unit", ""), name))
    legend_above(top)
    below.set(xlabel="component", ylabel=f"− {PAIR[0]}")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()


def predictive_band(ax: Axes, data: Mapping[str, Any], name: str = "") -> None:
    """What was observed, and bands of 50 % and 90 % of x drawn at draws of a posterior, if any."""
    observed, quantiles = (floats(data.get(key) or []) for key in ("observed", "quantiles"))
    i = np.arange(1, [*observed, *quantiles][0].size + 1)
    if len(quantiles):
        low, lower, middle, upper, high = quantiles
        ax.fill_between(i, low, high, color=SURROGATE, alpha=0.2, linewidth=0, label="90 %")
        ax.fill_between(i, lower, upper, color=SURROGATE, alpha=0.4, linewidth=0, label="50 %")
        ax.plot(i, middle, color=SURROGATE, linewidth=0.8)
    dots = len(i) <= MARKED
    for k, row in enumerate(observed):
        style: Any = OPEN if dots else {"color": INK, "linewidth": 0.8}
        ax.errorbar(i, row, label="observed" if k == 0 else None, **style)
    ax.set_title(_plain(data.get("title") or name))
    ax.set(xlabel="component", xlim=(i[0] - 0.5, i[-1] + 0.5))
    ax.set_ylabel(axis_label(data.get("latex", ""), data.get("unit", ""), name))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, ncols=3)


def predictive_number(ax: Axes, data: Mapping[str, Any], name: str = "") -> None:
    """Density of a number of x drawn at draws of a posterior, and what was observed."""
    edges = floats(data["histogram"]["edges"])
    density = _density(data["histogram"]["predicted"], edges)
    ax.stairs(density, edges, fill=True, color=SURROGATE, alpha=0.35, label="predicted")
    for k, value in enumerate(data.get("observed") or []):
        ax.axvline(value, color=INK, linewidth=1.1, label="observed" if k == 0 else None)
    ax.set_title(_plain(data.get("title") or name))
    ax.set(xlabel=axis_label(data.get("latex", ""), data.get("unit", ""), name), ylabel="density")
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.locator_params(axis="x", nbins=6)
    ax.legend(ncols=2, loc="upper left")


def separations(ax: Axes, tests: Sequence[Mapping[str, Any]], title: str) -> None:
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
    ax.set_title(_plain(title))
    ax.set(xlabel="component", ylabel="separation power")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax)


def average(figure: Figure, data: Mapping[str, Any]) -> None:
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


def events(figure: Figure, data: Mapping[str, Any], symbol: str) -> None:
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


def coloured_map(ax: Axes, points: ArrayLike, values: ArrayLike, symbol: str) -> None:
    """Rows as points (n, 2) of a map, coloured by a value of each (n,)."""
    (x, y), c = floats(points).T, floats(values)
    low, high = np.nanquantile(c, [0.01, 0.99])  # a few that are far off would take all colours
    ink: Any = {"cmap": "viridis", "vmin": low, "vmax": high, "linewidths": 0}
    dots = ax.scatter(x, y, 5, c, rasterized=True, **ink)
    ax.set(xlabel="first component", ylabel="second component")
    ax.figure.colorbar(dots, ax=ax, label=symbol)


def moved_along(ax: Axes, data: Mapping[str, Any], symbol: str) -> None:
    """An observable of rows that are moved along its direction, and along a random one."""
    for key, style, name in (("random", OPEN, "random direction"), ("chosen", FULL, "its own")):
        mean, se = floats(data[key]).T
        ax.errorbar(data["steps"], mean, se, label=name, **style | {"linestyle": "-"})
    ax.set(xlabel="step [standard deviations of the latents]", ylabel=symbol)
    legend_above(ax)


def edit(figure: Figure, data: Mapping[str, Any], name: str, symbol: str) -> None:
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
    top.set_title(_plain(other.get("title") or name))
    top.set_ylabel(axis_label(other.get("latex", ""), other.get("unit", ""), name))
    legend_above(top)
    bottom.set_xlabel(symbol)
    figure.align_ylabels()


def edit_strips(figure: Figure, pictures: ArrayLike, steps: Sequence[float]) -> None:
    """Rows of x (r, places, h, w), each moved further from left to right."""
    x = np.asarray(pictures, dtype=float)
    axes = figure.subplots(*x.shape[:2], squeeze=False)
    _lattices(axes, x)
    for ax, value in zip(axes[0], steps, strict=True):
        ax.set_title(f"{value:.2g}".replace("-", "−"), loc="center", fontsize=9)


def sweep(ax: Axes, ways: Sequence[Mapping[str, Any]], key: str) -> None:
    """Distance of one observable from the truth against evaluations, a line for each sampler."""
    names = list(dict.fromkeys(way["sampler"] for way in ways))
    for name, color, marker in zip(names, cycle(HUES), cycle("osD^v"), strict=False):
        chosen = [way for way in ways if way["sampler"] == name]
        evaluations = floats([way["evaluations"] for way in chosen])
        distance = floats([way["observables"][key]["js"] for way in chosen])
        ax.plot(evaluations, distance, marker=marker, markersize=4, color=color, label=name)
    null = float(np.mean(floats([way["observables"][key]["js_null"] for way in ways])))
    ax.axhline(null, color=INK, linewidth=1.1)
    ax.annotate("same-N null", (1, null), (-2, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=8.5)  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set_ylim(bottom=0)
    ax.set_title(_plain(ways[0]["observables"][key].get("title") or key))
    ax.set(xlabel="evaluations of the network", ylabel="Jensen–Shannon distance")
    legend_above(ax)


def learning(
    ax: Axes, history: Sequence[Mapping[str, Any]], unit: str = "nats a row", apart: bool = False
) -> None:
    """Loss by epoch, on the validation rows and, unless it is another quantity, in training.

    Where that was looked at it is the loss of the same weights on rows of the training.
    """
    epoch = floats([e["epoch"] for e in history])
    ours = "train" if any(e.get("seen") is None for e in history) else "seen"
    for key, color, style in ((ours, GREY, "-"), ("val", SURROGATE, "-"))[apart:]:
        ax.plot(
            epoch,
            floats([e.get(key) for e in history]),
            style,
            color=color,
            label=key,
            marker="." if len(epoch) < 3 else "",
        )
    if epoch.min() > 0 and epoch.max() > 20:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:.0f}")
    if kept := [e for e in history if e.get("best")] if not apart else []:
        ax.plot(kept[-1]["epoch"], kept[-1]["val"], "o", color=SURROGATE, fillstyle="none")
    values = floats([e.get(key) for e in history for key in (ours, "val")[apart:]])
    if len(history) > MANY_EPOCHS:  # where it began is far above all that is of interest
        low, high = np.nanmin(values), np.nanmax(values[len(values) // 10 :])
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.set(xlabel="epoch", ylabel=f"loss [{_plain(unit)}]")
    ax.legend(loc="upper right", labels=["training", "validation"][apart:])  # losses fall


def _each(
    data: Mapping[str, Any], models: Several | None
) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any], float]]:
    """Name, data, style and offset of each of several models; of the surrogate, if it is alone."""
    some = models or {"surrogate": data}
    for i, (item, hue, shape) in enumerate(
        zip(some.items(), cycle(HUES), cycle("osD^v"), strict=False)
    ):
        style = DOTS | {"marker": shape, "color": hue}
        yield _plain(item[0]), item[1], style, APART * (i - (len(some) - 1) / 2)


def _lattices(axes: NDArray[Any], rows: ArrayLike) -> None:
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


def _support(grid: NDArray[Any], density: NDArray[Any], truth: float) -> tuple[float, float]:
    """The part of the grid where there is anything to see, the true value included."""
    seen = np.append(grid[density > 1e-3 * np.nanmax(density)], truth)
    margin = 0.04 * (seen.max() - seen.min()) or 1.0
    return float(seen.min() - margin), float(seen.max() + margin)


def _density(counts: ArrayLike, edges: NDArray[Any]) -> NDArray[Any]:
    """Counts in bins as a density."""
    mass = floats(counts)
    return mass / (mass.sum() or math.inf) / np.diff(edges)


def floats(values: Any) -> NDArray[Any]:
    """Numbers as an array of their shape (…); null becomes NaN, which is not drawn."""
    return np.asarray(values, dtype=float)


def _plain(text: str) -> str:
    """Text that matplotlib does not read as LaTeX."""
    return str(text).replace("$", r"\$")

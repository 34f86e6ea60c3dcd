"""The figures of calibration: ranks and curves; like :mod:`.figures`, one function each.

Checks ask for a figure by its name in :data:`FIGURES`.

What is measured is vermilion, what is expected of n rows a grey band; the controls, posteriors
that are wrong on purpose, are thin lines of other hues, so that one sees what failing looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from physgen.reporting.style import GREY, HUES, INK, SURROGATE, floats, legend_above
from physgen.reporting.view import CONTROLS

__all__ = [
    "FIGURES",
    "coverage_curve",
    "ecdf_difference",
    "ecdf_differences",
    "p_value_histogram",
    "predictive_ranks",
    "rank_histogram",
    "rank_histograms",
]

STYLES = {
    "narrow": (HUES[1], "--"),
    "shifted": (HUES[2], ":"),
    "shuffled": (HUES[1], "--"),
    "thin": (HUES[3], "-."),
    "correlated": (HUES[4], (0, (5, 1, 1, 1, 1, 1))),
}
OTHER = (HUES[3], "-.")
SMALL = 7.5
"""Points of the long names of controls in a legend."""
PANELS = 3
"""Panels beside each other, where there are many."""


def rank_histogram(ax: Axes, test: Mapping[str, Any], band: Sequence[float], what: str) -> None:
    """Histogram of ranks, with the band of a single bin and the controls."""
    _counts(ax, test, band)
    ax.set(xlabel=what, ylabel="rows")
    ax.set_ylim(bottom=0)
    legend_above(ax, fontsize=SMALL)


def _counts(ax: Axes, test: Mapping[str, Any], band: Sequence[float]) -> None:
    """Draw what a histogram of ranks has."""
    data = floats(test["data"]["counts"])
    edges = np.linspace(0, 1, len(data) + 1)
    ax.axhspan(*band, color=GREY, alpha=0.35, linewidth=0, label="95 % of each bin")
    ax.axhline(data.mean(), color=INK, linewidth=0.8)
    for name, control in test["controls"].items():
        counts = floats(control["counts"])
        counts *= data.sum() / counts.sum() * len(counts) / len(data)
        ax.stairs(counts, np.linspace(0, 1, len(counts) + 1), linewidth=1, **_style(name))
    ax.stairs(data, edges, color=SURROGATE, linewidth=1.8, label="measured")
    ax.set_xlim(0, 1)


def ecdf_difference(
    ax: Axes, test: Mapping[str, Any], levels: Sequence[float], band: Any, what: str
) -> None:
    """Distribution function less the uniform one, with the band of all levels at once."""
    _differences(ax, test, levels, band)
    ax.set(xlabel=what, ylabel="distribution − uniform")
    legend_above(ax, fontsize=SMALL)


def _differences(ax: Axes, test: Mapping[str, Any], levels: Sequence[float], band: Any) -> None:
    """Draw what a difference of distribution functions has."""
    x, (low, high) = floats(levels), floats(band)
    ax.fill_between(x, low - x, high - x, color=GREY, alpha=0.35, linewidth=0, label="95 % of all")
    ax.axhline(0, color=INK, linewidth=0.8)
    for y, style in _lines(test):
        ax.plot(x, y - x, **style)
    ax.set_xlim(0, 1)


def rank_histograms(
    figure: Figure, tests: Mapping[str, Mapping[str, Any]], band: Sequence[float]
) -> None:
    """`rank_histogram` of each of many parameters, by their symbols."""
    _panels(figure, tests, lambda ax, test: _counts(ax, test, band), "rows")
    figure.axes[0].set_ylim(bottom=0)


def ecdf_differences(
    figure: Figure,
    tests: Mapping[str, Mapping[str, Any]],
    levels: Sequence[float],
    band: Any,
) -> None:
    """`ecdf_difference` of each of many parameters, by their symbols."""
    what = "distribution − uniform"
    _panels(figure, tests, lambda ax, test: _differences(ax, test, levels, band), what)


def _panels(
    figure: Figure,
    tests: Mapping[str, Mapping[str, Any]],
    draw: Callable[[Axes, Mapping[str, Any]], Any],
    what: str,
) -> None:
    """A panel of each parameter on common axes, and one legend for all."""
    axes = figure.subplots(
        -(-len(tests) // PANELS), PANELS, squeeze=False, sharex=True, sharey=True
    )
    shown = axes.ravel()[: len(tests)]
    for ax, (symbol, test) in zip(shown, tests.items(), strict=True):
        draw(ax, test)
        ax.set_title(symbol, loc="center")
    for ax in axes.ravel()[len(tests) :]:
        ax.set_visible(False)
    names = shown[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=2, fontsize=9)
    figure.supxlabel("posterior probability of less than the true value", fontsize=9.5)
    figure.supylabel(what, fontsize=9.5)


def coverage_curve(
    ax: Axes, test: Mapping[str, Any], levels: Sequence[float], band: Any, title: str
) -> None:
    """Part of the rows whose θ is in the region of a mass, against that mass."""
    x, (low, high) = floats(levels), floats(band)
    ax.fill_between(x, low, high, color=GREY, alpha=0.35, linewidth=0, label="95 % of all")
    ax.plot(x, x, color=INK, linewidth=0.8)
    for y, style in _lines(test):
        ax.plot(x, y, **style)
    ax.set_title(title)
    ax.set(xlabel="posterior mass of the region", ylabel="part of the rows in it",
           xlim=(0, 1), ylim=(0, 1), yticks=np.linspace(0, 1, 6))  # fmt: skip
    legend_above(ax, fontsize=SMALL)


def _lines(test: Mapping[str, Any]) -> list[tuple[NDArray[Any], dict[str, Any]]]:
    """Distribution functions of the controls and, on top, of the data, and how to draw them."""
    found = [
        (floats(control["ecdf"]), {"linewidth": 1, **_style(name)})
        for name, control in test["controls"].items()
    ]
    measured = {"color": SURROGATE, "linewidth": 1.8, "label": "measured"}
    return [*found, (floats(test["data"]["ecdf"]), measured)]


def _style(control: str) -> dict[str, Any]:
    """How a control is drawn."""
    color, line = STYLES.get(control, OTHER)
    title = CONTROLS.get(control, control)
    return {"color": color, "linestyle": line, "label": f"control: {title}"}


def predictive_ranks(ax: Axes, data: Mapping[str, Any], title: str) -> None:
    """Ranks of an observable among x drawn from the posterior, and of x that are drawn."""
    own, seen = (_density(data["counts"][key]) for key in ("own", "data"))
    ax.stairs(*own, fill=True, color=GREY, alpha=0.5, label="x that are drawn")
    ax.stairs(*seen, color=SURROGATE, linewidth=1.5, label="x of the data")
    ax.set_title(title.replace("$", r"\$"))
    ax.set(xlabel="rank among x drawn from the posterior", ylabel="density", xlim=(0, 1))
    legend_above(ax)


def p_value_histogram(ax: Axes, data: Mapping[str, Any]) -> None:
    """P-values of how strange each x is at its θ̂, and those of shuffled x."""
    seen, wrong = (_density(data["counts"][key]) for key in ("data", "shuffled"))
    ax.stairs(*seen, fill=True, color=SURROGATE, alpha=0.55, label="x of the data")
    ax.stairs(*wrong, **_style("shuffled"))
    ax.axhline(1, color=INK, linewidth=0.8)
    ax.set(xlabel="part of the drawn x that are stranger", ylabel="density", xlim=(0, 1))
    legend_above(ax)


def _density(counts: Sequence[float]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Counts of equal bins of [0, 1] as a density, and the edges."""
    mass = floats(counts)
    return mass * len(mass) / (mass.sum() or 1), np.linspace(0, 1, len(mass) + 1)


FIGURES: dict[str, Callable[..., None]] = {
    "rank_histogram": rank_histogram,
    "rank_histograms": rank_histograms,
    "ecdf_difference": ecdf_difference,
    "ecdf_differences": ecdf_differences,
    "coverage_curve": coverage_curve,
    "predictive_ranks": predictive_ranks,
    "p_value_histogram": p_value_histogram,
}
"""What a check may ask for: figures of one axes, or of panels of their own."""

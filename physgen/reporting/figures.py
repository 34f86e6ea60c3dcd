"""What a surrogate's page shows; figures draw what they are given and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from physgen.reporting.style import (
    FULL,
    GREY,
    HUES,
    INK,
    LINES,
    OPEN,
    SURROGATE,
    Several,
    axis_label,
    density_in_bins,
    each_model,
    floats,
    lattices,
    legend_above,
    plain,
)

__all__ = [
    "curve",
    "filters",
    "gallery",
    "gap",
    "histogram",
    "learning",
    "partition",
    "posterior",
    "score_error",
    "sweep",
    "traversal",
]

MANY_EPOCHS = 10
"""Of which the first tenth does not tell the scale of losses."""


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
    lattices(axes, rows)
    for column, title in zip(axes[0], titles, strict=True):
        column.set_title(title, loc="center", fontsize=9)
    for row, name in zip(axes, ("true", "surrogate"), strict=True):
        row[0].set_ylabel(name)


def traversal(figure: Figure, latent: Mapping[str, Any]) -> None:
    """The x that one latent makes as it goes from its lowest to its highest value."""
    axes = figure.subplots(1, len(latent["values"]), squeeze=False)
    lattices(axes, [latent["x"]])
    for ax, value in zip(axes[0], latent["values"], strict=True):
        ax.set_title(f"{value:.2g}".replace("-", "−"), loc="center", fontsize=9)
    axes[0, 0].set_ylabel(plain(latent["name"]))


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
    drawn = [(key, one["surrogate"], *how) for key, one, *how in each_model(data, models)]
    for key, moments, style, offset in [("true", data["true"], OPEN, 0.0), *drawn]:
        at, mean, se = theta + offset * step, floats(moments["mean"]), floats(moments["se"])
        top.errorbar(at, mean, se, label=key, **style)
        below.errorbar(at, mean - reference, se, **style)
    top.set_title(plain(data.get("title") or name))
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
    known = all(one.get("gap_per_dim") is not None for _, one, *_ in each_model(nll, models))
    if known:
        ax.axhline(0, color=INK, linewidth=1.1)
        ax.annotate("exact", (1, 0), (-2, 3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", fontsize=8.5)  # fmt: skip
    for name, one, style, offset in each_model(nll, models):
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
    for (name, one, style, _), dashes in zip(
        each_model(example, models), cycle(LINES), strict=False
    ):
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
            lattices(np.array([[inset]]), [[example["x"]]])
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
    true = density_in_bins(data["histogram"][pair[0]], edges)
    ax.stairs(true, edges, fill=True, color=GREY, alpha=0.5, label=pair[0])
    each = each_model(data, models or {pair[1]: data})
    for (key, one, style, _), dashes in zip(each, cycle(LINES), strict=False):
        theirs = floats(one["histogram"]["edges"])
        drawn, hue = density_in_bins(one["histogram"][pair[1]], theirs), style["color"]
        ax.stairs(drawn, theirs, color=hue, linewidth=1.2, linestyle=dashes, label=key)
    ax.set_title(plain(data.get("title") or name))
    ax.set(xlabel=axis_label(data.get("latex", ""), data.get("unit", ""), name), ylabel="density")
    ax.locator_params(axis="x", nbins=6)
    legend_above(ax)


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
    ax.set_title(plain(ways[0]["observables"][key].get("title") or key))
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
    ax.set(xlabel="epoch", ylabel=f"loss [{plain(unit)}]")
    ax.legend(loc="upper right", labels=["training", "validation"][apart:])  # losses fall


def _support(grid: NDArray[Any], density: NDArray[Any], truth: float) -> tuple[float, float]:
    """The part of the grid where there is anything to see, the true value included."""
    seen = np.append(grid[density > 1e-3 * np.nanmax(density)], truth)
    margin = 0.04 * (seen.max() - seen.min()) or 1.0
    return float(seen.min() - margin), float(seen.max() + margin)

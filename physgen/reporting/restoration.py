"""The page of x drawn given y: maps or curves, and how far they are from the exact ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from physgen.reporting.page import parameter_letters
from physgen.reporting.sheet import Drawing, Sheet, grid, plot
from physgen.reporting.style import (
    FULL,
    GREY,
    HUES,
    INK,
    LATTICE,
    SURROGATE,
    legend_above,
)
from simulators.base import Array

__all__ = ["restoration_sheet"]

SHOWN, DRAWS = 3, 3
"""Rows of y, and draws of each, that are drawn."""
NAMES = {
    "off": "error of the mean, in exact widths",
    "widths": "width over the exact one",
    "covered": "exact mass between the 5 % and 95 % quantiles",
    "spectrum": "power of the residuals, at the worst wave number",
}
"""What is measured, as a table tells it."""


def restoration_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of what restore wrote.

    Args:
        metrics: metadata of its file, and its arrays under "arrays".
    """
    law, arrays, scores = metrics["law"], metrics["arrays"], metrics.get("scores") or []
    letters = [*parameter_letters(law).values()]
    rows, n = arrays["x"].shape[:2]
    theta = arrays["theta"]
    values = {
        "m": metrics,
        "law": law,
        "names": letters,
        "rows": rows,
        "n": n,
        "tables": [lines_of(score) for score in scores],
        "thetas": [score["theta"] for score in scores if "theta" in score],
        "control": [s["off"]["control"] for s in scores if s["off"]["control"] is not None],
        "control_fails": all(s["control_fails"] for s in scores),
        "theta": [[theta[i].mean(0).tolist(), theta[i].std(0).tolist()] for i in range(rows)],
        "told": {
            k: (float(arrays[k].min()), float(arrays[k].max()))
            for k in ("ess", "worst_ess", "theta_ess", "accepted", "r_hat", "chain_ess")
            if k in arrays
        },
    }
    plane = len(law["x_shape"]) == 2
    shown = range(min(rows, SHOWN))
    both = [s for s in scores[:SHOWN] if "spectrum" in s]
    drawings: dict[str, list[Drawing]] = {
        "maps": [grid(moment_maps, one_row(arrays, i), size=(4.2, 3.6)) for i in shown if plane],
        "draws": [grid(drawn_maps, one_row(arrays, i), size=(4.2, 1.6)) for i in shown if plane],
        "curves": [
            plot(moment_curves, one_row(arrays, i)) for i in shown if len(law["x_shape"]) == 1
        ],
        "spectrum": [plot(residual_power, s["spectrum"]) for s in both],
        "pulls": [plot(pulls, one_row(arrays, i), n) for i in shown if "exact_mean" in arrays],
    }
    return Sheet("restoration.html", values, drawings)


def lines_of(score: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is measured of one row, in the table's lines: of a curve where it is worst."""
    lines = []
    for name, title in NAMES.items():
        if name not in score:
            continue
        found = {key: np.atleast_1d(np.array(score[name][key], float)) for key in (
            "value", "exact", "chance")}  # fmt: skip
        control = score[name]["control"]
        away = abs(found["value"] - found["exact"]) / np.maximum(found["chance"], 1e-300)
        at = int(np.nanargmax(away))
        lines.append(
            {
                "title": title,
                "name": name,
                "at": at if len(away) > 1 else None,
                "passed": score[name]["passed"],
                **{key: float(value[at]) for key, value in found.items()},
                "control": None if control is None else float(np.atleast_1d(control)[at]),
            }
        )
    return lines


def differs(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is off by more than chance, in some row."""
    names = [t for k, t in NAMES.items() if any(k in s and not s[k]["passed"] for s in scores)]
    theta = all(line["passed"] for s in scores for line in s.get("theta", ()))
    return names if theta else [*names, "p(θ|y)"]


def one_row(arrays: Mapping[str, Array], i: int) -> dict[str, Array]:
    """The arrays (rows, …) of one row."""
    return {name: values[i] for name, values in arrays.items()}


def moment_maps(figure: Figure, row: Mapping[str, Array]) -> None:
    """What was seen, mean and width (h, w), and below the truth or a draw, and the exact ones."""
    known = "exact_mean" in row
    below = [("truth", row["truth"])] if "truth" in row else [("a draw", row["x"][0])]
    more = [("exact mean", row["exact_mean"]), ("exact width", row["exact_sd"])] if known else []
    others = [(f"draw {k + 2}", row["x"][k + 1]) for k in range(min(2, len(row["x"]) - 1))]
    panels = [("y", row["y"]), ("mean", row["mean"]), ("width", row["sd"]), *below]
    panels += more or others
    axes = figure.subplots(2, 3).ravel()
    x = [values for name, values in panels if not name.endswith("width")]
    most = max(float(np.nanmax(abs(v))) for v in x)
    widest = max(float(np.nanmax(v)) for name, v in panels if name.endswith("width")) or 1.0
    for ax, (name, values) in zip(axes, panels, strict=False):
        wide = name.endswith("width")
        cmap, low, high = ("Greys", 0.0, widest) if wide else (LATTICE, -most, most)
        image = show(ax, values, name, low, high, cmap)
        if name in ("mean", "width"):
            under = axes[2::3] if wide else axes[[0, 1, 3, 4]]
            figure.colorbar(image, ax=under, location="bottom", shrink=0.8, aspect=25)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)


def drawn_maps(figure: Figure, row: Mapping[str, Array]) -> None:
    """Some of the draws (n, h, w), on one scale."""
    some = row["x"][:DRAWS]
    most = float(abs(some).max())
    axes = figure.subplots(1, DRAWS, squeeze=False)[0]
    for k, (ax, values) in enumerate(zip(axes, some, strict=False), 1):
        show(ax, values, f"draw {k}", -most, most, LATTICE)


def show(ax: Axes, values: Array, name: str, low: float, high: float, cmap: Any) -> Any:
    """A map (h, w) without ticks; what was not seen is hatched."""
    ax.set_facecolor("#e9c9b4")
    image = ax.imshow(np.asarray(values, float), cmap=cmap, vmin=low, vmax=high,
                      interpolation="none")  # fmt: skip
    ax.set(xticks=[], yticks=[])
    ax.set_title(name, loc="center")
    ax.spines[:].set_visible(True)
    return image


def moment_curves(ax: Axes, row: Mapping[str, Array]) -> None:
    """Mean and width of each component of a vector (d,), and the exact ones."""
    i = np.arange(1, len(row["mean"]) + 1)
    if "exact_mean" in row:
        low, high = (row["exact_mean"] + sign * row["exact_sd"] for sign in (-1, 1))
        ax.fill_between(i, low, high, color=GREY, alpha=0.4, linewidth=0, label="exact ± 1 width")
    ax.errorbar(i, row["mean"], row["sd"], label="drawn", **FULL)
    if row["y"].shape == row["mean"].shape:
        ax.plot(i, row["y"], "x", color=INK, label="y")
    ax.set(xlabel="component", ylabel="x")
    legend_above(ax)


def residual_power(ax: Axes, data: Mapping[str, Any]) -> None:
    """Power of residuals from the exact mean over that of exact draws, by wave number."""
    exact, chance, value = (np.array(data[k], float) for k in ("exact", "chance", "value"))
    k = np.arange(len(exact))
    ax.fill_between(k, 1 - 2 * chance / exact, 1 + 2 * chance / exact, color=GREY, alpha=0.4,
                    linewidth=0, label="exact draws, ± 2σ")  # fmt: skip
    ax.axhline(1, color=INK, linewidth=0.8)
    ax.plot(k, value / exact, "o-", color=SURROGATE, markersize=3.6, label="drawn")
    if data["control"] is not None:
        without = np.array(data["control"], float) / exact
        ax.plot(k, without, "s--", color=HUES[1], markersize=3, label="without y")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="wave number", ylabel="residual power / exact")
    legend_above(ax)


def pulls(ax: Axes, row: Mapping[str, Array], n: int) -> None:
    """(mean − exact mean) in exact widths, of all components (…), and what chance gives."""
    sd = row["exact_sd"]
    free = sd > 1e-6 * sd.max()
    values = ((row["mean"] - row["exact_mean"])[free] / sd[free]).ravel()
    width = n**-0.5
    most = max(4 * width, 1.05 * float(abs(values).max()))
    edges = np.linspace(-most, most, 31)
    density, _ = np.histogram(values, edges, density=True)
    ax.stairs(density, edges, fill=True, color=SURROGATE, alpha=0.6, label="drawn")
    at = np.linspace(-most, most, 400)
    normal = np.exp(-0.5 * (at / width) ** 2) / (width * np.sqrt(2 * np.pi))
    ax.plot(at, normal, color=INK, linewidth=1.1, label=f"{n} exact draws")
    ax.set(xlabel="(mean − exact mean) / exact width", ylabel="density")
    legend_above(ax)

"""The page of several sizes of one system: figures of many x at one θ, and their scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from physgen.reporting.sheet import Drawing, Sheet, plot
from physgen.reporting.style import FULL, HUES, INK, OPEN, axis_label, legend_above

__all__ = ["collapsed", "response_figure", "responses_sheet"]

BEYOND, SCALED = 2.2, (-4.0, 8.0)
"""How far curves are drawn, in the critical coordinate, and in the scaled distance from it."""
SURE = 0.3
"""Error over the largest value up to which a point is sure to be within the axes."""


def responses_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of figures of several sizes, as `physgen.verbs.responses` has them."""
    labels = metrics["labels"]
    scaled = [name for name, of in labels.items() if of["scaling"] is not None]
    drawings: dict[str, list[Drawing]] = {
        "figures": [plot(response_figure, metrics, name, size=(4.2, 3.4)) for name in labels],
        "scaling": [
            plot(collapsed, metrics, name, size=(4.2, 3.4))
            for name in scaled
            if metrics["critical"] and len({one["size"] for one in metrics["sizes"]}) > 1
        ],
    }
    return Sheet("responses.html", {"m": metrics, "law": metrics["law"]}, drawings)


def hues(metrics: Mapping[str, Any]) -> dict[float, str]:
    """A hue for each size."""
    sizes = sorted({one["size"] for one in metrics["sizes"]})
    return {size: HUES[i % len(HUES)] for i, size in enumerate(sizes)}


def style_of(one: Mapping[str, Any], hue: str) -> dict[str, Any]:
    """True rows are open points, those of a surrogate filled."""
    open_ = {"color": hue, "markeredgecolor": hue}
    return OPEN | open_ if one["kind"] == "true" else FULL | {"color": hue}


def response_figure(ax: Axes, metrics: Mapping[str, Any], name: str) -> None:
    """A figure against its coordinate: points of each file, exact curves, infinite size dashed."""
    by_size, about = hues(metrics), metrics["labels"][name]
    tops = [0.0]
    for exact in metrics["exact"]:
        if name in exact["figures"]:
            ax.plot(exact["at"], exact["figures"][name], color=by_size[exact["size"]], linewidth=1)
    for one in metrics["sizes"]:
        value, se = (np.asarray(one["figures"][name][key], float) for key in ("value", "se"))
        ax.errorbar(
            one["at"], value, se, label=legend_of(one), **style_of(one, by_size[one["size"]])
        )
        tops.append(float(np.nanmax(value[se < SURE * np.nanmax(np.abs(value))], initial=0.0)))
    top = 1.12 * max(tops) or 1.0
    if name in metrics["limit"]["figures"]:
        limit = np.asarray(metrics["limit"]["figures"][name], float)
        ax.plot(metrics["limit"]["at"], np.where(limit < top, limit, np.nan), "--", color=INK,
                linewidth=0.9, label="L = ∞")  # fmt: skip
    ends = np.concatenate([np.asarray(one["at"], float) for one in metrics["sizes"]])
    low, high = float(ends.min()), float(ends.max())
    if critical := metrics["critical"]:
        high = min(high, BEYOND * critical)
        ax.vlines(critical, 0, top, color=INK, linewidth=0.6, linestyle=(0, (1, 3)))
    ax.set_title(str(about["title"]))
    ax.set_xlabel(axis_label(metrics["coordinate"]["latex"], metrics["coordinate"]["unit"], "θ"))
    ax.set_ylabel(axis_label(about["latex"], about["unit"], name))
    margin = 0.03 * (high - low or abs(high))  # of a single point to both sides
    ax.set(xlim=(low - margin, high + margin * (high == low)), ylim=(-0.05 * top, top))
    legend_above(ax)


def collapsed(ax: Axes, metrics: Mapping[str, Any], name: str) -> None:
    """Figure × Lᵃ against the distance from the critical point × L: one curve for all sizes."""
    by_size, about = hues(metrics), metrics["labels"][name]
    critical, power = metrics["critical"], about["scaling"]
    for one in metrics["sizes"]:
        size = one["size"]
        value, se = (np.asarray(one["figures"][name][key], float) for key in ("value", "se"))
        t = (np.asarray(one["at"], float) / critical - 1) * size
        some, factor = (t > SCALED[0]) & (t < SCALED[1]), size**power
        ax.errorbar(t[some], factor * value[some], factor * se[some], label=legend_of(one),
                    **style_of(one, by_size[size]))  # fmt: skip
    symbol = metrics["coordinate"]["latex"] or "θ"
    ax.set_title(f"{about['title']}, scaled")
    ax.set_xlabel(axis_label(rf"L \, ({symbol} - {symbol}_c) / {symbol}_c", "", "t L"))
    ax.set_ylabel(axis_label(scaled_latex(about["latex"], power), about["unit"], name))
    legend_above(ax)


def scaled_latex(latex: str, power: float) -> str:
    r"""A symbol times a power of L: χ L^{-7/4}."""
    if not power:
        return latex
    eighths = round(8 * power)
    top, bottom = (eighths // 2, 4) if eighths % 2 == 0 else (eighths, 8)
    return rf"{latex} \, L^{{{top}/{bottom}}}"


def legend_of(one: Mapping[str, Any]) -> str:
    """What a file is called in a legend."""
    who = "true" if one["kind"] == "true" else str(one["by"])
    return f"L = {one['size']:g}, {who}".replace("$", r"\$")

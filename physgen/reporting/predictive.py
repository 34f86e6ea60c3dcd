"""What a posterior predicts of x, and what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from physgen.reporting.style import (
    INK,
    OPEN,
    SURROGATE,
    axis_label,
    density_in_bins,
    floats,
    legend_above,
    plain,
)

__all__ = ["predictive_band", "predictive_number"]

MARKED = 60
"""Components of a curve that are shown as points; more of them as a line."""


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
    ax.set_title(plain(data.get("title") or name))
    ax.set(xlabel="component", xlim=(i[0] - 0.5, i[-1] + 0.5))
    ax.set_ylabel(axis_label(data.get("latex", ""), data.get("unit", ""), name))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, ncols=3)


def predictive_number(ax: Axes, data: Mapping[str, Any], name: str = "") -> None:
    """Density of a number of x drawn at draws of a posterior, and what was observed."""
    edges = floats(data["histogram"]["edges"])
    density = density_in_bins(data["histogram"]["predicted"], edges)
    ax.stairs(density, edges, fill=True, color=SURROGATE, alpha=0.35, label="predicted")
    for k, value in enumerate(data.get("observed") or []):
        ax.axvline(value, color=INK, linewidth=1.1, label="observed" if k == 0 else None)
    ax.set_title(plain(data.get("title") or name))
    ax.set(xlabel=axis_label(data.get("latex", ""), data.get("unit", ""), name), ylabel="density")
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.locator_params(axis="x", nbins=6)
    ax.legend(ncols=2, loc="upper left")

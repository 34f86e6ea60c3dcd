"""Independent rows: their mean and its standard error, rows in bins, and rows spread evenly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from simulators.base import Array

__all__ = ["Estimate", "bins", "estimate", "evenly_ranked"]


class Estimate(NamedTuple):
    """A mean and its standard error (NaN of fewer than two values)."""

    value: float
    se: float


def estimate(values: Array) -> Estimate:
    """The mean of independent values (n,), and its standard error."""
    if not len(values):
        return Estimate(np.nan, np.nan)
    se = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Estimate(float(values.mean()), float(se))


def bins(
    parameter: Array, low: float, high: float, count: int
) -> Iterator[tuple[float, float, Array]]:
    """Equal bins of a parameter (n,) on [low, high] that are not empty: both edges, and rows."""
    edges = np.linspace(low, high, count + 1)
    which = np.searchsorted(edges[1:-1], parameter, side="right")
    for k in range(count):
        if len(rows := np.flatnonzero(which == k)):
            yield float(edges[k]), float(edges[k + 1]), rows


def evenly_ranked(values: Array, count: int) -> Array:
    """Rows at equal steps of the ranks of their values (n,), `count` of them at most."""
    order = np.argsort(values, kind="stable")
    return order[
        np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    ]

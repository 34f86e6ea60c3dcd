"""Vectors themselves, true beside drawn: curves against each parameter, pairs of few components.

They need no observable, so that x of which nothing is declared has something to look at.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from physgen.checks.estimate import evenly_ranked
from physgen.dataset.missing import column_means, imputed
from physgen.law import Law
from physgen.reporting.view import SHORT_VECTOR
from simulators.base import Array

__all__ = ["fans_section", "pairs_section"]

CHANNELS, PARAMETERS, COMPONENTS, LINES, PAIRS = 4, 4, 200, 20, 400
"""What is shown at most: channels, parameters, components of a curve (at equal distances), curves
one by one, and rows of pairs."""
GROUPS, LEAST = 3, 10
"""Groups of rows by a parameter, and rows that each ought to have."""
BAND = (0.05, 0.95)
DIGITS = 5


def fans_section(law: Law, theta: Array, x: Array, fake: Array) -> list[dict[str, Any]]:
    """Curves of each channel: some rows, and means and bands of rows of like θ.

    Args:
        law: of x; none of it is a curve unless x is a vector, or has channels and one more axis.
        theta: parameters of the rows, (n, D).
        x: true, (n, *x_shape).
        fake: drawn at the same θ, (n, *x_shape).
    """
    series = law.axes[:1] == ("channel",) and len(law.x_shape) == 2
    curves = len(law.x_shape) == 1 and law.x_shape[-1] > SHORT_VECTOR
    if law.support in ("spins", "levels", "mixed") or not (series or curves):
        return []
    means = column_means(x)
    both = [imputed(rows, means).astype(float) for rows in (x, fake)]
    places = np.unique(np.linspace(0, x.shape[-1] - 1, COMPONENTS).round().astype(int))
    some = evenly_ranked(theta[:, 0], LINES)
    found = []
    for channel in range(min(CHANNELS, law.x_shape[0]) if series else 1):
        kept = [(rows[:, channel] if series else rows)[:, places] for rows in both]
        true, drawn = kept
        found.append(
            {
                "channel": channel + 1 if series else None,
                "components": places + 1,
                "theta": theta[some],
                "true": _rounded(true[some]),
                "surrogate": _rounded(drawn[some]),
                "by": [
                    {"parameter": name, "groups": _groups(theta[:, d], true, drawn)}
                    for d, name in enumerate(law.prior.names[:PARAMETERS])
                ],
            }
        )
    return found


def _groups(parameter: Array, true: Array, drawn: Array) -> list[dict[str, Any]]:
    """Rows of low, middle and high values of a parameter (n,): means and bands of curves."""
    count = min(GROUPS, max(1, len(parameter) // LEAST))
    order = np.argsort(parameter, kind="stable")
    return [
        {
            "low": parameter[rows].min(),
            "high": parameter[rows].max(),
            "rows": len(rows),
            "true": _band(true[rows]),
            "surrogate": _band(drawn[rows]),
        }
        for rows in np.array_split(order, count)
    ]


def _band(curves: Array) -> dict[str, Array]:
    """Mean of curves (n, k), and the band that holds 90 % of each component."""
    low, high = np.quantile(curves, BAND, axis=0)
    return {"mean": _rounded(curves.mean(0)), "low": _rounded(low), "high": _rounded(high)}


def pairs_section(
    law: Law, theta: Array, x: Array, fake: Array, names: list[str]
) -> dict[str, Any] | None:
    """Some rows of a vector of two to eight components.

    Args:
        law: of x.
        theta: parameters of the rows, (n, D).
        x: true, (n, d).
        fake: drawn at the same θ, (n, d).
        names: of the components, if they have any.
    """
    if len(law.x_shape) != 1 or not 1 < law.size <= SHORT_VECTOR:
        return None
    rows, means = evenly_ranked(theta[:, 0], PAIRS), column_means(x)
    true, drawn = (_rounded(imputed(v, means).astype(float)[rows]) for v in (x, fake))
    return {"names": names, "true": true, "surrogate": drawn}


def _rounded(values: Array) -> Array:
    """Values to as many digits as a picture shows."""
    most = float(abs(values).max())
    return np.round(values, DIGITS - math.floor(math.log10(most))) if most else values

r"""Mean and spread of a number given θ: does a second sample scatter as much about what θ says?

The distribution of a number over all θ is mostly that of θ: a resolution that is off by a tenth
hides in it, from histograms and from classifiers. So its mean m(θ) and the logarithm of its spread
s(θ) are fitted to the rows of both samples, by least squares on polynomials in θ, and of
u = (v − m)/s two figures are compared:

    shift = ⟨u⟩₂ − ⟨u⟩₁,        ratio = sd(u)₂ / sd(u)₁.

Their errors are their spreads over :mod:`.permutations`; a fit that is not perfect widens u in
both samples alike. The smallest ratio that would be seen is said beside it: the control.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from simulators.base import Array

__all__ = ["SEEN", "given_theta"]

SEEN = 4.0
"""Standard errors that make a difference."""
DEGREES = {3: 3, 6: 2}
"""Degree of the polynomials by the most parameters."""
TINY = 1e-12


def given_theta(theta: Array, numbers: Mapping[str, Array], first: Array) -> dict[str, Any] | None:
    """Shift and ratio of several numbers, each with its error, and the worst of them.

    Args:
        theta: of the pooled rows, (N, D).
        numbers: name → values of the pooled rows, (N,).
        first: labels (P, N) of the deals, 1 for the first sample, the first line as they are.

    Returns:
        JSON data: ``numbers``, the ``worst`` of them and in which figure, with its p-value among
        all; None where no number varies at given θ.
    """
    design = polynomials_of(theta)
    of_each = {
        name: shift_and_ratio(u, first)
        for name, values in numbers.items()
        if (u := standardised_given(design, values)) is not None
    }
    if not of_each:
        return None
    scaled = {(n, f): v / v[1:].std() for n, pair in of_each.items() for f, v in pair.items()}
    (name, figure), most = max(scaled.items(), key=lambda item: abs(item[1][0]))
    of_all = np.abs(list(scaled.values())).max(0)
    return {
        "numbers": {n: as_json(pair) for n, pair in of_each.items()},
        "worst": {
            "observable": name,
            "figure": figure,
            "errors": float(most[0]),
            "p_value": float(np.mean(of_all >= of_all[0])),
            "of": len(scaled),
        },
    }


def polynomials_of(theta: Array) -> Array:
    """Products of parameters (N, D) up to a degree, (N, K); of fewer degrees where D is large."""
    width = theta.std(0)
    t = ((theta - theta.mean(0)) / np.where(width > 0, width, 1))[:, width > 0]
    degree = next((k for most, k in DEGREES.items() if t.shape[1] <= most), 1)
    products = [
        t[:, list(of)].prod(1)
        for k in range(degree + 1)
        for of in combinations_with_replacement(range(t.shape[1]), k)
    ]
    return np.stack(products, axis=1)


def standardised_given(design: Array, values: Array) -> Array | None:
    """u = (v − m)/s of values (N,), m and s as a design (N, K) tells them; None of a constant.

    The spread is fitted to log r² of the residuals r, whose mean is log s² but for a constant.
    """
    off = values - fitted_by(design, values)
    if off.std() <= TINY * max(abs(values).max(), TINY):
        return None
    log_s = 0.5 * fitted_by(design, np.log(off**2 + TINY * off.var()))
    u = off * np.exp(log_s.mean() - log_s)
    return np.asarray(u / u.std())


def fitted_by(design: Array, values: Array) -> Array:
    """What least squares on a design (N, K) makes of values (N,)."""
    return np.asarray(design @ np.linalg.lstsq(design, values, rcond=None)[0])


def shift_and_ratio(u: Array, first: Array) -> dict[str, Array]:
    """The shift and the log of the ratio of u (N,) for each deal (P, N), (P,) each."""
    sums = np.asarray(first @ np.stack([np.ones_like(u), u, u**2], 1))
    rest = np.array([len(u), u.sum(), (u**2).sum()]) - sums
    (mean, log_sd), (other, log_other) = (
        (s[:, 1] / s[:, 0], 0.5 * np.log(s[:, 2] / s[:, 0] - (s[:, 1] / s[:, 0]) ** 2))
        for s in (sums, rest)
    )
    return {"shift": other - mean, "ratio": log_other - log_sd}


def as_json(pair: Mapping[str, Array]) -> dict[str, Any]:
    """Both figures of the deals (P,), with errors, p-values, and the least ratio that is seen."""
    found: dict[str, Any] = {}
    for name, values in pair.items():
        value, error = float(values[0]), float(values[1:].std())
        if name == "ratio":
            value = float(np.exp(value))
            found["least_seen"], error = float(np.exp(SEEN * error)), value * error
        found[name] = {
            "value": value,
            "se": error,
            "p_value": float(np.mean(np.abs(values) >= abs(values[0]))),
        }
    return found

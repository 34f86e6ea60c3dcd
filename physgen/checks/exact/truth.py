r"""A surrogate against the exact answer: its log p, and the posterior that it implies.

With x_i drawn from p(x|θ_i), the mean of the *paired* gap g_i = log p(x_i|θ_i) − log q(x_i|θ_i)
estimates the divergence KL(p‖q) ≥ 0 averaged over θ. The entropy of p cancels row by row, so that
its standard error is far below that of the two means. Hence also the check that no model may fail:
the mean gap of a normalised q, or of a lower bound on it, is negative by chance only. The gap in
*total* nats κ is what inference feels: it shifts a posterior by up to √(2κ) of its widths.

Posteriors are compared on one grid, the union of both fine grids: the shift of the mean in exact
widths, the ratio of the widths, the total variation TV = ½∫|p − q| (the best classifier between
the two is right with probability ½ + TV/2; Lopez-Paz & Oquab, arXiv:1610.06545) and KL(p‖q).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from physgen.posterior.grid import GridPosterior
from physgen.posterior.interpolation import integral
from simulators.base import Array, Verdict

__all__ = [
    "Agreement",
    "Estimate",
    "bins",
    "compare",
    "estimate",
    "log_mass",
    "never_above",
    "paired",
]

LEAST_ROWS = 30
"""Rows that an average of ratios must rest on, effectively."""
POINTS = 2**22
"""Points of the common grids that are held at once."""


class Estimate(NamedTuple):
    """A mean and its standard error (NaN of fewer than two values)."""

    value: float
    se: float


class Agreement(NamedTuple):
    """n posteriors against the exact ones.

    Attributes:
        shift: (mean − exact mean) / exact standard deviation, (n, D).
        ratio: standard deviation / exact standard deviation, (n, D).
        tv: total variation, (n,).
        kl: KL(exact‖posterior) in nats, (n,).
    """

    shift: Array
    ratio: Array
    tv: Array
    kl: Array

    @property
    def c2st(self) -> Array:
        """Accuracy of the best classifier between the two, ½ + TV/2, (n,)."""
        return 0.5 + self.tv / 2


def estimate(values: Array) -> Estimate:
    """The mean of independent values (n,), and its standard error."""
    if not len(values):
        return Estimate(np.nan, np.nan)
    se = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Estimate(float(values.mean()), float(se))


def bins(
    parameter: Array, low: float, high: float, count: int
) -> Iterator[tuple[float, float, Array]]:
    """Equal bins of [low, high] that are not empty: lower and upper edge, and their rows."""
    edges = np.linspace(low, high, count + 1)
    which = np.searchsorted(edges[1:-1], parameter, side="right")
    for k in range(count):
        if len(rows := np.flatnonzero(which == k)):
            yield float(edges[k]), float(edges[k + 1]), rows


def paired(exact: Array, model: Array, others: Array) -> Estimate:
    """The mean gap of rows, exact − model, and its standard error.

    Args:
        exact: exact log p(x_i|θ_i) of x_i drawn from p(x|θ_i), (n,).
        model: the model's log p of the same rows, (n,).
        others: the same of its replicas, which are off together as the model may be, (R, n).
    """
    gap = estimate(exact - model)
    shared = (others - model).mean(1) if len(model) else np.zeros(1)
    return Estimate(gap.value, float(np.hypot(gap.se, np.sqrt((shared**2).mean()))))


def never_above(gap: Estimate, level: float = 1e-3) -> Verdict:
    """Whether the model's mean log p stays below the exact one, but for chance.

    Args:
        gap: mean of exact − model in nats, as :func:`paired` gives it.
        level: probability of a false alarm when the two laws are equal.
    """
    p = float(norm.cdf(gap.value / gap.se)) if gap.se > 0 else float(gap.value >= 0)
    detail = f"mean of exact − model: {gap.value:.4g} ± {gap.se:.2g} nats"
    return Verdict("mean log p is not above the exact one", p >= level, p, detail)


def log_mass(exact: Array, model: Array, others: Array) -> Estimate:
    """Log of E[q/p] over x_i drawn from p(x|θ_i): 0 for a normalised q, below for a bound.

    It tells a wrong log Z, which moves the gap and is otherwise taken for the model's, if q is
    near p: with the gap κ of all nats its standard error is about √(2κ/n). NaN where few rows
    carry all of the mean, so that it says nothing. Arguments as for :func:`paired`.
    """
    if not len(exact):
        return estimate(exact)
    log_ratio = np.concatenate([model[None], others]) - exact
    ratio = np.exp(log_ratio - log_ratio[0].max())
    if ratio[0].sum() ** 2 < LEAST_ROWS * (ratio[0] ** 2).sum():
        return Estimate(np.nan, np.nan)
    own, logs = estimate(ratio[0]), np.log(ratio.mean(1))
    shared = np.sqrt(((logs[1:] - logs[0]) ** 2).mean())
    return Estimate(
        float(logs[0] + log_ratio[0].max()), float(np.hypot(own.se / own.value, shared))
    )


def compare(exact: GridPosterior, model: GridPosterior) -> Agreement:
    """The model's posteriors of n observations against the exact ones, in the same order."""
    width = exact.sd
    size = np.prod([a.shape[1] + b.shape[1] for a, b in zip(exact.axes, model.axes, strict=True)])
    step = max(1, POINTS // int(size))
    parts = [
        _divergences(exact[i : i + step], model[i : i + step]) for i in range(0, len(exact), step)
    ]
    tv, kl = np.concatenate(parts, -1) if parts else np.empty((2, 0))
    return Agreement((model.mean - exact.mean) / width, model.sd / width, tv, kl)


def _divergences(exact: GridPosterior, model: GridPosterior) -> tuple[Array, Array]:
    """Total variation and KL on the union of both grids, (n,) each."""
    axes = tuple(
        np.sort(np.concatenate(pair, -1)) for pair in zip(exact.axes, model.axes, strict=True)
    )
    log_p, log_q = _normalised(exact, axes), _normalised(model, axes)
    p, q = np.exp(log_p), np.exp(log_q)
    ratio = np.where(p > 0, log_p, 0) - np.where(p > 0, log_q, 0)
    return integral(list(axes), abs(p - q)) / 2, integral(list(axes), p * ratio)


def _normalised(posterior: GridPosterior, axes: tuple[Array, ...]) -> Array:
    log_p = posterior.on(axes)
    mass = integral(list(axes), np.exp(log_p))
    return log_p - np.log(mass).reshape(-1, *[1] * len(axes))

r"""The gap of a surrogate: how far its log p(x|θ) lies below the exact one.

With x_i drawn from p(x|θ_i), the mean of the *paired* gap g_i = log p(x_i|θ_i) − log q(x_i|θ_i)
estimates the divergence KL(p‖q) ≥ 0 averaged over θ. The entropy of p cancels row by row, so that
its standard error is far below that of the two means. Hence also the check that no model may fail:
the mean gap of a normalised q, or of a lower bound on it, is negative by chance only. The gap in
*total* nats κ is what inference feels: it shifts a posterior by up to √(2κ) of its widths.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from physgen.checks.estimate import Estimate, estimate
from simulators.base import Array, Verdict

__all__ = ["log_mass", "never_above", "paired"]

LEAST_EFFECTIVE = 30
"""Rows that an average of ratios must rest on, effectively."""


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
    carry all of the mean, so that it says nothing.

    Args:
        exact: exact log p(x_i|θ_i), (n,).
        model: the model's log p of the same rows, (n,).
        others: the same of its replicas, (R, n).
    """
    if not len(exact):
        return estimate(exact)
    log_ratio = np.concatenate([model[None], others]) - exact
    ratio = np.exp(log_ratio - log_ratio[0].max())
    if ratio[0].sum() ** 2 < LEAST_EFFECTIVE * (ratio[0] ** 2).sum():
        return Estimate(np.nan, np.nan)
    own, logs = estimate(ratio[0]), np.log(ratio.mean(1))
    shared = np.sqrt(((logs[1:] - logs[0]) ** 2).mean())
    return Estimate(
        float(logs[0] + log_ratio[0].max()), float(np.hypot(own.se / own.value, shared))
    )

r"""Importance weights: what draws from another law than the posterior are worth.

Draws θ_j of a proposal q stand for a posterior p with weights w_j = p(θ_j)/q(θ_j), of which only
the logarithms up to a constant are needed. They are worth (Σw)²/Σw² draws of p itself (Kong, Liu &
Wong, J. Am. Stat. Assoc. 89 (1994) 278), if the largest weights are not so rare that none has
been met. That is what the shape k of a generalised Pareto law of the tail of the weights tells:
for k < 0.7 means of weighted draws are right as their scatter says, beyond it they are not,
whatever the effective number is (Vehtari, Simpson, Gelman, Yao & Gabry, J. Mach. Learn. Res. 25
(2024) 72, arXiv:1507.02646). Weights of the tail are replaced by the quantiles of that law, which
takes the luck out of the largest.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are imported where they are first used

from simulators.base import Array

__all__ = ["MOST_K", "effective_sample", "pareto_k", "resampled", "smoothed"]

MOST_K = 0.7
"""Pareto shape beyond which weighted draws are not to be trusted."""
LEAST_TAIL, TIED = 5, 1e-12
"""Weights that have a tail, at least, and how near such as are alike, in units of the greatest."""


def effective_sample(log_weights: Array) -> Array:
    """Independent draws that weighted ones are worth, (Σw)²/Σw².

    Args:
        log_weights: (…, K), up to a constant of each row.

    Returns:
        (…,), between 1 and K; 0 where all weights are 0.
    """
    none = np.isneginf(log_weights.max(-1))
    some = np.where(none[..., None], 0.0, log_weights)
    found = np.exp(
        2 * scipy.special.logsumexp(some, axis=-1) - scipy.special.logsumexp(2 * some, axis=-1)
    )
    return np.where(none, 0.0, found)


def pareto_k(log_weights: Array) -> Array:
    """Shape of the tail of the weights: below 0.7 they can be trusted.

    Args:
        log_weights: (…, K), up to a constant of each row.

    Returns:
        (…,); ∞ where hardly any weight is not 0, −∞ where all weights are alike.
    """
    return np.apply_along_axis(lambda row: _tail(row)[0], -1, log_weights)


def smoothed(log_weights: Array) -> Array:
    """The same weights with a tail as the generalised Pareto law has it.

    Args:
        log_weights: (…, K), up to a constant of each row.

    Returns:
        (…, K), up to the same constants: in the same order, none greater than the greatest.
    """
    found = np.array(log_weights, dtype=np.float64)
    for row in found.reshape(-1, found.shape[-1]):
        k, scale, tail = _tail(row)
        if not np.isfinite(k):
            continue
        peak, least = row.max(), np.exp(row[tail[0]] - row.max())
        p = (np.arange(len(tail) - 1) + 0.5) / (len(tail) - 1)
        excess = -scale * np.log1p(-p) if k == 0 else scale * np.expm1(-k * np.log1p(-p)) / k
        row[tail[1:]] = peak + np.minimum(np.log(least + excess), 0)
    return found


def resampled(c: Array, log_weights: Array, k: int, rng: np.random.Generator) -> Array:
    """Draws of equal weight from weighted ones, in random order.

    Each comes up as often as its weight says, to within one (systematic resampling: Kitagawa,
    J. Comput. Graph. Stat. 5 (1996) 1).

    Args:
        c: (…, K, D).
        log_weights: (…, K), up to a constant of each row.
        k: draws of each.
        rng: random numbers.

    Returns:
        (…, k, D); some of them alike, where weights are larger than 1/k.
    """
    cdf = scipy.special.softmax(log_weights, axis=-1).cumsum(-1)
    places = (np.arange(k) + rng.random((*cdf.shape[:-1], 1))) / k * cdf[..., -1:]
    rows = np.vectorize(np.searchsorted, signature="(m),(k)->(k)")(cdf, places)
    rows = rng.permuted(rows.clip(max=cdf.shape[-1] - 1), axis=-1)
    return np.take_along_axis(c, rows[..., None], -2)


def _tail(log_weights: Array) -> tuple[float, float, Array]:
    """Shape and scale of the tail of weights (K,), and which they are, the threshold's first.

    What is no greater than the threshold, as are weights of 0 below it, is no part of the tail.
    """
    count = len(log_weights)
    size = math.ceil(min(0.2 * count, 3 * math.sqrt(count)))
    tail = np.argsort(log_weights, kind="stable")[-size - 1 :]
    with np.errstate(invalid="ignore"):
        weights = np.exp(log_weights[tail] - log_weights[tail[-1]])
    if not np.isfinite(weights).all() or (weights > 0).sum() <= LEAST_TAIL:
        return math.inf, math.nan, tail
    above, count = weights > weights[0], (weights > weights[0]).sum()
    if np.ptp(weights) < TIED or (count > LEAST_TAIL and np.ptp(weights[above]) < TIED):
        return -math.inf, math.nan, tail
    if count <= LEAST_TAIL:
        return math.inf, math.nan, tail
    k, scale = _generalised_pareto(weights[above] - weights[0])
    return k, scale, tail[np.append(0, np.flatnonzero(above))]


def _generalised_pareto(x: Array) -> tuple[float, float]:
    """Shape and scale of sorted positive numbers (M,).

    A posterior mean over the profile likelihood (Zhang & Stephens, Technometrics 51 (2009) 316),
    with the shape drawn to 1/2 as if ten more numbers had said so (Vehtari et al., appendix G).
    """
    m = len(x)
    grid = np.arange(1, 31 + math.isqrt(m)) - 0.5
    b = 1 / x[-1] + (1 - np.sqrt(len(grid) / grid)) / (3 * x[round(m / 4 + 0.5) - 1])
    k = np.log1p(-b[:, None] * x).mean(1)
    profile = m * (np.log(-b / k) - k - 1)
    b_mean = float(scipy.special.softmax(profile) @ b)
    shape = float(np.log1p(-b_mean * x).mean())
    return (m * shape + 5) / (m + 10), -shape / b_mean

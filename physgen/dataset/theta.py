"""What θ of rows from elsewhere follow: whether it is a prior, and if none is given, which."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from simulators.base import Array
from simulators.parameter import LEAST, law_of
from simulators.prior import Prior

__all__ = ["FEWEST", "departures", "other_order", "proposed_correlation", "proposed_law"]

REFUTED = 1e-6
"""p-value below which θ do not follow a prior: no chance finding, of however many files."""
DOUBTED = 1e-3
"""p-value below which another law is tried."""
FEWEST = 20
"""Rows of which it may be said."""
CORRELATED = 5.0
"""Standard errors of a normal score's correlation beyond which there is one."""
DECADES = 0.3
"""Of values, over which a law of their logarithm is tried: a factor of two."""


def departures(theta: Array, prior: Prior) -> Iterator[str]:
    """In what θ (n, D), inside of a prior, are no independent draws of it: a few words each.

    Each column is held against its law (Kolmogorov and Smirnov), each pair against its
    correlation (Fisher's z of the normal scores).
    """
    from scipy import special, stats  # slow to import

    if len(theta) < FEWEST:
        return
    c = prior.to_coordinates(theta)
    u = np.where(prior.flat, (1 + c) / 2, special.ndtr(c))
    for d, p in enumerate(prior.parameters):
        if (p_value := stats.kstest(u[:, d], "uniform").pvalue) < REFUTED:
            yield f"{p.name} does not follow {p.text} (p = {p_value:.0e})"
    for i, j, r, far in correlations(special.ndtri(u.clip(LEAST, 1 - LEAST)), prior.matrix):
        if 2 * special.ndtr(-far) < REFUTED:
            yield (
                f"{prior.names[i]} and {prior.names[j]} have a correlation of {r:.2g}, not "
                f"{prior.matrix[i, j]:.2g}"
            )


def other_order(theta: Array, prior: Prior) -> list[str]:
    """The order of the laws in which the columns of θ (n, D) follow them; empty if in none.

    Laws of columns that were given in the wrong order may hold them all, and yet be others.
    """
    from scipy import optimize, stats

    if len(theta) < FEWEST or len(prior) < 2:
        return []
    laws: list[Any] = [p.law for p in prior.parameters]
    refuted = np.array(
        [
            [stats.kstest(law.cdf(values), "uniform").pvalue < REFUTED for law in laws]
            for values in theta.T
        ]
    )
    places, order = optimize.linear_sum_assignment(refuted)
    found = [prior.names[k] for k in order]
    return found if not refuted[places, order].any() and found != list(prior.names) else []


def correlations(z: Array, expected: Array) -> Iterator[tuple[int, int, float, float]]:
    """Each pair of columns of z (n, D), its correlation, and how far that is from expected (D, D).

    In standard errors of Fisher's z.
    """
    for i, j in combinations(range(z.shape[1]), 2):
        r = np.corrcoef(z[:, i], z[:, j])[0, 1] if np.ptp(z[:, [i, j]], axis=0).all() else 0.0
        inside = np.clip([r, expected[i, j]], -1 + LEAST, 1 - LEAST)
        off = abs(np.diff(np.arctanh(inside))[0])
        yield i, j, float(r), float(off * math.sqrt(max(len(z) - 3, 1)))


def proposed_correlation(theta: Array, names: Sequence[str]) -> dict[tuple[str, str], float]:
    """The correlations of normal scores that θ (n, D) show beyond doubt: pair of names → r.

    Equal values have equal scores, whatever the order of the rows. Each r is rounded, to less than
    a tenth of its standard error.
    """
    from scipy import special, stats  # slow to import

    if len(theta) < FEWEST:
        return {}
    scores = special.ndtri((stats.rankdata(theta, axis=0) - 0.5) / len(theta))
    found = correlations(scores, np.eye(len(names)))
    return {
        (names[i], names[j]): round(r, max(3, decimals((1 - r**2) / math.sqrt(len(theta)))))
        for i, j, r, far in found
        if far > CORRELATED
    }


def decimals(error: float) -> int:
    """Decimals by which rounding is below a tenth of an error."""
    return 1 - math.floor(math.log10(max(error, LEAST)))


def proposed_law(values: Array) -> Any:
    """The simplest law that numbers (n,) may follow; the interval that holds them if none is.

    If they are all equal, their value; else a law uniform in them, in their logarithm, normal or
    normal in the logarithm, the first that is not refuted. Bounds are rounded outward by about the
    distance of the outermost numbers from them.
    """
    from scipy import stats

    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    box = bounds(low, high, 4 * (high - low) / len(values))
    candidates: list[Any] = [box]
    wide = low > 0 and math.log10(high) - math.log10(low) > DECADES
    if wide:
        part = 4 * (math.log(high) - math.log(low)) / len(values)
        ends = bounds(low, high, part * low)[0], bounds(low, high, part * high)[1]
        candidates += [stats.loguniform(*ends)] if ends[0] > 0 else []
    unit = max(-low, high)  # so that no square over- or underflows
    candidates.append(stats.norm(*rounded(values.mean(), (values / unit).std() * unit)))
    if wide:
        mean, sd = rounded(np.log(values).mean(), np.log(values).std())
        candidates.append(stats.lognorm(sd, scale=float(f"{math.exp(mean):.4g}")))
    for law in candidates:
        found: Any = law_of(law)
        if stats.kstest(found.cdf(values), "uniform").pvalue > DOUBTED:
            return law
    return box


def bounds(low: float, high: float, step: float) -> tuple[float, float]:
    """The interval rounded outward, to the power of ten at or above a step."""
    power = math.ceil(math.log10(max(step, 4 * np.spacing(max(-low, high)))))
    unit = 10.0**power
    down = round(math.floor(low / unit) * unit, -power)
    up = round(math.ceil(high / unit) * unit, -power)
    return min(down, low), max(up, high)  # of numbers far from 0 the units are rounded too


def rounded(mean: float, sd: float) -> tuple[float, float]:
    """A mean to a hundredth of its width, and the width to three digits."""
    digits = 2 - math.floor(math.log10(sd))
    return round(float(mean), digits), float(f"{sd:.3g}")

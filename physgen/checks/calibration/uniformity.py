r"""Are numbers uniform on [0, 1]? The question that every calibration comes down to.

If θ is drawn from the prior and x from p(x|θ), then what a right posterior says of the rank of θ
is uniform: its distribution function at θ (:mod:`.sbc`), the credibility of the region that is
denser than θ (:mod:`.coverage`), and so on. Two tests stand side by side, for they see different
things: Kolmogorov and Smirnov's a shift, χ² of the histogram a law that is too narrow or too wide.
Their p-value is twice the smaller.

The band of a histogram is that of one bin at a time. That of the distribution function holds for
all levels at once: the pointwise level γ is such that 95 % of uniform samples stay within the
binomial quantiles γ/2 and 1 − γ/2 throughout (Säilynoja, Bürkner & Vehtari 2022,
arXiv:2103.10522); it is found by simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom, chisquare, ks_2samp, kstest

from physgen.reporting.view import Picture
from simulators.base import Array
from simulators.prior import Prior

__all__ = [
    "ALPHA", "ECDF_LEVELS", "Alike", "Uniformity", "alike", "bands", "counted", "coverage_picture",
    "prior_ranks", "rank_among", "rank_panels", "rank_pictures", "uniform_tests", "uniformity",
]  # fmt: skip

ALPHA = 1e-3
"""A check fails, and a control is caught, where the p-value is below this."""
BINS, LEAST, EXPECTED = 20, 4, 10
ECDF_LEVELS = np.linspace(0, 1, 51)
BAND, SIMULATED = 0.95, 4000


class Uniformity(NamedTuple):
    """A test of n numbers against the uniform law.

    Attributes:
        n: how many numbers.
        p_value: of both tests together.
        ks_p: of Kolmogorov and Smirnov's.
        chi2_p: of χ² over the histogram.
        mean: ½ if uniform.
        counts: the histogram.
        ecdf: part of the numbers up to each of `ECDF_LEVELS`.
        within: whether it lies in the simultaneous band at all levels.
    """

    n: int
    p_value: float
    ks_p: float
    chi2_p: float
    mean: float
    counts: Array
    ecdf: Array
    within: bool


class Alike(NamedTuple):
    """A test of two samples of numbers in [0, 1] for one law.

    Attributes:
        p_value: of Kolmogorov and Smirnov's test.
        mean: of the first sample.
        null_mean: of the second.
    """

    p_value: float
    mean: float
    null_mean: float


def uniformity(u: Array) -> Uniformity:
    """Test numbers (n,) against the uniform law on [0, 1]."""
    counts, ecdf = counted(u), (u[:, None] <= ECDF_LEVELS).mean(0)
    ks, chi2 = float(kstest(u, "uniform").pvalue), float(chisquare(counts).pvalue)
    low, high = bands(len(u))["ecdf"]
    within = bool(np.all((ecdf >= low) & (ecdf <= high)))
    return Uniformity(
        len(u), min(1.0, 2 * min(ks, chi2)), ks, chi2, float(u.mean()), counts, ecdf, within
    )


def alike(u: Array, null: Array) -> Alike:
    """Test numbers (n,) against those (m,) that the null gives."""
    p = float(ks_2samp(u, null, method="asymp").pvalue)
    return Alike(p, float(u.mean()), float(null.mean()))


def prior_ranks(prior: Prior, theta: Array) -> Array:
    """Prior probability of less than θ (n, D), parameter by parameter, (n, D)."""
    c = prior.to_coordinates(theta)
    return np.where(prior.flat, (1 + c) / 2, ndtr(c))


def rank_among(true: Array, drawn: Array, rng: np.random.Generator) -> Array:
    """Rank of numbers (n, …) among K draws of each (n, K, …), in (0, 1), (n, …).

    Exactly uniform for what is like the draws: it is made continuous at random, ties included.
    """
    below, ties = ((f(drawn, true[:, None])).sum(1) for f in (np.less, np.equal))
    return (below + rng.random(true.shape) * (ties + 1)) / (drawn.shape[1] + 1)


def counted(u: Array) -> Array:
    """Histogram (bins,) of numbers (n,) on [0, 1], of fewer bins where there are few."""
    bins = int(np.clip(len(u) // EXPECTED, LEAST, BINS))
    return np.histogram(u, bins, (0, 1))[0]


@lru_cache
def _pointwise(n: int) -> float:
    """γ, the pointwise level of the simultaneous band of n numbers."""
    rng = np.random.default_rng(0)
    steps = rng.multinomial(n, np.diff(ECDF_LEVELS), SIMULATED)
    below, p = steps.cumsum(1)[:, :-1], ECDF_LEVELS[1:-1]
    tail = 2 * np.minimum(binom.cdf(below, n, p), binom.sf(below - 1, n, p))
    return float(np.quantile(tail.min(1), 1 - BAND))


def bands(n: int) -> dict[str, Any]:
    """Where n uniform numbers lie in 95 % of the cases.

    Returns:
        ``ecdf``: lower and upper ends of the distribution function at `ECDF_LEVELS`, at all of
        them at once; ``count``: those of one bin of the histogram.
    """
    gamma, bins = _pointwise(n), len(counted(np.zeros(n)))
    tails = np.array([[gamma / 2], [1 - gamma / 2]])
    ecdf = np.clip(binom.ppf(tails, n, ECDF_LEVELS), 0, n) / n
    return {"ecdf": ecdf, "count": binom.ppf([(1 - BAND) / 2, (1 + BAND) / 2], n, 1 / bins)}


def uniform_tests(
    data: Array | None, own: Array | None, controls: Mapping[str, Array]
) -> dict[str, Any]:
    """The section of a check whose ranks are uniform if posteriors are right.

    Args:
        data: ranks in the data, (n,); None where θ is not known.
        own: ranks in own x, (n,); None where there are none.
        controls: name → ranks in posteriors that are wrong on purpose, (n,).
    """

    def right(ranks: Array | None) -> dict[str, Any] | None:
        return None if ranks is None else uniformity(ranks)._asdict()

    def wrong(ranks: Array) -> dict[str, Any]:
        found = uniformity(ranks)
        p, caught = found.p_value, bool(found.p_value < ALPHA)
        return {"p_value": p, "caught": caught, "counts": found.counts, "ecdf": found.ecdf}

    found = {name: wrong(ranks) for name, ranks in controls.items()}
    return {"data": right(data), "own": right(own), "controls": found}


def rank_pictures(
    test: Mapping[str, Any], result: Mapping[str, Any], what: str
) -> tuple[Picture, ...]:
    """Ranks of the data as a histogram, and as a distribution function less the uniform one.

    Args:
        test: a section that `uniform_tests` made; nothing is drawn of one without data.
        result: all figures of the calibration, with "bands" and "levels".
        what: the rank, for the axis.
    """
    bands, levels = result.get("bands"), result.get("levels")
    if not (test.get("data") and bands):
        return ()
    return (
        Picture("rank_histogram", (test, bands["count"], what)),
        Picture("ecdf_difference", (test, levels, bands["ecdf"], what)),
    )


def rank_panels(
    tests: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]
) -> tuple[Picture, ...]:
    """As `rank_pictures`, of many parameters: two pictures with a panel of each.

    Args:
        tests: symbol of a parameter → its section.
        result: all figures of the calibration, with "bands" and "levels".
    """
    bands, levels = result.get("bands"), result.get("levels")
    if not bands or not all(test.get("data") for test in tests.values()):
        return ()
    return (
        Picture("rank_histograms", (tests, bands["count"]), panels=len(tests)),
        Picture("ecdf_differences", (tests, levels, bands["ecdf"]), panels=len(tests)),
    )


def coverage_picture(
    test: Mapping[str, Any], result: Mapping[str, Any], title: str
) -> tuple[Picture, ...]:
    """The distribution function of ranks that are masses of regions; as for `rank_pictures`."""
    bands, levels = result.get("bands"), result.get("levels")
    if not (test.get("data") and bands):
        return ()
    return (Picture("coverage_curve", (test, levels, bands["ecdf"], title), square=True),)

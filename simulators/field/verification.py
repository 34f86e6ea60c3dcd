r"""Do maps x_i, one at each θ_i, follow p(x|θ)? Their modes over √P(k|θ) must be white.

If so, a map of these is N independent standard normal numbers. Tests of all maps together, each
exact but for what is said:

* **power** of a third of the shells, those of long, middle and short waves: χ² numbers, whose sum
  over all maps is one as well, and whose probability integral transforms are uniform (Kolmogorov
  and Smirnov);
* **one point**: the numbers themselves are normal (the same test, of a million of them at most);
* **neighbours**: Σ y_i y_j over pairs of neighbours has mean 0 and variance 2N (normal for many);
* **skewness** of all numbers: Σ y³ has mean 0 and variance 15 (normal for many).

Of **φ⁴** the modes are not white, but by Schwinger and Dyson ⟨F ∂S/∂φ_x⟩ = ⟨∂F/∂φ_x⟩. With
F = φ_x, φ_x³, a neighbour, the mean M/N and the longest wave each map has a number of known mean:
by Student's test over maps. M is as often positive as negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.special import ndtr

from simulators.base import Array, Verdict
from simulators.field.modes import whitened

if TYPE_CHECKING:
    from simulators.field.gaussian import GaussianField
    from simulators.field.phi4 import Phi4

__all__ = ["verify", "verify_phi4"]

MOST = 1_000_000  # numbers of which the law is tested
SCALES = ("long", "middle", "short")


def verify(field: GaussianField, theta: Array, x: Array) -> list[Verdict]:
    """The verdicts on maps x (n, L, L) drawn at θ (n, D)."""
    if len(theta) != len(x) or not len(x):
        raise ValueError(f"verify: expected one θ for each x, got {len(theta)} and {len(x)}")
    gaussian = field.gaussian(x)[0] + field.shift(theta)[:, None, None]
    log_power = field.log_power(theta)
    white = whitened(gaussian, np.exp(0.5 * log_power)[:, field.shells.shell])
    power = field.shells.power(gaussian) * np.exp(-log_power)
    return [*_powers(power, field.shells.count), _law(white), *_moments(white)]


def verify_phi4(field: Phi4, theta: Array, x: Array) -> list[Verdict]:
    """The verdicts on φ⁴ maps x (n, L, L) drawn at θ (n, 2)."""
    if len(theta) != len(x) or len(x) < 2:
        got = f"{len(theta)} and {len(x)}"
        raise ValueError(f"verify: expected one θ for each x, of 2 maps at least, got {got}")
    pull = -field.score(theta, x)
    wave = np.exp(2j * np.pi * np.arange(field.size) / field.size)
    long = [(x * w).sum((1, 2)) * (pull * w).sum((1, 2)).conj() for w in (wave, wave[:, None])]
    residuals = {
        "φ ∂S/∂φ": (x * pull).mean((1, 2)) - 1,
        "φ³ ∂S/∂φ": (x**3 * pull - 3 * x**2).mean((1, 2)),
        "neighbours × ∂S/∂φ": (np.roll(x, 1, 1) * pull + np.roll(x, 1, 2) * pull).mean((1, 2)),
        "M × ∂S/∂φ": x.sum((1, 2)) * pull.sum((1, 2)) / field.sites - 1,
        "longest wave × ∂S/∂φ": sum(long).real / (2 * field.sites) - 1,
    }
    positive = int((x.mean((1, 2)) > 0).sum())
    sign = stats.binomtest(positive, len(x)).pvalue
    return [
        *(_mean_zero(name, r) for name, r in residuals.items()),
        Verdict.of("sign of M", float(sign), f"{positive} of {len(x)} positive"),
    ]


def _mean_zero(name: str, r: Array) -> Verdict:
    """Whether independent numbers r (n,) have mean 0."""
    test = stats.ttest_1samp(r, 0.0)
    return Verdict.of(
        name, float(test.pvalue), f"{r.mean():+.4f} ± {stats.sem(r):.4f}, n = {len(r)}"
    )


def _powers(power: Array, count: Array) -> list[Verdict]:
    """Whether the sums of |ỹ_k|² over shells (n, S) are χ², by thirds of the shells."""
    verdicts = []
    for name, which in zip(SCALES, np.array_split(np.arange(len(count)), 3), strict=True):
        if not len(which):
            continue
        degrees = count[which].sum()
        total = power[:, which].sum(1)
        of_all = stats.chi2(degrees * len(total))
        p = 2 * min(of_all.cdf(total.sum()), of_all.sf(total.sum()))
        mean = f"{total.mean() / degrees:.4f} of its expectation, {degrees:.0f} modes"
        verdicts.append(Verdict.of(f"mean power of {name} waves", p, mean))
        p, law = _uniform(stats.chi2.cdf(total, degrees))
        verdicts.append(Verdict.of(f"law of the power of {name} waves", p, law))
    return verdicts


def _law(white: Array) -> Verdict:
    """Whether numbers are standard normal."""
    return Verdict.of("law of white sites", *_uniform(ndtr(white.ravel()[:MOST])))


def _uniform(u: Array) -> tuple[float, str]:
    """The p-value of uniform numbers u (n,), and what it is of."""
    test = stats.kstest(u, "uniform")
    return float(test.pvalue), f"D = {test.statistic:.5f}, n = {len(u)}"


def _moments(white: Array) -> list[Verdict]:
    """Whether neighbours are independent, and no site is skewed."""
    pairs = sum((white * np.roll(white, 1, axis)).sum() for axis in (1, 2))
    found = {
        "white neighbours": pairs / np.sqrt(2 * white.size),
        "skewness of white sites": (white**3).sum() / np.sqrt(15 * white.size),
    }
    return [
        Verdict.of(name, 2 * stats.norm.sf(abs(z)), f"z = {z:+.2f}, n = {white.size}")
        for name, z in found.items()
    ]

"""Do showers x_i, one at each θ_i, follow p(x|θ)? By rank among showers that certainly do.

For each x_i draw m more showers at the same θ_i. If x_i follows the law, then the rank of any
statistic of it among the m + 1 is uniform on {0, …, m} (ties broken at random), whatever the law,
and exactly so. The mean of ranks is compared by their normal law, their distribution by a χ² test
in ten bins if there are enough of them. The further showers have a fixed seed, so that the verdict
is a function of the data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from simulators.base import Array, Verdict

if TYPE_CHECKING:
    from simulators.shower.simulator import GFlash

__all__ = ["verify"]

OTHERS = 49  # m
CELLS = 2**25  # that are drawn in all: fewer rows of large showers are looked at
LEAST, MOST = 200, 4000  # rows that are looked at
BINS, FEWEST = 10, 5  # of the χ² test, and ranks expected in each


def verify(simulator: GFlash, theta: Array, x: Array) -> list[Verdict]:
    """The verdicts on x (n, *x_shape) drawn at θ (n, D), on the first rows of many."""
    if len(theta) != len(x) or not len(x):
        raise ValueError(f"verify: expected one θ for each x, got {len(theta)} and {len(x)}")
    rows = min(len(x), MOST, max(LEAST, CELLS // (OTHERS * math.prod(simulator.x_shape))))
    theta, x = theta[:rows], x[:rows]
    rng = np.random.default_rng(0)
    true = statistics(simulator, x)
    below = {name: np.zeros(rows) for name in true}
    equal = {name: np.zeros(rows) for name in true}
    for _ in range(OTHERS):
        drawn = statistics(simulator, simulator.sample(theta, rng))
        for name, value in true.items():
            below[name] += drawn[name] < value
            equal[name] += drawn[name] == value
    return [
        verdict
        for name in true
        for verdict in _ranks(name, below[name] + np.floor(rng.random(rows) * (equal[name] + 1)))
    ]


def statistics(simulator: GFlash, x: Array) -> dict[str, Array]:
    """Every scalar observable, energy of the first third of the layers, silent rows, (n,) each.

    A row is the cells of a layer and an azimuth, if these are several.
    """
    named = {name: o(x) for name, o in simulator.observables.items()}
    layers = named["layer_energies"]
    found = {name: v for name, v in named.items() if v.ndim == 1}
    found["early_energy"] = layers[:, : layers.shape[1] // 3].sum(1)
    if simulator.grid[2] > 1:
        found["silent_rows"] = (x == 0).all(3).sum((1, 2))
    return found


def _ranks(name: str, rank: Array) -> list[Verdict]:
    """Whether ranks 0 … m are uniform, in their mean and in their distribution."""
    n, label = len(rank), name.replace("_", " ")
    z = (rank.mean() - OTHERS / 2) * math.sqrt(12 * n / ((OTHERS + 1) ** 2 - 1))
    p = float(2 * stats.norm.sf(abs(z)))
    mean = Verdict.of(f"mean {label}", p, f"mean rank {rank.mean() / OTHERS:.4f}, z = {z:+.2f}")
    if n < FEWEST * BINS:
        return [mean]
    counts = np.histogram(rank, np.linspace(-0.5, OTHERS + 0.5, BINS + 1))[0]
    test = stats.chisquare(counts)
    detail = f"χ² = {test.statistic:.1f} of ranks in {BINS} bins, n = {n}"
    return [mean, Verdict.of(f"law of the {label}", test.pvalue, detail)]

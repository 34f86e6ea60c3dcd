r"""Maximum mean discrepancy (MMD) of two samples, with a Gaussian kernel.

    MMD² = E k(a, a′) + E k(b, b′) − 2 E k(a, b),      k(x, y) = exp(−|x − y|²/s²),

is 0 for equal laws only; its estimate over all pairs of different rows is unbiased and so negative
at times (Gretton et al., JMLR 13 (2012) 723). The width s is the median distance of the pooled
rows, their columns in units of their standard deviations. Its null is had from
:mod:`.permutations`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from physgen.checks.two_sample.features import standardised
from physgen.checks.two_sample.permutations import Tested, deals, first_of
from simulators.base import Array

__all__ = ["MMD", "mmd", "mmd_of"]


class MMD(NamedTuple):
    """The unbiased squared discrepancy, the 95 % point of its null, and the p-value."""

    value: float
    null: float
    p_value: float


def mmd(
    a: Array,
    b: Array,
    rng: np.random.Generator,
    *,
    rows: int = 1000,
    permutations: int = 200,
) -> MMD:
    """Maximum mean discrepancy of two samples, with a Gaussian kernel.

    Args:
        a: (n, …).
        b: (m, …), the same shape of a row.
        rng: random numbers.
        rows: rows of each sample that are used at most.
        permutations: permutations for the null.
    """
    a, b = (rng.permutation(s.reshape(len(s), -1))[:rows] for s in (a, b))
    pooled = standardised(np.concatenate([a, b]))
    squared = cdist(pooled, pooled, "sqeuclidean")
    median = np.median(squared[np.triu_indices(len(pooled), 1)])
    kernel = np.exp(-squared / max(median, np.finfo(float).tiny))
    np.fill_diagonal(kernel, 0)
    labels = first_of(deals(len(a), len(b), rng, permutations), len(a))
    found = Tested.of(mmd_of(kernel, labels.astype(float)))
    return MMD(found.value, found.null_95, found.p_value)


def mmd_of(kernel: Array, first: Array) -> Array:
    """Unbiased MMD² of a kernel of all pairs, its diagonal 0, for each deal.

    Args:
        kernel: (N, N) over the pooled rows.
        first: labels (P, N): 1 for the first sample, 0 for the second.
    """
    second = 1 - first
    n, m = first.sum(-1), second.sum(-1)
    k_first, k_second = first @ kernel, second @ kernel
    within = (k_first * first).sum(-1) / (n * (n - 1)) + (k_second * second).sum(-1) / (
        m * (m - 1)
    )
    return within - 2 * (k_first * second).sum(-1) / (n * m)

r"""Distances of two samples of physical features: Fréchet (FPD) and kernel (KPD).

Both are of Kansal et al. 2023, arXiv:2211.10295, on features each divided by the largest of its
absolute values in the reference.

**FPD** fits a Gaussian to each sample and takes the Fréchet distance of the two,

    |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½,

where tr (Σ₁Σ₂)^½ is the sum of the singular values of A₁ᵀA₂ if Σ = AAᵀ, which needs no inverse and
no root of a product: A is Cholesky's, with pivots, for features may depend on one another. It sees
means and covariances only, and it is *biased* at finite N by about c/N: two samples of one law are
never at 0. So it is read twice. As it is, beside what deals of the
pooled sample give at the same sizes; and extrapolated to infinite N: both samples are cut into k
disjoint batches, k = 1, 2, 4, and the mean over batches, F + ck, is continued to k = 0 (Chong &
Forsyth, arXiv:1911.07023). Published figures are extrapolated from batches of 20,000 to 50,000
rows drawn with replacement, which leaves the bias of the whole sample in; ours are of N/4 … N rows
without, whatever N is. Batches that are not much larger than the number of features bend that
line, and the deals, which are extrapolated too, show by how much.

**KPD** is the unbiased MMD² with the kernel (x·y/d + 1)⁴ over d features, the median of ten
disjoint batches. It sees moments up to the fourth, and may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpstrf

from physgen.checks.two_sample.mmd import mmd_of
from physgen.checks.two_sample.permutations import Tested, deals, first_of
from simulators.base import Array

__all__ = ["FPD", "KPD", "at_infinity", "fpd", "frechet_distance", "kpd", "polynomial_kernel"]

CUTS, BATCHES, MOST = (1, 2, 4), 10, 1000  # each cut a part of the next
FLOPS = 1e10
"""Work of all deals of an FPD, some seconds; at least 40 are made all the same, at most 100."""


class FPD(NamedTuple):
    """Fréchet distance of the samples as they are, and at infinite N; and of the reference.

    The last is the mean between two halves of the reference, of N/2 rows each: a null that owes
    nothing to the generated sample, at about twice the bias.
    """

    plain: Tested
    infinite: Tested
    halves: float


class KPD(NamedTuple):
    """Median over batches, its standard error if these are Gaussian, and rows of a batch."""

    median: Tested
    se: float
    batch: int


class Sums(NamedTuple):
    """Number of rows, Σ x (d,) and Σ x xᵀ (d, d): those of two batches are added."""

    rows: int
    first: Array
    second: Array

    @classmethod
    def of(cls, x: Array) -> Sums:
        """Those of features (n, d)."""
        return cls(len(x), x.sum(0), x.T @ x)

    @classmethod
    def all(cls, several: Sequence[Sums]) -> Sums:
        """Those of several batches together."""
        return cls(*(sum(parts[1:], parts[0]) for parts in zip(*several, strict=True)))

    def gaussian(self) -> tuple[Array, Array]:
        """Mean (d,) and a factor A (d, rank) of the covariance AAᵀ."""
        mean = self.first / self.rows
        covariance = (self.second - self.rows * np.outer(mean, mean)) / (self.rows - 1)
        lower, pivots, rank, _ = dpstrf(covariance, lower=1)
        factor = np.zeros((len(mean), max(rank, 1)))
        factor[pivots - 1] = np.tril(lower)[:, : max(rank, 1)] if rank else 0
        return mean, factor


def frechet_distance(a: Array, b: Array) -> float:
    """Squared Fréchet distance of the Gaussians fitted to features (n, d) and (m, d)."""
    centre = a.mean(0)  # so that no digits are lost
    return of_sums(Sums.of(a - centre), Sums.of(b - centre))


def of_sums(a: Sums, b: Sums) -> float:
    """Squared Fréchet distance of the Gaussians with these moments."""
    (mean, factor), (other, root) = a.gaussian(), b.gaussian()
    overlap = np.linalg.svd(factor.T @ root, compute_uv=False).sum()
    return float(((mean - other) ** 2).sum() + (factor**2).sum() + (root**2).sum() - 2 * overlap)


def at_infinity(a: Array, b: Array) -> tuple[float, float]:
    """Fréchet distance of (n, d) and (m, d), and its intercept in a line of ever fewer rows."""
    cuts = [k for k in CUTS if k <= max(2, min(len(a), len(b)) // 40)]
    most, centre = cuts[-1], a.mean(0)
    parts = [[Sums.of(x[i::most] - centre) for i in range(most)] for x in (a, b)]
    means = [
        np.mean([of_sums(*(Sums.all(of[i::k]) for of in parts)) for i in range(k)]) for k in cuts
    ]
    return float(means[0]), float(np.polyfit(cuts, means, 1)[1])


def fpd(a: Array, b: Array, rng: np.random.Generator, *, paired: bool = False) -> FPD:
    """Fréchet physics distance, with the null of both its values.

    Args:
        a: features of the reference, (n, d), rows in random order.
        b: features of the generated sample, (m, d), in the same order if paired.
        rng: random numbers.
        paired: whether row i of both has the same θ.
    """
    (n, d), pooled = a.shape, _scaled(a, b)
    work = 2 * len(pooled) * d**2 + 120 * d**3
    order = deals(n, len(b), rng, int(np.clip(FLOPS / work, 40, 100)), paired=paired)
    values = np.array([at_infinity(pooled[o[:n]], pooled[o[n:]]) for o in order])
    half = n // 2
    halves = [
        frechet_distance(pooled[o[:half]], pooled[o[half:]])
        for o in (rng.permutation(n) for _ in range(5))
    ]
    return FPD(Tested.of(values[:, 0]), Tested.of(values[:, 1]), float(np.mean(halves)))


def kpd(a: Array, b: Array, rng: np.random.Generator, *, paired: bool = False) -> KPD:
    """Kernel physics distance.

    Args:
        a: features of the reference, (n, d), rows in random order.
        b: features of the generated sample, (m, d), in the same order if paired.
        rng: random numbers.
        paired: whether row i of both has the same θ.
    """
    n, pooled = len(a), _scaled(a, b)
    size = min(MOST, min(n, len(b)) // BATCHES)
    values = []
    for i in range(0, BATCHES * size, size):
        rows = np.concatenate([pooled[i : i + size], pooled[n + i : n + i + size]])
        kernel = polynomial_kernel(rows, rows)
        np.fill_diagonal(kernel, 0)
        labels = first_of(deals(size, size, rng, paired=paired), size)
        values.append(mmd_of(kernel, labels.astype(float)))
    se = np.sqrt(np.pi / 2) * np.std(values, 0, ddof=1)[0] / np.sqrt(BATCHES)
    return KPD(Tested.of(np.median(values, 0)), float(se), size)


def polynomial_kernel(x: Array, y: Array) -> Array:
    """(x·y/d + 1)⁴ of features (n, d) and (m, d), (n, m)."""
    return (x @ y.T / x.shape[1] + 1) ** 4


def _scaled(a: Array, b: Array) -> Array:
    """Both samples, divided by the largest absolute value of each feature of the first."""
    most = abs(a).max(0)
    return np.concatenate([a, b]) / np.where(most > 0, most, 1)

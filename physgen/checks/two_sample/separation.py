r"""Distances of two histograms with common bins, each with its null where it needs one.

- *Separation power* of calorimetry, ½ Σ (h₁ − h₂)²/(h₁ + h₂) of normalised counts, 0 … 1
  (triangular discrimination; Krause et al. 2024, arXiv:2410.21611).
- *Jensen–Shannon distance* √JS, JS = ½ KL(h₁‖m) + ½ KL(h₂‖m) with m = (h₁ + h₂)/2, natural
  logarithms, 0 … √log 2 (Endres & Schindelin, IEEE Trans. Inf. Theory 49 (2003) 1858).
- *KL divergence* Σ h₁ log(h₁/h₂) in nats.

All are biased upwards at finite N; :mod:`.permutations` says what they read for equal laws.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

from simulators.base import Array

__all__ = [
    "Distance",
    "common_edges",
    "counts",
    "histogram_distances",
    "js_distance",
    "kl_divergence",
    "separation_power",
]


class Distance(NamedTuple):
    """A distance of two samples, and its mean over permutations of the pooled sample."""

    value: float
    null: float


def common_edges(reference: Array, bins: int = 40) -> Array:
    """Edges of equal bins over the range of a reference sample (n,), at most (bins + 1,).

    Of whole numbers they are half-way between, so that all bins hold as many of them.
    """
    if (reference != np.round(reference)).any():
        return np.histogram_bin_edges(reference, bins)
    low, high = float(reference.min()), float(reference.max())
    step = max(1.0, np.ceil((high - low + 1) / bins))
    return low - 0.5 + step * np.arange(np.ceil((high - low + 1) / step) + 1)


def counts(values: Array, edges: Array) -> Array:
    """Histogram (bins,) of (n,) with edges (bins + 1,); what lies outside is in the outermost."""
    return np.histogram(values.clip(edges[0], edges[-1]), edges)[0]


def separation_power(p: Array, q: Array) -> Array:
    """½ Σ (h₁ − h₂)²/(h₁ + h₂) of counts (…, bins), normalised here, (…,); empty ones are 0."""
    p, q = (h / np.maximum(h.sum(-1, keepdims=True), 1) for h in (p, q))
    return ((p - q) ** 2 / np.where(p + q > 0, p + q, 1)).sum(-1) / 2


def kl_divergence(p: Array, q: Array) -> float:
    """KL(p‖q) of two histograms (bins,) in nats; ∞ where q has an empty bin that p has not."""
    return float(rel_entr(p / p.sum(), q / q.sum()).sum())


def js_distance(p: Array, q: Array, rng: np.random.Generator, permutations: int = 100) -> Distance:
    """Jensen–Shannon distance of two histograms of counts (bins,), and its null at these sizes.

    The null deals the pooled counts out anew, which is a permutation of the pooled sample.
    """
    pooled = p + q
    dealt = rng.multivariate_hypergeometric(pooled, int(p.sum()), size=permutations)
    null = jensenshannon(dealt, pooled - dealt, axis=-1)
    return Distance(float(jensenshannon(p, q)), float(np.nanmean(null)))


def histogram_distances(
    a: Array, b: Array, rng: np.random.Generator, names: tuple[str, str]
) -> dict[str, Any]:
    """Distances of two samples of a number, and their histograms.

    Args:
        a: values of the first sample, (n,), whose range the bins are of.
        b: values of the second sample, (m,).
        rng: random numbers of the null.
        names: what the histograms are called.

    Returns:
        JSON data: ``js`` and its null ``js_null``, ``wasserstein`` in the unit of the values, and
        ``histogram``: edges and counts under each of the names.
    """
    edges = common_edges(a)
    p, q = counts(a, edges), counts(b, edges)
    js = js_distance(p, q, rng)
    return {
        "js": js.value,
        "js_null": js.null,
        "wasserstein": wasserstein_distance(a, b),
        "histogram": {"edges": edges, names[0]: p, names[1]: q},
    }

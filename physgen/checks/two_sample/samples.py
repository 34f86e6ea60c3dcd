r"""Two samples: do they follow the same law?

Every figure comes with what it would read if the laws were equal, because none is zero at finite
N: distances of histograms are biased upwards. The null is had from *permutations*: pool both
samples, deal them out again at the same sizes, and compute the same figure. Where row i of both
samples has the same θ, only the two rows of a *pair* may change places.

- Histograms with common bins: Jensen–Shannon distance √JS (natural log, 0 … √log 2), KL, and the
  separation power ½ Σ (h₁ − h₂)²/(h₁ + h₂) of calorimetry, 0 … 1 (triangular discrimination;
  Krause et al. 2024, arXiv:2410.21611).
- Maximum mean discrepancy with a Gaussian kernel, MMD² = E k(a, a′) + E k(b, b′) − 2 E k(a, b),
  unbiased and so negative at times (Gretton et al., JMLR 13 (2012) 723), its width the median
  distance.
- Classifier two-sample test: the cross-validated accuracy of a small network that is asked which
  sample a row is from (Lopez-Paz & Oquab, arXiv:1610.06545). A classifier that is too weak also
  says ½, so a *positive control* stands beside it: a sample in which each component of x was
  dealt out anew among the rows, which keeps all its marginals and destroys what ties components
  to one another and to θ. It must be told from the truth.
- Area under its ROC curve: the probability that a row of the first sample has a higher logit than
  one of the second, ties counting half, which is Mann and Whitney's statistic of the ranks; its
  error is DeLong's (Biometrics 44 (1988) 837). Networks of different folds have no common scale,
  so the area is their mean. For two Gaussians δ widths apart the best area is Φ(δ/√2).
- Jensen–Shannon divergence: the best classifier D of two equally likely laws has a mean binary
  cross-entropy of H = log 2 − JS, and every other more (Goodfellow et al. 2014, arXiv:1406.2661,
  whose 2 JS − 2 log 2 is −2H). So log 2 − H of the same network, on rows that it was not trained
  on, is on average a lower bound of JS: 0 where the laws cannot be told, log 2 where they are
  disjoint.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import cdist, jensenshannon
from scipy.special import rel_entr
from scipy.stats import rankdata
from torch import Tensor, nn

from physgen.runtime.device import threads
from simulators.base import Array

__all__ = [
    "C2ST",
    "MMD",
    "Area",
    "Distance",
    "Divergence",
    "Tested",
    "area",
    "c2st",
    "common_edges",
    "counts",
    "deals",
    "first_of",
    "jensen_shannon",
    "js_distance",
    "kl_divergence",
    "mmd",
    "mmd_of",
    "separation_power",
    "shuffle_components",
]

HIDDEN, FOLDS, STEPS, BATCH, RATE, DECAY = 64, 5, 250, 256, 5e-3, 3e-2
SCALES = torch.linspace(0, 2, 81)  # of the logits


class Distance(NamedTuple):
    """A distance of two samples, and its mean over permutations of the pooled sample."""

    value: float
    null: float


class MMD(NamedTuple):
    """The unbiased squared discrepancy, the 95 % point of its null, and the p-value."""

    value: float
    null: float
    p_value: float


class Divergence(NamedTuple):
    """Lower bound of JS in nats and its standard error; the same on permuted labels."""

    value: float
    se: float
    null: float


class Area(NamedTuple):
    """Area under the ROC curve and its standard error; the same on permuted labels."""

    value: float
    se: float
    null: float


class C2ST(NamedTuple):
    """Accuracy of the classifier, its standard error, the same on permuted labels; JS, area."""

    accuracy: float
    se: float
    null: float
    js: Divergence
    auc: Area


class Tested(NamedTuple):
    """A figure, the mean and the 95 % point of its null, and the p-value of more than that."""

    value: float
    null: float
    null_95: float
    p_value: float

    @classmethod
    def of(cls, values: Array) -> Tested:
        """From values (1 + permutations,), the first of the samples as they are."""
        value, null = float(values[0]), values[1:]
        p = (1 + np.sum(null >= value)) / len(values)
        return cls(value, float(null.mean()), float(np.quantile(null, 0.95)), float(p))


def common_edges(reference: Array, bins: int = 40) -> Array:
    """Edges of equal bins over the range of a reference sample (n,), (bins + 1,)."""
    return np.histogram_bin_edges(reference, bins)


def counts(values: Array, edges: Array) -> Array:
    """Histogram of (n,) in which what lies outside counts in the outermost bins."""
    return np.histogram(values.clip(edges[0], edges[-1]), edges)[0]


def separation_power(p: Array, q: Array) -> Array:
    """½ Σ (h₁ − h₂)²/(h₁ + h₂) of counts (…, bins), normalised here, (…,); empty ones are 0."""
    p, q = (h / np.maximum(h.sum(-1, keepdims=True), 1) for h in (p, q))
    return ((p - q) ** 2 / np.where(p + q > 0, p + q, 1)).sum(-1) / 2


def deals(
    n: int, m: int, rng: np.random.Generator, permutations: int = 200, *, paired: bool = False
) -> Array:
    """Rows of the pooled sample dealt out anew, (1 + permutations, n + m) int32.

    The first n of each line are the first sample; the first line is the samples as they are.

    Args:
        n: rows of the first sample.
        m: rows of the second sample, as many if paired.
        rng: random numbers.
        permutations: how often.
        paired: whether only row i of both samples may change places.
    """
    order = np.tile(np.arange(n + m, dtype=np.int32), (1 + permutations, 1))
    if not paired:
        rng.permuted(order[1:], axis=1, out=order[1:])
        return order
    swapped = n * rng.integers(2, size=(permutations, n), dtype=np.int32)
    order[1:] += np.concatenate([swapped, -swapped], 1)
    return order


def first_of(deal: Array, n: int) -> Array:
    """Labels of the pooled rows for each deal (P, N): 1 in the first sample of n, else 0."""
    labels = np.zeros(deal.shape, dtype=np.float32)
    np.put_along_axis(labels, deal[:, :n], 1, axis=1)
    return labels


def kl_divergence(p: Array, q: Array) -> float:
    """KL(p‖q) of two histograms in nats; ∞ where q has an empty bin that p has not."""
    return float(rel_entr(p / p.sum(), q / q.sum()).sum())


def js_distance(p: Array, q: Array, rng: np.random.Generator, permutations: int = 100) -> Distance:
    """Jensen–Shannon distance of two histograms of counts, and its null at the same sizes.

    The null deals the pooled counts out anew, which is a permutation of the pooled sample.
    """
    pooled = p + q
    dealt = rng.multivariate_hypergeometric(pooled, int(p.sum()), size=permutations)
    null = jensenshannon(dealt, pooled - dealt, axis=-1)
    return Distance(float(jensenshannon(p, q)), float(np.nanmean(null)))


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
    pooled = _standardised(np.concatenate([a, b]))
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


def shuffle_components(x: Array, rng: np.random.Generator) -> Array:
    """The positive control: each component of x (n, …) dealt out anew among all rows."""
    return rng.permuted(x.reshape(len(x), -1), axis=0).reshape(x.shape)


def c2st(
    a: Array,
    b: Array,
    *,
    given: tuple[Array, Array] | None = None,
    seed: int = 0,
    steps: int | None = None,
    null: bool = True,
) -> C2ST:
    """Cross-validated accuracy of a classifier between two samples of equal size, JS and area.

    Args:
        a: (n, …).
        b: (n, …), the same shape of a row.
        given: θ of each sample's rows, (n, D) each, as further inputs.
        seed: seed of folds, weights and permutation.
        steps: steps of the training; 250 if None.
        null: whether to train on permuted labels too; the nulls are NaN if not.

    Raises:
        ValueError: samples of different sizes, or fewer than 10 rows.
    """
    if len(a) != len(b) or len(a) < 2 * FOLDS:
        raise ValueError(f"c2st: expected two samples of n >= 10 rows, got {len(a)} and {len(b)}")
    samples = [s.reshape(len(s), -1) for s in (a, b)]
    if given is not None:
        samples = [np.concatenate(pair, -1) for pair in zip(samples, given, strict=True)]
    x = torch.as_tensor(_standardised(np.concatenate(samples)), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    label = torch.ones(len(a))
    judged = _held_out(x, torch.cat([label, 1 - label]), generator, steps or STEPS)
    swapped = torch.randint(2, (len(a),), generator=generator).float()
    permuted = torch.cat([swapped, 1 - swapped])
    dealt = _held_out(x, permuted, generator, steps or STEPS) if null else None
    accuracy = _accuracy(*judged)
    return C2ST(
        accuracy,
        float(np.sqrt(accuracy * (1 - accuracy) / len(x))),
        _accuracy(*dealt) if dealt else np.nan,
        Divergence(*jensen_shannon(*judged), jensen_shannon(*dealt)[0] if dealt else np.nan),
        Area(*area(*judged), area(*dealt)[0] if dealt else np.nan),
    )


def area(logit: Tensor, y: Tensor) -> tuple[float, float]:
    """Area under the ROC curve, the mean over folds, and its standard error.

    Args:
        logit: (folds, n) of a classifier trained without these rows.
        y: (folds, n) 1 for the first sample, 0 for the second.
    """
    folds = [_area(scores, of > 0.5) for scores, of in zip(logit.numpy(), y.numpy(), strict=True)]
    value, variance = np.mean(folds, 0)
    return float(value), float(np.sqrt(variance / len(folds)))


def _area(score: Array, first: Array) -> tuple[float, float]:
    """Area of one classifier, from ranks, and its variance by DeLong."""
    above, below = score[first], score[~first]
    ranks = rankdata(np.concatenate([above, below]))
    wins = (ranks[: len(above)] - rankdata(above)) / len(below)
    losses = (ranks[len(above) :] - rankdata(below)) / len(above)
    variance = wins.var(ddof=1) / len(above) + losses.var(ddof=1) / len(below)
    return float(wins.mean()), float(variance)


def jensen_shannon(logit: Tensor, y: Tensor) -> tuple[float, float]:
    """log 2 − binary cross-entropy of held-out rows, in nats, and its standard error.

    A network that has learnt its rows by heart is too sure of others, and would give less than 0
    where 0 is a bound too. So the logits of each fold are scaled by the one number that suits the
    other folds best. What is left below 0 is noise.

    Args:
        logit: (folds, n) of a classifier trained without these rows.
        y: (folds, n) 1 for the first sample, 0 for the second.
    """
    entropy = torch.stack([_cross_entropy(scale * logit, y).sum(1) for scale in SCALES])
    others = entropy.sum(1, keepdim=True) - entropy
    bound = np.log(2) - _cross_entropy(SCALES[others.argmin(0)][:, None] * logit, y)
    return float(bound.mean()), float(bound.std() / bound.numel() ** 0.5)


def _cross_entropy(logit: Tensor, y: Tensor) -> Tensor:
    """Of each row in nats, float64."""
    return nn.functional.binary_cross_entropy_with_logits(
        logit.double(), y.double(), reduction="none"
    )


def _standardised(x: Array) -> Array:
    """Columns of mean 0 and variance 1; a constant column is 0."""
    sd = x.std(0)
    return (x - x.mean(0)) / np.where(sd > 0, sd, 1)


def _accuracy(logit: Tensor, y: Tensor) -> float:
    """Part of the rows whose label has the sign of the logit."""
    return float(((logit > 0) == (y > 0.5)).double().mean())


def _held_out(
    x: Tensor, y: Tensor, generator: torch.Generator, steps: int
) -> tuple[Tensor, Tensor]:
    """Logits and labels of held-out rows, (FOLDS, n): all networks are trained at once.

    Row i of either sample falls in the same fold: with equal θ they would betray one another.
    """
    n = len(x) // 2
    order = torch.randperm(n, generator=generator)[: n // FOLDS * FOLDS].view(FOLDS, -1)
    test = torch.cat([order, order + n], 1)
    train = torch.stack([torch.cat([*test[:f], *test[f + 1 :]]) for f in range(FOLDS)])
    with threads(1):
        network = _train(x, y, train, generator, steps)
    with torch.no_grad():
        return _logit(network, x[test]), y[test]


def _train(
    x: Tensor, y: Tensor, rows: Tensor, generator: torch.Generator, steps: int
) -> list[nn.Parameter]:
    """One network for each fold, trained on its rows (FOLDS, n)."""
    sizes = [x.shape[1], HIDDEN, HIDDEN, 1]
    network = []
    for i, o in itertools.pairwise(sizes):
        weight = torch.randn(FOLDS, i, o, generator=generator) * (2 / i) ** 0.5
        network += [nn.Parameter(weight), nn.Parameter(torch.zeros(FOLDS, 1, o))]
    optimiser = torch.optim.AdamW(network, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        pick = torch.randint(rows.shape[1], (FOLDS, BATCH), generator=generator)
        batch = rows.gather(1, pick)
        loss = nn.functional.binary_cross_entropy_with_logits(_logit(network, x[batch]), y[batch])
        optimiser.zero_grad()
        (FOLDS * loss).backward()
        optimiser.step()
        schedule.step()
    return network


def _logit(network: list[nn.Parameter], x: Tensor) -> Tensor:
    """x (FOLDS, B, d) → (FOLDS, B)."""
    for weight, bias in zip(network[:-2:2], network[1:-2:2], strict=True):
        x = torch.relu(torch.baddbmm(bias, x, weight))
    return torch.baddbmm(network[-1], x, network[-2])[..., 0]

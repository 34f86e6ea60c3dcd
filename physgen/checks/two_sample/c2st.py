r"""Classifier two-sample test (C2ST), the area under its ROC curve, and a bound on JS.

- *C2ST*: the cross-validated accuracy of a small network that is asked which sample a row is from
  (Lopez-Paz & Oquab, arXiv:1610.06545). A classifier that is too weak also says ½: see the
  positive control of :mod:`.permutations`.
- *Area* under its ROC curve: the probability that a row of the first sample has a higher logit
  than one of the second, ties counting half, which is Mann and Whitney's statistic of the ranks;
  its error is DeLong's (Biometrics 44 (1988) 837). Networks of different folds have no common
  scale, so the area is their mean. For two Gaussians δ widths apart the best area is Φ(δ/√2).
- *Jensen–Shannon divergence*: the best classifier D of two equally likely laws has a mean binary
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
from scipy.stats import rankdata
from torch import Tensor, nn

from physgen.checks.two_sample.features import standardised
from physgen.runtime.device import threads
from simulators.base import Array

__all__ = ["C2ST", "Area", "Divergence", "area", "c2st", "jensen_shannon"]

HIDDEN, FOLDS, STEPS, BATCH, RATE, DECAY = 64, 5, 250, 256, 5e-3, 3e-2
WIDE, FEW, SMALL = 500, 2, 128
"""Inputs beyond which a null has FEW folds, and a batch SMALL rows."""
SCALES = torch.linspace(0, 2, 81)  # of the logits


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


def c2st(
    a: Array,
    b: Array,
    *,
    given: tuple[Array, Array] | None = None,
    seed: int = 0,
    steps: int | None = None,
    null: bool = True,
    brief: bool = False,
) -> C2ST:
    """Cross-validated accuracy of a classifier between two samples of equal size, JS and area.

    Rows of more than 500 numbers are dear: of their null two of the five folds are trained.

    Args:
        a: (n, …).
        b: (n, …), the same shape of a row.
        given: θ of each sample's rows, (n, D) each, as further inputs.
        seed: seed of folds, weights and permutation.
        steps: steps of the training; 250 if None.
        null: whether to train on permuted labels too; the nulls are NaN if not.
        brief: whether the samples have as few folds as the null: enough for a control.

    Raises:
        ValueError: samples of different sizes, or fewer than 10 rows.
    """
    if len(a) != len(b) or len(a) < 2 * FOLDS:
        raise ValueError(f"c2st: expected two samples of n >= 10 rows, got {len(a)} and {len(b)}")
    samples = [s.reshape(len(s), -1) for s in (a, b)]
    if given is not None:
        samples = [np.concatenate(pair, -1) for pair in zip(samples, given, strict=True)]
    x = torch.as_tensor(standardised(np.concatenate(samples)), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    label = torch.ones(len(a))
    few = FEW if x.shape[1] > WIDE else FOLDS
    folds, steps = few if brief else FOLDS, steps or STEPS
    judged = _held_out(x, torch.cat([label, 1 - label]), generator, steps, folds)
    swapped = torch.randint(2, (len(a),), generator=generator).float()
    permuted = torch.cat([swapped, 1 - swapped])
    dealt = _held_out(x, permuted, generator, steps, few) if null else None
    accuracy = _accuracy(*judged)
    return C2ST(
        accuracy,
        float(np.sqrt(accuracy * (1 - accuracy) / judged[0].numel())),
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


def _accuracy(logit: Tensor, y: Tensor) -> float:
    """Part of the rows whose label has the sign of the logit."""
    return float(((logit > 0) == (y > 0.5)).double().mean())


def _held_out(
    x: Tensor, y: Tensor, generator: torch.Generator, steps: int, folds: int
) -> tuple[Tensor, Tensor]:
    """Logits and labels of held-out rows, (folds, n): all networks are trained at once.

    Row i of either sample falls in the same fold: with equal θ they would betray one another.
    """
    n = len(x) // 2
    order = torch.randperm(n, generator=generator)[: n // FOLDS * FOLDS].view(FOLDS, -1)
    test = torch.cat([order, order + n], 1)
    train = torch.stack([torch.cat([*test[:f], *test[f + 1 :]]) for f in range(folds)])
    test = test[:folds]
    with threads(1):
        network = _train(x, y, train, generator, steps)
    with torch.no_grad():
        return _logit(network, x[test]), y[test]


def _train(
    x: Tensor, y: Tensor, rows: Tensor, generator: torch.Generator, steps: int
) -> list[nn.Parameter]:
    """One network for each fold, trained on its rows (folds, n)."""
    folds, sizes = len(rows), [x.shape[1], HIDDEN, HIDDEN, 1]
    batch_size = SMALL if x.shape[1] > WIDE else BATCH
    network = []
    for i, o in itertools.pairwise(sizes):
        weight = torch.randn(folds, i, o, generator=generator) * (2 / i) ** 0.5
        network += [nn.Parameter(weight), nn.Parameter(torch.zeros(folds, 1, o))]
    optimiser = torch.optim.AdamW(network, lr=RATE, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        pick = torch.randint(rows.shape[1], (folds, batch_size), generator=generator)
        batch = rows.gather(1, pick)
        loss = nn.functional.binary_cross_entropy_with_logits(_logit(network, x[batch]), y[batch])
        optimiser.zero_grad()
        (folds * loss).backward()
        optimiser.step()
        schedule.step()
    return network


def _logit(network: list[nn.Parameter], x: Tensor) -> Tensor:
    """x (folds, B, d) → (folds, B)."""
    for weight, bias in zip(network[:-2:2], network[1:-2:2], strict=True):
        x = torch.relu(torch.baddbmm(bias, x, weight))
    return torch.baddbmm(network[-1], x, network[-2])[..., 0]

r"""What the rows held out of a training say of a surrogate, in seconds: no verdict, but a warning.

- *A plain model of x given θ* that a surrogate should beat: of reals a normal law whose mean is
  quadratic in θ, of spins and levels independent components whatever θ. It is fitted to training
  rows and scored on held-out ones, in nats a row.
- *The course of the validation loss*: one that rises long before the end tells of overfitting.
- *One classifier* (:mod:`.two_sample.c2st`) that is asked to tell drawn x from held-out x at the
  same θ, beside its control, held-out x whose components are dealt out anew among the rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physgen.checks.two_sample.c2st import c2st
from physgen.checks.two_sample.permutations import shuffle_components
from physgen.nn.hurdle import shown
from physgen.nn.regression import quadratic
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.base import Array

__all__ = ["auc_in_words", "held_out_warnings", "plain_loss", "told_apart"]

ROWS, FEWEST, SECONDS, STEPS = 500, 100, 3.0, 100
"""Held-out rows that the classifier sees, and that it needs; CPU time after which no more are
drawn, s; steps of its training, which tell as much of so few rows as more do."""
PLAIN_ROWS, DIRECTIONS = 10_000, 200
"""Training rows that the plain model is fitted to; components that it has room for."""
SPINS = np.array([-1, 1])
WORSE = 0.3
"""Nats a row: what is told of the plain model, and of a validation loss that rises."""
TOLD, CAUGHT = 0.65, 0.6
"""Areas under the ROC curve above which a classifier is believed to tell samples from x, and to
have caught its control."""
EPOCH_COUNT, LATE = 5, 0.8


def told_apart(surrogate: Surrogate, theta: Tensor, x: Tensor, seed: int) -> dict[str, Any] | None:
    """How well a classifier tells drawn x from held-out x, as areas under its ROC curve.

    Args:
        surrogate: a trained one.
        theta: (n, D) parameters of held-out rows.
        x: (n, *x_shape).
        seed: seed of the samples and the classifier.

    Returns:
        JSON data: ``auc``, its ``se``, the ``control`` and the ``rows``; None of less than 100.
    """
    if len(x) < FEWEST:
        return None
    start = time.process_time()
    generator = torch.Generator(surrogate.device).manual_seed(seed)
    parts: list[Tensor] = []
    for some in theta[:ROWS].split(FEWEST):
        parts.append(surrogate.sample(some, generator))
        if time.process_time() - start > SECONDS:
            break
    drawn = torch.cat(parts)
    theta, x = theta[: len(drawn)], x[: len(drawn)]
    drawn = torch.where(x.isnan(), torch.nan, drawn) if surrogate.law.missing else drawn
    c = surrogate.rescale(theta).cpu().numpy()

    def columns(rows: Tensor) -> Array:
        z = surrogate.transform(rows.to(surrogate.device)).flatten(1)
        z = shown(z) if surrogate.law.support == "nonnegative" else z
        return np.clip(finite_part(z)[0].cpu().numpy(), -1e6, 1e6)

    true, fake = columns(x), columns(drawn)
    control = shuffle_components(true, np.random.default_rng(seed))
    found, caught = (
        c2st(true, other, given=(c, c), seed=seed, steps=STEPS, null=False).auc
        for other in (fake, control)
    )
    return {"auc": found.value, "se": found.se, "control": caught.value, "rows": len(x)}


def auc_in_words(told: dict[str, Any]) -> str:
    """What `told_apart` found, and whether its control was caught."""
    control = f"({told['control']:.2f})"
    return f"AUC {told['auc']:.2f} {control}" + (
        "" if told["control"] > CAUGHT else ", no verdict: the control was not caught"
    )


def plain_loss(
    surrogate: Surrogate, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]
) -> float | None:
    """−log p of held-out rows by a plain model of x given θ, in nats a row and raw units of x.

    Args:
        surrogate: for its maps of θ and x.
        train: θ (n, D) and x (n, *x_shape) of some training rows.
        held_out: θ (m, D) and x (m, *x_shape).

    Returns:
        its mean; None where there is no such model of these data, or components are missing.
    """
    law, rows = surrogate.law, [(t[:PLAIN_ROWS], x[:PLAIN_ROWS]) for t, x in (train, held_out)]
    if law.support in ("spins", "levels"):
        first, last = (x.flatten(1).cpu().numpy() for _, x in rows)
        return independent_loss(first, last, np.arange(law.levels) if law.levels else SPINS)
    kept = law.size - len(surrogate.transform.told())
    if law.missing or law.support != "reals" or kept > DIRECTIONS or len(train[0]) <= 4 * kept:
        return None
    pairs = []
    for theta, x in rows:
        z, part = finite_part(surrogate.transform(x).flatten(1))
        features = quadratic(surrogate.rescale(theta))
        pairs.append((features.double().cpu(), z[:, part[0]].double().cpu()))
    log_det = surrogate.transform.log_det(rows[1][1]).mean()
    return normal_loss(*pairs) - float(log_det)


def independent_loss(first: Array, last: Array, values: Array) -> float:
    """Mean −log p of rows (m, d) of K values (K,) by their frequencies in others (n, d), nats."""
    counts = np.stack([(first == v).sum(0) for v in values]) + 1
    log_p = np.log(counts / counts.sum(0))
    right = last[None] == values[:, None, None]
    return float(-(right * log_p[:, None]).sum((0, 2)).mean())


def normal_loss(first: tuple[Tensor, Tensor], last: tuple[Tensor, Tensor]) -> float:
    """Mean −log p of rows by a normal law whose mean is linear in features, fitted to others.

    Args:
        first: features (n, k) and z (n, d) to fit.
        last: features (m, k) and z (m, d) to score.
    """
    weights = torch.linalg.lstsq(*first).solution
    left, right = (z - features @ weights for features, z in (first, last))
    covariance = left.T @ left / len(left)
    covariance.diagonal().add_(1e-12)
    law = torch.distributions.MultivariateNormal(torch.zeros(len(covariance)).double(), covariance)
    return -float(law.log_prob(right).mean())


def held_out_warnings(
    surrogate: Surrogate, losses: Sequence[float], plain: float | None, told: dict[str, Any] | None
) -> Iterator[str]:
    """What held-out rows say against a surrogate, a line each.

    Args:
        surrogate: a trained one.
        losses: its validation loss after each epoch, nats a row if its unit is.
        plain: that of a plain model, as from `plain_loss`.
        told: as from `told_apart`.
    """
    nats = surrogate.unit == Surrogate.unit and surrogate.likelihood is not Likelihood.NONE
    best = min(losses, default=math.nan)
    if nats and plain is not None and best > plain + WORSE:
        what = "a normal law whose mean is quadratic in theta"
        if surrogate.law.support != "reals":
            what = "independent components that ignore theta"
        yield (
            f"its validation loss is {best - plain:.2g} nats a row worse than that of {what}: "
            "do not trust its posteriors; train longer, or take another family"
        )
    epoch, rise = losses.index(best) + 1 if losses else 0, losses[-1] - best if losses else 0.0
    if nats and len(losses) >= EPOCH_COUNT and epoch <= LATE * len(losses) and rise > WORSE:
        yield (
            f"its validation loss was lowest after epoch {epoch} of {len(losses)} and rose by "
            f"{rise:.2g} nats a row since: it overfits, or ended in its warm-up; take more "
            "simulations, or epochs"
        )
    if told and told["auc"] > TOLD:
        yield (
            "a classifier tells its samples from held-out x (AUC "
            f"{told['auc']:.2f}; 0.5 is best): look at physgen validate before you infer with it"
        )

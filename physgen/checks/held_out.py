r"""What the rows held out of a training say of a surrogate, in seconds: no verdict, but a warning.

- *A plain model of x given θ* that a surrogate should beat: of reals a normal law whose mean is
  quadratic in θ, of spins and levels independent components whatever θ. It is fitted to training
  rows and scored on held-out ones, in nats a row.
- *The course of the validation loss*: one that rises long before the end tells of overfitting.
- *The rows of the training* against those held out: how much lower the loss of the kept weights is
  on the former, in nats a row. What the loss owes to the values of θ and x themselves is taken out
  by regression (analysis of covariance), which leaves a third of the error or less.
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
from physgen.nn.columns import ColumnCode
from physgen.nn.hurdle import shown
from physgen.nn.regression import quadratic
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.base import Array

__all__ = [
    "auc_in_words",
    "gap_in_words",
    "held_out_warnings",
    "overfitting",
    "plain_loss",
    "told_apart",
]

ROWS, FEWEST, SECONDS, STEPS = 500, 100, 3.0, 100
"""Held-out rows that the classifier sees, and that it needs; CPU time after which no more are
drawn, s; steps of its training, which tell as much of so few rows as more do."""
LONGEST = 60.0
"""CPU time that the fewest draws may take by that of one, s; a batch takes less."""
PLAIN_ROWS, DIRECTIONS = 10_000, 200
"""Training rows that the plain model is fitted to; components that it has room for."""
SPINS = np.array([-1, 1])
WORSE = 0.3
"""Nats a row: what is told of the plain model, and of a validation loss that rises."""
TOLD, CAUGHT = 0.65, 0.6
"""Areas under the ROC curve above which a classifier is believed to tell samples from x, and to
have caught its control."""
EPOCH_COUNT, LATE = 5, 0.8
SEEN, LEAST_GAP, SIGMAS = 10_000, 0.1, 3.0
"""Rows of the training, and of those held out, that are held against each other, at most; the
gap between them that is told, nats a row, and how many standard errors it must be."""
COVARIATES, BATCH, NUMBERS = 60, 1024, 2**22
"""Components that a loss may owe to themselves; rows, and numbers of x, at a time."""


def told_apart(surrogate: Surrogate, theta: Tensor, x: Tensor, seed: int) -> dict[str, Any] | None:
    """How well a classifier tells drawn x from held-out x, as areas under its ROC curve.

    Args:
        surrogate: a trained one.
        theta: (n, D) parameters of held-out rows.
        x: (n, *x_shape).
        seed: seed of the samples and the classifier.

    Returns:
        JSON data: ``auc``, its ``se``, the ``control`` and the ``rows``; None of less than 100, or
        where so many draws would take minutes.
    """
    if len(x) < FEWEST:
        return None
    start = time.process_time()
    surrogate.sample(theta[:1], seed)
    if FEWEST * (time.process_time() - start) > LONGEST:
        return None
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

    code = None
    if surrogate.law.support in ("counts", "mixed"):
        code = ColumnCode(surrogate.law).to(surrogate.device)
        code.fit(surrogate.transform(x.to(surrogate.device)))

    def columns(rows: Tensor) -> Array:
        z = surrogate.transform(rows.to(surrogate.device)).flatten(1)
        z = shown(z) if surrogate.law.support == "nonnegative" else z
        z = code(z) if code else z
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


def overfitting(
    surrogate: Surrogate,
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    seed: int,
) -> dict[str, Any] | None:
    """How much lower a trained surrogate's loss is on rows of its training than on others.

    Args:
        surrogate: a trained one, in evaluation mode.
        train: θ (n, D) and x (n, *x_shape) of rows that it was trained on.
        held_out: θ (m, D) and x (m, *x_shape) of others.
        seed: seed of the noise.

    Returns:
        JSON data: the ``gap`` and its ``se`` in nats a row, how many ``rows`` of both; None of a
        family whose loss is not in nats a row, or of too few rows.
    """
    n = min(SEEN, len(train[0]), len(held_out[0]))
    if surrogate.likelihood is Likelihood.NONE or n < FEWEST:
        return None
    losses, covariates = [], []
    for theta, x in (train, held_out):
        rows = torch.linspace(0, len(x) - 1, n).round().long().to(x.device)
        losses.append(row_losses(surrogate, theta[rows], x[rows], seed))
        some = [covariates_of(surrogate, theta[k], x[k]) for k in rows.split(BATCH)]
        covariates.append(torch.cat(some))
    gap, se = adjusted_difference(*losses, *covariates)
    return {"gap": gap, "se": se, "rows": n}


def row_losses(surrogate: Surrogate, theta: Tensor, x: Tensor, seed: int) -> Tensor:
    """The validation loss of each row, θ (n, D) and x (n, *x_shape) → (n,)."""
    generator = torch.Generator(surrogate.device).manual_seed(seed)
    batch = max(1, min(BATCH, NUMBERS // surrogate.law.size))
    with torch.no_grad():
        return torch.cat(
            [
                surrogate.validation_loss(t, y, generator).double().cpu()
                for t, y in zip(theta.split(batch), x.split(batch), strict=True)
            ]
        )


def covariates_of(surrogate: Surrogate, theta: Tensor, x: Tensor) -> Tensor:
    """What a loss may owe to θ (n, D) and x (n, *x_shape) themselves, (n, k)."""
    z = surrogate.transform(x.to(surrogate.device)).flatten(1)
    z = shown(z) if surrogate.law.support == "nonnegative" else z
    z = finite_part(z)[0].double().clamp(-10, 10).cpu()
    power = (z**2).sum(1, keepdim=True)
    z = z[:, :COVARIATES]
    return torch.cat([quadratic(surrogate.rescale(theta)).double().cpu(), power, z, z**2], 1)


def adjusted_difference(
    first: Tensor, second: Tensor, given_first: Tensor, given_second: Tensor
) -> tuple[float, float]:
    """How much larger second (n,) is than first (n,), covariates (n, k) equal; standard error.

    The coefficient of the group in a regression on both; heavy tails have no say in what is
    explained, and all in the error.
    """
    n = len(first)
    group = torch.cat([torch.full((n, 1), -0.5), torch.full((n, 1), 0.5)]).double()
    given = torch.cat([given_first, given_second])
    given = (given - given.mean(0)) / given.std(0).clamp(min=1e-12)
    design, loss = torch.cat([group, given, torch.ones_like(group)], 1), torch.cat([first, second])
    inverse = torch.linalg.pinv(design.T @ design, hermitian=True)
    found = inverse @ (design.T @ loss)
    residual = loss - design @ found
    sandwich = inverse @ (design * residual[:, None] ** 2).T @ design @ inverse
    return float(found[0]), float(sandwich[0, 0].clamp(min=0).sqrt())


def gap_in_words(told: dict[str, Any]) -> str:
    """What `overfitting` found."""
    return f"{told['gap']:.2g} ± {told['se']:.1g}"


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
    chunks = [last[i : i + BATCH] == values[:, None, None] for i in range(0, len(last), BATCH)]
    return float(-np.concatenate([(c * log_p[:, None]).sum((0, 2)) for c in chunks]).mean())


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
    surrogate: Surrogate,
    losses: Sequence[float],
    plain: float | None,
    told: dict[str, Any] | None,
    gap: dict[str, Any] | None = None,
    start: float = math.inf,
) -> Iterator[str]:
    """What held-out rows say against a surrogate, a line each.

    Args:
        surrogate: a trained one.
        losses: its validation loss after each epoch, nats a row if its unit is.
        plain: that of a plain model, as from `plain_loss`.
        told: as from `told_apart`.
        gap: as from `overfitting`.
        start: validation loss before the first epoch.
    """
    nats = surrogate.unit == Surrogate.unit and surrogate.likelihood is not Likelihood.NONE
    best = min([start, *losses]) if losses else math.nan
    epoch = [start, *losses].index(best) if losses else 0
    if nats and plain is not None and best > plain + WORSE:
        what = "a normal law whose mean is quadratic in theta"
        if surrogate.law.support != "reals":
            what = "independent components that ignore theta"
        yield (
            f"its validation loss is {best - plain:.2g} nats a row worse than that of {what}: "
            "do not trust its posteriors; train longer, or take another family"
        )
    rise = losses[-1] - best if losses else 0.0
    if nats and len(losses) >= EPOCH_COUNT and epoch <= LATE * len(losses) and rise > WORSE:
        yield (
            f"its validation loss was lowest after epoch {epoch} of {len(losses)} and rose by "
            f"{rise:.2g} nats a row since: it overfits, or ended in its warm-up; take more "
            "simulations, or epochs"
        )
    if gap and gap["gap"] > LEAST_GAP and gap["gap"] > SIGMAS * gap["se"]:
        yield (
            f"its loss is {gap_in_words(gap)} nats a row lower on rows that it was trained on "
            "than on held-out ones: it overfits, and posteriors may be too narrow; take more "
            "simulations, or --simulate (fresh ones as it goes); a larger --weight-decay may help"
        )
    if told and told["auc"] > TOLD:
        yield (
            "a classifier tells its samples from held-out x (AUC "
            f"{told['auc']:.2f}; 0.5 is best): look at physgen validate before you infer with it"
        )

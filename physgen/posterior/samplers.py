"""Rejection and variational inference with a likelihood, by sbi, one observation at a time.

Both draw normal scores z of the prior (:mod:`physgen.posterior.unbounded`), for which float32 is
enough, and ask for derivatives of log p by z, which `differentiable` takes of any likelihood.
*Rejection* has the prior as proposal: it accepts the fewer draws the narrower the posterior.
*Variational* inference fits a Gaussian of z (reverse Kullback–Leibler; sbi's flows need far more
steps, and come out twice too wide after 500), draws from it and weighs the draws by p/q: a tenth
of them are kept, as the weights say (:mod:`physgen.posterior.importance`). These are worth few, if
the fit is bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physgen.nn.differences import differentiable
from physgen.posterior.base import Draws
from physgen.posterior.grid import LogLikelihood
from physgen.posterior.importance import effective_sample, pareto_k, resampled
from physgen.posterior.mcmc import checked_log_density
from physgen.posterior.unbounded import from_scores, scores_density
from physgen.sbi.manners import need_sbi
from physgen.sbi.rejection import rejection_draws
from physgen.sbi.variational import variational_draws
from simulators.base import Array
from simulators.prior import REACH, Prior

__all__ = ["rejection", "vi"]

SPARE, LEAST = 10, 5000
"""Weighted draws for each that is kept, and in all at least."""


def rejection(
    likelihoods: Sequence[LogLikelihood],
    prior: Prior,
    k: int = 1000,
    *,
    seed: int = 0,
    first: int = 0,
) -> Draws:
    """Independent draws from the posterior of each observation.

    Args:
        likelihoods: for each observation θ (1, G, D) → log p(x|θ), (1, G).
        prior: of θ, from which is proposed.
        k: draws of each.
        seed: seed of the draws.
        first: which of all observations the first is: the draws of each are its own.

    Raises:
        DataError: log p is NaN or +∞.
        UsageError: sbi is not installed.
    """
    need_sbi("rejection")
    z = [
        rejection_draws(potential(one, prior), prior, k, seed=seed + i)
        for i, one in enumerate(likelihoods, first)
    ]
    return independent(np.stack(z), likelihoods, prior, {})


def vi(
    likelihoods: Sequence[LogLikelihood],
    prior: Prior,
    k: int = 1000,
    *,
    seed: int = 0,
    first: int = 0,
) -> Draws:
    """Draws from a Gaussian that is fitted to the posterior of each observation, and weighted.

    Args:
        likelihoods: for each observation θ (1, G, D) → log p(x|θ), (1, G).
        prior: of θ.
        k: draws of each.
        seed: seed of the fit and the draws.
        first: which of all observations the first is: the fit and the draws of each are its own.

    Raises:
        DataError: log p is NaN or +∞.
        UsageError: sbi is not installed.
    """
    need_sbi("vi")
    rng, many = np.random.default_rng([seed, first]), max(SPARE * k, LEAST)
    found = [
        variational_draws(potential(one, prior), prior, many, seed=seed + i)
        for i, one in enumerate(likelihoods, first)
    ]
    z, log_w = (np.stack(each) for each in zip(*found, strict=True))
    told = {"ess": effective_sample(log_w)[:, None], "pareto_k": pareto_k(log_w)}
    return independent(resampled(z, log_w, k, rng), likelihoods, prior, told)


def potential(one: LogLikelihood, prior: Prior) -> Callable[[Tensor, Any], Tensor]:
    """log p(x|θ) p(θ) of one observation by z, with derivatives."""
    ends = torch.full((len(prior),), REACH, dtype=torch.float64)

    def value(z: Tensor) -> Tensor:
        points = z.double().numpy()
        theta = from_scores(prior, points)
        values = checked_log_density(one(theta[None])[0])
        return torch.as_tensor(values + scores_density(prior, points))

    def log_density(z: Tensor, x: Any) -> Tensor:
        return differentiable(z, value, -ends, ends)

    return log_density


def independent(
    z: Array, likelihoods: Sequence[LogLikelihood], prior: Prior, told: dict[str, Array]
) -> Draws:
    """Independent draws z (n, k, D) as a posterior."""

    def log_density(theta: Array) -> Array:
        rows = zip(likelihoods, theta, strict=True)
        return np.concatenate([one(t[None]) for one, t in rows]) + prior.log_prob(theta)

    return Draws(from_scores(prior, z)[:, None], log_density, told)

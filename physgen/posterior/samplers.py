"""Rejection and variational inference with a likelihood, by sbi, one observation at a time.

Both ask for derivatives of log p by θ, which `differentiable` takes of any likelihood. *Rejection*
has the prior as proposal: it accepts the fewer draws the narrower the posterior. *Variational*
inference fits a Gaussian of the unbounded parameters (reverse Kullback–Leibler; sbi's flows need
far more steps, and come out twice too wide after 500), draws from it and weighs the draws by p/q:
a tenth of them are kept, as the weights say. These are worth (Σw)²/Σw² draws (Kong 1992): few, if
the fit is bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from physgen.nn.differences import differentiable
from physgen.posterior.base import Draws
from physgen.posterior.grid import LogLikelihood
from physgen.posterior.mcmc import checked_log_density
from physgen.sbi.manners import need_sbi
from physgen.sbi.rejection import rejection_draws
from physgen.sbi.variational import variational_draws
from simulators.base import Array, Box

__all__ = ["rejection", "vi"]

SPARE, LEAST = 10, 5000
"""Weighted draws for each that is kept, and in all at least."""


def rejection(
    likelihoods: Sequence[LogLikelihood], prior: Box, k: int = 1000, *, seed: int = 0
) -> Draws:
    """Independent draws from the posterior of each observation.

    Args:
        likelihoods: for each observation θ (1, G, D) → log p(x|θ), (1, G).
        prior: uniform prior, from which is proposed.
        k: draws of each.
        seed: seed of the draws.

    Raises:
        DataError: log p is NaN or +∞.
        UsageError: sbi is not installed.
    """
    need_sbi("rejection")
    theta = [
        rejection_draws(potential(one, prior), prior, k, seed=seed + i)
        for i, one in enumerate(likelihoods)
    ]
    return independent(np.stack(theta), likelihoods, prior, {})


def vi(likelihoods: Sequence[LogLikelihood], prior: Box, k: int = 1000, *, seed: int = 0) -> Draws:
    """Draws from a Gaussian that is fitted to the posterior of each observation, and weighted.

    Args:
        likelihoods: for each observation θ (1, G, D) → log p(x|θ), (1, G).
        prior: uniform prior.
        k: draws of each.
        seed: seed of the fit and the draws.

    Raises:
        DataError: log p is NaN or +∞.
        UsageError: sbi is not installed.
    """
    need_sbi("vi")
    rng, many = np.random.default_rng(seed), max(SPARE * k, LEAST)
    theta, ess = [], []
    for i, one in enumerate(likelihoods):
        found, log_w = variational_draws(potential(one, prior), prior, many, seed=seed + i)
        w = softmax(log_w)
        ess.append(1 / (w**2).sum())
        rows = np.searchsorted(w.cumsum() / w.sum(), (np.arange(k) + rng.random()) / k)
        theta.append(rng.permutation(found[rows.clip(max=len(w) - 1)]))
    return independent(np.stack(theta), likelihoods, prior, {"ess": np.array(ess)[:, None]})


def potential(one: LogLikelihood, prior: Box) -> Callable[[Tensor, Any], Tensor]:
    """log p(x|θ) + log p(θ) of one observation as sbi calls it, with derivatives."""
    low, high = torch.as_tensor(prior.low), torch.as_tensor(prior.high)

    def value(theta: Tensor) -> Tensor:
        points = theta.double().numpy()
        inside = prior.contains(points)
        where = points.clip(prior.low, prior.high)
        found = checked_log_density(one(where[None])[0]) + prior.log_prob(where)
        return torch.as_tensor(np.where(inside, found, -np.inf))

    def log_density(theta: Tensor, x: Any) -> Tensor:
        return differentiable(theta, value, low, high)

    return log_density


def independent(
    theta: Array, likelihoods: Sequence[LogLikelihood], prior: Box, told: dict[str, Array]
) -> Draws:
    """Independent draws (n, k, D) as a posterior."""

    def log_density(theta: Array) -> Array:
        rows = zip(likelihoods, theta, strict=True)
        return np.concatenate([one(t[None]) for one, t in rows]) + prior.log_prob(theta)

    return Draws(theta.clip(prior.low, prior.high)[:, None], log_density, told)

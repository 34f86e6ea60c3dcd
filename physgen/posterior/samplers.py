"""Rejection and variational inference with a likelihood, by sbi, one observation at a time.

Both draw in the prior's own coordinates c ∈ [−1, 1]^D, for which float32 is enough, and ask for
derivatives of log p by c, which `differentiable` takes of any likelihood. *Rejection* has the
prior as proposal: it accepts the fewer draws the narrower the posterior. *Variational*
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
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["rejection", "vi"]

SPARE, LEAST = 10, 5000
"""Weighted draws for each that is kept, and in all at least."""


def rejection(
    likelihoods: Sequence[LogLikelihood], prior: Prior, k: int = 1000, *, seed: int = 0
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
    c = [
        rejection_draws(potential(one, prior), len(prior), k, seed=seed + i)
        for i, one in enumerate(likelihoods)
    ]
    return independent(np.stack(c), likelihoods, prior, {})


def vi(
    likelihoods: Sequence[LogLikelihood], prior: Prior, k: int = 1000, *, seed: int = 0
) -> Draws:
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
    c, ess = [], []
    for i, one in enumerate(likelihoods):
        found, log_w = variational_draws(potential(one, prior), len(prior), many, seed=seed + i)
        w = softmax(log_w)
        ess.append(1 / (w**2).sum())
        rows = np.searchsorted(w.cumsum() / w.sum(), (np.arange(k) + rng.random()) / k)
        c.append(rng.permutation(found[rows.clip(max=len(w) - 1)]))
    return independent(np.stack(c), likelihoods, prior, {"ess": np.array(ess)[:, None]})


def potential(one: LogLikelihood, prior: Prior) -> Callable[[Tensor, Any], Tensor]:
    """log p(x|θ) of one observation by c, −∞ outside the cube, with derivatives."""
    ones = torch.ones(len(prior), dtype=torch.float64)

    def value(c: Tensor) -> Tensor:
        points = c.double().numpy()
        inside = (abs(points) <= 1).all(-1)
        found = checked_log_density(one(prior.from_coordinates(points)[None])[0])
        return torch.as_tensor(np.where(inside, found, -np.inf))

    def log_density(c: Tensor, x: Any) -> Tensor:
        return differentiable(c, value, -ones, ones)

    return log_density


def independent(
    c: Array, likelihoods: Sequence[LogLikelihood], prior: Prior, told: dict[str, Array]
) -> Draws:
    """Independent draws c (n, k, D) as a posterior."""

    def log_density(theta: Array) -> Array:
        rows = zip(likelihoods, theta, strict=True)
        return np.concatenate([one(t[None]) for one, t in rows]) + prior.log_prob(theta)

    return Draws(prior.from_coordinates(c)[:, None], log_density, told)

"""Rejection sampling with the prior as proposal, by sbi: independent draws, fewer the narrower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.sbi.manners import visiting
from physgen.sbi.prior import normal_prior
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["rejection_draws"]

SEARCH = {"num_samples_to_find_max": 1000, "num_iter_to_find_max": 20}
"""How sbi looks for the maximum that bounds the density."""


def rejection_draws(
    potential: Callable[[Tensor, Any], Tensor], prior: Prior, k: int, *, seed: int
) -> Array:
    """Independent draws from a density of normal scores z.

    Args:
        potential: z (N, D), x → log density but for a constant, (N,), with derivatives by z.
        prior: of θ; z is proposed from it.
        k: draws.
        seed: seed of the draws.

    Returns:
        (k, D) float64.
    """
    from sbi.inference import RejectionPosterior

    with visiting(seed):
        sampler = RejectionPosterior(potential, normal_prior(prior), **SEARCH)
        found = sampler.sample((k,), x=torch.zeros(1, 1), show_progress_bars=False)
    return found.double().numpy()

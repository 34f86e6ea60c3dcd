"""Rejection sampling with the prior as proposal, by sbi: independent draws, fewer the narrower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.sbi.manners import cube_prior, visiting
from simulators.base import Array

__all__ = ["rejection_draws"]

SEARCH = {"num_samples_to_find_max": 1000, "num_iter_to_find_max": 20}
"""How sbi looks for the maximum that bounds the density."""


def rejection_draws(
    potential: Callable[[Tensor, Any], Tensor], dims: int, k: int, *, seed: int
) -> Array:
    """Independent draws from a density in the cube [−1, 1]^D.

    Args:
        potential: c (N, D), x → log density but for a constant, (N,), with derivatives by c.
        dims: D; what is proposed is uniform.
        k: draws.
        seed: seed of the draws.

    Returns:
        (k, D) float64.
    """
    from sbi.inference import RejectionPosterior

    with visiting(seed):
        sampler = RejectionPosterior(potential, cube_prior(dims), **SEARCH)
        found = sampler.sample((k,), x=torch.zeros(1, 1), show_progress_bars=False)
    return found.double().numpy()

"""Variational inference by sbi: a Gaussian of unbounded parameters, fitted by reverse KL.

sbi's flows need far more steps, and come out twice too wide after 500. The draws come with the
logarithms of their importance weights, p/q, which make up for what the fit lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.sbi.manners import cube_prior, visiting
from simulators.base import Array

__all__ = ["variational_draws"]

FIT = {
    "n_particles": 32, "max_num_iters": 250, "min_num_iters": 250, "learning_rate": 0.1,
    "gamma": 0.985, "warm_up_rounds": 20, "quality_control": False, "show_progress_bar": False,
}  # fmt: skip


def variational_draws(
    potential: Callable[[Tensor, Any], Tensor], dims: int, k: int, *, seed: int
) -> tuple[Array, Array]:
    """Draws in the cube [−1, 1]^D from a Gaussian that is fitted to a density, and log weights.

    Args:
        potential: c (N, D), x → log density but for a constant, (N,), with derivatives by c.
        dims: D.
        k: draws.
        seed: seed of the fit and the draws.

    Returns:
        c (k, D) and log p − log q of each, (k,), float64.
    """
    from sbi.inference import VIPosterior

    with visiting(seed):
        fitted = VIPosterior(potential, cube_prior(dims), q="gaussian")
        fitted.set_default_x(torch.zeros(1, 1)).train(**FIT)
        found = fitted.sample((k,), show_progress_bars=False)
        with torch.no_grad():
            log_w = potential(found, None) - fitted.log_prob(found)
    return found.double().numpy(), log_w.double().numpy()

"""Variational inference by sbi: a Gaussian of unbounded parameters, fitted by reverse KL.

sbi's flows need far more steps, and come out twice too wide after 500. The draws come with the
logarithms of their importance weights, p/q, which make up for what the fit lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.sbi.manners import visiting
from physgen.sbi.prior import normal_prior
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["variational_draws"]

FIT = {
    "n_particles": 32, "max_num_iters": 250, "min_num_iters": 250, "learning_rate": 0.1,
    "gamma": 0.985, "warm_up_rounds": 20, "quality_control": False, "show_progress_bar": False,
}  # fmt: skip


def variational_draws(
    potential: Callable[[Tensor, Any], Tensor], prior: Prior, k: int, *, seed: int
) -> tuple[Array, Array]:
    """Draws of normal scores z from a Gaussian that is fitted to a density, and log weights.

    Args:
        potential: z (N, D), x → log density but for a constant, (N,), with derivatives by z.
        prior: of θ.
        k: draws.
        seed: seed of the fit and the draws.

    Returns:
        z (k, D) and log p − log q of each, (k,), float64.
    """
    from sbi.inference import VIPosterior

    with visiting(seed):
        fitted = VIPosterior(potential, normal_prior(prior), q="gaussian")
        fitted.set_default_x(torch.zeros(1, 1)).train(**FIT)
        found = fitted.sample((k,), show_progress_bars=False)
        with torch.no_grad():
            log_w = potential(found, None) - fitted.log_prob(found)
    return found.double().numpy(), log_w.double().numpy()

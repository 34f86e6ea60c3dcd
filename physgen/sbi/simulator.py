"""A surrogate as a simulator for other packages: θ → x, by torch's global random numbers.

That is where they expect a simulator's randomness to come from, and where they seed it: so
``simulate_for_sbi(physgen.as_simulator(model), prior, 10000, simulation_batch_size=500, seed=1)``
is a function of its seed. (The default batch size there is 1, some hundred times slower.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from physgen.sbi.manners import need_single

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["as_simulator"]


@dataclass(frozen=True)
class Simulator:
    """One x for each θ.

    Attributes:
        surrogate: what draws.
    """

    surrogate: Surrogate

    def __call__(self, theta: Tensor) -> Tensor:
        """θ (n, D), or one θ (D,), → x (n, *x_shape) float32 where θ is.

        Raises:
            UsageError: θ in float32, as sbi gives it, of a prior that float32 does not resolve.
        """
        theta = torch.as_tensor(theta)
        if theta.dtype == torch.float32:
            need_single(self.surrogate.law.prior, "as_simulator")
        rows = theta if theta.ndim == 2 else theta[None]
        seed = int(torch.randint(2**62, ()))
        generator = torch.Generator(self.surrogate.device).manual_seed(seed)
        return self.surrogate.sample(rows, generator).float().to(theta.device)


def as_simulator(surrogate: Surrogate) -> Simulator:
    """A surrogate as a function from θ (n, D) to x (n, *x_shape), for `simulate_for_sbi`.

    Args:
        surrogate: as `physgen.load` gives it.
    """
    return Simulator(surrogate)

"""A surrogate inside `sbi`: as a density estimator of p(x|θ), and as a simulator.

log p(x|θ) meets the same random numbers for one x under every θ, and the k-th of several
independent x those of row k, as everywhere in the house; so sbi's chains see a function of θ. Its
derivative by θ, which sbi's variational and Hamiltonian samplers ask for, is taken by central
differences of that function in the prior's coordinates, two evaluations a parameter: it is the
same for every family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor

from physgen.nn.differences import by_coordinates
from physgen.sbi.manners import need_single
from physgen.sbi.simulator import as_simulator

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["SurrogateEstimator"]


class SurrogateEstimator(ConditionalDensityEstimator):
    """p(x|θ) of a surrogate: input x, condition θ.

    Args:
        surrogate: a family with a likelihood.
        draws: random draws for each log p; the family's default for posteriors if None.
        seed: seed of the draws.

    Raises:
        UsageError: a prior that float32, in which sbi gives θ, does not resolve.
    """

    def __init__(self, surrogate: Surrogate, draws: int | None = None, seed: int = 0) -> None:
        law = surrogate.law
        need_single(law.prior, "as_sbi")
        super().__init__(surrogate, torch.Size(law.x_shape), torch.Size([len(law.prior)]))
        self.draws, self.seed = draws or surrogate.posterior_draws, seed

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """log p(x|θ), x (S, B, *x_shape) or (B, *x_shape), θ (B, D) → (S, B)."""
        x, theta, batch = self._broadcast_and_align(input, condition)
        index = torch.arange(len(x)).repeat_interleave(batch)
        x = x.reshape(-1, *self.input_shape)

        def value(theta: Tensor) -> Tensor:
            return self.net.log_prob(theta, x, draws=self.draws, seed=self.seed, index=index)

        flat = theta.reshape(-1, *self.condition_shape)
        return by_coordinates(flat, value, self.net.law.prior).reshape(-1, batch)

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """x (*sample_shape, B, *x_shape) for θ (B, D), by torch's global random numbers."""
        n = torch.Size(sample_shape).numel()
        x = as_simulator(self.net)(condition.repeat(n, 1))
        return x.reshape(*sample_shape, len(condition), *self.input_shape)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """−log p(x|θ), (B,); it is trained by `physgen.fit`, not here."""
        return -self.log_prob(input[None], condition)[0]

"""Priors as distributions of torch, in float32: for sbi's classes, and for those who use sbi.

What is uniform in θ is sbi's own `BoxUniform`. All else draws through the prior's map of the unit
cube, by torch's global random numbers, as sbi expects; its log density is `Prior.log_prob`, with a
derivative by central differences.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # its parts are imported where they are first used
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from physgen.errors import UsageError
from physgen.nn.differences import by_coordinates
from physgen.sbi.manners import need_sbi, need_single
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.law import Law
    from physgen.surrogates.base import Surrogate
    from simulators.base import Simulator

__all__ = ["TorchPrior", "as_prior", "coordinate_prior", "normal_prior"]

QUANTILES = 4096
"""Of each parameter, from which mean and variance are taken."""


class TorchPrior(Distribution):
    """A prior over θ as a distribution of torch.

    Args:
        prior: what it follows.
        device: where θ is.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 - torch's own form

    def __init__(self, prior: Prior, device: torch.device | str = "cpu") -> None:
        self.prior, self.device = prior, torch.device(device)
        super().__init__(event_shape=torch.Size([len(prior)]), validate_args=False)

    @cached_property
    def support(self) -> constraints.Constraint:
        """Where θ can be: bounds for each parameter that has some."""
        every = [constraint_of(p.low, p.high) for p in self.prior.parameters]
        if all(one is constraints.real for one in every):
            return constraints.real_vector
        return constraints.independent(constraints.cat(every, -1, [1] * len(every)), 1)

    @property
    def mean(self) -> Tensor:
        """Mean of each parameter, (D,) float32."""
        return torch.as_tensor(self._quantiles.mean(0)).float().to(self.device)

    @property
    def variance(self) -> Tensor:
        """Variance of each parameter, (D,) float32."""
        return torch.as_tensor(self._quantiles.var(0)).float().to(self.device)

    @cached_property
    def _quantiles(self) -> Any:
        """Quantiles of each parameter, evenly spaced in probability, (Q, D)."""
        u = (np.arange(QUANTILES)[:, None] + 0.5) / QUANTILES
        return self.prior.from_coordinates(
            np.where(self.prior.flat, 2 * u - 1, scipy.special.ndtri(u))
        )

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws by torch's global random numbers, (*sample_shape, D) float32."""
        u = torch.rand(*torch.Size(sample_shape), len(self.prior), dtype=torch.float64)
        return torch.as_tensor(self.prior.from_cube(u.numpy())).float().to(self.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at θ (…, D), (…,) float32; −∞ outside of the support."""
        theta = value.reshape(-1, len(self.prior))
        low, high = self.prior.low, self.prior.high

        def density(theta: Tensor) -> Tensor:
            return torch.from_numpy(self.prior.log_prob(theta.cpu().numpy().clip(low, high)))

        found = by_coordinates(theta, density, self.prior)
        inside: Tensor = self.support.check(theta)
        return torch.where(inside, found.to(theta.device), -torch.inf).reshape(value.shape[:-1])

    def to(self, device: torch.device | str) -> TorchPrior:
        """The same prior with θ elsewhere."""
        self.device = torch.device(device)
        return self


def constraint_of(low: float, high: float) -> constraints.Constraint:
    """The numbers between two bounds, each of which may be infinite."""
    if np.isfinite(low) and np.isfinite(high):
        return constraints.interval(low, high)
    if np.isfinite(low):
        return constraints.greater_than_eq(low)
    return constraints.less_than(high) if np.isfinite(high) else constraints.real


def coordinate_prior(prior: Prior, device: torch.device | str = "cpu") -> Any:
    """A prior's law of its own coordinates c as sbi wants it: uniform in [−1, 1], or normal.

    Args:
        prior: over θ.
        device: where c is to be.
    """
    from scipy import stats  # half a second, for what few need

    laws = [(-1.0, 1.0) if flat else stats.norm() for flat in prior.flat]
    named = dict(zip(prior.names, laws, strict=True))
    return as_torch(Prior(prior.correlation, **named), device)


def normal_prior(prior: Prior) -> Any:
    """A prior's law of its own normal scores, as sbi wants it."""
    matrix = torch.from_numpy(prior.matrix).float()
    return torch.distributions.MultivariateNormal(torch.zeros(len(prior)), matrix)


def as_torch(prior: Prior, device: torch.device | str = "cpu") -> Any:
    """A prior over θ as a distribution of torch on a device."""
    if not prior.uniform:
        return TorchPrior(prior, device)
    from sbi.utils import BoxUniform

    ends = (torch.as_tensor(end).float() for end in (prior.low, prior.high))
    return BoxUniform(*ends, device=str(device))


def as_prior(of: Prior | Law | Simulator | Surrogate) -> Any:
    """A prior over θ as sbi wants it: a distribution of torch, in float32.

    Args:
        of: a prior, or a law, a simulator or a surrogate that has one.

    Raises:
        UsageError: something that has none, a prior that float32 does not resolve, or sbi is not
            installed.
    """
    prior = getattr(getattr(of, "law", of), "prior", of)
    if not isinstance(prior, Prior):
        raise UsageError(f"as_prior: expected a prior, or what has one, got {type(of).__name__}")
    need_sbi("as_prior")
    need_single(prior, "as_prior")
    return as_torch(prior)

r"""The hurdle: nonnegative numbers that are often exactly 0, as networks see and decode them.

A component is hit with some probability, and given a hit has a density:

    p(x) = (1 − h) δ(x) + h f(x),      f = Σ_k w_k Gamma(x; shape a_k, mean m_k),  x > 0,

counting measure at 0, Lebesgue measure above (Cragg 1971, Econometrica 39, 829; mixtures of Gamma
laws are dense in those on x > 0). Networks see u = log x − μ, which is −∞ where x is 0; with
r = u − log m_k + μ, the density of u is

    log f(u) = a log a − a − log Γ(a) − a (e^r − 1 − r),

which needs no cancellation of large numbers at any a: the first three terms come from Stirling's
series, the bracket from expm1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["HurdleGamma", "hits", "shown"]

LEAST, MOST = -1.0, 9.0
"""Of log a."""
STEEP = 20.0
"""Where e^r is cut off."""


def hits(u: Tensor) -> Tensor:
    """Which components of u (...) are hit, (...): those whose logarithm is finite."""
    return u > -math.inf


def shown(u: Tensor, dim: int = 1) -> Tensor:
    """u as numbers that a network can take: ±1 for hit or not, and u, 0 without a hit.

    Both are 0 of what is missing.

    Args:
        u: (..., n, ...) logarithms, −∞ without a hit, NaN where missing.
        dim: along which the two are put together.

    Returns:
        (..., 2n, ...).
    """
    hit = hits(u)
    sign = hit.float() - (u == -math.inf).float()
    return torch.cat([sign, torch.where(hit, u, 0.0)], dim)


class HurdleGamma:
    """A hurdle of a mixture of K Gamma laws, from the numbers that a network gives.

    Args:
        raw: (..., 1 + 3K): log odds of a hit; weights, log shapes and log means of the mixture.
        most: of log a.
    """

    def __init__(self, raw: Tensor, most: Tensor | float = MOST) -> None:
        self.most = most
        self.odds = raw[..., 0]
        weight, self.raw_shape, self.mean = raw[..., 1:].unflatten(-1, (3, -1)).unbind(-2)
        self.log_weight = weight.log_softmax(-1)

    @property
    def shape(self) -> Tensor:
        """The shapes a of all laws, (..., K)."""
        return gamma_shape(self.raw_shape, self.most)

    @staticmethod
    def parameters(components: int) -> int:
        """Numbers that a law of K components takes."""
        return 1 + 3 * components

    def log_prob(self, u: Tensor) -> Tensor:
        """log p of u (...): log P(no hit) where it is −∞, 0 of NaN, else the log density of u."""
        hit = hits(u)
        r = (torch.where(hit, u, 0.0)[..., None] - self.mean).clamp(max=STEEP)
        a = self.shape
        log_f = stirling(a) - a * (torch.expm1(r) - r)
        density = F.logsigmoid(self.odds) + (self.log_weight + log_f).logsumexp(-1)
        atom = torch.where(u == -math.inf, F.logsigmoid(-self.odds), 0.0)
        return torch.where(hit, density, atom)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One u for each law, (...)."""
        device = self.odds.device

        def uniform(shape: torch.Size) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        below = self.log_weight.exp().cumsum(-1)[..., :-1]
        k = (uniform(self.odds.shape)[..., None] > below).sum(-1, keepdim=True)
        a = gamma_shape(self.raw_shape.gather(-1, k)[..., 0], self.most)
        gamma = torch._standard_gamma(a, generator=generator)
        u = self.mean.gather(-1, k)[..., 0] + (gamma / a).log()
        return torch.where(uniform(self.odds.shape) < self.odds.sigmoid(), u, -math.inf)


def gamma_shape(raw: Tensor, most: Tensor | float = MOST) -> Tensor:
    """Shapes a of Gamma laws from a network's numbers (...), their logarithms kept in a range."""
    middle, half = (most + LEAST) / 2, (most - LEAST) / 2
    return (middle + half * torch.tanh((raw + 1 - middle) / half)).exp()


def stirling(a: Tensor) -> Tensor:
    """a log a − a − log Γ(a) of a (...) above 0.3, (...); to 1e-6."""
    large = a.clamp(min=8.0)
    square = large**-2
    tail = (1 / 12 - square * (1 / 360 - square / 1260)) / large
    series = 0.5 * (large / (2 * math.pi)).log() - tail
    small = a.clamp(max=8.0)
    return torch.where(a > 8, series, small * small.log() - small - small.lgamma())

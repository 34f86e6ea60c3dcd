r"""How the energy of a parent splits in two: a share s with atoms at 0 and 1 and Betas between.

    p(s) = P₀ δ(s) + P₁ δ(1 − s) + (1 − P₀ − P₁) Σ_k w_k Beta(s; a_k, b_k)

with counting measure at the atoms. Networks see y = log s/(1 − s), which is ∓∞ there; with
m = a/(a + b) the density of y is

    log f(y) = a log(s/m) + b log((1 − s)/(1 − m)) + S(a) + S(b) − S(a + b),

S(a) = a log a − a − log Γ(a). The logarithms of ratios come from d = y − log a/b,

    log(s/m) = −log(1 + (1 − m)(e^{−d} − 1)),    log((1 − s)/(1 − m)) = −log(1 + m (e^d − 1)),

where |d| < 1, so that no large numbers cancel at any a and b.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from physgen.nn.densities import drawn_category
from physgen.nn.hurdle import stirling

__all__ = ["SplitLaw", "spots"]

LEAST, MOST = math.log(0.3), 11.0
"""Of log a and log b."""
FINE = 40.0
"""Of the log of a number of spots, at most."""
RAREST = -12.0
"""Log odds of an atom, to start from."""


class SplitLaw:
    """Atoms at 0 and 1, and a mixture of K Beta laws, from the numbers that a network gives.

    Args:
        raw: (..., 2 + 3K): log odds of the atoms at 0 and at 1 against what is between; weights,
            log a + log b and log a − log b of the mixture.
    """

    def __init__(self, raw: Tensor) -> None:
        weight, size, tilt = raw[..., 2:].unflatten(-1, (3, -1)).unbind(-2)
        between = F.pad(weight.log_softmax(-1), (2, 0))
        odds = torch.cat([raw[..., :2], torch.zeros_like(raw[..., :1])], -1).log_softmax(-1)
        last = odds[..., 2:].expand(*odds.shape[:-1], weight.shape[-1])
        self.log_weight = between + torch.cat([odds[..., :2], last], -1)
        log_a, log_b = (((size + sign * tilt) / 2).clamp(LEAST, MOST) for sign in (1, -1))
        self.a, self.b, self.tilt = log_a.exp(), log_b.exp(), log_a - log_b

    @staticmethod
    def parameters(components: int) -> int:
        """Numbers that a law of K components takes."""
        return 2 + 3 * components

    def log_prob(self, y: Tensor) -> Tensor:
        """log p of y (...): the log of an atom where it is ∓∞, else the log density of y."""
        inner = y.isfinite()
        atom = torch.where(y > 0, self.log_weight[..., 1], self.log_weight[..., 0])
        y = torch.where(inner, y, 0.0)[..., None]
        log_f = self.a * log_ratio(y, self.tilt) + self.b * log_ratio(-y, -self.tilt)
        log_f = log_f + stirling(self.a) + stirling(self.b) - stirling(self.a + self.b)
        return torch.where(inner, (self.log_weight[..., 2:] + log_f).logsumexp(-1), atom)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One y for each law, (...)."""
        p = self.log_weight.exp()
        k = drawn_category(p, torch.rand(p.shape[:-1], generator=generator, device=p.device))
        j = (k - 2).clamp(min=0)[..., None]
        shapes = torch.stack([self.a.gather(-1, j)[..., 0], self.b.gather(-1, j)[..., 0]], -1)
        log_gamma = torch._standard_gamma(shapes, generator=generator).log()
        y = log_gamma[..., 0] - log_gamma[..., 1]
        return torch.where(k > 1, y, torch.where(k == 1, math.inf, -math.inf))


def log_ratio(y: Tensor, tilt: Tensor) -> Tensor:
    """log σ(y)/σ(tilt) of y and tilt (...), (...)."""
    d = y - tilt
    near = -torch.log1p((-tilt).sigmoid() * torch.expm1(-d.clamp(-1, 1)))
    return torch.where(d.abs() < 1, near, F.logsigmoid(y) - F.logsigmoid(tilt))


def spots(log_k: Tensor, tilt: Tensor, components: int) -> Tensor:
    """The numbers of a law to start from, (..., 2 + 3K).

    A parent of k + 1 spots of energy, each of which falls to the left with odds e^tilt, gets
    Beta(1 + km, 1 + k(1 − m)), m = σ(tilt), between the atoms, and the K laws lie around that.

    Args:
        log_k: (...) log of the number of spots.
        tilt: (...).
        components: K.
    """
    log_k = log_k.clamp(max=FINE)
    n = 1 + log_k.exp()[..., None]
    sides = torch.stack([F.softplus(tilt), F.softplus(-tilt)], -1)
    odds = (-n * sides).clamp(min=RAREST)
    apart = (
        torch.linspace(-0.7, 0.7, components).to(log_k) if components > 1 else log_k.new_zeros(1)
    )
    k = log_k[..., None] + apart
    log_a = F.softplus(k + F.logsigmoid(tilt)[..., None])
    log_b = F.softplus(k + F.logsigmoid(-tilt)[..., None])
    return torch.cat([odds, torch.zeros_like(k), log_a + log_b, log_a - log_b], -1)

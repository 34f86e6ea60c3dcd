r"""The compound Poisson law of nonnegative numbers: a Poisson number of exponential spots.

With N ~ Poisson(λ) spots of mean ε, x = Σ spots has an atom and a density,

    P(x = 0) = e^{−λ},    p(x) = e^{−λ−x/ε} √(λ/(xε)) I₁(2√(λx/ε)),    x > 0,

mean m = λε and variance 2λε²: the Tweedie law of power 3/2 (Jørgensen 1987, J. R. Stat. Soc. B
49, 127), that of energy which many small deposits add up to. Networks see u = log x − μ, which is
−∞ where x is 0; with r = u − log m, and ε and m in the units of e^u, the density of u is

    log f(u) = log(s/2) + log(e^{−s} I₁(s)) − λ (e^{r/2} − 1)²,    s = 2λ e^{r/2},

in which no large numbers cancel: the bracket comes from expm1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physgen.errors import DataError
from physgen.nn.hurdle import hits

__all__ = ["CompoundPoisson", "require_no_threshold", "spot_of"]

STEEP = 20.0
"""Of r, from which 1 is little beside e^r, and of log x/ε, or r if λ is large, where it is cut."""
TINY = -80.0
"""The least log s, below which I₁(s) leaves float32."""
LACKING = 100
"""Components below the least one above 0 that must be expected to speak of a threshold."""


class CompoundPoisson:
    """A Poisson number of exponential spots.

    Args:
        log_mean: (...) log m, of all spots together.
        log_spot: log ε, of one, of a shape that broadcasts.
    """

    def __init__(self, log_mean: Tensor, log_spot: Tensor) -> None:
        self.log_mean, self.log_spot = log_mean, log_spot
        self.log_rate = log_mean - log_spot

    def log_prob(self, u: Tensor) -> Tensor:
        """log p of u (...): log P(no spot) where it is −∞, 0 of NaN, else the log density of u."""
        hit, rate = hits(u), self.log_rate.exp()
        most = STEEP + self.log_rate.detach().neg().clamp(min=0)  # a mean of few spots is no scale
        r = (torch.where(hit, u, 0.0) - self.log_mean).minimum(most)
        log_s = (self.log_rate + r / 2 + math.log(2)).clamp(min=TINY)
        log_bessel = torch.special.i1e(log_s.exp()).log()
        root, half = (self.log_rate / 2).exp(), ((self.log_rate + r) / 2).exp()
        near = root * torch.expm1(r.clamp(max=STEEP) / 2)
        apart = torch.where(r < STEEP, near, half - root)
        density = log_s - math.log(2) + log_bessel - apart.square()
        return torch.where(hit, density, torch.where(u == -math.inf, -rate, 0.0))

    def sample(self, generator: torch.Generator) -> Tensor:
        """One u for each law, (...)."""
        spots = torch.poisson(self.log_rate.exp(), generator)
        energy = torch._standard_gamma(spots.clamp(min=1), generator=generator)
        return torch.where(spots > 0, energy.log() + self.log_spot, -math.inf)


def spot_of(x: Tensor) -> Tensor:
    """The mean spot that moments of rows x (n, ...) suggest, one number for all components, ().

    Half of variance over mean, of a component that varies little besides: at the first decile.

    Raises:
        DataError: no component varies.
    """
    x = x.flatten(1)
    mean = x.nanmean(0, dtype=torch.float64)
    variance = (x - mean.to(x.dtype)).square().nanmean(0, dtype=torch.float64)
    if not (variance > 0).any():
        raise DataError("head compound-poisson: expected x that varies, got the same in all rows")
    return (variance / (2 * mean))[variance > 0].quantile(0.1)


def require_no_threshold(x: Tensor, spot: Tensor) -> None:
    """Refuse rows x (n, ...) that lack what is just above 0, as below a readout threshold.

    Where a component is 0 with probability p = e^{−λ}, a part −p log p of it is single spots.

    Args:
        x: rows of data.
        spot: () the mean of one.

    Raises:
        DataError: such rows.
    """
    least = x[x > 0].min().double()
    zero = (x == 0).sum(0) / float(len(x))
    expected = -torch.xlogy(zero, zero).sum() * len(x) * -torch.expm1(-least / spot)
    if expected > LACKING:
        raise DataError(
            f"head compound-poisson: expected some {expected:,.0f} values of x between 0 and "
            f"{least:.3g}, got none: x has a readout threshold, which this law has not; take auto"
        )

r"""The denoiser x̂(z, λ, θ) ≈ E[x|z_λ, θ], and what else the field calls it.

One network F gives x̂; noise, score and velocity are linear images of it and of z:

    ε̂ = (z − α x̂)/σ,   ŝ = ∇ log p(z) = −ε̂/σ,   v̂ = α ε̂ − σ x̂

(the last from Salimans & Ho 2022, arXiv:2202.00512).
F does not have to learn what is known beforehand:

- spins: x̂ = tanh(α z/σ² + F), exact with F = 0 for independent spins of no mean;
- reals: x̂ = (αs²z + σ²m)/v + σs/√v F with v = α²s² + σ², exact with F = 0 for independent normal
  components of mean m(θ) and width s(θ), which are learnt: the preconditioning of Karras et al.
  (2022, arXiv:2206.00364), for what θ tells of x beforehand. They start at 0 and 1. F sees
  (z − αm)/√v, which has unit width at every λ and θ.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.blocks import FiLM, field_shape
from physgen.surrogates.diffusion.schedule import alpha_sigma, rows_like
from physgen.surrogates.diffusion.unet import Preset, UNet

__all__ = ["Denoiser", "Prediction", "convert"]

LARGEST = 6.0
"""Of |log s|."""
Prediction = Literal["x0", "epsilon", "score", "v"]


def convert(
    value: Tensor, z: Tensor, log_snr: Tensor, source: Prediction, target: Prediction
) -> Tensor:
    """One parameterisation of a denoiser as another.

    Args:
        value: (B, …) what a denoiser predicts, in the parameterisation `source`.
        z: (B, …) the noised x.
        log_snr: λ of z, broadcastable to it.
        source: what `value` is.
        target: what to return.
    """
    alpha, sigma = alpha_sigma(log_snr)
    match source:
        case "x0":
            x = value
        case "epsilon":
            x = (z - sigma * value) / alpha
        case "score":
            x = (z + sigma**2 * value) / alpha
        case "v":
            x = alpha * z - sigma * value
    epsilon = (z - alpha * x) / sigma
    match target:
        case "x0":
            return x
        case "epsilon":
            return epsilon
        case "score":
            return -epsilon / sigma
        case "v":
            return alpha * epsilon - sigma * x


class Denoiser(nn.Module):
    """x̂(z, λ, c).

    Args:
        law: what x is.
        preset: sizes of the network.
        given: components of c beside θ.
    """

    def __init__(self, law: Law, preset: Preset, given: int = 0) -> None:
        super().__init__()
        self.law = law
        channels, *grid = field_shape(law)
        self.spins = law.support == "spins"
        self.field = ((1 + self.spins + law.missing) * channels, *grid)
        condition = len(law.prior) + given
        self.net = UNet(law, self.field[0], channels, condition + 3, preset)
        if not self.spins:
            self.prior = FiLM(condition, math.prod(self.moment_shape))

    def forward(self, z: Tensor, log_snr: Tensor, c: Tensor, part: Tensor | None = None) -> Tensor:
        """x̂ of z (B, *x_shape) at λ (B,) given c (B, D), (B, *x_shape).

        Where components may be missing, F is told which are there: `part` (B, *x_shape).
        """
        alpha, sigma = alpha_sigma(log_snr)
        condition = torch.cat([c, torch.stack([log_snr / 8, alpha, sigma], 1)], 1)
        alpha, sigma = rows_like(alpha, z), rows_like(sigma, z)
        if self.spins:
            odds = alpha * z / sigma**2
            return torch.tanh(odds + self._net(torch.stack([z, odds.tanh()], 1), z, condition))
        m, s = self.moments(c)
        v = alpha**2 * s**2 + sigma**2
        seen = (z - alpha * m) / v.sqrt()
        if self.law.missing:
            there = torch.ones_like(z) if part is None else part.to(z.dtype)
            seen = torch.cat([(seen * there).flatten(1), there.flatten(1)], 1)
        f = self._net(seen, z, condition)
        return (alpha * s**2 * z + sigma**2 * m) / v + sigma * s / v.sqrt() * f

    def _net(self, seen: Tensor, like: Tensor, condition: Tensor) -> Tensor:
        """F of what is seen, of the shape of z."""
        return (
            self.net(seen.reshape(len(seen), *self.field), condition).float().reshape(like.shape)
        )

    def moments(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """m and s of reals given c (B, D), (B, …) each, broadcastable to x."""
        gain, shift = self.prior.coefficients(c)
        s = (LARGEST * torch.tanh((gain - 1) / LARGEST)).exp()
        shape = (len(c), *self.moment_shape)
        return shift.reshape(shape), s.reshape(shape)

    @property
    def moment_shape(self) -> tuple[int, ...]:
        """Components of x that have an m and s of their own, an axis each of as many or of 1.

        All do but those that shifts make alike, and the sites of a lattice that declares no axes.
        """
        law, alike = self.law, self.law.shifted if self.law.axes else self.law.spatial
        return tuple(1 if axis in alike else n for axis, n in enumerate(law.x_shape))

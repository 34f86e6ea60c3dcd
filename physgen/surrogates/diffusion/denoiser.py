r"""The denoiser x̂(z, λ, θ) ≈ E[x|z_λ, θ], and what else the field calls it.

One network F gives x̂; noise, score and velocity are linear images of it and of z:

    ε̂ = (z − α x̂)/σ,   ŝ = ∇ log p(z) = −ε̂/σ,   v̂ = α ε̂ − σ x̂

(the last from Salimans & Ho 2022, arXiv:2202.00512).
F does not have to learn what is known beforehand:

- spins: x̂ = tanh(α z/σ² + F), exact with F = 0 for independent spins of no mean;
- reals of unit variance: x̂ = α z + σ F, exact with F = 0 for independent normal components: the
  preconditioning of Karras et al. (2022, arXiv:2206.00364) in a variance-preserving process.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nets import field_shape
from physgen.surrogates.diffusion.schedule import alpha_sigma, rows
from physgen.surrogates.diffusion.unet import Preset, UNet

__all__ = ["Denoiser", "Prediction", "convert"]

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
    """

    def __init__(self, law: Law, preset: Preset) -> None:
        super().__init__()
        self.law = law
        channels = field_shape(law)[0]
        self.spins = law.support == "spins"
        self.net = UNet(law, (1 + self.spins) * channels, channels, len(law.prior) + 3, preset)

    def forward(self, z: Tensor, log_snr: Tensor, c: Tensor) -> Tensor:
        """x̂ of z (B, *x_shape) at λ (B,) given c (B, D), (B, *x_shape)."""
        alpha, sigma = alpha_sigma(log_snr)
        condition = torch.cat([c, torch.stack([log_snr / 8, alpha, sigma], 1)], 1)
        alpha, sigma = rows(alpha, z), rows(sigma, z)
        odds = alpha * z / sigma**2
        shape = (len(z), *field_shape(self.law))
        seen = [z, odds.tanh()] if self.spins else [z]
        field = torch.cat([v.reshape(shape) for v in seen], 1)
        f = self.net(field, condition).float().reshape(z.shape)
        return torch.tanh(odds + f) if self.spins else alpha * z + sigma * f

"""Building blocks of networks, for x as a field: (B, channels, rows, columns).

A lattice (L, W) is a field of one channel; a vector (d,) is a field of d channels on a single
site, where every convolution is a matrix product. So one code serves both. On a torus the
convolutions are circular. θ enters by FiLM: each channel is scaled and shifted by a function of c
(Perez et al. 2018, arXiv:1709.07871).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from physgen.law import Law

__all__ = ["FiLM", "ResidualBlock", "as_field", "convolution", "field_shape"]


def field_shape(law: Law) -> tuple[int, int, int]:
    """Channels, rows and columns of x as a field.

    A matrix is a field of one channel, spins of another shape are a row of sites, and all else is
    a single site with a channel for each component.
    """
    if len(law.x_shape) == 2:
        return (1, *law.x_shape)
    return (1, 1, law.size) if law.support == "spins" else (law.size, 1, 1)


def as_field(law: Law, x: Tensor) -> Tensor:
    """X (B, *x_shape) as a field."""
    return x.reshape(len(x), *field_shape(law))


def convolution(inputs: int, outputs: int, law: Law, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the grid: circular on a torus, 1×1 on a single site."""
    if field_shape(law)[1:] == (1, 1):
        kernel = 1
    mode: Literal["circular", "zeros"] = "circular" if law.periodic else "zeros"
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode=mode)


class FiLM(nn.Module):
    """h ← h (1 + γ(c)) + δ(c), the identity at the start of training."""

    def __init__(self, condition: int, channels: int, hidden: int = 64) -> None:
        super().__init__()
        last = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(condition, hidden), nn.SiLU(), last)

    def coefficients(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """1 + γ and δ for a condition (..., D), (..., C) each."""
        gain, shift = self.net(c).chunk(2, dim=-1)
        return 1 + gain, shift

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Field h (B, C, H, W) and condition c (B, D) → (B, C, H, W)."""
        gain, shift = self.coefficients(c)
        return h * gain[:, :, None, None] + shift[:, :, None, None]


class ResidualBlock(nn.Module):
    """h ← h + conv(SiLU(FiLM(conv(SiLU(h)), c)))."""

    def __init__(self, channels: int, condition: int, law: Law) -> None:
        super().__init__()
        self.first = convolution(channels, channels, law)
        self.film = FiLM(condition, channels)
        self.second = convolution(channels, channels, law)
        self.activation = nn.SiLU()

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Field h (B, C, H, W) and condition c (B, D) → (B, C, H, W)."""
        u = self.film(self.first(self.activation(h)), c)
        return h + self.second(self.activation(u))

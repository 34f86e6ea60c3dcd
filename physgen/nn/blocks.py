"""Building blocks of networks, for x as a field: (B, channels, rows, columns).

A lattice (L, W) is a field of one channel; a vector (d,) is a field of d channels on a single
site, where every convolution is a matrix product. So one code serves both. On a torus the
convolutions are circular. θ enters by FiLM: each channel is scaled and shifted by a function of c
(Perez et al. 2018, arXiv:1709.07871).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.hurdle import shown
from physgen.nn.transforms import finite_part

__all__ = [
    "FiLM",
    "Refine",
    "ResidualBlock",
    "TorusConv2d",
    "as_field",
    "coarsen",
    "convolution",
    "field_shape",
    "seen",
    "seen_channels",
    "stages_of",
]


def field_shape(law: Law) -> tuple[int, int, int]:
    """Channels, rows and columns of x as a field.

    A matrix is a field of one channel, spins of another shape are a row of sites, and all else,
    mixed x included, is a single site with a channel for each component.
    """
    if len(law.x_shape) == 2 and law.support != "mixed":
        return (1, *law.x_shape)
    return (1, 1, law.size) if law.support == "spins" else (law.size, 1, 1)


def as_field(law: Law, x: Tensor) -> Tensor:
    """X (B, *x_shape) as a field."""
    return x.reshape(len(x), *field_shape(law))


def seen(law: Law, z: Tensor) -> Tensor:
    """z (B, *x_shape) as networks see it: a field, of hits and logarithms where x is a hurdle.

    A component that does not count is 0; where x may be missing a mask says which count.
    """
    field = as_field(law, z)
    if law.support == "nonnegative":
        return shown(field)
    value, part = finite_part(field)
    return torch.cat([value, part.to(value.dtype)], 1) if law.missing else value


def seen_channels(law: Law) -> int:
    """Channels of `seen`."""
    return field_shape(law)[0] * (1 + (law.support == "nonnegative" or law.missing))


class Wrap(torch.autograd.Function):
    """A torus cut open: (B, C, H, W) → (B, C, H + 2k, W + 2k), each side repeating the other.

    `F.pad` does the same, but its backward pass costs more than the convolution it is for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        """x (B, C, H, W) → (B, C, H + 2k, W + 2k): columns first, then rows."""
        ctx.k = k
        x = torch.cat([x[..., -k:], x, x[..., :k]], -1)
        return torch.cat([x[..., -k:, :], x, x[..., :k, :]], -2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Its transpose, (B, C, H, W)."""
        return fold(gradient, ctx.k), None


class Fold(torch.autograd.Function):
    """The transpose of `Wrap`: (B, C, H + 2k, W + 2k) → (B, C, H, W).

    Being a function of its own it has a derivative, as the gradient of a gradient needs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        """x (B, C, H + 2k, W + 2k) → (B, C, H, W): what was repeated is added, rows first."""
        ctx.k = k
        rows = x[..., k:-k, :].clone()
        rows[..., -k:, :] += x[..., :k, :]
        rows[..., :k, :] += x[..., -k:, :]
        folded = rows[..., k:-k].clone()
        folded[..., -k:] += rows[..., :k]
        folded[..., :k] += rows[..., -k:]
        return folded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Its transpose, (B, C, H + 2k, W + 2k)."""
        return wrap(gradient, ctx.k), None


wrap: Callable[[Tensor, int], Tensor] = Wrap.apply
fold: Callable[[Tensor, int], Tensor] = Fold.apply


class TorusConv2d(nn.Conv2d):
    """A convolution on a torus; its kernel is odd."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C′, H, W)."""
        k = self.kernel_size[0] // 2
        return F.conv2d(wrap(x, k) if k else x, self.weight, self.bias)


class SiteConv2d(nn.Conv2d):
    """A convolution of a single site, as the matrix product that it is: some times faster."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1) → (B, C′, 1, 1)."""
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class Refine(nn.ConvTranspose2d):
    """A transposed convolution that steps by its own size, as the matrix product that it is."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, H, W) → (B, C′, H i, W j), channels last in memory, as convolutions like it."""
        (b, _, h, w), (_, c, i, j) = x.shape, self.weight.shape
        weight, bias = self.weight.permute(2, 3, 1, 0).flatten(0, 2), self.bias
        sites = F.linear(x.movedim(1, -1), weight, bias if bias is None else bias.repeat(i * j))
        field = sites.view(b, h, w, i, j, c).transpose(2, 3).reshape(b, h * i, w * j, c)
        return field.movedim(-1, 1)


def coarsen(inputs: int, outputs: int, law: Law, ratio: tuple[int, int]) -> nn.Conv2d:
    """A convolution to a grid that is coarser by a ratio."""
    site = field_shape(law)[1:] == (1, 1)
    return (SiteConv2d if site else nn.Conv2d)(inputs, outputs, ratio, ratio)


def convolution(inputs: int, outputs: int, law: Law, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the grid: circular on a torus, 1×1 on a single site."""
    if field_shape(law)[1:] == (1, 1):
        return SiteConv2d(inputs, outputs, 1)
    if law.periodic:
        return TorusConv2d(inputs, outputs, kernel)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def stages_of(rows: int, columns: int, stages: int) -> Tensor:
    """The stage of each site, (rows·columns,), from 0.

    Each cut splits the sites that are left into two colours, and makes a stage of one: the
    checkerboard, then rows of the rest (again a checkerboard, turned by 45°), and so on.

    Args:
        rows: rows of the lattice.
        columns: columns of the lattice.
        stages: number of stages at most; 0 cuts until one site is left.
    """
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    left = torch.ones(rows, columns, dtype=torch.bool)
    cuts: list[Tensor] = []
    for cut in itertools.count():
        if left.sum() == 1 or len(cuts) == stages - 1:
            break
        step = 2 ** (cut // 2)
        colour = i // step + (j // step if cut % 2 == 0 else 0)
        odd = left & (colour % 2 == 1)
        if odd.any():
            cuts.append(odd)
            left &= ~odd
    stage = torch.zeros(rows, columns, dtype=torch.long)
    for number, sites in enumerate(reversed(cuts), 1):
        stage[sites] = number
    return stage.flatten()


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

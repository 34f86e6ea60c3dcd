"""Building blocks of networks, for x as a field (B, channels, *grid) of one to three axes.

A lattice (L, W) is a field of one channel; where x has an axis of channels, that comes first; a
vector (d,) is a field of d channels on a single site, where every convolution is a matrix product.
So one code serves all. Convolutions are circular along periodic axes, and see zeros beyond the
ends of open ones. θ enters by FiLM: each channel is scaled and shifted by a function of c
(Perez et al. 2018, arXiv:1709.07871); and where shifts are no symmetry, by `SiteTerms`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.hurdle import shown
from physgen.nn.torus import (
    chosen_rows,
    fields_of,
    fourier_basis,
    has_rows_last,
    site_product,
    with_rows_last,
)
from physgen.nn.transforms import finite_part

__all__ = [
    "CONVOLUTIONS",
    "MEMORY_FORMATS",
    "SITE",
    "TRANSPOSED",
    "Coarsen",
    "Convolution",
    "FiLM",
    "Refine",
    "ResidualBlock",
    "ResidualLayers",
    "ResidualMLP",
    "SiteTerms",
    "as_field",
    "broadcast",
    "coarsen",
    "coarser",
    "convolution",
    "field_shape",
    "halved",
    "periodic_axes",
    "seen",
    "seen_channels",
    "stages_of",
]

CONVOLUTIONS: dict[int, Callable[..., Any]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., Any]] = {
    1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d,
}  # fmt: skip
CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d,
}  # fmt: skip
"""By the number of axes; with these convolutions are fastest on CPUs."""
PLANES, FEW = 4, 32
"""Numbers that θ says of each site, and the hidden units behind them."""
SITE = (1, 1)
"""The grid of a vector."""


def field_shape(law: Law) -> tuple[int, ...]:
    """Channels and grid of x as a field, (channels, *grid).

    Of a lattice they are its axes. Spins of another shape are a row of sites, and all else, mixed
    x included, is a single site with a channel for each component.
    """
    if law.spatial:
        grid = tuple(law.x_shape[axis] for axis in law.spatial)
        return (law.size // math.prod(grid), *grid)
    return (1, 1, law.size) if law.support == "spins" else (law.size, *SITE)


def periodic_axes(law: Law) -> tuple[bool, ...]:
    """Which axes of the grid of x are periodic."""
    if not law.spatial:
        return (law.periodic, law.periodic)
    return tuple(law.geometry[axis] == "periodic" for axis in law.spatial)


def broadcast(coefficients: Tensor, field: Tensor) -> Tensor:
    """Numbers of each channel (B, C) so that they broadcast to a field (B, C, *grid)."""
    return coefficients.reshape(*coefficients.shape, *[1] * (field.ndim - 2))


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
    """A torus cut open: some axes of n sites get n + 2k, each end repeating the other.

    `F.pad` does the same, but its backward pass costs more than the convolution it is for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, axes: tuple[int, ...]) -> Tensor:
        """x (B, C, *grid), by k along some axes, the last one first."""
        ctx.k, ctx.axes = k, axes
        for axis in reversed(axes):
            n = x.shape[axis]
            x = torch.cat([x.narrow(axis, n - k, k), x, x.narrow(axis, 0, k)], axis)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Its transpose, (B, C, *grid)."""
        return fold_of(gradient, ctx.k, ctx.axes), None, None


class Fold(torch.autograd.Function):
    """The transpose of `Wrap`.

    Being a function of its own it has a derivative, as the gradient of a gradient needs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, axes: tuple[int, ...]) -> Tensor:
        """What was repeated is added, (B, C, *grid), the first axis first."""
        ctx.k, ctx.axes = k, axes
        for axis in axes:
            n = x.shape[axis] - 2 * k
            inner = x.narrow(axis, k, n).clone()
            inner.narrow(axis, n - k, k).add_(x.narrow(axis, 0, k))
            inner.narrow(axis, 0, k).add_(x.narrow(axis, n + k, k))
            x = inner
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Its transpose, as wide as what was folded, (B, C, *grid)."""
        return wrap_of(gradient, ctx.k, ctx.axes), None, None


wrap_of: Callable[[Tensor, int, tuple[int, ...]], Tensor] = Wrap.apply
fold_of: Callable[[Tensor, int, tuple[int, ...]], Tensor] = Fold.apply


def wrap(x: Tensor, k: int, axes: tuple[int, ...] | None = None) -> Tensor:
    """A field (B, C, *grid) cut open, repeating k sites at each end of some axes, or of all."""
    return wrap_of(x, k, tuple(range(2, x.ndim)) if axes is None else axes)


class Convolution(nn.Module):
    """A convolution: circular along periodic axes, zeros beyond the ends of open ones.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: its side, odd.
        periodic: of each axis of the grid, whether it is so.
        stride: sites from one output to the next: 2 makes of n sites ⌈n/2⌉.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, periodic: tuple[bool, ...], stride: int = 1
    ) -> None:
        super().__init__()
        made = CONVOLUTIONS[len(periodic)](inputs, outputs, kernel)
        self.weight: nn.Parameter = made.weight
        self.bias: nn.Parameter = made.bias
        half, self.stride = kernel // 2, stride
        self.overlap, self.convolve = half, CONVOLVE[len(periodic)]
        self.circular = stride == 1 and all(periodic)
        self.wrapped = tuple(2 + i for i, along in enumerate(periodic) if along and half)
        self.padding = tuple(0 if along else half for along in periodic)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *grid) → (B, C′, *grid), or a coarser grid."""
        kernel = tuple(self.weight.shape[2:])
        if self.circular and (basis := fourier_basis(x, kernel)):
            return basis.convolve(x, self.weight, self.bias)
        x = wrap(x, self.overlap, self.wrapped) if self.wrapped else x
        return self.convolve(x, self.weight, self.bias, self.stride, self.padding)


class SiteConv2d(nn.Conv2d):
    """A convolution of a single site, as the matrix product that it is: some times faster."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1) → (B, C′, 1, 1)."""
        (b, c, *_), o = x.shape, self.out_channels
        return F.linear(x.reshape(b, c), self.weight.view(o, c), self.bias).view(b, o, *SITE)


class Coarsen(nn.Module):
    """A convolution that steps by its own size, as the matrix product that it is.

    Args:
        inputs: channels in.
        outputs: channels out.
        ratio: sites that become one, along each axis.
    """

    def __init__(self, inputs: int, outputs: int, ratio: tuple[int, ...]) -> None:
        super().__init__()
        made = CONVOLUTIONS[len(ratio)](inputs, outputs, ratio, ratio)
        self.weight: nn.Parameter = made.weight
        self.bias: nn.Parameter = made.bias
        self.ratio, self.convolve = ratio, CONVOLVE[len(ratio)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *grid) → (B, C′, *coarser)."""
        if not has_rows_last(x):
            return self.convolve(x, self.weight, self.bias, self.ratio)
        (b, _, *grid), r = x.shape, len(self.ratio)
        grid = [n // k for n, k in zip(grid, self.ratio, strict=True)]
        sides = itertools.chain(*zip(grid, self.ratio, strict=True))
        order = (*range(0, 2 * r, 2), 2 * r, *range(1, 2 * r, 2), 2 * r + 1)
        cells = with_rows_last(x).reshape(*sides, -1, b).permute(order).reshape(*grid, -1, b)
        return fields_of(site_product(cells, self.weight.flatten(1), self.bias))


class Refine(nn.Module):
    """A transposed convolution that steps by its own size, as the matrix product that it is.

    Args:
        inputs: channels in.
        outputs: channels out.
        ratio: sites that a site becomes, along each axis.
    """

    def __init__(self, inputs: int, outputs: int, ratio: tuple[int, ...]) -> None:
        super().__init__()
        made = TRANSPOSED[len(ratio)](inputs, outputs, ratio, ratio)
        self.weight: nn.Parameter = made.weight
        self.bias: nn.Parameter = made.bias
        r = len(ratio)
        self.keeps = math.prod(ratio) == 1
        pairs = [(axis, r + axis) for axis in range(r)]
        self.rows_order = (*itertools.chain(*pairs), 2 * r, 2 * r + 1)
        self.order = (0, *(i for axis in range(r) for i in (1 + axis, 1 + r + axis)), 2 * r + 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *grid) → (B, C′, *finer), in memory rows last as x has them, else channels."""
        (b, _, *grid), (i, c, *ratio) = x.shape, self.weight.shape
        if self.keeps and math.prod(grid) == 1:
            return F.linear(x.reshape(b, i), self.weight.view(i, c).t(), self.bias).view(
                b, c, *grid
            )
        weight = self.weight.movedim((0, 1), (-1, -2)).flatten(0, -2)
        finer = [n * k for n, k in zip(grid, ratio, strict=True)]
        if has_rows_last(x):
            sites = site_product(with_rows_last(x), weight).view(*grid, *ratio, c, b)
            field = sites.permute(*self.rows_order).reshape(*finer, c, b) + self.bias[:, None]
            return fields_of(field)
        sites = F.linear(x.movedim(1, -1), weight, self.bias.repeat(math.prod(ratio)))
        field = sites.view(b, *grid, *ratio, c).permute(self.order)
        return field.reshape(b, *finer, c).movedim(-1, 1)


def halved(grid: tuple[int, ...]) -> tuple[int, ...]:
    """By how much each axis of a grid is made coarser: 2 where it is even, else 1."""
    return tuple(1 + (n % 2 == 0) for n in grid)


def coarser(grid: tuple[int, ...], ratio: tuple[int, ...]) -> tuple[int, ...]:
    """A grid whose axes are shorter by a ratio."""
    return tuple(n // r for n, r in zip(grid, ratio, strict=True))


def coarsen(inputs: int, outputs: int, law: Law, ratio: tuple[int, ...]) -> nn.Module:
    """A convolution to a grid that is coarser by a ratio."""
    if field_shape(law)[1:] == SITE:
        return SiteConv2d(inputs, outputs, 1)
    return Coarsen(inputs, outputs, ratio)


def convolution(
    inputs: int, outputs: int, law: Law, kernel: int = 3
) -> Convolution | Coarsen | SiteConv2d:
    """A convolution that keeps the grid: circular on a torus, 1×1 on a single site."""
    if field_shape(law)[1:] == SITE:
        return SiteConv2d(inputs, outputs, 1)
    if kernel == 1:
        return Coarsen(inputs, outputs, (1,) * len(periodic_axes(law)))
    return Convolution(inputs, outputs, kernel, periodic_axes(law))


def stages_of(grid: tuple[int, ...], stages: int) -> Tensor:
    """The stage of each site of a grid, (sites,), from 0.

    Each cut splits the sites that are left into two colours, and makes a stage of one: the
    checkerboard, then that of all axes but the last, and so on to rows of the rest; then again, in
    steps of two (of a lattice a checkerboard, turned by 45° each time).

    Args:
        grid: sites along each axis.
        stages: number of stages at most; 0 cuts until one site is left.
    """
    places = torch.meshgrid(*[torch.arange(n) for n in grid], indexing="ij")
    left = torch.ones(grid, dtype=torch.bool)
    cuts: list[Tensor] = []
    for cut in itertools.count():
        if left.sum() == 1 or len(cuts) == stages - 1:
            break
        doublings, fewer = divmod(cut, len(grid))
        colour = sum(place // 2**doublings for place in places[: len(grid) - fewer])
        odd = left & (colour % 2 == 1)
        if odd.any():
            cuts.append(odd)
            left &= ~odd
    stage = torch.zeros(grid, dtype=torch.long)
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
        """Field h (B, C, *grid) and condition c (B, D) → (B, C, *grid)."""
        gain, shift = self.coefficients(c)
        if has_rows_last(h):
            return fields_of(torch.addcmul(shift.t().contiguous(), with_rows_last(h), gain.t()))
        return torch.addcmul(broadcast(shift, h), h, broadcast(gain, h))


class SiteTerms(nn.Module):
    """h ← h + W·p(c), p being some numbers of each site: a convolution cannot tell sites apart.

    Along axes whose shifts are symmetries p is one for all sites; where all are, and where x
    declares no axes, there is none.

    Args:
        condition: components of c.
        channels: channels of h.
        law: what x is.
    """

    def __init__(self, condition: int, channels: int, law: Law) -> None:
        super().__init__()
        alike = [axis in law.shifted for axis in law.spatial]
        self.net: nn.Module | None = None
        if not law.axes or all(alike):
            return
        grid = zip(field_shape(law)[1:], alike, strict=True)
        self.shape = (PLANES, *(1 if same else n for n, same in grid))
        last = nn.Linear(FEW, math.prod(self.shape))
        self.net = nn.Sequential(nn.Linear(condition, FEW), nn.SiLU(), last)
        self.mix = CONVOLUTIONS[len(alike)](PLANES, channels, 1)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Field h (B, C, *grid) and condition c (B, D) → (B, C, *grid)."""
        return h if self.net is None else h + self.mix(self.net(c).view(len(c), *self.shape))


class ResidualBlock(nn.Module):
    """h ← h + conv(SiLU(FiLM(conv(SiLU(h)), c)))."""

    def __init__(self, channels: int, condition: int, law: Law) -> None:
        super().__init__()
        self.first = convolution(channels, channels, law)
        self.film = FiLM(condition, channels)
        self.second = convolution(channels, channels, law)
        self.activation = nn.SiLU()

    def forward(self, h: Tensor, c: Tensor, which: Tensor | None = None) -> Tensor:
        """(B, C, *grid).

        Args:
            h: fields (B, C, *grid), or some that have several conditions each.
            c: conditions (B, D).
            which: the field of each condition, (B,); None for each its own.
        """
        u = self.first(self.activation(h))
        if which is not None:
            h, u = chosen_rows(h, which), chosen_rows(u, which)
        return h + self.second(self.activation(self.film(u, c)))


class ResidualLayers(nn.Module):
    """The hidden layers of a residual network of a vector: h ← h + W SiLU(W′ SiLU(h)).

    Args:
        inputs: components I.
        hidden: units of a layer, H.
        blocks: residual blocks of two layers.
    """

    def __init__(self, inputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(blocks)
        )

    def forward(self, c: Tensor) -> Tensor:
        """c (..., I) → h (..., H)."""
        h = self.enter(c)
        for block in self.blocks:
            h = h + block(h)
        return h


class ResidualMLP(nn.Module):
    """A residual network of a vector, 0 at the start of training.

    Args:
        inputs: components I.
        outputs: components O.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.layers = ResidualLayers(inputs, hidden, blocks)
        self.leave = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, c: Tensor) -> Tensor:
        """c (..., I) → (..., O)."""
        return self.leave(F.silu(self.layers(c)))

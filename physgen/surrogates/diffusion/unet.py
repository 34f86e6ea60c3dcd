"""The network of both kernels: a small U-Net with attention, for fields of any size.

Down to coarser grids, up again, with a skip connection at each (Ronneberger et al. 2015,
arXiv:1505.04597); residual blocks with FiLM of the condition; self-attention on the coarsest grid
(Ho et al. 2020, arXiv:2006.11239), which sees the whole field, its mean included. Convolutions are
circular on a torus. No weight is tied to the number of sites, so that a network trained at one
size runs at another. An axis is halved where it is even; a single site has no coarser grid, and
there the U-Net is a residual network of matrix products.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import (
    MEMORY_FORMATS,
    SITE,
    Refine,
    ResidualBlock,
    SiteTerms,
    coarsen,
    coarser,
    convolution,
    field_shape,
    halved,
)
from physgen.nn.torus import FEWEST_ROWS

__all__ = ["PRESETS", "Attention", "Preset", "UNet", "preset_of"]


class Preset(NamedTuple):
    """Sizes of a network.

    Attributes:
        channels: channels on each grid, fine to coarse.
        blocks: residual blocks on each grid on the way down, and as many on the way up.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]


MOST_SITES = 256
"""Of the coarsest grid of a field that declares its axes, where they are even."""
PRESETS = {
    "small": Preset((24, 48), (1, 1)),
    "medium": Preset((32, 64), (1, 1)),
    "large": Preset((64, 128, 128), (2, 2, 2)),
    "wide": Preset((128,), (2,)),
}


def preset_of(law: Law, name: str, grids: int = 0) -> Preset:
    """The sizes of a name; ``auto`` is wide where x is a single site, and small elsewhere.

    There are so many `grids`, or as many as the name says; then, where x declares axes, a large
    grid has further, coarser ones, for attention sees all sites.
    """
    grid = field_shape(law)[1:]
    if name == "auto":
        name = "wide" if grid == SITE else "small"
    channels, blocks = PRESETS[name]
    if not grids:
        grids = len(channels)
        for _ in channels[1:]:
            grid = coarser(grid, halved(grid))
        while law.axes and math.prod(grid) > MOST_SITES and max(halved(grid)) > 1:
            grid, grids = coarser(grid, halved(grid)), grids + 1
    return Preset(*((*each, *grids * each[-1:])[:grids] for each in (channels, blocks)))


class Attention(nn.Module):
    """h ← h + self-attention over all sites (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, *grid) → the same."""
        sites = h.flatten(2).transpose(1, 2)
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm(sites)).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return h + self.out(seen).transpose(1, 2).reshape(h.shape)


class UNet(nn.Module):
    """A field of some channels and a condition to a field of others.

    Args:
        law: what x is: its grid and whether it is a torus.
        inputs: channels in.
        outputs: channels out.
        condition: numbers in the condition.
        preset: sizes.
    """

    def __init__(
        self, law: Law, inputs: int, outputs: int, condition: int, preset: Preset
    ) -> None:
        super().__init__()
        grid = field_shape(law)[1:]
        self.enter = convolution(inputs, preset.channels[0], law)
        self.level = GridLevel(law, grid, condition, preset)
        self.leave = convolution(preset.channels[0], outputs, law)
        nn.init.zeros_(self.leave.weight)
        self.places = SiteTerms(condition, preset.channels[0], law)
        self.format = MEMORY_FORMATS[len(grid)]
        # torch's stubs do not know this call
        self.to(memory_format=self.format)  # type: ignore[call-overload]

    def forward(self, field: Tensor, condition: Tensor, which: Tensor | None = None) -> Tensor:
        """(B, outputs, *grid).

        What the condition does not enter is computed once for all conditions of a field.

        Args:
            field: (B, inputs, *grid), or some that have several conditions each.
            condition: (B, condition).
            which: the field of each condition, (B,); None for each its own.
        """
        if which is not None and (self.places.net or len(field) < FEWEST_ROWS):
            field, which = field[which], None
        h = self.enter(field.contiguous(memory_format=self.format))
        return self.leave(F.silu(self.level(self.places(h, condition), condition, which)))


class GridLevel(nn.Module):
    """One grid, and through it all coarser ones."""

    def __init__(self, law: Law, grid: tuple[int, ...], condition: int, preset: Preset) -> None:
        super().__init__()
        channels, blocks = preset.channels[0], preset.blocks[0]

        def block() -> ResidualBlock:
            return ResidualBlock(channels, condition, law)

        halves = halved(grid)
        self.deeper = len(preset.channels) > 1 and max(halves) > 1
        self.before = nn.ModuleList(block() for _ in range(blocks))
        self.after = nn.ModuleList(block() for _ in range(blocks))
        if not self.deeper:
            self.middle = Attention(channels) if max(grid) > 1 else nn.Identity()
            return
        rest = Preset(preset.channels[1:], preset.blocks[1:])
        self.down = coarsen(channels, rest.channels[0], law, halves)
        self.inner = GridLevel(law, coarser(grid, halves), condition, rest)
        self.up = Refine(rest.channels[0], channels, halves)

    def forward(self, h: Tensor, condition: Tensor, which: Tensor | None = None) -> Tensor:
        """(B, C, *grid) → the same, or that of the field of each condition."""
        for block in self.before:
            h, which = block(h, condition, which), None
        h = h + self.up(self.inner(self.down(h), condition)) if self.deeper else self.middle(h)
        for block in self.after:
            h = block(h, condition)
        return h

"""The chain of a long x: positions on a grid, each drawn from a window of earlier ones.

Positions are drawn in raster order, channel after channel. The *window* of a site are the nearest
earlier positions of its own channel, and the nearest ones on all sides of the channels before it.
Where an axis is periodic it closes: at the last rows the window holds the first ones too.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from physgen.nn.affine import Grid
from physgen.surrogates.autoregressive.chain import ChainPart

__all__ = ["nearest_offsets", "window_parts"]


def nearest_offsets(shape: tuple[int, ...], count: int) -> Tensor:
    """The nearest steps to earlier positions in raster order, nearest first, (count, rank).

    Args:
        shape: positions along each axis, over which no step leads.
        count: how many, at most.
    """
    rank = len(shape)
    radius = count if rank == 1 else math.ceil(2 * (count + 1) ** (1 / rank))
    ranges = (range(-min(n - 1, radius), min(n - 1, radius) + 1) for n in shape)
    past = [step for step in itertools.product(*ranges) if step < (0,) * rank]
    past.sort(key=lambda step: (sum(i * i for i in step), step))
    return torch.tensor(past[:count] or [(-1,) * rank])


def shifted(grid: Grid, steps: Tensor) -> Tensor:
    """The position that each step (F, rank) leads to from each one, n beyond an edge, (n, F)."""
    size = torch.tensor(grid.shape)
    at = torch.cartesian_prod(*(torch.arange(k) for k in grid.shape)).view(-1, 1, len(size))
    to = at + steps
    to = torch.where(torch.tensor(grid.periodic), to % size, to)
    inside = ((to >= 0) & (to < size)).all(-1)
    stride = torch.tensor([math.prod(grid.shape[i + 1 :]) for i in range(len(size))])
    return torch.where(inside, (to * stride).sum(-1), grid.positions)


def window_parts(grid: Grid, count: int) -> list[ChainPart]:
    """One part of the chain for each channel.

    Args:
        grid: the positions.
        count: nearest earlier positions that a site is drawn from, F; on a periodic grid as many
            on the other side, where they are earlier.
    """
    n, none = grid.positions, grid.channels * grid.positions
    past = nearest_offsets(grid.shape, count)
    both, here = torch.cat([past, -past]), torch.zeros(1, len(grid.shape), dtype=torch.long)
    own = shifted(grid, both if any(grid.periodic) else past)
    own = torch.where(own < torch.arange(n)[:, None], own, n)
    around = shifted(grid, torch.cat([here, both]))
    parts = []
    for channel in range(grid.channels):
        tables = [(around, earlier) for earlier in range(channel)] + [(own, channel)]
        parents = torch.cat([torch.where(t < n, t + k * n, none) for t, k in tables], 1)
        sites = torch.arange(n) + channel * n
        parts.append(ChainPart(sites, parents, parents.min(1).values))
    return parts

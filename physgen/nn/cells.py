r"""A network over the cells of a detector: three axes, layers first, each open or periodic.

A cell's features h (C of them) go through a residual network of its own, with weights shared by
all cells. In each block a cell also sees the sum of its neighbours along each axis, and of its
layer and ring (the place along the first and the last axis) the mean over the second, mixed over
all layers and rings by one matrix (Tolstikhin et al. 2021, arXiv:2105.01601). What tells cells
apart beforehand is added at the start.

Features lie last in memory, so that all but the sums are products of matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.blocks import FiLM, ResidualMLP

__all__ = ["CellNet", "RingProfile"]

RATE, BATCH, PASSES, FEWEST, MOST = 3e-3, 256, 8, 30, 1500
"""Of the fit of a profile: first rate, rows of a step, passes over all rows, and steps."""
TOLD = 4
"""Numbers that a cell tells its neighbours."""


class CellNet(nn.Module):
    """Numbers of cells and a condition to other numbers of cells, 0 at the start of training.

    Args:
        grid: layers, and the two axes of a layer.
        periodic: whether each axis is.
        inputs: numbers of a cell.
        outputs: numbers of a cell, out.
        condition: components of the condition.
        channels: features of a cell, C.
        blocks: residual blocks.
    """

    def __init__(
        self,
        grid: tuple[int, ...],
        periodic: tuple[bool, ...],
        inputs: int,
        outputs: int,
        condition: int,
        channels: int = 16,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        layers, _, rings = grid
        self.enter = nn.Linear(inputs, channels)
        self.place = nn.Parameter(torch.zeros(*grid, channels))
        self.blocks = nn.ModuleList(
            CellBlock(layers * rings, channels, condition, periodic) for _ in range(blocks)
        )
        self.leave = nn.Linear(channels, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def features(self, cells: Tensor, condition: Tensor) -> Tensor:
        """Cells (B, L, A, R, I) and a condition (B, D) → h (B, L, A, R, C)."""
        h = self.enter(cells) + self.place
        for block in self.blocks:
            h = block(h, condition)
        return F.silu(h)

    def forward(self, cells: Tensor, condition: Tensor) -> Tensor:
        """Cells (B, L, A, R, I) and a condition (B, D) → (B, L, A, R, outputs)."""
        return self.leave(self.features(cells, condition))


class RingProfile(nn.Module):
    """How a condition says that each layer is shared out among its rings.

    Args:
        layers: of the detector.
        rings: places along the last axis.
        condition: components of the condition.
        hidden: units of the network.
    """

    def __init__(self, layers: int, rings: int, condition: int, hidden: int = 96) -> None:
        super().__init__()
        self.shape = (layers, rings)
        self.straight = nn.Linear(condition, layers * rings)
        self.net = ResidualMLP(condition, layers * rings, hidden)

    def forward(self, condition: Tensor) -> Tensor:
        """The logarithms of shares that add up to one in each layer, (B, L, R), of (B, D)."""
        share = self.straight(condition) + self.net(condition)
        return share.view(-1, *self.shape).log_softmax(2)

    def fit(self, condition: Tensor, weight: Tensor) -> None:
        """Raise Σ w log share, the likelihood of w parts that fall on rings, by Adam's steps.

        Args:
            condition: (n, D).
            weight: (n, L, R).
        """
        steps = min(MOST, max(FEWEST, len(condition) * PASSES // BATCH))
        generator = torch.Generator().manual_seed(0)
        optimiser = torch.optim.Adam(self.parameters(), RATE)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        size = weight.sum() / len(weight)
        for _ in range(steps):
            some = torch.randint(len(condition), (BATCH,), generator=generator)
            some = some.to(condition.device)
            optimiser.zero_grad()
            loss = -(weight[some] * self(condition[some])).sum() / BATCH / size
            loss.backward()
            optimiser.step()
            fall.step()
        optimiser.zero_grad()


class CellBlock(nn.Module):
    """h ← h + W′ SiLU(FiLM(W [h, its neighbours] + what its ring and layer hold)).

    Args:
        places: layers × rings.
        channels: features of a cell.
        condition: components of the condition.
        periodic: whether each axis is.
    """

    def __init__(
        self, places: int, channels: int, condition: int, periodic: tuple[bool, ...]
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.tell = nn.Linear(channels, TOLD)
        self.first = nn.Linear(channels + len(periodic) * TOLD, channels)
        self.mix = nn.Linear(places, places)
        self.film = FiLM(condition, channels)
        self.second = nn.Linear(channels, channels)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """h (B, L, A, R, C) and a condition (B, D) → h."""
        u = F.silu(h)
        told = self.tell(u)
        around = [adjacent(told, 1 + axis, wrap) for axis, wrap in enumerate(self.periodic)]
        seen = self.first(torch.cat([u, *around], -1))
        ring = u.mean(2).flatten(1, 2).transpose(1, 2)
        mixed = self.mix(ring).transpose(1, 2).unflatten(1, (h.shape[1], 1, h.shape[3]))
        gain, shift = self.film.coefficients(condition)
        v = (seen + mixed) * gain[:, None, None, None] + shift[:, None, None, None]
        return h + self.second(F.silu(v))


def adjacent(h: Tensor, axis: int, periodic: bool) -> Tensor:
    """The sum of the two neighbours along an axis of h (B, …), (B, …); 0 beyond an open end."""
    n = h.shape[axis]
    if n == 1:
        return torch.zeros_like(h)
    first, last = h.narrow(axis, 0, 1), h.narrow(axis, n - 1, 1)
    if not periodic:
        first, last = torch.zeros_like(first), torch.zeros_like(last)
    before = torch.cat([last, h.narrow(axis, 0, n - 1)], axis)
    after = torch.cat([h.narrow(axis, 1, n - 1), first], axis)
    return before + after

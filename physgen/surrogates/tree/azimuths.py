"""Splits of azimuths: level by level, each told of all rings of all layers, and of its neighbours.

A level is drawn at once: given the energies of all rings, and those of the neighbours on coarser
levels, there is little that a split could say of another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.halving import HalvingLevel, halvings
from physgen.nn.hurdle import shown
from physgen.surrogates.tree.networks import (
    CONTEXT,
    Context,
    Scale,
    SplitNet,
    finite,
    halved_energies,
    mean_tilt,
)

__all__ = ["AzimuthLevel", "Azimuths"]

NODE = 4
"""Numbers that are learnt of each piece of a level."""
AROUND = 6
"""Neighbours of a piece: in the layers and rings before and after it, and on both sides."""


class AzimuthLevel(nn.Module):
    """A level of splits of azimuths.

    Args:
        level: where it cuts.
        neighbours: whether its splits are told of the energies around them.
    """

    tilt: Tensor

    def __init__(self, level: HalvingLevel, neighbours: bool) -> None:
        super().__init__()
        self.level, self.neighbours = level, neighbours
        self.node = nn.Parameter(torch.randn(len(level.cut), NODE))
        self.scale = Scale(1)
        self.register_buffer("tilt", torch.zeros(len(level.cut)))

    def inputs(self, rings: Tensor, pieces: Tensor) -> Tensor:
        """What a split sees of its own level, (B, L, R, S, F).

        Args:
            rings: (B, L, R) log E.
            pieces: (B, L, R, P) log E.
        """
        cut = self.level.cut
        parts, there = self.scale(pieces), pieces.isfinite()
        parent = torch.where(there, pieces - finite(rings)[..., None], 0.0)[..., cut, None]
        around = [neighbours_of(parts)[..., cut, :]] if self.neighbours else []
        node = self.node.expand(*parent.shape[:-1], NODE)
        return torch.cat([parent, *around, node], -1)


class Azimuths(nn.Module):
    """How a ring's energy is shared out among its azimuths.

    Args:
        layers: L.
        rings: R.
        azimuths: A, at least 2.
        condition: components of c.
        context: units and blocks of the network that sees all rings of all layers.
        split: Betas of a split, and units and blocks of its network.
        neighbours: whether a split is told of the energies around it.
    """

    def __init__(
        self,
        layers: int,
        rings: int,
        azimuths: int,
        condition: int,
        context: tuple[int, int],
        split: tuple[int, int, int],
        neighbours: bool,
    ) -> None:
        super().__init__()
        self.scale = Scale(layers, rings)
        self.context = Context(condition + 2 * layers * rings, layers, rings, *context)
        self.stages = nn.ModuleList(
            AzimuthLevel(level, neighbours) for level in halvings(azimuths)
        )
        self.net = SplitNet(CONTEXT + 1 + 2 * AROUND * neighbours + NODE, *split)

    @property
    def levels(self) -> list[AzimuthLevel]:
        """From the whole ring down."""
        return [level for level in self.stages if isinstance(level, AzimuthLevel)]

    def by_level(self, rings: Tensor, y: Tensor) -> list[tuple[AzimuthLevel, Tensor]]:
        """Levels, and their splits (B, L, R, S) of y (B, L, R·(A − 1))."""
        count = rings.shape[2]
        shares = y.split([count * len(level.node) for level in self.levels], -1)
        shaped = (share.unflatten(-1, (count, -1)) for share in shares)
        return list(zip(self.levels, shaped, strict=True))

    def contexts(self, c: Tensor, rings: Tensor) -> Tensor:
        """What all rings' log E (B, L, R) say of each ring, (B, L, R, CONTEXT)."""
        known = torch.cat([c, shown(self.scale(rings)).flatten(1)], 1)
        every = torch.arange(rings.shape[1], device=c.device)
        return self.context(known[None], torch.zeros_like(every), every)

    def fit(self, rings: Tensor, y: Tensor) -> None:
        """Take where splits start from log E of rings (n, L, R) and y (n, L, R·(A − 1))."""
        self.scale.fit(rings)
        splits, pieces = [], rings[..., None]
        for stage, share in self.by_level(rings, y):
            parent = pieces[..., stage.level.cut]
            stage.scale.fit(pieces.flatten()[:, None])
            stage.tilt.copy_(mean_tilt(parent.flatten(0, 2), share.flatten(0, 2)))
            splits.append((parent, share, stage.tilt))
            pieces = halved_energies(pieces, share, stage.level)
        self.net.fit(splits)

    def score(self, c: Tensor, rings: Tensor, y: Tensor) -> Tensor:
        """log p of y (B, L, R·(A − 1)), (B,), of log E of rings (B, L, R)."""
        total, context, pieces = (
            torch.zeros_like(c[:, 0]),
            self.contexts(c, rings),
            rings[..., None],
        )
        for stage, share in self.by_level(rings, y):
            inputs = torch.cat([at_splits(context, share), stage.inputs(rings, pieces)], -1)
            parent = pieces[..., stage.level.cut]
            total = total + self.net.score(inputs, parent, stage.tilt, share)
            pieces = halved_energies(pieces, share, stage.level)
        return total

    def sample(self, c: Tensor, rings: Tensor, generator: torch.Generator) -> Tensor:
        """y (B, L, R·(A − 1)) of log E of rings (B, L, R)."""
        drawn, context, pieces = [], self.contexts(c, rings), rings[..., None]
        for stage in self.levels:
            parent = pieces[..., stage.level.cut]
            inputs = torch.cat([at_splits(context, parent), stage.inputs(rings, pieces)], -1)
            y = self.net.sample(inputs, parent, stage.tilt, generator)
            drawn.append(y.flatten(2))
            pieces = halved_energies(pieces, y, stage.level)
        return torch.cat(drawn, -1)


def at_splits(context: Tensor, splits: Tensor) -> Tensor:
    """The context of each ring (B, L, R, F), once for each of its splits (B, L, R, S)."""
    return context[..., None, :].expand(*splits.shape, -1)


def neighbours_of(parts: Tensor) -> Tensor:
    """log E around each piece of (B, L, R, P), and whether there is any, (B, L, R, P, 12).

    Azimuths are on a circle; beyond the first and the last layer and ring there is nothing.
    """
    ends = F.pad(parts, (0, 0, 1, 1, 1, 1), value=torch.nan)
    sides = [torch.cat([parts[..., k:], parts[..., :k]], -1) for k in (1, -1)]
    layers = [ends[:, :-2, 1:-1], ends[:, 2:, 1:-1]]
    rings = [ends[:, 1:-1, :-2], ends[:, 1:-1, 2:]]
    return shown(torch.stack([*layers, *rings, *sides], -1), -1)

"""Splits of rings: level by level, each told of all layers as they are known on coarser levels.

The first level is drawn in *turns*: odd layers last, of the others every second one before, and so
on, each told of those before. So what layers have in common beside their energies, such as the
depth of a shower's maximum, is known after few steps; on later levels little is left of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

__all__ = ["RingLevel", "Rings"]


class RingLevel(nn.Module):
    """A level of splits of rings.

    Args:
        level: where it cuts.
        layers: L.
        condition: components of c.
        hidden: units of the context.
        blocks: of the context.
    """

    tilt: Tensor
    turn: Tensor

    def __init__(
        self, level: HalvingLevel, layers: int, condition: int, hidden: int, blocks: int
    ) -> None:
        super().__init__()
        self.level, self.splits = level, len(level.cut)
        known = condition + 2 * layers * (len(level.pieces) + self.splits)
        self.context = Context(known, layers, self.splits, hidden, blocks)
        self.scale = Scale(layers, len(level.pieces))
        first = len(level.pieces) == 1
        turn = turns(layers) if first else torch.zeros(layers, dtype=torch.long)
        self.register_buffer("tilt", torch.zeros(layers, self.splits))
        self.register_buffer("turn", turn, persistent=False)
        self.turns = int(turn.max()) + 1

    def inputs(self, c: Tensor, pieces: Tensor, y: Tensor, turns: range) -> Tensor:
        """What splits see in some turns, (B, n, S, CONTEXT), of the n layers that have them.

        Args:
            c: (B, D).
            pieces: (B, L, P) log E.
            y: (B, L, S) of those that are drawn.
            turns: which.
        """
        now = torch.arange(turns.start, turns.stop, device=c.device)
        there = pieces[..., self.level.cut].isfinite()
        before = self.turn < now[:, None]
        y = torch.where(there & before[:, None, :, None], y, torch.nan)
        known = torch.cat([c, shown(self.scale(pieces)).flatten(1)], 1).expand(len(now), -1, -1)
        known = torch.cat([known, seen_shares(y).flatten(2)], 2)
        which = self.layers_of(turns)
        return self.context(known, self.turn[which] - turns.start, which)

    def layers_of(self, turns: range) -> Tensor:
        """The layers that have some turns, (n,)."""
        return ((self.turn >= turns.start) & (self.turn < turns.stop)).nonzero()[:, 0]


class Rings(nn.Module):
    """How a layer's energy is shared out among its rings.

    Args:
        layers: L.
        rings: R, at least 2.
        condition: components of c.
        context: units and blocks of the networks that see all layers.
        split: Betas of a split, and units and blocks of its network.
    """

    def __init__(
        self,
        layers: int,
        rings: int,
        condition: int,
        context: tuple[int, int],
        split: tuple[int, int, int],
    ) -> None:
        super().__init__()
        levels = [RingLevel(level, layers, condition, *context) for level in halvings(rings)]
        self.stages = nn.ModuleList(levels)
        self.net = SplitNet(CONTEXT, *split)

    @property
    def levels(self) -> list[RingLevel]:
        """From the whole layer down."""
        return [level for level in self.stages if isinstance(level, RingLevel)]

    def by_level(self, y: Tensor) -> list[tuple[RingLevel, Tensor]]:
        """Levels, and their splits (B, L, S) of y (B, L, R − 1)."""
        shares = y.split([level.splits for level in self.levels], -1)
        return list(zip(self.levels, shares, strict=True))

    def fit(self, pieces: Tensor, y: Tensor) -> Tensor:
        """Take where splits start from log E (n, L, 1) and y (n, L, R − 1); log E (n, L, R)."""
        splits = []
        for stage, share in self.by_level(y):
            parent = pieces[..., stage.level.cut]
            stage.scale.fit(pieces)
            stage.tilt.copy_(mean_tilt(parent, share))
            splits.append((parent, share, stage.tilt))
            pieces = halved_energies(pieces, share, stage.level)
        self.net.fit(splits)
        return pieces

    def score(self, c: Tensor, pieces: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """log p of y (B, L, R − 1), (B,), and log E of rings (B, L, R), of layers (B, L, 1)."""
        total = torch.zeros_like(pieces[:, 0, 0])
        for stage, share in self.by_level(y):
            inputs = stage.inputs(c, pieces, share, range(stage.turns))
            parent = pieces[..., stage.level.cut]
            total = total + self.net.score(inputs, parent, stage.tilt, share)
            pieces = halved_energies(pieces, share, stage.level)
        return total, pieces

    def sample(
        self, c: Tensor, pieces: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """y (B, L, R − 1) and log E of rings (B, L, R), of layers (B, L, 1)."""
        drawn = []
        for stage in self.levels:
            parent = pieces[..., stage.level.cut]
            y = torch.full_like(parent, torch.nan)
            for turn in range(stage.turns):
                now = range(turn, turn + 1)
                which = stage.layers_of(now)
                inputs = stage.inputs(c, pieces, y, now)
                drawn_now = self.net.sample(inputs, parent[:, which], stage.tilt[which], generator)
                y = y.index_copy(1, which, drawn_now)
            drawn.append(y)
            pieces = halved_energies(pieces, y, stage.level)
        return torch.cat(drawn, -1), pieces


def turns(layers: int) -> Tensor:
    """The turn of each of n layers, (n,): odd ones have the last, 0 and n/2 or so the first."""
    most = max(1, (layers - 1).bit_length() - 1)
    doublings = [min(most, (i & -i).bit_length() - 1) if i else most for i in range(layers)]
    return torch.tensor([most - twos for twos in doublings])


def seen_shares(y: Tensor) -> Tensor:
    """y (..., S) as numbers that a network can take, (..., 2S): its value, and at which atom."""
    atom = torch.where(y.isinf(), y.sign(), 0.0)
    return torch.cat([finite(y), finite(atom)], -1)

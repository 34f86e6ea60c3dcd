r"""Which cells of a shower are hit: drawn in a few groups, each at once given those before.

    P(hits|E, θ) = Π_g Π_{i in group g} P(hit_i | hits of earlier groups, E, θ)

Given what causes a shower its cells are nearly independent, and the first, small groups tell the
cause; so a few groups do, where a chain cell by cell (Austin et al. 2021, arXiv:2107.03006) would
take hundreds. The groups are fixed (the last is a checkerboard), and log P is exact.

A layer without energy has no hit, and one with energy has at least one: if the groups before have
none, its last one is drawn given that it has any.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.blocks import stages_of
from physgen.nn.cells import CellNet
from physgen.nn.densities import drawn_category

__all__ = ["GroupedHits"]

SURE = -1e-30
"""Of log P(no hit), at most."""


class GroupedHits(nn.Module):
    """P(hits|E, θ).

    Args:
        grid: layers, and the two axes of a layer.
        groups: at most as many.
        net: of two numbers a cell and what is known of it, to its log odds; its condition ends
            with one number a group.
    """

    group: Tensor
    last: Tensor

    def __init__(self, grid: tuple[int, ...], groups: int, net: CellNet) -> None:
        super().__init__()
        self.groups, self.net = groups, net
        group = stages_of(grid, groups).view(grid)
        self.register_buffer("group", group, persistent=False)
        self.register_buffer("last", group.flatten(1).amax(1), persistent=False)

    def odds(self, hit: Tensor, group: Tensor, told: Tensor, known: Tensor) -> Tensor:
        """Log odds of a hit given earlier groups, (B, L, A, R).

        Args:
            hit: (B, L, A, R) booleans, of which earlier groups are seen.
            group: (B,).
            told: (B, D) what is known of the shower.
            known: (B, L, A, R, I) what is known of cells.
        """
        visible = self.group < group[:, None, None, None]
        seen = torch.stack([(2.0 * hit - 1) * visible, 1.0 * visible], -1)
        seen = torch.cat([seen.to(known.dtype), known], -1)
        condition = torch.cat([told, F.one_hot(group, self.groups).to(told.dtype)], 1)
        return self.net(seen, condition)[..., 0]

    def log_p(
        self, hit: Tensor, lit: Tensor, group: Tensor, told: Tensor, known: Tensor
    ) -> Tensor:
        """log P of one group of hits, (B,).

        Args:
            hit: (B, L, A, R) booleans.
            lit: (B, L) which layers have energy.
            group: (B,).
            told: (B, D).
            known: (B, L, A, R, I).
        """
        odds = self.odds(hit, group, told, known)
        asked, must = self._asked(hit, lit, group)
        log_p = (F.logsigmoid(torch.where(hit, odds, -odds)) * asked).flatten(1).sum(1)
        none = (F.logsigmoid(-odds) * asked).flatten(2).sum(2)
        any_hit = torch.log(-torch.expm1(torch.where(must, none, -1.0).clamp(max=SURE)))
        return log_p - torch.where(must, any_hit, 0.0).sum(1)

    def log_prob(self, hit: Tensor, lit: Tensor, told: Tensor, known: Tensor) -> Tensor:
        """log P of all hits, (B,); arguments as of `log_p`."""
        every = [torch.full((len(hit),), g, device=hit.device) for g in range(self.groups)]
        return torch.stack([self.log_p(hit, lit, g, told, known) for g in every]).sum(0)

    def sample(
        self, lit: Tensor, told: Tensor, known: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Hits of layers lit (B, L), (B, L, A, R) booleans; arguments as of `log_p`."""
        hit = torch.zeros(len(lit), *self.group.shape, dtype=torch.bool, device=lit.device)
        for g in range(self.groups):
            group = torch.full((len(lit),), g, device=lit.device)
            odds = self.odds(hit, group, told, known)
            asked, must = self._asked(hit, lit, group)
            uniforms = torch.rand(odds.shape, generator=generator, device=odds.device)
            drawn = uniforms < odds.sigmoid()
            if (self.last == g).any():
                bare, forced = must[..., None, None], with_any(odds, asked, drawn, generator)
                drawn = (drawn & ~bare) | (forced & bare)
            hit = hit | (drawn & asked)
        return hit

    def _asked(self, hit: Tensor, lit: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of a group that may be hit (B, L, A, R), and layers that must be (B, L)."""
        now = group[:, None, None, None]
        bare = ~(hit & (self.group < now)).flatten(2).any(2)
        must = lit & bare & (self.last == group[:, None])
        return (self.group == now) & lit[..., None, None], must


def with_any(odds: Tensor, asked: Tensor, drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Hits of each layer, given that it has any, (B, L, A, R).

    The first is drawn by its probability, the cells before it have none, those after it are free.

    Args:
        odds: (B, L, A, R) log odds.
        asked: (B, L, A, R) which cells may be hit.
        drawn: (B, L, A, R) hits without that condition.
        generator: random numbers.
    """
    odds, asked = odds.flatten(2), asked.flatten(2)
    none = -F.softplus(odds) * asked
    log_p = torch.where(asked, -F.softplus(-odds) + none.cumsum(-1) - none, -math.inf)
    log_p = torch.where(asked.any(-1, keepdim=True), log_p, 0.0)
    uniforms = torch.rand(odds.shape[:2], generator=generator, device=odds.device)
    first = drawn_category(log_p.softmax(-1), uniforms)[..., None]
    place = torch.arange(odds.shape[2], device=odds.device)
    found = (place == first) | ((place > first) & drawn.flatten(2))
    return found.view(drawn.shape)

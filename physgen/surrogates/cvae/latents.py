r"""A spatial hierarchy of latents z_1 (fine), …, z_L (coarse), each on its own grid.

    prior      p(z|θ)   = Π_l p(z_l | z_>l, θ)
    posterior  q(z|x,θ) = Π_l q(z_l | z_>l, x, θ)

Both are diagonal Gaussians, or discrete (:mod:`physgen.surrogates.cvae.latent_laws`). They share
one top-down network, which carries a field t from the coarsest grid to the finest. The encoder
runs bottom-up once for each x; at each level its features e_l and the field t give q as a
displacement of a normal p (residual parameterisation: Vahdat & Kautz 2020,
arXiv:2007.03898), so that

    KL(q‖p) = Σ ½ (Δμ²/σ_p² + r² − 1 − log r²),   r = σ_q/σ_p,

is small where the data do not ask for more. One level is the plain conditional VAE (Sohn et al.
2015).

Over few discrete states log p(x|θ) is summed. Where that cannot be, their q sees x alone, neither
θ nor the levels above: draws are then the same for all θ, and log p from them is smooth in θ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import (
    FiLM,
    Refine,
    ResidualBlock,
    SiteTerms,
    coarsen,
    coarser,
    convolution,
    field_shape,
    halved,
    seen,
    seen_channels,
)
from physgen.nn.columns import ColumnCode
from physgen.nn.torus import concatenated
from physgen.surrogates.cvae.latent_laws import DiscreteLatents, LatentLaw, NormalLatents

__all__ = ["Latents", "Trace", "grids_of"]

MOST_STATES = 256
"""Of discrete latents, over which log p is summed."""
Grid = tuple[int, ...]
LevelNormal = Callable[[int, tuple[int, ...]], Tensor]


class Trace(NamedTuple):
    """One pass down the hierarchy.

    Attributes:
        h: (B, C, *grid) the field that the decoder reads.
        kl: (B, L) closed-form KL(q‖p) of each level given the levels above.
        log_ratio: (B,) log p(z|θ) − log q(z|x, θ) of the z drawn.
        v: of each level, fine to coarse, `Drawn.v`: (B, latent, *grid).
        log_drawn: (B,) log q(z|x, θ), or log p(z|θ) of z drawn from that, where the score function
            or a sum over states needs it; up to a constant.
    """

    h: Tensor
    kl: Tensor
    log_ratio: Tensor
    v: list[Tensor]
    log_drawn: Tensor


def grids_of(law: Law, levels: int) -> list[Grid]:
    """The grids of the latents, fine to coarse: at most `levels`, each with its even axes halved.

    A lattice without an even axis, and a single site, have one grid: all sites in one.
    """
    grid = field_shape(law)[1:]
    grids: list[Grid] = []
    while any(n % 2 == 0 for n in grid) and len(grids) < levels:
        grid = coarser(grid, halved(grid))
        grids.append(grid)
    return grids or [(1,) * len(grid)]


class LatentLevel(nn.Module):
    """One level: its field, its prior, its posterior and the way down to the next grid."""

    def __init__(
        self, law: Law, grid: Grid, finer: Grid, channels: int, latent: int, numbers: int
    ) -> None:
        super().__init__()
        ratio, same = coarser(finer, grid), (1,) * len(grid)
        self.grid, self.shape = grid, (latent, *grid)
        self.down = coarsen(channels, channels, law, ratio)
        self.encode = ResidualBlock(channels, len(law.prior), law)
        self.field = ResidualBlock(channels, len(law.prior), law)
        self.p = coarsen(channels, numbers * latent, law, same)
        self.q = coarsen(2 * channels, numbers * latent, law, same)
        self.z = coarsen(latent, channels, law, same)
        self.up = Refine(channels, channels, ratio)


class Latents(nn.Module):
    """The encoder, the prior and the posterior of all levels.

    Args:
        law: what x is.
        levels: number of levels asked for.
        channels: channels C of the fields.
        latent: latent numbers at each site of a level's grid.
        standard: whether the coarsest prior is N(0, 1), or uniform, rather than learnt from θ.
        z_law: what the latents are.

    Attributes:
        states: noise (n, S) by which each of few states of discrete latents of a single site is
            drawn, else None.
        blind: whether q sees x alone.
    """

    states: Tensor | None

    def __init__(
        self,
        law: Law,
        levels: int,
        channels: int,
        latent: int,
        standard: bool = False,
        z_law: LatentLaw | None = None,
    ) -> None:
        super().__init__()
        self.law, self.standard = law, standard
        self.z_law = z_law or NormalLatents()
        finest = field_shape(law)[1:]
        grids = [finest, *grids_of(law, levels)]
        columns = law.support in ("counts", "mixed")
        self.code = ColumnCode(law) if columns else None
        wide = self.code.size if self.code and law.support == "mixed" else seen_channels(law)
        self.embed = convolution(wide, channels, law)
        self.terms_seen = SiteTerms(len(law.prior), channels, law)
        self.terms = SiteTerms(len(law.prior), channels, law)
        self.stack = nn.ModuleList(
            LatentLevel(law, grid, finer, channels, latent, self.z_law.numbers)
            for finer, grid in pairwise(grids)
        )
        one = [math.prod(level.grid) for level in self.levels] == [1]
        states = self.z_law.states(latent, MOST_STATES) if one else None
        self.register_buffer("states", states, persistent=False)
        self.blind = states is None and isinstance(self.z_law, DiscreteLatents)
        self.top = nn.Parameter(torch.zeros(1, channels, *[1] * len(finest)))
        self.film = FiLM(len(law.prior), channels)
        self.last = convolution(channels, channels, law)

    @property
    def levels(self) -> list[LatentLevel]:
        """The levels, fine to coarse."""
        return cast("list[LatentLevel]", list(self.stack))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each level's latents, fine to coarse."""
        return [level.shape for level in self.levels]

    def seen(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) as a field that the encoder sees."""
        if self.code is None:
            return seen(self.law, z)
        return self.code(z).view(len(z), -1, *field_shape(self.law)[1:])

    def encode(self, z: Tensor, c: Tensor) -> list[Tensor]:
        """Bottom-up features e_l of z (B, *x_shape), fine to coarse."""
        c = torch.zeros_like(c) if self.blind else c
        h = F.silu(self.terms_seen(self.embed(self.seen(z)), c))
        features = []
        for level in self.levels:
            h = level.encode(level.down(h), c)
            features.append(h)
        return features

    def descend(
        self,
        c: Tensor,
        normal: LevelNormal,
        features: list[Tensor] | None = None,
        pathwise: bool = True,
    ) -> Trace:
        """Draw z from q(z|x, θ) where there are features, else from p(z|θ), and follow it down.

        Args:
            c: (B, D).
            normal: (level, shape) → standard normal numbers.
            features: what `encode` returned, (B, C, …) each.
            pathwise: whether real z have a derivative by the numbers of q and p.
        """
        top = self.levels[-1]
        t = self.top.expand(len(c), -1, *top.grid)
        kl, log_ratio, log_drawn, v = [], c.new_zeros(len(c)), c.new_zeros(len(c)), []
        for number, level in reversed(list(enumerate(self.levels))):
            t = level.field(t, c)
            p, q = level.p(t), None
            if self.standard and level is top:
                p = torch.zeros_like(p)
            if features is not None:
                above = torch.zeros_like(t) if self.blind else t
                q = level.q(concatenated(above, features[number]))
            drawn = self.z_law.draw(p, q, normal(number, (len(c), *level.shape)), pathwise)
            kl.append(drawn.kl)
            log_ratio, log_drawn = log_ratio + drawn.log_ratio, log_drawn + drawn.log_drawn
            v.append(drawn.v)
            t = level.up(F.silu(t + level.z(drawn.z)))
        h = self.film(self.terms(self.last(t), c), c)
        return Trace(h, torch.stack(kl[::-1], 1), log_ratio, v[::-1], log_drawn)

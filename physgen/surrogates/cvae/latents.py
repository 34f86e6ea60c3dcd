r"""A spatial hierarchy of latents z_1 (fine), …, z_L (coarse), each on its own grid.

    prior      p(z|θ)   = Π_l p(z_l | z_>l, θ)
    posterior  q(z|x,θ) = Π_l q(z_l | z_>l, x, θ)

Both are diagonal Gaussians and share one top-down network, which carries a field t from the
coarsest grid to the finest. The encoder runs bottom-up once for each x; at each level its
features e_l and the field t give q as a displacement of p (residual parameterisation: Vahdat &
Kautz 2020,
arXiv:2007.03898), so that

    KL(q‖p) = Σ ½ (Δμ²/σ_p² + r² − 1 − log r²),   r = σ_q/σ_p,

is small where the data do not ask for more. One level is the plain conditional VAE (Sohn et al.
2015).
"""

from __future__ import annotations

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

__all__ = ["Latents", "Trace", "grids_of"]

Grid = tuple[int, ...]
LevelNormal = Callable[[int, tuple[int, ...]], Tensor]


class Trace(NamedTuple):
    """One pass down the hierarchy.

    Attributes:
        h: (B, C, *grid) the field that the decoder reads.
        kl: (B, L) closed-form KL(q‖p) of each level given the levels above.
        log_ratio: (B,) log p(z|θ) − log q(z|x, θ) of the z drawn.
        v: of each level, fine to coarse, the z drawn in standard deviations of its prior given the
            levels above and θ, from its mean: (B, latent, *grid).
    """

    h: Tensor
    kl: Tensor
    log_ratio: Tensor
    v: list[Tensor]


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

    def __init__(self, law: Law, grid: Grid, finer: Grid, channels: int, latent: int) -> None:
        super().__init__()
        ratio, same = coarser(finer, grid), (1,) * len(grid)
        self.grid, self.shape = grid, (latent, *grid)
        self.down = coarsen(channels, channels, law, ratio)
        self.encode = ResidualBlock(channels, len(law.prior), law)
        self.field = ResidualBlock(channels, len(law.prior), law)
        self.p = coarsen(channels, 2 * latent, law, same)
        self.q = coarsen(2 * channels, 2 * latent, law, same)
        self.z = coarsen(latent, channels, law, same)
        self.up = Refine(channels, channels, ratio)


class Latents(nn.Module):
    """The encoder, the prior and the posterior of all levels.

    Args:
        law: what x is.
        levels: number of levels asked for.
        channels: channels C of the fields.
        latent: latent numbers at each site of a level's grid.
        standard: whether the coarsest prior is N(0, 1) rather than learnt from θ.
    """

    def __init__(
        self, law: Law, levels: int, channels: int, latent: int, standard: bool = False
    ) -> None:
        super().__init__()
        self.law, self.standard = law, standard
        finest = field_shape(law)[1:]
        grids = [finest, *grids_of(law, levels)]
        columns = law.support in ("counts", "mixed")
        self.code = ColumnCode(law) if columns else None
        wide = self.code.size if self.code and law.support == "mixed" else seen_channels(law)
        self.embed = convolution(wide, channels, law)
        self.terms_seen = SiteTerms(len(law.prior), channels, law)
        self.terms = SiteTerms(len(law.prior), channels, law)
        self.stack = nn.ModuleList(
            LatentLevel(law, grid, finer, channels, latent) for finer, grid in pairwise(grids)
        )
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
        h = F.silu(self.terms_seen(self.embed(self.seen(z)), c))
        features = []
        for level in self.levels:
            h = level.encode(level.down(h), c)
            features.append(h)
        return features

    def descend(
        self, c: Tensor, normal: LevelNormal, features: list[Tensor] | None = None
    ) -> Trace:
        """Draw z from q(z|x, θ) where there are features, else from p(z|θ), and follow it down.

        Args:
            c: (B, D).
            normal: (level, shape) → standard normal numbers.
            features: what `encode` returned, (B, C, …) each.
        """
        top = self.levels[-1]
        t = self.top.expand(len(c), -1, *top.grid)
        kl, log_ratio, drawn = [], c.new_zeros(len(c)), []
        for number, level in reversed(list(enumerate(self.levels))):
            t = level.field(t, c)
            mean, log_sigma = bounded(level.p(t))
            if self.standard and level is top:
                mean, log_sigma = torch.zeros_like(mean), torch.zeros_like(log_sigma)
            epsilon = normal(number, (len(c), *level.shape))
            if features is not None:
                shift, log_r = bounded(level.q(torch.cat([t, features[number]], dim=1)))
                kl.append(0.5 * (shift**2 + (2 * log_r).exp() - 1 - 2 * log_r).flatten(1).sum(1))
                v = shift + log_r.exp() * epsilon
                log_ratio = log_ratio + (0.5 * (epsilon**2 - v**2) + log_r).flatten(1).sum(1)
                epsilon = v
            drawn.append(epsilon)
            t = level.up(F.silu(t + level.z(mean + log_sigma.exp() * epsilon)))
        h = self.film(self.terms(self.last(t), c), c)
        each = torch.stack(kl[::-1], 1) if kl else c.new_zeros(len(c), 0)
        return Trace(h, each, log_ratio, drawn[::-1])


def bounded(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log σ, kept within ±5, (B, C, *grid) each, of moments (B, 2C, *grid)."""
    mean, log_sigma = moments.chunk(2, dim=1)
    return mean, 5 * torch.tanh(log_sigma / 5)

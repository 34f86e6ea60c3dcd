r"""A tree of splits: layer energies, and how each is shared out among a layer's cells, exactly.

    p(x|θ) = p(E|θ) · Π p(s | parent's energy, coarser splits of all layers, θ) · |∂(E, s)/∂x|

A layer's energy is carried down a binary tree, over rings first and then over the azimuths of each
ring. A split is a share of its parent's energy, with atoms where one half gets nothing, so that
zeros are exact and energies add up (:mod:`physgen.nn.shares` has the map, and
:mod:`physgen.nn.split_law` the law of a split). Levels are drawn one after another, each for all
layers, from what is known on all coarser ones.

The split of energies and shares is that of CaloFlow (Krause & Shih 2021, arXiv:2106.05285) and
CaloDREAM (Favaro et al. 2024, arXiv:2405.09629), the tree a Pólya tree (Lavine 1992, Ann. Stat.
20, 1222) whose Betas a network gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.energy_chain import EnergyChain
from physgen.nn.shares import Shares
from physgen.surrogates.base import Likelihood, Noise, Surrogate
from physgen.surrogates.tree.azimuths import Azimuths
from physgen.surrogates.tree.rings import Rings
from simulators.base import Support

__all__ = ["Tree", "TreeConfig"]

MOST = 128
"""Layers: the first axis of x."""
ROWS = 10_000
"""From which the start is found, at most."""


@dataclass(frozen=True)
class TreeConfig:
    """Options of the tree of splits, for nonnegative x: (layers, azimuths, rings).

    Attributes:
        components: Beta laws in the mixture of a split (at least 1).
        hidden: units of a layer of the networks of a split (at least 1).
        blocks: residual blocks of two layers in these (at least 0).
        context: units of a layer of the networks that see all layers (at least 1).
        energies: Gamma laws in the mixture of a layer's energy (at least 1).
        neighbours: whether a split of azimuths is told of the energies around it, in layers,
            rings and azimuths: noise, if cells are independent given the energies of rings.
        azimuth_rows: part of the rows of a training step whose azimuths it looks at (above 0, to
            1): of many splits, which say much alike, those of few rows are enough.

    Example:
        physgen fit tree showers.h5 -o tree.pt --max-minutes 5
    """

    components: int = 3
    hidden: int = 32
    blocks: int = 1
    context: int = 96
    energies: int = 3
    neighbours: bool = True
    azimuth_rows: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        least = {"components": 1, "hidden": 1, "blocks": 0, "context": 1, "energies": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        if not 0 < self.azimuth_rows <= 1:
            raise ValueError(f"azimuth_rows: expected above 0, to 1, got {self.azimuth_rows}")


class Tree(Surrogate):
    """Nonnegative x by the energy of each layer and a tree of splits."""

    name: ClassVar[str] = "tree"
    Config = TreeConfig
    supports: ClassVar[tuple[Support, ...]] = ("nonnegative",)
    transform: Shares

    def __init__(self, law: Law, config: TreeConfig) -> None:
        super().__init__(law, config)
        self.transform = Shares(law)
        layers, azimuths, rings = self.transform.shape
        if layers > MOST:
            raise UsageError(
                f"tree: expected at most {MOST} layers, got {layers}, which are drawn one by one; "
                "take cvae"
            )
        condition, split = len(law.prior), (config.components, config.hidden, config.blocks)
        context = config.context, config.blocks
        self.energies = EnergyChain(layers, condition, config.energies)
        self.rings = Rings(layers, rings, condition, context, split) if rings > 1 else None
        self.azimuths = (
            Azimuths(layers, rings, azimuths, condition, context, split, config.neighbours)
            if azimuths > 1
            else None
        )

    @property
    def likelihood(self) -> Likelihood:
        """A product of normalised laws."""
        return Likelihood.EXACT

    @property
    def _at_once(self) -> int:
        """Fewer rows of many cells, which fill the memory."""
        return max(1, min(super()._at_once, 256 * super()._at_once // self.law.size))

    @torch.no_grad()
    def fit_transform(self, x: Tensor, theta: Tensor | None = None) -> None:
        """Fit the map of x to rows of data (n, *x_shape), the start of the energies and scales.

        Args:
            x: rows of data.
            theta: their parameters (n, D).
        """
        super().fit_transform(x, theta)
        some, c = self.transform(x[:ROWS].to(self.device)), None
        if theta is not None:
            c = self.rescale(theta[:ROWS].to(self.device))
        u, of_rings, of_azimuths = self.parts(some)
        self.energies.fit(u, c)
        pieces = self.start(u)
        if self.rings is not None:
            pieces = self.rings.fit(pieces, of_rings)
        if self.azimuths is not None:
            self.azimuths.fit(pieces, of_azimuths)

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u (B, L), and y of rings (B, L, R − 1) and of azimuths (B, L, R·(A − 1)), of z."""
        layers, azimuths, rings = self.transform.shape
        y = z[:, layers:].unflatten(1, (layers, self.transform.splits))
        return z[:, :layers], *y.split([rings - 1, rings * (azimuths - 1)], -1)

    def start(self, u: Tensor) -> Tensor:
        """log E of each layer as its one piece, (B, L, 1)."""
        return (u + self.transform.energy)[..., None]

    def score(self, c: Tensor, z: Tensor, some: int) -> Tensor:
        """log p(z|c), (B,).

        Args:
            c: (B, D).
            z: (B, N).
            some: rows whose azimuths are looked at; theirs stand for all.
        """
        u, of_rings, of_azimuths = self.parts(z)
        total, pieces = self.energies.log_p(c, u).sum(1), self.start(u)
        if self.rings is not None:
            log_p, pieces = self.rings.score(c, pieces, of_rings)
            total = total + log_p
        if self.azimuths is not None:
            log_p = self.azimuths.score(c[:some], pieces[:some], of_azimuths[:some])
            total = total + F.pad(log_p * (len(c) / some), (0, len(c) - some))
        return total

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        part = self.config.azimuth_rows if self.training else 1.0
        return -self.score(c, z, math.ceil(part * len(c)))

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        value = self.score(c, z, len(c))
        return value, torch.zeros_like(value)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        u = self.energies.sample(c, generator)
        pieces, drawn = self.start(u), []
        if self.rings is not None:
            y, pieces = self.rings.sample(c, pieces, generator)
            drawn.append(y)
        if self.azimuths is not None:
            drawn.append(self.azimuths.sample(c, pieces, generator))
        return torch.cat([u, torch.cat(drawn, -1).flatten(1)], 1) if drawn else u

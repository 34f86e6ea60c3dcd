r"""The hurdle kernel of nonnegative x: first which components are hit, then how much they hold.

    p(x|θ) = P(hits|θ) p(log x|hits, θ)

The hits are spins, and have a masked kernel; the logarithms of what is hit have a Gaussian kernel,
given the hits. Components without a hit hold nothing: they are 0 to the network, and no part of
any sum. Both bounds add up to one on log p(x|θ). The hits are told with θ; on a lattice
that declares its axes they are a field, as the mask of what is missing is.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.hurdle import hits
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion.gaussian import GaussianKernel
from physgen.surrogates.diffusion.masked import MaskedKernel

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["HurdleKernel"]

TIMES = 64
"""Times of the Gaussian bound for each order of the hits: a chain of them costs as much."""


class HurdleKernel(nn.Module):
    """The hurdle kernel.

    Attributes:
        draws: times that a log p takes where the caller does not choose.
        samplers: ways to draw what hits hold.
        transform: the map of x that it wants; None for that of the support.

    Args:
        law: what x is; its support must be nonnegative.
        config: the family's options.
    """

    draws: ClassVar[int] = GaussianKernel.draws
    samplers: ClassVar[tuple[str, ...]] = GaussianKernel.samplers
    transform: ClassVar[None] = None

    def __init__(self, law: Law, config: DiffusionConfig) -> None:
        super().__init__()
        self.field = bool(law.spatial) and bool(law.axes or len(law.x_shape) == 3)
        self.shape = law.x_shape if self.field else (law.size,)
        shape = law if self.field else replace(law, x_shape=self.shape, symmetries=(), axes=())
        reals = replace(shape, support="reals", missing=self.field)
        given = 0 if self.field else law.size
        self.hits = MaskedKernel(replace(shape, support="spins"), config, dense=not self.field)
        self.values = GaussianKernel(reals, config, given=given, high=14.0)

    def loss(self, c: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        """The sum of both bounds, (B,)."""
        spins, values = self._split(z)
        loss = self.hits.loss(c, spins, generator)
        return loss + self.values.loss(self._given(c, spins), values, generator, spins > 0)

    def evaluations(self, config: DiffusionConfig) -> int:
        """Evaluations of the Gaussian kernel's network for one sample."""
        return self.values.evaluations(config)

    def width(self, config: DiffusionConfig) -> int:
        """No more than one evaluation at once."""
        return 1

    def refuse(self, config: DiffusionConfig) -> str:
        """What in the options this kernel cannot do; empty if nothing is."""
        return "" if config.estimator == "bound" else f"estimator {config.estimator}"

    def orders(self, draws: int) -> int:
        """Orders of the hits that go with as many times of the bound."""
        return max(2, draws // TIMES)

    def log_prob(
        self, c: Tensor, z: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """The bound on log p(x|c) and its error, (B,) each."""
        spins, values = self._split(z)
        chain = replace(config, steps=0)
        first, first_se = self.hits.log_prob(c, spins, noise, self.orders(draws), chain)
        part = (spins > 0).repeat_interleave(draws, 0)
        given, many = (v.repeat_interleave(draws, 0) for v in (self._given(c, spins), values))
        seen = part if self.field else None
        then, then_se = self.values.bound(given, many, noise, draws, part, seen)
        return first + then, (first_se**2 + then_se**2).sqrt()

    def sample(self, c: Tensor, generator: torch.Generator, config: DiffusionConfig) -> Tensor:
        """One z for each row of c, (B, N), or a field (B, *x_shape)."""
        spins = self.hits.sample(c, generator, replace(config, steps=0)).view(-1, *self.shape)
        seen = spins > 0 if self.field else None
        values = self.values.sample(self._given(c, spins), generator, config, seen)
        return torch.where(spins > 0, values, -math.inf)

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, …) as hits and values, (B, *shape) each."""
        spins, values = (v.view(-1, *self.shape) for v in split_hits(z))
        return spins, values

    def _given(self, c: Tensor, spins: Tensor) -> Tensor:
        """The condition of the Gaussian kernel, (B, D) or (B, D + N): a field sees a mask."""
        return c if self.field else condition_on_hits(c, spins)


def split_hits(z: Tensor) -> tuple[Tensor, Tensor]:
    """z (B, …) as hits, spins of ±1, and values, 0 without a hit, (B, N) each."""
    z = z.flatten(1)
    hit = hits(z)
    return 2.0 * hit - 1, torch.where(hit, z, 0.0)


def condition_on_hits(c: Tensor, spins: Tensor) -> Tensor:
    """The condition of the Gaussian kernel: θ (B, D) and the hits (B, N), (B, D + N)."""
    return torch.cat([c, spins], 1)

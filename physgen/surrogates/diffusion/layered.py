r"""Showers in two stages: the layers' energies first, then how each is shared out among its cells.

    p(x|θ) = p(E|θ) · P(hits|E, θ) · p(y|hits, E, θ) · |∂(E, y)/∂x|

E has a hurdle kernel, hits a masked and y a Gaussian one (:mod:`physgen.nn.layer_energies` has the
map). What an energy says of θ is so in a model of its own, of few numbers, as it must be where the
total energy tells most.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.hurdle import shown
from physgen.nn.layer_energies import Layers
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion.gaussian import GaussianKernel
from physgen.surrogates.diffusion.hurdle import HurdleKernel
from physgen.surrogates.diffusion.masked import MaskedKernel

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["LayeredKernel"]

STEPS = 64
"""Evaluations for the hits of one shower."""


class LayeredKernel(nn.Module):
    """Energies, hits and shares.

    Attributes:
        draws: times that a log p takes where the caller does not choose.
        samplers: ways to draw what is real.
        transform: the map of x that it wants.

    Args:
        law: of showers of three axes, layers first.
        config: the family's options.
    """

    draws: ClassVar[int] = GaussianKernel.draws
    samplers: ClassVar[tuple[str, ...]] = GaussianKernel.samplers
    transform: ClassVar[type[Layers]] = Layers

    def __init__(self, law: Law, config: DiffusionConfig) -> None:
        super().__init__()
        self.layers = law.x_shape[0]
        flat = replace(law, x_shape=(law.size,), symmetries=(), axes=())
        told = 2 * self.layers
        self.energies = HurdleKernel(replace(flat, x_shape=(self.layers,)), config)
        self.hits = MaskedKernel(replace(flat, support="spins"), config, dense=True, given=told)
        self.shares = GaussianKernel(replace(flat, support="reals"), config, given=told + law.size)

    def loss(self, c: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        """The sum of the three bounds, (B,)."""
        energy, told, spins, y, part = self._split(c, z)
        loss = self.energies.loss(c, energy, generator)
        loss = loss + self.hits.loss(told, spins, generator)
        return loss + self.shares.loss(torch.cat([told, spins], 1), y, generator, part)

    def evaluations(self, config: DiffusionConfig) -> int:
        """Evaluations of the shares' network for one sample."""
        return self.shares.evaluations(config)

    def width(self, config: DiffusionConfig) -> int:
        """No more than one evaluation at once."""
        return 1

    def refuse(self, config: DiffusionConfig) -> str:
        """What in the options this kernel cannot do; empty if nothing is."""
        return self.energies.refuse(config)

    def log_prob(
        self, c: Tensor, z: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """The bound on log p(x|c) and its error, (B,) each."""
        energy, told, spins, y, part = self._split(c, z)
        value, se = self.energies.log_prob(c, energy, noise, draws, config)
        some = replace(config, steps=STEPS)
        orders = self.energies.orders(draws)
        hits, hits_se = self.hits.log_prob(told, spins, noise, orders, some)
        given = torch.cat([told, spins], 1)
        given, many, counted = (v.repeat_interleave(draws, 0) for v in (given, y, part))
        shares, shares_se = self.shares.bound(given, many, noise, draws, counted)
        error = (se**2 + hits_se**2 + shares_se**2).sqrt()
        return value + hits + shares, error

    def sample(self, c: Tensor, generator: torch.Generator, config: DiffusionConfig) -> Tensor:
        """One z for each row of c, (B, L + N)."""
        energy = self.energies.sample(c, generator, config)
        told = torch.cat([c, shown(energy)], 1)
        spins = self.hits.sample(told, generator, replace(config, steps=STEPS))
        y = self.shares.sample(torch.cat([told, spins], 1), generator, config)
        return torch.cat([energy, torch.where(spins > 0, y, -math.inf)], 1)

    def _split(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """log E, the condition with it, hits as spins, y (0 where there is none) and its mask."""
        energy, y = z[:, : self.layers], z[:, self.layers :]
        part = y.isfinite()
        told = torch.cat([c, shown(energy)], 1)
        return energy, told, 2.0 * (y > -math.inf) - 1, torch.where(part, y, 0.0), part

"""One network for all sites of a long x: the law of a site, given a window of earlier ones and θ.

Weights are shared by all positions. θ scales and shifts every layer, and adds to the first one a
smooth field over the positions, so that the law may change along x; beside the layers a linear
term whose weights depend on θ holds what the window says one by one, which is all of a linear
autoregression. As a site needs its window alone, drawing one costs no more than scoring one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from physgen.nn.affine import Grid, slowest_modes
from physgen.nn.blocks import FiLM, ResidualMLP
from physgen.surrogates.autoregressive.chain import ChainPart
from physgen.surrogates.autoregressive.conditional import (
    FilmedLayers,
    SharedStage,
    StageCoefficients,
    look,
)
from physgen.surrogates.autoregressive.site import Site

__all__ = ["CausalNet", "CausalStage"]

MODES, FEW = 8, 32
"""Of the field over the positions; hidden units of what is a function of θ alone."""


class CausalNet(FilmedLayers):
    """p(x_i|window, θ) as R numbers.

    Args:
        window: sites of a window, F.
        site: what a site may hold.
        modes: of the field over the positions, K.
        condition: components of c.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    def __init__(
        self, window: int, site: Site, modes: int, condition: int, hidden: int, blocks: int
    ) -> None:
        super().__init__()
        self.straight, self.modes = site.straight, modes
        self.enter = nn.Linear(window * site.inputs, hidden)
        self.absent = nn.Linear(window, hidden, bias=False)
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.films = nn.ModuleList(FiLM(condition, hidden) for _ in range(1 + blocks))
        self.profile = ResidualMLP(condition, modes * hidden, FEW, 1)
        self.slopes = ResidualMLP(condition, window * site.inputs * site.straight, FEW, 1)
        self.leave = nn.Linear(hidden, site.outputs)
        self.activation = nn.SiLU()
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def coefficients(self, c: Tensor) -> StageCoefficients:
        """What depends on θ alone: of each layer, the slopes and the profile; c (B, D)."""
        slopes = self.slopes(c).unflatten(1, (-1, self.straight))
        profile = self.profile(c).unflatten(1, (self.modes, -1))
        return StageCoefficients(self.films_of(c), slopes, profile)

    def forward(
        self, inputs: Tensor, absent: Tensor, place: Tensor, theta: StageCoefficients
    ) -> Tensor:
        """The numbers of the laws of m sites, (B, m, R).

        Args:
            inputs: (B, m, F·E) code of their windows.
            absent: (1, m, F) or (B, m, F), 1 for what a window lacks.
            place: (1, m, K) or (B, m, K) modes at their positions.
            theta: the coefficients.
        """
        ((gain, shift), *films), slopes, profile, _ = theta
        h = self.enter(inputs) * gain + shift + self.absent(absent)
        h = h if profile is None else h + place @ profile
        raw = self.leave(self.hidden(h, films))
        first, rest = raw[..., : self.straight], raw[..., self.straight :]
        return torch.cat([first + inputs @ slopes, rest], -1)


class CausalStage(SharedStage):
    """A channel of x with its network.

    Args:
        part: its sites and their windows.
        site: what a site may hold.
        grid: the positions.
        condition: components of c.
        hidden: units of a layer.
        blocks: residual blocks.
    """

    modes: Tensor
    at_once, common = False, True

    def __init__(
        self, part: ChainPart, site: Site, grid: Grid, condition: int, hidden: int, blocks: int
    ) -> None:
        super().__init__()
        n, window = part.parents.shape
        modes = slowest_modes(grid, MODES).T.contiguous()
        self.register_buffer("sites", part.sites, persistent=False)
        self.register_buffer("parents", part.parents, persistent=False)
        self.register_buffer("modes", modes, persistent=False)
        self.register_buffer("all", torch.arange(n)[None], persistent=False)
        self.site, self.none = site, grid.channels * n
        self.net = CausalNet(window, site, modes.shape[1], condition, hidden, blocks)

    def coefficients(self, c: Tensor) -> StageCoefficients:
        """What of the network depends on θ alone, of c (B, D)."""
        return self.net.coefficients(c)

    def raw(self, field: Tensor, which: Tensor, theta: StageCoefficients) -> Tensor:
        """What the network gives for the laws of some sites, (B, m, R)."""
        parents = self.parents[which]
        absent = (parents == self.none).to(field.dtype)
        raw = self.net(look(field, parents), absent, self.modes[which], theta)
        if theta.offset is None:
            return raw
        offset = torch.stack([self.own(o, which) for o in theta.offset], -1)
        return torch.cat([raw[..., :2] + offset, raw[..., 2:]], -1)

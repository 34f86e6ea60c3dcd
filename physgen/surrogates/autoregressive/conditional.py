"""The network of a part of the chain: the law of a site's value, given its parents and θ.

One network serves all sites of a part; each site has a bias of its own (`place`), and θ scales and
shifts every layer. Beside the layers a linear term, whose weights depend on θ, holds what the
parents say one by one: for spins given all their neighbours it is the whole answer, 2β Σ s.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.blocks import FiLM
from physgen.surrogates.autoregressive.chain import ChainPart, columns_like, sites_like
from physgen.surrogates.autoregressive.site import Offset, Site

__all__ = ["Conditional", "FilmedLayers", "SharedStage", "Stage", "StageCoefficients", "look"]

FEW = 64
"""Hidden units of what is a function of θ alone."""


class StageCoefficients(NamedTuple):
    """What depends on θ alone.

    Attributes:
        films: gain and shift of each layer, (B, 1, H) each.
        slopes: (B, I, R) weights of the linear term.
        profile: (B, K, H) amplitudes of a field over the positions, where there is one.
        offset: (B, N) each, of the location and the log scale of all sites, where there are such.
    """

    films: list[tuple[Tensor, Tensor]]
    slopes: Tensor
    profile: Tensor | None = None
    offset: Offset | None = None


class FilmedLayers(nn.Module):
    """Residual blocks of two layers, each scaled and shifted by a function of θ."""

    first: nn.ModuleList
    second: nn.ModuleList
    films: nn.ModuleList
    activation: nn.Module

    def films_of(self, c: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Gain and shift of each layer, (B, 1, H) each, of c (B, D)."""
        return [film.coefficients(c[:, None]) for film in self.films if isinstance(film, FiLM)]

    def hidden(self, h: Tensor, films: list[tuple[Tensor, Tensor]]) -> Tensor:
        """What the blocks make of h (B, m, H), (B, m, H), by their gains and shifts."""
        layers = zip(films, self.first, self.second, strict=True)
        for (gain, shift), first, second in layers:
            u = torch.addcmul(shift, first(self.activation(h)), gain)
            h = h + second(self.activation(u))
        return self.activation(h)


class Conditional(FilmedLayers):
    """p(x_i|parents, θ) as R numbers: a residual network beside a linear term.

    Args:
        sites: sites of the part, n.
        inputs: numbers that the parents come to, I.
        outputs: numbers of a site's law, R.
        condition: components of c.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    def __init__(
        self, sites: int, inputs: int, outputs: int, condition: int, hidden: int, blocks: int
    ) -> None:
        super().__init__()
        self.condition, self.outputs = condition, outputs
        self.place = nn.Parameter(torch.zeros(sites, hidden))
        self.enter = nn.Linear(inputs, hidden)
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.films = nn.ModuleList(FiLM(condition, hidden, FEW) for _ in range(1 + blocks))
        self.leave = nn.Linear(hidden, outputs)
        slopes = nn.Linear(FEW, inputs * outputs)
        self.slopes = nn.Sequential(nn.Linear(condition, FEW), nn.SiLU(), slopes)
        self.activation = nn.SiLU()
        for last in (slopes, self.leave):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def coefficients(self, c: Tensor) -> StageCoefficients:
        """What depends on θ alone: gain and shift of each layer, and the slopes; c (B, D)."""
        return StageCoefficients(self.films_of(c), self.slopes(c).unflatten(1, (-1, self.outputs)))

    def forward(self, inputs: Tensor, which: Tensor, theta: StageCoefficients) -> Tensor:
        """Parents (B, m, I) of sites (1, m) or (B, m) of the part → (B, m, R)."""
        ((gain, shift), *films), slopes, *_ = theta
        h = torch.addcmul(shift, self.enter(inputs) + self.place[which], gain)
        return self.leave(self.hidden(h, films)) + inputs @ slopes


class SharedStage(nn.Module, abc.ABC):
    """Sites of x whose laws one network gives.

    Attributes:
        sites: (n,) which sites of x.
        parents: (n, F) sites that each of them is drawn from.
        all: (1, n) their numbers within the stage.
        site: what a site may hold.
        net: the network.
        at_once: whether they are drawn at once.
        common: whether all rows of a training step look at the same sites.
    """

    sites: Tensor
    parents: Tensor
    all: Tensor
    site: Site
    at_once: bool
    common: bool

    @abc.abstractmethod
    def coefficients(self, c: Tensor) -> StageCoefficients:
        """What of the network depends on θ alone, of c (B, D)."""

    @abc.abstractmethod
    def raw(self, field: Tensor, which: Tensor, theta: StageCoefficients) -> Tensor:
        """What the network gives for the laws of some sites, (B, m, R).

        Args:
            field: (B, N + 1, E) x as code, of which earlier sites alone are looked at.
            which: (1, m) or (B, m) numbers within the stage.
            theta: the coefficients of the network.
        """

    def log_p(
        self, values: Tensor, field: Tensor, which: Tensor, theta: StageCoefficients
    ) -> Tensor:
        """Log p of the values (B, N) that some sites have, (B, m)."""
        return self.site.log_p(self.raw(field, which, theta), self.own(values, which))

    def own(self, values: Tensor, which: Tensor) -> Tensor:
        """Of the values (B, N) those of some sites, (B, m)."""
        return values.gather(1, self.sites[which].expand(len(values), -1))


class Stage(SharedStage):
    """A part of the chain with its network.

    Where the law is symmetric under a flip, the parents of a site and its log odds are multiplied
    by the majority of the parents, or one of them, the reference, where votes are equal. So the
    symmetry is exact, and half of the function is left to learn.

    Args:
        part: sites and their parents.
        site: what a site may hold.
        condition: components of c.
        hidden: units of a layer.
        blocks: residual blocks.
        flips: whether the law is symmetric under a flip.
    """

    reference: Tensor
    common = False

    def __init__(
        self,
        part: ChainPart,
        site: Site,
        condition: int,
        hidden: int,
        blocks: int,
        *,
        flips: bool,
    ) -> None:
        super().__init__()
        n, inputs = part.parents.shape
        self.register_buffer("sites", part.sites, persistent=False)
        self.register_buffer("parents", part.parents, persistent=False)
        self.register_buffer("reference", part.reference[:, None], persistent=False)
        self.register_buffer("all", torch.arange(n)[None], persistent=False)
        self.site, self.at_once, self.flips = site, part.at_once, flips
        self.torus = part.torus
        self.net = Conditional(n, site.inputs * inputs, site.outputs, condition, hidden, blocks)

    def coefficients(self, c: Tensor) -> StageCoefficients:
        """What of the network depends on θ alone, of c (B, D)."""
        return self.net.coefficients(c)

    def state_for(self, other: Stage) -> dict[str, Tensor]:
        """The weights of its network as a stage on another torus holds them.

        The terms of sites (n, H) go by the site that each is like, the weights of parents
        (2·columns·E, …) by columns.
        """
        state = self.net.state_dict()
        if not (self.torus and other.torus):
            return state
        like = sites_like(self.torus, other.torus)[other.sites.cpu()]
        place = torch.searchsorted(self.sites, like.to(self.sites))
        state["place"] = state["place"][place.clamp(max=len(self.sites) - 1)]
        if self.at_once:
            return state
        columns = columns_like(self.torus[1], other.torus[1]).to(state["place"])

        def moved(w: Tensor) -> Tensor:
            """Of weights (2·columns·k, …)."""
            w = w.unflatten(0, (2, len(columns.T), -1))
            return torch.einsum("nc,gc...->gn...", columns, w).flatten(0, 2)

        state["enter.weight"] = moved(state["enter.weight"].T).T
        for name in ("slopes.2.weight", "slopes.2.bias"):
            state[name] = moved(state[name])
        return state

    def raw(self, field: Tensor, which: Tensor, theta: StageCoefficients) -> Tensor:
        """What the network gives for the laws of some sites, log odds of levels, (B, m, R)."""
        inputs = look(field, self.parents[which])
        if not self.flips:
            return self.net(inputs, which, theta)
        votes = inputs.sum(-1, keepdim=True)
        sign = torch.where(votes == 0, look(field, self.reference[which]), votes.sign())
        return sign * self.net(sign * inputs, which, theta)


def look(field: Tensor, sites: Tensor) -> Tensor:
    """The code of sites (1, m, F) or (B, m, F) in a field (B, N + 1, E), (B, m, F·E)."""
    rows = torch.arange(len(field), device=field.device)[:, None, None] * field.shape[1]
    return F.embedding(sites + rows, field.flatten(0, 1)).flatten(2)

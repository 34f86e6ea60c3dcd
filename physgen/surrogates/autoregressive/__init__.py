r"""Autoregression: p(x|θ) = Π_i p(x_i|x_<i, θ), exact and normalised.

One site is drawn after another, each from a distribution that a network gives for its value, with
the sites drawn before as input and θ by FiLM (van den Oord et al. 2016, arXiv:1601.06759; Germain
et al. 2015, arXiv:1502.03509; for the Ising model Wu, Wang and Zhang 2019, arXiv:1809.10606). A
site never sees itself or a later one, so log p is a sum of log probabilities: one pass, no error,
normalised whatever the weights.

`site` says what a site may hold (spins, levels, a real number, or a nonnegative one behind a
hurdle), `chain` in which order and from what each is drawn; `conditional` holds the network. Of a
long x, a series or a field, a site is drawn from the `window` of the nearest earlier ones, by one
network for all (`causal`), once an `affine` map has taken out what θ tells of all sites together.
Short x of reals, counts, many levels or columns of different kinds has a network for each column
(`separate`), and `columns` says what a column may hold. Short nonnegative x has one network for
all columns, which sees sums over the earlier ones (:mod:`physgen.nn.energy_chain`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.affine import ALONE, AffineMap, Grid
from physgen.nn.energy_chain import EnergyChain
from physgen.surrogates.autoregressive.causal import CausalStage
from physgen.surrogates.autoregressive.chain import ChainPart, parts
from physgen.surrogates.autoregressive.conditional import SharedStage, Stage
from physgen.surrogates.autoregressive.gradient import LevelGradient
from physgen.surrogates.autoregressive.separate import SeparateColumns
from physgen.surrogates.autoregressive.site import (
    CountSite,
    HurdleSite,
    LevelSite,
    Offset,
    RealSite,
    Site,
)
from physgen.surrogates.autoregressive.window import nearest_offsets, window_parts
from physgen.surrogates.base import Likelihood, Noise, Objective
from physgen.surrogates.hamiltonian import Differentiable
from simulators.base import SUPPORTS, Support

__all__ = ["Autoregressive", "AutoregressiveConfig"]

FEW = 32
"""Hidden units where the neighbours say all."""
SHARED_LEVELS = 256
"""Levels of a site, each of which is an input of a shared network, at most."""
LONG: tuple[Support, ...] = ("reals", "counts")
"""Of which long x has a network for all sites, if there is no other choice."""
MOST_COLUMNS = 64
"""Columns that have networks of their own, at most."""
LAWS = 3
"""Gamma laws of a component of x in a chain."""
Network = Literal["shared", "separate", "causal", "chain"]
OPTIONS_OF: Mapping[Network, tuple[str, ...]] = {
    "shared": ("order", "context"),
    "separate": ("mixture",),
    "causal": ("window", "modes", "spectrum"),
}
"""Options that one network alone has."""


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Options of the autoregressive model.

    Attributes:
        order: raster draws row after row; checkerboard draws one colour so and then the other at
            once from its neighbours (right for nearest-neighbour couplings); auto does so on a
            torus whose sides are even.
        context: what a site is drawn from: frontier, the last and first site of each column
            (right for nearest-neighbour couplings on a torus), or all earlier sites; auto takes
            the frontier on a torus.
        hidden: units of a layer (at least 1).
        blocks: residual blocks of two layers (at least 0).
        sites: sites of each x and stage that a training step looks at, drawn at random; 0 for all.
        components: laws in the mixture of a component of x that is no level (at least 1); 0 takes
            8 where each component has a network of its own, 3 in a chain, else 2.
        network: shared, one for all sites, as order and context say; separate, one for each of at
            most 64 components of x; causal, one for all sites of a long series or field, which
            sees a window of the nearest earlier ones; chain, one for all of at most 64 nonnegative
            components, which sees sums over the earlier ones. auto takes separate for mixed
            columns, for more than 256 levels, and for at most 64 reals or counts without axes;
            causal for other reals and counts; for at most 64 nonnegative components without axes
            what `nonnegative` says; shared for all else.
        nonnegative: what auto takes for at most 64 nonnegative components without axes.
        mixture: laws in the mixture of a real component, of separate networks: gaussian, or
            student, whose tails are learnt.
        window: sites that a causal network sees (at least 1).
        modes: slowest waves of which the mean given θ is made, before a causal network (at least
            1).
        spectrum: along which axes θ also scales the waves of x, before a causal network, which
            makes any Gaussian field on a torus white: periodic, those along which shifts are
            symmetries; all; or none.
    """

    order: Literal["auto", "checkerboard", "raster"] = "auto"
    context: Literal["auto", "frontier", "all"] = "auto"
    hidden: int = 64
    blocks: int = 1
    sites: int = 16
    components: int = 0
    network: Literal["auto", "shared", "separate", "causal", "chain"] = "auto"
    nonnegative: Literal["chain", "shared"] = "chain"
    mixture: Literal["gaussian", "student"] = "gaussian"
    window: int = 24
    modes: int = 64
    spectrum: Literal["periodic", "all", "none"] = "periodic"

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        least = {"hidden": 1, "blocks": 0, "components": 0, "sites": 0, "window": 1, "modes": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")


class Autoregressive(Differentiable):
    """Autoregressive p(x|θ) of any x."""

    name: ClassVar[str] = "autoregressive"
    Config = AutoregressiveConfig
    supports: ClassVar[tuple[Support, ...]] = SUPPORTS
    leaves_out: ClassVar[bool] = True
    earlier_options: ClassVar[dict[str, Any]] = {"nonnegative": "shared"}
    later_buffers: ClassVar[tuple[str, ...]] = ("affine.spectrum.reference",)

    def __init__(self, law: Law, config: AutoregressiveConfig) -> None:
        super().__init__(law, config)
        network = network_of(law, config)
        self.columns = columns_in_turn(law, config, network)
        if self.columns is not None:
            return
        self.site = site_of(law, config)
        causal = network == "causal"
        placed = causal and law.support in LONG
        self.affine = affine_of(law, config) if placed else None
        make = causal_stages if causal else shared_stages
        self.chain = nn.ModuleList(make(law, config, self.site))

    def at(self, law: Law, **options: Any) -> Self:
        """As :meth:`Surrogate.at`; windows of a causal network are to hold the same neighbours."""
        other = super().at(law, **options)
        if any(isinstance(stage, CausalStage) for stage in self.stages):
            own, its = (
                nearest_offsets(Grid.of(one.law).shape, one.config.window) for one in (self, other)
            )
            if not torch.equal(own, its):
                raise UsageError(
                    f"{self.name}: the {self.config.window} nearest earlier sites are others on x "
                    f"of shape {law.x_shape} than on {self.law.x_shape}; train anew, or with a "
                    "smaller window"
                )
        return other

    def _state_for(self, other: Self) -> dict[str, Tensor]:
        """As :meth:`Surrogate._state_for`, sites and columns of a frontier as those like them."""
        state = super()._state_for(other)
        if self.columns is None and len(self.stages) == len(other.stages):
            for i, (own, its) in enumerate(zip(self.stages, other.stages, strict=True)):
                if isinstance(own, Stage) and isinstance(its, Stage):
                    moved = own.state_for(its)
                    state |= {f"chain.{i}.net.{name}": w for name, w in moved.items()}
        return state

    @property
    def stages(self) -> list[SharedStage]:
        """The networks, in the order of the chain."""
        return [stage for stage in self.chain if isinstance(stage, SharedStage)]

    def values(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Offset | None]:
        """What sites hold, and what θ tells of all of them.

        Args:
            c: (B, D).
            z: (B, *x_shape).

        Returns:
            Values (B, N), the volume of the map to them, (B,), and the offset of their laws.
        """
        if self.affine is None or isinstance(self.site, CountSite):
            return self.site.values(z), torch.zeros(len(z), device=z.device), self.offset(c)
        u, log_det = self.affine.white(c, z, self.transform.whole)
        return self.site.values(u), log_det, None

    def offset(self, c: Tensor) -> Offset | None:
        """Location and log scale of counts that θ, c (B, D), tells, (B, N) each."""
        if self.affine is None or not isinstance(self.site, CountSite):
            return None
        with torch.autocast(c.device.type, enabled=False):
            location, scale, _ = self.affine.coefficients(c)
        return location.flatten(1) + self.site.typical, scale.flatten(1)

    @property
    def likelihood(self) -> Likelihood:
        """A product of normalised conditionals."""
        return Likelihood.EXACT

    def fit_transform(self, x: Tensor, theta: Tensor | None = None) -> None:
        """Fit the map of x, and where columns lie given θ (n, D), to rows (n, *x_shape)."""
        super().fit_transform(x, theta)
        if self.columns is not None:
            c = None if theta is None else self.rescale(theta.to(self.device))
            self.columns.fit(self.transform(x.to(self.device)).flatten(1), c)
        else:
            self.site.fit(self.site.values(self.transform(x.to(self.device))))

    def field(self, values: Tensor) -> Tensor:
        """Values (B, N) as code, with a blank site at the end, (B, N + 1, E)."""
        return F.pad(self.site.code(values), (0, 0, 0, 1))

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        """−log p(z|c); in training, of some sites of each stage, scaled up, (B,)."""
        if self.columns is not None:
            return -self.columns.log_p(c, z.flatten(1)).sum(1)
        values, log_det, offset = self.values(c, z)
        near = self.site.reference(values, offset)
        if self.affine is not None and self.training and progress < ALONE:
            values = values.detach()
            offset = offset and (offset[0].detach(), offset[1].detach())
        field, loss = self.field(values), -log_det - near.sum(1)
        expected = self.site.reference(values, offset)
        for stage in self.stages:
            which = self.sites_of_step(stage, len(z), generator)
            n, m = len(stage.sites), which.shape[1]
            theta = stage.coefficients(c)._replace(offset=offset)
            more = stage.log_p(values, field, which, theta) - stage.own(expected, which)
            loss = loss - n / m * more.sum(1)
        return loss

    def objectives(self) -> list[Objective]:
        """Of levels the gradient is in closed form, on a CPU; of a subclass autograd's."""
        gradient = LevelGradient.of(self) if type(self) is Autoregressive else None
        return [Objective("loss", list(self.parameters()), self.loss, gradient)]

    def sites_of_step(self, stage: SharedStage, rows: int, generator: torch.Generator) -> Tensor:
        """Numbers of the sites of a stage that a step looks at, (rows, m) or (1, m)."""
        n = len(stage.sites)
        m = min(n, self.config.sites or n) if self.training else n
        rows = 1 if stage.common else rows
        return stratified_sites(n, m, rows, generator) if m < n else stage.all

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        if self.columns is not None:
            log_p = self.columns.log_p(c, z.flatten(1)).double().sum(1)
            return log_p, torch.zeros_like(log_p)
        values, log_det, offset = self.values(c, z)
        field, total = self.field(values), log_det.double()
        for stage in self.stages:
            theta = stage.coefficients(c)._replace(offset=offset)
            for which in stage.all.split(max(1, 32 * self._at_once // max(1, len(z))), 1):
                total += stage.log_p(values, field, which, theta).double().sum(1)
        return total, torch.zeros_like(total)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        if self.columns is not None:
            return self.columns.sample(c, generator).view(len(c), *self.law.x_shape)
        uniforms = torch.rand(len(c), self.law.size, generator=generator, device=c.device)
        z = self.site.numbers(self.draw(c, uniforms, generator))
        if self.affine is not None and not isinstance(self.site, CountSite):
            z = self.affine.inverse(z, self.affine.coefficients(c, self.transform.whole))
        return z.view(len(c), *self.law.x_shape)

    def draw(
        self, c: Tensor, uniforms: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Values (B, N), levels each by the inverse of its conditional distribution function.

        Args:
            c: (B, D).
            uniforms: (B, N) in [0, 1), one for each site.
            generator: further random numbers, for what is no level.
        """
        values = self.site.values(torch.zeros_like(uniforms))
        field, offset = torch.zeros_like(self.field(values)), self.offset(c)
        for stage in self.stages:
            theta, n = stage.coefficients(c)._replace(offset=offset), len(stage.sites)
            for which in stage.all.split(n if stage.at_once else 1, 1):
                sites = stage.sites[which[0]]
                raw = stage.raw(field, which, theta)
                drawn = self.site.draw(raw, uniforms[:, sites], generator)
                values[:, sites], field[:, sites] = drawn, self.site.code(drawn)
        return values


def network_of(law: Law, config: AutoregressiveConfig) -> Network:
    """Which network x has: shared, separate, chain or causal.

    Raises:
        UsageError: x that has no such network, or an option of another one.
    """
    only = law.support == "mixed" or law.levels > SHARED_LEVELS
    vector = not (law.periodic or law.axes)
    short = law.size <= MOST_COLUMNS and vector
    found: Network = "causal" if law.support in LONG else "shared"
    if short and law.support == "nonnegative":
        found = config.nonnegative
    found = "separate" if only or (short and law.support in LONG) else found
    found = found if config.network == "auto" else config.network
    if only and found != "separate":
        raise UsageError(
            f"autoregressive: network: expected separate for {law.support_text}, got {found}"
        )
    if found == "chain" and (law.support != "nonnegative" or law.size > MOST_COLUMNS):
        raise UsageError(
            f"autoregressive: network chain: expected at most {MOST_COLUMNS} nonnegative "
            f"components of x, got {law.size} of {law.support_text}; take shared, or cvae"
        )
    if found == "separate" and law.size > MOST_COLUMNS:
        raise UsageError(
            f"autoregressive: separate networks, one for each component of x: expected at most "
            f"{MOST_COLUMNS}, got {law.size}; take cvae"
        )
    refuse_options_of_others(config, found)
    return found


def refuse_options_of_others(config: AutoregressiveConfig, found: Network) -> None:
    """Refuse options that are given and belong to another network than x has.

    Raises:
        UsageError: one.
    """
    for network, names in OPTIONS_OF.items():
        for name in names if network != found else ():
            if getattr(config, name) != getattr(AutoregressiveConfig, name):
                raise UsageError(
                    f"autoregressive: {name}: is an option of {network} networks, and {found} is "
                    f"what x has here; leave it out, or take network {network}"
                )


def columns_in_turn(
    law: Law, config: AutoregressiveConfig, network: Network
) -> SeparateColumns | EnergyChain | None:
    """Networks that see components of x one after another, for a chain of all; else None."""
    size = (config.hidden, config.blocks)
    if network == "chain":
        return EnergyChain(law.size, len(law.prior), config.components or LAWS, *size)
    if network != "separate":
        return None
    return SeparateColumns(
        law.component_supports,
        len(law.prior),
        config.mixture,
        config.components or 8,
        *size,
    )


def site_of(law: Law, config: AutoregressiveConfig) -> Site:
    """What a site of x may hold."""
    if law.support == "reals":
        return RealSite(config.components or 2)
    if law.support == "counts":
        return CountSite(config.components or 2, law.size)
    if law.support == "nonnegative":
        return HurdleSite(config.components or 2)
    return LevelSite(law.levels or 2, law.support == "spins")


def affine_of(law: Law, config: AutoregressiveConfig) -> AffineMap:
    """What θ tells of all sites of a long x together."""
    grid = Grid.of(law)
    if law.support == "counts":
        return AffineMap(grid, len(law.prior), config.modes, ())
    along = {
        "periodic": grid.alike, "all": (True,) * len(grid.shape), "none": ()
    }[config.spectrum]  # fmt: skip
    return AffineMap(grid, len(law.prior), config.modes, along)


def causal_stages(law: Law, config: AutoregressiveConfig, site: Site) -> Iterator[CausalStage]:
    """A stage for each channel of a long x."""
    grid = Grid.of(law)
    for part in window_parts(grid, config.window):
        yield CausalStage(part, site, grid, len(law.prior), config.hidden, config.blocks)


def shared_stages(law: Law, config: AutoregressiveConfig, site: Site) -> Iterator[Stage]:
    """A stage for each part of the chain."""
    for part in chain_of(law, config):
        size = (FEW, 0) if part.at_once else (config.hidden, config.blocks)
        yield Stage(part, site, len(law.prior), *size, flips="flip" in law.symmetries)


def chain_of(law: Law, config: AutoregressiveConfig) -> list[ChainPart]:
    """The chain that law and options ask for.

    Raises:
        UsageError: an order or a context that x of this shape does not have.
    """
    flat = len(law.x_shape) != 2 or "channel" in law.axes
    rows, columns = (1, law.size) if flat else law.x_shape
    torus = law.periodic and not flat
    order, context = config.order, config.context
    if order == "auto":
        order = "checkerboard" if torus and rows % 2 == columns % 2 == 0 else "raster"
    if context == "auto":
        context = "frontier" if torus else "all"
    if order == "checkerboard" and flat:
        raise UsageError(f"autoregressive: order checkerboard: not for x of shape {law.x_shape}")
    if context == "frontier" and not torus:
        raise UsageError(
            "autoregressive: context frontier: not for x that is no lattice of two axes on a torus"
        )
    return parts(
        rows,
        columns,
        checkerboard=order == "checkerboard",
        periodic=torus,
        whole=context == "all",
    )


def stratified_sites(n: int, m: int, rows: int, generator: torch.Generator) -> Tensor:
    """Random numbers below n for each row, one out of each m-th part of them, (rows, m)."""
    device = generator.device
    u = torch.rand(rows, m, generator=generator, device=device)
    return ((torch.arange(m, device=device) + u) * n / m).long().clamp(max=n - 1)

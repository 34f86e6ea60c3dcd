r"""Autoregression: p(x|θ) = Π_i p(x_i|x_<i, θ), exact and normalised.

One site is drawn after another, each from a distribution that a network gives for its value, with
the sites drawn before as input and θ by FiLM (van den Oord et al. 2016, arXiv:1601.06759; Germain
et al. 2015, arXiv:1502.03509; for the Ising model Wu, Wang and Zhang 2019, arXiv:1809.10606). A
site never sees itself or a later one, so log p is a sum of log probabilities: one pass, no error,
normalised whatever the weights.

`site` says what a site may hold (spins, levels, or a nonnegative number behind a hurdle), `chain`
in which order and from what each is drawn; `conditional` holds the network. Short x of reals,
counts, many levels or columns of different kinds has a network for each column (`separate`), and
`columns` says what a column may hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.law import Law
from physgen.surrogates.autoregressive.chain import ChainPart, parts
from physgen.surrogates.autoregressive.conditional import Stage
from physgen.surrogates.autoregressive.separate import SeparateColumns
from physgen.surrogates.autoregressive.site import HurdleSite, Levels, Site
from physgen.surrogates.base import Likelihood, Noise, Surrogate
from simulators.base import SUPPORTS, Support

__all__ = ["Autoregressive", "AutoregressiveConfig"]

FEW = 32
"""Hidden units where the neighbours say all."""
MOST_LEVELS = 256
"""Values of a site, each of which is an input."""
MOST_COLUMNS = 64
"""Columns that have networks of their own, at most."""


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
        components: laws in the mixture of a number (at least 1); 0 takes 2 Gamma laws where sites
            share a network, and 8 laws where they do not.
        network: shared by all sites, or separate, one for each component of x of up to 64; auto
            takes separate ones for reals, counts, mixed columns and more than 256 levels.
        mixture: of what laws a real component of such x is a mixture: gaussian, or student, whose
            tails are learnt.
    """

    order: Literal["auto", "checkerboard", "raster"] = "auto"
    context: Literal["auto", "frontier", "all"] = "auto"
    hidden: int = 64
    blocks: int = 1
    sites: int = 16
    components: int = 0
    network: Literal["auto", "shared", "separate"] = "auto"
    mixture: Literal["gaussian", "student"] = "gaussian"

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        for name, low in (("hidden", 1), ("blocks", 0), ("components", 0), ("sites", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")


class Autoregressive(Surrogate):
    """Autoregressive p(x|θ) of any x."""

    name: ClassVar[str] = "autoregressive"
    Config = AutoregressiveConfig
    supports: ClassVar[tuple[Support, ...]] = SUPPORTS
    leaves_out: ClassVar[bool] = True

    def __init__(self, law: Law, config: AutoregressiveConfig) -> None:
        super().__init__(law, config)
        self.columns = separate_columns(law, config) if is_separate(law, config) else None
        if self.columns is not None:
            return
        self.site = site_of(law, config)
        self.chain = nn.ModuleList(
            Stage(
                part,
                self.site,
                len(law.prior),
                *((FEW, 0) if part.at_once else (config.hidden, config.blocks)),
                flips="flip" in law.symmetries,
            )
            for part in chain_of(law, config)
        )

    @property
    def stages(self) -> list[Stage]:
        """The networks, in the order of the chain."""
        return [stage for stage in self.chain if isinstance(stage, Stage)]

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

    def field(self, values: Tensor) -> Tensor:
        """Values (B, N) as code, with a blank site at the end, (B, N + 1, E)."""
        return F.pad(self.site.code(values), (0, 0, 0, 1))

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        """−log p(z|c); in training, of some sites of each stage, scaled up, (B,)."""
        if self.columns is not None:
            return -self.columns.log_p(c, z.flatten(1)).sum(1)
        values = self.site.values(z)
        field, loss = self.field(values), torch.zeros(len(z), device=z.device)
        for stage in self.stages:
            n = len(stage.sites)
            m = min(n, self.config.sites or n) if self.training else n
            which = stratified_sites(n, m, len(z), generator) if m < n else stage.all
            log_p = stage.log_p(values, field, which, stage.net.coefficients(c))
            loss = loss - n / m * log_p.sum(1)
        return loss

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        if self.columns is not None:
            log_p = self.columns.log_p(c, z.flatten(1)).double().sum(1)
            return log_p, torch.zeros_like(log_p)
        values = self.site.values(z)
        field = self.field(values)
        total = torch.zeros(len(z), device=z.device, dtype=torch.float64)
        for stage in self.stages:
            theta = stage.net.coefficients(c)
            for which in stage.all.split(max(1, 32 * self._at_once // max(1, len(z))), 1):
                total += stage.log_p(values, field, which, theta).double().sum(1)
        return total, torch.zeros_like(total)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        if self.columns is not None:
            return self.columns.sample(c, generator).view(len(c), *self.law.x_shape)
        uniforms = torch.rand(len(c), self.law.size, generator=generator, device=c.device)
        z = self.site.numbers(self.draw(c, uniforms, generator))
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
        field = torch.zeros_like(self.field(values))
        for stage in self.stages:
            theta, n = stage.net.coefficients(c), len(stage.sites)
            for which in stage.all.split(n if stage.at_once else 1, 1):
                sites = stage.sites[which[0]]
                raw = stage.raw(field, which, theta)
                drawn = self.site.draw(raw, uniforms[:, sites], generator)
                values[:, sites], field[:, sites] = drawn, self.site.code(drawn)
        return values


def is_separate(law: Law, config: AutoregressiveConfig) -> bool:
    """Whether each component has a network of its own.

    Raises:
        UsageError: too many components for that, or x that has no other network.
    """
    only = law.support in ("reals", "counts", "mixed") or law.levels > MOST_LEVELS
    if config.network == "separate" or only:
        if law.size > MOST_COLUMNS or config.network == "shared":
            raise UsageError(
                f"autoregressive: {law.support_text} of {law.size} components: expected separate "
                f"networks, of at most {MOST_COLUMNS} components"
            )
        return True
    return False


def separate_columns(law: Law, config: AutoregressiveConfig) -> SeparateColumns:
    """Networks of the components of x."""
    return SeparateColumns(
        tuple(f"levels:{law.levels}" if s == "levels" else s for s in law.component_supports),
        len(law.prior),
        config.mixture,
        config.components or 8,
        config.hidden,
        config.blocks,
    )


def site_of(law: Law, config: AutoregressiveConfig) -> Site:
    """What a site of x may hold."""
    if law.support == "nonnegative":
        return HurdleSite(config.components or 2)
    return Levels(law.levels or 2, law.support == "spins")


def chain_of(law: Law, config: AutoregressiveConfig) -> list[ChainPart]:
    """The chain that law and options ask for.

    Raises:
        UsageError: an order or a context that x of this shape does not have.
    """
    flat = len(law.x_shape) != 2
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
            "autoregressive: context frontier: not for x that is no lattice on a torus"
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

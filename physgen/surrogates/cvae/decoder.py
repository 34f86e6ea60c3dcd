r"""The decoder p(x|h, θ), h being the field that the latents have become.

Spins are decoded from coarse to fine. The sites of a lattice fall into stages; a site of stage s
sees, beside h, the spins of the earlier stages in a window around it, in relative coordinates:

    p(x|h, θ) = Π_i p(x_i | x_j with stage(j) < stage(i) and j near i; h, θ).

All factors are evaluated in one pass; drawing takes one pass a stage. The last stage is one colour
of the checkerboard: its neighbours belong to earlier stages, so that for nearest-neighbour
couplings its spins are independent given the rest, as this decoder assumes. What earlier stages
leave is the business of the latents: they carry the long wavelengths, the decoder the short ones.
One stage is the factorised decoder of the plain VAE, which cannot carry short-range correlations
at all.

A short real vector is decoded as a mixture of full covariance (:mod:`physgen.nn.multivariate`),
other real x as independent Gaussians given h, nonnegative x as independent hurdles
(:mod:`physgen.nn.hurdle`), counts as independent mixtures (:mod:`physgen.nn.mixtures`); of real
and nonnegative x, components that are missing are left out. Nonnegative x may also be compound
Poisson given h (:mod:`physgen.nn.compound_poisson`).
"""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.blocks import FiLM, convolution, field_shape, periodic_axes, stages_of
from physgen.nn.columns import units_of_counts
from physgen.nn.compound_poisson import CompoundPoisson, require_no_threshold, spot_of
from physgen.nn.densities import normal_log_density
from physgen.nn.hurdle import HurdleGamma, hits
from physgen.nn.mixtures import CountMixture
from physgen.nn.multivariate import MixtureNet, components_for, require_short
from physgen.nn.torus import site_product, takes_numba
from physgen.nn.transforms import finite_part

__all__ = [
    "CoarseToFine",
    "CompoundDecoder",
    "CountDecoder",
    "Decoder",
    "GaussianDecoder",
    "HurdleDecoder",
    "MixtureDecoder",
]

MOST_IN_SPACE = 5
"""Side of a window of three axes at most: 125 sites."""
ROWS = 10_000
"""From which a spot is found, at most."""


class Decoder(nn.Module, abc.ABC):
    """p(x|h, θ) for x as it comes, (B, *x_shape).

    Attributes:
        begins_with_data: whether it takes something from rows before it is trained.
    """

    begins_with_data: ClassVar[bool] = False

    def fit(self, z: Tensor, x: Tensor) -> None:
        """Take what there is to learn from rows z and x (n, *x_shape): nothing by default."""
        return

    @abc.abstractmethod
    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """log p(x|h, c) for K fields h (B, K, C, *grid) of each x (B, *x_shape), (B, K)."""

    @abc.abstractmethod
    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, *grid), (B, *x_shape)."""


class CoarseToFine(Decoder):
    """Bernoulli spins, stage by stage.

    Args:
        law: what x is.
        channels: channels C of the field h.
        stages: number of stages at most; 1 is a factorised decoder, 0 goes down to one site.
        window: side of the window through which a site sees earlier spins.
    """

    stage: Tensor
    neighbours: Tensor
    places: Tensor
    visible: Tensor

    def __init__(self, law: Law, channels: int, stages: int, window: int) -> None:
        super().__init__()
        self.x_shape = law.x_shape
        spins, *rest = field_shape(law)
        if spins > 1:
            raise UsageError("cvae: spins of several channels: not this family; take diffusion")
        grid = tuple(rest)
        window = min(window, MOST_IN_SPACE) if len(grid) == 3 else window
        stage = stages_of(grid, stages)
        stages = int(stage.max()) + 1
        neighbours, inside = windows(grid, window, periodic_axes(law))
        visible = inside & (stage[neighbours] < stage[:, None])
        most = max(1, int(visible.sum(1).max()))
        places = visible.argsort(dim=1, descending=True, stable=True)[:, :most]
        self.register_buffer("stage", stage, persistent=False)
        self.register_buffer("neighbours", neighbours.gather(1, places), persistent=False)
        self.register_buffer(
            "visible", visible.gather(1, places)[..., None].float(), persistent=False
        )
        places = places + stage[:, None] * neighbours.shape[1]
        self.register_buffer("places", places, persistent=False)
        self.weight = nn.Parameter(torch.randn(stages, neighbours.shape[1], channels) / window)
        self.film = FiLM(len(law.prior) + stages, channels)
        self.hidden = nn.Linear(channels, channels)
        self.logit = nn.Linear(channels, 1)

    def logits(self, x: Tensor, h: Tensor, c: Tensor, sites: Tensor) -> Tensor:
        """Log odds of x_i = +1 given h and the earlier spins, for some sites.

        Args:
            x: (B, N) spins; those of later stages do not matter.
            h: (B, K, n, C) fields at these sites.
            c: (B, D).
            sites: (n,) which sites.

        Returns:
            (B, K, n).
        """
        stage, near, places = self.stage[sites], self.neighbours[sites], self.places[sites]
        seen = x.t().index_select(0, near.flatten()).view(*near.shape, len(x))
        weight = self.weight.flatten(0, 1).index_select(0, places.flatten())
        weight = weight.view(*near.shape, -1) * self.visible[sites]
        gain, shift = (
            k.permute(1, 2, 0).contiguous() for k in self.film.coefficients(self._condition(c))
        )
        h = h.permute(2, 3, 0, 1)
        if h.shape[-1] == 1 and takes_numba(x):
            from physgen.nn.grouped_film import grouped_film

            a = grouped_film(torch.baddbmm(h[..., 0], weight.mT, seen), gain, shift, stage)
        else:
            gain, shift = (k.index_select(0, stage)[..., None] for k in (gain, shift))
            a = torch.addcmul(shift, torch.bmm(weight.mT, seen)[..., None] + h, gain).flatten(2)
        a = F.silu(site_product(F.silu(a), self.hidden.weight, self.hidden.bias))
        logit = site_product(a, self.logit.weight, self.logit.bias)
        return logit.view(len(sites), *h.shape[2:]).permute(1, 2, 0)

    def _condition(self, c: Tensor) -> Tensor:
        """c and the stage, one-hot, (B, stages, D + stages)."""
        stages = len(self.weight)
        one_hot = torch.eye(stages, device=c.device).expand(len(c), -1, -1)
        return torch.cat([c[:, None].expand(-1, stages, -1), one_hot], dim=-1)

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h, c) of x (B, *x_shape) under each of h (B, K, C, *grid), (B, K)."""
        x = x.flatten(1)
        sites = torch.arange(x.shape[1], device=x.device)
        logits = self.logits(x, h.flatten(3).transpose(2, 3), c, sites)
        return F.logsigmoid(x[:, None] * logits).sum(-1)

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """Spins for each field h (B, C, *grid), (B, *x_shape)."""
        field = h.flatten(2).transpose(1, 2)[:, None]
        x = torch.zeros(len(h), len(self.stage), device=h.device)
        for s in range(len(self.weight)):
            sites = torch.nonzero(self.stage == s).squeeze(1)
            p = self.logits(x, field[:, :, sites], c, sites)[:, 0].sigmoid()
            x[:, sites] = 2 * torch.bernoulli(p, generator=generator) - 1
        return x.view(len(h), *self.x_shape)


class GaussianDecoder(Decoder):
    """Independent Gaussians, mean and log σ from h."""

    def __init__(self, law: Law, channels: int) -> None:
        super().__init__()
        self.law = law
        self.head = convolution(channels, 2 * field_shape(law)[0], law)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log σ of each component, (B, *x_shape) each; σ is kept above e⁻⁷."""
        mean, log_sigma = self.head(h).chunk(2, dim=1)
        shape = (len(h), *self.law.x_shape)
        return mean.reshape(shape), 7 * torch.tanh(log_sigma / 7).reshape(shape)

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h) of x (B, *x_shape) under each of h (B, K, C, *grid), (B, K)."""
        mean, log_sigma = (m.unflatten(0, h.shape[:2]) for m in self.moments(h.flatten(0, 1)))
        x, part = (v[:, None] for v in finite_part(x))
        r = (x - mean) / log_sigma.exp()
        log_p = normal_log_density(r) - log_sigma
        return (part * log_p).flatten(2).sum(-1)

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, *grid), (B, *x_shape)."""
        mean, log_sigma = self.moments(h)
        noise = torch.randn(mean.shape, generator=generator, device=h.device)
        return mean + log_sigma.exp() * noise


class MixtureDecoder(Decoder):
    """A mixture of Gaussians of full covariance, or of Student's t, of a short vector.

    Args:
        law: what x is, a vector.
        channels: channels C of the field h.
        components: components of the mixture; 0 for as many as the length of x allows.
        tails: whether they are Student's t.

    Raises:
        UsageError: x that is no short vector, or tails where components may be missing.
    """

    def __init__(self, law: Law, channels: int, components: int, tails: bool) -> None:
        super().__init__()
        require_short(law)
        if tails and law.missing:
            raise UsageError(
                "head student: what is missing (NaN) cannot be integrated out of it; take mixture"
            )
        self.law = law
        components = components or components_for(law.size)
        self.net = MixtureNet(len(law.prior), law.size, components, tails, channels)

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h, c) of x (B, *x_shape) under each of h (B, K, C, 1, 1), (B, K)."""
        x, part = (v.flatten(1)[:, None] for v in finite_part(x))
        return self.net(c, h.flatten(2)).log_prob(x, part)

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, 1, 1), (B, *x_shape)."""
        x = self.net(c, h[:, None].flatten(2)).sample(generator)
        return x.view(len(h), *self.law.x_shape)


class IndependentDecoder(Decoder):
    """Independent laws of one kind, their numbers from h by a layer and a linear map.

    Args:
        law: what x is.
        channels: channels C of the field h.
        numbers: numbers R of the law of a component.
    """

    def __init__(self, law: Law, channels: int, numbers: int) -> None:
        super().__init__()
        self.law, self.numbers = law, numbers
        self.hidden = convolution(channels, channels, law)
        self.head = convolution(channels, numbers * field_shape(law)[0], law)

    def raw(self, h: Tensor) -> Tensor:
        """The numbers of each component's law given h (B, C, *grid), (B, *x_shape, R)."""
        raw = self.head(F.silu(self.hidden(F.silu(h)))).unflatten(1, (self.numbers, -1))
        raw = raw.flatten(2).transpose(1, 2)
        return raw.reshape(len(h), *self.law.x_shape, self.numbers)

    @abc.abstractmethod
    def laws(self, h: Tensor) -> HurdleGamma | CompoundPoisson | CountMixture:
        """The law of each component given h (B, C, *grid), (B, *x_shape)."""

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h) of x (B, *x_shape) under each of h (B, K, C, *grid), (B, K)."""
        k = h.shape[1]
        log_p = self.laws(h.flatten(0, 1)).log_prob(x.repeat_interleave(k, 0))
        return log_p.flatten(1).sum(1).view(-1, k)

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, *grid), (B, *x_shape)."""
        return self.laws(h).sample(generator)


class HurdleDecoder(IndependentDecoder):
    """Hurdles of mixtures of Gamma laws.

    Args:
        law: what x is.
        channels: channels C of the field h.
        components: laws in a mixture.
    """

    def __init__(self, law: Law, channels: int, components: int) -> None:
        super().__init__(law, channels, HurdleGamma.parameters(components))

    def laws(self, h: Tensor) -> HurdleGamma:
        """The law of each component given h (B, C, *grid), (B, *x_shape)."""
        return HurdleGamma(self.raw(h))


class CompoundDecoder(IndependentDecoder):
    """Poisson numbers of exponential spots: their number from h, their mean learnt.

    Args:
        law: what x is.
        channels: channels C of the field h.
    """

    begins_with_data: ClassVar[bool] = True
    mean: Tensor

    def __init__(self, law: Law, channels: int) -> None:
        super().__init__(law, channels, 1)
        self.register_buffer("mean", torch.zeros(law.x_shape))
        self.spot = nn.Parameter(torch.zeros(law.x_shape))

    def fit(self, z: Tensor, x: Tensor) -> None:
        """Take mean and spot of each component from rows z and x (n, *x_shape).

        Raises:
            DataError: x that was read out above a threshold only.
        """
        hit = hits(z)
        spot = spot_of(x[:ROWS])
        require_no_threshold(x, spot)
        origin = torch.where(hit, x.log() - z, 0.0).sum(0) / hit.sum(0).clamp(min=1)
        mean = x.nanmean(0, dtype=torch.float64).log() - origin
        with torch.no_grad():
            self.mean.copy_(torch.where(hit.any(0), mean, 0.0))
            self.spot.copy_(spot.log() - origin)

    def laws(self, h: Tensor) -> CompoundPoisson:
        """The law of each component given h (B, C, *grid), (B, *x_shape)."""
        return CompoundPoisson(self.raw(h)[..., 0] + self.mean, self.spot)


class CountDecoder(IndependentDecoder):
    """Mixtures of logistic laws of log k, in units of the data.

    Args:
        law: what x is.
        channels: channels C of the field h.
        components: laws in a mixture.
    """

    begins_with_data: ClassVar[bool] = True
    middle: Tensor
    width: Tensor

    def __init__(self, law: Law, channels: int, components: int) -> None:
        super().__init__(law, channels, CountMixture.parameters(components))
        self.register_buffer("middle", torch.zeros(law.x_shape))
        self.register_buffer("width", torch.ones(law.x_shape))

    def fit(self, z: Tensor, x: Tensor) -> None:
        """Take the units of counts from rows z (n, *x_shape)."""
        for buffer, found in zip((self.middle, self.width), units_of_counts(z), strict=True):
            buffer.copy_(found)

    def laws(self, h: Tensor) -> CountMixture:
        """The law of each component given h (B, C, *grid), (B, *x_shape)."""
        return CountMixture(self.raw(h), self.middle, self.width)


def windows(
    grid: tuple[int, ...], window: int, periodic: tuple[bool, ...]
) -> tuple[Tensor, Tensor]:
    """The sites in a window around each site, and whether they are on the lattice.

    Args:
        grid: sites along each axis.
        window: side of the window; where it exceeds a torus, that is seen once, whole.
        periodic: which axes are periodic.

    Returns:
        neighbours (N, M), inside (N, M).
    """
    sides = [min(window, n if p else 2 * n - 1) for n, p in zip(grid, periodic, strict=True)]
    steps = torch.meshgrid(*[torch.arange(m) - (m - 1) // 2 for m in sides], indexing="ij")
    sites = torch.meshgrid(*[torch.arange(n) for n in grid], indexing="ij")
    neighbours = torch.zeros((), dtype=torch.long)
    inside = torch.ones((), dtype=torch.bool)
    for n, p, site, step in zip(grid, periodic, sites, steps, strict=True):
        at = site.reshape(-1, 1) + step.flatten()
        neighbours = neighbours * n + at % n
        inside = inside & (torch.tensor(p) | ((at >= 0) & (at < n)))
    return neighbours, inside

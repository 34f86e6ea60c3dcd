r"""Conditional variational autoencoder: p(x|θ) = ∫ p(x|z, θ) p(z|θ) dz.

Training maximises a lower bound of log p(x|θ), with q(z|x, θ) the encoder:

    ELBO    = E_q[log p(x|z, θ)] − KL(q(z|x, θ) ‖ p(z|θ))
    IWAE_K  = E log (1/K) Σ_k w_k,  w_k = p(x|z_k, θ) p(z_k|θ) / q(z_k|x, θ)

(Kingma & Welling 2013, arXiv:1312.6114; Sohn et al. 2015; Burda et al. 2015, arXiv:1509.00519).
The mean weight is an unbiased estimate of p(x|θ), so its logarithm is a lower bound on average,
tighter with K; `log_prob` reports it with the standard error sd(w)/(√K mean w) of the mean weight.

Given z the components of nonnegative x and of lattices of reals are independent, and a short real
vector is a mixture of full covariance: what is missing of x is integrated out of p(x|z, θ) in
closed form; the encoder sees a mask. Where that mixture carries all that x has, the latents say
nothing (they collapse), and the bound is the density itself.

Of real maps on a torus encoder and decoder see what a stationary Gaussian law given θ, fitted to
the data (:mod:`physgen.nn.stationary`), has made white: independent components given latents carry
no short waves, and with these in that law the latents have only what is not Gaussian to say. Where
held-out rows gain nothing by them they are left out (:mod:`physgen.surrogates.pruning`), and log p
is that of the law.

Latents may be discrete: one of S states at each site, as of a Gaussian mixture, or bits. These
have no derivative, and what they are drawn from learns by the score function
(:mod:`physgen.nn.score_function`). Of a vector, which is one site, log p(x|θ) is the sum over all
their states where these are few, so exact. Elsewhere it is the bound from draws. These are the
same for all θ, but may change with x: then log p has steps in x, between which its gradient holds.

`latents` holds the hierarchy of z, `latent_laws` what z is, `decoder` the likelihood of x.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.affine import ALONE, stationary_map
from physgen.nn.densities import normal_log_density
from physgen.nn.measurement import Measurement
from physgen.nn.multivariate import is_short
from physgen.nn.score_function import leave_one_out, vimco
from physgen.nn.stationary import StationaryNet
from physgen.nn.torus import repeated_rows
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import (
    Likelihood,
    Noise,
    Restored,
    refuse_unknown_options,
)
from physgen.surrogates.cvae.decoder import (
    CoarseToFine,
    CompoundDecoder,
    CountDecoder,
    Decoder,
    GaussianDecoder,
    HurdleDecoder,
    MixtureDecoder,
)
from physgen.surrogates.cvae.latent_laws import (
    BinaryLatents,
    CategoricalLatents,
    LatentLaw,
    NormalLatents,
)
from physgen.surrogates.cvae.latents import Latents, LevelNormal, Trace
from physgen.surrogates.cvae.mixed import ColumnDecoder
from physgen.surrogates.cvae.restoring import LATENT, field_of, restored_reals, restored_spins
from physgen.surrogates.pruning import Prunable, is_zero
from simulators.base import Support

__all__ = ["CVAE", "CVAEConfig"]

SCORE_DRAWS = 4
"""Draws of a row that the score function takes for the ELBO: each has the others as a baseline."""
LATENT_LAWS: dict[str, type[LatentLaw]] = {
    "normal": NormalLatents, "mixture": CategoricalLatents, "binary": BinaryLatents,
}  # fmt: skip

SWEEPS = 100
"""Of the chains that draw x given y."""
DRAWS = 32
"""For posteriors, where held-out rows do not say that fewer do."""


@dataclass(frozen=True)
class CVAEConfig:
    """Options of the conditional VAE.

    Attributes:
        latent_dim: latent numbers at each site of a level's grid (at least 1): states of a mixture
            (at least 2), or bits.
        levels: levels of latents, each on a grid of half the sites a side (at least 1; as many as
            x has room for).
        channels: channels of the networks (at least 1).
        stages: stages of the coarse-to-fine decoder of spins at most; 1 is a factorised decoder,
            0 goes down to a single site.
        window: side of the window through which a spin sees those of earlier stages, in sites.
        prior: prior of the coarsest latents, learnt from θ or standard normal (uniform if
            discrete).
        importance_draws: draws K of the training bound; 1 is the ELBO with closed-form KL, more
            have neither warm-up nor free bits.
        warm_up: part of the training over which the KL term grows to its full weight (0 to 1).
        free_bits: nats that each level may carry at no cost while training (at least 0).
        components: laws in the mixture of a real vector (0 for 1 to 8, fewer the longer it is), or
            of each nonnegative component, count and column of mixed x (0 for 2).
        head: density of a real vector given latents: independent Gaussians, a mixture of Gaussians
            with full covariances, or of Student's t laws; auto is student, mixture where x may be
            missing, and independent beyond 64 components and on lattices; of a short
            vector with discrete latents mixture, of one Gaussian unless `components` says more. Of
            a nonnegative component: a hurdle of Gamma laws, or compound-poisson, a Poisson number
            of exponential spots, as of energy that many particles leave, without a readout
            threshold.
        spectrum: along which axes of real maps θ scales the waves of x before the networks:
            periodic, those along which shifts are symmetries (with normal latents), or none.
        latents: what latents are: normal; mixture, one of latent_dim states at each site; or
            binary.
        gradient: of the mean over latents by the numbers that they are drawn from: reparametrised,
            which needs normal ones, or score function, of four draws a row (or `importance_draws`)
            that are each other's baseline; auto is the first where it can be.
    """

    latent_dim: int = 4
    levels: int = 3
    channels: int = 32
    stages: int = 0
    window: int = 9
    prior: Literal["learnt", "standard"] = "learnt"
    importance_draws: int = 1
    warm_up: float = 0.2
    free_bits: float = 0.05
    components: int = 0
    head: Literal["auto", "independent", "mixture", "student", "compound-poisson"] = "auto"
    spectrum: Literal["periodic", "none"] = "periodic"
    latents: Literal["normal", "mixture", "binary"] = "normal"
    gradient: Literal["auto", "reparametrised", "score"] = "auto"

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        counts = ("latent_dim", "levels", "channels", "window", "importance_draws")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("stages", "components"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"warm_up: expected 0 to 1, got {self.warm_up}")
        if self.head == "compound-poisson" and self.components:
            raise ValueError("components: head compound-poisson has no mixture; leave them out")
        if not self.free_bits >= 0:
            raise ValueError(f"free_bits: expected at least 0, got {self.free_bits}")
        if self.latents == "mixture" and self.latent_dim < 2:
            raise ValueError("latent_dim: latents mixture: expected at least 2 states, got 1")
        if self.latents != "normal" and self.gradient == "reparametrised":
            raise ValueError(
                f"gradient: latents {self.latents} have no derivative; expected score or auto"
            )

    @property
    def by_score(self) -> bool:
        """Whether the score function trains what latents are drawn from."""
        return self.gradient == "score" or self.latents != "normal"


class CVAE(Prunable):
    """Conditional VAE with a hierarchy of latents and, for spins, a coarse-to-fine decoder."""

    name: ClassVar[str] = "cvae"
    Config = CVAEConfig
    supports: ClassVar[tuple[Support, ...]] = ("spins", "reals", "nonnegative", "counts", "mixed")
    default_draws = 100
    earlier_options: ClassVar[dict[str, Any]] = {"head": "independent", "spectrum": "none"}
    leaves_out = True
    with_missing = ("reals", "nonnegative")
    earlier_names: ClassVar[dict[str, str]] = {"affine.": "waves.affine."}
    later_buffers: ClassVar[tuple[str, ...]] = (
        "enough", "waves.location", "waves.power", "waves.affine.spectrum.reference",
    )  # fmt: skip

    def __init__(self, law: Law, config: CVAEConfig) -> None:
        super().__init__(law, config)
        self.hierarchy = Latents(
            law,
            config.levels,
            config.channels,
            config.latent_dim,
            config.prior == "standard",
            LATENT_LAWS[config.latents](),
        )
        self.decoder = decoder_of(law, config)
        whitened = config.spectrum == "periodic" and config.latents == "normal"
        affine = stationary_map(law, 1) if whitened else None
        self.waves: StationaryNet | None = None
        if affine is not None:
            self.waves = StationaryNet(affine, len(law.prior))
        if self.hierarchy.states is not None:
            self.default_draws = 1
        independent = isinstance(self.decoder, GaussianDecoder | CoarseToFine)
        if independent and config.latents == "normal" and not law.missing:
            self.restorers = LATENT
        self.take_at_most(DRAWS if self.hierarchy.states is None else 1)

    @property
    def likelihood(self) -> Likelihood:
        """A sum over the states of few discrete latents, else a lower bound."""
        return Likelihood.BOUND if self.hierarchy.states is None else Likelihood.EXACT

    @classmethod
    def candidates(cls, law: Law) -> Iterable[Mapping[str, Any]]:
        """The defaults, and of nonnegative x both heads."""
        return [{}, {"head": "compound-poisson"}] if law.support == "nonnegative" else [{}]

    def fit_transform(self, x: Tensor, theta: Tensor | None = None) -> None:
        """Fit the map of x to rows of data (n, *x_shape), and what encoder and decoder see.

        Args:
            x: rows of data.
            theta: their parameters (n, D).
        """
        super().fit_transform(x, theta)
        if self.waves is not None and theta is not None:
            self.waves.fit(self.transform(x), self.rescale(theta.to(self.device)))
        if self.decoder.begins_with_data:
            z = self.transform(x)
            if self.hierarchy.code is not None:
                self.hierarchy.code.fit(z)
            self.decoder.fit(z, x)

    @property
    def parts(self) -> dict[str, list[nn.Module]]:
        """What may be left out beside the law of waves, and the layers that are 0 then."""
        if self.waves is None:
            return {}
        found: dict[str, list[nn.Module]] = {}
        if isinstance(self.decoder, GaussianDecoder):
            found["the latents"] = [self.decoder.head]
        return found | {"the law's network": self.waves.affine.last}

    @property
    def plain(self) -> bool:
        """Whether the latents add nothing to the law of waves, nor learn to."""
        latents = self.parts.get("the latents")
        return not self.training and latents is not None and is_zero(latents)

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        z, volume = self._white(c, z)
        if self.waves and self.training and progress < ALONE:
            volume, z = volume + standard_normal(z), z.detach()
            volume = volume - standard_normal(z)
        features = self.hierarchy.encode(z, c)
        k, by_score = self.config.importance_draws, self.config.by_score
        many = SCORE_DRAWS if by_score and k == 1 else k
        trace, log_p = self._drawn(c, z, fresh(generator), features, many, not by_score)
        log_q, log_ratio = (v.view(-1, many) for v in (trace.log_drawn, trace.log_ratio))
        if k == 1:
            f = log_p - self._penalty(trace.kl, progress).view(-1, many)
            bound = leave_one_out(f, log_q) if by_score else f[:, 0]
        elif by_score:
            bound = vimco(log_p + log_ratio, log_q)
        else:
            bound = (log_p + log_ratio).logsumexp(1) - math.log(k)
        return -bound - volume

    def _white(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks see of z (B, *x_shape), and the log|det| of the map to it, (B,)."""
        if self.waves is None:
            return z, z.new_zeros(len(z))
        u, log_det = self.waves(c, self.transform.whole).white(z.flatten(1))
        return u.view_as(z), log_det

    def _coloured(self, c: Tensor, z: Tensor) -> Tensor:
        """The inverse, (B, *x_shape)."""
        if self.waves is None:
            return z
        return self.waves(c, self.transform.whole).coloured(z.flatten(1)).view_as(z)

    def _penalty(self, kl: Tensor, progress: float) -> Tensor:
        """The KL term of the loss from (B, L): warmed up, and with free bits while training."""
        if not self.training:
            return kl.sum(1)
        free = self.config.free_bits
        paid = torch.where(kl.mean(0) > free, kl, free).sum(1)
        warm_up = self.config.warm_up
        return (min(1.0, progress / warm_up) if warm_up else 1.0) * paid

    def _drawn(
        self,
        c: Tensor,
        z: Tensor,
        normal: LevelNormal,
        features: list[Tensor] | None,
        k: int,
        pathwise: bool = True,
    ) -> tuple[Trace, Tensor]:
        """k draws of the latents for each row, (B k), and log p(x|z) given each, (B, k)."""
        many = features and [repeated_rows(e, k) for e in features]
        trace = self.hierarchy.descend(c.repeat_interleave(k, dim=0), normal, many, pathwise)
        return trace, self.decoder.log_prob(z, trace.h.unflatten(0, (len(c), k)), c)

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        def normal(level: int, shape: tuple[int, ...]) -> Tensor:
            return noise.normal(draws, *shape[1:], stream=level).flatten(0, 1)

        z, volume = self._white(c, z)
        if self.plain:
            return standard_normal(z) + volume, torch.zeros_like(volume)
        states = self.hierarchy.states
        if states is not None:
            rows = max(1, self._at_once // len(states))
            parts = zip(c.split(rows), z.split(rows), strict=True)
            summed = torch.cat([self._summed(*part, states) for part in parts])
            return summed + volume, torch.zeros_like(volume)
        trace, log_p = self._drawn(c, z, normal, self.hierarchy.encode(z, c), draws)
        log_w = (log_p + trace.log_ratio.view_as(log_p)).double()
        log_mean = log_w.logsumexp(1) - math.log(draws)
        w = (log_w - log_mean[:, None]).exp()  # of mean 1
        variance = ((w - 1) ** 2).sum(1) / (draws - 1)  # NaN of a single draw
        return log_mean + volume, (variance / draws).sqrt()

    def _summed(self, c: Tensor, z: Tensor, states: Tensor) -> Tensor:
        """Log Σ p(z|θ) p(x|z, θ) over all states of the latents, (B,)."""

        def each(level: int, shape: tuple[int, ...]) -> Tensor:
            return states.repeat(len(c), 1).view(shape)

        trace, log_p = self._drawn(c, z, each, None, len(states))
        return (log_p.double() + trace.log_drawn.view_as(log_p)).logsumexp(1)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        h = self.hierarchy.descend(c, fresh(generator)).h
        return self._coloured(c, self.decoder.sample(h, c, generator))

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """(latent, *grid) of each level of normal latents, fine to coarse."""
        return tuple(self.hierarchy.shapes) if self.config.latents == "normal" else ()

    def _encode(self, c: Tensor, z: Tensor, generator: torch.Generator | None) -> Tensor:
        z, _ = self._white(c, z)
        normal = at_the_mean(c) if generator is None else fresh(generator)
        trace = self.hierarchy.descend(c, normal, self.hierarchy.encode(z, c))
        return torch.cat([v.flatten(1) for v in trace.v], 1)

    def _decode(self, c: Tensor, latent: Tensor, generator: torch.Generator) -> Tensor:
        return self._coloured(c, self.decoder.sample(field_of(self, c, latent), c, generator))

    def _restore(
        self,
        c: Tensor,
        y: Tensor,
        measurement: Measurement,
        method: str,
        generator: torch.Generator,
        **options: Any,
    ) -> Restored:
        refuse_unknown_options(method, options, ("sweeps",))
        if told := self.transform.told():
            raise UsageError(f"{method}: not for x whose components tell others: {told[0]}")
        draw = restored_spins if self.law.support == "spins" else restored_reals
        return draw(self, c, y, measurement, generator, int(options.get("sweeps", SWEEPS)))

    @torch.no_grad()
    def latents(self, theta: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Rows of x along the first latent of each level, from −2 to 2, coarse to fine.

        Discrete latents have no such line, and give nothing.

        Args:
            theta: (1, D) where to look.

        Yields:
            name of the level, (5, *x_shape) draws that share all other noise.
        """
        for level, name in reversed(list(enumerate(self.latent_names))):
            yield name, self._traverse(theta, level)

    def _traverse(self, theta: Tensor, moved: int, steps: int = 5) -> Tensor:
        """X as one level's first latent goes from −2 to 2, all else held, (steps, *x_shape)."""
        c = self.rescale(theta.to(self.device)).expand(steps, -1)
        generator = torch.Generator(self.device).manual_seed(0)

        def normal(level: int, shape: tuple[int, ...]) -> Tensor:
            numbers = torch.randn(shape[1:], generator=generator, device=self.device)
            numbers = numbers.expand(shape).clone()
            if level == moved:
                line = torch.linspace(-2, 2, steps, device=self.device)
                numbers[:, 0] = line.view(-1, *[1] * (len(shape) - 2))
            return numbers

        h = self.hierarchy.descend(c, normal).h
        rows = zip(h.split(1), c.split(1), strict=True)
        z = [self.decoder.sample(*row, generator.manual_seed(1)) for row in rows]
        return self.transform.inverse(self._coloured(c, torch.cat(z)))


def fresh(generator: torch.Generator) -> LevelNormal:
    """Standard normal numbers for all levels, from one generator."""

    def normal(level: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device)

    return normal


def at_the_mean(c: Tensor) -> LevelNormal:
    """Zeros in the place of standard normal numbers, of the kind of c (B, D)."""
    return lambda level, shape: c.new_zeros(shape)


def standard_normal(z: Tensor) -> Tensor:
    """Log density of z (B, *x_shape) as independent standard normal components, (B,)."""
    value, part = finite_part(z.flatten(1))
    return (normal_log_density(value) * part).sum(1)


def decoder_of(law: Law, config: CVAEConfig) -> Decoder:
    """The likelihood that the support of x asks for.

    Raises:
        UsageError: a head of reals for other x.
    """
    for_reals, compound = config.head in ("mixture", "student"), config.head == "compound-poisson"
    if (for_reals and law.support != "reals") or (compound and law.support != "nonnegative"):
        expected = "reals" if for_reals else "nonnegative"
        raise UsageError(f"cvae: head {config.head}: not for {law.support} x; expected {expected}")
    if law.support == "spins":
        return CoarseToFine(law, config.channels, config.stages, config.window)
    if compound:
        return CompoundDecoder(law, config.channels)
    if law.support == "nonnegative":
        return HurdleDecoder(law, config.channels, config.components or 2)
    if law.support == "mixed":
        return ColumnDecoder(law, config.channels, config.components or 2)
    if law.support == "counts":
        return CountDecoder(law, config.channels, config.components or 2)
    head = config.head
    components, discrete = config.components, config.latents != "normal"
    if head == "auto" and is_short(law):
        head = "mixture" if law.missing or discrete else "student"
        components = components or int(discrete)
    if head in ("auto", "independent"):
        return GaussianDecoder(law, config.channels)
    return MixtureDecoder(law, config.channels, components, head == "student")

r"""The Gaussian kernel beside a law in closed form, which is fitted with the network.

Noise turns a Gaussian law, or a mixture of them, into another such law, so that its denoiser x̃ is
a formula and its bound an equality. The network learns what is left, in units of the width that x
has given z. As the bound is an equality for a denoiser that belongs to a law (Kong, Brekelmans &
Ver Steeg 2023, arXiv:2302.03792), that of the network is told from the law's by their difference,

    log p(x) ≥ log p̃(x) + ½ E_{t,ε} (−λ′) e^λ (‖x − x̃‖² − ‖x − x̂‖²),

which has no noise where they agree, and no end terms: outside of the schedule's ends x̂ is x̃. Where
held-out rows gain nothing by the network it is left out (:mod:`physgen.surrogates.pruning`), and
log p is that of the law.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.blocks import field_shape
from physgen.nn.recorded import all_hold
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion.gaussian import GaussianKernel
from physgen.surrogates.diffusion.likelihood import mean, quiet, times, total
from physgen.surrogates.diffusion.sampler import integrate, sampler
from physgen.surrogates.diffusion.schedule import alpha_sigma, rows_like
from physgen.surrogates.diffusion.unet import Preset, UNet
from physgen.surrogates.pruning import is_zero

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["KnownDenoiser", "KnownKernel", "KnownLaw", "KnownPosterior"]


class KnownLaw(Protocol):
    """A law of flat x (B, d) for each row of a batch, in closed form."""

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each component, (B, d) each."""
        ...

    def log_prob(self, x: Tensor, part: Tensor) -> Tensor:
        """log p of the components `part` (B, d) of x (B, d), (B,)."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """One x for each row, (B, d)."""
        ...

    def detach(self) -> Self:
        """The same laws as constants."""
        ...

    def repeat(self, times: int) -> Self:
        """Each law of the batch so many times, one after another."""
        ...


class KnownPosterior(Protocol):
    """What such a law says of x given its noised self z.

    Attributes:
        mean: (B, d) x̃.
    """

    mean: Tensor

    def spread(self, f: Tensor) -> Tensor:
        """Numbers f (B, d) in units of the width of x given z, (B, d)."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """One x for each row, (B, d)."""
        ...


class KnownDenoiser(nn.Module, abc.ABC):
    """x̂(z, λ, c): that of a law in closed form, and a network for the rest.

    Args:
        law: what x is.
        preset: sizes of the network.
    """

    def __init__(self, law: Law, preset: Preset) -> None:
        super().__init__()
        self.law = law
        channels, *grid = field_shape(law)
        self.field = ((2 + law.missing) * channels, *grid)
        self.net = UNet(law, self.field[0], channels, len(law.prior) + 3, preset)
        nn.init.zeros_(cast("Tensor", self.net.leave.bias))  # nothing to add, at first

    @property
    def plain(self) -> bool:
        """Whether the network adds nothing, nor learns to."""
        return not self.training and is_zero([self.net.leave])

    @abc.abstractmethod
    def known(self, c: Tensor, whole: bool) -> Any:
        """The law in closed form given c (B, D); `whole` if all components of x count."""

    @abc.abstractmethod
    def given(self, law: Any, z: Tensor, log_snr: Tensor, part: Tensor) -> KnownPosterior:
        """What it says of x given z (B, d) at λ (B,), of which `part` (B, d) is seen."""

    def forward(self, z: Tensor, log_snr: Tensor, c: Tensor, part: Tensor | None = None) -> Tensor:
        """x̂ of z (B, *x_shape) at λ (B,) given c (B, D), some of z seen, (B, *x_shape)."""
        some = None if part is None else part.flatten(1).bool()
        law = self.known(c, some is None or bool(some.all()))
        return self.pair(law, z.flatten(1), log_snr, c, some)[0].to(z.dtype).view(z.shape)

    def pair(
        self, law: KnownLaw, z: Tensor, log_snr: Tensor, c: Tensor, part: Tensor | None = None
    ) -> tuple[Tensor, KnownPosterior]:
        """x̂ (B, d), and what the law of these c says of x."""
        there = torch.ones_like(z, dtype=torch.bool) if part is None else part
        known = self.given(law, z, log_snr, there)
        if self.plain:
            return known.mean, known
        alpha, sigma = (rows_like(v, z) for v in alpha_sigma(log_snr))
        middle, width = law.moments
        seen = [
            (z - alpha * middle) / (alpha**2 * width**2 + sigma**2).sqrt(),
            (z - alpha * known.mean) / sigma,
        ]
        fields = torch.cat(
            [(v * there).to(z.dtype) for v in seen] + [there.to(z.dtype)] * self.law.missing, 1
        )
        condition = torch.cat([c, torch.stack([log_snr / 8, alpha[:, 0], sigma[:, 0]], 1)], 1)
        f = self.net(fields.view(len(z), *self.field), condition).flatten(1).float()
        return known.mean + known.spread(f), known


class KnownKernel(GaussianKernel):
    """The Gaussian kernel with such a denoiser; x is flat in all that it does."""

    denoiser: KnownDenoiser

    @property
    def parts(self) -> dict[str, list[nn.Module]]:
        """What may be left out, and the layers that are 0 then."""
        return {"the denoiser's network": [self.denoiser.net.leave]}

    def loss(
        self, c: Tensor, z: Tensor, generator: torch.Generator, part: Tensor | None = None
    ) -> Tensor:
        """The bound at one random time for each row, (B,); the law learns by its own part."""
        x, part = finite_part(z.flatten(1))
        t = times(torch.rand(1, generator=generator, device=z.device), len(z))[0]
        epsilon = torch.randn(x.shape, generator=generator, device=z.device)
        law = self.denoiser.known(c, all_hold(part))
        return -law.log_prob(x, part) - self._gain(law.detach(), c, x, t, epsilon, part)

    def log_prob(
        self, c: Tensor, x: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """log p(x|c) by the estimator of the options, and its error, (B,) each."""
        if config.estimator != "bound":
            return super().log_prob(c, x, noise, draws, config)
        x, part = finite_part(x.flatten(1))
        law = self.denoiser.known(c, all_hold(part))
        if self.denoiser.plain:
            value = law.log_prob(x, part)
            return value, torch.zeros_like(value)
        t = times(noise.uniform(1, stream=1)[:, 0], draws).flatten()
        epsilon = noise.normal(draws, *x.shape[1:]).flatten(0, 1)
        many = [v.repeat_interleave(draws, 0) for v in (c, x, part)]
        gain = self._gain(law.repeat(draws), many[0], many[1], t, epsilon, many[2])
        value, error = mean(gain.view(-1, draws).double())
        return law.log_prob(x, part) + value, error

    def _gain(
        self, law: KnownLaw, c: Tensor, x: Tensor, t: Tensor, epsilon: Tensor, part: Tensor
    ) -> Tensor:
        """Nats that the network gains over the law at one time t (B,) for each row, (B,)."""
        log_snr, slope = (v.clone() for v in self.schedule.slope(t))
        alpha, sigma = alpha_sigma(rows_like(log_snr, x))
        z = (alpha * x + sigma * epsilon) * part
        found, known = self.denoiser.pair(law, z, log_snr, c, part)
        less = (x - known.mean).square() - (x - found).square()
        value = 0.5 * slope * log_snr.exp() * total(less, part).to(x.dtype)
        quiet(value, log_snr, slope)
        return value

    def sample(
        self,
        c: Tensor,
        generator: torch.Generator,
        config: DiffusionConfig,
        kept: Tensor | None = None,
    ) -> Tensor:
        """One x for each row of c (B, D), (B, *x_shape); `kept` (*x_shape) are what counts.

        An ancestral step takes x of the law given z, moved by what the network adds, and not its
        mean: where that adds nothing, any number of steps is right.
        """

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        law = self.denoiser.known(c, kept is None or bool(kept.all()))
        seen = None if kept is None else kept.flatten().expand(len(c), -1)
        ancestral = config.sampler == "ancestral"
        solver = sampler(config.sampler, config.eta)
        log_snrs = self.log_snrs(self.evaluations(config) // solver.evaluations, c.device)

        def denoise(z: Tensor, log_snr: Tensor, drawn: bool = ancestral) -> Tensor:
            x, known = self.denoiser.pair(law, z, log_snr.expand(len(z)), c, seen)
            return (x + known.sample(generator) - known.mean if drawn else x).to(z.dtype)

        alpha, sigma = alpha_sigma(log_snrs[0])
        start = law.sample(generator)
        z = integrate(solver, denoise, alpha * start + sigma * normal(start), log_snrs, normal)
        return denoise(z, log_snrs[-1], True).view(len(c), *self.law.x_shape)

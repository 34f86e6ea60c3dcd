r"""The Gaussian kernel of short vectors, beside a mixture of Gaussians in closed form.

A mixture of full covariance given θ (:mod:`physgen.nn.multivariate`) is fitted to x by its
likelihood. Noise turns it into another such mixture, so that its denoiser x̃ is a formula: of a law
N(m, Λ⁻¹), and where only some components of z are seen (E, diagonal, 1 of these and 0 of others),

    x̃ = m + α B⁻¹E(z − αm),   B = α²E + σ²Λ,   p(z) ∝ √(det Λ/det B) e^{−½(|u|² − α² uᵀB⁻¹u)/σ²},

with u = E(z − αm). The network learns what is left, in units of the width of x that is left given
z. As the bound is an equality for a denoiser that belongs to a law (Kong, Brekelmans & Ver Steeg
2023, arXiv:2302.03792), that of the network is told from the mixture's by their difference,

    log p(x) ≥ log p̃(x) + ½ E_{t,ε} (−λ′) e^λ (‖x − x̃‖² − ‖x − x̂‖²),

which has no noise where they agree, and no end terms: outside of the schedule's ends x̂ is x̃.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.densities import drawn_category
from physgen.nn.multivariate import MixtureNet, MultivariateMixture, require_short
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion.gaussian import GaussianKernel
from physgen.surrogates.diffusion.likelihood import mean, quiet, times, total
from physgen.surrogates.diffusion.sampler import integrate, sampler
from physgen.surrogates.diffusion.schedule import alpha_sigma, rows_like
from physgen.surrogates.diffusion.unet import Preset, UNet, preset_of

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["Denoised", "MixtureDenoiser", "MixtureKernel", "positive_inverse"]

SIZE = 128
"""Numbers K d² of the matrices of a mixture, about: a step then costs as much as the network."""


class Denoised:
    """What a mixture says of x given its noised self z, in float64.

    Attributes:
        mean: (B, d) x̃.
        width: (B, d) standard deviations.

    Args:
        law: of x, (B, K) components.
        z: (B, d).
        log_snr: λ of z, (B,).
        part: (B, d) bool, the components of z that are seen.
    """

    def __init__(self, law: MultivariateMixture, z: Tensor, log_snr: Tensor, part: Tensor) -> None:
        alpha, sigma = (v[:, None, None] for v in alpha_sigma(log_snr.double()))
        seen, root = part.double()[:, None], law.precision_root.double()
        one = torch.eye(law.size, dtype=root.dtype, device=z.device)
        told = alpha[..., None] ** 2 * seen[..., None] * one
        inverse, log_det = positive_inverse(told + sigma[..., None] ** 2 * (root.mT @ root))
        u = seen * (z.double()[:, None] - alpha * law.mean)
        y = (inverse * u[..., None, :]).sum(-1)
        square = (u.square() - alpha**2 * u * y).sum(-1) / sigma[..., 0] ** 2
        log_p = law.log_weight - 0.5 * (square + log_det) - law.log_width.sum(-1)
        self.weight, self.means = log_p.softmax(-1), law.mean + alpha * y
        self.mean = (self.weight[..., None] * self.means).sum(1)
        spread = sigma**2 * (inverse * one).sum(-1) + (self.means - self.mean[:, None]).square()
        self.width = (self.weight[..., None] * spread).sum(1).sqrt()
        self.inverse, self.root = inverse, root
        self.seen, self.alpha, self.sigma = seen, alpha, sigma

    def sample(self, generator: torch.Generator) -> Tensor:
        """One x for each row, (B, d).

        σ B⁻¹(αEε + σPᵀε′), with Λ = PᵀP, has the covariance σ²B⁻¹ of x, and takes no root of it.
        """

        def normal() -> Tensor:
            """Standard normal numbers, (B, K, d)."""
            return torch.randn(self.means.shape, generator=generator, device=self.means.device)

        of_prior = (self.root * normal()[..., None]).sum(-2)
        pulled = self.alpha * self.seen * normal() + self.sigma * of_prior
        x = self.means + self.sigma * (self.inverse * pulled[..., None, :]).sum(-1)
        uniforms = torch.rand(len(x), generator=generator, device=x.device)
        k = drawn_category(self.weight, uniforms)[:, None, None]
        return x.gather(1, k.expand(len(x), 1, x.shape[-1]))[:, 0]


def positive_inverse(a: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and log det of symmetric positive matrices (..., d, d) of few rows, (...).

    By d updates of rank one, of the whole batch at once (the sweep operator: Goodnight 1979, Am.
    Stat. 33, 149), with rows and columns scaled to a unit diagonal.
    """
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    scale = (a * one).sum(-1) ** -0.5
    both = scale[..., :, None] * scale[..., None, :]
    a, log_det = a * both, -2 * scale.log().sum(-1)
    for k, unit in enumerate(one):
        row, column = a[..., k, :], a[..., :, k]
        pivot = a[..., k, k]
        log_det = log_det + pivot.log()
        column = (column - unit) / pivot[..., None]
        a = a - column[..., :, None] * (row + unit)[..., None, :]
    return a * both, log_det


class MixtureDenoiser(nn.Module):
    """x̂(z, λ, c) of vectors: that of a mixture, and a network for the rest.

    Args:
        law: what x is.
        preset: sizes of the network.
        components: of the mixture.
    """

    def __init__(self, law: Law, preset: Preset, components: int) -> None:
        super().__init__()
        self.law = law
        self.mixture = MixtureNet(len(law.prior), law.size, components)
        inputs = (2 + law.missing) * law.size
        self.net = UNet(law, inputs, law.size, len(law.prior) + 3, preset)
        nn.init.zeros_(cast("Tensor", self.net.leave.bias))  # nothing to add, at first

    def forward(self, z: Tensor, log_snr: Tensor, c: Tensor, part: Tensor | None = None) -> Tensor:
        """x̂ of z (B, *x_shape) at λ (B,) given c (B, D), some of z seen, (B, *x_shape)."""
        some = None if part is None else part.flatten(1).bool()
        found, _ = self.pair(self.mixture(c), z.flatten(1), log_snr, c, some)
        return found.to(z.dtype).view(z.shape)

    def pair(
        self,
        law: MultivariateMixture,
        z: Tensor,
        log_snr: Tensor,
        c: Tensor,
        part: Tensor | None = None,
    ) -> tuple[Tensor, Denoised]:
        """x̂ (B, d), and what the mixture `law` of these c says of x."""
        there = torch.ones_like(z, dtype=torch.bool) if part is None else part
        known = Denoised(law, z, log_snr, there)
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
        f = self.net(fields[..., None, None], condition)[..., 0, 0].float()
        return known.mean + known.width * f, known


class MixtureKernel(GaussianKernel):
    """The Gaussian kernel with such a denoiser.

    Args:
        law: what x is: short vectors of reals.
        config: the family's options.
    """

    denoiser: MixtureDenoiser  # type: ignore[assignment]

    def __init__(self, law: Law, config: DiffusionConfig) -> None:
        require_short(law)
        super().__init__(law, config)
        components = config.components or max(1, min(8, SIZE // law.size**2))
        self.denoiser = MixtureDenoiser(law, preset_of(law, config.network), components)

    def loss(
        self, c: Tensor, z: Tensor, generator: torch.Generator, part: Tensor | None = None
    ) -> Tensor:
        """The bound at one random time for each row, (B,); the mixture learns by its own part."""
        x, part = finite_part(z.flatten(1))
        t = times(torch.rand(1, generator=generator, device=z.device), len(z))[0]
        epsilon = torch.randn(z.shape, generator=generator, device=z.device)
        law = self.denoiser.mixture(c)
        return -law.log_prob(x, part) - self._gain(law.detach(), c, x, t, epsilon, part)

    def log_prob(
        self, c: Tensor, x: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """log p(x|c) by the estimator of the options, and its error, (B,) each."""
        if config.estimator != "bound":
            return super().log_prob(c, x, noise, draws, config)
        x, part = finite_part(x.flatten(1))
        law = self.denoiser.mixture(c)
        t = times(noise.uniform(1, stream=1)[:, 0], draws).flatten()
        epsilon = noise.normal(draws, *x.shape[1:]).flatten(0, 1)
        many = [v.repeat_interleave(draws, 0) for v in (c, x, part)]
        gain = self._gain(law.repeat(draws), many[0], many[1], t, epsilon, many[2])
        value, error = mean(gain.view(-1, draws).double())
        return law.log_prob(x, part) + value, error

    def _gain(
        self,
        law: MultivariateMixture,
        c: Tensor,
        x: Tensor,
        t: Tensor,
        epsilon: Tensor,
        part: Tensor,
    ) -> Tensor:
        """Nats that the network gains over the mixture at one time t (B,) for each row, (B,)."""
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
        """One x for each row of c (B, D), (B, d); `kept` (d,) are the components that count.

        An ancestral step takes x of the mixture's law given z, moved by what the network adds, and
        not its mean: where that adds nothing, any number of steps is right.
        """

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        law = self.denoiser.mixture(c)
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
        return denoise(z, log_snrs[-1], True)

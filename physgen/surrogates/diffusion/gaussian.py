"""The Gaussian kernel: variance-preserving diffusion of spins or reals, discrete or continuous.

It puts together a schedule, a denoiser, the samplers and the likelihoods of this room.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion.denoiser import Denoiser
from physgen.surrogates.diffusion.likelihood import (
    RowDenoise,
    diffusion_loss,
    flow,
    log_mean,
    mean,
    mean_reconstruction,
    noised,
    path_log_weight,
    prior_kl,
    reconstruct,
    reconstruction,
    times,
)
from physgen.surrogates.diffusion.sampler import SAMPLERS, Denoise, integrate, sampler
from physgen.surrogates.diffusion.schedule import SCHEDULES, alpha_sigma
from physgen.surrogates.diffusion.unet import preset_of

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["GaussianKernel"]

STEPS = 64
"""Evaluations for a sample, a path or a flow, where the options do not say."""
BATCH = 4096
"""Rows × steps of a path that the network sees at once."""
ENDS = {"spins": (5.0, -10.0), "reals": (10.0, -10.0)}
"""Log-SNR at both ends. At the upper one α/σ is 12 for spins, which z then tells for certain, and
148 for reals. At the lower one 2e-5 nats a component of unit variance are left to match."""


class GaussianKernel(nn.Module):
    """The Gaussian kernel.

    Attributes:
        draws: times that a log p takes where the caller does not choose.
        samplers: ways to draw.
        transform: the map of x that it wants; None for that of the support.

    Args:
        law: what x is.
        config: the family's options.
        given: further components of the condition c.
        high: log-SNR at the data's end; that of the support if None.
        denoiser: x̂ of z, log-SNR and c; a U-Net of the law's shape if None.
    """

    draws: ClassVar[int] = 256
    samplers: ClassVar[tuple[str, ...]] = ("ancestral", "ddim", *list(SAMPLERS)[1:])
    transform: ClassVar[None] = None
    denoiser: Any

    def __init__(
        self,
        law: Law,
        config: DiffusionConfig,
        given: int = 0,
        high: float | None = None,
        denoiser: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.law, self.simple, self.timesteps = law, config.loss == "simple", config.timesteps
        usual, low = ENDS[law.support]
        self.schedule = SCHEDULES[config.noise_schedule](usual if high is None else high, low)
        self.denoiser = denoiser or Denoiser(
            law, preset_of(law, config.network, config.grids), given
        )

    def loss(
        self, c: Tensor, z: Tensor, generator: torch.Generator, part: Tensor | None = None
    ) -> Tensor:
        """The bound at one random time for each row, or ½‖ε − ε̂‖², (B,), of some components."""
        device = z.device
        given = part is None
        if given and self.law.support == "reals":
            z, part = finite_part(z)
        kept = part if self.law.missing or given else None
        t = times(torch.rand(1, generator=generator, device=device), len(z), self.timesteps)[0]
        epsilon = torch.randn(z.shape, generator=generator, device=device)
        diffusion, noise_error = diffusion_loss(
            self._of_rows(c, kept), self.schedule, self.law.support, z, t, epsilon, self.timesteps,
            part, self._moments(c, fixed=True),
        )  # fmt: skip
        if self.simple and self.training:
            return 0.5 * noise_error
        return diffusion + self._ends(z, epsilon, part)

    def evaluations(self, config: DiffusionConfig) -> int:
        """Evaluations of the network for one sample."""
        each = sampler(config.sampler, config.eta).evaluations
        return max(1, (config.steps or STEPS) // each) * each

    def width(self, config: DiffusionConfig) -> int:
        """How much more than one evaluation a draw of log p holds at once, by the eights."""
        return max(1, (config.steps or STEPS) // 8) if config.estimator == "path" else 1

    def refuse(self, config: DiffusionConfig) -> str:
        """What in the options this kernel cannot do; empty if nothing is."""
        return ""

    def log_prob(
        self, c: Tensor, x: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """log p(x|c) by the estimator of the options, and its error, (B,) each."""
        reals, steps = self.law.support == "reals", config.steps or STEPS
        part = None
        if reals:
            x, part = finite_part(x)
        exact = config.trace == "exact"
        if config.estimator == "ode" and reals and exact:
            draws = 1  # nothing is random
        many, given = x.repeat_interleave(draws, 0), c.repeat_interleave(draws, 0)
        if config.estimator == "bound":
            parts = None if part is None else part.repeat_interleave(draws, 0)
            return self.bound(given, many, noise, draws, parts, parts)
        if part is not None and not part.all():
            raise UsageError(
                f"estimator {config.estimator}: not for x with components that others tell or "
                "that are missing; use the bound"
            )
        if config.estimator == "path":
            normal = noise.normal(draws, steps + 1, *x.shape[1:]).flatten(0, 1)
            denoise = self._of_rows(given.repeat_interleave(steps, 0))
            log_w = path_log_weight(denoise, self.schedule, self.law.support, many, normal)
            return log_mean(log_w.view(-1, draws).double())
        log_w = self._flow(given, many, noise, draws, steps, exact).view(-1, draws).double()
        if reals:
            return mean(log_w)  # of the probes; an average of p would be too high by their noise
        return log_mean(log_w)

    def bound(
        self,
        c: Tensor,
        x: Tensor,
        noise: Noise,
        draws: int,
        part: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The bound from evenly spread times, and its error, (B,) each.

        Args:
            c: (B · draws, D), `draws` successive rows for each x.
            x: (B · draws, …).
            noise: random numbers of the B rows.
            draws: times of each.
            part: (B · draws, …) the components that count; None for all.
            kept: (B · draws, …) those that the network sees, the others being 0; None for all.
        """
        t = times(noise.uniform(1, stream=1)[:, 0], draws, self.timesteps).flatten()
        epsilon = noise.normal(draws, *x.shape[1:]).flatten(0, 1)
        nats, _ = diffusion_loss(
            self._of_rows(c, kept), self.schedule, self.law.support, x, t, epsilon, self.timesteps,
            part, self._moments(c),
        )  # fmt: skip
        nats = (nats + self._ends(x, epsilon, part)).view(-1, draws).double()
        return mean(-nats)

    def _moments(self, c: Tensor, *, fixed: bool = False) -> tuple[Tensor, Tensor] | None:
        """What the denoiser knows of reals beforehand, for a control variate.

        The variate's mean is 0 whatever they are, so that training may hold them *fixed*; with
        few draws its value moves with θ, and so does a log p and its gradient.
        """
        if self.law.support != "reals":
            return None
        m, s = self.denoiser.moments(c)
        return (m.detach(), s.detach()) if fixed else (m, s)

    def _ends(self, x: Tensor, epsilon: Tensor, part: Tensor | None = None) -> Tensor:
        """Reconstruction, of reals its mean over ε, and prior matching, (B,)."""
        if self.law.support == "reals":
            reconstructed = mean_reconstruction(self.schedule, x, part)
        else:
            z = noised(self.schedule, x, epsilon)
            reconstructed = reconstruction(self.schedule, self.law.support, x, z)
        return prior_kl(self.schedule, x, part) - reconstructed

    def _flow(
        self, c: Tensor, x: Tensor, noise: Noise, draws: int, steps: int, exact: bool
    ) -> Tensor:
        """log p by the probability flow from one z_0 for each row.

        Reals start from z_0 = αx and have its density, smoothed by σ; spins are dequantised: they
        start from z_0 = αx + σε, and log p(x|z_0)/q(z_0|x) is added.
        """
        probes = (noise.uniform(draws, *x.shape[1:], stream=1) > 0.5).flatten(0, 1)
        log_snrs = self.log_snrs(max(1, steps // 2), x.device).flip(0)
        alpha, sigma = alpha_sigma(log_snrs[0])
        if self.law.support == "reals":
            z, extra = alpha * x, self.law.size * alpha.log()
        else:
            epsilon = noise.normal(draws, *x.shape[1:]).flatten(0, 1)
            z = alpha * x + sigma * epsilon
            log_q = -0.5 * (epsilon.square() + math.log(2 * math.pi)) - sigma.log()
            end = reconstruction(self.schedule, self.law.support, x, z)
            extra = end - log_q.flatten(1).sum(1)
        signs = None if exact else 2.0 * probes - 1
        return flow(self._at_one(c), z, log_snrs, signs) + extra

    def sample(
        self,
        c: Tensor,
        generator: torch.Generator,
        config: DiffusionConfig,
        kept: Tensor | None = None,
    ) -> Tensor:
        """One x for each row of c (B, D), (B, *x_shape); `kept` (*x_shape) as for `bound`."""

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        solver = sampler(config.sampler, config.eta)
        log_snrs = self.log_snrs(self.evaluations(config) // solver.evaluations, c.device)
        start = normal(torch.empty(len(c), *self.law.x_shape, device=c.device))
        z = integrate(solver, self._at_one(c, kept), start, log_snrs, normal)
        return reconstruct(self.schedule, self.law.support, z, normal(z))

    def log_snrs(self, steps: int, device: torch.device) -> Tensor:
        """λ at equal times, rising, (steps + 1,)."""
        return self.schedule(torch.linspace(1, 0, steps + 1, device=device)).detach()

    def _of_rows(self, c: Tensor, kept: Tensor | None = None) -> RowDenoise:
        """The denoiser with a λ for each row, `BATCH` rows at once."""

        def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
            rows = [z if kept is None else z * kept, log_snr, c]
            rows += [] if kept is None or not self.law.missing else [kept]
            parts = zip(*(v.split(BATCH) for v in rows), strict=True)
            return torch.cat([self.denoiser(*part) for part in parts])

        return denoise

    def _at_one(self, c: Tensor, kept: Tensor | None = None) -> Denoise:
        """The denoiser with one λ for all rows."""
        seen = 1 if kept is None else kept

        def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
            told = [] if kept is None or not self.law.missing else [kept.expand_as(z)]
            return self.denoiser(z * seen, log_snr.expand(len(z)), c, *told)

        return denoise

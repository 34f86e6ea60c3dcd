r"""Conditional GAN: x = G(w, θ) from noise w, taught by a discriminator that judges (x, θ).

Let ℓ(x, θ) be the discriminator's logit, D = 1/(1 + e^−ℓ), p the true law and q the generator's.
The discriminator raises

    V = E_p log D + E_q log(1 − D),    max_D V = 2 JS(p‖q) − 2 log 2  at  D = p/(p + q),

so that log 2 + V/2 of any discriminator, on rows that it was not trained on, is on average a lower
bound of the Jensen–Shannon divergence (Goodfellow et al. 2014, arXiv:1406.2661). The generator
lowers E_q log(1 − D) (*minimax*) or, with a gradient where D ≈ 0 as well, −E_q log D
(*non-saturating*). R₁ = γ/2 E_p|∇ₓℓ|² keeps the game from running around its solution (Mescheder
et al. 2018, arXiv:1801.04406).

*Wasserstein*: the critic f raises E_p f − E_q f − λ E(|∇f| − 1)², the slope being taken on lines
between true and drawn x, and the generator raises E_q f (Gulrajani et al. 2017, arXiv:1704.00028).

Spins have no gradient. The generator gives a logit a for each, and with logistic noise e,
x = sign(a + e) has P(x = 1) = 1/(1 + e^−a). *Relaxed* spins are tanh((a + e)/2τ) while training
(Maddison et al. 2017, arXiv:1611.00712), and the discriminator may tell them by being no spins.
*Straight-through* ones are signs with the derivative 1/2τ of a relaxed one at its middle (Bengio
et al. 2013, arXiv:1308.3432). That derivative does not vanish where |a| is large, as the relaxed
one's does, with which a generator that has once gone to full order stays there.

There is no likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import (
    MEMORY_FORMATS,
    ResidualBlock,
    SiteTerms,
    as_field,
    convolution,
    field_shape,
)
from physgen.nn.transforms import Related, finite_part
from physgen.surrogates.base import Likelihood, Noise, Objective, Surrogate

__all__ = ["GAN", "GANConfig"]

PENALISED = 4  # one row in so many bears the penalty, which costs more than the loss itself
TINY = 1e-7  # what keeps a logarithm or the derivative of a root finite


@dataclass(frozen=True)
class GANConfig:
    """Options of the GAN.

    Attributes:
        loss: what the generator minimises.
        spins: how a gradient passes a spin: straight-through, where the discriminator sees ±1, or
            relaxed, where it sees numbers between while training.
        temperature: τ of relaxed spins (positive); straight-through ones do not depend on it.
        penalty: weight of the penalty on the discriminator's slope, γ of R1 or λ of wasserstein
            (1 did better there on the Ising model); 0 for none.
        critic_steps: steps of the discriminator for each of the generator, on the same rows with
            fresh noise (at least 1).
        latent: noise channels at each site (as many as x has there, if that is more), and noise
            numbers for all sites together (at least 1).
        channels: channels of both networks (at least 1).
        blocks: residual blocks of each network; two convolutions each (at least 1).
    """

    loss: Literal["non-saturating", "minimax", "wasserstein"] = "non-saturating"
    spins: Literal["straight-through", "relaxed"] = "straight-through"
    temperature: float = 1.0
    penalty: float = 5.0
    critic_steps: int = 1
    latent: int = 8
    channels: int = 24
    blocks: int = 1

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        for name in ("critic_steps", "latent", "channels", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number, got {self.temperature}")
        if not self.penalty >= 0:
            raise ValueError(f"penalty: expected at least 0, got {self.penalty}")


class Trunk(nn.Module):
    """A field of some channels to one of others, each site seeing its surroundings and c."""

    def __init__(
        self, law: Law, inputs: int, outputs: int, condition: int, config: GANConfig, kernel: int
    ) -> None:
        super().__init__()
        n = config.channels
        self.enter = convolution(inputs, n, law)
        self.blocks = nn.ModuleList(ResidualBlock(n, condition, law) for _ in range(config.blocks))
        self.leave = convolution(n, outputs, law, kernel)
        self.places = SiteTerms(condition, n, law)
        self.format = MEMORY_FORMATS[len(field_shape(law)) - 1]
        # torch's stubs do not know this call
        self.to(memory_format=self.format)  # type: ignore[call-overload]

    def forward(self, field: Tensor, c: Tensor) -> Tensor:
        """(B, inputs, *grid) and (B, condition) → (B, outputs, *grid)."""
        h = self.places(self.enter(field.contiguous(memory_format=self.format)), c)
        for block in self.blocks:
            h = block(h, c)
        return self.leave(F.silu(h))


class Generator(nn.Module):
    """Noise of each site and noise common to all, given θ, to a field."""

    def __init__(self, law: Law, config: GANConfig) -> None:
        super().__init__()
        outputs, *self.grid = field_shape(law)
        self.local, self.common = max(config.latent, outputs), config.latent
        condition = len(law.prior) + self.common
        self.trunk = Trunk(law, self.local, outputs, condition, config, 3)

    def forward(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """c (B, D) → (B, channels, *grid)."""
        local = normal_numbers(generator, len(c), self.local, *self.grid)
        common = normal_numbers(generator, len(c), self.common)
        return self.trunk(local, torch.cat([c, common], 1))


class Discriminator(nn.Module):
    """The logit ℓ(x, θ): features of each site, their mean over the sites, a network of that."""

    def __init__(self, law: Law, config: GANConfig) -> None:
        super().__init__()
        n, parameters = config.channels, len(law.prior)
        self.law = law
        self.trunk = Trunk(law, field_shape(law)[0], 2 * n, parameters, config, 1)
        self.head = nn.Sequential(nn.Linear(2 * n + parameters, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, *x_shape) and c (B, D) → (B,)."""
        features = F.silu(self.trunk(as_field(self.law, z), c))
        mean = features.mean(tuple(range(2, features.ndim)))
        return self.head(torch.cat([mean, c], 1))[:, 0]


class GAN(Surrogate):
    """Conditional GAN: samples, and no likelihood."""

    name: ClassVar[str] = "gan"
    likelihood = Likelihood.NONE
    Config = GANConfig
    keeps_last: ClassVar[bool] = True
    unit = "nats of JS by the discriminator"
    leaves_out = True

    def __init__(self, law: Law, config: GANConfig) -> None:
        super().__init__(law, config)
        if config.loss == "wasserstein":
            self.unit = "by the critic"
        self.generator = Generator(law, config)
        self.discriminator = Discriminator(law, config)

    def objectives(self) -> list[Objective]:
        """The discriminator's, as often as it is to step, and the generator's."""
        judge = Objective(
            "discriminator", list(self.discriminator.parameters()), self.discriminator_loss
        )
        draw = Objective("generator", list(self.generator.parameters()), self.generator_loss)
        return [*[judge] * self.config.critic_steps, draw]

    def discriminator_loss(
        self, theta: Tensor, x: Tensor, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        """−V or the critic's loss, with the mean penalty on each row, (B,)."""
        c, z = self.rescale(theta), finite_part(self.transform(x))[0]
        with torch.no_grad():
            drawn = self._draw(c, generator)
        value = self._contrast(c, z, drawn)
        if self.config.penalty:
            penalty = self._penalty
            if torch.compiler.is_compiling():  # nothing compiles a slope's slope
                penalty = torch.compiler.disable(penalty)
            value = value + penalty(c, z, drawn, generator)
        return value

    def generator_loss(
        self, theta: Tensor, x: Tensor, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        """What the generator minimises, (B,); x is not looked at."""
        return self._loss(self.rescale(theta), x, generator, progress)

    def validation_loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """What the discriminator makes of the distance of the two laws, (B,).

        An estimate of the Jensen–Shannon divergence in nats, log 2 + V/2, or of the Wasserstein
        distance; the poorer the discriminator, the smaller.
        """
        c, z = self.rescale(theta), finite_part(self.transform(x))[0]
        contrast = self._contrast(c, z, self._sample(c, generator))
        return -contrast if self.config.loss == "wasserstein" else math.log(2) - contrast / 2

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        weights = {n: w.detach() for n, w in self.discriminator.named_parameters()}
        logit = functional_call(self.discriminator, weights, (self._draw(c, generator), c))
        return GENERATOR_LOSSES[self.config.loss](logit)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        z = self._draw(c, generator)
        return sign(z) if self.law.support == "spins" else z

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        raise TypeError(
            f"{self.name}: this family has no likelihood; "
            "train an sbi method, such as NPE, on what it draws (Surrogate.sample)"
        )

    def _draw(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """One z for each row of c, as the discriminator sees it while training."""
        z = self.generator(c, generator).float()
        if self.law.support == "spins":
            z = noisy(z, uniform_numbers(generator, *z.shape)) / (2 * self.config.temperature)
            z = SPINS[self.config.spins](z)
        if "flip" in self.law.symmetries:  # the mean of a law and its image is no further from p
            z = z * sign(uniform_numbers(generator, len(z), *[1] * (z.ndim - 1)) - 0.5)
        z = z.reshape(len(c), *self.law.x_shape)
        return z * self.transform.kept if isinstance(self.transform, Related) else z

    def _contrast(self, c: Tensor, z: Tensor, drawn: Tensor) -> Tensor:
        """−log D(z) − log(1 − D(drawn)), or f(drawn) − f(z), (B,)."""
        true, false = self.discriminator(torch.cat([z, drawn]), c.repeat(2, 1)).float().chunk(2)
        if self.config.loss == "wasserstein":
            return false - true
        return F.softplus(-true) + F.softplus(false)

    def _penalty(self, c: Tensor, z: Tensor, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """γ/2 |∇ℓ|² at true rows, or λ (|∇f| − 1)² between true and drawn ones, their mean, ()."""
        c, z, drawn = c[::PENALISED], z[::PENALISED], drawn[::PENALISED]
        if self.config.loss != "wasserstein":
            return self.config.penalty / 2 * squared_slope(self.discriminator, z, c).mean()
        part = uniform_numbers(generator, len(z), *[1] * (z.ndim - 1))
        slope = (squared_slope(self.discriminator, z.lerp(drawn, part), c) + TINY).sqrt()
        return self.config.penalty * (slope - 1).square().mean()


def squared_slope(critic: Callable[[Tensor, Tensor], Tensor], z: Tensor, c: Tensor) -> Tensor:
    """|∇_z f(z, c)|², (B,), to be differentiated again."""
    z = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(z, c).sum(), z, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def noisy(logit: Tensor, uniform: Tensor) -> Tensor:
    """Logit a (...) plus logistic noise log u/(1 − u) of uniform u (...), (...)."""
    return logit + torch.logit(uniform, eps=TINY)


def straight_through(z: Tensor) -> Tensor:
    """The sign of z (...), with the derivative 1."""
    return sign(z) + (z - z.detach())


def sign(z: Tensor) -> Tensor:
    """±1 of z (...); +1 at 0."""
    return torch.where(z < 0, -1.0, 1.0)


def normal_numbers(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers (*shape) on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def uniform_numbers(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers (*shape) in [0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": lambda logit: -F.softplus(logit.float()),
    "non-saturating": lambda logit: F.softplus(-logit.float()),
    "wasserstein": lambda logit: -logit.float(),
}
"""log(1 − D), −log D and −f of drawn x."""
SPINS: dict[str, Callable[[Tensor], Tensor]] = {
    "straight-through": straight_through,
    "relaxed": torch.tanh,
}
"""Spins to train with, from (a + e)/2τ."""

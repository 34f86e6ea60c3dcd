r"""From noise to x: the reverse SDE, or its probability-flow ODE, solved given a denoiser x̂(z, λ).

A step goes from one log-SNR λ to a higher one; all solve the same reverse process. With s the
score (αx̂ − z)/σ², and in λ, its stochastic and its deterministic form are (Song et al. 2021,
arXiv:2011.13456)

    dz = σ²(z/2 + s) dλ + σ dw          dz = ½σ²(z + s) dλ = ½α(x̂ − αz) dλ

==================  ==========================================================================
``ancestral``       the reverse of a chain of few steps, with its posterior variance (Ho et al.
                    2020, arXiv:2006.11239): DDIM at η = 1
``ddim``            the same chain with noise η from 0, deterministic, to 1 (Song et al. 2021,
                    arXiv:2010.02502)
``euler``           the deterministic one in the angle φ, tan φ = σ/α, order 1: standard normal x
                    do not move (the parameterisation of Lu & Song 2024, arXiv:2410.11081)
``euler-maruyama``  the stochastic equation, order ½
``heun``            the deterministic one in z/α and σ/α, order 2, two evaluations a step (Karras
                    et al. 2022, arXiv:2206.00364)
``dpm-solver``      DPM-Solver++(2M): the deterministic one with x̂ linear in λ, order 2, one
                    evaluation a step (Lu et al. 2022, arXiv:2211.01095)
==================  ==========================================================================

Guidance is left out: it draws from another law than p(x|θ), of which no density is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from physgen.surrogates.diffusion.schedule import alpha_sigma

__all__ = [
    "SAMPLERS",
    "Denoise",
    "Normal",
    "Sampler",
    "SamplerName",
    "Step",
    "integrate",
    "sampler",
]

SamplerName = Literal["ancestral", "ddim", "euler", "euler-maruyama", "heun", "dpm-solver"]
Denoise = Callable[[Tensor, Tensor], Tensor]
"""z (B, …), λ () → x̂ (B, …)."""
Normal = Callable[[Tensor], Tensor]
"""Standard normal numbers of a tensor's shape."""


class Step(NamedTuple):
    """One step, as its solver meets it.

    Attributes:
        z: (B, …) at log-SNR `now`.
        x: x̂(z, now).
        now: λ, 0-dimensional.
        then: the λ to go to, higher.
        past: x̂ and λ of the step before; None in the first.
        denoise: x̂ of any z and λ.
        normal: random numbers.
    """

    z: Tensor
    x: Tensor
    now: Tensor
    then: Tensor
    past: tuple[Tensor, Tensor] | None
    denoise: Denoise
    normal: Normal


class Sampler(NamedTuple):
    """A solver: z at the end of a step, and how often a step asks the denoiser."""

    solve: Callable[[Step], Tensor]
    evaluations: int = 1


def ddim(step: Step, eta: float) -> Tensor:
    """z = α′x̂ + √(σ′² − η²τ²) ε̂ + ητ ξ, with τ² = σ′²(1 − e^{λ−λ′}) the posterior's variance.

    All solvers go from z (B, …) of the step to the next, (B, …).
    """
    (a, s), (a1, s1) = alpha_sigma(step.now), alpha_sigma(step.then)
    epsilon = (step.z - a * step.x) / s
    variance = eta**2 * -torch.expm1(step.now - step.then)  # of the fresh noise, in units of σ′²
    mean = a1 * step.x + s1 * (1 - variance).sqrt() * epsilon
    return mean + s1 * variance.sqrt() * step.normal(step.z) if eta else mean


def euler(step: Step) -> Tensor:
    """z + (φ′ − φ)(αε̂ − σx̂), (B, …), in the angle φ with tan φ = σ/α."""
    (a, s), (a1, s1) = alpha_sigma(step.now), alpha_sigma(step.then)
    velocity = a * (step.z - a * step.x) / s - s * step.x
    return step.z + (torch.atan2(s1, a1) - torch.atan2(s, a)) * velocity


def euler_maruyama(step: Step) -> Tensor:
    """z + σ²(z/2 + s)Δλ + σ√Δλ ξ, (B, …)."""
    (a, s), delta = alpha_sigma(step.now), step.then - step.now
    drift = s**2 * step.z / 2 + a * step.x - step.z
    return step.z + drift * delta + s * delta.sqrt() * step.normal(step.z)


def heun(step: Step) -> Tensor:
    """The mean of the slopes dy/dr = (y − x̂)/r at both ends, (B, …); y = z/α, r = σ/α."""
    (a, s), (a1, s1) = alpha_sigma(step.now), alpha_sigma(step.then)
    y, r, r1 = step.z / a, s / a, s1 / a1
    slope = (y - step.x) / r
    guess = y + (r1 - r) * slope
    after = (guess - step.denoise(a1 * guess, step.then)) / r1
    return a1 * (y + (r1 - r) * (slope + after) / 2)


def dpm_solver(step: Step) -> Tensor:
    """z σ′/σ + α′(1 − e^{−h})(x̂ + (x̂ − x̂₋₁) h/2h₋₁), (B, …); h is half the step in λ."""
    (_, s), (a1, s1) = alpha_sigma(step.now), alpha_sigma(step.then)
    h, x = (step.then - step.now) / 2, step.x
    if step.past:
        before, at = step.past
        x = x + (x - before) * h / (step.now - at)
    return step.z * s1 / s - a1 * torch.expm1(-h) * x


SAMPLERS: dict[SamplerName, Sampler] = {
    "ancestral": Sampler(lambda step: ddim(step, 1.0)),
    "euler": Sampler(euler),
    "euler-maruyama": Sampler(euler_maruyama),
    "heun": Sampler(heun, 2),
    "dpm-solver": Sampler(dpm_solver),
}


def sampler(name: SamplerName, eta: float) -> Sampler:
    """The solver of a name; η is that of DDIM."""
    return Sampler(lambda step: ddim(step, eta)) if name == "ddim" else SAMPLERS[name]


def integrate(
    solver: Sampler, denoise: Denoise, z: Tensor, log_snrs: Iterable[Tensor], normal: Normal
) -> Tensor:
    """z taken through a rising sequence of log-SNRs.

    Args:
        solver: takes each step.
        denoise: the denoiser.
        z: (B, …) at the first log-SNR.
        log_snrs: λ's, 0-dimensional, rising.
        normal: random numbers of a tensor's shape.
    """
    past = None
    for now, then in pairwise(log_snrs):
        x = denoise(z, now)
        z = solver.solve(Step(z, x, now, then, past, denoise, normal))
        past = x, now
    return z

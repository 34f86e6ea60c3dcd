r"""Particles: draws of x given y = a + Ax + σε, exact for a diffusion's chain as they grow.

A twisted particle filter (Wu et al. 2023, arXiv:2306.17775) on a chain of Gaussian steps. Given
z at log-SNR λ let x have mean x̂(z) and covariance V_λ. A step q(z′|z, x) = N(bz + ax, τ²) is then

    p(z′|z) = N(bz + a x̂, τ² + a²V),        and        p̃(y|z) = N(y; A x̂, σ² + A V Aᵀ)

is what z says of y. A particle moves by p(z′|z, y) of these: x of the Gaussian posterior given z
and y (a constrained realisation, Hoffman & Ribak 1991), then z′ given x. Its weight is

    w = N(y; A x̂(z′), S′) / N(y; A x̂₊, S′),       S′ = σ² + A V′ Aᵀ,

x̂₊ being the mean that the same Gaussian law has of x given z and z′. So w = 1 for a Gaussian
field, whose denoiser is linear, at any number of steps and particles; of all else the weights say
how far x̂(z′) is from the line that z foretold. Their mean estimates p(y|θ).

V_λ = (C⁻¹ + e^λ)⁻¹ is that of a Gaussian x of covariance C. C is read off the denoiser along a
pilot chain without y: of a Gaussian x the slope ∂x̂/∂z has along an axis of variance P

    α ∂x̂/∂z = P e^λ/(1 + P e^λ),       log P = logit(α ∂x̂/∂z) − λ,

and of any other x it is the mean posterior covariance (Tweedie's second formula: Rozet et al.
2024, arXiv:2405.13712), the best there is for such steps (Bao et al. 2022, arXiv:2201.06503). On
a torus the axes are waves. The chain begins where the signal is a hundredth of the noise, with
the Gaussian law of z there.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from physgen.law import Law
from physgen.nn.affine import axes_of_shifts, pooled
from physgen.nn.linear_view import LinearView
from physgen.surrogates.diffusion.sampler import Denoise
from physgen.surrogates.diffusion.schedule import alpha_sigma

__all__ = ["Cloud", "Prior", "filtered", "learnt_prior"]

PILOTS, DRAWS = 8, 512
"""Rows of the pilot chain on a torus, and elsewhere."""
LITTLE = 0.05
"""Part of a wave that a denoiser must leave, and take, to tell its variance."""
FAINT = 0.01
"""Signal over noise at which the chain begins."""
ENOUGH = 0.5
"""Effective part of the particles below which they are resampled."""
MOST = 64
"""Components of x without shifts, at most: their covariance is that of the pilot's draws."""
LEAST = 1e-6
"""Least variance, of the largest."""


class Covariance(NamedTuple):
    """U diag(v) Uᵀ, with U (d, d) orthogonal and v (d,), float64."""

    basis: Tensor
    variance: Tensor

    def __matmul__(self, x: Tensor) -> Tensor:
        """Of rows (B, d)."""
        return self.scaled(self.variance, x)

    def scaled(self, gain: Tensor, x: Tensor) -> Tensor:
        """U diag(gain) Uᵀ of rows (B, d)."""
        return (x @ self.basis * gain) @ self.basis.T


class Transition(NamedTuple):
    """b, a and τ² of q(z′|z, x) = N(bz + ax, τ²), between two log-SNRs."""

    b: Tensor
    a: Tensor
    variance: Tensor

    @classmethod
    def between(cls, now: Tensor, then: Tensor) -> Transition:
        """From λ to a higher one, () each."""
        (alpha, sigma), (alpha1, sigma1) = alpha_sigma(now.double()), alpha_sigma(then.double())
        part = -torch.expm1(now.double() - then.double())
        return cls(alpha / alpha1 * (sigma1 / sigma) ** 2, alpha1 * part, sigma1**2 * part)


class Prior(NamedTuple):
    """A Gaussian law of x: mean (1, d), axes (d, d) in columns, and variances (d,), float64."""

    mean: Tensor
    basis: Tensor
    variance: Tensor

    def given(self, log_snr: Tensor) -> Covariance:
        """V of x given z (B, d) at a log-SNR λ; −∞ for C itself."""
        return Covariance(self.basis, self.variance / (1 + log_snr.double().exp() * self.variance))


class Twist:
    """p(y|x̂) with x of mean x̂ and covariance V, and x given y.

    Args:
        view: A, one y and σ.
        covariance: V.
        seen: A U, (m, d).
    """

    def __init__(self, view: LinearView, covariance: Covariance, seen: Tensor) -> None:
        self.view, self.covariance = view, covariance
        s = seen * covariance.variance @ seen.T
        s.diagonal().add_(view.noise**2)
        self.factor = torch.linalg.cholesky(s)

    def log_p(self, x: Tensor) -> Tensor:
        """log p̃(y) of means (B, d), (B,)."""
        rest = self.view.rest - x @ self.view.matrix.T
        white = torch.linalg.solve_triangular(self.factor, rest.T, upper=False)
        log_det = self.factor.diagonal().log().sum() + 0.5 * len(white) * math.log(2 * math.pi)
        return -0.5 * white.square().sum(0) - log_det

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x given y and means (B, d), (B, d)."""
        free = x + self.covariance.scaled(self.covariance.variance.sqrt(), normal(x, generator))
        heard = free @ self.view.matrix.T
        rest = self.view.rest - heard - self.view.noise * normal(heard, generator)
        pull = torch.cholesky_solve(rest.T, self.factor).T @ self.view.matrix
        return free + self.covariance @ pull


class Cloud(NamedTuple):
    """What became of the particles.

    Attributes:
        x: (n, d) draws.
        ess: effective part of the particles, at the end and at the worst of all steps.
        log_evidence: log p̂(y|θ), of the chain.
    """

    x: Tensor
    ess: tuple[float, float]
    log_evidence: float


def filtered(
    denoise: Denoise,
    log_snrs: Tensor,
    prior: Prior,
    view: LinearView,
    draws: int,
    particles: int,
    generator: torch.Generator,
) -> Cloud:
    """Draws of x given one y.

    Args:
        denoise: x̂ of z (N, d).
        log_snrs: (T,) rising.
        prior: a Gaussian law like that of x.
        view: A, y (1, m) and σ.
        draws: n.
        particles: of each draw.
        generator: random numbers.
    """
    n, seen = draws * particles, view.matrix @ prior.basis
    now = torch.full_like(log_snrs[0], -torch.inf)
    x = prior.mean.expand(n, -1)
    z, log_w, worst = torch.zeros_like(x), x.new_zeros(n), 1.0
    twist = Twist(view, prior.given(now), seen)
    evidence = float(twist.log_p(x[:1]))
    for then in log_snrs[log_snrs > (FAINT / prior.variance.max()).log()]:
        step, covariance = Transition.between(now, then), prior.given(now)
        drawn, mean = twist.draw(x, generator), step.b * z + step.a * x
        z = step.b * z + step.a * drawn + step.variance.sqrt() * normal(z, generator)
        v = covariance.variance
        gain = step.a * v / (step.variance + step.a**2 * v)
        foretold = x + covariance.scaled(gain, z - mean)
        x, now, twist = (
            denoise(z.float(), then).double(),
            then,
            Twist(view, prior.given(then), seen),
        )
        log_w = log_w + twist.log_p(x) - twist.log_p(foretold)
        ess = effective_part(log_w)
        worst = min(worst, ess)
        if ess < ENOUGH or then == log_snrs[-1]:
            evidence += float(log_w.logsumexp(0)) - math.log(n)
            kept = survivors(log_w, n, generator)
            z, x, log_w = z[kept], x[kept], torch.zeros_like(log_w)
    return Cloud(twist.draw(x, generator)[::particles], (ess, worst), evidence)


def effective_part(log_w: Tensor) -> float:
    """Effective part of weights (N,)."""
    w = log_w.softmax(0)
    return float(1 / w.square().sum() / len(w))


def survivors(log_w: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Which particles go on, by systematic resampling of (N,), in a random order, (count,)."""
    start = torch.rand(1, generator=generator, device=log_w.device, dtype=log_w.dtype)
    at = (torch.arange(count, device=log_w.device) + start) / count
    kept = torch.searchsorted(log_w.softmax(0).cumsum(0), at).clamp(max=len(log_w) - 1)
    return kept[torch.randperm(count, generator=generator, device=log_w.device)]


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape (...) of a tensor."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def learnt_prior(
    denoise: Denoise, log_snrs: Tensor, law: Law, generator: torch.Generator
) -> Prior:
    """The Gaussian law that is like x of a denoiser, from draws without y.

    Along axes that shifts make alike each of the log-SNRs (T,) tells the variances of those waves
    of which it leaves half; elsewhere it is that of the draws.
    """
    rows = PILOTS if law.shifted else DRAWS
    z = torch.randn(rows, law.size, generator=generator, device=log_snrs.device)
    slopes = Slopes(law, generator) if law.shifted else None
    for now, then in pairwise(log_snrs):
        with torch.set_grad_enabled(slopes is not None):
            z = z.detach().requires_grad_(slopes is not None)
            x = denoise(z, now)
        if slopes is not None:
            slopes.add(x, z, now)
        x, step = x.detach(), Transition.between(now, then)
        z = step.b * z.detach() + step.a * x + step.variance.sqrt() * normal(z, generator)
        z = z.float()
    if slopes is not None:
        return slopes.prior(denoise(z, log_snrs[-1]).double())
    x = z.double() / alpha_sigma(log_snrs[-1].double())[0]
    variance, basis = torch.linalg.eigh(x.T.cov())
    return Prior(x.mean(0, keepdim=True), basis, variance.clamp(min=LEAST * float(variance[-1])))


class Slopes:
    """Slopes of a denoiser among waves, by random probes.

    Args:
        law: what x is.
        generator: random numbers of the probes.
    """

    def __init__(self, law: Law, generator: torch.Generator) -> None:
        self.generator = generator
        self.basis, self.alike = (part.to(generator.device) for part in axes_of_shifts(law))
        self.weight = torch.zeros(law.size, dtype=torch.float64, device=generator.device)
        self.total = self.weight.clone()

    def add(self, x: Tensor, z: Tensor, log_snr: Tensor) -> None:
        """What x̂(z) (B, d) at a log-SNR says of the waves of which it leaves about half."""
        probe = normal(z, self.generator)
        (pulled,) = torch.autograd.grad(x, z, probe)
        u, v = probe.double() @ self.basis, pulled.double() @ self.basis
        slope = self.pooled((u * v).sum(0)) / self.pooled(u.square().sum(0))
        left = alpha_sigma(log_snr.double())[0] * slope
        weight = torch.where((left > LITTLE) & (left < 1 - LITTLE), left * (1 - left), 0.0)
        self.weight += weight
        self.total += weight * (left.clamp(LITTLE, 1 - LITTLE).logit() - log_snr)

    def prior(self, x: Tensor) -> Prior:
        """Their variances, with the mean of draws x (B, d)."""
        power = torch.where(self.weight > 0, self.total / self.weight, 0.0).exp()
        wave = (x @ self.basis).mean(0) * (self.alike == self.alike[0])
        return Prior((wave @ self.basis.T)[None], self.basis, power)

    def pooled(self, values: Tensor) -> Tensor:
        """The sum over waves alike of values (d,), each in its place."""
        return pooled(values, self.alike)

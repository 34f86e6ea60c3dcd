r"""Guidance: draws of x given y = a + Ax + σε by a diffusion whose denoiser is told of y.

Given z at log-SNR λ, x has mean x̂(z); of its covariance V each method supposes something, and so
p(y|z) ≈ N(y; A x̂, σ² + A V Aᵀ). All three are approximations, whose draws follow no known law:

=========  ===================================================================================
``dps``    no V: a step down the gradient by z of |y − A x̂|, as long as it was found to work
           (Chung et al. 2023, arXiv:2209.14687); A need not be linear
``pigdm``  V = σ_λ², as of x that is white (ΠGDM: Song et al. 2023, ICLR)
``mmps``   V = (σ_λ²/α) ∂x̂/∂z, Tweedie's second formula, the system solved by conjugate residuals
           (Rozet et al. 2024, arXiv:2405.13712); right where x is Gaussian, if they converge
=========  ===================================================================================

With u = (σ² + A V Aᵀ)⁻¹ (y − A x̂) the denoiser given y is x̂ + (σ_λ²/α) (∂x̂/∂z)ᵀ Aᵀ u, and it goes
through the reverse chain as x̂ does.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from physgen.nn.linear_view import LinearView
from physgen.surrogates.diffusion.sampler import Denoise, Normal, Step, ddim
from physgen.surrogates.diffusion.schedule import alpha_sigma

__all__ = ["Guide", "dps", "guided", "mmps", "pigdm"]


class Guide(Protocol):
    """A method."""

    def __call__(self, z: Tensor, x: Tensor, now: Tensor) -> tuple[Tensor, Tensor | float]:
        """x̂ given y, and what is taken from z (B, d) after its step.

        Args:
            z: (B, d), with a gradient.
            x: (B, d) x̂(z).
            now: λ.
        """
        ...


def guided(denoise: Denoise, guide: Guide, z: Tensor, log_snrs: Tensor, normal: Normal) -> Tensor:
    """z (B, d) taken through rising log-SNRs (T,) by the reverse chain of a guided denoiser."""
    for now, then in pairwise(log_snrs):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            x = denoise(z, now)
            told, pull = guide(z, x, now)
        z = ddim(Step(z.detach(), told.detach(), now, then, None, denoise, normal), 1.0) - pull
    return z.detach()


def dps(distance: Callable[[Tensor], Tensor], strength: float) -> Guide:
    """A step of 2ζ along the gradient of |y − Ax̂|, for which the paper has ζ about 1.

    Args:
        distance: |y − Ax| of x (B, d), (B,).
        strength: ζ.
    """

    def guide(z: Tensor, x: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        (slope,) = torch.autograd.grad(distance(x).sum(), z)
        return x, 2 * strength * slope

    return guide


def pigdm(view: LinearView, iterations: int) -> Guide:
    """V = σ_λ²."""
    return solved(view, iterations, lambda z, x, v, sigma, alpha: sigma**2 * v)


def mmps(view: LinearView, iterations: int) -> Guide:
    """V = (σ_λ²/α) ∂x̂/∂z."""
    return solved(view, iterations, lambda z, x, v, sigma, alpha: sigma**2 / alpha * vjp(x, z, v))


def solved(view: LinearView, iterations: int, spread: Callable[..., Tensor]) -> Guide:
    """A guide that supposes a covariance, `spread` of (z, x, v, σ_λ, α) being V v, (B, d)."""
    matrix, rest = view.matrix.float(), view.rest.float()

    def guide(z: Tensor, x: Tensor, now: Tensor) -> tuple[Tensor, float]:
        alpha, sigma = alpha_sigma(now)

        def system(u: Tensor) -> Tensor:
            return view.noise**2 * u + spread(z, x, u @ matrix, sigma, alpha) @ matrix.T

        u = conjugate_residuals(system, rest - x.detach() @ matrix.T, iterations)
        return x + sigma**2 / alpha * vjp(x, z, u @ matrix), 0.0

    return guide


def vjp(x: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """(∂x/∂z)ᵀ v of rows (B, d)."""
    return torch.autograd.grad(x, z, v, retain_graph=True)[0]


def conjugate_residuals(system: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """u with system(u) ≈ b, of rows b (B, m), the residual being least in each Krylov space.

    So it never grows, be the system indefinite, as with the Jacobian of a network it may; there
    conjugate gradients diverge. A row that has converged stays (Stiefel 1955).
    """
    u, rest = torch.zeros_like(b), b
    image = system(rest)
    direction, pushed = rest, image
    product = (rest * image).sum(1, keepdim=True)
    least = 1e-12 * b.square().sum(1, keepdim=True)
    for _ in range(iterations):
        square = pushed.square().sum(1, keepdim=True)
        going = (rest.square().sum(1, keepdim=True) > least) & (square > 0)
        length = torch.where(going, product / square, 0.0)
        u, rest = u + length * direction, rest - length * pushed
        image = system(rest)
        before, product = product, (rest * image).sum(1, keepdim=True)
        turn = torch.where(going & (before != 0), product / before, 0.0)
        direction, pushed = rest + turn * direction, image + turn * pushed
    return u

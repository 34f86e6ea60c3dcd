r"""The bound of a chain of reals in its two forms (Luo 2022, arXiv:2208.11970).

With z_0, …, z_T ever noisier, z_{−1} = x, and sums over i = 0 … T − 1, −log p(x) is at most

    E[−log p(x|z_0)] + E KL(q(z_T|z_{T−1}) ‖ p(z_T)) + Σ E log q(z_i|z_{i−1})/p(z_i|z_{i+1})
    = E[−log p(x|z_0)] + KL(q(z_T|x) ‖ p(z_T)) + Σ E KL(q(z_i|z_{i+1}, x) ‖ p(z_i|z_{i+1})).

A *consistency* term of the first form has the noise of several steps, a *denoising* term of the
second that of z_{i+1} alone; the expectations of the sums are equal, their variances are not.
(Written as KL(q(z_i|z_{i−1}) ‖ p(z_i|z_{i+1})) the first would be too large, for given z_{i−1} z_i
is not independent of z_{i+1}.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from physgen.nn.densities import normal_log_density
from physgen.surrogates.diffusion.likelihood import (
    RowDenoise,
    mean_reconstruction,
    prior_kl,
    total,
)
from physgen.surrogates.diffusion.particles import Transition
from physgen.surrogates.diffusion.schedule import Schedule, alpha_sigma

__all__ = ["bound_forms"]


def bound_forms(
    denoise: RowDenoise, schedule: Schedule, x: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor]:
    """−log p(x) at most, by consistency and by denoising terms along one path, (B,) each.

    Args:
        denoise: x̂ of rows.
        schedule: λ(t).
        x: (B, …) reals.
        normal: (B, T + 1, …) standard normal, for z_0 and each step to more noise.
    """
    log_snrs = schedule(torch.linspace(0, 1, normal.shape[1], device=x.device)).to(x)
    alphas, sigmas = alpha_sigma(log_snrs)
    alpha, sigma = torch.ones_like(alphas[0]), torch.zeros_like(alphas[0])
    z, law = x, None
    consistency = denoising = -mean_reconstruction(schedule, x)
    for i, log_snr in enumerate(log_snrs):
        step = alphas[i] / alpha
        before, seen = law, z
        law = step * z, sigmas[i] ** 2 - (step * sigma) ** 2  # q(z_i|z_{i−1})
        alpha, sigma = alphas[i], sigmas[i]
        z = law[0] + law[1].sqrt() * normal[:, i]
        if before is None:
            continue
        found = denoise(z, log_snr.expand(len(z)))
        way = Transition.between(log_snr, log_snrs[i - 1])
        back = (way.b * z + way.a * found, way.variance)
        ratio = log_normal(seen, *before) - log_normal(seen, *back)
        consistency = consistency + total(ratio)
        denoising = denoising + normal_kl(way.b * z + way.a * x, way.variance, *back)
    if law is None:
        raise ValueError("normal: expected numbers for at least one step")
    consistency = consistency + normal_kl(*law, torch.zeros_like(z), torch.ones_like(law[1]))
    return consistency, denoising + prior_kl(schedule, x)


def normal_kl(mean: Tensor, variance: Tensor, other: Tensor, its: Tensor) -> Tensor:
    """KL of N(mean, variance) from N(other, its), means (B, …), variances (), (B,)."""
    ratio = variance / its
    return 0.5 * total((mean - other).square() / its + ratio - 1 - ratio.log())


def log_normal(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log N(z; mean, variance) of each component of z and mean (B, …), variance (), (B, …)."""
    return normal_log_density((z - mean) / variance.sqrt()) - 0.5 * variance.log()

"""The Gaussian kernel as a prior: x given y = Mx + σε, by guidance or by particles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from physgen.errors import UsageError
from physgen.nn.linear_view import LinearView, require_noise
from physgen.nn.measurement import Measurement
from physgen.nn.transforms import Transform
from physgen.surrogates.base import Restored
from physgen.surrogates.diffusion.guided import dps, guided, mmps, pigdm
from physgen.surrogates.diffusion.likelihood import reconstruct
from physgen.surrogates.diffusion.particles import MOST, Prior, filtered, learnt_prior
from physgen.surrogates.diffusion.sampler import Denoise

if TYPE_CHECKING:
    from physgen.surrogates.diffusion.gaussian import GaussianKernel

__all__ = ["GUIDED", "restored"]

GUIDED: Mapping[str, str] = {
    "particles": "twisted particle filter: exact for the chain of its steps as particles grow "
    "(Wu et al. 2023, arXiv:2306.17775), for a Gaussian field at any number",
    "mmps": "guidance by the posterior covariance of Tweedie's formula: an approximation "
    "(Rozet et al. 2024, arXiv:2405.13712)",
    "pigdm": "guidance as of white x (ΠGDM): an approximation (Song et al. 2023, ICLR)",
    "dps": "guidance down the gradient of |y − Mx̂|: an approximation, of x of any map "
    "(Chung et al. 2023, arXiv:2209.14687)",
}
ROWS = 256
"""Rows that the network sees at once."""


def restored(
    kernel: GaussianKernel,
    transform: Transform,
    log_snrs: Tensor,
    c: Tensor,
    y: Tensor,
    measurement: Measurement,
    method: str,
    generator: torch.Generator,
    *,
    particles: int = 16,
    iterations: int = 5,
    strength: float = 1.0,
) -> Restored:
    """One z for each row of c (B, D) and y (B, *y_shape), (B, *x_shape).

    Args:
        kernel: the learnt law of z.
        transform: the map of x to z.
        log_snrs: (T,) rising, of the chain.
        c: coordinates of θ.
        y: what was measured.
        measurement: M and σ.
        method: one of `GUIDED`.
        generator: random numbers.
        particles: of each draw, by particles.
        iterations: of the conjugate residuals of mmps and pigdm.
        strength: of the steps of dps.

    Raises:
        UsageError: x that the method is not for, or options out of range.
    """
    for name, value, least in (("particles", particles, 1), ("iterations", iterations, 1)):
        if value < least:
            raise UsageError(f"{name}: expected at least {least}, got {value}")
    if transform.told():
        raise UsageError(
            f"{method}: not for x whose components tell others: {transform.told()[0]}"
        )
    if method == "particles":
        return by_particles(kernel, transform, log_snrs, c, y, measurement, particles, generator)
    parts = [
        by_guidance(kernel, transform, log_snrs, *rows, measurement, method, generator,
                    iterations, strength)
        for rows in zip(c.split(ROWS), y.split(ROWS), strict=True)
    ]  # fmt: skip
    return Restored(torch.cat(parts), {})


def denoiser_at(kernel: GaussianKernel, c: Tensor) -> Denoise:
    """x̂ of z (B, d) at c (B, D), or of any number of rows at one c (1, D)."""

    def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
        fields = z.view(-1, *kernel.law.x_shape).split(ROWS)
        given = c.expand(len(z), -1).split(ROWS)
        parts = [
            kernel.denoiser(field, log_snr.expand(len(field)), at)
            for field, at in zip(fields, given, strict=True)
        ]
        return torch.cat(parts).flatten(1)

    return denoise


def by_guidance(
    kernel: GaussianKernel,
    transform: Transform,
    log_snrs: Tensor,
    c: Tensor,
    y: Tensor,
    measurement: Measurement,
    method: str,
    generator: torch.Generator,
    iterations: int,
    strength: float,
) -> Tensor:
    """As `restored`, z of few rows, (B, *x_shape)."""

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=like.device)

    shape = (len(c), *kernel.law.x_shape)
    start = normal(torch.empty(shape, device=c.device)).flatten(1)
    if method == "dps":
        require_noise(measurement)

        def distance(z: Tensor) -> Tensor:
            """|y − Mx|/σ_x of z (B, d), with lengths in units of z."""
            off = y - measurement(transform.inverse(z.view(shape)).to(y.dtype))
            return off.flatten(1).norm(dim=1).float() / width

        width = (transform.inverse(start.view(shape)).double()).std().float()
        guide = dps(distance, strength)
    else:
        view = LinearView.of(transform, measurement, y, start[:1].view(1, *shape[1:]))
        guide = (mmps if method == "mmps" else pigdm)(view, iterations)
    z = guided(denoiser_at(kernel, c), guide, start, log_snrs, normal).view(shape)
    return reconstruct(kernel.schedule, kernel.law.support, z, normal(z))


def by_particles(
    kernel: GaussianKernel,
    transform: Transform,
    log_snrs: Tensor,
    c: Tensor,
    y: Tensor,
    measurement: Measurement,
    particles: int,
    generator: torch.Generator,
) -> Restored:
    """As `restored`, (B, *x_shape); rows of one θ and y share their particles."""
    law, like = kernel.law, torch.zeros(1, *kernel.law.x_shape, device=c.device)
    if not law.shifted and law.size > MOST:
        raise UsageError(
            f"particles: for x on a torus, or of at most {MOST} components; take mmps"
        )
    view = LinearView.of(transform, measurement, y, like)
    z = like.expand(len(c), *like.shape[1:]).flatten(1).double()
    told = {name: z.new_zeros(len(c)) for name in ("ess", "worst_ess", "log_evidence")}
    known: tuple[Tensor, Denoise, Prior] | None = None
    for rows in equal_rows(torch.cat([c.double(), y.double().flatten(1)], 1)):
        i = int(rows[0])
        if known is None or not c[i].equal(known[0]):
            denoise = denoiser_at(kernel, c[i : i + 1])
            known = c[i], denoise, learnt_prior(denoise, log_snrs, law, generator)
        _, denoise, prior = known
        cloud = filtered(denoise, log_snrs, prior, view.row(i), len(rows), particles, generator)
        z[rows] = cloud.x
        for name, value in zip(told, (*cloud.ess, cloud.log_evidence), strict=True):
            told[name][rows] = value
    return Restored(z.float().view(len(c), *law.x_shape), told)


def equal_rows(rows: Tensor) -> Iterator[Tensor]:
    """Which of rows (B, D) are equal, group by group, (n,) each, in the order of their values."""
    _, group = rows.unique(dim=0, return_inverse=True)
    for number in range(int(group.max()) + 1 if len(group) else 0):
        yield (group == number).nonzero()[:, 0]

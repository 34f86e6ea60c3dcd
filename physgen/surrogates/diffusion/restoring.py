"""The Gaussian kernel as a prior: x given y = Mx + σε, by guidance or by particles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from physgen.errors import UsageError
from physgen.nn.linear_view import LinearView, require_noise
from physgen.nn.measurement import Measurement
from physgen.nn.tensors import equal_rows
from physgen.nn.transforms import Transform
from physgen.surrogates.base import Restored, refuse_unknown_options
from physgen.surrogates.diffusion.guided import Guide, dps, guided, mmps, pigdm
from physgen.surrogates.diffusion.likelihood import reconstruct
from physgen.surrogates.diffusion.particles import MOST, Prior, filtered, learnt_prior
from physgen.surrogates.diffusion.sampler import Denoise

if TYPE_CHECKING:
    from physgen.surrogates.diffusion.gaussian import GaussianKernel

__all__ = ["GUIDED", "InverseProblem", "restored"]

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


@dataclass(frozen=True)
class InverseProblem:
    """z of a kernel's law, to be drawn given y = Mx + σε, x being the inverse map of z.

    Attributes:
        kernel: the learnt law of z.
        transform: the map of x to z.
        log_snrs: (T,) rising, of the chain.
        c: coordinates of θ, (B, D).
        y: what was measured, (B, *y_shape).
        measurement: M and σ.
    """

    kernel: GaussianKernel
    transform: Transform
    log_snrs: Tensor
    c: Tensor
    y: Tensor
    measurement: Measurement

    @property
    def one(self) -> Tensor:
        """A z, (1, *x_shape), all 0."""
        return torch.zeros(1, *self.kernel.law.x_shape, device=self.c.device)

    @property
    def view(self) -> LinearView:
        """What the measurement sees of z."""
        return LinearView.of(self.transform, self.measurement, self.y, self.one)

    def split(self) -> list[InverseProblem]:
        """Few rows at a time."""
        rows = zip(self.c.split(ROWS), self.y.split(ROWS), strict=True)
        return [replace(self, c=c, y=y) for c, y in rows]

    def denoiser(self, c: Tensor) -> Denoise:
        """x̂ of z (B, d) at c (B, D), or of any number of rows at one c (1, D)."""
        law, denoiser = self.kernel.law, self.kernel.denoiser

        def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
            fields = z.view(-1, *law.x_shape).split(ROWS)
            given = c.expand(len(z), -1).split(ROWS)
            parts = [
                denoiser(field, log_snr.expand(len(field)), at)
                for field, at in zip(fields, given, strict=True)
            ]
            return torch.cat(parts).flatten(1)

        return denoise


def restored(
    problem: InverseProblem, method: str, generator: torch.Generator, **options: Any
) -> Restored:
    """One z for each row of c and y, (B, *x_shape), by a method of `GUIDED` and its options.

    Raises:
        UsageError: x that the method is not for, or options that it does not have.
    """
    draw = METHODS[method]
    known = list(signature(draw).parameters)[2:]
    refuse_unknown_options(method, options, known, reals=("strength",))
    if told := problem.transform.told():
        raise UsageError(f"{method}: not for x whose components tell others: {told[0]}")
    return draw(problem, generator, **options)


def by_dps(
    problem: InverseProblem, generator: torch.Generator, *, strength: float = 1.0
) -> Restored:
    """Down the gradient of |y − Mx̂|, z (B, *x_shape), in steps of a strength."""
    require_noise(problem.measurement)

    def guide_of(part: InverseProblem, start: Tensor) -> Guide:
        def seen(z: Tensor) -> Tensor:
            return part.transform.inverse(z.view(-1, *part.kernel.law.x_shape)).to(part.y.dtype)

        def distance(z: Tensor) -> Tensor:
            """|y − Mx| of z (B, d), in units of z, (B,)."""
            return (part.y - part.measurement(seen(z))).flatten(1).norm(dim=1).float() / width

        width = seen(start).std().float()
        return dps(distance, strength)

    return by_guidance(problem, generator, guide_of)


def by_pigdm(
    problem: InverseProblem, generator: torch.Generator, *, iterations: int = 5
) -> Restored:
    """As of white x, z (B, *x_shape)."""
    return by_guidance(problem, generator, lambda part, _: pigdm(part.view, iterations))


def by_mmps(
    problem: InverseProblem, generator: torch.Generator, *, iterations: int = 5
) -> Restored:
    """By Tweedie's covariance, z (B, *x_shape)."""
    return by_guidance(problem, generator, lambda part, _: mmps(part.view, iterations))


def by_guidance(
    problem: InverseProblem,
    generator: torch.Generator,
    guide_of: Callable[[InverseProblem, Tensor], Guide],
) -> Restored:
    """By the guide of some rows and of z where they start, z (B, *x_shape)."""

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=like.device)

    kernel, found = problem.kernel, []
    for part in problem.split():
        start = normal(problem.one.expand(len(part.c), *kernel.law.x_shape)).flatten(1)
        guide, denoise = guide_of(part, start), problem.denoiser(part.c)
        z = guided(denoise, guide, start, problem.log_snrs, normal).view(-1, *kernel.law.x_shape)
        found.append(reconstruct(kernel.schedule, kernel.law.support, z, normal(z)))
    return Restored(torch.cat(found), {})


def by_particles(
    problem: InverseProblem, generator: torch.Generator, *, particles: int = 16
) -> Restored:
    """By a particle filter, z (B, *x_shape); rows of one θ and y share their particles."""
    law, c = problem.kernel.law, problem.c
    if not law.shifted and law.size > MOST:
        raise UsageError(
            f"particles: for x on a torus, or of at most {MOST} components; take mmps"
        )
    view = problem.view
    z = c.new_zeros(len(c), law.size).double()
    told = {name: z.new_zeros(len(c)) for name in ("ess", "worst_ess", "log_evidence")}
    known: tuple[Tensor, Denoise, Prior] | None = None
    for rows in equal_rows(torch.cat([c.double(), problem.y.double().flatten(1)], 1)):
        i = int(rows[0])
        if known is None or not c[i].equal(known[0]):
            denoise = problem.denoiser(c[i : i + 1])
            known = c[i], denoise, learnt_prior(denoise, problem.log_snrs, law, generator)
        _, denoise, prior = known
        cloud = filtered(
            denoise, problem.log_snrs, prior, view.row(i), len(rows), particles, generator
        )
        z[rows] = cloud.x
        for name, value in zip(told, (*cloud.ess, cloud.log_evidence), strict=True):
            told[name][rows] = value
    return Restored(z.float().view(len(c), *law.x_shape), told)


METHODS: Mapping[str, Callable[..., Restored]] = {
    "particles": by_particles,
    "mmps": by_mmps,
    "pigdm": by_pigdm,
    "dps": by_dps,
}

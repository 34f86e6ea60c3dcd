r"""x given y = Mx + σε by Hamiltonian Monte Carlo, for families of reals with an exact log p.

z is what the family learns, x its map. p(z|θ, y) ∝ p(z|θ) N(y; Mx, σ²) has a gradient. Chains move
in u, z = Lu, with L the Cholesky factor of (C⁻¹ + AᵀA/σ²)⁻¹: C is the covariance of draws of z
without y, and A = M ∂x/∂z. If x is Gaussian, u is white; of all else the metric costs time, never
exactness. Each row is a chain, from a draw without y on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.affine import axes_of_shifts, pooled
from physgen.nn.hmc import hamiltonian_chains
from physgen.nn.linear_view import LinearView
from physgen.nn.measurement import Measurement
from physgen.nn.seen_spins import chains_of_rows
from physgen.surrogates.base import Noise, Restored, Surrogate, refuse_unknown_options

__all__ = ["Differentiable"]

HMC: Mapping[str, str] = {
    "hmc": "Hamiltonian Monte Carlo (Neal 2011, arXiv:1206.1901): exact for the learnt law as "
    "sweeps grow, which R̂ watches"
}
SWEEPS, WARM_UP = 50, 50
"""Of the chains, and of those before, by default."""
DRAWS = 64
"""Draws without y that tell C, at least."""
LEAST = 1e-9
"""Added to variances, of their mean."""


class Differentiable(Surrogate):
    """A family whose log p of reals is exact and has a gradient by x."""

    def __init__(self, law: Law, config: Any) -> None:
        super().__init__(law, config)
        if law.support == "reals" and not law.missing:
            self.restorers = HMC

    def _restore(
        self,
        c: Tensor,
        y: Tensor,
        measurement: Measurement,
        method: str,
        generator: torch.Generator,
        **options: Any,
    ) -> Restored:
        refuse_unknown_options(method, options, ("sweeps", "warm_up", "step"), reals=("step",))
        if (step := float(options.get("step", 0.0))) < 0:
            raise UsageError(f"step: expected at least 0 (0 to tune it), got {step:g}")
        if told := self.transform.told():
            raise UsageError(f"{method}: not for x whose components tell others: {told[0]}")
        shape, noise = (len(c), *self.law.x_shape), Noise(torch.arange(len(c)), 0, c.device)
        many = c.repeat(-(-DRAWS // len(c)), 1)
        drawn = torch.cat([self._sample(part, generator) for part in many.split(self._at_once)])
        view = LinearView.of(self.transform, measurement, y, drawn[:1], straight=False)
        factor = metric(covariance_of(self.law, drawn.double().flatten(1)), view)

        def log_density(u: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                u = u.detach().requires_grad_()
                z = (u @ factor.T).float().view(shape)
                log_p = self._log_prob(c, z, noise, 1)[0].double()
                log_p = log_p + measurement.log_p(y, self.transform.inverse(z).double())
                (slope,) = torch.autograd.grad(log_p.sum(), u)
            return log_p.detach(), slope

        start = torch.linalg.solve_triangular(
            factor, drawn[: len(c)].double().flatten(1).T, upper=False
        ).T
        chains = hamiltonian_chains(
            log_density, start, generator,
            warm_up=int(options.get("warm_up", WARM_UP)),
            sweeps=int(options.get("sweeps", SWEEPS)), step=step,
        )  # fmt: skip
        z = (chains.u[-1] @ factor.T).float().view(shape)
        same = torch.cat([c.double(), y.double().flatten(1)], 1)
        return Restored(z, {"accepted": chains.accepted, **chains_of_rows(chains.u, same)})


def covariance_of(law: Law, z: Tensor) -> Tensor:
    """C of draws z (N, d) float64, (d, d): along shifts of waves, else drawn towards its diagonal.

    The fewer draws there are beside components, the more so.
    """
    basis, alike = (part.to(z.device) for part in axes_of_shifts(law))
    off = (z - z.mean(0)) @ basis
    if law.shifted:
        count = pooled(torch.ones_like(off[0]), alike)
        return basis * (pooled(off.square().mean(0), alike) / count) @ basis.T
    found, part = off.T @ off / len(off), len(off) / (len(off) + len(off.T))
    return part * found + (1 - part) * found.diagonal().diag()


def metric(covariance: Tensor, view: LinearView) -> Tensor:
    """The Cholesky factor of (C⁻¹ + AᵀA/σ²)⁻¹, C (d, d) and A (m, d) float64, (d, d)."""
    seen = covariance @ view.matrix.T
    s = view.matrix @ seen
    s.diagonal().add_(view.noise**2)
    left = covariance - seen @ torch.linalg.solve(s, seen.T)
    left.diagonal().add_(LEAST * left.diagonal().mean())
    return torch.linalg.cholesky(0.5 * (left + left.T))

r"""Gibbs chains of an RBM: persistent ones for training (PCD), and those that draw samples.

*Persistent contrastive divergence* (Tieleman, ICML 2008) keeps its chains from step to step. Here
p(v|θ) differs from row to row, so each chain has a θ; a batch takes the chains of nearest θ and
moves them to its own, so that both phases of the gradient see the same θ. *Tempering* along θ
exchanges the spins of rows of neighbouring θ with the probability that leaves both laws as they
are (Swendsen & Wang 1986; Desjardins et al. 2010).

Samples start where the chains of nearest θ ended: from random spins a lattice at strong coupling
would be quenched, and stay in stripes. How long a chain must run is measured: many times the
autocorrelation time of its free energy.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from physgen.nn.given_noise import noise_is_given
from physgen.surrogates.rbm import compiled
from physgen.surrogates.rbm.energy import Coefficients, Weights, free_energy, gibbs
from simulators.base import Array

__all__ = [
    "LEVELS",
    "Arrays",
    "autocorrelation_time",
    "burnt_in",
    "counter",
    "exchange_pairs",
    "exchanged",
    "is_compiled",
    "ladders",
    "nearest_chains",
    "rows_last",
    "run_sweeps",
    "rungs",
    "watched_sweeps",
    "watching",
    "written_out",
]

LEAST, MOST, BURN_IN = 64, 16384, 24
"""Sweeps of a burn-in at least and at most, and in autocorrelation times as measured."""
NONE = np.empty((0, 0), np.float32)
LEVELS = 8
"""Values of θ that a tempered sample is drawn at, itself included."""
Run = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Spins (B, N) and a number of sweeps → spins, and what is watched in these, (sweeps, B)."""


def is_compiled(v: Tensor) -> bool:
    """Whether chains v (B, N) are moved by numba."""
    return v.device.type == "cpu" and not noise_is_given()


def run_sweeps(
    weights: Weights,
    coefficients: Coefficients,
    v: Tensor,
    sweeps: int,
    generator: torch.Generator,
) -> Tensor:
    """v (B, N) after some sweeps."""
    if is_compiled(v):
        return compiled_sweeps(weights, coefficients, v, sweeps, generator)[0]
    for _ in range(sweeps):
        v = gibbs(weights, coefficients, weights.up(v), generator)
    return v


def watched_sweeps(
    weights: Weights,
    coefficients: Coefficients,
    v: Tensor,
    sweeps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """v (B, N) after some sweeps, and its free energy before each, (sweeps, B)."""
    if is_compiled(v):
        return compiled_sweeps(weights, coefficients, v, sweeps, generator)
    series = [v.new_empty(0, len(v))]
    for _ in range(sweeps):
        u = weights.up(v)
        series.append(free_energy(coefficients, v, u)[None])
        v = gibbs(weights, coefficients, u, generator)
    return v, torch.cat(series)


def compiled_sweeps(
    weights: Weights,
    coefficients: Coefficients,
    v: Tensor,
    sweeps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The same by numba, on a CPU: v (B, N) and (sweeps, B)."""
    found, series = [v.new_empty(0, v.shape[1])], [v.new_empty(sweeps, 0)]
    for rows in torch.arange(len(v)).split(compiled.MOST):  # few enough for the cache
        written = written_out(weights, coefficients.each(itemgetter(rows)))
        spins, energies = compiled.swept(rows_last(v[rows]), *written, sweeps, counter(generator))
        found.append(torch.from_numpy(spins.T))
        series.append(torch.from_numpy(energies))
    return torch.cat(found).to(v), torch.cat(series, 1).to(v)


class Arrays(NamedTuple):
    """W, the sites near each, and coefficients as `compiled` takes them."""

    w: Array
    near: Array
    g: Array
    d: Array
    b: Array


def written_out(weights: Weights, coefficients: Coefficients) -> Arrays:
    """W and coefficients of B rows as arrays, on a CPU."""
    w, near = weights.compiled()
    g, d, b = coefficients
    sites = near.shape[1] if len(near) else w.shape[1]
    units = g.shape[1], near.shape[1] if len(near) else 1
    return Arrays(
        w,
        near,
        rows_last(g),
        NONE if d is None else rows_last(d.expand(-1, *units)),
        NONE if b is None else rows_last(b.expand(-1, sites)),
    )


def rows_last(a: Tensor, dtype: torch.dtype = torch.float32) -> Array:
    """An array (n, B) of a tensor (B, …)."""
    return a.detach().flatten(1).T.to(dtype).contiguous().numpy()


def counter(generator: torch.Generator) -> int:
    """Where random bits of `compiled` start."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))


def watching(sweep: Callable[[Tensor], Tensor], observe: Callable[[Tensor], Tensor]) -> Run:
    """Sweeps one by one, v → v (B, N), with something of v, (B,), after each."""

    def run(v: Tensor, sweeps: int) -> tuple[Tensor, Tensor]:
        series = []
        for _ in range(sweeps):
            v = sweep(v)
            series.append(observe(v))
        return v, torch.stack(series)

    return run


def burnt_in(run: Run, v: Tensor) -> tuple[Tensor, float]:
    """v after as many sweeps as its own autocorrelation asks for, and that autocorrelation time.

    Args:
        run: some sweeps.
        v: where to start, (B, N).
    """
    v, series = run(v, LEAST)
    while True:
        tau = autocorrelation_time(series[len(series) // 2 :])
        if len(series) >= min(MOST, BURN_IN * tau):
            return v, tau
        wanted = min(MOST, max(3 * len(series) // 2, int(BURN_IN * tau) + 1))
        v, more = run(v, wanted - len(series))
        series = torch.cat([series, more])


def autocorrelation_time(series: Tensor, window: float = 5.0) -> float:
    """Integrated autocorrelation time τ = 1 + 2 Σ ρ_t of series (T, B), in steps.

    The chains are pooled, each with its own mean, since each has its own θ; that reads up to three
    times too low where the series are only some τ long. The sum ends at the first lag of `window`
    τ (Sokal 1997).
    """
    series = series.double()
    centred = series - series.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * len(series), dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), dim=0)[: len(series)].sum(1)
    if covariance[0] <= torch.finfo(torch.float32).eps ** 2 * series.square().sum():
        return 1.0  # constants
    tau = 2 * (covariance / covariance[0]).cumsum(0) - 1
    lag = torch.arange(len(tau), device=tau.device)
    enough = (lag >= window * tau).nonzero()
    return max(1.0, float(tau[int(enough[0]) if len(enough) else -1]))


def nearest_chains(c: Tensor, chain_c: Tensor) -> Tensor:
    """Which chain of (M, D) is nearest to each c (B, D), (B,)."""
    exactly = "donot_use_mm_for_euclid_dist"  # products of matrices lose the nearest one
    return torch.cdist(c, chain_c, compute_mode=exactly).argmin(1)


def exchanged(
    weights: Weights, coefficients: Coefficients, order: Tensor, v: Tensor, rng: torch.Generator
) -> Tensor:
    """v (B, N) after pairs of rows have tried to exchange their spins.

    Rows i and k do so with probability min(1, p_i(v_k) p_k(v_i) / (p_i(v_i) p_k(v_k))).

    Args:
        weights: W.
        coefficients: those of the rows.
        order: rows, each two of which are a pair; an odd one at the end is left alone.
        v: spins.
        rng: random numbers.
    """
    order = order[: len(order) // 2 * 2]
    partner = order.view(-1, 2).flip(1).flatten()
    rows, u = coefficients.each(lambda a: a[order]), weights.up(v)
    log_p = free_energy(rows, v[order], u[order]) - free_energy(rows, v[partner], u[partner])
    chance = torch.rand(len(order) // 2, generator=rng, device=v.device)
    accepted = (chance.log() < log_p.view(-1, 2).sum(1)).repeat_interleave(2)
    out = v.clone()
    out[order] = torch.where(accepted[:, None], v[partner], v[order])
    return out


def exchange_pairs(c: Tensor, rng: torch.Generator) -> Tensor:
    """Rows of c (B, D) in an order of which each two are a pair, along a random direction."""
    direction = torch.randn(c.shape[1], generator=rng, device=c.device)
    first = int(torch.randint(2, (), generator=rng, device=c.device))
    return (c @ direction).argsort()[first:]


def ladders(weakest: Tensor, c: Tensor) -> Tensor:
    """Points from the weakest coupling (D,) to each c (B, D), LEVELS for each, (B · LEVELS, D)."""
    part = torch.linspace(0, 1, LEVELS, device=c.device)[:, None]
    return (weakest + part * (c[:, None] - weakest)).flatten(0, 1)


def rungs(count: int, rng: torch.Generator) -> Tensor:
    """Neighbours on each of the ladders of `ladders`, `count` rows in all, two by two, (m,)."""
    first = int(torch.randint(2, (), generator=rng, device=rng.device))
    rows = torch.arange(count, device=rng.device).view(-1, LEVELS)
    return rows[:, first : LEVELS - first].flatten()

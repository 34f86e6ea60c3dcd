r"""Hamiltonian Monte Carlo of many chains side by side (Neal 2011, arXiv:1206.1901).

Momenta of unit mass carry u along ∇ log p by leapfrog steps of length ε for a time of about a
quarter of a standard normal law's period, and the end is accepted by its energy. While chains warm
up, ε is tuned by dual averaging to an acceptance of 0.8 (Hoffman & Gelman 2014, arXiv:1111.4246):
that of each chain, so that none stays where the law is steep, and then the median of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["WarmChains", "hamiltonian_chains"]

LogDensity = Callable[[Tensor], tuple[Tensor, Tensor]]
"""u (B, d) → log p (B,) up to a constant, and its gradient (B, d)."""
ACCEPTED = 0.8
TIMES = (0.25 * math.pi, 0.75 * math.pi)
"""Time of a trajectory, drawn anew each sweep, so that no period is met."""
MOST_LEAPS = 64
GAMMA, DELAY, DECAY = 0.05, 10, 0.75
"""γ, t₀ and κ of Hoffman & Gelman, section 3.2."""


class WarmChains(NamedTuple):
    """What chains were, once they were warm.

    Attributes:
        u: (T, B, d), sweep by sweep.
        accepted: mean probability of acceptance of each, (B,).
        step: ε.
    """

    u: Tensor
    accepted: Tensor
    step: float


def hamiltonian_chains(
    log_density: LogDensity,
    u: Tensor,
    generator: torch.Generator,
    *,
    warm_up: int,
    sweeps: int,
    step: float = 0.0,
) -> WarmChains:
    """WarmChains from u (B, d) on.

    Args:
        log_density: of u, with its gradient.
        u: where they start.
        generator: random numbers.
        warm_up: sweeps that are left out, in which ε is tuned.
        sweeps: sweeps after these.
        step: ε; 0 to tune it.
    """
    start = torch.full_like(u[:, 0], math.log(step or u.shape[1] ** -0.25))
    log_step, mean, lag = start, torch.zeros_like(start), torch.zeros_like(start)
    now, found, chances = (u, *log_density(u)), [], []
    for t in range(1, warm_up + sweeps + 1):
        now, chance = trajectory(log_density, *now, log_step.exp(), generator)
        if t > warm_up:
            found.append(now[0])
            chances.append(chance)
        elif not step:
            lag = lag + (ACCEPTED - chance - lag) / (t + DELAY)
            log_step = start + math.log(10) - math.sqrt(t) / GAMMA * lag
            mean = mean + t**-DECAY * (log_step - mean)
            log_step = mean.median().expand_as(mean) if t == warm_up else log_step
    return WarmChains(torch.stack(found), torch.stack(chances).mean(0), float(log_step[0].exp()))


def trajectory(
    log_density: LogDensity,
    u: Tensor,
    log_p: Tensor,
    slope: Tensor,
    step: Tensor,
    generator: torch.Generator,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Where chains go from u (B, d), log p (B,) and its slope (B, d) by steps (B,).

    Returns:
        The same there, and with what chance (B,) they went.
    """

    def uniform(rows: int) -> Tensor:
        return torch.rand(rows, generator=generator, device=u.device, dtype=u.dtype)

    momentum = torch.randn(u.shape, generator=generator, device=u.device, dtype=u.dtype)
    energy = log_p - 0.5 * momentum.square().sum(1)
    low, high = TIMES
    leaps = (low + (high - low) * uniform(1)) / step.median()
    there, value, pull, step = u, log_p, slope, step[:, None]
    for _ in range(math.ceil(min(MOST_LEAPS, float(leaps)))):
        half = momentum + 0.5 * step * pull
        there = there + step * half
        value, pull = log_density(there)
        momentum = half + 0.5 * step * pull
    chance = (value - 0.5 * momentum.square().sum(1) - energy).exp().clamp(max=1).nan_to_num(0.0)
    taken = uniform(len(u)) < chance
    row = taken[:, None]
    ends = torch.where(row, there, u), torch.where(taken, value, log_p)
    return (*ends, torch.where(row, pull, slope)), chance

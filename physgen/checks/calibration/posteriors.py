r"""The posteriors of many rows, a few at a time, and what calibration keeps of each.

A posterior on its grid may take megabytes, so that a thousand are never held at once. Of each are
kept mean, widths, some draws, and what checks rank in it, given the θ that x was drawn at: its
distribution function (:mod:`.sbc`), the mass of what is denser (:mod:`.coverage`) or nearer to a
random point (:mod:`.tarp`) than θ.

The same is kept of two *controls*, posteriors that are wrong on purpose: 30 % too narrow, p(θ|x)
to the power of 1/0.7²; and shifted by 0.3 of its widths in all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from physgen.checks.calibration.check import NARROW, SHIFT, Rank
from physgen.checks.calibration.target import Target
from physgen.posterior.density import FINE
from physgen.posterior.grid import MOST, GridPosterior
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["Posteriors", "posteriors_of", "tempered"]

POINTS = 2**17
"""Points of fine grids that are held at once."""


class Posteriors(NamedTuple):
    """Posteriors of n rows in short.

    Attributes:
        ranks: "right" and each control if asked for → check → what it keeps, (n, …); empty
            without θ.
        mean: (n, D).
        sd: (n, D).
        draws: draws of each posterior, (n, K, D).
        log_p: log density at the posterior mean, (n,).
        gain: log p(θ|x) − log p(θ), what x tells of θ in nats, (n,); NaN without θ.
        resolved: whether the grid resolves each, (n,).
        evaluations: of log p(x|θ) on the grid of each, (n,).
    """

    ranks: dict[str, dict[str, Array]]
    mean: Array
    sd: Array
    draws: Array
    log_p: Array
    gain: Array
    resolved: NDArray[np.bool_]
    evaluations: Array


def posteriors_of(
    target: Target,
    theta: Array | None,
    x: Array,
    prior: Prior,
    *,
    samples: int,
    seed: int,
    ranks: Mapping[str, Rank] | None = None,
    controls: bool = False,
    tick: Callable[[float], None] | None = None,
) -> Posteriors:
    """Posteriors of rows x (n, *x_shape) under a prior.

    Args:
        target: what gives the posteriors.
        theta: what x was drawn at, (n, D); None if that is not known.
        x: observations.
        prior: uniform, over one to three parameters.
        samples: draws K of each posterior.
        seed: seed of all that is random.
        ranks: check → what it keeps of a posterior and its θ.
        controls: whether to rank θ in posteriors that are wrong on purpose, too.
        tick: told the part that is done.
    """
    rng = np.random.default_rng([seed, 7])
    around = prior.sample(len(x), rng)
    size = ((MOST[len(prior)] - 1) * FINE[len(prior)] + 1) ** len(prior)
    step, parts, flat = max(1, POINTS // size), [], prior.log_prob(prior.low[None])[0]

    def ranked(posterior: GridPosterior, theta: Array, around: Array) -> dict[str, Array]:
        every = (ranks or {}).items()
        return {name: rank(posterior, theta, around, prior) for name, rank in every}

    for i in range(0, len(x), step):
        if tick:
            tick(i / len(x))
        some = np.arange(i, min(i + step, len(x)))
        log_density = target.log_density(x[some], some, seed)
        posterior = target.posterior(log_density, prior, len(some))
        mean, sd = posterior.mean, posterior.sd
        found, gain = {}, np.full(len(some), np.nan)
        if theta is not None:
            t, r, shift = theta[some], around[some], SHIFT * sd
            gain = posterior.log_prob(t[:, None])[:, 0] - prior.log_prob(t)
            found["right"] = ranked(posterior, t, r)
            if controls:
                found["narrow"] = ranked(tempered(posterior, NARROW**-2), t, r)
                found["shifted"] = ranked(posterior, t - shift, r - shift)
        parts.append(
            Posteriors(
                found,
                mean,
                sd,
                posterior.sample(samples, rng),
                posterior.log_prob(mean[:, None])[:, 0] + posterior.log_evidence - flat,
                gain,
                posterior.resolved,
                posterior.evaluations,
            )
        )
    return _joined(parts)


def _joined(parts: list[Posteriors]) -> Posteriors:
    def of(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in parts])

    ranked = {
        control: {name: np.concatenate([p.ranks[control][name] for p in parts]) for name in kept}
        for control, kept in parts[0].ranks.items()
    }
    return Posteriors(ranked, *(of(name) for name in Posteriors._fields[1:]))


def tempered(posterior: GridPosterior, power: float) -> GridPosterior:
    """The posterior to a power, not normalised: narrower for a power above 1."""
    peak = posterior.values.max(tuple(range(1, posterior.values.ndim)), keepdims=True)
    values = power * (posterior.values - peak)
    return replace(posterior, values=values)

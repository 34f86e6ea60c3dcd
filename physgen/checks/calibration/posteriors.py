r"""The posteriors of many rows, a few at a time, and what calibration keeps of each.

A posterior on its grid may take megabytes, so that a thousand are never held at once. Of each is
kept what a right one would make uniform, given the θ that x was drawn at:

- *cdf*, its distribution function at θ, parameter by parameter: the rank of simulation-based
  calibration (Talts et al. 2018, arXiv:1804.06788), but exact and not among finitely many draws;
- *credibility*, the mass of the region that is denser than θ: the smallest credible region that
  holds θ. Its distribution is the expected coverage (Hermans et al. 2021, arXiv:2110.06581);
- *tarp*, the mass nearer to a random point than θ is (Lemos et al. 2023, arXiv:2302.03026), in
  units of the prior's box. It needs no density, and with enough points it is not only necessary
  but sufficient for a posterior to be right.

The same of two *controls*, posteriors that are wrong on purpose: 30 % too narrow, p(θ|x) to the
power of 1/0.7²; and shifted by 0.3 of its widths in all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from physgen.checks.calibration.target import Judged
from physgen.posterior.density import FINE
from physgen.posterior.grid import MOST, GridPosterior
from simulators.base import Array, Box

__all__ = ["CONTROLS", "NARROW", "SHIFT", "Inferred", "Ranks", "inferred", "ranks", "tempered"]

NARROW, SHIFT = 0.7, 0.3
CONTROLS = {
    "narrow": "30 % too narrow",
    "shifted": "shifted by 0.3 widths",
    "shuffled": "of shuffled components",
}
POINTS = 2**17
"""Points of fine grids that are held at once."""
TINY = np.finfo(float).tiny
Tick = Callable[[float], None]


class Ranks(NamedTuple):
    """What is uniform if the posteriors are right.

    Attributes:
        cdf: posterior probability of less than θ, (n, D).
        credibility: mass of what is denser than θ, (n,).
        tarp: mass of what is nearer to a random point than θ, (n,).
    """

    cdf: Array
    credibility: Array
    tarp: Array


class Inferred(NamedTuple):
    """Posteriors of n rows in short.

    Attributes:
        ranks: of the posteriors, and of the controls if asked for; empty without θ.
        mean: (n, D).
        sd: (n, D).
        draws: draws of each posterior, (n, K, D).
        log_p: log density at the posterior mean, (n,).
        gain: log p(θ|x) − log p(θ), what x tells of θ in nats, (n,); NaN without θ.
        resolved: whether the grid resolves each, (n,).
        evaluations: of log p(x|θ) on the grid of each, (n,).
    """

    ranks: dict[str, Ranks]
    mean: Array
    sd: Array
    draws: Array
    log_p: Array
    gain: Array
    resolved: NDArray[np.bool_]
    evaluations: Array


def inferred(
    judged: Judged,
    theta: Array | None,
    x: Array,
    prior: Box,
    *,
    samples: int,
    seed: int,
    controls: bool = False,
    tick: Tick | None = None,
) -> Inferred:
    """Posteriors of rows x (n, *x_shape) under a prior.

    Args:
        judged: what gives the posteriors.
        theta: what x was drawn at, (n, D); None if that is not known.
        x: observations.
        prior: uniform, over one to three parameters.
        samples: draws K of each posterior.
        seed: seed of all that is random.
        controls: whether to rank θ in posteriors that are wrong on purpose, too.
        tick: told the part that is done.
    """
    rng = np.random.default_rng([seed, 7])
    around = rng.uniform(prior.low, prior.high, (len(x), len(prior)))
    size = ((MOST[len(prior)] - 1) * FINE[len(prior)] + 1) ** len(prior)
    step, parts, flat = max(1, POINTS // size), [], prior.log_prob(prior.low[None])[0]
    for i in range(0, len(x), step):
        if tick:
            tick(i / len(x))
        some = np.arange(i, min(i + step, len(x)))
        log_density = judged.log_density(x[some], some, seed)
        posterior = judged.posterior(log_density, prior, len(some))
        mean, sd = posterior.mean, posterior.sd
        found, gain = {}, np.full(len(some), np.nan)
        if theta is not None:
            t, r, shift = theta[some], around[some], SHIFT * sd
            gain = posterior.log_prob(t[:, None])[:, 0] - prior.log_prob(t)
            found["right"] = ranks(posterior, t, r, prior)
            if controls:
                narrow = tempered(posterior, NARROW**-2)
                found["narrow"] = ranks(narrow, t, r, prior)
                found["shifted"] = ranks(posterior, t - shift, r - shift, prior)
        parts.append(
            Inferred(
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


def _joined(parts: list[Inferred]) -> Inferred:
    def of(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in parts])

    ranked = {
        name: Ranks(*map(np.concatenate, zip(*(p.ranks[name] for p in parts), strict=True)))
        for name in parts[0].ranks
    }
    return Inferred(ranked, *(of(name) for name in Inferred._fields[1:]))


def ranks(posterior: GridPosterior, theta: Array, around: Array, prior: Box) -> Ranks:
    """Ranks of θ (n, D) in its posteriors, and in distance from the points `around` (n, D)."""
    axes, density = posterior.axes, posterior.density
    mass = density
    for d, axis in enumerate(axes):
        mass = _pairs(mass, 1 + d, np.add) / 2 * _along(np.diff(axis), d, len(axes))
    total = mass.sum(tuple(range(1, mass.ndim)))

    def above(values: Array, level: Array) -> Array:
        """Mass of where a function is above a level (n,), parts of cells included."""
        low, high = values, values
        for d in range(1, values.ndim):
            low, high = _pairs(low, d, np.minimum), _pairs(high, d, np.maximum)
        level, span = _along(level, -1, len(axes)), high - low
        part = np.where(low < level, (high - level).clip(0, span) / np.maximum(span, TINY), 1)
        return (mass * part).sum(tuple(range(1, mass.ndim))) / total

    at = np.exp(posterior.on(tuple(theta.T[..., None]))).reshape(len(theta))
    width = prior.high - prior.low
    near = np.zeros(1)
    for d, axis in enumerate(axes):
        near = near - _along(((axis - around[:, [d]]) / width[d]) ** 2, d, len(axes))
    return Ranks(
        posterior.cdf(theta[:, None])[:, 0],
        above(density, np.where(prior.contains(theta), at, 0)),
        above(near, -(((theta - around) / width) ** 2).sum(-1)),
    )


def _along(values: Array, d: int, dims: int) -> Array:
    """Values (n, G) along axis d of `dims`, or (n,) along none, d = −1."""
    return values.reshape(len(values), *(-1 if e == d else 1 for e in range(dims)))


def _pairs(values: Array, axis: int, function: np.ufunc) -> Array:
    """A function of each two neighbours along an axis."""
    moved = np.moveaxis(values, axis, 0)
    return np.moveaxis(function(moved[1:], moved[:-1]), 0, axis)


def tempered(posterior: GridPosterior, power: float) -> GridPosterior:
    """The posterior to a power, not normalised: narrower for a power above 1."""
    peak = posterior.values.max(tuple(range(1, posterior.values.ndim)), keepdims=True)
    values = power * (posterior.values - peak)
    return GridPosterior(
        posterior.nodes, values, posterior.log_evidence, posterior.evaluations, posterior.resolved
    )

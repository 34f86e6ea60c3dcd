r"""A tempered population, and independent weighted draws from what it shows, for any D.

For each observation N points begin as draws of the prior and follow p(x|θ)^β p(θ) from β = 0 to 1
(sequential Monte Carlo: Del Moral, Doucet & Jasra, J. R. Stat. Soc. B 68 (2006) 411). Each next β
is where two fifths of the points are left in effect. To these a mixture of Student's t laws is
fitted (:mod:`physgen.posterior.student`); the points are drawn anew by their weights and moved by
Metropolis and Hastings, most of them to draws of the mixture, which carries them from mode to
mode, the others by a step with the shape of their component. Differences of two points (ter Braak,
Stat. Comput. 16 (2006) 239) were tried: with m modes one in m fits, and sixteen modes were lost.
Small components are lifted on the way, so that chance does not end them. Points live in normal
scores z of the prior (:mod:`physgen.posterior.unbounded`), where nothing has an end.

So the population is where the posterior is, and as right as its moves were many. What is handed
back owes it no more than that: the mixture is fitted again, to the population and to weighted
draws of its own, with the prior as a twentieth of it, and the last draws, which know nothing of
each other, have weights p(x|θ) p(θ)/q(θ) that give the evidence, without bias, and the posterior
(adaptive importance sampling: Cappé, Douc, Guillin, Marin & Robert, Stat. Comput. 18 (2008) 447).
Where the weights are bad, which their Pareto k tells, the population itself is handed back, and
`pareto_k` says so. What no point has ever met, neither tells: a mode that holds far less of the
prior than a thousandth.

The populations of all observations run side by side, each with random numbers of its own, and a
call of log p is for all that are not done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.special import logsumexp, softmax

from physgen.errors import DataError
from physgen.posterior.base import Draws
from physgen.posterior.grid import LogLikelihood
from physgen.posterior.importance import (
    MOST_K,
    effective_sample,
    pareto_k,
    resampled,
    smoothed,
)
from physgen.posterior.mcmc import checked_log_density
from physgen.posterior.student import StudentMixture, fitted_mixture
from physgen.posterior.unbounded import from_scores, scores_density, to_scores
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["smc"]

POINTS, LEFT, MOVED, MOVES = 1500, 0.4, 0.6, 5
"""Points of a population, the part of them that each next β leaves in effect, the part that must
have moved, and the moves of each at most."""
FAR = 0.8
"""Part of the moves that are draws of the mixture."""
TRIES = 20
"""Populations of the prior that are drawn at most, to find one where log p is finite."""
PILOT, PRIOR, TRUST = 2000, 0.05, 200
"""Draws of a mixture that is fitted anew, the prior's part in them, and how many of them weigh as
much as the population."""
ROUNDS, GOOD = 4, 0.5
"""Mixtures at most, and the part of its draws that a good one is worth."""
LEAST, MOST, TRUSTED, POLISH = 4000, 16_000, 2, 4
"""Draws that are handed back at least, that are weighted at most, how often they are drawn until
their weights can be trusted, and further rounds of moves of a population handed back itself."""

Result = TypeVar("Result")
Asking = Generator[Array, Array, Result]
"""Yields points z (G, D), is sent their log p(x|θ) (G,), and returns its result."""


class Sampled(NamedTuple):
    """What is found of one observation.

    Attributes:
        z: draws of equal weight, (K, D).
        log_evidence: log p(x).
        ess: independent draws that they are worth.
        pareto_k: shape of the tail of the weights.
    """

    z: Array
    log_evidence: float
    ess: float
    pareto_k: float


class Known(NamedTuple):
    """Points that a mixture is fitted to.

    Attributes:
        z: (N, D).
        weights: (N,), such that they follow the posterior.
        log_target: log p(x|θ) p(θ) at them, (N,).
    """

    z: Array
    weights: Array
    log_target: Array

    def joined(self, q: StudentMixture, prior: Prior, z: Array, log_w: Array) -> Known:
        """These and weighted draws z (K, D) of a mixture with the prior, log weights (K,)."""
        weights = effective_sample(log_w) / TRUST * POINTS * softmax(smoothed(log_w))
        target = log_w + _log_proposal(q, prior, z)
        some = weights > 0
        new = z[some], weights[some], target[some]
        return Known(*(np.concatenate(both) for both in zip(self, new, strict=True)))


def smc(
    log_likelihood: LogLikelihood,
    prior: Prior,
    n: int,
    k: int = 1000,
    *,
    seed: int = 0,
    first: int = 0,
) -> Draws:
    """Draws from the posterior of n observations, with their evidence.

    Args:
        log_likelihood: θ (n, G, D) → log p(x_i|θ_ig), (n, G), the same value for the same θ.
        prior: of θ.
        n: number of observations.
        k: draws of each, at least 4000 being made.
        seed: seed of the draws.
        first: which of all observations the first is: the draws of each are its own.

    Raises:
        DataError: log p is NaN or +∞, or −∞ wherever the prior was looked at.
    """

    def values(z: Array, which: Array) -> Array:
        theta = from_scores(prior, z)
        some = () if len(which) == n else (which,)
        return checked_log_density(log_likelihood(theta, *some))

    own = [np.random.default_rng([seed, first + i]) for i in range(n)]
    runs = [_posterior(prior, max(k, LEAST), r) for r in own]
    found, evaluations = side_by_side(runs, values, first)
    told = {name: np.array([getattr(one, name) for one in found]) for name in Sampled._fields[1:]}
    told |= {"ess": told["ess"][:, None], "evaluations": evaluations}

    def log_density(theta: Array) -> Array:
        values = checked_log_density(log_likelihood(theta)) + prior.log_prob(theta)
        return values - told["log_evidence"][:, None]

    theta = from_scores(prior, np.stack([one.z for one in found]))
    return Draws(theta[:, None], log_density, told)


def side_by_side(
    runs: Sequence[Asking[Result]], values: Callable[[Array, Array], Array], first: int = 0
) -> tuple[list[Result], Array]:
    """The results of runs that ask for log p, all that ask for as many points in one call.

    Args:
        runs: one an observation.
        values: z (k, G, D), which observations (k,) → log p, (k, G).
        first: which of all observations the first is, for messages.

    Returns:
        the results, and for how many values each has asked, (n,).

    Raises:
        DataError: a run found no θ where log p is finite.
    """
    asked, done = {i: next(run) for i, run in enumerate(runs)}, {}
    count = np.zeros(len(runs), dtype=int)
    while asked:
        for size in sorted({len(z) for z in asked.values()}):
            which = np.array([i for i, z in asked.items() if len(z) == size])
            told = values(np.stack([asked[i] for i in which]), which)
            count[which] += size
            for i, row in zip(which, told, strict=True):
                try:
                    asked[i] = runs[i].send(row)
                except StopIteration as stop:
                    done[i] = stop.value
                    del asked[i]
                except DataError as error:
                    raise DataError(f"observation {first + i}: {error}") from error
    return [done[i] for i in range(len(runs))], count


def _posterior(prior: Prior, k: int, rng: np.random.Generator) -> Asking[Sampled]:
    """One observation from the prior to k draws of equal weight."""
    z, log_l, log_evidence = yield from _population(prior, rng)
    known, part = yield from _known(prior, z, log_l, rng)
    for _ in range(TRUSTED):
        q = fitted_mixture(*known, rng)
        count = int(min(k / max(part, 0.1), MOST))
        drawn, log_w = yield from _weighted(q, prior, count, rng)
        ess, shape = float(effective_sample(log_w)), float(pareto_k(log_w))
        if shape < MOST_K:
            smooth = smoothed(log_w)
            log_evidence = float(logsumexp(smooth)) - math.log(count)
            return Sampled(resampled(drawn, smooth, k, rng), log_evidence, ess, shape)
        known, part = known.joined(q, prior, drawn, log_w), ess / count
    for _ in range(POLISH):
        z, log_l, _ = yield from _moved(prior, q, z, log_l, 1.0, rng)
    return Sampled(z[rng.permutation(k) % len(z)], log_evidence, ess, shape)


def _population(prior: Prior, rng: np.random.Generator) -> Asking[tuple[Array, Array, float]]:
    """Points that follow the posterior, z (N, D), their log p (N,), and the log evidence."""
    z, log_l, log_evidence = yield from _start(prior, rng)
    beta, level = 0.0, np.zeros(len(z))
    while beta < 1:
        step = _step(log_l, level, 1 - beta)
        log_w = step * log_l - level
        beta = 1.0 if step == 1 - beta else beta + step
        q = fitted_mixture(z, softmax(log_w), beta * log_l + scores_density(prior, z), rng)
        log_w = log_w + q.log_levelling(z)
        log_evidence += float(logsumexp(log_w)) - math.log(len(z))
        both = resampled(np.column_stack([z, log_l]), log_w, len(z), rng)
        z, log_l, level = yield from _moved(prior, q, both[:, :-1], both[:, -1], beta, rng)
    log_evidence += float(logsumexp(-level)) - math.log(len(z))
    both = resampled(np.column_stack([z, log_l]), -level, len(z), rng)
    return both[:, :-1], both[:, -1], log_evidence


def _start(prior: Prior, rng: np.random.Generator) -> Asking[tuple[Array, Array, float]]:
    """Points of the prior where log p is finite, their log p, and the log of how many are."""
    z, log_l = np.empty((0, len(prior))), np.empty(0)
    for tries in range(1, TRIES + 1):
        new = to_scores(prior, prior.sample(POINTS, rng))
        values = yield new
        z = np.concatenate([z, new[np.isfinite(values)]])
        log_l = np.concatenate([log_l, values[np.isfinite(values)]])
        tried = tries * POINTS
        if len(z) >= POINTS / 2:
            break
    if not len(z):
        raise DataError(f"log p(x|θ) is −∞ at {tried} draws of the prior")
    rows = np.arange(POINTS) % len(z)
    return z[rows], log_l[rows], math.log(len(z) / tried)


def _step(log_l: Array, level: Array, most: float) -> float:
    """By how much β may grow, `most` at most, until so many of the points (N,) are left."""
    from scipy.optimize import brentq  # slow to import, and grids need none of it

    def left(log_step: float) -> float:
        log_w = math.exp(log_step) * log_l - level
        return float(effective_sample(log_w) - LEFT * effective_sample(-level))

    if left(math.log(most)) >= 0:
        return most
    least = math.log(1e-3 / np.ptp(log_l))
    return math.exp(brentq(left, least, math.log(most), rtol=1e-6))


def _moved(
    prior: Prior,
    q: StudentMixture,
    z: Array,
    log_l: Array,
    beta: float,
    rng: np.random.Generator,
) -> Asking[tuple[Array, Array, Array]]:
    """Points z (N, D) of p(x|θ)^β p(θ) and their log p (N,) after moves of nearly all of them."""
    moved = np.zeros(len(z), dtype=bool)
    level = q.log_levelling(z)
    for _ in range(MOVES):
        new, log_ratio = _proposed(q, z, rng)
        values = yield new
        new_level = q.log_levelling(new)
        gain = beta * (values - log_l) + scores_density(prior, new) - scores_density(prior, z)
        better = np.log(rng.random(len(z))) < gain + log_ratio + new_level - level
        z, log_l = np.where(better[:, None], new, z), np.where(better, values, log_l)
        level = np.where(better, new_level, level)
        moved |= better
        if moved.mean() > MOVED:
            break
    return z, log_l, level


def _proposed(q: StudentMixture, z: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A new place for each of z (N, D), and the log odds of the way back over the way there, (N,).

    FAR of them are draws of the mixture, the others steps with the shape of a component that
    is drawn for each z by how likely it is to be of it.
    """
    n, dims = z.shape
    own = q.log_components(q.distances(z))
    which = (own + rng.gumbel(size=own.shape)).argmax(0)
    steps = (q.roots[which] @ rng.standard_normal((n, dims, 1)))[..., 0]
    near = z + 2.38 / math.sqrt(dims) * rng.uniform(0.3, 1.0, (n, 1)) * steps
    far = rng.random((n,)) < FAR
    new = np.where(far[:, None], q.sample(n, rng), near)
    theirs = q.log_components(q.distances(new))
    here, there = logsumexp(own, axis=0), logsumexp(theirs, axis=0)
    rows = np.arange(n)
    stays = (theirs[which, rows] - there) - (own[which, rows] - here)
    return new, np.where(far, here - there, stays)


def _known(
    prior: Prior, z: Array, log_l: Array, rng: np.random.Generator
) -> Asking[tuple[Known, float]]:
    """What to fit a mixture to, and what part of the draws of the last one was in effect."""
    known, part = Known(z, np.ones(len(z)), log_l + scores_density(prior, z)), 0.0
    for _ in range(ROUNDS):
        q = fitted_mixture(*known, rng)
        drawn, log_w = yield from _weighted(q, prior, PILOT, rng)
        known = known.joined(q, prior, drawn, log_w)
        part = float(effective_sample(log_w)) / PILOT
        if part > GOOD:
            break
    return known, part


def _log_proposal(q: StudentMixture, prior: Prior, z: Array) -> Array:
    """Log density of a mixture with the prior, at z (N, D), (N,)."""
    return np.logaddexp(
        math.log1p(-PRIOR) + q.log_density(z), math.log(PRIOR) + scores_density(prior, z)
    )


def _weighted(
    q: StudentMixture, prior: Prior, n: int, rng: np.random.Generator
) -> Asking[tuple[Array, Array]]:
    """n draws of a mixture with the prior, z (n, D), and their log weights, (n,)."""
    z = q.sample(n, rng)
    some = round(PRIOR * n)
    z[:some] = to_scores(prior, prior.sample(some, rng))
    values = yield z
    return z, values + scores_density(prior, z) - _log_proposal(q, prior, z)

r"""Approximate Bayesian computation: the θ whose simulations come nearest to what was observed.

What is compared are summaries of x, each in units of its own spread: the observables that the
simulator declares, else the features that a network would see. The nearest part of all simulations
is kept, and what is left of a difference is regressed away (Beaumont, Zhang & Balding, Genetics
162 (2002) 2025), in normal scores of the prior (:mod:`physgen.posterior.unbounded`), so that no
draw leaves it. It asks for no likelihood and no training; it knows of x no more than its summaries
do, and is too wide by what is kept.
"""

from __future__ import annotations

import numpy as np

import simulators.base as declared
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.embedding import Features, scaled_for
from physgen.nn.tensors import tensor_of
from physgen.posterior.base import Draws
from physgen.posterior.unbounded import from_scores, to_scores
from simulators.base import Array

__all__ = ["nearest_simulations", "unknown"]

KEEP, LEAST = 0.01, 100
"""Part of the simulations that is kept, and how many at least."""


def nearest_simulations(law: Law, theta: Array, x: Array, observed: Array) -> Draws:
    """Draws from the posterior of each observation, each of the same simulations.

    Args:
        law: what x follows; its prior is that of θ.
        theta: (N, D) parameters of the simulations.
        x: (N, *x_shape) simulations.
        observed: (n, *x_shape).

    Raises:
        UsageError: too few simulations.
    """
    if law.missing:
        raise UsageError(
            "abc: compares whole x, and components may be missing; take npe, or a fitted cvae"
        )
    if len(theta) < 5 * LEAST:
        raise UsageError(f"abc: expected at least {5 * LEAST} simulations, got {len(theta)}")
    count = max(LEAST, int(KEEP * len(theta)))
    summary, seen = summaries(law, x, x), summaries(law, x, observed)
    scale = summary.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    z = to_scores(law.prior, theta)
    kept, distances = [], []
    for one in seen:
        off = (summary - one) / scale
        distance = np.linalg.norm(off, axis=1)
        rows = np.argpartition(distance, count)[:count]
        most = max(distance[rows].max(), np.finfo(float).tiny)
        weight = np.sqrt(1 - (distance[rows] / most) ** 2)[:, None]
        design = np.column_stack([np.ones(count), off[rows]])
        slope = np.linalg.lstsq(weight * design, weight * z[rows], rcond=None)[0]
        kept.append(from_scores(law.prior, z[rows] - off[rows] @ slope[1:]))
        distances.append(most)
    return Draws(np.stack(kept)[:, None], unknown, {"distance": np.array(distances)[:, None]})


def unknown(theta: Array) -> Array:
    """No density of θ (n, k, D) is known: NaN, (n, k)."""
    return np.full(theta.shape[:2], np.nan)


def summaries(law: Law, x: Array, rows: Array) -> Array:
    """Summaries of rows, (n, S); `x` gives the features their scales."""
    simulator = law.build_if_known()
    every = declared.observables(simulator) if simulator else {}
    columns = [f(rows) for f in every.values()]
    columns = [c for c in columns if c.ndim == 1]
    if columns:
        return np.column_stack(columns)
    known, seen = tensor_of(x), tensor_of(rows)
    scaled = scaled_for(law, known)
    return Features(law, scaled(known))(scaled(seen)).double().numpy()

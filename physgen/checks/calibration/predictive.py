r"""Does the surrogate make x like those that are seen? Predictive checks, and misspecification.

A right posterior of a wrong law is worth nothing, and on an observation unlike all that was
learnt from, a network may say anything (Schmitt et al. 2023, arXiv:2112.08866). Two questions:

*Predictive checks.* Draw θ from the posterior of x and x′ from q(·|θ); where does an observable of
x stand among those of x′? Since x was used to find θ, such ranks crowd around ½ even where all is
right (Robins, van der Vaart & Ventura, JASA 95 (2000) 1143), so that they must not be held against
the uniform law. They are held against the ranks of the surrogate's *own* x, which went the same
way (Hjort, Dahl & Steinbakk, JASA 101 (2006) 1157).

*Misspecification.* log q(x|θ̂) at the posterior mean says how likely x is under the best θ. What it
should be depends on θ̂, so it is held against x drawn from the surrogate with the nearest θ̂: the
residual of a local linear fit over its standard error. A network that knows no log q has the
observables of x in its place. A row's p-value is the part of other drawn x with a stranger one.
Two tests again: are all p-values uniform, and are more rows below the lowest of the drawn x than
chance would put there (a beta-binomial law, since all share the same drawn x)? What the fits are
made of and what is ranked against are two halves of the drawn x, so that data and reference are
treated alike.

The control of both are x whose components were dealt out anew among the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import betabinom

from physgen.checks.calibration.target import Draw
from physgen.checks.calibration.uniformity import ALPHA, alike, counted
from physgen.checks.samples import labels
from simulators.base import Array, Observable

__all__ = ["misspecification", "predictive", "replicated", "residuals", "strangeness"]

NEIGHBOURS, LEAST = 20, 30
"""The neighbours of a row are one in so many of the surrogate's own x, and so many at least."""
NOISE, TINY = 1e-6, np.finfo(float).tiny
"""Least spread, in parts of the null's: below are rounding errors, and these are ties."""
Ranked = Mapping[str, Array]
Located = tuple[Array, Sequence[Array]]
"""θ̂ (n, D), and values (n,) of each row."""


def replicated(
    draw: Draw,
    observables: Mapping[str, Observable],
    x: Array,
    theta: Array,
    seed: int,
    tick: Callable[[float], None] | None = None,
) -> dict[str, Array]:
    """Rank of each observable of x (n, *x_shape) among x′ drawn at θ (n, K, D), in (0, 1).

    It is made continuous at random, so that it is exactly uniform for x like x′, ties or not.
    """
    n, k, dims = theta.shape
    rng, step = np.random.default_rng([seed, 8]), max(1, 2**24 // (k * x[0].size))
    parts: dict[str, list[Array]] = {name: [] for name in observables}
    for i in range(0, n, step):
        if tick:
            tick(i / n)
        some = theta[i : i + step].reshape(-1, dims)
        drawn = draw(some, rng).astype(x.dtype)
        for name, observable in observables.items():
            seen = np.asarray(observable(x[i : i + step]), dtype=float)[:, None]
            among = np.asarray(observable(drawn), dtype=float).reshape(len(seen), k)
            ties = (among == seen).sum(1)
            parts[name].append((among < seen).sum(1) + rng.random(len(seen)) * (ties + 1))
    return {name: np.concatenate(values) / (k + 1) for name, values in parts.items()}


def predictive(
    observables: Mapping[str, Observable],
    data: Ranked,
    own: Ranked,
    controls: Mapping[str, Ranked],
) -> dict[str, Any]:
    """Ranks of each observable in the data, beside those of the surrogate's own x.

    Args:
        observables: names and labels.
        data: ranks of the data's x.
        own: of the surrogate's.
        controls: of what must be caught.
    """
    section = {}
    for name, observable in observables.items():
        test = alike(data[name], own[name])
        against = {k: _control(ranks[name], own[name]) for k, ranks in controls.items()}
        section[name] = labels(observable) | {
            "p_value": test.p_value,
            "mean": test.mean,
            "null_mean": test.null_mean,
            "counts": {"data": counted(data[name]), "own": counted(own[name])},
            "controls": against,
        }
    return section


def strangeness(null: Located, rows: Located, signed: bool) -> Array:
    """How unlike the x of a null with the same θ̂ each x is, (n,); the lower the stranger.

    Of each value the residual r, in standard errors, from the null's nearby: r of a single value
    that can only be too low, else −½ Σ r².

    Args:
        null: θ̂ (m, D), in parts of the prior's box, and values (m,).
        rows: θ̂ (n, D) and the same values (n,).
        signed: whether r itself is wanted.
    """
    pairs = zip(null[1], rows[1], strict=True)
    r = np.stack([residuals((null[0], a), (rows[0], b)) for a, b in pairs])
    return r[0] if signed else -(r**2).sum(0) / 2


def misspecification(data: Array, reference: Array, shuffled: Array) -> dict[str, Any]:
    """Is each x inside what is drawn? By how strange it is; all are exchangeable if it is.

    Args:
        data: of the data, (n,).
        reference: of x that were drawn, (m,).
        shuffled: of the control.
    """
    reference, m = np.sort(reference), len(reference)
    uniform, lowest = np.arange(1, m + 1) / (m + 1), max(1, int(ALPHA * (m + 1)))

    def p_values(found: Array) -> tuple[Array, Array]:
        """Of each row; and a random one among its ties, which is uniform even where x is few."""
        below, up_to = (np.searchsorted(reference, found, side=s) for s in ("left", "right"))
        among = below + np.random.default_rng(0).random(len(found)) * (up_to - below + 1)
        return (1 + up_to) / (m + 1), among / (m + 1)

    def judged(p: Array, untied: Array) -> dict[str, Any]:
        test, outside = alike(untied, uniform), int((p <= lowest / (m + 1)).sum())
        tail = float(betabinom.sf(outside - 1, len(p), lowest, m + 1 - lowest))
        return {
            "rows": len(p),
            "p_value": min(1.0, 2 * min(test.p_value, tail)),
            "outside": outside,
            "expected": len(p) * lowest / (m + 1),
        }

    right, wrong = p_values(data), p_values(shuffled)
    control = judged(*wrong)
    return judged(*right) | {
        "null_rows": m,
        "p_values": right[0],
        "level": lowest / (m + 1),
        "counts": {"data": counted(right[1]), "shuffled": counted(wrong[1])},
        "controls": {"shuffled": control | {"caught": bool(control["p_value"] < ALPHA)}},
    }


def _control(ranks: Array, null: Array) -> dict[str, Any]:
    found = alike(ranks, null)
    return {"p_value": found.p_value, "caught": bool(found.p_value < ALPHA)}


def residuals(null: tuple[Array, Array], rows: tuple[Array, Array]) -> Array:
    """How far values (n,) at points (n, D) lie from those of a null nearby, in standard errors.

    Points are told apart at random where they are equal: else all that are equal would be held
    against the same few of the null. What is below a thousandth is taken for a rounding error.

    Args:
        null: points (m, D), in parts of a box, and values (m,).
        rows: other points and values, to judge.
    """
    rng, values = np.random.default_rng(0), null[1]
    points, at = (p + NOISE * rng.standard_normal(p.shape) for p in (null[0], rows[0]))
    k = min(max(len(points) // NEIGHBOURS, LEAST), len(points))
    near = np.asarray(cKDTree(points).query(at, np.arange(1, k + 1))[1])
    apart = points[near] - at[:, None]
    design = np.concatenate([np.ones((*near.shape, 1)), apart], -1)
    inverse = np.linalg.pinv(design)
    fitted = np.einsum("nik,nk->ni", inverse, values[near])
    left = values[near] - np.einsum("nki,ni->nk", design, fitted)
    variance = (left**2).sum(-1) / max(1, k - design.shape[-1])
    spread = np.sqrt(variance * (1 + (inverse[:, 0] ** 2).sum(-1)))
    floor = NOISE * values.std() + TINY
    return np.round((rows[1] - fitted[:, 0]) / np.maximum(spread, floor), 3)

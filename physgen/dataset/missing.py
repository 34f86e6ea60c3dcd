r"""Missing components of x: NaN, where the law allows it.

*Missing at random*: which components are missing says nothing of θ, nor of what is missing, beyond
what the others say (Rubin 1976, Biometrika 63, 581). Then the law of a row is that of what was
observed, p(x_obs|θ) = ∫ p(x|θ) dx_missing, and no word about the mask is needed. Where the mask
depends on θ it is data itself, which this log p leaves out: `depends_on_theta` tells of that.

A drawn x is complete. To hold it against x with missing components it is given the same mask
(`masked_like`), and what sees whole x only sees the components' means in place of what is missing
(`imputed`): the same function of what is observed, on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from physgen.dataset.assumptions import named
from physgen.law import Law
from simulators.base import Array

__all__ = [
    "column_means",
    "depends_on_theta",
    "imputed",
    "masked_like",
    "missing_in_words",
    "missing_warnings",
    "seeing_imputed",
]

ROWS, COMPONENTS = 10_000, 1000
"""Rows and components whose missing pattern is held against θ, at most."""
FEW, SIGNIFICANT = 20, 1e-3
"""Rows with and without a component that a test needs; p-value, times all tests, that is told."""


def masked_like(x: Array, like: Array) -> Array:
    """x (n, …) with NaN where other rows of the same shape have it, (n, …)."""
    gone = np.isnan(like) if like.dtype.kind == "f" else np.zeros(1, dtype=bool)
    return np.where(gone, np.nan, x).astype(x.dtype) if gone.any() else x


def column_means(x: Array) -> Array:
    """Mean of what is observed of each component of x (n, *x_shape), (*x_shape); 0 of none."""
    seen = ~np.isnan(x)
    total = np.where(seen, x, 0.0).sum(0, dtype=float)
    return np.asarray(total / seen.sum(0).clip(min=1))


def imputed(x: Array, means: Array) -> Array:
    """x (n, *x_shape) with these numbers (*x_shape) in place of what is missing."""
    if x.dtype.kind != "f" or not np.isnan(x).any():
        return x
    return np.where(np.isnan(x), means, x).astype(x.dtype)


def seeing_imputed(function: Callable[[Array], Array], means: Array) -> Callable[[Array], Array]:
    """A function of x (n, *x_shape) that sees `imputed` x."""
    return lambda x: function(imputed(x, means))


def missing_in_words(x: Array) -> str:
    """How much of x (n, *x_shape) is missing; empty where nothing is."""
    gone = np.isnan(x.reshape(len(x), -1)) if x.dtype.kind == "f" else np.zeros((1, 1), bool)
    if not gone.any():
        return ""
    bare = int(gone.all(1).sum())
    return (
        f"{gone.mean():.1%} of the components missing, {(~gone.any(1)).mean():.1%} of the rows "
        "complete" + (f", {bare} without any" if bare else "")
    )


def depends_on_theta(theta: Array, x: Array) -> Iterator[tuple[int, int, float]]:
    """Components that are missing at other θ than elsewhere: Kolmogorov and Smirnov's test.

    Args:
        theta: (n, D).
        x: (n, *x_shape).

    Yields:
        parameter, component of flat x (−1 for the number of all that are missing, if above its
        median), and p-value times the number of tests, the lowest first.
    """
    gone = np.isnan(x[:ROWS].reshape(len(x[:ROWS]), -1))
    places = np.flatnonzero(gone.any(0) & ~gone.all(0))[:COMPONENTS]
    count = gone.sum(1)
    masks = np.column_stack([count > np.median(count), gone[:, places]])
    names = [-1, *places.tolist()]
    found = []
    for d in range(theta.shape[1]):
        p = two_sample_p(theta[:ROWS, d], masks) * masks.shape[1] * theta.shape[1]
        found += [(d, names[i], float(p[i])) for i in np.flatnonzero(p < SIGNIFICANT)]
    yield from sorted(found, key=lambda one: one[2])


def missing_warnings(law: Law, theta: Array, x: Array) -> Iterator[str]:
    """What speaks against a log p of x that leaves out what the mask says, a line.

    Args:
        law: what the rows follow.
        theta: (n, D).
        x: (n, *x_shape).
    """
    found = list(depends_on_theta(theta, x)) if law.missing else []
    if found:
        d, i, p = found[0]
        what = named(i, law.x_shape) if i >= 0 else "the number of missing components"
        more = f", and {len(found) - 1} more pairs" if len(found) > 1 else ""
        yield (
            f"which components are missing depends on theta ({what} on {law.prior.names[d]}, "
            f"p = {max(p, 1e-300):.1g}{more}): log p leaves out what the mask says, and "
            "posteriors are wrong by it, unless the other components alone decide what is missing;"
            " take physgen infer DATASET --method npe, which sees the mask"
        )


def two_sample_p(values: Array, masks: Array) -> Array:
    """P-values (k,) that values (n,) within and without each mask (n, k) are of one law.

    1 where either has fewer than 20.
    """
    order = np.argsort(values, kind="stable")
    inside = masks[order]
    n, m = inside.sum(0), (~inside).sum(0)
    from scipy.special import kolmogorov  # dear to import, and few files have NaN

    last = np.append(np.diff(values[order]) > 0, True)  # equal values make one step
    ours, theirs = (np.cumsum(part, 0)[last] for part in (inside, ~inside))
    apart = np.abs(ours / n.clip(min=1) - theirs / m.clip(min=1)).max(0)
    p = kolmogorov(np.sqrt(n * m / (n + m)) * apart)
    return np.where((n >= FEW) & (m >= FEW), p, 1.0)

r"""Cubic interpolation of a log density on product grids, without invented mass.

Between nodes x_k < x_{k+1}, h apart, with t = (x − x_k)/h and the second divided differences s_k
around either node, the cubic through the four nearest nodes is

    f = (1 − t) f_k + t f_{k+1} − h² t(1 − t) [(1 − w) s_k + w s_{k+1}],

w the position of x between x_{k−1} and x_{k+2} (Newton's form; exact for a Gaussian's log density,
whatever the spacing). At a cliff it would overshoot, and exp f would invent mass. So of the two
curvatures that a cell sees, the larger is cut to 3 times the smaller, both to zero if their signs
differ (but for a rise of 0.05 nats, so that smooth inflections keep their curvature), and f stays
within ¼ nat of the cell's higher end. Cf. the limiters of Fritsch & Carlson, SIAM J. Numer. Anal.
17 (1980) 238, which would flatten the maxima that matter here.

All arrays are batches: nodes (n, m) with values (n, …, m) along the last axis. Rows of fewer nodes
than others repeat the last one, with its value: cells of no width, which change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from simulators.base import Array

__all__ = [
    "along_last",
    "cell_counts",
    "curvatures",
    "integral",
    "interpolate",
    "on_axes",
    "upper_bound",
]


def along_last(x: Array, like: Array) -> Array:
    """(n, m) → (n, 1, …, m), to go with the last axis of (n, …, m)."""
    return x.reshape(len(x), *[1] * (like.ndim - 2), -1)


def cell_counts(x: Array) -> Array:
    """How many cells have a width, (n,)."""
    return (np.diff(x) > 0).sum(-1)


def curvatures(x: Array, f: Array) -> tuple[Array, Array]:
    """Second divided differences around the lower and the upper end of each cell.

    Nodes x (n, m) and f (n, …, m) → (n, …, m − 1) each.
    """
    h = _widths(x, f)
    s = np.diff(np.diff(f) / h) / (h[..., 1:] + h[..., :-1])
    known = np.minimum(np.arange(s.shape[-1]), cell_counts(x)[:, None] - 2)
    s = np.take_along_axis(s, along_last(known, f), -1)
    return np.concatenate([s[..., :1], s], -1), np.concatenate([s, s[..., -1:]], -1)


def upper_bound(x: Array, f: Array, new: Array) -> Array:
    """How high f (n, …, m) at nodes x (n, m) may go at new points (n, q): (n, …, q).

    It is the parabola of the smaller s of each cell: exact for parabolas, however far apart the
    nodes are. Where the two s of a cell differ in sign, f may be all of the higher end: a cliff.
    """
    k, t = _places(x, f, new)
    left, right = curvatures(x, f)
    bend = _widths(x, f) ** 2 * np.minimum(left, right)
    ends = f[..., :-1], f[..., 1:]
    cliff = np.where(left * right < 0, np.maximum(*ends), -np.inf)
    a, b, bend, cliff = (np.take_along_axis(v, k, -1) for v in (*ends, bend, cliff))
    return np.maximum((1 - t) * a + t * b - t * (1 - t) * bend, cliff)


def interpolate(x: Array, f: Array, new: Array) -> Array:
    """f (n or 1, …, m) at nodes x (n or 1, m) → at new points (n, q), (n, …, q)."""
    left, right = curvatures(x, f)
    h = _widths(x, f)
    smaller = np.where(left * right > 0, np.minimum(abs(left), abs(right)), 0)
    limit = 3 * smaller + 0.2 / h**2
    k, t = _places(x, f, new)

    def at(values: Array) -> Array:
        return np.take_along_axis(values, k, -1)

    before = np.concatenate([2 * x[:, :1] - x[:, 1:2], x[:, :-2]], -1)
    after = np.concatenate([x[:, 2:], x[:, -1:]], -1)
    after = np.where(after > x[:, 1:], after, 2 * x[:, 1:] - x[:, :-1])
    before, after = at(along_last(before, f)), at(along_last(after, f))
    a, b, h = at(f[..., :-1]), at(f[..., 1:]), at(h)
    w = (along_last(new, f) - before) / (after - before)
    bend = (1 - w) * at(left.clip(-limit, limit)) + w * at(right.clip(-limit, limit))
    return np.minimum((1 - t) * a + t * b - h**2 * t * (1 - t) * bend, np.maximum(a, b) + 0.25)


def _places(x: Array, f: Array, new: Array) -> tuple[NDArray[np.intp], Array]:
    """Cells of new points (n, q) and where they lie in them, to go with the last axis of f."""
    rows = np.broadcast_to(x, (len(new), x.shape[1]))
    k = np.stack([np.searchsorted(a, b, side="right") for a, b in zip(rows, new, strict=True)]) - 1
    k = k.clip(0, cell_counts(x)[:, None] - 1)
    low, high = (np.take_along_axis(rows, i, -1) for i in (k, k + 1))
    return along_last(k, f), along_last((new - low) / (high - low), f)


def _widths(x: Array, f: Array) -> Array:
    """Widths of the cells, to go with the last axis of f; 1 where there is none."""
    h = np.diff(along_last(x, f))
    return np.where(h > 0, h, 1)


def on_axes(
    nodes: Sequence[Array],
    f: Array,
    axes: Sequence[Array],
    way: Callable[[Array, Array, Array], Array] = interpolate,
) -> Array:
    """f (n, m, …, m) on the product of nodes → on the product of other axes, (n, q, …, q)."""
    for d, (x, new) in enumerate(zip(nodes, axes, strict=True)):
        f = np.moveaxis(way(x, np.moveaxis(f, 1 + d, -1), new), -1, 1 + d)
    return f


def integral(axes: list[Array], density: Array) -> Array:
    """Integral of (n, …, q, …, q) over its last axes, by the trapezoidal rule."""
    for a in reversed(axes):
        density = np.trapezoid(density, along_last(a, density), axis=-1)
    return density

"""Draws from the Ising law p(s) ∝ exp(Kx Σ s s' + Ky Σ s s'' + H Σ s): exact, cluster and local.

The couplings of one lattice are (Kx, Ky, H) = (βJx, βJy, βh): along a row, along a column, and to
the field. Edwards and Sokal (1988): open each bond between equal spins with probability
p = 1 − e^{−2K}, forget the spins, and what remains is the random-cluster (FK) law. Given the open
bonds the clusters are independent, so spins and bonds can be exchanged at will. A field is a
*ghost* spin, fixed at +1 and bound to every site with K = H (H < 0: flip every spin).

**Perfect** (Propp and Wilson 1996). Heat bath on one bond e with u uniform: open if
u < p/(2 − p), closed if u ≥ p, in between open iff its ends are connected without it. For the
same u this keeps the order of two states, so a chain from all bonds open and one from all closed,
driven by the same u from time −W on, enclose every other chain. Where they meet before time 0
the result no longer depends on the start: it is a draw from the law itself, with no burn-in.
Otherwise W doubles, and the u of the times seen before are used again.

**Swendsen–Wang** (1987). Bonds given spins, then a sign for each cluster C, + with probability
1/(1 + e^{−2H|C|}). Clusters are labelled as by Hoshen and Kopelman (1976): a label is born only
where neither the left nor the upper bond is open. The start is cold: it has the right sign in
the field, and the first sweep makes the sign right without one.

**Heat bath** (Glauber 1963). s_i = + with probability 1/(1 + e^{−2(Kx Σ s' + Ky Σ s'' + H)}),
one colour of the checkerboard after the other. Sites are updated in place one by one, so that it
is right on odd tori too, where two neighbours across the seam have the same colour.

**Checkerboard.** The same law of a spin, for 32 lattices at once: :mod:`.multispin`, whose random
numbers are of another kind.

Every random number is a hash of (key, index of the lattice, counter), :mod:`simulators.random`. A
lattice is a function of the key, its index and its couplings, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numba import njit

from simulators.base import Array
from simulators.ising.multispin import LANES, multispin
from simulators.random import bits, keys

__all__ = ["SAMPLERS", "draw", "heat_bath", "perfect", "swendsen_wang"]

U64 = np.uint64
HALF = U64(0xFFFFFFFF)
SIGNS = U64(1 << 62)  # where the counters of the clusters' signs begin
GHOSTS = U64(1 << 61)  # where the counters of the ghost bonds begin
RIGHT, LEFT, DOWN, UP, GHOST = 1, 2, 4, 8, 16  # the open bonds of a site, one bit each
FIRST_WINDOW = 4  # sweeps

Kernel = Callable[[Array, Array, Array, int, int], None]


@njit(nogil=True, cache=True)
def _threshold(p: float) -> U64:
    """The t for which 32 random bits are below t with probability p."""
    return U64(np.rint(p * 4294967296.0))


@njit(nogil=True, cache=True)
def _neighbours(rows: int, columns: int) -> Array:
    """Right, left, lower and upper neighbour of each site, (N, 4)."""
    near = np.empty((rows * columns, 4), np.int32)
    for y in range(rows):
        for x in range(columns):
            i = y * columns + x
            near[i, 0] = y * columns + (x + 1) % columns
            near[i, 1] = y * columns + (x - 1) % columns
            near[i, 2] = (y + 1) % rows * columns + x
            near[i, 3] = (y - 1) % rows * columns + x
    return near


# --- perfect sampling -----------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _linked(bonds: Array, a: int, b: int, near: Array, seen: Array, queue: Array, s: int) -> bool:
    """Whether open bonds connect site a to site b, or to the ghost if b < 0.

    Two breadth-first searches take turns, one from each end; s and s + 1 are their unused marks.
    """
    n = len(bonds)
    ha, ta, sa, ga = 0, 1, s, (bonds[a] & GHOST) != 0
    hb, tb, sb, gb = n, n, s + 1, True
    queue[0], seen[a] = a, sa
    if b >= 0:
        queue[n], seen[b], tb, gb = b, sb, n + 1, (bonds[b] & GHOST) != 0
    while not (ga and gb):
        if (ha == ta and not ga) or (hb == tb and not gb):
            return False
        if ha < ta:
            i = queue[ha]
            ha += 1
            for d in range(4):
                if bonds[i] >> d & 1:
                    j = near[i, d]
                    if seen[j] == sb:
                        return True
                    if seen[j] != sa:
                        queue[ta], seen[j] = j, sa
                        ta += 1
                        ga |= (bonds[j] & GHOST) != 0
        ha, ta, sa, ga, hb, tb, sb, gb = hb, tb, sb, gb, ha, ta, sa, ga
    return True


@njit(nogil=True, cache=True)
def _scan(
    low: Array, top: Array, a: U64, b: U64, time: int, limits: Array, apart: int,
    near: Array, seen: Array, queue: Array, mark: Array,
) -> int:  # fmt: skip
    """One sweep of heat bath over all bonds, in the lower and the upper state.

    Bond f of site i is bond g of site j. Returns the number of bonds in which the states differ;
    once it is 0 it stays 0, and only the lower state is kept.
    """
    n, kinds = len(low), 3 if limits[5] else 2
    for i in range(n):
        u = bits(a, b, U64(time * n + i))
        for d in range(kinds):
            f, g = 1 << 2 * d, 2 << 2 * d
            v, j = (u & HALF) if d == 0 else u >> U64(32), near[i, 2 * d & 3]
            if d == 2:
                v, j, g = bits(a, b, GHOSTS + U64(time * n + i)) >> U64(32), -1, 0
            k = max(i, j) if j < 0 else j
            if apart:
                apart -= (low[i] ^ top[i]) >> 2 * d & 1
                top[i] &= ~f
                top[k] &= ~g
            low[i] &= ~f
            low[k] &= ~g
            if v >= limits[2 * d + 1]:
                continue
            is_open = v < limits[2 * d]
            if not is_open:
                mark[0] += 4
                is_open = _linked(low, i, j, near, seen, queue, mark[0])
            if is_open:
                low[i] |= f
                low[k] |= g
            if apart and (is_open or _linked(top, i, j, near, seen, queue, mark[0] + 2)):
                top[i] |= f
                top[k] |= g
                apart += not is_open
    return apart


@njit(nogil=True, cache=True)
def _couple(
    low: Array, top: Array, a: U64, b: U64, limits: Array,
    near: Array, seen: Array, queue: Array, mark: Array,
) -> int:  # fmt: skip
    """Couple from the past: `low` becomes a draw from the FK law; returns the window."""
    n, ghost = len(low), limits[5] > 0
    window = FIRST_WINDOW
    seen[:], mark[0] = 0, 0
    while True:
        low[:], top[:] = 0, 31 if ghost else 15
        apart = 3 * n if ghost else 2 * n
        for time in range(window, 0, -1):
            apart = _scan(low, top, a, b, time, limits, apart, near, seen, queue, mark)
        if apart == 0:
            return window
        window *= 2


@njit(nogil=True, cache=True)
def _flood(bonds: Array, root: int, sign: int, out: Array, near: Array, queue: Array) -> None:
    """Give the cluster of `root` its sign."""
    queue[0], out[root] = root, sign
    head, tail = 0, 1
    while head < tail:
        i = queue[head]
        head += 1
        for d in range(4):
            j = near[i, d]
            if bonds[i] >> d & 1 and out[j] == 0:
                queue[tail], out[j] = j, sign
                tail += 1


@njit(nogil=True, cache=True)
def _colour(bonds: Array, a: U64, b: U64, ghost: int, out: Array, near: Array, q: Array) -> None:
    """Spins from bonds: the ghost's sign for what it holds, a fair one for other clusters."""
    out[:] = 0
    for i in range(len(bonds)):
        if bonds[i] & GHOST and out[i] == 0:
            _flood(bonds, i, ghost, out, near, q)
    for i in range(len(bonds)):
        if out[i] == 0:
            sign = 1 if bits(a, b, SIGNS + U64(i)) >> U64(63) else -1
            _flood(bonds, i, sign, out, near, q)


@njit(nogil=True, cache=True)
def perfect(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns) with perfect draws; `sweeps` is not used."""
    near = _neighbours(out.shape[1], out.shape[2])
    n = len(near)
    low, top = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    seen, queue, mark = np.zeros(n, np.int64), np.empty(2 * n, np.int32), np.zeros(1, np.int64)
    limits = np.empty(6, U64)
    for k in range(len(out)):
        a, b = keys(key, first + k)
        for d in range(3):
            p = -np.expm1(-2 * abs(couplings[k, d]))
            limits[2 * d : 2 * d + 2] = _threshold(p / (2 - p)), _threshold(p)
        _couple(low, top, a, b, limits, near, seen, queue, mark)
        ghost = -1 if couplings[k, 2] < 0 else 1
        _colour(low, a, b, ghost, out[k].ravel(), near, queue)


# --- Swendsen–Wang --------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _find(parent: Array, i: int) -> int:
    """The root of i, halving the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(nogil=True, cache=True)
def _union(parent: Array, i: int, j: int) -> int:
    """Join the trees of i and j under the smaller root, and return it."""
    i, j = _find(parent, i), _find(parent, j)
    root = min(i, j)
    parent[max(i, j)] = root
    return root


@njit(nogil=True, cache=True)
def _label(s: Array, a: U64, b: U64, c: int, px: U64, py: U64, label: Array, parent: Array) -> int:
    """Open the bonds of the spins s (rows, columns) and label the clusters; returns the labels."""
    rows, columns = s.shape
    count = 0
    for y in range(rows):
        for x in range(columns):
            u = bits(a, b, U64(c + y * columns + x))
            left = x > 0 and s[y, x - 1] == s[y, x] and (u & HALF) < px
            up = y > 0 and s[y - 1, x] == s[y, x] and (u >> U64(32)) < py
            if left:
                k = label[y, x - 1]
                if up and label[y - 1, x] != k:
                    k = _union(parent, k, label[y - 1, x])
            elif up:
                k = label[y - 1, x]
            else:
                k = count
                parent[k] = k
                count += 1
            label[y, x] = k
    for y in range(rows):  # the bonds across the seam
        u = bits(a, b, U64(c + y * columns)) & HALF
        if s[y, 0] == s[y, columns - 1] and u < px:
            _union(parent, label[y, 0], label[y, columns - 1])
    for x in range(columns):
        u = bits(a, b, U64(c + x)) >> U64(32)
        if s[0, x] == s[rows - 1, x] and u < py:
            _union(parent, label[0, x], label[rows - 1, x])
    return count


@njit(nogil=True, cache=True)
def _magnetic(
    h: float, count: int, label: Array, parent: Array, limit: Array, size: Array
) -> None:
    """Threshold of the + sign of each root in the field: 1/(1 + exp(−2H|C|))."""
    size[:count] = 0
    for k in label.ravel():
        size[k] += 1
    for k in range(count - 1, -1, -1):
        if parent[k] != k:
            size[parent[k]] += size[k]
        limit[k] = _threshold(1 / (1 + np.exp(-2 * h * size[k])))


@njit(nogil=True, cache=True)
def _signs(a: U64, b: U64, c: int, count: int, parent: Array, limit: Array, sign: Array) -> None:
    """Draw the sign of each root; a label has its parent's, which is smaller."""
    for k in range(count):
        if parent[k] == k:
            u = bits(a, b, SIGNS + U64(c + k)) >> U64(32)
            sign[k] = 1 if u < limit[k] else -1
        else:
            sign[k] = sign[parent[k]]


@njit(nogil=True, cache=True)
def swendsen_wang(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns) with the states after `sweeps` cluster sweeps."""
    rows, columns = out.shape[1:]
    n = rows * columns
    label = np.empty((rows, columns), np.int32)
    parent, size = np.empty(n, np.int32), np.empty(n, np.int32)
    sign = np.empty(n, np.int8)
    limit = np.full(n, _threshold(0.5), U64)
    for k in range(len(out)):
        a, b = keys(key, first + k)
        px = _threshold(-np.expm1(-2 * couplings[k, 0]))
        py = _threshold(-np.expm1(-2 * couplings[k, 1]))
        h, s = couplings[k, 2], out[k]
        s[:] = -1 if h < 0 else 1
        limit[:] = _threshold(0.5)
        for c in range(0, sweeps * n, n):
            count = _label(s, a, b, c, px, py, label, parent)
            if h != 0:
                _magnetic(h, count, label, parent, limit, size)
            _signs(a, b, c, count, parent, limit, sign)
            for y in range(rows):
                for x in range(columns):
                    s[y, x] = sign[label[y, x]]


# --- heat bath ------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _glauber(s: Array, a: U64, b: U64, c: int, limit: Array) -> None:
    """One sweep of s (rows, columns): one colour of the checkerboard, then the other."""
    rows, columns = s.shape
    u = U64(0)
    for colour in range(2):
        for y in range(rows):
            above, below = (y if y else rows) - 1, y + 1 if y + 1 < rows else 0
            for x in range((y + colour) & 1, columns, 2):
                left, right = (x if x else columns) - 1, x + 1 if x + 1 < columns else 0
                across, along = s[y, left] + s[y, right], s[above, x] + s[below, x]
                u = u >> U64(32) if x & 2 else bits(a, b, U64(c + y * columns + x))
                s[y, x] = 1 if (u & HALF) < limit[(3 * across + along + 8) >> 1] else -1


@njit(nogil=True, cache=True)
def heat_bath(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns) with the states after `sweeps` heat-bath sweeps.

    The start is cold, in the field's direction or with a fair sign.
    """
    n = out.shape[1] * out.shape[2]
    limit = np.empty(9, U64)
    for k in range(len(out)):
        a, b = keys(key, first + k)
        kx, ky, h = couplings[k]
        for t in range(9):
            field = kx * (2 * (t // 3) - 2) + ky * (2 * (t % 3) - 2) + h
            limit[t] = _threshold(1 / (1 + np.exp(-2 * field)))
        up = bits(a, b, SIGNS) >> U64(63) == 0 if h == 0 else h > 0
        out[k] = 1 if up else -1
        for c in range(0, sweeps * n, n):
            _glauber(out[k], a, b, c, limit)


# --- all of them ----------------------------------------------------------------------------


SAMPLERS: dict[str, Kernel] = {
    "perfect": perfect,
    "swendsen-wang": swendsen_wang,
    "heat-bath": heat_bath,
    "checkerboard": multispin,
}


def _threads() -> int:
    """NUMBA_NUM_THREADS: from the environment, or the processors of this process."""
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # made at run time


def draw(sampler: str, couplings: Array, shape: tuple[int, int], sweeps: int, key: Array) -> Array:
    """One lattice for each row of couplings (n, 3), (n, *shape) int8.

    Args:
        sampler: one of :data:`SAMPLERS`.
        couplings: (Kx, Ky, H) of each lattice, without unit.
        shape: rows and columns, each at least 2.
        sweeps: sweeps from the cold start.
        key: two uint64; the lattice of index i is a function of key, i and couplings[i].

    The work is shared among NUMBA_NUM_THREADS threads, which has no effect on the result.
    """
    n, threads = len(couplings), _threads()
    out = np.empty((n, *shape), np.int8)
    step = min(max(n // (8 * threads), 1), 256)
    if sampler == "checkerboard":
        step = -(-step // LANES) * LANES
    kernel = SAMPLERS[sampler]
    kernel(out[:0], couplings[:0], key, 0, sweeps)  # numba may be compiled by one thread at a time
    pool = ThreadPoolExecutor(threads)
    try:
        jobs = [
            pool.submit(kernel, out[i : i + step], couplings[i : i + step], key, i, sweeps)
            for i in range(0, n, step)
        ]
        for job in jobs:
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return out

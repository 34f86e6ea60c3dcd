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
Otherwise W grows, and the u of the times seen before are used again: the draw is the same whatever
W was tried, so that the first W may be a guess.

**Swendsen–Wang** (1987). Bonds given spins, then a sign for each cluster C, + with probability
1/(1 + e^{−2H|C|}). Clusters are labelled as by Hoshen and Kopelman (1976): a label is born only
where neither the left nor the upper bond is open, so that the root of a cluster is the first of
its labels. The start is cold: it has the right sign in the field, and the first sweep makes the
sign right without one.

**Heat bath** (Glauber 1963). s_i = + with probability 1/(1 + e^{−2(Kx Σ s' + Ky Σ s'' + H)}),
one colour of the checkerboard after the other. Sites are updated in place one by one, so that it
is right on odd tori too, where two neighbours across the seam have the same colour. A site is
updated in 32 lattices together, by vector instructions.

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

U8 = np.uint8
U32 = np.uint32
U64 = np.uint64
HALF = U64(0xFFFFFFFF)
SIGNS = U64(1 << 62)  # where the counters of the clusters' signs begin
GHOSTS = U64(1 << 61)  # where the counters of the ghost bonds begin
RIGHT, LEFT, DOWN, UP, GHOST = 1, 2, 4, 8, 16  # the open bonds of a site, one bit each
MARKS = 1 << 30  # after which the marks of searches begin again

Kernel = Callable[[Array, Array, Array, int, int], None]


@njit(nogil=True, cache=True)
def _threshold(p: float) -> U64:
    """The t for which 32 random bits are below t with probability p."""
    return U64(np.rint(p * 4294967296.0))


@njit(nogil=True, cache=True)
def _steps(rows: int, columns: int) -> Array:
    """Steps to the right, left, lower and upper neighbour of each site, modulo 2³², (N, 4)."""
    step = np.empty((rows * columns, 4), np.uint32)
    for y in range(rows):
        for x in range(columns):
            i = y * columns + x
            step[i, 0] = (x + 1) % columns - x
            step[i, 1] = (x - 1) % columns - x
            step[i, 2] = ((y + 1) % rows - y) * columns
            step[i, 3] = ((y - 1) % rows - y) * columns
    return step


# --- perfect sampling -----------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _expand(
    bonds: Array, i: int, tail: int, mine: int, theirs: int, step: Array, seen: Array, queue: Array
) -> tuple[int, bool]:
    """Put the new neighbours of site i into a search's queue; its new end, and whether it met.

    Nothing branches on a bond: a closed one leads from a site to itself.
    """
    own, met = bonds[i], False
    for d in range(4):
        j = U32(i + U32((own >> U8(d)) & U8(1)) * step[i, d])
        met |= seen[j] == theirs
        queue[U64(tail)] = j
        tail += seen[j] != mine
        seen[j] = mine
    return tail, met


@njit(nogil=True, cache=True)
def _linked(
    bonds: Array, other: Array, a: int, b: int, step: Array, seen: Array, queue: Array, mark: int
) -> tuple[bool, bool]:
    """Whether open bonds connect site a to site b, or to the ghost if b < 0.

    Two breadth-first searches take turns, one from each end; mark and mark + 1 are unused. Also
    returns whether `other`, a state of more bonds, is known to have the same answer: a cluster
    that was seen whole, and has the same bonds there, is the same cluster.
    """
    n = len(bonds)
    ha, ta, open_a, apart_a = 0, 1, U8(0), U8(0)
    hb, tb, open_b, apart_b = n, n, U8(GHOST), U8(0)
    queue[0], seen[a] = a, mark
    if b >= 0:
        queue[n], seen[b], tb, open_b = b, mark + 1, n + 1, U8(0)
    while not open_a & open_b & U8(GHOST):
        if ha < ta:
            i = queue[U64(ha)]
            ta, met = _expand(bonds, i, ta, mark, mark + 1, step, seen, queue)
            if met:
                return True, True
            open_a |= bonds[i]
            apart_a |= bonds[i] ^ other[i]
            ha += 1
        elif not open_a & U8(GHOST):
            return False, apart_a == 0
        if hb < tb:
            i = queue[U64(hb)]
            tb, met = _expand(bonds, i, tb, mark + 1, mark, step, seen, queue)
            if met:
                return True, True
            open_b |= bonds[i]
            apart_b |= bonds[i] ^ other[i]
            hb += 1
        elif not open_b & U8(GHOST):
            return False, apart_b == 0
    return True, True


@njit(nogil=True, cache=True)
def _scan(
    low: Array, top: Array, a: U64, b: U64, time: int, limits: Array, apart: int,
    step: Array, seen: Array, queue: Array, mark: Array,
) -> int:  # fmt: skip
    """One sweep of heat bath over all bonds, in the lower and the upper state.

    Bond f of site i is bond g of site j. Returns the number of bonds in which the states differ;
    once it is 0 it stays 0, and only the lower state is kept.
    """
    n, kinds = len(low), 3 if limits[5] else 2
    if mark[0] > MARKS:
        seen[:], mark[0] = 0, 0
    for i in range(n):
        u = bits(a, b, U64(time * n + i))
        for d in range(kinds):
            f, g = 1 << 2 * d, 2 << 2 * d
            v, j = (u & HALF) if d == 0 else u >> U64(32), int(U32(i + step[i, 2 * d & 3]))
            if d == 2:
                v, j, g = bits(a, b, GHOSTS + U64(time * n + i)) >> U64(32), -1, 0
            k = i if j < 0 else j
            if apart:
                apart -= (low[i] ^ top[i]) >> 2 * d & 1
                top[i] &= ~f
                top[k] &= ~g
            low[i] &= ~f
            low[k] &= ~g
            if v >= limits[2 * d + 1]:
                continue
            is_open, alike = v < limits[2 * d], False
            if not is_open:
                mark[0] += 4
                is_open, alike = _linked(low, top, i, j, step, seen, queue, mark[0])
            if is_open:
                low[i] |= f
                low[k] |= g
            if not apart or (alike and not is_open):
                continue
            if is_open or _linked(top, top, i, j, step, seen, queue, mark[0] + 2)[0]:
                top[i] |= f
                top[k] |= g
                apart += not is_open
    return apart


@njit(nogil=True, cache=True)
def _first_window(couplings: Array, side: int) -> int:
    """Sweeps in which most lattices of these couplings meet, measured: 4 + 1.2 log₂ min(L, ξ).

    1/ξ is the distance from the critical line sinh 2Kx sinh 2Ky = 1, or |H|^(8/15) in a field.
    """
    k = 2 * np.abs(couplings[:2])
    off = abs((k + np.log1p(-np.exp(-2 * k)) - np.log(2.0)).sum()) / 2
    off = max(off, abs(couplings[2]) ** (8 / 15), 1 / side)
    return int(np.ceil(max(4 - 1.2 * np.log2(off), 2.0)))


@njit(nogil=True, cache=True)
def _couple(
    low: Array, top: Array, a: U64, b: U64, limits: Array, window: int,
    step: Array, seen: Array, queue: Array, mark: Array,
) -> int:  # fmt: skip
    """Couple from the past: `low` becomes a draw from the FK law; returns the window."""
    n, ghost = len(low), limits[5] > 0
    while True:
        low[:], top[:] = 0, 31 if ghost else 15
        apart = 3 * n if ghost else 2 * n
        for time in range(window, 0, -1):
            apart = _scan(low, top, a, b, time, limits, apart, step, seen, queue, mark)
        if apart == 0:
            return window
        window += (window + 1) // 2


@njit(nogil=True, cache=True)
def _flood(bonds: Array, root: int, sign: int, out: Array, step: Array, queue: Array) -> None:
    """Give the cluster of `root` its sign."""
    queue[0], out[root] = root, sign
    head, tail = 0, 1
    while head < tail:
        i = queue[head]
        head += 1
        for d in range(4):
            j = U32(i + step[i, d])
            if bonds[i] >> d & 1 and out[j] == 0:
                queue[tail], out[j] = j, sign
                tail += 1


@njit(nogil=True, cache=True)
def _colour(bonds: Array, a: U64, b: U64, ghost: int, out: Array, step: Array, q: Array) -> None:
    """Spins from bonds: the ghost's sign for what it holds, a fair one for other clusters."""
    out[:] = 0
    for i in range(len(bonds)):
        if bonds[i] & GHOST and out[i] == 0:
            _flood(bonds, i, ghost, out, step, q)
    for i in range(len(bonds)):
        if out[i] == 0:
            sign = 1 if bits(a, b, SIGNS + U64(i)) >> U64(63) else -1
            _flood(bonds, i, sign, out, step, q)


@njit(nogil=True, cache=True)
def perfect(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns) with perfect draws; `sweeps` is not used."""
    rows, columns = out.shape[1:]
    n, step = rows * columns, _steps(rows, columns)
    low, top = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    seen, queue, mark = np.zeros(n, np.int32), np.empty(2 * n, np.uint32), np.zeros(1, np.int64)
    limits = np.empty(6, U64)
    for k in range(len(out)):
        a, b = keys(key, first + k)
        for d in range(3):
            p = -np.expm1(-2 * abs(couplings[k, d]))
            limits[2 * d : 2 * d + 2] = _threshold(p / (2 - p)), _threshold(p)
        window = _first_window(couplings[k], max(rows, columns))
        _couple(low, top, a, b, limits, window, step, seen, queue, mark)
        ghost = -1 if couplings[k, 2] < 0 else 1
        _colour(low, a, b, ghost, out[k].ravel(), step, queue)


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
def _open(s: Array, a: U64, b: U64, c: int, px: U64, py: U64, bonds: Array) -> None:
    """Open bonds, LEFT and UP of each site, of the spins s (rows, columns)."""
    rows, columns = s.shape
    for y in range(rows):
        here, above, bond = s[y], s[y - 1 if y else rows - 1], bonds[y]
        start = U64(c + y * columns)
        for x in range(columns):
            u = bits(a, b, start + U64(x))
            left = (here[x] == here[x - 1 if x else columns - 1]) & ((u & HALF) < px)
            up = (here[x] == above[x]) & ((u >> U64(32)) < py)
            bond[x] = LEFT * left | UP * up


@njit(nogil=True, cache=True)
def _label(bonds: Array, label: Array, parent: Array) -> int:
    """Label the clusters of open bonds (rows, columns); returns the labels.

    A label is chosen without a branch, which no processor could foretell at the critical point.
    """
    rows, columns = bonds.shape
    count, left = 0, 0
    for y in range(rows):
        here, above, bond = label[y], label[y - 1 if y else rows - 1], bonds[y]
        for x in range(columns):
            is_open = bond[x] & ((LEFT if x else 0) | (UP if y else 0))
            k, up = count, above[x]
            parent[k] = k
            k = up if is_open & UP else k
            k = left if is_open & LEFT else k
            count += is_open == 0
            if is_open == LEFT | UP and left != up:
                k = _union(parent, left, up)
            here[x] = left = k
    for y in range(rows):  # the bonds across the seam
        if bonds[y, 0] & LEFT:
            _union(parent, label[y, 0], label[y, columns - 1])
    for x in range(columns):
        if bonds[0, x] & UP:
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
    """Draw a sign for each label, and give it that of its parent, which is smaller."""
    start = SIGNS + U64(c)
    for k in range(count):
        sign[k] = 1 if bits(a, b, start + U64(k)) >> U64(32) < limit[k] else -1
    for k in range(count):
        sign[k] = sign[parent[k]]


@njit(nogil=True, cache=True)
def swendsen_wang(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns) with the states after `sweeps` cluster sweeps."""
    rows, columns = out.shape[1:]
    n = rows * columns
    bonds, label = np.empty((rows, columns), np.uint8), np.empty((rows, columns), np.int32)
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
            _open(s, a, b, c, px, py, bonds)
            count = _label(bonds, label, parent)
            if h != 0:
                _magnetic(h, count, label, parent, limit, size)
            _signs(a, b, c, count, parent, limit, sign)
            for y in range(rows):
                for x in range(columns):
                    s[y, x] = sign[label[y, x]]


# --- heat bath ------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _fill(u: Array, a: Array, b: Array, counter: U64) -> None:
    """Random bits of each lane; alone here LLVM makes vector instructions of the loop."""
    for k in range(len(u)):
        u[k] = bits(a[k], b[k], counter)


@njit(nogil=True, cache=True)
def _glauber(s: Array, a: Array, b: Array, c: int, limit: Array, kind: Array, u: Array) -> None:
    """One sweep of s (rows, columns, lanes): one colour of the checkerboard, then the other.

    limit (9, lanes) are thresholds by kind of neighbours; kind and u (lanes,) are memory.
    """
    rows, columns, lanes = s.shape
    for colour in range(2):
        for y in range(rows):
            above, below = (y if y else rows) - 1, y + 1 if y + 1 < rows else 0
            for x in range((y + colour) & 1, columns, 2):
                left, right = (x if x else columns) - 1, x + 1 if x + 1 < columns else 0
                west, east, north, south = s[y, left], s[y, right], s[above, x], s[below, x]
                for k in range(lanes):
                    kind[k] = (3 * (west[k] + east[k]) + north[k] + south[k] + 8) >> 1
                if x & 2:
                    u >>= U64(32)
                else:
                    _fill(u, a, b, U64(c + y * columns + x))
                here = s[y, x]
                for k in range(lanes):
                    here[k] = 1 if (u[k] & HALF) < limit[kind[k], k] else -1


@njit(nogil=True, cache=True)
def heat_bath(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns) with the states after `sweeps` heat-bath sweeps.

    The start is cold, in the field's direction or with a fair sign.
    """
    rows, columns = out.shape[1:]
    n = rows * columns
    for start in range(0, len(out), LANES):
        lanes = min(LANES, len(out) - start)
        s, limit = np.empty((rows, columns, lanes), np.int8), np.empty((9, lanes), U64)
        a, b, u = np.empty(lanes, U64), np.empty(lanes, U64), np.empty(lanes, U64)
        kind = np.empty(lanes, np.uint8)
        for k in range(lanes):
            a[k], b[k] = keys(key, first + start + k)
            kx, ky, h = couplings[start + k]
            for t in range(9):
                field = kx * (2 * (t // 3) - 2) + ky * (2 * (t % 3) - 2) + h
                limit[t, k] = _threshold(1 / (1 + np.exp(-2 * field)))
            up = bits(a[k], b[k], SIGNS) >> U64(63) == 0 if h == 0 else h > 0
            s[:, :, k] = 1 if up else -1
        for c in range(0, sweeps * n, n):
            _glauber(s, a, b, c, limit, kind, u)
        for k in range(lanes):
            out[start + k] = s[:, :, k]


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
    if sampler in ("heat-bath", "checkerboard"):
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

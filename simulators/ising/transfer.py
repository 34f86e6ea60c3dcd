"""The transfer matrix of the Ising torus in a field: numba kernels for counting and for log Z.

A row of n spins is an integer of n bits. With D the diagonal matrix of the weights inside a row,
e^{K Σ s s' + H Σ s}, and V = ⊗ [[e^K, e^−K], [e^−K, e^K]] the weights between two rows,
Z = Tr (DV)^m = Σ_r (W^m)_{rr}, W = D^½ V D^½. W is symmetric, so with v = W^{⌊m/2⌋} e_r

    (W^m)_{rr} = v·v, or v·Wv if m is odd:

half the rows do. Rows that a rotation or a reflection maps on each other have the same diagonal
element: one of each class is enough (Kramers and Wannier, Phys. Rev. 60, 252 (1941)).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from simulators.base import Array

__all__ = ["count_states", "log_z_field"]


@lru_cache(maxsize=16)
def _classes(n: int, flip: bool) -> tuple[Array, Array]:
    """One row of each class under rotation, reflection and, if so, flip; the size of the class."""
    rows, full = np.arange(1 << n), (1 << n) - 1
    mirror: Array = np.sum([(rows >> i & 1) << (n - 1 - i) for i in range(n)], axis=0)
    kinds = (rows, mirror, rows ^ full, mirror ^ full) if flip else (rows, mirror)
    turns = [(r << i | r >> (n - i)) & full for r in kinds for i in range(n)]
    first, size = np.unique(np.array(turns).min(axis=0), return_counts=True)
    return first, size


@njit(nogil=True, cache=True)
def _broken(row: int, n: int) -> int:
    """Unsatisfied bonds within a row."""
    change = row ^ ((row >> 1) | ((row & 1) << (n - 1)))
    count = 0
    for i in range(n):
        count += change >> i & 1
    return count


@njit(nogil=True, cache=True)
def _bits_up(row: int) -> int:
    """Number of bits set."""
    count = 0
    while row:
        row &= row - 1
        count += 1
    return count


@njit(nogil=True, cache=True)
def _exchange(a: Array, b: Array, far: int, up: int) -> None:
    """Put a new spin on an old one, a and b being the counts of two rows that differ there.

    By (broken bonds ≤ far, spins up ≤ up); only the bond between new and old is counted.
    """
    for d in range(far, 0, -1):
        for k in range(up + 1):
            a[d, k] += b[d - 1, k]
            b[d, k] += a[d - 1, k]


@njit(nogil=True, cache=True)
def _shift(table: Array, broken: int, up: int) -> None:
    """Add `broken` bonds and `up` spins to every entry."""
    if broken == 0 and up == 0:
        return
    for d in range(table.shape[0] - 1, -1, -1):
        for k in range(table.shape[1] - 1, -1, -1):
            inside = d >= broken and k >= up
            table[d, k] = table[d - broken, k - up] if inside else np.uint64(0)


@njit(nogil=True, cache=True)
def _count(m: int, n: int, first: Array, size: Array) -> Array:
    """g by (broken bonds, spins up)."""
    rows = 1 << n
    total = np.zeros((2 * m * n + 1, m * n + 1), np.uint64)
    state = np.empty((rows, 2 * m * n + 1, m * n + 1), np.uint64)
    for c in range(len(first)):
        r = first[c]
        state[:] = 0
        state[r, _broken(r, n), _bits_up(r)] = size[c]
        for y in range(1, m + 1):
            for bit in range(n):
                for row in range(rows):
                    if not row >> bit & 1:
                        far = min(2 * n * y + n, 2 * m * n)
                        _exchange(state[row], state[row | 1 << bit], far, n * y)
            for row in range(rows if y < m else 0):
                _shift(state[row], _broken(row, n), _bits_up(row))
        total += state[r]
    return total


def count_states(m: int, n: int) -> Array:
    """Number of states of m rows of n spins by (unsatisfied bonds, spins up), uint64."""
    first, size = _classes(n, flip=True)
    count = _count(m, n, first, size)
    return (count + count[:, ::-1]) // np.uint64(2)


@njit(nogil=True, cache=True)
def _advance(v: Array, weight: Array, n: int, other: complex) -> None:
    """v ← D V v, weight being the diagonal of D."""
    for bit in range(n):
        step = 1 << bit
        for base in range(0, len(v), 2 * step):
            for i in range(base, base + step):
                a, b = v[i], v[i + step]
                v[i] = a + other * b
                v[i + step] = other * a + b
    for i in range(len(v)):
        v[i] *= weight[i]


@njit(nogil=True, cache=True)
def _element(m: int, n: int, r: int, weight: Array, other: complex) -> tuple[complex, float]:
    """(W^m)_{rr} = z e^s, as z and s, from v = (DV)^⌊m/2⌋ e_r = D^½ W^⌊m/2⌋ D^−½ e_r."""
    v = np.zeros(len(weight), np.complex128)
    v[r] = 1
    scale = 0.0
    for _ in range(m // 2):
        _advance(v, weight, n, other)
        top = np.abs(v).max()
        v /= top
        scale += 2 * np.log(top)
    w = v.copy()
    if m % 2:
        _advance(w, weight, n, other)
    return (v * w / weight).sum() * weight[r], scale


@njit(nogil=True, cache=True)
def _log_trace(m: int, n: int, k: complex, h: complex, first: Array, size: Array) -> complex:
    """Log Tr (DV)^m, with D and V divided by their largest elements."""
    weight = np.empty(1 << n, np.complex128)
    for r in range(1 << n):
        up = 2 * _bits_up(r) - n
        weight[r] = np.exp(-2 * k * _broken(r, n) + h * up - abs(h.real) * n)
    z, s = np.empty(len(first), np.complex128), np.empty(len(first))
    for c in range(len(first)):
        z[c], s[c] = _element(m, n, first[c], weight, np.exp(-2 * k))
    return np.log((size * z * np.exp(s - s.max())).sum()) + s.max()


def log_z_field(shape: tuple[int, int], k: complex, h: complex) -> complex:
    """Log Z at couplings K = βJ and H = βh, which may carry a small imaginary part.

    log Z is analytic: Im log Z(K + iε)/ε is the derivative with respect to K, without rounding.
    One value takes 8 ms at 10 × 10 and 0.2 s at 12 × 12.

    Args:
        shape: rows and columns; the shorter side at most 12.
        k: K = βJ.
        h: H = βh.
    """
    m, n = max(shape), min(shape)
    first, size = _classes(n, flip=False)
    largest = m * n * (2 * k + abs(complex(h).real))
    return complex(_log_trace(m, n, complex(k), complex(h), first, size) + largest)

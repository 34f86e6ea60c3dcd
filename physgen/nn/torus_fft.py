r"""The Fourier transform of a small torus in numba, of fields whose rows lie last in memory.

Radix 2 (Cooley & Tukey 1965), two stages at a time, so that a field passes through the registers
half as often; in place, so that frequencies come in bit-reversed order, of which tables know. Two
numbers of a site, real and imaginary part of one, are transformed at once. A block of the fields
fits into a near cache and comes from memory once, where products of matrices, as many numbers at
once as they like, have four times the arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["TorusFFT", "from_waves", "to_waves", "torus_fft"]

WIDTH = 64
"""Complex numbers of a site that are transformed at once."""
Numbers = NDArray[Any]


class TorusFFT(NamedTuple):
    """How a torus of N = 4ˢ sites is transformed to a real orthonormal basis, and back.

    Attributes:
        quartets: (N s/4, 4) places of four complex numbers that two stages change.
        factors: (N s/4, 8) by which they multiply: of the first stage's two differences, then of
            the second's, real and imaginary part each.
        own: (n, 2) rows of the basis whose frequency k is −k, and the place of k.
        pairs: (m, 3) rows of a cosine, before its sine, and the places of k and −k.
    """

    quartets: Numbers
    factors: Numbers
    own: Numbers
    pairs: Numbers


def torus_fft(
    grid: tuple[int, ...], waves: Sequence[tuple[int, int]], dtype: Any
) -> TorusFFT | None:
    """How to transform a torus, where its sides are powers of two, and N of four.

    Args:
        grid: its sides.
        waves: frequencies k and −k as sites, in the order of the basis.
        dtype: of the fields.
    """
    n = math.prod(grid)
    if any(side & (side - 1) for side in grid) or n.bit_length() % 2 == 0:
        return None
    stages = [stage for axis in range(len(grid)) for stage in stages_along(grid, axis)]
    quartets, factors = [], []
    for first, second in zip(stages[::2], stages[1::2], strict=True):
        for (a, c), (b, d) in itertools.product(first, repeat=2):
            if (a, b) in second:
                quartets.append((a, b, c, d))
                factors.append((first[a, c], first[b, d], second[a, b], second[c, d]))
    at = reversed_bits(grid)
    own, pairs, row = [], [], 0
    for k, negative in waves:
        if k == negative:
            own.append((row, at[k]))
        else:
            pairs.append((row, at[k], at[negative]))
        row += 1 + (k != negative)
    return TorusFFT(
        np.array(quartets, dtype=np.uintp).reshape(-1, 4),
        np.array(factors, dtype=complex).reshape(-1, 4).view(float).astype(dtype),
        np.array(own, dtype=np.uintp).reshape(-1, 2),
        np.array(pairs, dtype=np.uintp).reshape(-1, 3),
    )


def stages_along(grid: tuple[int, ...], axis: int) -> list[dict[tuple[int, int], complex]]:
    """Of each stage along an axis its butterflies a, b → a + b, w (a − b): sites and w."""
    lines = np.moveaxis(np.arange(math.prod(grid)).reshape(grid), axis, 0)
    half, found = grid[axis], list[dict[tuple[int, int], complex]]()
    while half := half // 2:
        stage: dict[tuple[int, int], complex] = {}
        for i in (i for i in range(grid[axis]) if not i & half):
            w = np.exp(-1j * np.pi * (i % half) / half)
            stage |= dict.fromkeys(zip(lines[i].flat, lines[i + half].flat, strict=True), w)
        found.append(stage)
    return found


def reversed_bits(grid: tuple[int, ...]) -> list[int]:
    """Where each frequency of a torus is after all stages: bits of each axis are reversed."""
    found = np.zeros(1, dtype=np.int64)
    for side in grid:
        along, half = np.zeros(1, dtype=np.int64), side
        while half := half // 2:
            along = np.concatenate([along, along + half])
        found = (side * found[:, None] + along).ravel()
    return [int(i) for i in found]


FAST = {"contract", "nsz", "reassoc"}
compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")


@compiled
def to_waves(fft: TorusFFT, x: Numbers, u: Numbers, z: Numbers) -> None:
    """Fields x (N, R) in the real Fourier basis, to u (N, R).

    Args:
        fft: how.
        x: (N, R).
        u: (N, R), which is written.
        z: (N, 2 `WIDTH`) of any numbers, which are overwritten; fastest on a line of the cache.
    """
    n, columns = x.shape
    for start in range(0, columns, 2 * WIDTH):
        middle = start + min(WIDTH, (columns - start + 1) // 2)
        end = min(columns, middle + WIDTH)
        for i in range(n):
            a, real, imaginary = z[i], x[i, start:middle], x[i, middle:end]
            for r in range(middle - start):
                a[r], a[WIDTH + r] = real[r], 0
            for r in range(end - middle):
                a[WIDTH + r] = imaginary[r]
        butterflies(fft.quartets, fft.factors, z)
        leave(fft, z, u, start, middle, end)


@compiled
def from_waves(fft: TorusFFT, u: Numbers, x: Numbers, z: Numbers) -> None:
    """The inverse of `to_waves`, and its transpose: u (N, R) to fields x (N, R)."""
    n, columns = x.shape
    for start in range(0, columns, 2 * WIDTH):
        middle = start + min(WIDTH, (columns - start + 1) // 2)
        end = min(columns, middle + WIDTH)
        enter(fft, z, u, start, middle, end)
        butterflies_back(fft.quartets, fft.factors, z)
        for i in range(n):
            a, real, imaginary = z[i], x[i, start:middle], x[i, middle:end]
            for r in range(middle - start):
                real[r] = a[r]
            for r in range(end - middle):
                imaginary[r] = a[WIDTH + r]


@compiled
def butterflies(quartets: Numbers, factors: Numbers, z: Numbers) -> None:
    """All stages, in place, of numbers (N, 2 `WIDTH`), real parts first."""
    for q in range(len(quartets)):
        a, b, c, d = z[quartets[q, 0]], z[quartets[q, 1]], z[quartets[q, 2]], z[quartets[q, 3]]
        f = factors[q]
        f0, f1, f2, f3, f4, f5, f6, f7 = f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]
        for r in range(WIDTH):
            a_re, a_im, b_re, b_im = a[r], a[WIDTH + r], b[r], b[WIDTH + r]
            c_re, c_im, d_re, d_im = c[r], c[WIDTH + r], d[r], d[WIDTH + r]
            p_re, p_im, q_re, q_im = a_re - c_re, a_im - c_im, b_re - d_re, b_im - d_im
            a_re, a_im, b_re, b_im = a_re + c_re, a_im + c_im, b_re + d_re, b_im + d_im
            c_re, c_im = p_re * f0 - p_im * f1, p_re * f1 + p_im * f0
            d_re, d_im = q_re * f2 - q_im * f3, q_re * f3 + q_im * f2
            p_re, p_im, q_re, q_im = a_re - b_re, a_im - b_im, c_re - d_re, c_im - d_im
            a[r], a[WIDTH + r] = a_re + b_re, a_im + b_im
            c[r], c[WIDTH + r] = c_re + d_re, c_im + d_im
            b[r], b[WIDTH + r] = p_re * f4 - p_im * f5, p_re * f5 + p_im * f4
            d[r], d[WIDTH + r] = q_re * f6 - q_im * f7, q_re * f7 + q_im * f6


@compiled
def butterflies_back(quartets: Numbers, factors: Numbers, z: Numbers) -> None:
    """The transpose of `butterflies`, conjugate: all stages from the last one."""
    for q in range(len(quartets) - 1, -1, -1):
        a, b, c, d = z[quartets[q, 0]], z[quartets[q, 1]], z[quartets[q, 2]], z[quartets[q, 3]]
        f = factors[q]
        f0, f1, f2, f3, f4, f5, f6, f7 = f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]
        for r in range(WIDTH):
            a_re, a_im, b_re, b_im = a[r], a[WIDTH + r], b[r], b[WIDTH + r]
            c_re, c_im, d_re, d_im = c[r], c[WIDTH + r], d[r], d[WIDTH + r]
            p_re, p_im = b_re * f4 + b_im * f5, b_im * f4 - b_re * f5
            q_re, q_im = d_re * f6 + d_im * f7, d_im * f6 - d_re * f7
            b_re, b_im, d_re, d_im = a_re - p_re, a_im - p_im, c_re - q_re, c_im - q_im
            a_re, a_im, c_re, c_im = a_re + p_re, a_im + p_im, c_re + q_re, c_im + q_im
            p_re, p_im = c_re * f0 + c_im * f1, c_im * f0 - c_re * f1
            q_re, q_im = d_re * f2 + d_im * f3, d_im * f2 - d_re * f3
            a[r], a[WIDTH + r] = a_re + p_re, a_im + p_im
            c[r], c[WIDTH + r] = a_re - p_re, a_im - p_im
            b[r], b[WIDTH + r] = b_re + q_re, b_im + q_im
            d[r], d[WIDTH + r] = b_re - q_re, b_im - q_im


@compiled
def leave(fft: TorusFFT, z: Numbers, u: Numbers, start: int, middle: int, end: int) -> None:
    """Cosines and sines u (N, R) of two real numbers from z = x + i y, of a block of columns."""
    alone, both = scales(z)
    for e in range(len(fft.own)):
        row, i = fft.own[e, 0], fft.own[e, 1]
        a, x, y = z[i], u[row, start:middle], u[row, middle:end]
        for r in range(middle - start):
            x[r] = alone * a[r]
        for r in range(end - middle):
            y[r] = alone * a[WIDTH + r]
    for e in range(len(fft.pairs)):
        row, i, j = fft.pairs[e, 0], fft.pairs[e, 1], fft.pairs[e, 2]
        a, b, cosines, sines = z[i], z[j], u[row], u[row + np.uintp(1)]
        x_cos, x_sin = cosines[start:middle], sines[start:middle]
        y_cos, y_sin = cosines[middle:end], sines[middle:end]
        for r in range(middle - start):
            x_cos[r] = both * (a[r] + b[r])
            x_sin[r] = both * (b[WIDTH + r] - a[WIDTH + r])
        for r in range(end - middle):
            y_cos[r] = both * (a[WIDTH + r] + b[WIDTH + r])
            y_sin[r] = both * (a[r] - b[r])


@compiled
def enter(fft: TorusFFT, z: Numbers, u: Numbers, start: int, middle: int, end: int) -> None:
    """The transpose of `leave`."""
    alone, both = scales(z)
    for e in range(len(fft.own)):
        row, i = fft.own[e, 0], fft.own[e, 1]
        a, x, y = z[i], u[row, start:middle], u[row, middle:end]
        for r in range(middle - start):
            a[r], a[WIDTH + r] = alone * x[r], 0
        for r in range(end - middle):
            a[WIDTH + r] = alone * y[r]
    for e in range(len(fft.pairs)):
        row, i, j = fft.pairs[e, 0], fft.pairs[e, 1], fft.pairs[e, 2]
        a, b, cosines, sines = z[i], z[j], u[row], u[row + np.uintp(1)]
        x_cos, x_sin = cosines[start:middle], sines[start:middle]
        y_cos, y_sin = cosines[middle:end], sines[middle:end]
        for r in range(middle - start):
            a[r] = b[r] = both * x_cos[r]
            b[WIDTH + r] = both * x_sin[r]
            a[WIDTH + r] = -b[WIDTH + r]
        for r in range(end - middle):
            a[r] += both * y_sin[r]
            b[r] -= both * y_sin[r]
            a[WIDTH + r] += both * y_cos[r]
            b[WIDTH + r] += both * y_cos[r]


@compiled
def scales(z: Numbers) -> tuple[Any, Any]:
    """What makes waves of N sites orthonormal: those alone, and cosine and sine."""
    return z.dtype.type(1 / np.sqrt(len(z))), z.dtype.type(1 / np.sqrt(2 * len(z)))

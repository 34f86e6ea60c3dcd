"""Heat bath of 32 lattices at once, one bit each (multi-spin coding), on a CPU or a GPU alike.

Bit l of the word of a site is the spin of lattice 32 g + l of group g. Of the four neighbours two
along the row and two along the column, (a, b) of which are up: nine classes, each with its own
P(+) = 1/(1 + e^{−2(K_x(2a − 2) + K_y(2b − 2) + H)}) in each lattice, as 32 bits. A random number
u < P(+) is drawn for all 32 spins bit by bit, the highest first: a bit in which u and P(+) differ
decides, and half of what is undecided is decided by each word, so that about log₂ 32 + 1.3 words
serve 32 spins on a CPU, and log₂ 1024 + 1.3 all of a warp of a GPU.

The words are Philox 4×32-10 (Salmon, Moraes, Dror & Shaw, SC 2011) of the counter (site, sweep,
group, block of four words) and a key. So a lattice is a function of the key, its index and its
couplings, and of nothing else: not of the order, the threads, or the device.

Sites of one colour of the checkerboard have neighbours of the other alone, on a torus of even
sides; so one colour is updated at once, then the other. That is the chain of `heat-bath`, and has
its autocorrelation times: near the critical point of large lattices clusters need fewer sweeps.

Instructions of 32 bits for 32 spins on a GPU, counted in what LLVM makes for sm_90: for a block of
four words Philox is 20 products and 20 xors of three, the comparisons 60 logical operations of
three and 36 loads of bits of P(+): 140. A warp needs 11.3 words, in 3.3 blocks; with 80 for
neighbours, indices and loops these are 540, or 17 a flip: at 128 instructions a cycle and
multiprocessor an H100 makes at most 1,700 flips a nanosecond.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simulators.base import Array

__all__ = ["LANES", "first_word", "heat_bath_word", "multispin", "philox", "threshold_bits"]

U32 = np.uint32
U64 = np.uint64
LANES = 32
CLASSES, LEVELS = 9, 32
START = 0xFFFFFFFF  # the counter's sweep of the starting signs


@njit(nogil=True, cache=True)
def philox(c0: U32, c1: U32, c2: U32, c3: U32, k0: U32, k1: U32) -> tuple[U32, U32, U32, U32]:
    """Four random words of a counter and a key: Philox 4×32-10."""
    for _ in range(10):
        a, b = U64(c0) * U64(0xD2511F53), U64(c2) * U64(0xCD9E8D57)
        c0, c2 = U32(U32(b >> U64(32)) ^ c1 ^ k0), U32(U32(a >> U64(32)) ^ c3 ^ k1)
        c1, c3 = U32(b & U64(0xFFFFFFFF)), U32(a & U64(0xFFFFFFFF))
        k0 = U32((U64(k0) + U64(0x9E3779B9)) & U64(0xFFFFFFFF))
        k1 = U32((U64(k1) + U64(0xBB67AE85)) & U64(0xFFFFFFFF))
    return c0, c1, c2, c3


@njit(nogil=True, cache=True)
def probability(a0: U32, a1: U32, a2: U32, b0: U32, b1: U32, b2: U32, bits: Array, at: int) -> U32:
    """One bit of P(+) in each lattice, each of the class that its neighbours are in."""
    p0 = (b0 & bits[at]) | (b1 & bits[at + 1]) | (b2 & bits[at + 2])
    p1 = (b0 & bits[at + 3]) | (b1 & bits[at + 4]) | (b2 & bits[at + 5])
    p2 = (b0 & bits[at + 6]) | (b1 & bits[at + 7]) | (b2 & bits[at + 8])
    return U32((a0 & p0) | (a1 & p1) | (a2 & p2))


@njit(nogil=True, cache=True)
def heat_bath_word(
    left: U32, right: U32, above: U32, below: U32, bits: Array,
    site: U32, sweep: U32, group: U32, k0: U32, k1: U32,
) -> U32:  # fmt: skip
    """The new spins of a site in 32 lattices, of its neighbours and the bits of P(+), (288,)."""
    a0, a1, a2 = U32(~(left | right)), U32(left ^ right), U32(left & right)
    b0, b1, b2 = U32(~(above | below)), U32(above ^ below), U32(above & below)
    up, unsure = U32(0), U32(0xFFFFFFFF)
    for block in range(LEVELS // 4):
        r0, r1, r2, r3 = philox(site, sweep, group, U32(block), k0, k1)
        at = 4 * CLASSES * block
        p = probability(a0, a1, a2, b0, b1, b2, bits, at)
        up, unsure = U32(up | (unsure & p & ~r0)), U32(unsure & ~(r0 ^ p))
        p = probability(a0, a1, a2, b0, b1, b2, bits, at + CLASSES)
        up, unsure = U32(up | (unsure & p & ~r1)), U32(unsure & ~(r1 ^ p))
        p = probability(a0, a1, a2, b0, b1, b2, bits, at + 2 * CLASSES)
        up, unsure = U32(up | (unsure & p & ~r2)), U32(unsure & ~(r2 ^ p))
        p = probability(a0, a1, a2, b0, b1, b2, bits, at + 3 * CLASSES)
        up, unsure = U32(up | (unsure & p & ~r3)), U32(unsure & ~(r3 ^ p))
        if unsure == 0:
            break
    return up


@njit(nogil=True, cache=True)
def first_word(couplings: Array, group: int, k0: U32, k1: U32) -> U32:
    """A cold start of 32 lattices: in the field's direction, or with a fair sign."""
    fair, _, _, _ = philox(U32(0), U32(START), U32(group), U32(0), k0, k1)
    word = U32(0)
    for lane in range(len(couplings)):
        h = couplings[lane, 2]
        up = (fair >> U32(lane)) & U32(1) if h == 0 else U32(h > 0)
        word = U32(word | U32(up << U32(lane)))
    return word


@njit(nogil=True, cache=True)
def threshold_bits(couplings: Array, bits: Array) -> None:
    """Fill the bits of P(+), (288,), of 32 lattices or fewer: by level, highest first, and class.

    P(+) is rounded to 32 bits, and to 1 − 2⁻³² if it is closer to 1.
    """
    bits[:] = 0
    for lane in range(len(couplings)):
        kx, ky, h = couplings[lane]
        for c in range(CLASSES):
            field = kx * (2 * (c // 3) - 2) + ky * (2 * (c % 3) - 2) + h
            p = np.rint(4294967296.0 / (1 + np.exp(-2 * field)))
            t = U32(min(p, 4294967295.0))
            for level in range(LEVELS):
                one = (t >> U32(LEVELS - 1 - level)) & U32(1)
                bits[CLASSES * level + c] |= U32(one << U32(lane))


@njit(nogil=True, cache=True)
def multispin(out: Array, couplings: Array, key: Array, first: int, sweeps: int) -> None:
    """Fill `out` (n, rows, columns), of even sides, with the states after `sweeps` sweeps.

    `first`, the index of the first lattice, is a multiple of 32.
    """
    n, rows, columns = out.shape
    k0, k1 = U32(key[0] & U64(0xFFFFFFFF)), U32(key[0] >> U64(32))
    s, bits = np.empty((rows, columns), np.uint32), np.empty(CLASSES * LEVELS, np.uint32)
    for start in range(0, n, LANES):
        group, lanes = U32((first + start) // LANES), couplings[start : start + LANES]
        threshold_bits(lanes, bits)
        s[:] = first_word(lanes, int(group), k0, k1)
        for sweep in range(2 * sweeps):
            for y in range(rows):
                above, below = (y if y else rows) - 1, y + 1 if y + 1 < rows else 0
                for x in range((y + sweep) & 1, columns, 2):
                    left, right = (x if x else columns) - 1, x + 1 if x + 1 < columns else 0
                    s[y, x] = heat_bath_word(
                        s[y, left], s[y, right], s[above, x], s[below, x], bits,
                        U32(y * columns + x), U32(sweep // 2), group, k0, k1,
                    )  # fmt: skip
        for lane in range(len(lanes)):
            for y in range(rows):
                for x in range(columns):
                    up = (s[y, x] >> U32(lane)) & U32(1)
                    out[start + lane, y, x] = 1 if up else -1

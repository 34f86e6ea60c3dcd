"""Random numbers that belong to rows: each is a hash of (key, row, counter).

The hash is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014) with a second key added
halfway. So a row is a function of the key and its index, whatever the order, batch or thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simulators.base import Array

__all__ = ["bits", "keys"]

U64 = np.uint64


@njit(nogil=True, cache=True)
def bits(a: U64, b: U64, counter: U64) -> U64:
    """64 random bits: a hash of a row's two keys and a counter."""
    z = a + counter * U64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9) + b
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


@njit(nogil=True, cache=True)
def keys(key: Array, index: int) -> tuple[U64, U64]:
    """The two keys of row `index`."""
    i = U64(2) * U64(index)
    return bits(key[0], key[1], i), bits(key[0], key[1], i + U64(1))

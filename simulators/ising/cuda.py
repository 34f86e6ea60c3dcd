"""The checkerboard and the Swendsen–Wang sampler on a GPU: the bytes that the CPU gives.

Both take their random numbers from counters, so that a lattice is the same wherever and in
whatever order it is computed; numba's CUDA simulator (NUMBA_ENABLE_CUDASIM=1) runs them on a CPU.

**Checkerboard.** A block of threads has a group of 32 lattices, :mod:`.multispin`, whose words
stay in the cache of its multiprocessor: five words of 4 bytes are read or written for each 540
instructions.

**Swendsen–Wang.** A block has a lattice. Clusters are joined by all threads at once, the larger of
two roots being hung below the smaller by an atomic minimum, again where another thread was faster
(Komura 2015, arXiv:1410.8720); so a root is the first site of its cluster, as on the CPU, where
the sign of a cluster is a random number of its rank among the sites whose bonds to the left and
upwards are closed. That rank is counted here. (In a field the sign's threshold is an exponential,
whose last bit may differ between devices; that decides about one cluster in 2³².)
"""

from __future__ import annotations

import math
import warnings
from importlib import import_module
from types import FunctionType
from typing import Any

import numba
import numpy as np

from simulators import random
from simulators.base import Array
from simulators.ising import multispin
from simulators.ising.multispin import CLASSES, LANES, LEVELS, first_word, threshold_bits
from simulators.ising.sampling import HALF, SIGNS, U64, _threshold

cuda: Any = import_module("numba.cuda")

__all__ = ["SAMPLERS", "draw", "require_device"]

SAMPLERS = ("checkerboard", "swendsen-wang")
U32 = np.uint32
TABLE = CLASSES * LEVELS
THREADS = 256
BLOCKS, SITES = 2048, 2**28
"""Lattices whose clusters are joined at once, and sites of these, 12 bytes each: at most."""


def require_device() -> None:
    """Refuse to go on without a GPU.

    Raises:
        ValueError: there is none, or numba cannot use it.
    """
    if not cuda.is_available():
        raise ValueError(
            "device cuda: no GPU that numba can use; pip install 'physgen[cuda]' where there is "
            "one, or leave out --device: the CPU makes the same file"
        )


def of_device(function: Any, **others: Any) -> Any:
    """A function that numba compiles for the CPU, for a GPU; `others` are what it calls."""
    if numba.config.ENABLE_CUDASIM:  # type: ignore[attr-defined]  # made at run time
        return function
    python = function.py_func
    names = {**python.__globals__, **others}
    return cuda.jit(device=True)(FunctionType(python.__code__, names, python.__name__))


bits = of_device(random.bits)
heat_bath_word = of_device(
    multispin.heat_bath_word,
    philox=of_device(multispin.philox),
    probability=of_device(multispin.probability),
)


@cuda.jit
def checkerboard(
    out: Array, words: Array, tables: Array, start: Array, shape: Array, key: Array, sweeps: int
) -> None:
    """Fill out (n, sites) after some sweeps; a block has a group of 32 lattices.

    words (G, sites) is memory to work in, tables (G, 288), start (G,), shape (2,), key (2,).
    """
    g, t, threads = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    table = cuda.shared.array(TABLE, U32)
    rows, columns = shape[0], shape[1]
    s, sites, half = words[g], rows * columns, columns // 2
    k0, k1 = U32(key[0]), U32(key[1])
    for i in range(t, TABLE, threads):
        table[i] = tables[g, i]
    for i in range(t, sites, threads):
        s[i] = start[g]
    cuda.syncthreads()
    for sweep in range(2 * sweeps):
        for k in range(t, rows * half, threads):
            y = k // half
            x = 2 * (k - y * half) + ((y + sweep) & 1)
            above, below = (y if y else rows) - 1, y + 1 if y + 1 < rows else 0
            left, right = (x if x else columns) - 1, x + 1 if x + 1 < columns else 0
            here = y * columns
            s[here + x] = heat_bath_word(
                s[here + left], s[here + right], s[above * columns + x], s[below * columns + x],
                table, U32(here + x), U32(sweep // 2), U32(g), k0, k1,
            )  # fmt: skip
        cuda.syncthreads()
    for lane in range(LANES if LANES * (g + 1) <= out.shape[0] else out.shape[0] - LANES * g):
        for i in range(t, sites, threads):
            out[LANES * g + lane, i] = 1 if (s[i] >> U32(lane)) & U32(1) else -1


@cuda.jit(device=True)
def find(parent: Array, i: int) -> int:
    """The root of i in parent (sites,)."""
    while parent[i] != i:
        i = parent[i]
    return i


@cuda.jit(device=True)
def join(parent: Array, i: int, j: int) -> None:
    """Join the clusters of i and j in parent (sites,) under the smaller root."""
    while True:
        i, j = find(parent, i), find(parent, j)
        if i == j:
            return
        if i < j:
            i, j = j, i
        before = cuda.atomic.min(parent, i, j)
        if before == i:
            return
        i = before


@cuda.jit
def swendsen_wang(
    out: Array, couplings: Array, limits: Array, keys_: Array,
    memory: Array, counts: Array, shape: Array, sweeps: int,
) -> None:  # fmt: skip
    """Fill out (n, sites) after some sweeps; a block has one lattice after another.

    couplings (n, 3), limits (n, 2) of the bonds, keys_ (n, 2); to work in, memory (blocks, 3,
    sites) for parents, births and sizes, and counts (blocks, threads).
    """
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    rows, columns = shape[0], shape[1]
    sites = rows * columns
    part = (sites + threads - 1) // threads  # of the sites, of which a thread counts the births
    begin = t * part if t * part < sites else sites
    end = begin + part if begin + part < sites else sites
    parent, born, size = (
        memory[cuda.blockIdx.x, 0], memory[cuda.blockIdx.x, 1], memory[cuda.blockIdx.x, 2],
    )  # fmt: skip
    count = counts[cuda.blockIdx.x]
    for k in range(cuda.blockIdx.x, out.shape[0], cuda.gridDim.x):
        s, h = out[k], couplings[k, 2]
        px, py, a, b = limits[k, 0], limits[k, 1], keys_[k, 0], keys_[k, 1]
        for i in range(t, sites, threads):
            s[i] = -1 if h < 0 else 1
        for sweep in range(sweeps):
            c = sweep * sites
            for i in range(t, sites, threads):
                parent[i], size[i] = i, 0
            cuda.syncthreads()
            for i in range(t, sites, threads):
                y = i // columns
                x = i - y * columns
                left = i - 1 if x else i + columns - 1
                above = i - columns if y else i + sites - columns
                u = U64(bits(a, b, U64(c + i)))
                along = s[i] == s[left] and (u & HALF) < px
                across = s[i] == s[above] and (u >> U64(32)) < py
                born[i] = 0 if (along and x > 0) or (across and y > 0) else 1
                if along:
                    join(parent, i, left)
                if across:
                    join(parent, i, above)
            cuda.syncthreads()
            mine = 0
            for i in range(begin, end):
                mine += born[i]
            count[t] = mine
            for i in range(t, sites, threads):
                root = find(parent, i)
                parent[i] = root
                if h != 0:
                    cuda.atomic.add(size, root, 1)
            cuda.syncthreads()
            rank = 0
            for i in range(t):
                rank += count[i]
            for i in range(begin, end):
                if parent[i] == i:
                    limit = U64(1 << 31)
                    if h != 0:
                        p = 1 / (1 + math.exp(-2 * h * size[i]))
                        limit = U64(math.floor(p * 4294967296.0 + 0.5))
                    u = U64(bits(a, b, SIGNS + U64(c + rank))) >> U64(32)
                    s[i] = 1 if u < limit else -1
                rank += born[i]
            cuda.syncthreads()
            for i in range(t, sites, threads):
                s[i] = s[parent[i]]
            cuda.syncthreads()


def draw(
    sampler: str,
    couplings: Array,
    shape: tuple[int, int],
    sweeps: int,
    key: Array,
    threads: int = THREADS,
) -> Array:
    """One lattice for each row of couplings (n, 3), (n, *shape) int8, as `sampling.draw` gives.

    Args:
        sampler: one of :data:`SAMPLERS`.
        couplings: (Kx, Ky, H) of each lattice, without unit.
        shape: rows and columns, each at least 2; even for the checkerboard.
        sweeps: sweeps from the cold start.
        key: two uint64; the lattice of index i is a function of key, i and couplings[i].
        threads: of a block, which has no effect on the result.
    """
    n, sites = len(couplings), shape[0] * shape[1]
    if not n:
        return np.empty((0, *shape), np.int8)
    out = cuda.device_array((n, sites), np.int8)
    run = run_checkerboard if sampler == "checkerboard" else run_swendsen_wang
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")  # few lattices are no fault
        run(out, np.ascontiguousarray(couplings), np.array(shape, np.int32), sweeps, key, threads)
    return out.copy_to_host().reshape(n, *shape)


def run_checkerboard(
    out: Array, couplings: Array, shape: Array, sweeps: int, key: Array, threads: int
) -> None:
    """Fill out (n, sites) on the device, of couplings (n, 3), shape (2,) and key (2,)."""
    groups = -(-len(couplings) // LANES)
    words = np.array([key[0] & U64(0xFFFFFFFF), key[0] >> U64(32)], np.uint32)
    tables, start = np.empty((groups, TABLE), np.uint32), np.empty(groups, np.uint32)
    for g in range(groups):
        lanes = couplings[LANES * g : LANES * (g + 1)]
        threshold_bits(lanes, tables[g])
        start[g] = first_word(lanes, g, *words)
    memory = cuda.device_array((groups, out.shape[1]), np.uint32)
    checkerboard[groups, threads](
        out, memory, *map(cuda.to_device, (tables, start, shape, words)), sweeps
    )


def run_swendsen_wang(
    out: Array, couplings: Array, shape: Array, sweeps: int, key: Array, threads: int
) -> None:
    """Fill out (n, sites) on the device, of couplings (n, 3), shape (2,) and key (2,)."""
    n, sites = out.shape
    blocks = min(n, BLOCKS, max(1, SITES // sites))
    limits = np.array(
        [[_threshold(p) for p in row] for row in -np.expm1(-2 * couplings[:, :2])], np.uint64
    )
    own = np.array([random.keys(key, i) for i in range(n)], np.uint64)
    memory = cuda.device_array((blocks, 3, sites), np.int32)
    counts = cuda.device_array((blocks, threads), np.int32)
    on_device = [cuda.to_device(a) for a in (couplings, limits, own)]
    swendsen_wang[blocks, threads](out, *on_device, memory, counts, cuda.to_device(shape), sweeps)

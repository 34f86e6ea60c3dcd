r"""Densities of draws by Gaussian kernels, on grids, by fast Fourier transforms.

The kernels' covariance is that of the draws times k^(−2/(d + 4)), Scott's rule (Multivariate
Density Estimation, 1992), which is far too wide for separate modes: each axis is narrowed as much
as the plug-in width of Botev, Grotowski & Kroese (Ann. Stat. 38 (2010) 2916) is below Scott's.
The draws are dealt out to the nodes of the grid, linearly between neighbours, and their counts
convolved with the kernel (Silverman, Appl. Stat. 31 (1982) 93; Wand, J. Comput. Graph. Stat. 3
(1994) 433): so a picture costs the same however many there are.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import brentq

from simulators.base import Array

__all__ = ["kernel_density", "narrowing"]

REACH = 5
"""Widths of the kernel that the grid goes on beyond its ends."""
FEWEST, BINS, ORDER, NARROWEST = 50, 1024, 7, 0.2
"""Of the plug-in width: distinct draws at least, bins, the derivative that it begins with, and the
part of Scott's width that is the least."""
TINY = 1e-300


def narrowing(draws: Array) -> float:
    """How much narrower than Scott's the kernels of draws (k,) ought to be, at most 1."""
    low, high = draws.min(), draws.max()
    k, more = len(np.unique(draws)), (high - low) / 10
    if more == 0 or k < FEWEST:
        return 1.0
    counts = np.histogram(draws, BINS, (low - more, high + more))[0] / len(draws)
    squares = np.arange(1, BINS, dtype=float) ** 2
    power = (fft.dct(counts)[1:] / 2) ** 2

    def roughness(s: int, t: float) -> float:
        weights = squares**s * power * np.exp(-squares * np.pi**2 * t)
        return 2 * np.pi ** (2 * s) * float(weights.sum())

    def excess(t: float) -> float:
        f = roughness(ORDER, t)
        for s in range(ORDER - 1, 1, -1):
            if not f > TINY:
                return -1.0  # so smooth that any width is too small
            odd = math.prod(range(1, 2 * s, 2)) / math.sqrt(2 * math.pi)
            width = (2 * (1 + 0.5 ** (s + 0.5)) / 3 * odd / (k * f)) ** (2 / (3 + 2 * s))
            f = roughness(s, width)
        return t - (2 * k * math.sqrt(math.pi) * max(f, TINY)) ** (-2 / 5)

    try:
        t = float(brentq(excess, 1e-9, 0.1))
    except ValueError:  # no such width
        return 1.0
    plug_in, scott = math.sqrt(t) * 12 * more, draws.std() * len(draws) ** (-1 / 5)
    return float(np.clip(plug_in / scott, NARROWEST, 1))


def kernel_density(
    draws: Array,
    axes: Array,
    bounds: NDArray[np.bool_],
    least: float = 0.0,
    narrow: Array | float = 1.0,
) -> Array:
    """The density on a grid.

    Args:
        draws: (k, d).
        axes: equally spaced points of each coordinate, (G, d).
        bounds: which of the first and the last points are bounds, (2, d): what kernels put beyond
            is reflected there.
        least: least width of a kernel.
        narrow: by what the widths of Scott's rule are multiplied, (d,).

    Returns:
        (G, …, G), of d axes.
    """
    (k, d), nodes = draws.shape, len(axes)
    step = (axes[-1] - axes[0]) / (nodes - 1)
    unit = np.broadcast_to(narrow, d)
    kernel = np.atleast_2d(np.cov(draws.T)) * k ** (-2 / (d + 4)) * np.outer(unit, unit)
    kernel = kernel + least**2 * np.eye(d)
    pad = np.minimum(np.ceil(REACH * np.sqrt(np.diag(kernel)) / step), nodes - 1).astype(int)
    size = [fft.next_fast_len(int(n), real=True) for n in nodes + 2 * pad]
    counts = _counted((draws - axes[0]) / step + pad, nodes + 2 * pad, size)
    waves = [2 * np.pi * fft.fftfreq(n, h) for n, h in zip(size, step, strict=True)]
    waves[-1] = 2 * np.pi * fft.rfftfreq(size[-1], step[-1])
    mesh = np.stack(np.meshgrid(*waves, indexing="ij"), -1)
    damped = np.exp(-0.5 * np.einsum("...i,ij,...j", mesh, kernel, mesh))
    density = fft.irfftn(fft.rfftn(counts) * damped, size) / (k * step.prod())
    for axis, (n, bound) in enumerate(zip(pad, bounds.T, strict=True)):
        density = _folded(np.moveaxis(density, axis, 0), nodes, n, *bound)
        density = np.moveaxis(density, 0, axis)
    return density.clip(0)


def _counted(at: Array, extent: Array, size: list[int]) -> Array:
    """Draws at places (k, d) of a grid, shared among the nodes around them; others left out."""
    at = at[((at >= 0) & (at < extent - 1)).all(-1)]
    low = np.floor(at).astype(int)
    counts = np.zeros(size)
    for corner in product((0, 1), repeat=at.shape[1]):
        share = np.where(corner, at - low, 1 - (at - low)).prod(-1)
        flat = np.ravel_multi_index(tuple((low + corner).T), size)
        counts += np.bincount(flat, share, counts.size).reshape(size)
    return counts


def _folded(density: Array, nodes: int, pad: int, low: bool, high: bool) -> Array:
    """A density (size, …) on a padded first axis, without the pads, which bounds reflect."""
    inner = density[pad : pad + nodes].copy()
    if low:
        inner[: pad + 1] += density[pad::-1]
    if high:
        last = pad + nodes - 1
        inner[nodes - 1 - pad :] += density[last : last + pad + 1][::-1]
    return inner

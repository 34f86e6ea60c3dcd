r"""Densities of draws by Gaussian kernels, on grids, by fast Fourier transforms.

The kernels' covariance is that of the draws times k^(−2/(d + 4)), Scott's rule (Multivariate
Density Estimation, 1992). The draws are dealt out to the nodes of the grid, linearly between
neighbours, and their counts convolved with the kernel (Silverman, Appl. Stat. 31 (1982) 93;
Wand, J. Comput. Graph. Stat. 3 (1994) 433): so a picture costs the same however many there are.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from simulators.base import Array

__all__ = ["kernel_density"]

REACH = 5
"""Widths of the kernel that the grid goes on beyond its ends."""


def kernel_density(
    draws: Array, axes: Array, bounds: NDArray[np.bool_], least: float = 0.0
) -> Array:
    """The density on a grid.

    Args:
        draws: (k, d).
        axes: equally spaced points of each coordinate, (G, d).
        bounds: which of the first and the last points are bounds, (2, d): what kernels put beyond
            is reflected there.
        least: least width of a kernel.

    Returns:
        (G, …, G), of d axes.
    """
    (k, d), nodes = draws.shape, len(axes)
    step = (axes[-1] - axes[0]) / (nodes - 1)
    kernel = np.atleast_2d(np.cov(draws.T)) * k ** (-2 / (d + 4)) + least**2 * np.eye(d)
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

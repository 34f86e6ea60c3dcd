r"""Fourier modes of a periodic map, gathered by their momentum.

Of a map x (L, L) the unitary transform is x̃_k = L⁻¹ Σ_x x e^{−ik·x}, k = 2πn/L. Where p(x|θ)
depends on |k| alone, the sums of |x̃_k|² over modes of equal momentum say all that x says of θ:
some L²/8 numbers, a *shell* each. The momentum is that of the lattice,

    |k|² = Σ_μ 4 sin²(π n_μ/L),

the eigenvalues of −∇² of nearest neighbours; at small n it is (2π|n|/L)².
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.sparse import csr_array

from simulators.base import Array

__all__ = ["Shells", "coloured", "momentum", "shells", "whitened"]

DIGITS = 9
"""To which momenta are equal."""


def momentum(size: int) -> Array:
    """|k|² of the modes of a real transform of a map (size, size), (size, size//2 + 1)."""
    along = 4 * np.sin(np.pi * np.arange(size) / size) ** 2
    return along[:, None] + along[: size // 2 + 1]


@dataclass(frozen=True)
class Shells:
    """The modes of equal momentum of a map.

    Attributes:
        square: |k|² of each, ascending from 0, (S,).
        count: modes in each, which add up to L², (S,).
        shell: which one each mode of a real transform is in, (L, L//2 + 1).
        gather: sums over the modes of a real transform, each as often as it is there, (modes, S).
    """

    square: Array
    count: Array
    shell: Array
    gather: csr_array

    def power(self, x: Array) -> Array:
        """Σ |x̃_k|² over the modes of each shell, of maps (n, L, L), (n, S)."""
        modes = rfft2(np.asarray(x, float), norm="ortho")
        return (modes.real**2 + modes.imag**2).reshape(len(x), -1) @ self.gather


@lru_cache(maxsize=16)
def shells(size: int) -> Shells:
    """The shells of a map of size × size sites."""
    square, shell = np.unique(momentum(size).round(DIGITS), return_inverse=True)
    shell = shell.reshape(size, -1)
    twice = np.full(shell.shape, 2.0)  # k and −k; but for columns that are their own
    twice[:, 0] = 1
    if size % 2 == 0:
        twice[:, -1] = 1
    index = np.arange(shell.size), shell.ravel()
    gather = csr_array((twice.ravel(), index), shape=(shell.size, len(square)))
    return Shells(square, np.bincount(shell.ravel(), twice.ravel()), shell, gather)


def coloured(white: Array, scale: Array) -> Array:
    """Maps whose modes are those of others, (n, L, L), times a scale (n, L, L//2 + 1)."""
    return irfft2(rfft2(white) * scale, s=white.shape[-2:])


def whitened(x: Array, scale: Array) -> Array:
    """Maps whose modes are those of others, (n, L, L), over a scale (n, L, L//2 + 1)."""
    return coloured(np.asarray(x, float), 1 / scale)

"""Functions that numba makes vectors of."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["fast_tanh"]

F32 = np.float32


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def fast_tanh(a: F32) -> F32:
    """tanh a to 4e-7, by the ratio of polynomials that Eigen has; LLVM makes vectors of it."""
    x = min(max(a, F32(-7.9)), F32(7.9))
    y = x * x
    p = F32(-2.76076847742355e-16) * y + F32(2.00018790482477e-13)
    p = p * y + F32(-8.60467152213735e-11)
    p = p * y + F32(5.12229709037114e-08)
    p = p * y + F32(1.48572235717979e-05)
    p = p * y + F32(6.37261928875436e-04)
    p = p * y + F32(4.89352455891786e-03)
    q = F32(1.19825839466702e-06) * y + F32(1.18534705686654e-04)
    q = q * y + F32(2.26843463243900e-03)
    q = q * y + F32(4.89352518554385e-03)
    return x * p / q

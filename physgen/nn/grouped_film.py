"""FiLM with coefficients that groups of sites share, in numba: no site has a copy of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["grouped_film"]

Numbers = NDArray[Any]
compiled = njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")


class GroupedFiLM(torch.autograd.Function):
    """h ← h γ_g + δ_g at each site of a group g."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, gain: Tensor, shift: Tensor, group: Tensor) -> Tensor:
        """h (N, C, B), γ and δ (G, C, B), group of each site (N,) → (N, C, B)."""
        h, gain = h.contiguous(), gain.contiguous()
        ctx.save_for_backward(h, gain, group)
        out = torch.empty_like(h)
        grouped_modulation(*as_arrays(group, h, gain, shift, out))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of h, γ and δ, of that of the result (N, C, B)."""
        h, gain, group = ctx.saved_tensors
        slopes = torch.zeros(2, *gain.shape, dtype=h.dtype)
        if torch.is_grad_enabled():  # what is made here is to be differentiated again
            both = torch.stack([gradient * h, gradient])
            return gradient * gain[group], *slopes.index_add(1, group, both), None
        slope = torch.empty_like(h)
        grouped_modulation_back(*as_arrays(group, gradient, h, gain, slope, *slopes))
        return slope, *slopes, None


grouped_film: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = GroupedFiLM.apply


def as_arrays(*tensors: Tensor) -> list[Numbers]:
    """Tensors as arrays."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


@compiled
def grouped_modulation(
    group: Numbers, h: Numbers, gain: Numbers, shift: Numbers, out: Numbers
) -> None:
    """All as in `GroupedFiLM`."""
    for n in range(len(h)):
        g = np.uintp(group[n])
        for c in range(h.shape[1]):
            x, a, b, y = h[n, c], gain[g, c], shift[g, c], out[n, c]
            for r in range(len(x)):
                y[r] = b[r] + x[r] * a[r]


@compiled
def grouped_modulation_back(
    group: Numbers,
    gradient: Numbers,
    h: Numbers,
    gain: Numbers,
    slope: Numbers,
    gains: Numbers,
    shifts: Numbers,
) -> None:
    """Its transpose: slope (N, C, B) is written; to gains and shifts (G, C, B) it is added."""
    for n in range(len(h)):
        g = np.uintp(group[n])
        for c in range(h.shape[1]):
            v, x, a, y = gradient[n, c], h[n, c], gain[g, c], slope[n, c]
            to_gain, to_shift = gains[g, c], shifts[g, c]
            for r in range(len(x)):
                y[r] = v[r] * a[r]
            for r in range(len(x)):
                to_gain[r] += v[r] * x[r]
                to_shift[r] += v[r]

"""Steps of AdamW in numba, for a family that takes several in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Descent", "descended"]

Numbers = NDArray[Any]


class Descent(NamedTuple):
    """P weights in one array, and how K steps of AdamW (arXiv:1711.05101) move them.

    Attributes:
        weights: (P,), float32 as the next three.
        average: their moving average, (P,).
        first: mean of the gradient, (P,).
        second: mean of its square, (P,).
        rates: learning rate of each step, (K,) float64.
        kept: part of the average that each step keeps, (K,) float64.
        done: steps before.
        clip: largest norm of the gradient.
        beta1: decay of the first moment.
        beta2: decay of the second.
        eps: what is added to the root of the second.
        weight_decay: decoupled.
    """

    weights: Numbers
    average: Numbers
    first: Numbers
    second: Numbers
    rates: Numbers
    kept: Numbers
    done: int
    clip: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def descended(descent: Descent, k: int, gradient: Numbers) -> None:
    """Move weights, moments and average by step k down a gradient (P,), clipped."""
    weights, average, first, second, rates, kept, done, clip, beta1, beta2, eps, decay = descent
    square = 0.0
    for i in range(len(gradient)):
        square += gradient[i] * gradient[i]
    scale = np.float32(1 / max(1.0, np.sqrt(square) / clip))
    count = done + k + 1
    size = np.float32(rates[k] / (1 - beta1**count))
    root = np.float32(1 / np.sqrt(1 - beta2**count))
    stays, moves = np.float32(1 - rates[k] * decay), np.float32(1 - kept[k])
    part1, part2, small = np.float32(1 - beta1), np.float32(1 - beta2), np.float32(eps)
    for i in range(len(weights)):
        slope = scale * gradient[i]
        first[i] += part1 * (slope - first[i])
        second[i] += part2 * (slope * slope - second[i])
    for i in range(len(weights)):  # by itself, of few arrays: so it becomes vectors
        weights[i] = stays * weights[i] - size * first[i] / (np.sqrt(second[i]) * root + small)
    for i in range(len(weights)):
        average[i] += moves * (weights[i] - average[i])

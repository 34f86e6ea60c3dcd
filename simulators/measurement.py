r"""What an instrument sees of x: y = Mx + σε, with M a blur, an average over blocks and a mask.

In this order: a map is blurred along each of its axes, blocks of K sites along each axis become
their mean, and of these some are seen. M is linear, a matrix for each axis and then a mask, so
that Mᵀ is at hand. It is computed of arrays of numpy and of tensors alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulators.base import Array, Axis

__all__ = ["LinearMap", "linear_map"]


@dataclass(frozen=True, eq=False)
class LinearMap:
    """M of y = Mx + σε.

    Attributes:
        matrices: of each axis of x what it becomes, (y's sites, x's sites); None where it stays.
        x_shape: shape of one x.
        seen: which components of y are seen, (*y_shape,) booleans.
    """

    matrices: tuple[Array | None, ...]
    x_shape: tuple[int, ...]
    seen: Array

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of one y."""
        return self.seen.shape

    @property
    def only_masks(self) -> bool:
        """Whether y is a part of x."""
        return all(matrix is None for matrix in self.matrices)

    def __call__(self, x: Any) -> Any:
        """Mx of x (B, *x_shape), (B, *y_shape); 0 where nothing is seen."""
        return self._along(x, lambda matrix: matrix.T) * like(self.seen, x)

    def adjoint(self, y: Any) -> Any:
        """Mᵀy of y (B, *y_shape), (B, *x_shape); what is not seen does not count."""
        return self._along(y * like(self.seen, y), lambda matrix: matrix)

    def _along(self, x: Any, which: Any) -> Any:
        for axis, matrix in enumerate(self.matrices, 1):
            if matrix is not None:
                x = (x.swapaxes(axis, -1) @ like(which(matrix), x)).swapaxes(axis, -1)
        return x

    def dense(self) -> Array:
        """M as a matrix of what is seen, (seen, size of x)."""
        size = math.prod(self.x_shape)
        columns = self(np.eye(size).reshape(size, *self.x_shape))
        return columns[:, self.seen].T


def like(array: Array, x: Any) -> Any:
    """An array as x is: of numpy, or a tensor of its type and device."""
    return array if isinstance(x, np.ndarray) else x.new_tensor(np.ascontiguousarray(array))


def linear_map(
    x_shape: Sequence[int],
    mask: Array | None = None,
    blur: float = 0.0,
    average: int = 1,
    axes: Sequence[Axis] = (),
) -> LinearMap:
    """The M of an instrument.

    Args:
        x_shape: shape of one x.
        mask: which components of y are seen, (*y_shape,) booleans; all if None.
        blur: standard deviation of a Gaussian by which maps are blurred, in sites.
        average: sites along each axis that become one.
        axes: what each axis of x is; none of a vector, which has no neighbours.

    Raises:
        ValueError: a mask of another shape or that hides all, or what x or an axis cannot be.
    """
    if not 0 <= blur < math.inf:
        raise ValueError(f"blur: expected a width ≥ 0 in sites, got {blur}")
    if average < 1:
        raise ValueError(f"average: expected a whole number ≥ 1, got {average}")
    if (blur or average > 1) and not axes:
        raise ValueError(f"blur, average: x of shape {tuple(x_shape)} has no axes of neighbours")
    kinds: list[Axis] = list(axes) or ["channel"] * len(x_shape)
    matrices = tuple(
        along(length, kind, blur, average) for length, kind in zip(x_shape, kinds, strict=True)
    )
    y_shape = tuple(
        length if matrix is None else len(matrix)
        for length, matrix in zip(x_shape, matrices, strict=True)
    )
    seen = np.ones(y_shape, bool) if mask is None else np.asarray(mask, bool)
    if seen.shape != y_shape:
        raise ValueError(f"mask: expected shape {y_shape}, got {seen.shape}")
    if not seen.any():
        raise ValueError("mask: nothing is seen; expected some components that are")
    return LinearMap(matrices, tuple(x_shape), seen)


def along(length: int, axis: Axis, blur: float, average: int) -> Array | None:
    """What one axis becomes, (length/average, length); None where nothing is done to it.

    Raises:
        ValueError: blocks that do not fill it.
    """
    if axis == "channel" or (not blur and average == 1):
        return None
    if length % average:
        raise ValueError(f"average: expected a divisor of {length} sites, got {average}")
    blurred = np.eye(length)
    if blur:
        apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
        if axis == "periodic":
            apart = np.minimum(apart, length - apart)
        blurred = np.exp(-0.5 * (apart / blur) ** 2)
        blurred /= blurred.sum(1, keepdims=True)
    return blurred.reshape(length // average, average, length).mean(1)

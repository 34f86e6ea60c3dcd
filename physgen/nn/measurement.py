r"""What was measured of x: y = Mx + σε, and p(y|x)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from physgen.errors import UsageError
from simulators.base import Array
from simulators.measurement import LinearMap, linear_map

if TYPE_CHECKING:
    from physgen.law import Law

__all__ = ["Measurement"]


class Measurement:
    """y = Mx + σε with M a blur, an average over blocks and a mask, in this order.

    Attributes:
        linear: M.
        noise: σ ≥ 0, in units of x.
        x_shape: shape of one x.
        y_shape: shape of one y.
        seen: which components of y are seen, (*y_shape,) booleans.
    """

    def __init__(self, linear: LinearMap, noise: float = 0.0) -> None:
        if not 0 <= noise < math.inf:
            raise UsageError(f"noise: expected a standard deviation ≥ 0, got {noise}")
        self.linear, self.noise = linear, float(noise)
        self.x_shape, self.y_shape = linear.x_shape, linear.y_shape
        self.seen = torch.from_numpy(linear.seen)

    @classmethod
    def of(
        cls,
        law: Law,
        mask: Array | None = None,
        noise: float = 0.0,
        blur: float = 0.0,
        average: int = 1,
    ) -> Measurement:
        """A measurement of x of a law.

        Args:
            law: of x.
            mask: which components of y are seen, (*y_shape,) booleans; all if None.
            noise: σ, in units of x.
            blur: standard deviation of a Gaussian that blurs along each axis, in sites.
            average: sites along each axis that become one.

        Raises:
            UsageError: any of these that cannot be.
        """
        try:
            linear = linear_map(law.x_shape, mask, blur, average, law.geometry)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return cls(linear, noise)

    def __call__(self, x: Tensor) -> Tensor:
        """Mx of x (B, *x_shape), (B, *y_shape); 0 where nothing is seen."""
        return self.linear(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Mᵀy of y (B, *y_shape), (B, *x_shape)."""
        return self.linear.adjoint(y)

    def log_p(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y|x) of what is seen of y (B, *y_shape), given x (B, *x_shape), (B,).

        Raises:
            UsageError: noise 0, of which there is no density.
        """
        if not self.noise:
            raise UsageError("noise: is 0, and p(y|x) has no density; give a noise > 0")
        seen = self.seen.to(y.device)
        off = torch.where(seen, y, 0.0) - self(x)
        count = int(self.seen.sum())
        square = (off / self.noise).square().flatten(1).sum(1)
        return -0.5 * square - count * math.log(self.noise * math.sqrt(2 * math.pi))

"""What a measurement of x sees of z, where x is an affine function of z: y = a + Az + σε."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from physgen.errors import UsageError
from physgen.nn.measurement import Measurement
from physgen.nn.transforms import Transform

__all__ = ["LinearView"]

MOST = 4096
"""Components of x, at most: matrices of as many rows are factorised."""
CURVED = 1e-3
"""Departure from a straight line at which a map is none."""


class LinearView(NamedTuple):
    """y = a + Az + σε of what is seen of y.

    Attributes:
        matrix: (m, d) A, float64.
        rest: (B, m) y − a.
        noise: σ.
    """

    matrix: Tensor
    rest: Tensor
    noise: float

    @classmethod
    def of(
        cls,
        transform: Transform,
        measurement: Measurement,
        y: Tensor,
        like: Tensor,
        *,
        straight: bool = True,
    ) -> LinearView:
        """What is seen of y (B, *y_shape), `like` being any z (1, …).

        Unless x has to be `straight`, A are its secants from z = 0 to unit vectors.

        Raises:
            UsageError: x that is no affine function of z, or of too many components, or noise 0.
        """
        require_noise(measurement)
        d = like[0].numel()
        if d > MOST:
            raise UsageError(f"x: expected at most {MOST:,} components for this method, got {d:,}")
        if straight:
            require_straight(transform, like)

        def seen(z: Tensor) -> Tensor:
            x = transform.inverse(z.reshape(-1, *like.shape[1:])).double()
            return measurement(x).flatten(1)[:, measurement.seen.flatten().to(x.device)]

        zero = torch.zeros(1, d, device=like.device)
        origin = seen(zero)
        unit = torch.eye(d, device=like.device)
        matrix = torch.cat([seen(part) for part in unit.split(1024)]) - origin
        rest = y.double().flatten(1)[:, measurement.seen.flatten().to(y.device)] - origin
        return cls(matrix.T.contiguous(), rest, measurement.noise)

    def row(self, i: int) -> LinearView:
        """The same of one y, (1, m)."""
        return self._replace(rest=self.rest[i : i + 1])


def require_noise(measurement: Measurement) -> None:
    """Refuse a measurement without noise.

    Raises:
        UsageError: so it is.
    """
    if not measurement.noise:
        raise UsageError("noise: is 0, and p(y|x) has no density; give a small one, such as 0.01")


def require_straight(transform: Transform, like: Tensor) -> None:
    """Refuse a map that is not affine, seen at points of the shape of `like` (1, …).

    Raises:
        UsageError: so it is.
    """
    generator = torch.Generator(like.device).manual_seed(0)
    one, two = torch.randn(2, 8, *like.shape[1:], generator=generator, device=like.device).unbind()

    def invert(z: Tensor) -> Tensor:
        return transform.inverse(z).double()

    off = invert(one + two) + invert(0 * one) - invert(one) - invert(two)
    width = (invert(one) - invert(two)).abs().mean()
    if off.abs().max() > CURVED * width:
        raise UsageError(
            "restore: x is no affine function of what this model has learnt (a monotone map was "
            "chosen for it), and this method needs one; take dps"
        )

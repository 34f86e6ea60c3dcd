"""Principal components of x given θ, where components of x are nearly functions of one another.

Each is taken in units of what θ leaves of it, turned, and taken in its own units again. A network
that sees float32, or knows independent components only, cannot tell what two nearly equal
components differ by; of their difference it can.
"""

from __future__ import annotations

import torch
from torch import Tensor

from physgen.nn.regression import least_squares, quadratic
from physgen.nn.transforms.monotone import FEWEST, ROWS, Fitted, residual_loss, wins

__all__ = ["Rotation"]

CONDITION = 100.0
"""Ratio of the largest and the least variance of principal components that calls for them."""
MOST = 256


class Rotation(Fitted):
    """z (B, d) → z/s V/t, with V orthogonal; nothing until it is fitted, and where it is no gain.

    Buffers are s (d,), V (d, d) and t (d,), or of no size.
    """

    scale: Tensor
    axes: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, shape in (("scale", (0,)), ("axes", (0, 0)), ("spread", (0,))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    @property
    def idle(self) -> bool:
        """Whether it does nothing."""
        return not len(self.scale)

    def fit(self, z: Tensor, c: Tensor, kept: Tensor) -> None:
        """Take the principal components of rows given θ, if held-out rows say so.

        Args:
            z: (n, d) float64.
            c: (n, D) coordinates of θ.
            kept: (d,) which components count.
        """
        count, half = int(kept.sum()), min(ROWS, len(z) // 2)
        if not 2 <= count <= MOST or half < max(FEWEST, 10 * count):
            return
        z, c = z[: 2 * half], c[: 2 * half].double()
        weights = least_squares(c[:half], z[:half])
        rest = (z - quadratic(c) @ weights)[:, kept]
        width = rest[:half].std(0, correction=0)
        first, last = (rest / width).split(half)
        values, axes = torch.linalg.eigh(first.T @ first / half)
        if not (values[-1] > CONDITION * values[0] and values[0] > 0):
            return
        turned = residual_loss(first @ axes, last @ axes).sum(1)
        if wins(turned, residual_loss(first, last).sum(1)):
            self.take(z[:, kept] / width, width, axes, kept)

    def take(self, scaled: Tensor, width: Tensor, axes: Tensor, kept: Tensor) -> None:
        """Keep widths (k,) and axes (k, k) of the k components that count of d, of rows (n, k)."""
        one, places = torch.eye(len(kept), dtype=torch.float64, device=kept.device), kept.nonzero()
        self.scale, self.spread = one[0] * 0 + 1, one[0] * 0 + 1
        self.scale[kept], self.spread[kept] = width, (scaled @ axes).std(0, correction=0)
        one[places, places.T] = axes
        self.axes = one

    def forward(self, z: Tensor) -> Tensor:
        """z (B, …) → principal components (B, …)."""
        if self.idle:
            return z
        return ((z.flatten(1) / self.scale) @ self.axes / self.spread).view(z.shape)

    def inverse(self, z: Tensor) -> Tensor:
        """Principal components (B, …) → z (B, …)."""
        if self.idle:
            return z
        return ((z.flatten(1) * self.spread) @ self.axes.T * self.scale).view(z.shape)

    def log_det(self) -> Tensor | float:
        """log|det| of it, ()."""
        return 0.0 if self.idle else -(self.scale.log() + self.spread.log()).sum()

    def words(self) -> list[str]:
        """What it does, in words."""
        if self.idle:
            return []
        ratio = float(self.spread.max() / self.spread.min())
        return [f"principal components, whose widths differ by up to {ratio:.3g}"]

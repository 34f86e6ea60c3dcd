"""What a map of x is, and the one that does nothing."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from physgen.law import Law

__all__ = ["Identity", "Transform", "finite_part"]

STRAIGHT = 1e-4
"""Departure from a straight line, in widths, below which a map is one."""


class Transform(nn.Module, abc.ABC):
    """An invertible map z(x) with its volume."""

    @abc.abstractmethod
    def fit(self, x: Tensor) -> None:
        """Take what there is to learn from rows of data (n, *x_shape)."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) → z (B, …), float32."""

    @abc.abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """z (B, …) → x (B, *x_shape)."""

    @abc.abstractmethod
    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x|, (B,), or () where it is the same for all x."""

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return iter(())

    def read_out(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as a detector would tell it: nothing changes by default."""
        return x

    def choose(self, x: Tensor, c: Tensor) -> None:
        """Take what of rows x (n, *x_shape) depends on c (n, D), after `fit`; nothing by default.

        Args:
            x: rows of data.
            c: coordinates of their θ.
        """
        return

    def state_at(self, law: Law) -> dict[str, Tensor]:
        """Its buffers (...) for x of a law, of another shape perhaps; as they are by default.

        Raises:
            UsageError: buffers that say nothing of x of that shape.
        """
        return dict(self.state_dict())

    def words(self, names: Sequence[str] = ()) -> list[str]:
        """What is done to components of x besides shifts and scales, a line each.

        Args:
            names: of the components; their places if there are none.
        """
        return []

    @property
    def whole(self) -> bool:
        """Whether all components of x count: none is constant or told by others."""
        return True

    def width(self, like: Tensor) -> Tensor | None:
        """u of x = a + uz, component by component, float64; None of any other map.

        Args:
            like: an x, (*x_shape,).
        """
        z = torch.randn(8, *like.shape, generator=torch.Generator().manual_seed(0)).to(like.device)
        zero, one = (self.inverse(torch.full_like(z[:1], v)).double() for v in (0.0, 1.0))
        width = one - zero
        off = (self.inverse(z).double() - zero - width * z).abs() / width.abs()
        return width[0] if self.whole and bool((off < STRAIGHT).all()) else None

    def told(self) -> list[str]:
        """Components of x that are constant or that others tell, each with what tells it."""
        return []

    def lost(self, x: Tensor) -> Tensor:
        """In which rows of x (n, *x_shape) a told component is all that is known, (n,) bool.

        What it tells of others, which are missing, a density that leaves it out does not know.
        """
        return torch.zeros(len(x), dtype=torch.bool)

    def breaks(self, x: Tensor) -> Tensor:
        """Which rows of x (n, *x_shape) break what tells a component, (n,) bool."""
        return torch.zeros(len(x), dtype=torch.bool)


def finite_part(z: Tensor) -> tuple[Tensor, Tensor]:
    """z (B, …) with 0 for the components that do not count, and which do, (B, …)."""
    part = z.isfinite()
    return torch.where(part, z, 0.0), part


class Identity(Transform):
    """z = x, for spins and levels: counting measure, no volume term."""

    def fit(self, x: Tensor) -> None:
        """Nothing to learn of rows (n, *x_shape)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as float32."""
        return x.float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) itself."""
        return z

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = 0, ()."""
        return torch.zeros(())

"""Counts, and mixed x, each column by its own support; which map a law of x asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from physgen.dataset.assumptions import named, told_across
from physgen.errors import DataError
from physgen.law import Law
from physgen.nn.ranges import Ranges
from physgen.nn.transforms.base import Identity, Transform
from physgen.nn.transforms.nonnegative import LogHurdle
from physgen.nn.transforms.reals import Standardise
from physgen.nn.transforms.related import Related
from simulators.base import MOST_LEVELS, Support

__all__ = ["ByColumn", "Counts", "for_support"]

MOST_COUNT = 2**24
"""Beyond it float32 loses whole numbers."""
KINDS: tuple[Support, ...] = ("reals", "nonnegative", "counts", "levels")
"""What a column of mixed x may be."""


class Counts(Identity):
    """z = k for counts: counting measure, no volume term."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.ranges = Ranges(law.x_shape)

    def fit(self, x: Tensor) -> None:
        """Take the ranges of rows of data (n, *x_shape).

        Raises:
            DataError: counts of which float32 loses units.
        """
        if (most := int(x.max())) > MOST_COUNT:
            raise DataError(
                f"x: counts up to {most}, and networks see float32, which loses units above "
                f"{MOST_COUNT}; let the simulator divide them, or declare reals"
            )
        self.ranges.fit(x)

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return self.ranges.unlike(x, first)


class ByColumn(Transform):
    """The map of each component of mixed x by its own support; their volumes multiply.

    Args:
        law: what x is.
    """

    order: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law, self.maps = law, nn.ModuleDict()
        self.places = {
            kind: torch.from_numpy(np.flatnonzero(law.components(kind))) for kind in KINDS
        }
        self.places = {kind: at for kind, at in self.places.items() if len(at)}
        for kind, at in self.places.items():
            self.maps[kind] = for_support(part_of(law, kind, len(at)))
        order = torch.cat(list(self.places.values())).argsort()
        self.register_buffer("order", order, persistent=False)
        self.ranges = Ranges(law.x_shape)

    def parts(self, x: Tensor) -> Iterator[tuple[Transform, Tensor]]:
        """Each map, and the columns of x (B, *x_shape) that go through it, (B, n)."""
        flat = x.flatten(1)
        for kind, at in self.places.items():
            map_of: Any = self.maps[kind]
            yield map_of, flat[:, at.to(x.device)]

    def together(self, parts: list[Tensor], x: Tensor) -> Tensor:
        """Columns of the maps (B, n) in the order of x (B, *x_shape), of its shape."""
        return torch.cat(parts, 1)[:, self.order].view(x.shape)

    def fit(self, x: Tensor) -> None:
        """Fit each map to its columns of rows of data (n, *x_shape).

        Raises:
            DataError: a real component that others tell, of another support.
        """
        for map_of, columns in self.parts(x):
            map_of.fit(columns)
        if told := told_across(self.law, x.cpu().numpy()):
            raise DataError(
                f"x has no density where other columns tell one: {', '.join(told[:3])}; leave it "
                "out of x"
            )
        self.ranges.fit(x)

    def choose(self, x: Tensor, c: Tensor) -> None:
        """Choose monotone maps of real columns of rows x (n, *x_shape) given c (n, D).

        Args:
            x: rows of data.
            c: coordinates of their θ.
        """
        for map_of, columns in self.parts(x):
            map_of.choose(columns, c)

    def words(self, names: Sequence[str] = ()) -> list[str]:
        """What is done to real columns besides shifts and scales, a line each.

        Args:
            names: of the columns; their places if there are none.
        """
        names = names or [named(j, self.law.x_shape) for j in range(self.law.size)]
        said = []
        for kind, at in self.places.items():
            map_of: Any = self.maps[kind]
            said += map_of.words([names[j] for j in at.tolist()])
        return said

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return self.ranges.unlike(x, first)

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32."""
        return self.together([map_of(columns) for map_of, columns in self.parts(x)], x)

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x."""
        return self.together([map_of.inverse(columns) for map_of, columns in self.parts(z)], z)

    def log_det(self, x: Tensor) -> Tensor:
        """The sum of the log|det ∂z/∂x| of all maps, (B,)."""
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for map_of, columns in self.parts(x):
            total = total + map_of.log_det(columns)
        return total

    def read_out(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as a detector would tell it."""
        return self.together([map_of.read_out(columns) for map_of, columns in self.parts(x)], x)

    def breaks(self, x: Tensor) -> Tensor:
        """Which rows of x (n, *x_shape) break what tells a component, (n,) bool."""
        found = [map_of.breaks(columns) for map_of, columns in self.parts(x)]
        return torch.stack(found).any(0)

    def told(self) -> list[str]:
        """Components that are constant or that others tell, each with what tells it."""
        said = []
        for kind, at in self.places.items():
            if isinstance(map_of := self.maps[kind], Related):
                said += map_of.relation().at(at.numpy(), self.law.size).names(self.law.x_shape)
        return said


def part_of(law: Law, kind: Support, columns: int) -> Law:
    """The law of the columns of mixed x that are of one support; levels whatever their number."""
    return replace(
        law, x_shape=(columns,), support=kind, column_supports=(), symmetries=(), axes=(),
        levels=MOST_LEVELS if kind == "levels" else 0,
    )  # fmt: skip


def for_support(law: Law) -> Transform:
    """The map that the support of x asks for."""
    maps: dict[str, Callable[[Law], Transform]] = {
        "reals": Standardise, "nonnegative": LogHurdle, "counts": Counts, "mixed": ByColumn,
    }  # fmt: skip
    return maps[law.support](law) if law.support in maps else Identity()

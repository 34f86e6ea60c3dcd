"""Maps of x some of whose components are constant or tell others, or that were read out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from physgen.dataset.assumptions import Relation, named, relation
from physgen.errors import DataError
from physgen.law import Law
from physgen.nn.ranges import Ranges, row_words
from physgen.nn.transforms.base import Transform

__all__ = ["Related", "Threshold"]

NEW = ("kept", "offset", "coefficients", "heavy")
"""Buffers that files of earlier versions do not have."""


class Related(Transform):
    """A map of x some of whose components may be constant, or affine functions of others.

    These have no density of their own: they are left out of it, and told by the others when x is
    drawn. So is what is missing, NaN, of single rows.

    Args:
        law: what x is.
    """

    kept: Tensor
    offset: Tensor
    coefficients: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.x_shape, self.support = law.x_shape, law.support
        self.dtype = getattr(torch, law.dtype)
        self.register_buffer("kept", torch.ones(law.x_shape, dtype=torch.bool))
        self.register_buffer("offset", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(0, law.size, dtype=torch.float64))
        self.ranges = Ranges(law.x_shape)

    def fit(self, x: Tensor) -> None:
        """Take the relations that rows of data (n, *x_shape) obey.

        Raises:
            DataError: x that does not vary at all.
        """
        found, device = relation(x.cpu().numpy(), self.support), self.kept.device
        if never := x.isnan().all(0).flatten().nonzero()[:, 0].tolist():
            raise DataError(
                f"x: {len(never)} of {x[0].numel()} components are missing in all rows, "
                f"{named(never[0], self.x_shape)} the first; leave them out of x"
            )
        if not found.kept.any():
            raise DataError(
                f"x does not vary: {', '.join(found.names(self.x_shape)[:3])}; if that is "
                "rounded away, let the simulator subtract what is the same in all rows"
            )
        self.kept = torch.from_numpy(found.kept).view(self.x_shape).to(device)
        self.offset = torch.from_numpy(found.offset).to(device)
        self.coefficients = torch.from_numpy(found.coefficients).to(device)
        self.ranges.fit(x)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        """Take buffers of the sizes in the file; those that it does not have stay as they are."""
        for name in NEW:
            if (buffer := getattr(self, name, None)) is not None:
                given = state_dict.setdefault(prefix + name, buffer)
                if given.shape[1:] == buffer.shape[1:]:
                    setattr(self, name, buffer.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def whole(self) -> bool:
        """Whether all components of x count."""
        return bool(self.kept.all())

    def told(self) -> list[str]:
        """Components that are constant or that others tell, each with what tells it."""
        return self.relation().names(self.x_shape)

    def relation(self) -> Relation:
        """What tells the components that others tell."""
        buffers = (self.kept.flatten(), self.offset, self.coefficients)
        return Relation(*(b.cpu().numpy() for b in buffers))

    def completed(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) in its law's type, with the components that the others tell."""
        if len(self.offset):
            flat = torch.where(self.kept, x, 0.0).flatten(1)
            told = self.offset + flat @ self.coefficients.T
            flat = flat.index_copy(1, (~self.kept.flatten()).nonzero()[:, 0], told)
            x = flat.view(x.shape)
        return x.to(self.dtype)

    def breaks(self, x: Tensor) -> Tensor:
        """Which rows of x (n, *x_shape) break a relation by more than a thousandth, (n,) bool."""
        x = x.double().to(self.offset.device)
        flat = torch.where(self.kept, x, 0.0).flatten(1).nan_to_num()
        size = self.offset.abs() + flat.abs() @ self.coefficients.abs().T
        off = (self.completed(x).double() - x).abs().flatten(1)[:, ~self.kept.flatten()]
        return (off > 1e-3 * size).any(1)

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        yield from self.ranges.unlike(x, first)
        for rows, what in ((self.breaks(x), "breaks"), (self.lost(x), "has only one side of")):
            if rows.any():
                yield (
                    f"{row_words(rows, first)}: x {what} {', '.join(self.told()[:3])}, which held "
                    "for all x of the training: what others tell is not used"
                )

    def lost(self, x: Tensor) -> Tensor:
        """In which rows of x (n, *x_shape) what is missing could be told by what is left out."""
        gone = x.isnan().flatten(1).to(self.offset.device)
        told = ~gone[:, ~self.kept.flatten()]
        others = gone.double() @ (self.coefficients != 0).double().T > 0
        return (told & others).any(1)


class Threshold(Transform):
    """A map of x ≥ 0 that knows the least x above 0 in its training data: what was read out."""

    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.zeros((), dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Take the least x above 0 of rows of data (n, *x_shape)."""
        self.least.copy_(torch.where(x > 0, x, torch.inf).min())

    def read_out(self, x: Tensor) -> Tensor:
        """What of x (B, *x_shape) is below the least that was ever read out is 0."""
        return torch.where(x < self.least, 0, x)

"""What x of a training were like, and which others are not: far outside, or of another kind.

A surrogate or a network says something of any x. Of one that lies widths beyond all that it was
trained on, or that has halves where all were whole numbers, it has learnt nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from physgen.dataset.assumptions import named

__all__ = ["Ranges", "row_words"]

FAR = 2.0
"""Widths beyond the least and the greatest of the training that are told."""
STEADY = 1e-6
"""Of what is constant: its least width, so that another floating type is not another value."""


class Ranges(nn.Module):
    """Range, width and kind of each component of x in a training, and how many were missing.

    Files of earlier versions have none, and nothing is told of their x.

    Args:
        x_shape: shape of one x.
    """

    low: Tensor
    high: Tensor
    width: Tensor
    whole: Tensor
    missing: Tensor

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.x_shape = x_shape
        for name, value in {"low": -torch.inf, "high": torch.inf, "width": 1.0}.items():
            self.register_buffer(name, torch.full(x_shape, value, dtype=torch.float64))
        self.register_buffer("whole", torch.zeros(x_shape, dtype=torch.bool))
        self.register_buffer("missing", torch.tensor(-1))

    def fit(self, x: Tensor) -> None:
        """Take them of rows of data (n, *x_shape)."""
        gone, rows = x.isnan(), x.double()
        low = torch.where(gone, torch.inf, rows).amin(0)
        high = torch.where(gone, -torch.inf, rows).amax(0)
        unit = torch.maximum(low.abs(), high.abs()).clamp(min=1e-300)
        scaled = torch.where(gone, torch.nan, rows / unit)
        off = (scaled - scaled.nanmean(0)).square().nanmean(0).sqrt()
        self.low.copy_(low)
        self.high.copy_(high)
        self.width.copy_(off * unit)
        self.whole.copy_((gone | (rows == rows.round())).all(0))
        self.missing.copy_(gone.flatten(1).sum(1).max())

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        """Take buffers of a file, or of x of another shape nothing."""
        for name, buffer in self.named_buffers():
            given = state_dict.get(prefix + name, buffer)
            fits = given.shape == buffer.shape
            state_dict[prefix + name] = given if fits else buffer
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        x = x.double().to(self.low.device)
        size = torch.maximum(self.low.abs(), self.high.abs())
        width = self.width.clamp(min=STEADY * size)
        off = torch.maximum(self.low - x, x - self.high) / width
        beyond = off.nan_to_num(0, torch.inf).flatten(1)
        far = (beyond > FAR).any(1)
        if far.any():
            row, at = divmod(int(beyond.argmax()), beyond.shape[1])
            value, low, high = (t.flatten()[at] for t in (x[row], self.low, self.high))
            yield (
                f"{row_words(far, first, row)}: {named(at, self.x_shape)} = {value:.4g} is "
                f"{beyond[row, at]:.2g} widths outside of all x of the training, {low:.4g} to "
                f"{high:.4g}: little is learnt there"
            )
        part = (self.whole & (x != x.round()) & ~x.isnan()).flatten(1)
        if part.any():
            row, at = divmod(int(part.flatten().int().argmax()), part.shape[1])
            value = x[row].flatten()[at]
            yield (
                f"{row_words(part.any(1), first)}: {named(at, self.x_shape)} = {value:.4g}, where "
                "all x of the training are whole numbers"
            )
        yield from self._gone(x.isnan().flatten(1).sum(1), x[0].numel(), first)

    def _gone(self, gone: Tensor, size: int, first: int) -> Iterator[str]:
        """What is to be said of rows by how many of their components are missing, (n,)."""
        bare = gone == size
        more = (gone > self.missing) & (self.missing >= 0) & ~bare
        if bare.any():
            yield (
                f"{row_words(bare, first)}: nothing of x is there, so that its mask at most tells "
                "of theta; the posterior by a log p is the prior"
            )
        if more.any():
            most = int(gone[more].max())
            yield (
                f"{row_words(more, first)}: {most} components are missing, and of no x of the "
                f"training more than {int(self.missing)}"
            )


def row_words(which: Tensor, first: int, shown: int | None = None) -> str:
    """Which rows (n,) those are, the first numbered `first`: one, and how many more.

    Args:
        which: the rows.
        first: number of the first row.
        shown: which of them to name; the first one if None.
    """
    row = int(which.int().argmax()) if shown is None else shown
    more = int(which.sum()) - 1
    return f"row {first + row}" + (f" and {more} more" if more else "")

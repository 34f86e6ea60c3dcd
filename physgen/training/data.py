"""Rows to train on: in memory, streamed from their files, or drawn anew for each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from physgen.dataset import Dataset, Rows, Stream, joined
from physgen.errors import DataError
from simulators.base import Array

__all__ = ["Data", "EpochRows", "Fresh", "InMemory", "Streamed", "split"]

STANDARDISE_BY = 100_000  # rows
GATHERED = 32
"""Batches that are gathered at once."""
KEPT, LEAST, FEWEST = 1 / 64, 2**26, 100
"""What is held of a streamed file: a part of the memory that it may take, but so many bytes and
rows at least; each for the rows that are held out, and for those that tell scales, in float64."""


class EpochRows(Protocol):
    """Rows in batches."""

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row once, in an order of rng's: θ (size, D) and x (size, *x_shape)."""
        ...


class Data(Protocol):
    """Rows to train on, in RAM, streamed or drawn anew."""

    def __len__(self) -> int:
        """Number of rows of an epoch."""
        ...

    def of_epoch(self, number: int) -> EpochRows:
        """The rows of an epoch, from 1: the same in all, or others."""
        ...


class InMemory:
    """Rows that fit in memory, on the training device."""

    def __init__(self, theta: Tensor, x: Tensor) -> None:
        self.theta, self.x = theta, x

    def __len__(self) -> int:
        return len(self.theta)

    def of_epoch(self, number: int) -> InMemory:
        """The same rows in all epochs."""
        return self

    def spread(self, rows: int) -> InMemory:
        """So many of its rows, at equal distances."""
        chosen = torch.linspace(0, len(self) - 1, min(rows, len(self))).round().long()
        chosen = chosen.to(self.x.device)
        return InMemory(self.theta[chosen], self.x[chosen])

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row once, in random order: θ (size, D), x (size, *x_shape)."""
        order = torch.from_numpy(rng.permutation(len(self))).to(self.x.device)
        for rows in order.split(GATHERED * size):
            yield from zip(self.theta[rows].split(size), self.x[rows].split(size), strict=True)


class Streamed:
    """Rows of a file that is larger than memory.

    Args:
        open_stream: batch size → a stream of batches of rows.
        rows: number of rows in an epoch.
        device: where the batches go.
    """

    def __init__(
        self, open_stream: Callable[[int], Stream], rows: int, device: torch.device
    ) -> None:
        self.open_stream, self.rows, self.device = open_stream, rows, device

    def __len__(self) -> int:
        return self.rows

    def of_epoch(self, number: int) -> Streamed:
        """The same rows in all epochs."""
        return self

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row once, shuffled in a moving buffer: θ (size, D), x (size, *x_shape)."""
        for rows in self.open_stream(size).batches(rng):
            yield tensors(rows, self.device)


class Fresh:
    """Rows that are drawn anew for each epoch, or for a few.

    Args:
        rows_of: number of an epoch, from 1 → its rows.
        rows: how many are asked for.
        device: where they go.
    """

    def __init__(self, rows_of: Callable[[int], Rows], rows: int, device: torch.device) -> None:
        self.rows_of, self.rows, self.device = rows_of, rows, device

    def __len__(self) -> int:
        return self.rows

    def of_epoch(self, number: int) -> InMemory:
        """The rows of an epoch, from 1."""
        return InMemory(*tensors(self.rows_of(number), self.device))


def tensors(rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """θ (n, D) and x (n, *x_shape) of some rows, on a device."""
    return torch.from_numpy(rows.labels("rows")).to(device), torch.from_numpy(rows.x).to(device)


def split(
    data: Dataset, validation: float, memory_gib: float, device: torch.device
) -> tuple[Data, InMemory, InMemory]:
    """Training rows, validation rows (the last ones of the data), and some of the first ones.

    Of several datasets each gives its part of all three.

    Args:
        data: rows of (θ, x), in memory, in a file or in several.
        validation: part of the rows to validate on, the last ones of each file, 0 to 1.
        memory_gib: a larger training set is streamed from its file, GiB.
        device: where the rows go.

    Returns:
        Training rows, validation rows, and as many of the first as scales are told by.

    Raises:
        DataError: data without θ, or with too few rows for both.
    """
    parts, sizes = data.parts, [len(part) for part in data.parts]
    held, some = held_out_of(sizes, validation, data.name), STANDARDISE_BY
    one = joined([part.read(slice(0, 1)) for part in parts])[:1]
    values = one.x, one.labels(data.where)
    size = sum(v.nbytes for v in values) * (sum(sizes) - sum(held))
    streamed = size > memory_gib * 2**30 and not any(part.in_memory for part in parts)
    if streamed:
        held, some = kept_of_streamed(values, held, memory_gib)
    cuts = [n - k for n, k in zip(sizes, held, strict=True)]

    def loaded(slices: list[slice]) -> Rows:
        pairs = zip(parts, slices, strict=True)
        return joined([part.read(rows) for part, rows in pairs if rows.start < rows.stop])

    rows = [slice(0, k) for k in cuts]
    first = [slice(0, min(k, -(-some * k // sum(cuts)))) for k in cuts]
    last = [slice(k, n) for k, n in zip(cuts, sizes, strict=True)]
    val = InMemory(*tensors(loaded(last), device))
    if streamed:
        paths = [part.where for part in parts]
        train: Data = Streamed(lambda size: Stream(paths, size, rows=rows), sum(cuts), device)
        return train, val, InMemory(*tensors(loaded(first), device))
    train = InMemory(*tensors(loaded(rows), device))
    if len(parts) > 1:
        return train, val, InMemory(*tensors(loaded(first), device))
    return train, val, InMemory(train.theta[: first[0].stop], train.x[: first[0].stop])


def kept_of_streamed(
    values: Sequence[Array], held: Sequence[int], memory_gib: float
) -> tuple[list[int], int]:
    """Of a streamed training, how many rows of each part are held out, and how many tell scales.

    Args:
        values: x (1, *x_shape) and θ (1, D) of a row.
        held: how many of each part would be held out.
        memory_gib: of which a part may be used for either.
    """
    budget = max(LEAST, KEPT * memory_gib * 2**30)
    some = int(budget / sum(8 * v.size for v in values))
    most = max(FEWEST, int(budget / sum(v.nbytes for v in values)))
    return (
        [-(-k * most // max(most, sum(held))) for k in held],
        max(FEWEST, min(STANDARDISE_BY, some)),
    )


def held_out_of(sizes: Sequence[int], validation: float, name: str) -> list[int]:
    """How many rows are validated on, of datasets of some sizes: a part of each.

    Raises:
        DataError: none is left to train on.
    """
    held = [round(validation * n) for n in sizes]
    held[-1] += not any(held)
    if any(n <= k for n, k in zip(sizes, held, strict=True)):
        raise DataError(f"{name}: {sum(sizes)} rows; expected at least 2 to train and validate on")
    return held

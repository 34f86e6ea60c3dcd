"""What is exported: the rows of a dataset, or the draws of a posterior, block by block.

A dataset has θ (N, D), x (N, …) and ``aux/…``. Of a posterior each draw is a row: the number of
the observation, θ, log_prob, and weights where there are any. A table of columns has θ under the
names of its parameters, and each component of x as ``x_0``, ``x_1``, …
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from physgen.dataset import SCHEMA, Blocks, Dataset, Rows, is_posterior, posterior_arrays
from physgen.errors import DataError, UsageError
from physgen.formats import Progress
from physgen.formats.tables.base import ArrayInfo
from physgen.law import Law
from simulators.base import Array

__all__ = ["Exportable"]

BLOCK_BYTES = 2**24
SAMPLE_BYTES = 2**18
POSTERIOR = "physgen/posterior/1"
DRAWS = ("theta", "log_prob", "log_weights", "weights")  # of each draw, in a posterior


@dataclass(frozen=True)
class Exportable:
    """Rows to be written in another format.

    Attributes:
        rows: number of rows.
        arrays: name → what it is, rows first.
        names: of the parameters, θ's columns.
        units: of the parameters.
        about: what physgen says of them: JSON data, the law among them.
        pieces: the rows (n, …) in their order, in pieces of any size.
    """

    rows: int
    arrays: Mapping[str, ArrayInfo]
    names: tuple[str, ...]
    units: tuple[str, ...]
    about: Mapping[str, Any]
    pieces: Callable[[], Iterator[dict[str, Array]]]

    @classmethod
    def of(cls, data: Any) -> Exportable:
        """That of a dataset or a posterior, in memory or a file.

        Raises:
            DataError: a file that is damaged.
            UsageError: something else.
        """
        if is_posterior(data):
            return of_posterior(*posterior_arrays(data))
        if isinstance(data, str | Path | Dataset | Rows):
            return of_dataset(Dataset(data))
        raise UsageError(f"expected a dataset or a posterior, got {type(data).__name__}")

    @property
    def text(self) -> str:
        """What physgen says of the rows, as JSON text of ASCII alone."""
        return json.dumps(dict(self.about), sort_keys=True, allow_nan=False)

    @cached_property
    def packed(self) -> frozenset[str]:
        """The arrays that compression makes a fifth smaller, as the first rows tell."""
        first = next(self.pieces(), {})
        return frozenset(name for name, values in first.items() if shrinks(values))

    @property
    def block_rows(self) -> int:
        """Rows of a block, the last one excepted: a power of two."""
        row = sum(info.row_bytes for info in self.arrays.values())
        return 2 ** int(math.log2(max(1, BLOCK_BYTES // row)))

    def blocks(self, progress: Progress) -> Iterator[dict[str, Array]]:
        """The arrays (n, …) in their order, in blocks of some megabytes.

        Args:
            progress: called with the part that is done, 0 to 1; may raise to stop.
        """
        rest: list[dict[str, Array]] = []
        done, size = 0, self.block_rows
        for piece in self.pieces():
            rest.append(piece)
            while (n := sum(map(length_of, rest))) >= size:
                whole = merged(rest)
                yield {k: v[:size] for k, v in whole.items()}
                rest, done = (
                    [{k: v[size:] for k, v in whole.items()}] if n > size else [],
                    done + size,
                )
                progress(done / self.rows)
        if rest:
            yield merged(rest)
        progress(1)

    def columns(self, block: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays of a block as columns (n,)."""
        found: dict[str, Array] = {}
        for name, values in block.items():
            for key, column in zip(
                self.column_names(name), values.reshape(len(values), -1).T, strict=True
            ):
                found[key] = column
        return found

    def column_names(self, name: str) -> list[str]:
        """The columns of an array."""
        shape = self.arrays[name].shape[1:]
        if name == "theta":
            return list(self.names)
        return [f"{name}_{k}" for k in range(math.prod(shape))] if shape else [name]

    @property
    def none(self) -> dict[str, Array]:
        """The arrays of no row, (0, …)."""
        return {name: np.empty((0, *i.shape[1:]), i.dtype) for name, i in self.arrays.items()}

    def split(self, block: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays of a block, (n, …), θ as columns (n,) of its own names."""
        theta = dict(zip(self.names, block["theta"].T, strict=True)) if "theta" in block else {}
        return theta | {name: values for name, values in block.items() if name != "theta"}

    def require_own_names(self, names: list[str]) -> None:
        """Refuse columns of one name.

        Raises:
            UsageError: there are such.
        """
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(
                f"two columns would be called {min(twice)!r}; export to npz or netcdf, where "
                "theta is an array of its own"
            )


def shrinks(values: Array) -> bool:
    """Whether compression makes values (n, …) a fifth smaller."""
    data = np.ascontiguousarray(values).tobytes()[:SAMPLE_BYTES]
    return len(zlib.compress(data, 1)) < 0.8 * len(data)


def length_of(block: Mapping[str, Array]) -> int:
    """Number of rows of arrays (n, …)."""
    return len(next(iter(block.values())))


def merged(blocks: list[dict[str, Array]]) -> dict[str, Array]:
    """Arrays (n, …) one after another."""
    if len(blocks) == 1:
        return blocks[0]
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def of_dataset(data: Dataset) -> Exportable:
    """The rows of a dataset."""
    parts = [Blocks(part.path or part.rows) for part in data.parts]
    meta, first = parts[0].meta, data.read(slice(0, 1)).arrays()
    shared = set.intersection(*(set(part.aux) for part in parts))  # of files that are one dataset
    first = {k: v for k, v in first.items() if k.removeprefix("aux/") in shared or "/" not in k}
    rows = sum(part.rows for part in parts)
    size = first["theta"].shape[1] if "theta" in first else 0
    prior = meta.law.prior if meta else None
    return Exportable(
        rows=rows,
        arrays={k: ArrayInfo(v.dtype, (rows, *v.shape[1:])) for k, v in first.items()},
        names=prior.names if prior else tuple(f"theta_{d}" for d in range(size)),
        units=tuple(p.unit for p in prior.parameters) if prior else ("",) * size,
        about={"schema": SCHEMA, **meta.to_json()} if meta else {},
        pieces=lambda: (
            {name: values for name, values in block.arrays().items() if name in first}
            for part in parts
            for block in part
        ),
    )


def of_posterior(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> Exportable:
    """The draws of a posterior, of arrays theta (n, k, D) and others."""
    theta = arrays["theta"]
    if theta.ndim != 3 or theta.shape[2] != len(about["parameters"]):
        raise DataError("expected theta (observations, samples, parameters)")
    n, k = theta.shape[:2]
    each = {name: v for name, v in arrays.items() if name in DRAWS}
    first = int(about.get("first_row", 0))

    def pieces() -> Iterator[dict[str, Array]]:
        for i in range(n):
            number = np.full(k, first + i)
            yield {"observation": number, **{name: v[i] for name, v in each.items()}}

    found = {"observation": ArrayInfo(np.dtype("i8"), (n * k,))}
    found |= {m: ArrayInfo(v.dtype, (n * k, *v.shape[2:])) for m, v in each.items()}
    law = Law.from_json(about["law"])
    units = about.get("units") or [p.unit for p in law.prior.parameters]
    return Exportable(
        rows=n * k, arrays=found, names=tuple(about["parameters"]), units=tuple(units),
        about={"schema": POSTERIOR, **about}, pieces=pieces,
    )  # fmt: skip

"""Parquet, by pyarrow: its columns, read forward, a batch of rows at a time.

A column of lists is an array (N, k, …) where all lists have the same length, which the first row
tells; rows that differ are refused when they are read. Numbers that are missing are NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from physgen.dataset.files import whole_file
from physgen.errors import DataError
from physgen.formats import Progress
from physgen.formats.tables.base import BAND_BYTES, Table, as_float, extra, json_text
from physgen.formats.tables.exportable import Exportable
from simulators.base import Array

__all__ = ["ParquetTable", "write"]

ABOUT = b"physgen"


@dataclass
class Reading:
    """Rows on their way: from where on, and what comes next.

    Attributes:
        names: the columns.
        place: row number of the first of `rest`.
        batches: what follows.
        rest: column → rows (n, …) that have been read and not yet been given.
    """

    names: tuple[str, ...]
    place: int
    batches: Iterator[Any]
    rest: dict[str, Array] = field(default_factory=dict)


class ParquetTable(Table):
    """The columns of a parquet file."""

    def examine(self) -> None:
        """Look at the file."""
        self.pa = extra("pyarrow", self.path)
        parquet = extra("pyarrow.parquet", self.path)
        file = parquet.ParquetFile(
            self.path, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True
        )
        self.file = self.resources.enter_context(file)
        self.rows = self.file.metadata.num_rows
        self.reading: Reading | None = None
        self.about = json_text((self.file.schema_arrow.metadata or {}).get(ABOUT))
        groups = [self.file.metadata.row_group(g) for g in range(self.file.num_row_groups)]
        self.begins = np.cumsum([0, *(group.num_rows for group in groups)])
        if self.begins[-1] != self.rows:
            raise DataError(f"declares {self.rows} rows and holds {self.begins[-1]}")
        whole = self.never_missing(groups)
        for column in self.file.schema_arrow:
            self.look(column, column.name in whole)

    def never_missing(self, groups: Sequence[Any]) -> set[str]:
        """Columns that say that no number in them is missing."""
        found: dict[str, bool] = {}
        for group in groups:
            for k in range(group.num_columns):
                chunk = group.column(k)
                top = chunk.path_in_schema.partition(".list.")[0]
                count = chunk.statistics and chunk.statistics.null_count
                found[top] = found.get(top, True) and count == 0
        return {name for name, good in found.items() if good}

    def look(self, column: Any, whole: bool) -> None:
        """Note a column: its type, and the length of its lists from the first row."""
        types, kind, shape = self.pa.types, column.type, [self.rows]
        while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            shape.append(kind.list_size if types.is_fixed_size_list(kind) else -1)
            kind = kind.value_type
        numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        if not numeric:
            self.add(column.name, np.dtype(object), (), f"expected numbers, got {kind}")
            return
        dtype = np.dtype("?" if types.is_boolean(kind) else kind.to_pandas_dtype())
        if dtype.kind in "biu" and not whole and self.rows:
            dtype = np.dtype("f8")
        if -1 in shape:
            shape[1:] = self.first(column.name, len(shape) - 1)
        self.add(column.name, dtype, shape)

    def first(self, name: str, depth: int) -> list[int]:
        """The lengths of the lists of a column in its first row."""
        batch = next(self.file.iter_batches(batch_size=1, columns=[name]), None)
        found: list[int] = []
        values = batch.column(name) if batch else self.pa.array([])
        for _ in range(depth):
            found.append(len(values.flatten()) // max(1, len(values)) if batch else 0)
            values = values.flatten() if batch else values
        return found

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of some columns, (n, …)."""
        wanted, stop = tuple(dict.fromkeys(names)), min(stop, self.rows)
        if not self.reading or self.reading.names != wanted or start < self.reading.place:
            self.begin(wanted, start)
        parts = list(self.parts(start, max(start, stop)))
        empty = {k: np.empty((0, *self.arrays[k].shape[1:])) for k in wanted}
        return {k: np.concatenate([p[k] for p in parts] or [empty[k]]) for k in wanted}

    def begin(self, names: tuple[str, ...], start: int) -> None:
        """Begin with the group of rows that a row is in."""
        group = max(0, int(np.searchsorted(self.begins, start, "right")) - 1)
        row = sum(self.arrays[name].row_bytes for name in names)
        batches = self.file.iter_batches(
            batch_size=max(1, min(2**16, BAND_BYTES // row)), columns=list(names),
            row_groups=range(group, self.file.num_row_groups), use_threads=False,
        )  # fmt: skip
        self.reading = Reading(names, int(self.begins[min(group, len(self.begins) - 1)]), batches)

    def parts(self, start: int, stop: int) -> Iterator[dict[str, Array]]:
        """Rows of some columns (n, …), batch by batch; what is left is kept."""
        reading = self.reading
        while reading and start < stop:
            rows = len(next(iter(reading.rest.values()), ()))
            if reading.place + rows <= start:
                reading.place += rows
                batch = next(reading.batches, None)
                if batch is None:
                    raise DataError(f"ends after {reading.place} rows: damaged")
                reading.rest = {k: self.values(k, batch.column(k)) for k in reading.names}
                continue
            part = slice(start - reading.place, stop - reading.place)
            yield {k: v[part] for k, v in reading.rest.items()}
            start = min(stop, reading.place + rows)

    def values(self, name: str, column: Any) -> Array:
        """The values of a batch, (n, …)."""
        info = self.arrays[name]
        shape = (len(column), *info.shape[1:])
        for k in info.shape[1:]:
            lengths = len(column.flatten()) == k * len(column) and not column.null_count
            fixed = self.pa.types.is_fixed_size_list(column.type)
            if not lengths or not (fixed or (np.diff(column.offsets) == k).all()):
                raise DataError(f"{name}: expected lists of {k} in each row, got others")
            column = column.flatten()
        if self.pa.types.is_boolean(column.type):
            column = column.cast("int8")
        values = column.to_numpy(zero_copy_only=False)
        return as_float(values).reshape(shape) if info.dtype == "f8" else values.reshape(shape)


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int:
    """Write a dataset or the draws of a posterior as parquet, x as lists of fixed length.

    The law is in the file's metadata, under ``physgen``.

    All else is as :mod:`physgen.formats.tables` says.
    """
    pyarrow, parquet = extra("pyarrow", out), extra("pyarrow.parquet", out)
    writer_of = partial(parquet.ParquetWriter, write_page_checksum=True)
    source = Exportable.of(data)
    source.require_own_names([*source.names, *(set(source.arrays) - {"theta"})])

    def lists(values: Array) -> Any:
        found = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
        for size in values.shape[:0:-1]:
            found = pyarrow.FixedSizeListArray.from_arrays(found, size)
        return found

    first = pyarrow.table({k: lists(v) for k, v in source.split(source.none).items()})
    schema = first.schema.with_metadata({ABOUT: source.text})
    with whole_file(out, force) as file, writer_of(file, schema) as writer:
        for block in source.blocks(progress):
            columns = [lists(values) for values in source.split(block).values()]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    return source.rows

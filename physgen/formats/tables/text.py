"""Text of numbers in columns: CSV and its kin, with commas, semicolons, tabs or blanks between.

The first line may name the columns, or the last comment before the numbers, as ``numpy.savetxt``
writes it; without names the numbers are one array, called by the file's stem. Empty cells, NA and
NaN are NaN. Lines that begin with ``#`` and empty ones are passed over; semicolons or tabs may go
with decimal commas, and Fortran's exponents (``1.0D+05``) are read. A file may be compressed by
gzip.

A line that has fewer or more cells than the others is refused, and so is a column of something
else than numbers when it is read.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physgen.dataset.files import whole_file
from physgen.errors import DataError
from physgen.formats import Progress
from physgen.formats.bands import Bands
from physgen.formats.tables.base import BAND_BYTES, Table, extra
from physgen.formats.tables.exportable import Exportable
from physgen.formats.tables.lines import FORTRAN, Head, Layout, blocks_of, skipped
from simulators.base import Array

__all__ = ["TextTable", "write"]


class TextTable(Table):
    """The columns of a text file, or its numbers as one array."""

    def examine(self) -> None:
        """Look at the file."""
        with self.path.open("rb") as begin:
            packed = begin.read(2) == b"\x1f\x8b"
        file: Any = gzip.open(self.path) if packed else self.path.open("rb")  # noqa: SIM115
        self.file = self.resources.enter_context(file)
        head = Head.of(self.file)
        if not head.lines:
            raise DataError("no line of numbers")
        self.layout = Layout.of(head.lines[-1])
        self.width = self.layout.count(head.lines[-1])
        if self.layout.count(head.lines[0]) != self.width and not all(
            self.layout.numbers(head.lines[-1])
        ):
            raise DataError("is text, but no table of numbers; expected CSV or the like")
        extra("pandas", self.path)
        names, self.headed = head.names(self.layout)
        self.depth, self.rows = max(1, BAND_BYTES // len(head.lines[-1])), 0
        self.begins: list[int] = []
        self.mixed: set[int] = set()  # bands that have lines that are no rows
        self.scan()
        self.columns = {name: [k] for k, name in enumerate(names)}
        if len(self.columns) < len(names):
            raise DataError("two columns have the same name; rename one")
        if not names:
            stem = Path(self.path.name.removesuffix(".gz")).stem
            self.columns[stem] = list(range(self.width))
        for name, some in self.columns.items():
            self.add(name, np.dtype("f8"), (self.rows, len(some))[: 1 + (len(some) > 1)])
        self.bands: dict[tuple[int, ...], Bands] = {}

    def scan(self) -> None:
        """Count rows and their cells, and note where bands of them begin."""
        self.file.seek(0)
        place, lines, header = 0, 0, self.headed
        for data in blocks_of(self.file):
            begins = None if header else self.layout.regular(data, self.width)
            if begins is None:
                begins = self.irregular(data, lines)
                begins, header = begins[header:], header and not len(begins)
            self.begins += (place + begins[-self.rows % self.depth :: self.depth]).tolist()
            self.rows += len(begins)
            place, lines = place + len(data), lines + data.count(b"\n")
        self.begins.append(place)

    def irregular(self, data: bytes, before: int) -> NDArray[np.intp]:
        """Where rows begin in some text, (n,), of which some lines are none.

        Args:
            data: whole lines.
            before: number of lines before it.
        """
        found: list[int] = []
        place = 0
        for number, line in enumerate(io.BytesIO(data), before + 1):
            if skipped(line):
                last = self.rows + len(found) - 1  # or one less, after a line of names
                self.mixed |= {last // self.depth, (last - 1) // self.depth}
            elif (cells := self.layout.count(line)) != self.width:
                raise DataError(f"line {number}: expected {self.width} cells, got {cells}")
            else:
                found.append(place)
            place += len(line)
        return np.array(found, np.intp)

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of some columns (n,), or of the array (n, k)."""
        wanted = tuple(sorted({k for name in names for k in self.columns[name]}))
        if wanted not in self.bands:
            if len(self.bands) > 3:
                self.bands.pop(next(iter(self.bands)))
            self.bands[wanted] = Bands(partial(self.parsed, wanted), self.rows, self.depth)
        (values,) = self.bands[wanted][start:stop]
        order = {k: place for place, k in enumerate(wanted)}
        places = {name: [order[k] for k in self.columns[name]] for name in names}
        return {
            name: values[:, some] if len(some) > 1 else values[:, some[0]]
            for name, some in places.items()
        }

    def parsed(self, wanted: Sequence[int], start: int, stop: int) -> tuple[Array]:
        """Some columns of a band of rows, (n, k)."""
        if start == stop:
            return (np.empty((0, len(wanted))),)
        pandas, data = extra("pandas", self.path), self.text(start // self.depth)
        old = tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1)
        options: dict[str, Any] = {
            "sep": self.layout.separator or r"\s+", "decimal": self.layout.decimal,
            "header": None, "names": range(self.width), "index_col": False, "usecols": wanted,
            "skipinitialspace": True, "encoding": "latin-1", "low_memory": False,
            **({"float_precision": "round_trip"} if old else {}),
        }  # fmt: skip
        try:
            found = pandas.read_csv(io.BytesIO(data), dtype=np.float64, **options)
        except ValueError as error:
            texts = pandas.read_csv(io.BytesIO(data), dtype=str, **options)
            raise DataError(self.fault(texts, start)) from error
        if len(found) != stop - start:
            raise DataError(f"rows {start} to {stop}: {len(found)} found: a cell with a line end")
        return (found[list(wanted)].to_numpy(),)

    def text(self, band: int) -> bytes:
        """The lines of a band of rows."""
        self.file.seek(self.begins[band])
        data: bytes = self.file.read(self.begins[band + 1] - self.begins[band])
        if band in self.mixed:
            data = b"".join(line for line in io.BytesIO(data) if not skipped(line))
        return FORTRAN.sub(b"E", data) if self.layout.fortran else data

    def fault(self, texts: Any, start: int) -> str:
        """What is no number in some columns, for the message."""
        names = {places[0]: name for name, places in self.columns.items() if len(places) == 1}
        for k in texts.columns:
            for row, cell in enumerate(texts[k]):
                if isinstance(cell, str) and not self.layout.number(cell):
                    what = names.get(k, f"column {k}")
                    return f"{what}: expected numbers, got {cell[:40]!r} in row {start + row}"
        return "a column is not of numbers"


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int:
    """Write a dataset or the draws of a posterior as CSV, with a line of names.

    A name that ends in ``.gz`` is compressed. The law of the rows is not in the file.

    All else is as :mod:`physgen.formats.tables` says.
    """
    csv_of, pyarrow = extra("pyarrow.csv", out), extra("pyarrow", out)
    source = Exportable.of(data)
    names = [column for name in source.arrays for column in source.column_names(name)]
    source.require_own_names(names)
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(names)
    options = csv_of.WriteOptions(include_header=False)
    with whole_file(out, force) as file, ExitStack() as stack:
        packed = out.suffix == ".gz"
        sink: Any = gzip.GzipFile("", "wb", 6, file, mtime=0) if packed else file
        stack.enter_context(sink) if packed else None
        sink.write(line.getvalue().encode())
        for block in source.blocks(progress):
            rows = pyarrow.table(dict(zip(names, source.columns(block).values(), strict=True)))
            csv_of.write_csv(rows, sink, options)
    return source.rows

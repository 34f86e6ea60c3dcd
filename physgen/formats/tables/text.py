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
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from physgen.dataset.files import whole_file
from physgen.errors import DataError
from physgen.formats import Progress
from physgen.formats.bands import Bands
from physgen.formats.tables.base import BAND_BYTES, Table, extra
from physgen.formats.tables.exportable import Exportable
from simulators.base import Array

__all__ = ["TextTable", "write"]

MAX_LINE = 2**24
BLOCK_BYTES = 2**20
MISSING = {"", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a"}
NEWLINE, BLANK = 10, 32
FORTRAN = re.compile(rb"(?<=[\d.])[dD](?=[+-]?\d)")


@dataclass
class Layout:
    """How the cells of a line are told apart.

    Attributes:
        separator: between cells; None for any blanks.
        decimal: the decimal point.
        fortran: whether exponents may be Fortran's.
    """

    separator: str | None
    decimal: str = "."
    fortran: bool = False

    @classmethod
    def of(cls, line: bytes) -> Layout:
        """That of a line, of numbers if there is one."""
        for separator in (b";", b"\t", b","):
            if separator in line:
                commas = separator != b"," and b"," in line
                return cls(separator.decode(), "," if commas else ".", bool(FORTRAN.search(line)))
        return cls(None, ".", bool(FORTRAN.search(line)))

    def cells(self, line: bytes) -> list[str]:
        """The cells of a line."""
        text = line.decode("utf-8", "replace").strip("\ufeff\r\n ")
        if self.separator is None:
            return text.split()
        found = next(csv.reader([text], delimiter=self.separator))
        return [cell.strip() for cell in found]

    def count(self, line: bytes) -> int:
        """Number of cells of a line."""
        if b'"' in line:
            return len(self.cells(line))
        if self.separator is None:
            return len(line.split())
        return line.count(self.separator.encode()) + 1

    def regular(self, data: bytes, width: int) -> NDArray[np.intp] | None:
        """Where lines begin in some text, (n,), if each has so many cells; else None.

        Args:
            data: whole lines.
            width: number of cells.
        """
        if b"#" in data or b'"' in data:
            return None
        text = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", np.uint8)
        ends = np.flatnonzero(text == NEWLINE)
        if self.separator is None:
            marks = np.diff((text > BLANK).view(np.int8), prepend=0) == 1
        else:
            marks, width = text == ord(self.separator), width - 1
        counts = np.diff(np.searchsorted(np.flatnonzero(marks), ends), prepend=0)
        return np.append(0, ends[:-1] + 1) if (counts == width).all() else None

    def numbers(self, line: bytes) -> list[bool]:
        """Whether each cell of a line is a number, those that are missing left out."""
        return [self.number(cell) for cell in self.cells(line) if cell.lower() not in MISSING]

    def number(self, cell: str) -> bool:
        """Whether a cell is a number."""
        try:
            float(FORTRAN.sub(b"E", cell.replace(self.decimal, ".").encode()))
        except ValueError:
            return False
        return True


@dataclass
class Head:
    """How a file begins.

    Attributes:
        lines: the first two lines of names or numbers, or fewer.
        comment: the last line before them; empty if there is none.
    """

    lines: list[bytes]
    comment: bytes = b""

    @classmethod
    def of(cls, file: IO[bytes]) -> Head:
        """That of a file at its begin."""
        found = cls([])
        for line in (line for data in blocks_of(file) for line in io.BytesIO(data)):
            if not skipped(line):
                found.lines.append(line)
            elif not found.lines:
                found.comment = line.strip(b"# \r\n")
            if len(found.lines) == 2:
                break
        return found

    def names(self, layout: Layout) -> tuple[list[str], bool]:
        """Names of the columns, none if there are none, and whether the first line has them.

        Raises:
            DataError: it could be names or numbers.
        """
        cells, numbers = layout.cells(self.lines[0]), layout.numbers(self.lines[0])
        second = layout.numbers(self.lines[1]) if len(self.lines) > 1 else []
        if (numbers and not any(numbers)) or (not all(numbers) and second and all(second)):
            return [cell or f"column{k}" for k, cell in enumerate(cells)], True
        if not all(numbers):
            raise DataError("its first line is neither names nor numbers; name the columns")
        if cells == [str(k) for k in range(len(cells))] and len(cells) > 1 and second:
            values = layout.cells(self.lines[1])
            if not all(re.fullmatch(r"[+-]?\d+", v) for v in values):
                return cells, True
            if len(cells) > 3:
                raise DataError(
                    f"its first line, 0 to {cells[-1]}, may be names; name the columns"
                )
        words = layout.cells(self.comment)
        named = len(words) == len(cells) > 1 and not any(map(layout.number, words))
        return (words if named else []), False


class TextTable(Table):
    """The columns of a text file, or its numbers as one array."""

    def examine(self) -> None:
        """Look at the file."""
        extra("pandas", self.path)
        with self.path.open("rb") as begin:
            packed = begin.read(2) == b"\x1f\x8b"
        file: Any = gzip.open(self.path) if packed else self.path.open("rb")  # noqa: SIM115
        self.file = self.resources.enter_context(file)
        head = Head.of(self.file)
        if not head.lines:
            raise DataError("no line of numbers")
        self.layout = Layout.of(head.lines[-1])
        self.width = self.layout.count(head.lines[-1])
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


def blocks_of(file: IO[bytes]) -> Iterator[bytes]:
    """Whole lines of a file, some megabytes of them.

    Raises:
        DataError: a line that is too long to be one of numbers, or bytes that no text has.
    """
    while data := file.read(BLOCK_BYTES):
        rest = b"" if data.endswith(b"\n") else file.readline(MAX_LINE)
        if len(rest) == MAX_LINE or b"\0" in data + rest:
            raise DataError("lines that no text of numbers has; expected CSV or the like")
        yield data + rest


def skipped(line: bytes) -> bool:
    """Whether a line is empty or a comment."""
    text = line.lstrip(b" ")
    return text.startswith((b"#", b"\n", b"\r")) or not text


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

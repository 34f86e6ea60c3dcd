"""Lines of text that hold numbers: how cells are told apart, and how a file of them begins."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from physgen.errors import DataError

__all__ = ["FORTRAN", "Head", "Layout", "blocks_of", "skipped"]

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

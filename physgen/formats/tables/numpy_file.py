"""Arrays as NumPy saves them, ``.npy``: a short header, then the numbers.

The header is read by NumPy, which evaluates literals and nothing else; a pickle is never read.
What it declares must be what the file holds, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from physgen.errors import DataError
from physgen.formats.tables.base import Table, column, columns_of
from simulators.base import Array

__all__ = ["Header", "NpyTable"]


class Header:
    """What the head of an array says.

    Args:
        file: at the array's first byte; afterwards at the first byte of its numbers.

    Attributes:
        dtype: type of its numbers.
        shape: its shape.
        fortran: whether the first axis runs fastest.
        size: bytes of the head.

    Raises:
        ValueError: no such array.
    """

    def __init__(self, file: IO[bytes]) -> None:
        begun = file.tell()
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version} of .npy is not known")
        head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self.shape, fortran, self.dtype = head(file)
        if min(self.shape, default=0) < 0:
            raise ValueError(f"its shape is {self.shape}")
        self.fortran = fortran and len(self.shape) > 1
        self.size = file.tell() - begun

    @property
    def total(self) -> int:
        """Bytes of head and numbers."""
        return self.size + math.prod(self.shape) * self.dtype.itemsize

    def add_to(self, table: Table, name: str, stored: int) -> None:
        """Note the array in a table: itself, or each field of its records.

        Args:
            table: the table.
            name: the array; empty where fields go by their names alone.
            stored: bytes that the file holds.

        Raises:
            DataError: it holds others than the head declares.
        """
        if self.dtype.hasobject:
            table.add(name or table.path.stem, np.dtype(object), self.shape)
            return
        if stored != self.total:
            raise DataError(
                f"{table.path}: {name or 'the array'}: declares {self.total} bytes and holds "
                f"{stored}: damaged; make it again"
            )
        for field, kind in columns_of(self.dtype).items() or [("", self.dtype)]:
            whole = "/".join(part for part in (name, field) if part) or table.path.stem
            table.add(whole, kind.base, (*self.shape, *kind.shape))

    def rows(self, file: IO[bytes], begin: int, start: int, stop: int) -> Array:
        """Some rows, (n, …), of an array whose numbers begin at a place of a file."""
        if not self.shape:
            file.seek(begin)
            return filled(file, np.empty((), self.dtype))
        n = max(0, min(stop, self.shape[0]) - start)
        inner, size = self.shape[1:], self.dtype.itemsize
        if not self.fortran:
            file.seek(begin + start * math.prod(inner) * size)
            return filled(file, np.empty((n, *inner), self.dtype))
        columns = np.empty((math.prod(inner), n), self.dtype)
        for k, values in enumerate(columns):
            file.seek(begin + (k * self.shape[0] + start) * size)
            filled(file, values)
        return columns.reshape(*inner[::-1], n).transpose()


def filled(file: IO[bytes], values: Array) -> Array:
    """An array (…) with the next bytes of a file."""
    rest = values.reshape(-1).view(np.uint8)
    while len(rest):
        if not (got := file.readinto(rest)):  # type: ignore[attr-defined]
            raise DataError("ends before its numbers do: damaged; make it again")
        rest = rest[got:]
    return values


class NpyTable(Table):
    """One array, or the fields of its records."""

    def examine(self) -> None:
        """Look at the file."""
        with self.path.open("rb") as file:
            self.header = Header(file)
        self.header.add_to(self, "", self.path.stat().st_size)

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of the array (n, …), or of its fields."""
        with self.path.open("rb", buffering=0) as file:
            values = self.header.rows(file, self.header.size, start, stop)
        records: Any = self.header.dtype.names
        return {name: column(values, name if records else "") for name in names}

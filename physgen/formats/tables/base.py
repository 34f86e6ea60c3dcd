"""A file of named arrays that somebody else may have made: looked at, and not yet read."""

from __future__ import annotations

import abc
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from physgen.dataset.guard import MAX_CHUNK, MAX_JSON, refuse_constant
from physgen.errors import DataError, UsageError, as_written
from physgen.formats.bands import Stamp, stamp
from physgen.runtime.kinds import shortened
from simulators.base import Array

__all__ = ["ArrayInfo", "Table"]

MAX_ARRAYS = 2**14
BAND_BYTES = 2**23


@dataclass(frozen=True)
class ArrayInfo:
    """What an array is, before a value is read.

    Attributes:
        dtype: type of its numbers, as they are read.
        shape: its whole shape, rows first.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class Table(abc.ABC):
    """A file of named arrays, looked at, guarded, not read; a context manager.

    Nothing is held in memory but the last rows that were read. A table can be pickled: it opens
    its file again.

    Args:
        path: the file.

    Attributes:
        path: the file.
        arrays: name → what it is, in the file's order. Nested groups are ``group/name``; the one
            array of a file that has no names is called by the file's stem.
        refused: name → why it cannot be read, of what else the file holds.
        about: what the file says of itself in physgen's JSON; empty where it says nothing.
    """

    def __init__(self, path: str | Path) -> None:
        self.resources = ExitStack()
        self.path = Path(path)
        self.stamp = stamp(self.path)
        self.arrays: dict[str, ArrayInfo] = {}
        self.refused: dict[str, str] = {}
        self.about: Mapping[str, Any] = {}
        try:
            self.examine()
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def examine(self) -> None:
        """Open the file, into `resources` what must be closed, and `add` all that it holds."""

    @abc.abstractmethod
    def load(self, names: Sequence[str], start: int, stop: int) -> Mapping[str, Array]:
        """Rows of some arrays (n, …) that are there; bounds may lie beyond an array's end."""

    def read(
        self, names: Sequence[str], start: int = 0, stop: int | None = None
    ) -> dict[str, Array]:
        """Consecutive rows of some arrays, fast when they come in order.

        Args:
            names: which.
            start: first row.
            stop: row after the last; all rows if None.

        Returns:
            Name → values (n, …) in native byte order; missing cells are NaN. An array without an
            axis comes whole.

        Raises:
            DataError: an array that is not of real numbers, or that is damaged.
            UsageError: no such array.
        """
        for name in names:
            self.require(name)
        if stamp(self.path) != self.stamp:
            raise DataError(f"{self.path}: was changed while it was read; begin again")
        rows = max((self.arrays[n].shape[0] for n in names if self.arrays[n].shape), default=0)
        start, stop, _ = slice(start, stop).indices(rows)
        with as_written(self.path, "cannot be read"):
            found = self.load(names, start, max(start, stop))
            return {name: self.plain(name, found[name], start, stop) for name in names}

    def require(self, name: str) -> None:
        """Refuse a name that cannot be read."""
        if name in self.arrays:
            return
        if name in self.refused:
            raise DataError(f"{self.path}: {name}: {self.refused[name]}")
        raise UsageError(f"{self.path}: no array {name!r}; it has {self.contents}")

    def plain(self, name: str, values: Array, start: int, stop: int) -> Array:
        """Values (n, …) in native byte order, held to what was said of them."""
        info = self.arrays[name]
        shape = info.shape
        if shape:
            n = max(0, min(stop, shape[0]) - min(start, shape[0]))
            shape = (n, *shape[1:])
        if values.shape != shape:
            raise DataError(f"{self.path}: {name}: expected {shape}, got {values.shape}: damaged")
        return values.astype(info.dtype.newbyteorder("="), copy=False)

    def add(self, name: str, dtype: np.dtype[Any], shape: Sequence[int], reason: str = "") -> None:
        """Note an array, or why it cannot be read."""
        if len(self.arrays) + len(self.refused) >= MAX_ARRAYS:
            raise DataError(f"{self.path}: more than {MAX_ARRAYS} arrays; give a file of fewer")
        if name in self.arrays or name in self.refused:
            raise DataError(f"{self.path}: two arrays are called {name!r}; rename one")
        info = ArrayInfo(dtype.newbyteorder("="), tuple(map(int, shape)))
        if not reason and info.row_bytes > MAX_CHUNK:
            reason = f"a row of {info.row_bytes} bytes; at most {MAX_CHUNK} are read"
        if reason := reason or not_real(dtype):
            self.refused[name] = reason
        else:
            self.arrays[name] = info

    @property
    def contents(self) -> str:
        """Its arrays and their shapes, in words."""
        found = [f"{name} {info.shape}" for name, info in self.arrays.items()]
        return shortened(found) or "no array of numbers"

    def close(self) -> None:
        """Let go of the file."""
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (type(self), self.path, self.stamp)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in self.arrays.items())
        return f"<{type(self).__name__}: {arrays or 'no arrays'}, in {self.path}>"


def reopened(kind: type[Table], path: Path, known: Stamp) -> Table:
    """A table in another process.

    Raises:
        DataError: its file is another one by now.
    """
    table = kind(path)
    if table.stamp != known:
        raise DataError(f"{path}: was changed while it was read; begin again")
    return table


def not_real(dtype: np.dtype[Any]) -> str:
    """Why numbers of a type are not read; empty if they are."""
    if dtype.kind in "biuf" and dtype.itemsize <= 8:
        return ""
    reasons = {
        "c": "complex numbers; save the real and the imaginary part as arrays of their own",
        "O": "objects, which may run code when they are read; save numbers",
        "S": "text; expected numbers",
        "U": "text; expected numbers",
        "M": "times; save them as numbers",
        "m": "times; save them as numbers",
        "V": "records of a kind that is not read here; save each field as an array",
        "f": f"{dtype}; numbers of at most 64 bits are read",
    }
    return reasons.get(dtype.kind, f"expected numbers, got {dtype}")


def columns_of(dtype: np.dtype[Any]) -> dict[str, np.dtype[Any]]:
    """Field → type of a structured type, those of fields within fields as ``outer/inner``."""
    found: dict[str, np.dtype[Any]] = {}
    for name in dtype.names or ():
        kind = dtype[name]
        if kind.names:
            found |= {f"{name}/{inner}": k for inner, k in columns_of(kind).items()}
        else:
            found[name] = kind
    return found


def column(values: Array, name: str) -> Array:
    """The field of a structured array (n,) that `columns_of` calls so, (n, …)."""
    for part in name.split("/") if name else ():
        values = values[part]
    return values


def as_float(values: Array) -> Array:
    """Numbers (…) as float64, or float32 if they are; refused where that would change them."""
    if values.dtype.kind == "f":
        return values if values.dtype.itemsize > 2 else values.astype(np.float32)
    if values.dtype.itemsize == 8 and values.size and (abs(values.astype(float)) > 2**53).any():
        raise DataError("integers beyond 2**53 beside missing ones; save them as text or numbers")
    return values.astype(np.float64)


def json_text(text: bytes | str | None) -> dict[str, Any]:
    """What a file says of itself in JSON; empty where it is none, or too long."""
    if not text or len(text) > MAX_JSON:
        return {}
    try:
        found = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def extra(module: str, path: Path) -> Any:
    """A module of another package that a format needs.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UsageError(f"{path}: needs {package}; pip install 'physgen[formats]'") from error
